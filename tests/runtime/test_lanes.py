"""Wide requests leave narrow ones their lane, clients share by weight, and what would wait too long is refused at once.

All in virtual time, on a server whose steps take longer the more sequences they have, as a CPU's do.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import Overloaded
from server.runtime.admission import LINGER, Admission
from server.runtime.lane import Place
from tests.support.virtual_time import run

STEP, EACH = 0.004, 0.0002  # seconds of a step, and of each sequence in it
TOKENS = 16


class Server:
    """Sequences that are drawn token by token, in steps that all of them share."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.drawing = 0
        self.peak = 0
        self.seconds: dict[str, list[float]] = {}

    async def sequences(self, n: int) -> None:
        self.drawing += n
        self.peak = max(self.peak, self.drawing)
        try:
            for _ in range(TOKENS):
                await asyncio.sleep(STEP + EACH * self.drawing)
        finally:
            self.drawing -= n

    async def request(self, name: str, width: int, flow: str = "", weight: float = 1.0, priority: int = 0) -> None:
        clock = asyncio.get_running_loop().time
        came = clock()
        async with self.admission.place(width, priority, tokens=TOKENS, flow=flow, weight=weight) as place:
            if place.turns is None:
                await self.sequences(width)
            else:
                await self.parts(place, width)
            place.used = width * TOKENS
        self.seconds.setdefault(name, []).append(clock() - came)

    async def parts(self, place: Place, width: int) -> None:
        async def part(n: int) -> None:
            try:
                await self.sequences(n)
            finally:
                place.end(n)

        async with asyncio.TaskGroup() as group:
            left = width
            while left:
                n = await place.take(left, TOKENS)
                left -= n
                group.create_task(part(n))

    async def clients(self, seconds: float, **widths: tuple[int, int]) -> None:
        """Let so many clients send requests of one width each, one after the other, for so long."""

        async def client(name: str, width: int) -> None:
            while True:
                await self.request(name, width)

        await self.within(seconds, *(client(name, width) for name, (n, width) in widths.items() for _ in range(n)))

    async def within(self, seconds: float, *work: Coroutine[Any, Any, None]) -> None:
        tasks = [asyncio.ensure_future(one) for one in work]
        await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert ended is None or isinstance(ended, asyncio.CancelledError | Overloaded), ended
        assert self.admission.idle
        assert not self.drawing


def p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * len(values))]


