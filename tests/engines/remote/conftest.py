"""vLLM's configuration of a tiny policy, and engines on servers that the tests play."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from evaluation.support.tiny_models import make_tiny_models
from server.engines.remote.engine import RemoteEngine
from server.engines.vllm_seam import configure
from tests.support.engine import ENGINE

URL = "http://policy.test/v1"
Played = Callable[[Callable[[httpx.Request], httpx.Response]], RemoteEngine]


@pytest.fixture(scope="package")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_models(tmp_path_factory.mktemp("tiny"))["policy"]


@pytest.fixture(scope="package")
def config(policy: Path) -> Any:
    return configure(str(policy), ENGINE)[1]


@pytest.fixture
def played(config: Any) -> Played:
    """Make an engine whose server is a function."""

    def engine(server: Callable[[httpx.Request], httpx.Response]) -> RemoteEngine:
        return RemoteEngine(URL, "m", config, {"x": "y"}, transport=httpx.MockTransport(server))

    return engine
