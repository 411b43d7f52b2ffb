"""How two processes share the tests."""

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
