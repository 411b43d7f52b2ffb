"""What a client and the log read of a reward that fails: the client no text of others, the log all of it."""

from collections.abc import Callable, Sequence

import httpx
import pytest

from decoders.errors import RewardFailed
from decoders.models import Reward
from server.engines.rewards.batcher import Batcher
from server.engines.rewards.function_call import RewardCall
from server.engines.rewards.function_reward import call_in_thread
from server.engines.rewards.remote_reward import RemoteReward
from server.settings import HttpReward
from tests.support.fakes import raising, world
from tests.support.serving import Json, refused, serving

SECRET = "swordfish"
URL = f"http://user:{SECRET}@judge.internal:8000/classify"
BEST: Json = {"prompt": "good", "decoding": {"strategy": "best_of_n", "n": 2}}


def remote(answer: Callable[[httpx.Request], httpx.Response], url: str = URL) -> Reward:
    reward = RemoteReward(HttpReward(url=url, retries=0, max_reply_bytes=1000), httpx.MockTransport(answer))
    return Batcher(reward.score, 64, 30.0)


def says(status: int, text: str, **headers: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(status, text=text, headers=headers)


def fails(error: type[httpx.TransportError]) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error(f"[Errno 111] {SECRET}", request=request)

    return answer


def function(act: Callable[[Sequence[str]], object]) -> Reward:
    return Batcher(call_in_thread(RewardCall(lambda _, texts: act(texts), None)), 64, 30.0)


def raises(texts: Sequence[str]) -> object:
    raise KeyError(SECRET + texts[0])


FAILED = "The reward 'default' failed"
CASES: list[tuple[Reward, str]] = [
    (remote(says(500, f"Traceback: {SECRET}")), f"{FAILED}: its server answered 500"),
    (remote(says(200, f'"{SECRET}"')), f"{FAILED}: its server answered something else than rewards"),
    (remote(says(200, f'{{"data": [{{"index": "{SECRET}"}}]}}')), f"{FAILED}: its server answered something else than"),
    (remote(says(200, '{"data": []}')), f"{FAILED}: its server gave 0 rewards for 1 completions"),
    (remote(says(200, SECRET * 200)), f"{FAILED}: its server answered with more than `max_reply_bytes`, 1000 bytes"),
    (remote(fails(httpx.ConnectError)), f"{FAILED}: its server could not be reached"),
    (remote(fails(httpx.ReadTimeout)), f"{FAILED}: its server took too long"),
    (
        remote(says(200, '{"rewards": []}'), URL.replace("classify", "get_reward")),
        f"{FAILED}: its server gave 0 rewards",
    ),
    (function(raises), f"{FAILED}: it raised KeyError"),
    (function(lambda _: SECRET), f"{FAILED}: it gave something else than a list of numbers"),
    (function(lambda texts: [SECRET] * len(texts)), f"{FAILED}: the score of completion 0 is not a number"),
    (function(lambda _: []), f"{FAILED}: gave 0 rewards for 1 completions"),
    (raising(ValueError(SECRET)), f"{FAILED}: it raised ValueError"),
    (raising(RewardFailed(SECRET)), f"{FAILED}. The server's log says why."),
]


@pytest.mark.parametrize(("reward", "words"), CASES, ids=[words[len(FAILED) :] for _, words in CASES])
def test_a_client_reads_what_failed_and_the_log_why(
    reward: Reward, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(world(rewards={"default": reward})) as api:
        for body in (BEST, {**BEST, "stream": True}):
            answer = api.post("completions", {**body, "decoding": {"strategy": "best_of_n", "n": 1}})
            error = refused(answer, 502)
            assert error["message"].startswith(words)
            assert error["code"] == "reward_failed"
            for hidden in (SECRET, "judge.internal", "Traceback", "http"):
                assert hidden not in answer.text
        scored = api.post("rewards", {"prompt": "good", "completions": ["bad"]})
        assert refused(scored, 502)["message"].startswith(words)
        classified = api.http.post("/classify", json={"input": "bad"})
        assert refused(classified, 502)["message"].startswith(words)
    assert FAILED in caplog.text
    if not words.endswith("1 completions"):
        assert any(secret in caplog.text for secret in (SECRET, "judge.internal"))


def test_the_log_says_where_a_function_raised(caplog: pytest.LogCaptureFixture) -> None:
    with serving(world(rewards={"default": function(raises)})) as api:
        refused(api.post("completions", BEST), 502)
    assert "the reward 'default' raised" in [r.getMessage() for r in caplog.records if r.exc_info is not None]
    assert "raise KeyError(SECRET + texts[0])" in caplog.text
