"""The fixture that tests share: one real server on tiny models for the whole run."""

from collections.abc import Iterator

import httpx
import pytest

from evaluation.support.servers import decant
from evaluation.support.tiny_models import make_tiny_models
from tests.support import guided
from tests.support.engine import Tiny, settings


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in its own hook of this name
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests with engines one after the other in one process, and first: they take most of the time."""
    engines = [item for item in items if item.get_closest_marker("engine")]
    for item in engines:
        item.add_marker(pytest.mark.xdist_group("engine"))
    items[:] = engines + [item for item in items if item not in set(engines)]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """`decant serve` on vLLM with tiny random models; started by the first test that asks for it."""
    models = make_tiny_models(tmp_path_factory.mktemp("tiny"))
    models = {**models, **guided.make_guided_models(tmp_path_factory.mktemp("guided"), models["policy"])}
    with decant(settings(models)) as url, httpx.Client(base_url=url, timeout=300) as client:
        yield Tiny(client, models)
