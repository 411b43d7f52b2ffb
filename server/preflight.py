"""What can be known to fail before any engine is started, all of it at once, a line each.

An engine takes a minute to load, so whatever is cheap is looked at first: models that are not there, functions that
cannot be imported, files, keys, the port. What only vLLM can tell, `server.loading.prepare` asks it.
"""

import errno
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from server.engines.rewards.function_reward import load_function
from server.http import auth
from server.installed import NO_ENGINE, engine
from server.settings import (
    CalibrationSettings,
    ClassifierReward,
    EngineArgs,
    FunctionReward,
    HttpReward,
    ImplicitGuide,
    ProcessReward,
    QHeadGuide,
    ServerSettings,
    SettingsError,
)
from server.settings.reading import Parts

CONFIGS = ("config.json", "params.json")  # of a checkpoint: Transformers' and Mistral's
ADAPTER = "adapter_config.json"
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
SQLITE = b"SQLite format 3\x00"


def problems(parts: Parts, *, toy: bool = False, models: bool = True, serving: bool = True) -> list[str]:
    """One line for each thing that is wrong, given as much of the settings as is right.

    The toy has no models; `models` is False where they are yet to be made; without `serving` no port is opened.
    """
    found: list[str] = []
    if not toy:
        found += [] if engine() else [NO_ENGINE]
        found += [*_models(parts)] if models else []
        found += _rewards(parts)
    if parts.calibration is not None:
        found += _store(parts.calibration)
    if parts.server is not None and serving:
        found += _server(parts.server)
    return found


def _models(parts: Parts) -> Iterator[str]:
    if parts.policy is not None:
        yield from _model("policy.model", parts.policy.model, parts.policy.engine)
        yield from _files("policy.engine", parts.policy.engine)
    for name, reward in parts.rewards.items():
        if isinstance(reward, ClassifierReward | ProcessReward):
            yield from _model(f"rewards.{name}.model", reward.model, reward.engine)
            yield from _files(f"rewards.{name}.engine", reward.engine)
    for name, guide in parts.guides.items():
        where = f"guides.{name}"
        if guide.model is not None:
            yield from _model(f"{where}.model", guide.model, adapter=True)
        if guide.base is not None:
            yield from _model(f"{where}.base", guide.base)
        if isinstance(guide, ImplicitGuide):
            if guide.reference is not None:
                yield from _model(f"{where}.reference", guide.reference, adapter=True)
            if guide.reference_base is not None:
                yield from _model(f"{where}.reference_base", guide.reference_base)
        if isinstance(guide, QHeadGuide) and guide.head is not None and not Path(guide.head).is_file():
            yield f"{where}.head: there is no file {Path(guide.head).absolute()}"


def _model(where: str, model: str, arguments: EngineArgs | None = None, *, adapter: bool = False) -> Iterator[str]:
    """What is wrong with the name of a model: a path to a checkpoint (or an adapter), or an id on a hub."""
    path = Path(model)
    if path.is_dir():
        names = (*CONFIGS, ADAPTER) if adapter else CONFIGS
        elsewhere = (arguments or {}).get("hf_config_path")
        if not elsewhere and not any((path / name).is_file() for name in names):
            yield f"{where}: {path.absolute()} holds no {CONFIGS[0]}{f' or {ADAPTER}' if adapter else ''}"
    elif path.is_file() or "://" in model:  # one file of weights; a store that vLLM can read
        return
    elif model.startswith("~"):
        yield f"{where}: '~' is not expanded here: write the whole path, such as {path.expanduser()}"
    elif model.startswith((".", "/")) or model.endswith("/") or not HUB_ID.fullmatch(model):
        yield f"{where}: there is no {path.absolute()}"
    elif _offline() and not _cached(model):
        yield f"{where}: there is no {path.absolute()}, and no '{model}' in the cache of the hub, which is off"


def _files(where: str, arguments: EngineArgs) -> Iterator[str]:
    """Paths among an engine's arguments."""
    for name in ("tokenizer", "hf_config_path"):
        value = arguments.get(name)
        if isinstance(value, str) and value.startswith((".", "/", "~")) and not Path(value).exists():
            yield f"{where}.{name}: there is no {Path(value).absolute()}"


def _offline() -> bool:
    return any(
        os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def _cached(model: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(model, name), str) for name in (*CONFIGS, ADAPTER))


def _rewards(parts: Parts) -> Iterator[str]:
    for name, reward in parts.rewards.items():
        if isinstance(reward, FunctionReward):
            try:
                load_function(reward.function)
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
            auth.read(server.api_keys_file)
        except SettingsError as error:
            yield str(error)
    yield from _port(server.host, server.port)


def _port(host: str, port: int) -> Iterator[str]:
    """Whether the address can be listened at, as asyncio will try it."""
    try:
        addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        yield f"server.host: '{host}' is no address: {error.strerror}"
        return
    for family, kind, protocol, _, address in addresses:
        try:
            opened = socket.socket(family, kind, protocol)
        except OSError:  # a family that this machine does not have, which asyncio passes over too
            continue
        try:
            with opened as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
                probe.listen(1)
        except OSError as error:
            yield _unbound(error, address)


def _unbound(error: OSError, address: Any) -> str:
    host, port = address[:2]
    if error.errno == errno.EADDRINUSE:
        return f"server.port: something listens on {host} port {port} already"
    field = "port" if error.errno == errno.EACCES else "host"
    return f"server.{field}: cannot listen on {host} port {port}: {error.strerror}"
