"""Which models vLLM can run as rewards: what it cannot is said before anything is loaded."""

import re
from typing import TYPE_CHECKING

from vllm.config import VllmConfig

from server.engines import vllm_seam as seam
from server.settings import EngineArgs, SettingsError

if TYPE_CHECKING:
    from server.engines.vllm_seam import Start

INSTEAD = (
    "serve it by a server of its own and use that as a reward of kind http (docs/reward-models.md, under Other models)"
)
_UNKNOWN = re.compile(r"Model architectures \[(?P<names>.*?)\] are not supported")


def prepare(model: str, arguments: EngineArgs) -> "Start":
    """Return what starts a pooling engine for a reward model.

    Raises `SettingsError` if vLLM refuses the configuration, has no class for the model, or does not know its head.
    """
    try:
        return seam.prepare(model, arguments, stats=False, check=_check_head, runner="pooling")
    except SettingsError as error:
        unknown = _UNKNOWN.search(str(error))
        if unknown is None:
            raise
        raise SettingsError(f"vLLM has no class for {unknown['names']} of '{model}': {INSTEAD}") from error


def _check_head(config: VllmConfig) -> None:
    """Raise `SettingsError` for a model that vLLM would read without its head, and give embeddings of."""
    made = config.model_config
    if made.convert_type == "embed":
        names = ", ".join(f"'{name}'" for name in made.hf_config.architectures or ())
        raise SettingsError(f"vLLM knows no reward head of {names} of '{made.model}': {INSTEAD}")
