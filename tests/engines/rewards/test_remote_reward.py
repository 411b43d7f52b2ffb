"""A reward on another server, which speaks as vLLM's /classify and /pooling do."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest

from decoders.core import Candidate, Prompt
from decoders.errors import RewardFailed
from server.engines.rewards.batcher import Batcher, Pair
from server.engines.rewards.remote_reward import RemoteReward
from server.engines.rewards.reward_timeout import RewardWithTimeout
from server.engines.text.model_text import ModelText
from server.settings import HttpReward, SettingsError
from tests.support.serving import PATIENCE, Json
from tests.support.templates import BEGUN, made

Answer = Callable[[Json], httpx.Response]
CLASSIFY = "http://judge:8000/classify"
POOLING = "http://judge:8000/pooling"
CHAT = ({"role": "user", "content": "hi"},)


def pair(prompt: str, completion: str, messages: tuple[dict[str, str], ...] | None = None) -> Pair:
    return Prompt((1,), prompt, messages), Candidate((1,), completion, "stop")


def rewards(body: Json, url: str = CLASSIFY, others: tuple[float, ...] = ()) -> httpx.Response:
    """What vLLM answers: here the length of each text, and other outputs; in an order that only `index` tells."""
    texts = body["input"] if "input" in body else ["".join(m["content"] for m in body["messages"])]
    values = [[float(len(text)), *others] for text in texts]
    if url == POOLING:
        data: list[Json] = [{"index": i, "object": "pooling", "data": v} for i, v in enumerate(values)]
    else:
        data = [{"index": i, "label": "LABEL_0", "probs": v, "num_classes": len(v)} for i, v in enumerate(values)]
    usage = {"prompt_tokens": 1, "total_tokens": 1, "completion_tokens": 0}
    return httpx.Response(200, json={"object": "list", "model": "judge", "data": data[::-1], "usage": usage})


@dataclass
class Judge:
    """The other server: keeps what it is asked, and answers by `answers` in turn, the last one again and again."""

    answers: list[Answer]
    bodies: list[Json] = field(default_factory=list)
    headers: list[httpx.Headers] = field(default_factory=list)

    def handle(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.bodies.append(body)
        self.headers.append(request.headers)
        return self.answers[min(len(self.bodies), len(self.answers)) - 1](body)

    def ask(self, *pairs: Pair, url: str = CLASSIFY, **settings: Any) -> list[float]:
        async def test() -> list[float]:
            remote = RemoteReward(HttpReward(url=url, **settings), httpx.MockTransport(self.handle))
            try:
                return await remote.score(pairs)
            finally:
                await remote.aclose()

        return run(test())


def run(test: Coroutine[Any, Any, list[float]]) -> list[float]:
    return asyncio.run(asyncio.wait_for(test, PATIENCE))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.engines.rewards.remote_reward.RETRY_AFTER", 0.001)


def test_a_completion_of_a_begun_turn_is_judged_with_its_beginning_as_one_turn() -> None:
    judge = Judge([rewards])
    chat = (*CHAT, {"role": "assistant", "content": "he"})
    prompt = Prompt((1,), "hi he", chat, continues=True)
    assert judge.ask((prompt, Candidate((1,), "llo", "stop"))) == [7.0]
    assert judge.bodies[0]["messages"] == [*CHAT, {"role": "assistant", "content": "hello"}]
    assert prompt.messages == chat
    judge.ask(pair("hi", "llo", chat))
    assert judge.bodies[1]["messages"] == [*chat, {"role": "assistant", "content": "llo"}]


@pytest.mark.parametrize("url", [CLASSIFY, POOLING])
def test_texts_go_together_and_come_back_in_order(url: str) -> None:
    judge = Judge([lambda body: rewards(body, url)])
    assert judge.ask(pair("a", "bc"), pair("", "d"), pair("ab", "cd"), url=url) == [3.0, 1.0, 4.0]
    [body] = judge.bodies
    assert body.pop("task", None) == ("classify" if url == POOLING else None)
    assert body == {"input": ["abc", "d", "abcd"], "use_activation": False}


def test_a_chat_goes_as_messages_for_the_others_own_template() -> None:
    judge = Judge([rewards])
    assert judge.ask(pair("<hi>", "yes", CHAT), pair("a", "b"), pair("<hi>", "no", CHAT)) == [5.0, 2.0, 4.0]
    chats = [body for body in judge.bodies if "messages" in body]
    assert [body["messages"][-1] for body in chats] == [{"role": "assistant", "content": c} for c in ("yes", "no")]
    for body in chats:
        assert body["messages"][:-1] == list(CHAT)
        assert body["add_generation_prompt"] is False
    assert [body["input"] for body in judge.bodies if "input" in body] == [["ab"]]


@pytest.mark.parametrize(("template", "sent"), [("policy", "<u>hi</u>yes"), ("none", "hi\nyes")])
def test_a_chat_goes_as_text_where_the_settings_say_so(template: str, sent: str) -> None:
    judge = Judge([rewards])
    assert judge.ask(pair("<u>hi</u>", "yes", CHAT), pair("a", "b"), template=template) == [float(len(sent)), 2.0]
    [body] = judge.bodies
    assert body == {"input": [sent, "ab"], "use_activation": False}


def test_a_bos_that_the_policys_tokenizer_puts_before_a_text_is_left_to_the_other_server() -> None:
    policy = ModelText(made(BEGUN, begins=True), 1024, 384)
    judge = Judge([rewards])

    async def test() -> list[float]:
        prompts = [await policy.chat([{"role": "user", "content": "hi"}]), await policy.encode("<s>The")]
        assert all(prompt.text.startswith("<s>") for prompt in prompts)
        prompts.append(policy.given(prompts[1].tokens))
        settings = HttpReward(url=CLASSIFY, template="policy")
        remote = RemoteReward(settings, httpx.MockTransport(judge.handle), policy)
        try:
            return await remote.score([(prompt, Candidate((1,), " fox", "stop")) for prompt in prompts])
        finally:
            await remote.aclose()

    run(test())
    assert judge.bodies[0]["input"] == ["<user>hi<assistant> fox", "The fox", "The fox"]


def test_the_label_says_which_output_is_the_reward() -> None:
    judge = Judge([lambda body: rewards(body, others=(7.0,))])
    assert judge.ask(pair("a", "b"), label=0) == [2.0]
    assert judge.ask(pair("a", "b"), label=1) == [7.0]
    with pytest.raises(RewardFailed, match="2 outputs: set `label`"):
        judge.ask(pair("a", "b"))
    with pytest.raises(RewardFailed, match="something else than rewards"):
        judge.ask(pair("a", "b"), label=2)


def test_model_activation_and_key_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "dk-secret")
    judge = Judge([rewards])
    judge.ask(pair("a", "b"), model="judge", activation=True, api_key_env="JUDGE_KEY")
    assert judge.bodies[0]["model"] == "judge"
    assert judge.bodies[0]["use_activation"] is True
    assert judge.headers[0]["authorization"] == "Bearer dk-secret"
    judge.ask(pair("a", "b"))
    assert "model" not in judge.bodies[1]
    assert "authorization" not in judge.headers[1]


def test_a_key_that_is_not_there_is_a_mistake_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(SettingsError, match="JUDGE_KEY, which is not set"):
        RemoteReward(HttpReward(url=CLASSIFY, api_key_env="JUDGE_KEY"))


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


def test_one_chat_that_fails_stops_the_others() -> None:
    async def test() -> list[float]:
        ended = list[str]()

        async def handle(request: httpx.Request) -> httpx.Response:
            text = json.loads(request.content)["messages"][-1]["content"]
            try:
                if text == "slow":
                    await asyncio.Event().wait()
                return httpx.Response(500)
            finally:
                ended.append(text)

        remote = RemoteReward(HttpReward(url=CLASSIFY), httpx.MockTransport(handle))
        with pytest.raises(RewardFailed):
            await remote.score([pair("", "slow", CHAT), pair("", "bad", CHAT)])
        assert sorted(ended) == ["bad", "slow"]
        await remote.aclose()
        return []

    run(test())


def test_a_real_connection_that_nobody_answers_fails_by_name() -> None:
    async def test() -> list[float]:
        remote = RemoteReward(HttpReward(url="http://127.0.0.1:9/classify"))
        reward = RewardWithTimeout("judge", Batcher(remote.score, 64, PATIENCE), PATIENCE)
        prompt, candidate = pair("a", "b")
        with pytest.raises(RewardFailed, match=r"The reward 'judge' failed: http://127\.0\.0\.1:9/classify: Connect"):
            await reward.score(prompt, [candidate])
        await remote.aclose()
        return []

    run(test())
