"""From the settings of guides to what the engine runs: columns of logits, and each guide as a combination of them.

Column 0 is the policy itself. A guide of kind `arm` or `q_head` is one column; `implicit` is one minus another, the
policy's own where no other reference is named. So any request is a vector of weights over the columns, and models that
two guides have in common are loaded once.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from server.engines.guided.adapters import CONFIG, read_config
from server.engines.guided.plugin import ARCHITECTURE
from server.engines.guided.rows import KEY
from server.settings import AnyGuide, EngineArgs, ImplicitGuide, PolicySettings, QHeadGuide, SettingsError

PROCESSOR = "server.engines.guided.processor:GuidedRows"
_UNTRIED = {
    "pipeline_parallel_size": 1,
    "tensor_parallel_size": 1,
    "speculative_config": None,
    "quantization": None,
    "enable_lora": False,
}


@dataclass(frozen=True)
class Column:
    """One set of logits beside the policy's: a model's, with an adapter merged in or not, or a head's.

    `head` is a safetensors file with a `weight` [vocabulary, width], applied to the policy's last hidden states.
    """

    name: str
    model: str | None = None
    adapter: str | None = None
    head: str | None = None


@dataclass
class Plan:
    """`columns` to run, and `guides` by name: the weight of each column, the policy's first, at a guide weight of 1."""

    columns: list[Column] = field(default_factory=list)
    guides: dict[str, dict[int, float]] = field(default_factory=dict)

    def weights(self, guides: Mapping[str, float], policy: float = 1.0) -> list[float]:
        """The weight of each column, the policy's first, in pi^policy prod_i pi_i^guides[i]."""
        total = [policy] + [0.0] * len(self.columns)
        for name, weight in guides.items():
            for column, share in self.guides[name].items():
                total[column] += weight * share
        return total

    def extra_args(self, weights: list[float]) -> dict[str, Any] | None:
        """How a request tells the engine; None for the plain policy."""
        return None if weights == self.weights({}) else {KEY: weights}

    def salt(self, weights: list[float]) -> str | None:
        """What keeps a request's prefix cache apart from that of requests with other guides.

        Keys and values do not depend on the weights, but those of a guide that nobody asked for were never computed.
        """
        used = [column.name for column, w in zip(self.columns, weights[1:], strict=True) if w and column.head is None]
        return ",".join(used) or None

    def engine(self, architecture: str, arguments: EngineArgs) -> EngineArgs:
        """The engine arguments with the guided model in the policy's place."""
        overrides = {
            **arguments.get("hf_overrides", {}),
            "architectures": [ARCHITECTURE],
            "decant_architecture": architecture,
            "decant_columns": [asdict(column) for column in self.columns],
        }
        processors = [*arguments.get("logits_processors", ()), PROCESSOR]
        return {**arguments, "hf_overrides": overrides, "logits_processors": processors}


def plan(guides: Mapping[str, AnyGuide], policy: PolicySettings) -> tuple[Plan, EngineArgs]:
    """What to run for `guides`, and the policy's engine arguments with it. Raises `SettingsError`."""
    refused = [name for name, tried in _UNTRIED.items() if policy.engine.get(name, tried) not in (tried, None)]
    if refused:
        raise SettingsError(f"policy.engine: {', '.join(refused)} is not supported together with guides")
    made = Plan()
    owner = _Config("policy", policy.model, policy.engine)
    problems: list[str] = []
    for name, guide in guides.items():
        try:
            made.guides[name] = _combination(name, guide, made.columns)
        except SettingsError as error:
            problems += error.problems
    for column in made.columns:
        try:
            if column.head is not None:
                _check_head(column, owner)
            else:
                _check_model(column, owner)
        except SettingsError as error:
            problems += error.problems
    if problems:
        raise SettingsError(*problems)
    return made, made.engine(owner.architecture, policy.engine)


def _combination(name: str, guide: AnyGuide, columns: list[Column]) -> dict[int, float]:
    if isinstance(guide, QHeadGuide) and guide.head is not None:
        return {_column(columns, Column(f"head_{name}", head=guide.head)): 1.0}
    assert guide.model is not None
    combination = {_column(columns, _model(f"guide_{name}", guide.model, guide.base)): 1.0}
    if isinstance(guide, ImplicitGuide):
        reference = 0
        if guide.reference is not None:
            reference = _column(columns, _model(f"reference_{name}", guide.reference, guide.reference_base))
        combination[reference] = combination.get(reference, 0.0) - 1.0
    return combination


def _model(name: str, model: str, base: str | None) -> Column:
    """A checkpoint, or an adapter on `base` or else on the base that it names."""
    from vllm.transformers_utils.repo_utils import file_or_path_exists

    try:
        adapted = file_or_path_exists(model, CONFIG, None)
    except (OSError, ValueError) as error:
        raise SettingsError(f"guides: {name}: there is no '{model}': {error}") from error
    if not adapted:
        if base is not None:
            raise SettingsError(f"guides: {name}: {model} holds no {CONFIG}, so a base means nothing for it")
        return Column(name, model)
    try:
        named = read_config(model).get("base_model_name_or_path")
    except ValueError as error:
        raise SettingsError(f"guides: {name}: {error}") from error
    found = base or named
    if not found:
        raise SettingsError(f"guides: {name}: the adapter {model} names no base model: set `base`")
    return Column(name, found, model)


def _column(columns: list[Column], wanted: Column) -> int:
    """The place of a column among all, the policy's being 0: of one that is the same but for its name, or a new one."""
    for place, column in enumerate(columns, 1):
        if (column.model, column.adapter, column.head) == (wanted.model, wanted.adapter, wanted.head):
            return place
    columns.append(wanted)
    return len(columns)


class _Config:
    """What must agree between the policy and its guides."""

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
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.model, trust_remote_code=self.trust)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"{name}: '{self.model}' has no tokenizer to compare with the policy's: put one into its folder"
            ) from error
        tokens: dict[str, int] = tokenizer.get_vocab()
        return tokens


def _check_model(column: Column, policy: _Config) -> None:
    """Raise `SettingsError` unless the column's model reads the policy's tokens, as far as the policy does."""
    assert column.model is not None
    name = f"guides: {column.name}"
    guide = policy if column.model == policy.model else _Config(name, column.model, policy.engine)
    length = policy.engine.get("max_model_len") or policy.positions
    if guide.positions is not None and length is not None and guide.positions < length:
        raise SettingsError(
            f"{name}: '{column.model}' reads {guide.positions} tokens, and the policy's context is {length}: "
            "set a smaller policy.engine.max_model_len"
        )
    if guide is not policy:
        check_vocabulary(name, policy.tokens("policy"), guide.tokens(name), guide.vocabulary)


def check_vocabulary(name: str, policy: Mapping[str, int], guide: Mapping[str, int], size: int) -> None:
    """Raise `SettingsError` at the first token whose id differs, or that has none among the guide's `size` outputs."""
    ids, other = ({i: token for token, i in tokens.items()} for tokens in (policy, guide))
    for i in sorted(ids.keys() | other.keys()):
        ours, theirs = ids.get(i), other.get(i)
        if ours != theirs:
            raise SettingsError(
                f"{name}: its vocabulary is not the policy's: token {i} is {theirs!r} there, and {ours!r} here"
            )
        if i >= size:
            raise SettingsError(f"{name}: it has {size} outputs, and none for token {i}, {ours!r}")


def _check_head(column: Column, policy: _Config) -> None:
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
