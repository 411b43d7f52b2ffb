"""POST /v1/completions with `echo`, and prompts that are only scored."""

from collections.abc import AsyncGenerator
from dataclasses import replace

import openai
import pytest

from decoders import STRATEGIES
from decoders.base import Decoder
from decoders.core import Candidate, Prompt, Rng, Sampling, TokenLogprob
from decoders.testing import DelegatingPolicy
from server.engines.toy_text import ToyText
from tests.decoders.test_contract import instance, name_of
from tests.support.fakes import world
from tests.support.serving import Api, Json, events, ok, refused, serving, texts


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
