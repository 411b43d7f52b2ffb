"""Engine arguments as flags of `vllm serve`."""

import json
from collections.abc import Mapping
from typing import Any

from server.engines import vllm_seam as seam
from server.settings import EngineArgs, SettingsError


def serve_flags(model: str, name: str, arguments: EngineArgs, more: Mapping[str, Any]) -> list[str]:
    """Return the words behind `vllm serve` that start the engine which `decant serve` would start.

    No word has a space, so that a shell splits the output of a command into these words again.

    Args:
        model: The policy's model.
        name: What clients call it.
        arguments: Its engine arguments, guides included.
        more: Arguments of the server, not of the engine.

    Raises `SettingsError` if vLLM refuses the arguments, or for a value that has a space.
    """
    values, config = seam.configure(model, arguments)
    values["logits_processors"] = [str(one) for one in config.model_config.logits_processors or ()]
    words = [model, "--served-model-name", name]
    for field, value in {**values, **more}.items():
        words += _flag(field, value)
    spaced = [word for word in words if any(c.isspace() for c in word)]
    if spaced:
        raise SettingsError(f"{spaced[0]!r} has a space, which a shell would split: rename it")
    return words


def _flag(field: str, value: Any) -> list[str]:
    flag = "--" + field.replace("_", "-")
    match value:
        case None | []:
            return []
        case bool():
            return [flag if value else flag.replace("--", "--no-", 1)]
        case list() if all(isinstance(one, str) for one in value):
            return [flag, *value]
        case dict() | list():
            return [flag, json.dumps(value, separators=(",", ":"), default=_as_json)]
    return [flag, str(value)]


def _as_json(value: Any) -> Any:
    raise SettingsError(f"policy.engine: {value!r} cannot be written as a flag")
