"""How two processes share the tests, and what no test leaves to the next."""

import logging
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Folders whose files share engines, which start once if one process runs all of them.
TOGETHER = {PurePosixPath("tests/engines", name) for name in ("tiny", "parsed", "entropy", "hosted")}


class ByEngine(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a process a whole file at a time, or a whole folder whose files share engines.

    pytest-xdist's own marks for this, `xdist_group`, are not read under pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = PurePosixPath(nodeid.split("::", 1)[0])
        return str(file.parent if file.parent in TOGETHER else file)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return ByEngine(config, log)


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """Undo what a command that ran in this process did to the log: its lines would be in the next command's stderr."""
    root = logging.getLogger()
    level, handlers = root.level, [*root.handlers]
    yield
    root.setLevel(level)
    for handler in [*root.handlers]:
        if handler not in handlers and type(handler).__module__.startswith("server."):
            root.removeHandler(handler)
