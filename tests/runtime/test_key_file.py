"""The key file: which lines are keys, what their options mean, and what is refused by the number of its line."""

import pytest

from server.runtime import key_file
from server.runtime.client import Client, ClientLimits
from server.runtime.key_file import KeyOptions, parse, parse_line

A, B = "a" * 64, "b" * 64


def test_an_old_line_is_a_key_without_limits() -> None:
    [key] = parse(f"# the team's\n\nann:{A}\n")
    assert (key.client, key.digest, key.expires) == (Client("ann"), A, float("inf"))


def test_options_follow_the_hash() -> None:
    [key] = parse(
        f"ann:{A}  expires=2027-01-31T00:00:00Z requests_per_minute=60 tokens_per_minute=1000 sequences=8 "
        "strategies=sample,best_of_n weight=2.5"
    )
    assert key.client == Client("ann", 2.5, ClientLimits(60, 1000, 8, frozenset({"sample", "best_of_n"})))
    assert key.expires == 1801353600


def test_options_are_written_as_they_are_read() -> None:
    line = (
        f"ann:{A} expires=2027-01-31T00:00:00Z requests_per_minute=60 tokens_per_minute=1000 sequences=8 "
        "strategies=sample,rewards weight=2.5"
    )
    key = parse_line(line)
    assert f"ann:{A} {key.options}" == line
    assert str(KeyOptions()) == ""


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("wait", "line 2: 'wait' is not OPTION=VALUE"),
        ("weight=1 weight=2", "line 2: weight is there twice"),
        ("rate=1", "line 2: rate: there is no such option. There are: expires, requests_per_minute, tokens_"),
        ("requests_per_minute=0", "line 2: requests_per_minute: Input should be greater than 0"),
        ("tokens_per_minute=1e3", "line 2: tokens_per_minute: Input should be a valid integer"),
        ("weight=0", "line 2: weight: Input should be greater than 0"),
        ("weight=nan", "line 2: weight: "),
        ("expires=2027-01-31T00:00:00", "line 2: expires: Input should have timezone info"),
        ("strategies=sample,best_of_m", "line 2: strategies: there is no strategy 'best_of_m'. There are: sample, "),
        ("strategies=", "line 2: strategies: there is no strategy ''"),
    ],
)
def test_a_line_that_says_something_else_is_refused(rest: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(f"ann:{A}\nbob:{B} {rest}\n")


def test_keys_of_one_name_share_their_limits() -> None:
    first, second = parse(f"ann:{A} sequences=2 expires=2027-01-31T00:00:00Z\nann:{B} sequences=2\n")
    assert first.client == second.client
    with pytest.raises(ValueError, match="line 2: the keys of ann share their limits, and line 1 has other ones"):
        parse(f"ann:{A} sequences=2\nann:{B}\n")


def test_every_strategy_can_be_allowed() -> None:
    [key] = parse(f"ann:{A} strategies={','.join(key_file.WORK)}")
    assert key.client.limits.strategies == frozenset(key_file.WORK)
