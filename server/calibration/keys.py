"""The key of a row in the calibration store: a digest of all that decides which rewards a prompt's samples have.

The key leaves out what is at its default. So a field with a default may be added to `Sampling` or to a section of the
settings, and stored rows keep their keys.
"""

import hashlib
import json
from dataclasses import asdict

from decoders.core import Prompt, Sampling
from server.settings import GuideReward, Section, Settings

VERSION = 2
"""Raise it when a default changes: rows that were stored with the old default are then not found."""
NOT_OUTPUT = frozenset({"name", "timeout_s", "max_batch", "retries", "api_key_env", "max_reply_bytes", "own_process"})
"""Settings that change how fast outputs come or what a model is called, and not the outputs."""
ENGINE_OUTPUT = frozenset({
    "chat_template", "code_revision", "convert", "disable_sliding_window", "dtype", "hf_config_path", "hf_overrides",
    "kv_cache_dtype", "load_format", "model_weights", "pooler_config", "quantization", "quantization_config",
    "revision", "tokenizer", "tokenizer_mode", "tokenizer_revision",
})  # fmt: skip
"""Engine arguments that do change outputs."""


def row_key(prompt: Prompt, sampling: Sampling, policy: str, reward: str) -> bytes:
    """Return the key of a row.

    Args:
        policy: The policy's `model_identity`.
        reward: The reward's, as `reward_identities` gives it.
    """
    defaults = asdict(type(sampling)())
    parts = {
        "version": VERSION,
        "policy": policy,
        "reward": reward,
        "tokens": prompt.tokens,
        "messages": prompt.messages,  # a reward may read these with a template of its own
        "continues": prompt.continues,
        **({"tools": prompt.tools} if prompt.tools else {}),
        **({"parsed": prompt.parser.identity} if prompt.parser is not None and prompt.parser.identity else {}),
        "sampling": {name: value for name, value in asdict(sampling).items() if value != defaults[name]},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


def reward_identities(settings: Settings) -> dict[str, str]:
    """Return what decides each reward's outputs, by its name; for a guide's reward, the guide and the policy too."""
    policy = model_identity(settings.policy)
    return {
        name: model_identity(spec)
        + (model_identity(settings.guides[spec.guide]) + policy if isinstance(spec, GuideReward) else "")
        for name, spec in settings.rewards.items()
    }


def model_identity(spec: Section) -> str:
    """Return what decides a model's outputs, of the section of the settings that describes it."""
    values = spec.model_dump(mode="json", exclude_defaults=True, exclude=set(NOT_OUTPUT))
    engine = {name: value for name, value in values.pop("engine", {}).items() if name in ENGINE_OUTPUT}
    if engine:
        values["engine"] = engine
    if hasattr(spec, "kind"):  # a default of each kind's own class
        values["kind"] = spec.kind
    return json.dumps(values, sort_keys=True)
