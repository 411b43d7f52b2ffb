"""A reward model on another server: what it is sent, and how calls end together."""

import asyncio
import json

import httpx
import pytest

from decoders.core import Candidate, Prompt
from decoders.errors import RewardFailed
from server.engines.rewards.batcher import Batcher
from server.engines.rewards.remote_reward import RemoteReward
from server.engines.rewards.reward_timeout import RewardWithTimeout
from server.engines.text import Chat
from server.engines.text.model_text import ModelText
from server.settings import HttpReward, SettingsError
from tests.support.remote_judge import CLASSIFY, GET_REWARD, POOLING, Judge, pair, rewards, run
from tests.support.serving import PATIENCE, Json
from tests.support.templates import BEGUN, made

CHAT = ({"role": "user", "content": "hi"},)


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
        prompts = [await policy.chat(Chat(({"role": "user", "content": "hi"},))), await policy.encode("<s>The")]
        assert all(prompt.text.startswith("<s>") for prompt in prompts)
        prompts.append(await policy.given(prompts[1].tokens))
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


def openrlhf(body: Json) -> httpx.Response:
    """What OpenRLHF's server answers: here the length of each query."""
    return httpx.Response(200, json={"rewards": [float(len(query)) for query in body["query"]]})


@pytest.mark.parametrize(("template", "sent"), [({}, "<u>hi</u>"), ({"template": "none"}, "hi\n")])
def test_openrlhf_gets_texts_and_their_prompts(template: Json, sent: str) -> None:
    judge = Judge([openrlhf])
    pairs = [pair("<u>hi</u>", "yes", CHAT), pair("a", "bc")]
    assert judge.ask(*pairs, url=GET_REWARD, **template) == [len(sent) + 3.0, 3.0]
    assert judge.bodies == [{"query": [f"{sent}yes", "abc"], "prompts": [sent, "a"]}]


@pytest.mark.parametrize("answer", [{"rewards": [[1.5], [2.0]]}, {"rewards": [1.5, 2], "scores": [0, 0]}])
def test_openrlhfs_answers_are_read(answer: Json) -> None:
    judge = Judge([lambda _: httpx.Response(200, json=answer)])
    assert judge.ask(pair("a", "b"), pair("a", "c"), url=GET_REWARD) == [1.5, 2.0]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"rewards": None},
        {"rewards": [1.0]},
        {"rewards": ["1", 2]},
        {"rewards": [[1, 2], 3]},
        {"rewards": [1, None]},
    ],
)
def test_anything_else_from_openrlhf_is_a_failure(answer: Json) -> None:
    judge = Judge([lambda _: httpx.Response(200, json=answer)])
    with pytest.raises(RewardFailed, match="get_reward"):
        judge.ask(pair("a", "b"), pair("a", "c"), url=GET_REWARD)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"template": "own"}, "set template"),
        ({"label": 0}, "has no label"),
        ({"activation": True, "model": "m"}, "has no activation, model"),
    ],
)
def test_what_openrlhf_has_not_is_refused_in_the_settings(fields: Json, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        HttpReward(url=GET_REWARD, **fields)
    assert HttpReward(url=GET_REWARD).reads == "policy"
    assert HttpReward(url=CLASSIFY).reads == "own"
