"""Adding the logits processor to an engine, and which engines cannot have it."""

from typing import Any

from vllm.platforms import current_platform

V1 = "server.engines.entropy.processor:EntropyStopProcessor"
V2 = "server.engines.entropy.processor_v2:EntropyStopProcessorV2"


def load(config: Any) -> None:
    """Add the processor for this engine configuration's model runner, behind the processors that it has already."""
    if unsupported_reason(config) is None:
        model = config.model_config
        model.logits_processors = [*(model.logits_processors or ()), V2 if config.use_v2_model_runner else V1]


def refusal(config: Any) -> str | None:
    """Return why an engine that runs with this configuration does not stop at an entropy, or None if it does."""
    reason = unsupported_reason(config)
    if reason is None and not {V1, V2} & {*map(str, config.model_config.logits_processors or ())}:
        return "`vllm serve` was started without the flags that `decant vllm-args` prints"
    return reason


def unsupported_reason(config: Any) -> str | None:
    """Return why an engine of this configuration cannot stop at an entropy, or None if it can."""
    if config.speculative_config is not None:
        return "it decodes speculatively, and then vLLM runs no logits processor"
    if current_platform.is_tpu():
        return "vLLM runs no logits processor on TPUs"
    return None
