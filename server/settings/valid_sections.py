"""The sections of the settings that are valid by themselves, for checks that do not wait until all sections are."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from decoders import Strategy
from decoders.base import Decoder
from server.settings.guides import AnyGuide
from server.settings.rewards import AnyReward
from server.settings.sections import CalibrationSettings, PolicySettings, ServerSettings

T = TypeVar("T")
_GUIDE: TypeAdapter[Any] = TypeAdapter(AnyGuide)
_REWARD: TypeAdapter[Any] = TypeAdapter(AnyReward)
_STRATEGY: TypeAdapter[Any] = TypeAdapter(Strategy)


@dataclass
class ValidSections:
    """Sections without the fields that are wrong; None, or left out of a dictionary, where too little is left."""

    policy: PolicySettings | None = None
    guides: dict[str, Any] = field(default_factory=dict)
    rewards: dict[str, Any] = field(default_factory=dict)
    presets: dict[str, Decoder] = field(default_factory=dict)
    calibration: CalibrationSettings | None = None
    server: ServerSettings | None = None


def valid_sections(values: dict[str, Any]) -> ValidSections:
    """Return the sections of `values`, the settings as they were written."""
    return ValidSections(
        policy=_valid(TypeAdapter(PolicySettings), values.get("policy")),
        guides=_valid_entries(_GUIDE, values.get("guides")),
        rewards=_valid_entries(_REWARD, values.get("rewards")),
        presets=_valid_entries(_STRATEGY, values.get("presets")),
        calibration=_valid(TypeAdapter(CalibrationSettings), values.get("calibration", {})),
        server=_valid(TypeAdapter(ServerSettings), values.get("server", {})),
    )


def _valid_entries(adapter: TypeAdapter[Any], entries: object) -> dict[str, Any]:
    pairs = entries.items() if isinstance(entries, dict) else ()
    valid = {str(name): _valid(adapter, value) for name, value in pairs}
    return {name: entry for name, entry in valid.items() if entry is not None}


def _valid(adapter: TypeAdapter[T], value: object) -> T | None:
    """Return `value` without the fields that are wrong, or None if it is not valid without them."""
    value = deepcopy(value)
    for _ in range(2):
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            for one in error.errors():
                _delete(value, one["loc"])
    return None


def _delete(value: Any, place: tuple[str | int, ...]) -> None:
    """Delete what is at `place`, whose steps may also name the member of a union."""
    for step in place[:-1]:
        if isinstance(value, dict) and step in value:
            value = value[step]
    if place and isinstance(value, dict):
        value.pop(place[-1], None)
