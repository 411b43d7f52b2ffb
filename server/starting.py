"""From a command's options to settings, checked as far as that is cheap."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server import preflight
from server.engines.rewards.function_reward import import_beside
from server.installed import engine
from server.settings import Settings, SettingsError
from server.settings.reading import read

DEMO = "SmolLM2-135M-Instruct"


def settings(
    config: Path | None, *, toy: bool = False, serving: bool = True, server: Mapping[str, Any] | None = None
) -> Settings:
    """Return the settings of `config`, of the toy, or of the demo (whose models may still have to be made).

    Args:
        serving: The command opens the server's port.
        server: Values that override those of the section `server`.

    Raises `SettingsError` with every problem that was found.
    """
    problems: list[str] = []
    models = True
    defaults: dict[str, Any] = {}
    if toy:
        defaults = {"policy": {"model": "toy"}}
    elif config is None:
        defaults, models = _demo(problems)
    import_beside(config)
    found = read(config, defaults)
    if found.sections.server is not None:
        found.sections.server = found.sections.server.model_copy(update=server or {})
    problems += found.problems
    problems += preflight.problems(found.sections, toy=toy, models=models, serving=serving)
    if problems or found.settings is None:
        raise SettingsError(*problems)
    return found.settings.model_copy(update={"server": found.sections.server})


def make_demo() -> None:
    """Make the demo's models, unless they exist. Raises `SettingsError`."""
    from server.demo.world import DemoUnavailable, ensure

    try:
        ensure()
    except DemoUnavailable as error:
        raise SettingsError(str(error)) from error


def _demo(problems: list[str]) -> tuple[dict[str, Any], bool]:
    """Return the demo's settings, and whether its models exist; a problem is appended to `problems`."""
    from server.demo.world import DemoUnavailable, located

    unknown: dict[str, Any] = {"policy": {"model": DEMO}}
    if engine() is None:  # a problem that preflight reports for any settings
        return unknown, False
    try:
        world = located()
    except DemoUnavailable as error:
        problems.append(str(error))
        return unknown, False
    from server.demo.defaults import settings

    return settings(world), world.made
