"""vLLM's general plugin: registers the guided model in each of vLLM's processes."""

ARCHITECTURE = "DecantGuidedPolicy"


def register() -> None:
    from vllm import ModelRegistry

    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, "server.engines.guided.model:GuidedPolicy")
