"""A reward model on another server: what counts as its answer, and what is tried again."""

from functools import partial

import httpx
import pytest

from decoders.errors import RewardFailed
from tests.support.remote_judge import CLASSIFY, POOLING, Judge, pair, rewards
from tests.support.serving import Json


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.engines.rewards.remote_reward.RETRY_AFTER", 0.001)


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_server_that_is_busy_is_asked_again(status: int) -> None:
    judge = Judge([lambda _: httpx.Response(status), rewards])
    assert judge.ask(pair("a", "b")) == [2.0]
    assert len(judge.bodies) == 2
    with pytest.raises(RewardFailed, match=f"{CLASSIFY} answered {status}"):
        Judge([lambda _: httpx.Response(status)]).ask(pair("a", "b"), retries=3)


def test_a_connection_that_is_refused_is_tried_again() -> None:
    def refuse(_: Json) -> httpx.Response:
        raise httpx.ConnectError("refused")

    assert Judge([refuse, refuse, rewards]).ask(pair("a", "b"), retries=2) == [2.0]
    judge = Judge([refuse])
    with pytest.raises(RewardFailed, match=f"{CLASSIFY}: ConnectError: refused"):
        judge.ask(pair("a", "b"), retries=2)
    assert len(judge.bodies) == 3


def test_a_timeout_is_not_tried_again() -> None:
    def slow(_: Json) -> httpx.Response:
        raise httpx.ReadTimeout("slow")

    judge = Judge([slow])
    with pytest.raises(RewardFailed, match=f"{CLASSIFY}: ReadTimeout"):
        judge.ask(pair("a", "b"), retries=2)
    assert len(judge.bodies) == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500, text="out of memory"),
        httpx.Response(404, json={"error": "no such model"}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, content=b"\xff\xfe\x00"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"data": None}),
        httpx.Response(200, json={"data": []}),
        httpx.Response(200, json={"data": [{"index": 0}]}),
        httpx.Response(200, json={"data": [{"index": 0, "probs": ["high"]}]}),
        httpx.Response(200, json={"data": [{"index": 0, "probs": [[1.0]]}]}),
        httpx.Response(200, json={"data": [{"index": 0, "probs": None}]}),
        httpx.Response(200, json={"data": [{"index": i, "probs": [1.0]} for i in range(2)]}),
        httpx.Response(200, json={"data": {"0": {"index": 0, "probs": [1.0]}}}),
        httpx.Response(200, json={"data": [[1.0]]}),
        httpx.Response(200, json={"data": [{"probs": [1.0]}]}),
        *(
            httpx.Response(200, json={"data": [{"index": index, "probs": [1.0]}]})
            for index in (1, -1, 0.0, True, False, "0", None, [0])
        ),
        *(
            httpx.Response(200, json={"data": [{"index": 0, "probs": probs}]})
            for probs in (["1.5"], [True], [None], [{"score": 1.0}], {"0": 1.0}, "1", 1.0, [], [10**400])
        ),
        *(
            httpx.Response(200, text=f'{{"data": [{{"index": 0, "probs": [{number}]}}]}}')
            for number in ("NaN", "Infinity", "-Infinity", "1e400")
        ),
    ],
    ids=lambda answer: f"{answer.status_code} {answer.content[:60]!r}",
)
def test_any_other_answer_is_a_failure_that_names_the_url(answer: httpx.Response) -> None:
    judge = Judge([lambda _: answer])
    with pytest.raises(RewardFailed, match=CLASSIFY):
        judge.ask(pair("a", "b"), retries=2)
    assert len(judge.bodies) == 1


@pytest.mark.parametrize("indices", [(0, 0), (1, 1), (0, 2), (-1, 0), (0, 1, 1), (0, 1, 2), (0,), (1,), ()])
@pytest.mark.parametrize("url", [CLASSIFY, POOLING])
def test_every_completion_has_its_row_and_no_other_has_one(url: str, indices: tuple[int, ...]) -> None:
    data = [{"index": i, "probs": [1.0], "data": [1.0]} for i in indices]
    judge = Judge([lambda _: httpx.Response(200, json={"data": data})])
    with pytest.raises(RewardFailed, match=url):
        judge.ask(pair("a", "b"), pair("c", "d"), url=url)


@pytest.mark.parametrize("data", [["1.5"], [True], [None], {"0": 1.0}, "AACAPw==", 1.0, [[1.0]], [[0.5, 1.5]]])
def test_what_pooling_gives_for_other_tasks_and_encodings_is_no_reward(data: object) -> None:
    judge = Judge([lambda _: httpx.Response(200, json={"data": [{"index": 0, "data": data}]})])
    with pytest.raises(RewardFailed, match="something else than rewards"):
        judge.ask(pair("a", "b"), url=POOLING)


@pytest.mark.parametrize(("written", "reward"), [("1", 1.0), ("-0.0", 0.0), ("1e-05", 1e-5), ("-3.5E2", -350.0)])
def test_a_number_is_a_reward_however_it_is_written(written: str, reward: float) -> None:
    row = f'{{"index": 0, "label": null, "probs": [{written}], "num_classes": 1}}'
    judge = Judge([lambda _: httpx.Response(200, text=f'{{"object": "list", "data": [{row}]}}')])
    assert judge.ask(pair("a", "b")) == [reward]


@pytest.mark.engine
def test_vllms_own_answers_are_read() -> None:
    import torch
    from vllm.entrypoints.pooling.classify.protocol import ClassificationData, ClassificationResponse
    from vllm.entrypoints.pooling.pooling.protocol import PoolingResponse, PoolingResponseData
    from vllm.entrypoints.pooling.utils import encode_pooling_output_float
    from vllm.entrypoints.serve.engine.protocol import UsageInfo
    from vllm.outputs import ClassificationOutput, PoolingOutput, PoolingRequestOutput

    def output(*values: float) -> "PoolingRequestOutput[PoolingOutput]":
        return PoolingRequestOutput("a", PoolingOutput(torch.tensor(values)), [1, 2], 0, True)

    for values in ((1.5,), (-2.0, 0.25)):
        given = [output(*values), output(*(-v for v in values))]
        probs = [ClassificationOutput.from_base(one.outputs).probs for one in given]
        rows = [
            ClassificationData(index=i, label=label, probs=p, num_classes=len(p))
            for i, (p, label) in enumerate(zip(probs, ("LABEL_0", None), strict=True))
        ]
        poolings = [PoolingResponseData(index=i, data=encode_pooling_output_float(one)) for i, one in enumerate(given)]
        answers = {
            CLASSIFY: ClassificationResponse(model="judge", data=rows, usage=UsageInfo()),
            POOLING: PoolingResponse(model="judge", data=poolings, usage=UsageInfo()),
        }
        for url, answer in answers.items():
            body = answer.model_dump_json()
            judge = Judge([partial(lambda text, _: httpx.Response(200, text=text), body)])
            label = len(values) - 1
            assert judge.ask(pair("a", "b"), pair("c", "d"), url=url, label=label) == [values[label], -values[label]]
