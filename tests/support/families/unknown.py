"""Models that vLLM does not run as rewards."""

import json
from pathlib import Path

from tests.support.families.classifiers import ENCODER, llama
from tests.support.families.tokenizers import pairs

GATED = "LlamaForRewardModelWithGating"
REMOTE_MODEL = f"""
from transformers import LlamaPreTrainedModel


class {GATED}(LlamaPreTrainedModel):
    pass
"""


def armorm(path: Path) -> None:
    llama(path)
    _configure(path, architectures=[GATED])


def armorm_remote(path: Path) -> None:
    """The same with code beside it, which vLLM takes for a decoder without a head."""
    llama(path)
    (path / "modeling_custom.py").write_text(REMOTE_MODEL)
    _configure(path, architectures=[GATED], auto_map={"AutoModelForSequenceClassification": f"modeling_custom.{GATED}"})


def policy(path: Path) -> None:
    llama(path)
    _configure(path, architectures=["LlamaForCausalLM"])


def deberta(path: Path) -> None:
    """A configuration without weights: Transformers' own class warns while it is imported."""
    from transformers import DebertaV2Config

    DebertaV2Config(vocab_size=200, architectures=["DebertaV2ForSequenceClassification"], **ENCODER).save_pretrained(
        path
    )
    pairs("[CLS]", "[SEP]", types=True).save_pretrained(path)


def _configure(path: Path, **fields: object) -> None:
    config = path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **fields}))


UNKNOWN = {
    "armorm": (armorm, {}, f"vLLM has no class for '{GATED}'"),
    "armorm_remote": (armorm_remote, {"trust_remote_code": True}, f"vLLM knows no reward head of '{GATED}'"),
    "policy_as_reward": (policy, {}, "vLLM knows no reward head of 'LlamaForCausalLM'"),
    "deberta": (deberta, {}, "vLLM has no class for 'DebertaV2ForSequenceClassification'"),
}
"""By name: what saves the model, its engine arguments, and how the refusal begins."""
