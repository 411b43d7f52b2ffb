"""The calibration store: a request finds the rewards that were stored for the same prompt, sampling and models."""

import math
from pathlib import Path

import pytest

from server.calibration.store import open_store
from server.settings.reading import read_settings
from tests.support.calibration_store import keep, numbered, opened, store_of, stored


def test_what_is_kept_is_read_back_to_the_last_bit_also_by_the_next_process(path: Path) -> None:
    rewards = [0.1, -0.0, 1 / 3, math.pi * 1e300, 5e-324, None, -1.0, None]
    with opened(path) as store:
        assert stored(store) == []
        keep(store, rewards)
        assert repr(stored(store)) == repr(rewards)
    with opened(path) as store:
        assert repr(stored(store)) == repr(rewards)


def test_more_rewards_replace_fewer_and_no_others_do(path: Path) -> None:
    with opened(path) as store:
        for rewards, left in (
            ([1.0, 2.0], [1.0, 2.0]),
            ([3.0], [1.0, 2.0]),
            ([3.0, 4.0], [1.0, 2.0]),
            ([5.0, 6.0, 7.0], [5.0, 6.0, 7.0]),
            ([], [5.0, 6.0, 7.0]),
        ):
            keep(store, rewards)
            assert stored(store) == left


@pytest.mark.parametrize("use", ["read", "more kept"])
def test_the_least_recently_used_rows_leave(path: Path, use: str) -> None:
    with opened(path, max_entries=3) as store:
        for i in (1, 2, 3):
            keep(store, [float(i)], numbered(i))
        if use == "read":
            stored(store, numbered(1))
        else:
            keep(store, [1.0, 1.0], numbered(1))
        keep(store, [4.0], numbered(4))
        assert [i for i in (1, 2, 3, 4) if stored(store, numbered(i))] == [1, 3, 4]
    with opened(path, max_entries=1) as store:
        keep(store, [5.0], numbered(5))
        assert [i for i in range(6) if stored(store, numbered(i))] == [5], "a lower bound is kept to at once"


def test_two_stores_of_one_file_see_each_others_rows(path: Path) -> None:
    with opened(path) as one, opened(path) as other:
        keep(one, [1.0])
        assert stored(other) == [1.0]
        keep(other, [2.0, 2.0])
        keep(one, [3.0])
        assert stored(one) == [2.0, 2.0]


def test_without_a_path_there_is_no_store() -> None:
    assert open_store(read_settings(policy={"model": "toy"})) is None


def test_a_store_is_as_the_settings_have_it(path: Path) -> None:
    own = {"store": path, "rollouts": 7, "max_entries": 1}
    with store_of(read_settings(policy={"model": "toy"}, calibration=own)) as store:
        assert store.rollouts == 7
        keep(store, [1.0], numbered(1))
        keep(store, [2.0], numbered(2))
        assert [stored(store, numbered(i)) for i in (1, 2)] == [[], [2.0]]