def test_beside_sixteen_clients_of_best_of_64_plain_requests_take_at_most_twice_their_time() -> None:
    async def measure(**widths: tuple[int, int]) -> float:
        server = Server(Admission(256, 1024))
        await server.clients(60, **widths)
        seconds = server.seconds["plain"]
        if "wide" in widths:
            assert len(server.seconds["wide"]) > 50  # they are served all the while
        return p99(seconds[len(seconds) // 5 :])

    alone = run(measure(plain=(4, 1)))
    assert run(measure(plain=(4, 1), wide=(16, 64))) <= 2 * alone


def test_wide_requests_alone_have_most_places_and_all_of_the_throughput() -> None:
    async def test() -> None:
        server = Server(Admission(256, 1024))
        await server.clients(60, wide=(16, 64))
        assert server.peak == 224
        full = 60 / (TOKENS * (STEP + 224 * EACH)) * 224  # sequences that fit into the time at this width
        assert len(server.seconds["wide"]) * 64 > 0.9 * full

    run(test())


def test_wide_requests_spread_when_the_narrow_ones_have_gone() -> None:
    async def test() -> None:
        server = Server(Admission(256, 1024))
        await server.request("plain", 1)
        wide = asyncio.create_task(server.request("wide", 256))
        await asyncio.sleep(LINGER / 4)
        assert server.peak == 16
        await asyncio.sleep(LINGER)
        await wide
        assert server.peak > 16
        assert server.admission.idle

    run(test())


def test_narrow_requests_however_many_leave_wide_ones_their_share() -> None:
    async def test() -> None:
        server = Server(Admission(32, 4096))
        await server.clients(60, plain=(500, 1), wide=(2, 24))
        assert len(server.seconds["wide"]) > 20
        assert server.peak <= 32

    run(test())


@pytest.mark.parametrize("width", [1, 12])
def test_clients_share_by_weight_and_by_tokens_not_by_requests(width: int) -> None:
    async def test() -> None:
        server = Server(Admission(16, 4096, narrow=8, wide_share=8))
        served: Counter[str] = Counter()

        async def client(flow: str, weight: float) -> None:
            while True:
                await server.request(flow, width, flow, weight)
                served[flow] += 1

        # The many connections of one, the few of another, and one with three times the weight.
        many, few, heavy = ([client("many", 1) for _ in range(90)], [client("few", 1) for _ in range(20)],
                            [client("heavy", 3) for _ in range(60)])  # fmt: skip
        await server.within(120, *many, *few, *heavy)
        assert served["many"] == pytest.approx(served["few"], rel=0.1)
        assert served["heavy"] == pytest.approx(3 * served["few"], rel=0.1)

    run(test())


def test_a_full_queue_refuses_the_flow_that_fills_it_and_not_the_others() -> None:
    async def test() -> None:
        admission = Admission(1, 4)
        order: list[str] = []

        async def visit(name: str, flow: str) -> None:
            async with admission.place(1, flow=flow):
                order.append(name)
                await asyncio.sleep(1)

        greedy = [asyncio.create_task(visit(f"greedy {i}", "greedy")) for i in range(5)]
        await asyncio.sleep(0)
        modest = asyncio.create_task(visit("modest", "modest"))
        refusals = [r for r in await asyncio.gather(*greedy, return_exceptions=True) if r is not None]
        assert [getattr(r, "reason", None) for r in refusals] == ["queue_full"]
        await modest
        assert "greedy 4" not in order  # the last of the longest
        assert order.index("modest") <= 2

    run(test())


def test_ten_times_overloaded_a_server_that_bounds_the_wait_keeps_its_goodput() -> None:
    """Clients wait for three seconds. Where all may wait longer than that, most answers come too late."""

    async def goodput(load: float, max_wait: float) -> float:
        admission = Admission(10, 10**6, max_wait=max_wait)
        answered = [0]

        async def serve() -> None:
            async with admission.place(1, tokens=TOKENS):
                await asyncio.sleep(0.5)

        async def client() -> None:
            clock = asyncio.get_running_loop().time
            came = clock()
            with suppress(Overloaded):
                await serve()
                answered[0] += clock() - came <= 3

        tasks = []
        for _ in range(round(30 * load * 20)):
            tasks.append(asyncio.create_task(client()))
            await asyncio.sleep(1 / (20 * load))
        await asyncio.gather(*tasks)
        assert admission.idle
        return answered[0] / 30

    peak = max(run(goodput(load, 2)) for load in (0.8, 1.0))
    assert run(goodput(10, 2)) >= 0.9 * peak
    assert run(goodput(10, 600)) < 0.5 * peak


def test_what_would_wait_too_long_is_refused_at_once_and_knows_when_to_come_back() -> None:
    async def test() -> None:
        admission = Admission(1, 10**6, max_wait=20)
        clock = asyncio.get_running_loop().time

        async def visit() -> None:
            async with admission.place(1):
                await asyncio.sleep(2)

        waiting = [asyncio.create_task(visit()) for _ in range(10)]
        await asyncio.sleep(19)  # nine have started: the rate is known
        waiting += [asyncio.create_task(visit()) for _ in range(11)]
        await asyncio.sleep(0)
        before = clock()
        with pytest.raises(Overloaded) as caught:
            await visit()
        assert clock() == before
        assert caught.value.reason == "wait_too_long"
        assert 1 <= caught.value.retry_after <= 5
        for ended in await asyncio.gather(*waiting, return_exceptions=True):
            assert ended is None or isinstance(ended, Overloaded)
        assert admission.idle

    run(test())


def test_no_request_waits_longer_than_it_may() -> None:
    async def test() -> None:
        admission = Admission(1, 10, max_wait=5)

        async def visit(seconds: float) -> None:
            async with admission.place(1):
                await asyncio.sleep(seconds)

        long = asyncio.create_task(visit(100))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="has waited for 5 s"):
            await visit(1)
        assert asyncio.get_running_loop().time() == 5
        assert admission.queued == 0
        await long

    run(test())


acts = st.lists(
    st.tuples(st.sampled_from(["come", "come", "sleep", "cancel"]), st.integers(0, 9), st.integers(1, 12)), max_size=40
)


@settings(max_examples=150, deadline=None)
@given(acts=acts, capacity=st.sampled_from([1, 2, 3, 8]))
def test_whatever_comes_and_leaves_all_places_come_back_and_all_are_served(
    acts: list[tuple[str, int, int]], capacity: int
) -> None:
    async def test() -> None:
        server = Server(Admission(capacity, 20, narrow=2, wide_share=3, max_wait=50))
        tasks: list[asyncio.Task[None]] = []
        for act, i, width in acts:
            if act == "come":
                name = f"{i % 3}"
                tasks.append(asyncio.create_task(server.request(name, width, name, 1 + i % 2, i % 2)))
            elif act == "sleep":
                await asyncio.sleep(0 if i < 3 else i / 20)
            elif tasks:
                tasks[i % len(tasks)].cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert ended is None or isinstance(ended, asyncio.CancelledError | Overloaded)
        assert server.admission.idle
        assert server.admission.running(wide=True) == server.admission.running(wide=False) == 0
        assert server.peak <= max(capacity, 12 if capacity == 1 else 0)

    run(test())
