"""POST /v1/completions: what comes back, on the toy."""

import math
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace

import openai
import pytest

from decoders import STRATEGIES
from decoders.base import Decoder
from decoders.core import Candidate, Prompt, Rng, Sampling, TokenLogprob
from server.engines.toy import WORDS, ToyPolicy, ToyReward, ToyText
from server.loading import toy
from tests.decoders.test_contract import instance, name_of
from tests.support.delegating import DelegatingPolicy
from tests.support.fakes import world
from tests.support.serving import Api, Json, events, ok, refused, serving


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving(toy()) as api:
        yield api


def texts(body: Json) -> list[str]:
    return [choice["text"] for choice in body["choices"]]


def reward(text: str) -> float:
    return ToyReward().of(tuple(WORDS.index(f" {word}") for word in text.split()))


@pytest.mark.parametrize(
    ("prompt", "count", "tokens"),
    [("good bad", 1, 2), (["good", "bad odd"], 2, 3), ([1, 2], 1, 2), ([[1], [2, 4]], 2, 3)],
    ids=["text", "texts", "token ids", "lists of token ids"],
)
def test_a_prompt_has_four_forms(api: Api, prompt: object, count: int, tokens: int) -> None:
    body = api.complete(prompt)
    assert body["object"] == "text_completion"
    assert body["model"] == "toy"
    assert body["id"].startswith("cmpl-")
    assert [choice["index"] for choice in body["choices"]] == list(range(count))
    assert body["usage"]["prompt_tokens"] == tokens


def test_text_and_its_token_ids_are_the_same_prompt(api: Api) -> None:
    assert texts(api.complete("good odd", n=8, seed=3)) == texts(api.complete([1, 4], n=8, seed=3))


