"""Limits of a client: over any span its requests use at most what the limits give."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.errors import InvalidRequest
from server.errors import RateLimited
from server.runtime.client import Client, ClientLimits
from server.runtime.limiter import Limiter, Use

LIMIT = 60  # a minute, so one a second


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> Limiter:
    return Limiter(clock)


def client(**limits: int) -> Client:
    return Client("ann", limits=ClientLimits(**limits))  # type: ignore[arg-type]


def spans(uses: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The length in seconds of each span from one use to another, and what is used in it, both ends included."""
    for i, (start, _) in enumerate(uses):
        total = 0.0
        for end, amount in uses[i:]:
            total += amount
            yield end - start, total


@given(st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_requests_keep_the_limit_over_any_span(pauses: list[float]) -> None:
    clock = Clock()
    limiter, ann = Limiter(clock), client(requests_per_minute=LIMIT // 6)
    taken: list[tuple[float, float]] = []
    for pause in pauses:
        clock.now += pause
        for _ in range(4):
            try:
                limiter.request(ann)
            except RateLimited:
                break
            taken.append((clock.now, 1))
    assert all(used <= LIMIT / 6 * (1 + seconds / 60) + 1e-6 for seconds, used in spans(taken))


STEP = st.one_of(
    st.tuples(st.just("wait"), st.floats(0, 90), st.just(0.0)),
    st.tuples(st.just("take"), st.integers(0, LIMIT), st.floats(0, 1)),
    st.tuples(st.just("end"), st.integers(0, 5), st.just(0.0)),
)


@given(st.lists(STEP, max_size=80))
def test_tokens_that_are_used_keep_the_limit_over_any_span(steps: list[tuple[str, float, float]]) -> None:
    """Requests overlap in any way, end in any order, and use any share of what they might have used."""
    clock = Clock()
    limiter, ann = Limiter(clock), client(tokens_per_minute=LIMIT)
    open_: list[tuple[ExitStack, Use, int, float]] = []
    used: list[tuple[float, float]] = []

    def end(place: int) -> None:
        stack, use, tokens, _ = open_.pop(place)
        use.used = tokens
        stack.close()

    for what, amount, share in steps:
        if what == "wait":
            clock.now += amount
        elif what == "end" and open_:
            end(int(amount) % len(open_))
        elif what == "take":
            stack = ExitStack()
            try:
                use = stack.enter_context(limiter.hold(ann, int(amount), 1))
            except RateLimited:
                continue
            tokens = int(amount * share)
            used.append((clock.now, tokens))
            open_.append((stack, use, tokens, clock.now))
    while open_:
        end(0)
    assert all(total <= LIMIT * (1 + seconds / 60) + 1e-6 for seconds, total in spans(used))


def test_what_was_not_used_comes_back_at_once(clock: Clock, limiter: Limiter) -> None:
    ann = client(tokens_per_minute=LIMIT)
    with limiter.hold(ann, 60, 1) as use:
        with pytest.raises(RateLimited) as caught, limiter.hold(ann, 12, 1):
            pass
        assert caught.value.retry_after == 12
        use.used = 10
    with limiter.hold(ann, 50, 1):
        pass
    clock.now += 11.5
    with pytest.raises(RateLimited) as caught, limiter.hold(ann, 12, 1):
        pass
    assert caught.value.retry_after == 1
    clock.now += caught.value.retry_after
    with limiter.hold(ann, 12, 1):
        pass


def test_a_request_that_is_refused_takes_nothing(limiter: Limiter) -> None:
    ann = client(tokens_per_minute=LIMIT, sequences=4)
    with limiter.hold(ann, 30, 3):
        for tokens, sequences in ((31, 1), (1, 2)):
            with pytest.raises(RateLimited), limiter.hold(ann, tokens, sequences):
                pass
        with limiter.hold(ann, 30, 1):
            pass


def test_sequences_are_free_again_at_the_end_however_it_came(limiter: Limiter) -> None:
    ann = client(sequences=4)
    with pytest.raises(ZeroDivisionError), limiter.hold(ann, 0, 4):
        raise ZeroDivisionError
    with limiter.hold(ann, 0, 4), pytest.raises(RateLimited), limiter.hold(ann, 0, 1):
        pass


@pytest.mark.parametrize(("limits", "need"), [({"tokens_per_minute": 9}, (10, 1)), ({"sequences": 9}, (0, 10))])
def test_what_never_fits_is_the_requests_mistake(
    limiter: Limiter, limits: dict[str, int], need: tuple[int, int]
) -> None:
    with pytest.raises(InvalidRequest, match="over the 9 that its key has") as caught:
        limiter.hold(client(**limits), *need, "decoding").__enter__()
    assert caught.value.field == "decoding"


def test_clients_do_not_share_and_keys_of_one_name_do(limiter: Limiter) -> None:
    ann, bob = client(requests_per_minute=1), Client("bob", limits=ClientLimits(1))
    limiter.request(ann)
    limiter.request(bob)
    with pytest.raises(RateLimited):
        limiter.request(client(requests_per_minute=1))


def test_a_changed_limit_keeps_what_is_used(clock: Clock, limiter: Limiter) -> None:
    for _ in range(8):
        limiter.request(client(requests_per_minute=10))
    left, _ = limiter.remaining(client(requests_per_minute=20))
    assert left is not None
    assert (left.limit, left.remaining, left.reset) == (20, 12, 24)
    with pytest.raises(RateLimited) as caught:
        limiter.request(client(requests_per_minute=5))
    assert caught.value.retry_after == 48
    assert limiter.remaining(client()) == (None, None)
    clock.now += 60
    left, _ = limiter.remaining(client(requests_per_minute=5))
    assert left is not None
    assert left.remaining == 5
