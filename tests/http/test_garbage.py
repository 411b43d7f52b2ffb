"""What was loaded is left out of collections while the server runs, and is collected when it has ended."""

import gc

from server.loading import toy
from tests.support.serving import serving


def test_what_was_loaded_is_frozen_while_the_server_runs() -> None:
    with serving(toy()) as api:
        api.complete()
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0
