"""All checks before a start."""

import os
from collections.abc import Iterator

from server.engines.rewards.function_reward import load_function
from server.installed import NO_ENGINE, engine
from server.preflight.address import address_problems
from server.preflight.models import model_problems
from server.preflight.models_by_name import models_by_name
from server.runtime import key_file
from server.runtime.presets import preset_problems
from server.settings import CalibrationSettings, FunctionReward, HttpReward, ServerSettings, SettingsError
from server.settings.valid_sections import ValidSections

SQLITE = b"SQLite format 3\x00"  # how an SQLite file begins


def problems(sections: ValidSections, *, toy: bool = False, models: bool = True, serving: bool = True) -> list[str]:
    """Return a line for each thing that is wrong.

    Args:
        sections: The sections of the settings that are valid by themselves.
        toy: The toy is served, which has no models.
        models: Check models; False if they are still to be made.
        serving: Check the address and the key file; False for a command that does not serve.
    """
    found: list[str] = []
    if not toy:
        found += [] if engine() else [NO_ENGINE]
        found += [*model_problems(sections)] if models else []
        found += [*_policy(sections), *_rewards(sections)]
    if sections.server is not None:
        found += preset_problems(sections.presets, models_by_name(sections, toy=toy), sections.server)
    if sections.calibration is not None:
        found += _store(sections.calibration)
    if sections.server is not None and serving:
        found += _server(sections.server)
    return found


def _policy(sections: ValidSections) -> Iterator[str]:
    policy = sections.policy
    if policy is not None and policy.api_key_env and not os.environ.get(policy.api_key_env):
        yield f"policy.api_key_env: {policy.api_key_env} is not set in the environment"


def _rewards(sections: ValidSections) -> Iterator[str]:
    for name, reward in sections.rewards.items():
        if isinstance(reward, FunctionReward):
            try:
                load_function(reward.function, reward.call)
            except SettingsError as error:
                yield f"rewards.{name}.function: {error}"
        if isinstance(reward, HttpReward) and reward.api_key_env and not os.environ.get(reward.api_key_env):
            yield f"rewards.{name}.api_key_env: {reward.api_key_env} is not set in the environment"


def _store(calibration: CalibrationSettings) -> Iterator[str]:
    path = calibration.store
    if path is None:
        return
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    wrong = None
    if path.is_dir() or not folder.is_dir():
        wrong = f"{path if path.is_dir() else folder} is {'a folder' if path.is_dir() else 'no folder'}"
    elif path.exists():
        try:
            with path.open("r+b") as file:
                if file.read(len(SQLITE)) not in (b"", SQLITE):
                    wrong = "file is not a database"
        except OSError as error:
            wrong = str(error)
    elif not os.access(folder, os.W_OK | os.X_OK):
        wrong = f"nothing may be written into {folder}"
    if wrong:
        yield f"calibration.store: cannot use {path}: {wrong}"


def _server(server: ServerSettings) -> Iterator[str]:
    if server.api_keys_file is not None:
        try:
            key_file.read(server.api_keys_file)
        except SettingsError as error:
            yield str(error)
    path = server.accounting_log
    if path is not None and not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        yield f"server.accounting_log: cannot write {path}"
    yield from address_problems(server.host, server.port)
    if server.operations_port is not None:
        yield from address_problems(server.operations_host or server.host, server.operations_port, "operations_")
