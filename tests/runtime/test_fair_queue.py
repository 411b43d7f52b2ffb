"""Start-time fair queueing: the bound between flows, the order inside one, and corrections."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from server.runtime.fair_queue import FairQueue
from server.runtime.service_rate import LEAST, ServiceRate

costs = st.lists(st.integers(1, 50), min_size=40, max_size=40)
flows = st.dictionaries(st.sampled_from("abcd"), st.tuples(st.sampled_from([1, 2, 8]), costs), min_size=2)


@given(flows=flows, starts=st.integers(1, 60))
def test_flows_with_work_waiting_get_service_by_weight(flows: dict[str, tuple[int, list[int]]], starts: int) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for name, (weight, own) in flows.items():
        for age, cost in enumerate(own):
            queue.push(name, weight, (0, age), cost, (name, cost))
    served = dict.fromkeys(flows, Fraction(0))
    left = {name: len(own) for name, (_, own) in flows.items()}
    for _ in range(starts):
        name, cost = queue.pop()
        queue.charge(name, flows[name][0], cost)
        served[name] += Fraction(cost, flows[name][0])
        left[name] -= 1
        if not min(left.values()):
            break  # the law is about flows that have work waiting
        for one in flows:
            for other in flows:
                bound = sum(Fraction(max(flows[f][1]), flows[f][0]) for f in (one, other))
                assert abs(served[one] - served[other]) <= bound


@given(weights=st.lists(st.sampled_from([1, 3]), min_size=2, max_size=5), costs=costs)
def test_no_flow_waits_for_ever(weights: list[int], costs: list[int]) -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("late", 1, (0, 10**6), 1, "late")
    for i, weight in enumerate(weights):
        queue.push(str(i), weight, (0, 0), 50, str(i))
    for age in range(50 * len(weights)):
        flow = queue.pop()
        if flow == "late":
            return
        queue.charge(flow, weights[int(flow)], costs[age % 40])
        queue.push(flow, weights[int(flow)], (0, age), 50, flow)
    raise AssertionError("the late flow is starved")


def test_a_flow_that_used_less_than_it_was_charged_is_served_earlier() -> None:
    queue: FairQueue[str] = FairQueue()
    for flow in "ab":
        queue.charge(flow, 1, 100)
        queue.push(flow, 1, (0, 0), 1, flow)
    assert queue.first() == "a"
    queue.settle("b", -60)
    assert queue.first() == "b"


def test_a_flow_alone_saves_nothing_and_owes_nothing() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(1000):
        queue.charge("busy", 1, 10)
    queue.push("new", 1, (0, 1), 10, "new")
    queue.push("busy", 1, (0, 2), 10, "busy")
    assert [queue.pop(), queue.pop()] == ["new", "busy"]


def test_inside_a_flow_the_order_is_by_priority_and_then_by_age() -> None:
    queue: FairQueue[str] = FairQueue()
    for age, (name, priority) in enumerate({"b": 0, "c": 0, "d": 5, "a": -1}.items()):
        queue.push("f", 1, (priority, age), 1, name)
    assert [queue.pop() for _ in "abcd"] == ["a", "b", "c", "d"]
    assert not queue


def test_what_is_ahead_of_a_flow_does_not_include_what_others_have_in_excess() -> None:
    queue: FairQueue[int] = FairQueue()
    for age in range(100):
        queue.push("greedy", 1, (0, age), 10, age)
    queue.push("modest", 1, (0, 100), 10, 100)
    assert queue.cost_ahead("new", 1) == 0
    assert queue.cost_ahead("modest", 1) == 20
    assert queue.cost_ahead("greedy", 1) == 1010
    assert queue.remove("greedy", 7)
    assert not queue.remove("greedy", 7)
    assert queue.cost_ahead("greedy", 1) == 1000


def test_a_rate_is_the_cost_that_starts_per_second_of_waiting() -> None:
    rate = ServiceRate()
    rate.waiting_since(100.0)
    for i in range(LEAST):
        assert rate.seconds(30) is None
        rate.started(100.0 + (i + 1) / 2, 5)
    seconds = rate.seconds(30)
    assert seconds is not None
    assert abs(seconds - 3) < 0.2
