"""Every strategy of the registry keeps the contract of `decoders.testing`, in each of its forms."""

import pytest
from pydantic import TypeAdapter, ValidationError

from decoders import STRATEGIES, BestOfN, Rejection, RewardGuided, Strategy
from decoders.base import Decoder
from decoders.search import Search
from decoders.testing import CONTRACT, REWARDS, Check

NEEDS: dict[str, dict[str, float]] = {
    "rejection": {"r_max": 99.0},
    "cascade": {"accept_threshold": 1.0, "accept_start": 0.0},
}


def instance(strategy: type[Decoder], **more: object) -> Decoder:
    """Return the strategy with the toy's rewards and the fields that it requires."""
    return strategy.model_validate({"reward": REWARDS, **NEEDS.get(name_of(strategy), {}), **more})


def name_of(strategy: type[Decoder]) -> str:
    name: str = strategy.model_fields["strategy"].default
    return name


PLAIN = [instance(s) for s in STRATEGIES if s is not RewardGuided]
GUIDED = [instance(s, guides={"kind": 0.5}) for s in STRATEGIES]
CALIBRATED = [
    instance(s, calibrated=True, rollouts=3, **({"r_max": None} if s is Rejection else {}))
    for s in STRATEGIES
    if issubclass(s, Search)
]
PROPOSALS = [
    instance(BestOfN, n=3, proposal={**instance(s).model_dump(exclude_defaults=True), "strategy": name_of(s)})
    for s in STRATEGIES
    if s is not RewardGuided
]


def describe(decoder: Decoder) -> str:
    """Return the name of a case."""
    fields = decoder.model_dump()
    proposal = fields.get("proposal")
    return " ".join(
        [
            fields["strategy"],
            *(["guided"] if decoder.guides else []),
            *(["calibrated"] if fields.get("calibrated") else []),
            *([f"over {proposal['strategy']}"] if proposal else []),
        ]
    )


every = pytest.mark.parametrize("decoder", [*PLAIN, *GUIDED, *CALIBRATED, *PROPOSALS], ids=describe)


@every
@pytest.mark.parametrize("check", CONTRACT)
def test_contract(decoder: Decoder, check: Check) -> None:
    check(decoder)


@every
def test_it_is_parsed_as_one_of_the_strategies(decoder: Decoder) -> None:
    strategy: TypeAdapter[Decoder] = TypeAdapter(Strategy)
    assert strategy.validate_json(strategy.dump_json(decoder)) == decoder
    name = decoder.model_dump()["strategy"]
    assert type(strategy.validate_python({"strategy": name, **NEEDS.get(name, {})})) is type(decoder)
    with pytest.raises(ValidationError, match="Extra inputs"):
        strategy.validate_python({"strategy": name, "unknown_field": 1})
    with pytest.raises(ValidationError, match="does not match any"):
        strategy.validate_python({"strategy": "unknown"})
