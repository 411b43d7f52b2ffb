"""A real server on tiny models."""

from collections.abc import Iterator

import httpx
import pytest

from evaluation.support.tiny_models import make_tiny_models
from tests.support import guided
from tests.support.engine import Tiny, settings
from tests.support.forked import decant


@pytest.fixture(scope="package")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """`decant serve` on vLLM with tiny random models; started by the first test that asks for it."""
    models = make_tiny_models(tmp_path_factory.mktemp("tiny"))
    models = {**models, **guided.make_guided_models(tmp_path_factory.mktemp("guided"), models["policy"])}
    with decant(settings(models)) as url, httpx.Client(base_url=url, timeout=300) as client:
        yield Tiny(client, models)
