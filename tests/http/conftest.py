"""A server of the toy, for the tests of a module."""

from collections.abc import Iterator

import pytest

from server.loading import toy
from tests.support.serving import Api, serving


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving(toy()) as api:
        yield api
