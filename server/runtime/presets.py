"""The presets that a server offers, checked against what is loaded."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from decoders import Strategy
from decoders.base import Decoder
from decoders.core import Sampling
from decoders.errors import InvalidRequest
from decoders.models import Models
from server.runtime.checks import check_budget
from server.settings import ServerSettings, Settings, SettingsError
from server.settings.presets import SHIPPED

_STRATEGY: TypeAdapter[Decoder] = TypeAdapter(Strategy)


@dataclass(frozen=True)
class Presets:
    """Strategies by name, and the name of the one for requests that ask for none."""

    named: Mapping[str, Decoder] = field(default_factory=dict)
    default: str | None = None

    def decoding(self, name: str) -> dict[str, Any]:
        """Return the `decoding` that a preset stands for, as JSON."""
        strategy = self.named[name]
        return {"strategy": strategy.strategy, **strategy.model_dump(mode="json", exclude_unset=True)}


def offered(
    own: Mapping[str, Decoder], default: str | None, models: Models, settings: ServerSettings, *, shipped: bool
) -> Presets:
    """Return the settings' presets `own` and, with `shipped`, those shipped ones that the loaded models can run.

    Raises `SettingsError` with a line for each preset of `own` that they cannot run, and for a default that is one.
    """
    problems = [*preset_problems(own, models, settings)]
    named = dict(own)
    for name, fields in SHIPPED.items() if shipped else ():
        strategy = _STRATEGY.validate_python(fields)
        if name not in named and _problem(strategy, models, settings) is None:
            named[name] = strategy
    if default is not None and default not in named:
        refusal = _problem(_STRATEGY.validate_python(SHIPPED[default]), models, settings)
        problems.append(f"default_preset: the shipped preset '{default}' cannot run here: {refusal}")
    if problems:
        raise SettingsError(*problems)
    return Presets(named, default)


def offered_by(settings: Settings, models: Models) -> Presets:
    """Return the presets that these settings offer. Raises `SettingsError`."""
    return offered(settings.presets, settings.default_preset, models, settings.server, shipped=settings.shipped_presets)


def preset_problems(own: Mapping[str, Decoder], models: Models, settings: ServerSettings) -> Iterator[str]:
    """Yield a line for each preset that these models cannot run."""
    for name, strategy in own.items():
        error = _problem(strategy, models, settings)
        if error is not None:
            _, _, parameter = (error.field or "").partition("strategy.")
            yield f"presets.{name}{parameter and '.' + parameter}: {error}"


def _problem(strategy: Decoder, models: Models, settings: ServerSettings) -> InvalidRequest | None:
    """Return why the strategy cannot run on the shortest of requests, or None."""
    sampling = Sampling(max_tokens=1)
    try:
        strategy.check(models, sampling)
        check_budget(strategy.max_cost(sampling, models), settings, "strategy.budget")
    except InvalidRequest as error:
        return error
    return None
