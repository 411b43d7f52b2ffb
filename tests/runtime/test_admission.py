"""Which requests run, wait and are refused; and that a server that stops loses no request."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import Overloaded
from server.runtime.admission import Admission
from tests.decoders.test_bounds import Store
from tests.support.fakes import HeldPolicy, world
from tests.support.serving import PATIENCE, meanwhile, ok, refused, serving, until

BODY = {"prompt": "good"}


class Visitors:
    """Requests at one admission, each a task that holds its places until it is let go."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.inside: list[str] = []
        self.entered: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._leave: dict[str, asyncio.Event] = {}

    async def come(self, name: str, width: int) -> None:
        self._leave[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._visit(name, width))
        await settled()

    def go(self, name: str) -> None:
        self._leave[name].set()

    async def _visit(self, name: str, width: int) -> None:
        async with self.admission.place(width):
            self.inside.append(name)
            self.entered.append(name)
            try:
                await self._leave[name].wait()
            finally:
                self.inside.remove(name)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_first_come_first_served_and_no_narrow_request_is_overtaken() -> None:
    async def test() -> None:
        visitors = Visitors(Admission(3, 10, narrow=2, wide_share=1))
        for name, width in {"a": 2, "two": 2, "b": 1, "c": 1}.items():
            await visitors.come(name, width)
        assert visitors.inside == ["a"]  # b would fit, but is behind
        assert visitors.admission.queued == 3
        visitors.go("a")
        await settled()
        assert visitors.inside == ["two", "b"]
        visitors.go("two")
        await settled()
        assert visitors.inside == ["b", "c"]
        visitors.go("b")
        visitors.go("c")
        await settled()
        assert visitors.admission.idle

    asyncio.run(test())


def test_a_request_wider_than_all_places_takes_them_all() -> None:
    async def test() -> None:
        visitors = Visitors(Admission(2, 10))
        await visitors.come("huge", 100)
        await visitors.come("small", 1)
        assert visitors.inside == ["huge"]
        visitors.go("huge")
        await settled()
        assert visitors.inside == ["small"]
        visitors.go("small")
        await settled()

    asyncio.run(test())


def test_when_one_leaves_the_queue_those_behind_may_fit() -> None:
    async def test() -> None:
        visitors = Visitors(Admission(3, 10, narrow=2, wide_share=1))
        for name, width in {"a": 2, "two": 2, "b": 1}.items():
            await visitors.come(name, width)
        visitors.tasks["two"].cancel()
        await settled()
        assert visitors.inside == ["a", "b"]
        for name in "ab":
            visitors.go(name)
        await settled()

    asyncio.run(test())


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    async def test() -> None:
        visitors = Visitors(Admission(1, 2))
        for name in "abc":
            await visitors.come(name, 1)
        with pytest.raises(Overloaded) as caught:
            async with visitors.admission.place(1):
                raise AssertionError("it is let in")
        assert caught.value.reason == "queue_full"
        assert 1 <= caught.value.retry_after <= 60
        assert visitors.admission.queued == 2
        for task in visitors.tasks.values():
            task.cancel()
        await settled()
        assert visitors.admission.idle

    asyncio.run(test())


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_turn_that_comes_to_one_who_is_leaving_goes_to_the_next(order: str, turns: int) -> None:
    async def test() -> None:
        visitors = Visitors(Admission(1, 10))
        for name in "abc":
            await visitors.come(name, 1)
        for name in order:
            visitors.tasks[name].cancel()
            for _ in range(turns):
                await asyncio.sleep(0)
        await settled()
        assert visitors.inside == ["c"]
        visitors.go("c")
        await settled()
        assert visitors.admission.idle

    asyncio.run(test())


verbs = st.sampled_from(["come", "come", "go", "cancel", "cancel", "turn"])
act = st.tuples(verbs, st.integers(0, 5), st.integers(1, 4))
acts = st.lists(act, min_size=8, max_size=40)


@settings(max_examples=200, deadline=None)
@given(acts=acts)
def test_places_are_never_lost_nor_given_twice(acts: list[tuple[str, int, int]]) -> None:
    async def test() -> None:
        admission, held, tasks, widths = Admission(3, 100), [0], list[asyncio.Task[None]](), list[int]()
        leave: list[asyncio.Event] = []

        async def visit(i: int) -> None:
            async with admission.place(widths[i]) as place:
                own = place.held
                held[0] += own
                assert held[0] <= 3
                try:
                    await leave[i].wait()
                finally:
                    held[0] -= own

        for act, i, width in acts:
            if act == "come":
                widths.append(min(width, 3))
                leave.append(asyncio.Event())
                tasks.append(asyncio.create_task(visit(len(widths) - 1)))
            elif act == "turn":
                await asyncio.sleep(0)
            elif tasks and act == "go":
                leave[i % len(tasks)].set()
            elif tasks:
                tasks[i % len(tasks)].cancel()
        for event in leave:
            event.set()
        for ended in await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE):
            assert ended is None or isinstance(ended, asyncio.CancelledError)
        assert admission.idle

    asyncio.run(test())


def test_over_http_a_full_queue_is_a_503_with_retry_after() -> None:
    policy = HeldPolicy()
    with (
        serving(world(policy), max_sequences=2, max_queue=1) as api,
        meanwhile(lambda: api.post("completions", {**BODY, "n": 2})) as first,
    ):
        until(lambda: policy.working == 1)
        with meanwhile(lambda: api.post("completions", BODY)) as second:
            until(lambda: api.metric("decant_requests_queued") == 1)
            for stream in (False, True):
                response = api.post("completions", {**BODY, "stream": stream})
                error = refused(response, 503)
                assert error["code"] == "overloaded"
                assert int(response.headers["retry-after"]) >= 1
            assert api.metric("decant_refused_total", reason="queue_full") == 2
            assert policy.opened == 1
            policy.released.set()
        assert first.result().status_code == second.result().status_code == 200


def test_a_calibrated_request_on_a_cold_store_holds_places_for_its_rollouts() -> None:
    policy = HeldPolicy()
    loaded = world(policy)
    loaded.models = replace(loaded.models, calibration=Store())
    decoding = {"strategy": "best_of_n", "n": 1, "calibrated": True, "rollouts": 5}
    body = {"prompt": "good", "decoding": decoding}
    with serving(loaded, max_sequences=6) as api, meanwhile(lambda: api.post("completions", body)) as first:
        until(lambda: policy.working == 2)  # its candidate and its rollouts
        with meanwhile(lambda: api.post("completions", {"prompt": "good"})) as second:
            until(lambda: api.server.state.admission.queued == 1)
            policy.released.set()
            ok(first.result())
            ok(second.result())
        ok(api.post("completions", body))
        assert policy.opened == 4, "rollouts were drawn again"