def test_choices_follow_the_prompts_n_of_each(api: Api) -> None:
    prompts = ["good", "bad", "odd odd"]
    body = api.complete(prompts, n=2, echo=True)
    assert [choice["index"] for choice in body["choices"]] == list(range(6))
    for choice in body["choices"]:
        assert choice["text"].startswith(prompts[choice["index"] // 2])


@pytest.mark.parametrize("strategy", ["sample", "best_of_n"])
def test_a_seed_makes_the_answer_reproducible(api: Api, strategy: str) -> None:
    def ask(seed: int) -> list[str]:
        return texts(api.complete(["good", "good"], seed=seed, n=4, decoding={"strategy": strategy}))

    assert ask(7) == ask(7)
    assert len({tuple(ask(seed)) for seed in range(5)}) > 1
    assert ask(7)[:4] != ask(7)[4:], "equal prompts of one request are drawn apart"


def test_without_a_seed_answers_differ(api: Api) -> None:
    assert len({tuple(texts(api.complete(n=8))) for _ in range(4)}) > 1


def test_max_tokens_cuts_and_is_sixteen_by_default(api: Api) -> None:
    short = api.complete(max_tokens=1, n=32, seed=1)
    assert {choice["finish_reason"] for choice in short["choices"]} == {"stop", "length"}
    assert short["usage"] == {"prompt_tokens": 1, "completion_tokens": 32, "total_tokens": 33}
    assert {choice["finish_reason"] for choice in api.complete(n=8)["choices"]} == {"stop"}


def test_logprobs_are_the_models_and_offsets_count_characters(api: Api) -> None:
    for choice in api.complete("good", n=8, logprobs=2, temperature=0.5)["choices"]:
        logprobs = choice["logprobs"]
        tokens = [WORDS.index(t) for t in logprobs["tokens"]]
        assert "".join(logprobs["tokens"]) == choice["text"]
        for i, token in enumerate(tokens):
            law = ToyPolicy().logprobs((1,), tuple(tokens[:i]))
            assert logprobs["token_logprobs"][i] == pytest.approx(law[token])
            likeliest = sorted((v for v in law if v > -math.inf), reverse=True)[:2]
            have = list(logprobs["top_logprobs"][i].values())
            assert have[:2] == pytest.approx(likeliest)
            assert have[2:] in ([], [logprobs["token_logprobs"][i]])  # what was drawn is always among them
            assert logprobs["top_logprobs"][i][WORDS[token]] == logprobs["token_logprobs"][i]
            assert logprobs["text_offset"][i] == len("".join(logprobs["tokens"][:i]))


def test_there_are_no_logprobs_unless_asked_for(api: Api) -> None:
    assert api.complete()["choices"][0]["logprobs"] is None
    logprobs = api.complete(logprobs=0)["choices"][0]["logprobs"]
    drawn = zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True)
    assert logprobs["top_logprobs"] == [{token: logprob} for token, logprob in drawn]


def test_echo_puts_the_prompt_first(api: Api) -> None:
    plain, echoed = api.complete("bad odd", seed=5), api.complete("bad odd", seed=5, echo=True)
    assert texts(echoed) == ["bad odd" + texts(plain)[0]]
    assert echoed["usage"] == plain["usage"]


def test_echo_with_no_tokens_gives_the_prompt_alone(api: Api) -> None:
    [choice] = api.complete("bad odd", echo=True, max_tokens=0)["choices"]
    assert choice["text"] == "bad odd"
    assert choice["finish_reason"] == "length"


class PromptReader(DelegatingPolicy):
    """The toy, which also knows log-probabilities of the prompt's tokens: minus their ids."""

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        words = prompt.text.split(" ")
        known = [TokenLogprob(t, f" {w}", -float(t)) for t, w in zip(prompt.tokens, words, strict=True)]
        once = {} if sampling.prompt_logprobs is None else dict.fromkeys(range(n), (None, *known[1:]))
        async for i, candidate in self.inner.sample(prompt, n, sampling, rng, pieces=pieces):
            yield i, replace(candidate, prompt_logprobs=once.pop(i, None))  # of the first piece alone


class AllowingText(ToyText):
    def check(self, sampling: Sampling) -> None:
        """Everything goes."""


@pytest.mark.parametrize("stream", [False, True])
def test_echo_with_logprobs_scores_the_prompt(stream: bool) -> None:
    prompt = "good bad odd"
    with serving(world(PromptReader(), text=AllowingText())) as api:
        client = openai.OpenAI(base_url=f"{api.url}/v1", api_key="any")
        if stream:
            chunks = client.completions.create(model="toy", prompt=prompt, echo=True, logprobs=1, stream=True)
            parts = [chunk.choices[0] for chunk in chunks]
        else:
            parts = [client.completions.create(model="toy", prompt=prompt, echo=True, logprobs=1).choices[0]]
        bare = api.complete(prompt, echo=True, logprobs=1, max_tokens=0)["choices"][0]
    text = "".join(part.text for part in parts)
    tokens = [t for part in parts if part.logprobs for t in part.logprobs.tokens or ()]
    offsets = [o for part in parts if part.logprobs for o in part.logprobs.text_offset or ()]
    assert text.startswith(prompt)
    assert "".join(tokens) == text
    assert offsets == [len("".join(tokens[:i])) for i in range(len(tokens))]
    assert bare["logprobs"]["tokens"] == ["good", " bad", " odd"]
    assert bare["logprobs"]["token_logprobs"] == [None, -2.0, -4.0]
    assert bare["logprobs"]["text_offset"] == [0, 4, 8]


@pytest.mark.parametrize("decoding", [{}, {"strategy": "reward_guided", "guides": {"kind": 1.0}, "reward": "default"}])
def test_a_prompt_that_is_only_scored_draws_and_costs_nothing(api: Api, decoding: Json) -> None:
    more = {"decoding": decoding} if decoding else {}
    for seed in range(24, 32):  # two of these would draw the end first
        body = {"prompt": ["odd", "bad odd"], "echo": True, "max_tokens": 0, "n": 2, "seed": seed, **more}
        whole = ok(api.post("completions", body))
        assert whole["usage"] == {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
        if decoding:
            cost = whole["decoding"]["cost"]
            assert (cost["generated_tokens"], cost["returned_tokens"]) == (0, 0)
            assert [result["rewards"] for result in whole["decoding"]["results"]] == [{"default": 0.0}] * 4
        streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
        chunks, _ = events(api.post("completions", streamed).text)
        assert chunks[-1]["usage"] == whole["usage"]
        for choices in (whole["choices"], [chunk["choices"][0] for chunk in chunks[:-1]]):
            said = {choice["index"]: (choice["text"], choice["finish_reason"]) for choice in choices}
            assert said == dict(enumerate([("odd", "length")] * 2 + [("bad odd", "length")] * 2))


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES if not s.scores_prompts])
def test_a_strategy_that_chooses_refuses_to_draw_nothing(api: Api, strategy: type[Decoder]) -> None:
    decoding = instance(strategy).model_dump(exclude_defaults=True) | {"strategy": name_of(strategy)}
    error = refused(
        api.post("completions", {"prompt": "odd", "echo": True, "max_tokens": 0, "decoding": decoding}), 400
    )
    assert error["param"] == "max_tokens"


class Few(ToyText):
    """The toy, as an engine whose `max_logprobs` is small would be."""

    max_logprobs = 2


def test_more_logprobs_than_the_model_reports_are_refused_by_name() -> None:
    with serving(world(text=Few())) as few, serving(toy()) as api:
        for client, most in ((few, 2), (api, len(WORDS))):
            assert client.complete(logprobs=most)["choices"][0]["logprobs"]
            error = refused(client.post("completions", {"prompt": "odd", "logprobs": most + 1}), 400)
            assert (error["param"], str(most) in error["message"]) == ("logprobs", True)
            messages = [{"role": "user", "content": "odd"}]
            chat = {"messages": messages, "logprobs": True, "top_logprobs": most + 1}
            error = refused(client.post("chat/completions", chat), 400)
            assert (error["param"], str(most) in error["message"]) == ("top_logprobs", True)


