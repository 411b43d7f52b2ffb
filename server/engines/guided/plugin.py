"""vLLM's general plugin: makes the guided model known in each of its processes."""

ARCHITECTURE = "DecantGuidedPolicy"


def register() -> None:
    from vllm import ModelRegistry

    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, "server.engines.guided.model:GuidedPolicy")
