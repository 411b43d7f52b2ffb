"""All that a server holds open is closed, whatever fails on the way."""

import asyncio
from typing import Any, cast

import pytest

from server import loading
from server.loading import Prepared
from server.settings import Settings
from tests.support.fakes import world


class Engine:
    def __init__(self, closed: list[str], name: str, error: Exception | None = None) -> None:
        self._closed = closed
        self._name = name
        self._error = error

    def shutdown(self, timeout: float) -> None:
        assert timeout > 0
        self._closed.append(self._name)
        if self._error is not None:
            raise self._error


def test_one_that_fails_to_close_keeps_no_other_open() -> None:
    closed: list[str] = []

    async def store() -> None:
        closed.append("store")

    async def client() -> None:
        closed.append("client")
        raise OSError("the client was gone already")

    loaded = world()
    loaded.closers = [store, client]
    gone = RuntimeError("the engine was gone already")
    loaded.engines = cast(Any, {name: Engine(closed, name, gone) for name in ("policy", "default")})
    with pytest.raises(RuntimeError, match="gone already"):
        asyncio.run(loaded.aclose())
    assert sorted(closed) == ["client", "default", "policy", "store"]
    assert set(closed[2:]) == {"policy", "default"}, "engines last"


@pytest.mark.parametrize("running", [False, True])
def test_a_start_that_fails_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch, running: bool) -> None:
    closed: list[str] = []

    class Store:
        async def aclose(self) -> None:
            closed.append("store")

    def start_all(_: object, engines: dict[str, Any]) -> None:
        engines["policy"] = Engine(closed, "policy", RuntimeError("the engine was gone already"))
        raise MemoryError("no room for the second")

    monkeypatch.setattr(loading, "prepare", lambda _: Prepared({}, None, {}))
    monkeypatch.setattr(loading, "open_store", lambda _: Store())
    monkeypatch.setattr("server.engines.vllm_seam.start_all", start_all)
    settings = Settings.model_validate({"policy": {"model": "/models/policy"}})

    async def start() -> None:
        loading.build(settings)

    with pytest.raises(MemoryError, match="no room"):
        asyncio.run(start()) if running else loading.build(settings)
    assert closed == ["store", "policy"]
