"""How an engine gets the processor, and which engines cannot have it."""

from typing import Any

from vllm.platforms import current_platform

V1 = "server.engines.entropy.processor:EntropyCut"
V2 = "server.engines.entropy.processor_v2:EntropyCutV2"


def load(config: Any) -> None:
    """Put the processor of the runner that this engine configuration gets behind those it names already."""
    if refusal(config) is None:
        model = config.model_config
        model.logits_processors = [*(model.logits_processors or ()), V2 if config.use_v2_model_runner else V1]


def refusal(config: Any) -> str | None:
    """Why an engine of this configuration cannot cut at an entropy; None where it can."""
    if config.speculative_config is not None:
        return "it decodes speculatively, and then vLLM runs no logits processor"
    if current_platform.is_tpu():
        return "vLLM runs no logits processor on TPUs"
    return None