def test_the_openai_client_reads_a_completion(api: Api) -> None:
    client = openai.OpenAI(base_url=f"{api.url}/v1", api_key="any")
    whole = client.completions.create(model="toy", prompt="good", n=2, seed=4, extra_body={"top_k": 2})
    chunks = list(
        client.completions.create(
            model="toy", prompt="good", n=2, seed=4, stream=True, stream_options={"include_usage": True},
            extra_body={"top_k": 2},
        )
    )  # fmt: skip
    for index, choice in enumerate(whole.choices):
        pieces = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == index]
        assert "".join(piece.text for piece in pieces) == choice.text
        assert [piece.finish_reason for piece in pieces if piece.finish_reason] == [choice.finish_reason]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage


def test_decoding_is_reported_only_where_it_is_asked_for(api: Api) -> None:
    assert "decoding" not in api.complete()
    report = api.complete(decoding={"strategy": "sample"})["decoding"]
    assert report["strategy"] == "sample"
    assert report["results"] == [{"rewards": {}}]
    assert "candidates" not in report


def test_best_of_n_returns_the_best_of_its_candidates(api: Api) -> None:
    decoding = {"strategy": "best_of_n", "n": 16, "return_candidates": True}
    body = api.complete(["good", "bad"], decoding=decoding)
    report = body["decoding"]
    for p, choice in enumerate(body["choices"]):
        candidates = [c for c in report["candidates"] if c["prompt"] == p]
        assert [c["index"] for c in candidates] == list(range(16))
        rewards = [c["rewards"]["default"] for c in candidates]
        assert rewards == [reward(c["text"]) for c in candidates]
        assert [c["text"] for c in candidates if c["chosen"]] == [choice["text"]]
        assert reward(choice["text"]) == max(rewards) == report["results"][p]["rewards"]["default"]
        assert report["results"][p]["mean_rewards"]["default"] == pytest.approx(sum(rewards) / 16)
        assert report["results"][p]["draws"] == 16
    cost = report["cost"]
    assert cost["candidates"] == 32
    assert cost["generated_tokens"] == sum(c["tokens"] for c in report["candidates"])
    assert cost["scored_tokens"] == cost["generated_tokens"] + 32
    assert cost["returned_tokens"] == sum(c["tokens"] for c in report["candidates"] if c["chosen"])
    assert set(cost["seconds"]) == {"queue", "generate", "score", "select"}
    assert body["usage"]["completion_tokens"] == cost["generated_tokens"]


def test_n_of_best_of_n_are_the_n_best_in_order(api: Api) -> None:
    body = api.complete(n=3, decoding={"strategy": "best_of_n", "n": 12, "return_candidates": True})
    every = sorted((c["rewards"]["default"] for c in body["decoding"]["candidates"]), reverse=True)
    assert [reward(text) for text in texts(body)] == every[:3]
    assert [result["rewards"]["default"] for result in body["decoding"]["results"]] == every[:3]


def test_several_rewards_count_by_their_weights(api: Api) -> None:
    weights = {"default": 1.0, "brevity": 2.5}
    decoding = {"strategy": "best_of_n", "n": 12, "reward": weights, "return_candidates": True}
    for seed in range(4):
        report = api.complete(seed=seed, decoding=decoding)["decoding"]
        totals = [sum(w * c["rewards"][name] for name, w in weights.items()) for c in report["candidates"]]
        assert [t for t, c in zip(totals, report["candidates"], strict=True) if c["chosen"]] == [max(totals)]


def test_kl_comes_on_request_with_its_estimator(api: Api) -> None:
    def kl(**decoding: object) -> Json:
        result: Json = api.complete(seed=1, decoding=decoding)["decoding"]["results"][0]
        return result

    assert kl(strategy="sample", return_kl=True)["kl"] == {
        "nats": 0.0,
        "estimator": "exact",
        "reference": "policy",
    }
    assert "kl" not in kl(strategy="best_of_n", n=4)
    best = kl(strategy="best_of_n", n=4, return_kl=True, batch=2)["kl"]
    assert 0 < best["nats"] <= math.log(4)
    assert (best["estimator"], best["reference"]) == ("atomic", "policy")


@pytest.mark.parametrize(
    ("loaded", "used"), [(("default", "other"), "default"), (("other",), "other"), (("some", "other"), None)]
)
def test_without_a_name_the_default_reward_counts_or_else_the_only_one(
    loaded: tuple[str, ...], used: str | None
) -> None:
    with serving(world(rewards={name: ToyReward() for name in loaded})) as api:
        response = api.post("completions", {"prompt": "good", "decoding": {"strategy": "best_of_n"}})
        if used is not None:
            assert list(ok(response)["decoding"]["results"][0]["rewards"]) == [used]
        else:
            error = refused(response, 400)
            assert error["param"] == "decoding.reward"
            assert "other, some" in error["message"]
