"""`vllm serve` on tiny models, with the plug-in and without it."""

from collections.abc import Iterator

import pytest

from tests.support.hosted import Hosted, hosting


@pytest.fixture(scope="package")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with hosting(tmp_path_factory.mktemp("hosted")) as servers:
        yield servers
