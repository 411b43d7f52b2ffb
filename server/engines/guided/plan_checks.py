"""Checks that guides fit the policy: the same vocabulary, a context as long, a head as wide."""

from collections.abc import Mapping
from pathlib import Path

from server.engines.guided.column import Column
from server.settings import EngineArgs, SettingsError


class ModelConfig:
    """The parts of a model's configuration that must agree between the policy and its guides."""

    def __init__(self, name: str, model: str, engine: EngineArgs) -> None:
        from vllm.transformers_utils.config import get_config

        trust = bool(engine.get("trust_remote_code", False))
        try:
            config = get_config(model, trust_remote_code=trust)
        except (OSError, ValueError) as error:
            raise SettingsError(f"{name}: cannot read the configuration of '{model}': {error}") from error
        text = config.get_text_config()
        if getattr(config, "quantization_config", None):
            raise SettingsError(f"{name}: '{model}' is quantised, which is not supported together with guides")
        if text is not config or not config.architectures:
            raise SettingsError(f"{name}: '{model}' is not a causal language model of text alone, as guiding needs")
        self.model = model
        self.trust = trust
        self.engine = engine
        self.architecture: str = config.architectures[0]
        self.positions: int | None = getattr(text, "max_position_embeddings", None)
        self.vocabulary: int = text.vocab_size
        self.width: int = text.hidden_size

    def tokens(self, name: str) -> dict[str, int]:
        """Return the vocabulary: ids by token. Raises `SettingsError`, with `name`, if there is no tokenizer."""
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.model, trust_remote_code=self.trust)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"{name}: '{self.model}' has no tokenizer to compare with the policy's: put one into its folder"
            ) from error
        tokens: dict[str, int] = tokenizer.get_vocab()
        return tokens


def check_model(column: Column, policy: ModelConfig) -> None:
    """Raise `SettingsError` unless the column's model has the policy's vocabulary and at least its context."""
    assert column.model is not None
    name = f"guides: {column.name}"
    guide = policy if column.model == policy.model else ModelConfig(name, column.model, policy.engine)
    length = policy.engine.get("max_model_len") or policy.positions
    if guide.positions is not None and length is not None and guide.positions < length:
        raise SettingsError(
            f"{name}: '{column.model}' reads {guide.positions} tokens, and the policy's context is {length}: "
            "set a smaller policy.engine.max_model_len"
        )
    if guide is not policy:
        check_vocabulary(name, policy.tokens("policy"), guide.tokens(name), guide.vocabulary)


def check_vocabulary(name: str, policy: Mapping[str, int], guide: Mapping[str, int], size: int) -> None:
    """Raise `SettingsError` at the first token whose id differs, or which is not among the guide's `size` outputs."""
    ids, other = ({i: token for token, i in tokens.items()} for tokens in (policy, guide))
    for i in sorted(ids.keys() | other.keys()):
        ours, theirs = ids.get(i), other.get(i)
        if ours != theirs:
            raise SettingsError(
                f"{name}: its vocabulary is not the policy's: token {i} is {theirs!r} there, and {ours!r} here"
            )
        if i >= size:
            raise SettingsError(f"{name}: it has {size} outputs, and none for token {i}, {ours!r}")


def check_head(column: Column, policy: ModelConfig) -> None:
    """Raise `SettingsError` unless the column's file has a head on the policy's hidden states."""
    from safetensors import SafetensorError, safe_open

    assert column.head is not None
    name = f"guides: {column.name}: {column.head}"
    if not Path(column.head).is_file():
        raise SettingsError(f"{name}: there is no such file")
    try:
        with safe_open(column.head, "pt") as file:
            shape = list(file.get_slice("weight").get_shape())
    except SafetensorError as error:
        raise SettingsError(f"{name}: {error}; a head is a safetensors file with a `weight`") from error
    if shape != [policy.vocabulary, policy.width]:
        raise SettingsError(
            f"{name}: its weight is {shape}, and must be [{policy.vocabulary}, {policy.width}] for this policy"
        )
