"""Checks of a strategy as a value: its JSON, its docstring, and the requests that it accepts."""

from collections.abc import Callable

from pydantic import TypeAdapter, ValidationError

from decoders.base import Decoder
from decoders.core import Sampling
from decoders.testing.watched import WatchedPolicy, toy_models


def it_is_a_closed_value_that_survives_json(decoder: Decoder) -> None:
    own = TypeAdapter(type(decoder))
    assert own.validate_json(own.dump_json(decoder)) == decoder, "it is another value after a trip through JSON"
    _assert_refused(lambda: own.validate_python({**decoder.model_dump(), "unknown_field": 1}), "Extra inputs")
    _assert_refused(lambda: setattr(decoder, "reward", None), "frozen")


def it_states_its_law_and_accepts_the_toy(decoder: Decoder) -> None:
    assert "\n    Law" in (type(decoder).__doc__ or ""), "its docstring has no paragraph that begins with `Law`"
    decoder.check(toy_models(WatchedPolicy()), Sampling(n=2))


def _assert_refused(act: Callable[[], object], message: str) -> None:
    refusal = _refusal(act)
    assert refusal is not None, f"nothing was refused as {message!r}"
    assert message in refusal, f"{message!r} is not what was refused: {refusal}"


def _refusal(act: Callable[[], object]) -> str | None:
    """Return the message of pydantic's refusal, or None where nothing is refused."""
    try:
        act()
    except ValidationError as error:
        return str(error)
    return None
