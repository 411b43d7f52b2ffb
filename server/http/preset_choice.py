"""The preset that a request asks for, by its model's name or by a header, and the request's body with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from decoders.errors import InvalidRequest
from server.errors import UnknownModel
from server.runtime.presets import Presets

HEADER = "x-decant-preset"
Json = dict[str, Any]


@dataclass(frozen=True)
class PresetChoice:
    """The presets of a server whose policy is called `policy`; a preset is called `policy:NAME` as a model."""

    presets: Presets
    policy: str

    def model(self, name: str) -> str:
        """Return the name of a preset as a model."""
        return f"{self.policy}:{name}"

    def models(self) -> list[str]:
        """Return every model's name, the policy's first."""
        return [self.policy, *map(self.model, self.presets.named)]

    def check_model(self, model: str | None) -> None:
        """Raise `UnknownModel` for a name that is not served."""
        if model not in (None, "", *self.models()):
            served = ", ".join(f"'{name}'" for name in self.models())
            raise UnknownModel(f"The model '{model}' is not served here. Served: {served}.")

    def asks_for_strategy(self, body: Mapping[str, Any], header: str | None) -> bool:
        """Return whether a body, or the header beside it, asks for a strategy or a preset."""
        named = bool(header) or self._of_model(body.get("model")) is not None
        return named or body.get("decoding") is not None or self.presets.default is not None

    def with_preset(self, body: Json, header: str | None) -> Json:
        """Return the body with the preset's fields in `decoding`, under those that it has there itself.

        Raises `InvalidRequest` for a preset that is not there, for two presets, and for a `decoding` of another
        strategy than the preset's.
        """
        name = self._name(body, header)
        if name is None:
            return body
        own = body.get("decoding")
        preset = self.presets.decoding(name)
        if own is None:
            return {**body, "decoding": preset}
        if not isinstance(own, Mapping):
            return body  # validation refuses it
        if own.get("strategy") not in (None, preset["strategy"]):
            raise InvalidRequest(
                f"The preset '{name}' is of the strategy {preset['strategy']}, whose fields mean nothing for "
                f"{own['strategy']}: ask for the model '{self.policy}' to choose a strategy by decoding alone.",
                "decoding.strategy",
            )
        return {**body, "decoding": {**preset, **{key: value for key, value in own.items() if value is not None}}}

    def _name(self, body: Mapping[str, Any], header: str | None) -> str | None:
        """Return the name of the preset that is asked for, by a name or by asking for nothing."""
        by_model = self._of_model(body.get("model"))
        if header and header not in self.presets.named:
            known = ", ".join(self.presets.named) or "none"
            raise InvalidRequest(f"There is no preset '{header}'. Presets: {known}.", "X-Decant-Preset")
        if header and by_model and header != by_model:
            raise InvalidRequest(
                f"The model's name asks for the preset '{by_model}' and the header for '{header}'.", "X-Decant-Preset"
            )
        if header or by_model:
            return header or by_model
        return self.presets.default if body.get("decoding") is None else None

    def _of_model(self, model: object) -> str | None:
        """Return the preset that a model's name has behind the policy's."""
        if not isinstance(model, str):
            return None
        name = model.removeprefix(f"{self.policy}:")
        return name if name != model and name in self.presets.named else None
