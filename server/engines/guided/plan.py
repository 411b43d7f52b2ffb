"""From the settings of guides to columns of logits that the engine computes, and guides as combinations of columns.

Column 0 is the policy itself. A guide of kind `arm` or `q_head` is one column; an `implicit` guide is one column minus
another one, which is the policy's own unless the settings name a reference. So a request is a vector of weights over
the columns, and a model that two guides have in common is loaded once.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from server.engines.guided.adapters import CONFIG, read_config
from server.engines.guided.column import Column
from server.engines.guided.plan_checks import ModelConfig, check_head, check_model
from server.engines.guided.plugin import ARCHITECTURE
from server.engines.guided.row_weights import KEY
from server.settings import AnyGuide, EngineArgs, ImplicitGuide, PolicySettings, QHeadGuide, SettingsError

PROCESSOR = "server.engines.guided.processor:GuidedRows"
_UNTESTED = {
    "pipeline_parallel_size": 1,
    "tensor_parallel_size": 1,
    "speculative_config": None,
    "quantization": None,
    "enable_lora": False,
}


@dataclass
class Plan:
    """The columns to compute, and each guide's weight on each column (0 is the policy's) at a guide weight of 1."""

    columns: list[Column] = field(default_factory=list)
    guides: dict[str, dict[int, float]] = field(default_factory=dict)

    def weights(self, guides: Mapping[str, float], policy: float = 1.0) -> list[float]:
        """Return the weight of each column, the policy's first, in pi^policy prod_i pi_i^guides[i]."""
        total = [policy] + [0.0] * len(self.columns)
        for name, weight in guides.items():
            for column, share in self.guides[name].items():
                total[column] += weight * share
        return total

    def extra_args(self, weights: list[float]) -> dict[str, Any] | None:
        """Return the `extra_args` that carry the weights to the engine, or None for the plain policy."""
        return None if weights == self.weights({}) else {KEY: weights}

    def salt(self, weights: list[float]) -> str | None:
        """Return the salt that keeps a request's prefix cache apart from that of requests with other guides.

        Keys and values do not depend on the weights, but a guide without a weight was not run: it has none cached.
        """
        used = [column.name for column, w in zip(self.columns, weights[1:], strict=True) if w and column.head is None]
        return ",".join(used) or None

    def engine(self, architecture: str, arguments: EngineArgs) -> EngineArgs:
        """Return the engine arguments with the guided model in the policy's place."""
        overrides = {
            **arguments.get("hf_overrides", {}),
            "architectures": [ARCHITECTURE],
            "decant_architecture": architecture,
            "decant_columns": [asdict(column) for column in self.columns],
        }
        processors = [*arguments.get("logits_processors", ()), PROCESSOR]
        return {**arguments, "hf_overrides": overrides, "logits_processors": processors}


def plan(guides: Mapping[str, AnyGuide], policy: PolicySettings) -> tuple[Plan, EngineArgs]:
    """Return the plan for `guides`, and the policy's engine arguments with it. Raises `SettingsError`."""
    refused = [name for name, tested in _UNTESTED.items() if policy.engine.get(name, tested) not in (tested, None)]
    if refused:
        raise SettingsError(f"policy.engine: {', '.join(refused)} is not supported together with guides")
    made = Plan()
    owner = ModelConfig("policy", policy.model, policy.engine)
    problems: list[str] = []
    for name, guide in guides.items():
        try:
            made.guides[name] = _combination(name, guide, made.columns)
        except SettingsError as error:
            problems += error.problems
    for column in made.columns:
        try:
            if column.head is not None:
                check_head(column, owner)
            else:
                check_model(column, owner)
        except SettingsError as error:
            problems += error.problems
    if problems:
        raise SettingsError(*problems)
    return made, made.engine(owner.architecture, policy.engine)


def hosted_plan(guides: Mapping[str, AnyGuide], policy: PolicySettings, config: Any) -> Plan | None:
    """Return the plan for `guides` if an engine of this configuration runs it, or None. Raises `SettingsError`.

    vLLM's V2 runner gives a batch's weights to the model too late, so an engine on it does not.
    """
    if not guides or config.use_v2_model_runner:
        return None
    made, arguments = plan(guides, policy)
    running = config.model_config.hf_config
    overrides = arguments["hf_overrides"]
    same = all(getattr(running, name, None) == overrides[name] for name in ("decant_architecture", "decant_columns"))
    return made if same and PROCESSOR in map(str, config.model_config.logits_processors or ()) else None


def _combination(name: str, guide: AnyGuide, columns: list[Column]) -> dict[int, float]:
    if isinstance(guide, QHeadGuide) and guide.head is not None:
        return {_place(columns, Column(f"head_{name}", head=guide.head)): 1.0}
    assert guide.model is not None
    combination = {_place(columns, _model(f"guide_{name}", guide.model, guide.base)): 1.0}
    if isinstance(guide, ImplicitGuide):
        reference = 0
        if guide.reference is not None:
            reference = _place(columns, _model(f"reference_{name}", guide.reference, guide.reference_base))
        combination[reference] = combination.get(reference, 0.0) - 1.0
    return combination


def _model(name: str, model: str, base: str | None) -> Column:
    """Return the column of a checkpoint, or of an adapter on `base` (by default the base that the adapter names)."""
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
    base = base or named
    if not base:
        raise SettingsError(f"guides: {name}: the adapter {model} names no base model: set `base`")
    return Column(name, base, model)


def _place(columns: list[Column], new: Column) -> int:
    """Return the index of `new` among all columns (the policy's is 0): an equal column's, or else append `new`."""
    for place, column in enumerate(columns, 1):
        if (column.model, column.adapter, column.head) == (new.model, new.adapter, new.head):
            return place
    columns.append(new)
    return len(columns)
