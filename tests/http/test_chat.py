"""POST /v1/chat/completions on the toy: messages, replies and lengths."""

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field

import openai
import pytest

from decoders.core import Candidate, Prompt, Rng, Sampling
from decoders.testing import WORDS, DelegatingPolicy, ToyPolicy
from tests.support.fakes import world
from tests.support.serving import Api, ok, refused, serving


@pytest.fixture(scope="module")
def client(api: Api) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{api.url}/v1", api_key="any")


@dataclass
class RecordingPolicy(DelegatingPolicy):
    """The toy, which keeps the prompts that it was given."""

    prompts: list[Prompt] = field(default_factory=list)

    def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        self.prompts.append(prompt)
        return super().sample(prompt, n, sampling, rng, pieces=pieces)


def test_messages_reach_the_policy_as_chat_templates_know_them() -> None:
    policy = RecordingPolicy()
    with serving(world(policy)) as api:
        messages = [
            {"role": "developer", "content": "plain"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "go"}, {"type": "text", "text": "od"}],
                "name": "A",
            },
            {"role": "assistant", "content": "odd"},
            {"role": "user", "content": "bad"},
        ]
        ok(api.post("chat/completions", {"messages": messages}))
    [prompt] = policy.prompts
    heard: list[Mapping[str, str]] = [
        {"role": "system", "content": "plain"},
        {"role": "user", "content": "good", "name": "A"},
        {"role": "assistant", "content": "odd"},
        {"role": "user", "content": "bad"},
    ]
    assert prompt.messages == tuple(heard)
    assert prompt.tokens == (3, 1, 4, 2)


@pytest.mark.parametrize("path", ["chat/completions", "rewards"])
def test_a_continued_message_is_one_turn_with_what_comes_after(path: str) -> None:
    seen: list[tuple[Prompt, list[Candidate]]] = []

    class Reward:
        async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:
            seen.append((prompt, list(completions)))
            return [0.0] * len(completions)

    messages = [{"role": "user", "content": "good"}, {"role": "assistant", "content": "odd"}]
    body = {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    own = {"completions": [" bad"]} if path == "rewards" else {"decoding": {"strategy": "best_of_n", "n": 2}}
    with serving(world(ToyPolicy(), {"default": Reward()})) as api:
        ok(api.post(path, {**body, **own}))
        ok(api.post(path, {**body, **own, "continue_final_message": False}))
    for (prompt, [first, *_]), continues in zip(seen[:: len(seen) // 2], (True, False), strict=True):
        assert prompt.continues == continues
        assert prompt.tokens == (1, 4)
        turn = "odd" + first.text if continues else first.text
        answered = prompt.answered(first.text)
        assert len(answered) == (2 if continues else 3)
        assert answered[-1] == {"role": "assistant", "content": turn}


def test_an_empty_message_is_a_turn_to_go_on_with_as_well(api: Api) -> None:
    """Clients that go step by step send one, where the first step was empty."""
    messages = [{"role": "user", "content": "good"}, {"role": "assistant", "content": ""}]
    ok(api.post("chat/completions", {"messages": messages, "continue_final_message": True}))


def test_a_reply_is_a_chat_completion(api: Api) -> None:
    body = api.chat("good bad", n=2, seed=1)
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    for choice in body["choices"]:
        assert choice["message"]["role"] == "assistant"
        assert isinstance(choice["message"]["content"], str)
        assert choice["logprobs"] is None
    assert body["usage"]["prompt_tokens"] == 2
    assert "decoding" not in body
    assert api.chat("good bad", n=2, seed=1)["choices"] == body["choices"]


def test_logprobs_are_the_models(api: Api) -> None:
    [choice] = api.chat("good", seed=2, logprobs=True, top_logprobs=2)["choices"]
    content = choice["logprobs"]["content"]
    assert "".join(entry["token"] for entry in content) == choice["message"]["content"]
    tokens = [WORDS.index(entry["token"]) for entry in content]
    for i, entry in enumerate(content):
        law = ToyPolicy().logprobs((1,), tuple(tokens[:i]))
        assert entry["logprob"] == pytest.approx(law[tokens[i]])
        assert bytes(entry["bytes"]).decode() == entry["token"]
        own = {name: entry[name] for name in ("token", "logprob", "bytes")}
        likeliest = min(2, sum(v > -math.inf for v in law))
        assert own in entry["top_logprobs"]
        assert len(entry["top_logprobs"]) == likeliest + (own not in entry["top_logprobs"][:likeliest])
        for other in entry["top_logprobs"]:
            assert other["logprob"] == pytest.approx(law[WORDS.index(other["token"])])
    bare = api.chat("good", logprobs=True)["choices"][0]["logprobs"]["content"]
    assert bare
    assert all(entry["top_logprobs"] == [] for entry in bare)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_either_name_of_the_length_cuts(api: Api, name: str) -> None:
    assert api.chat(n=16, seed=1, **{name: 1})["usage"]["completion_tokens"] == 16
    both = {"max_tokens": 2, "max_completion_tokens": 2, "n": 16, "seed": 1}
    assert api.chat(**both)["usage"]["completion_tokens"] <= 32
    messages = [{"role": "user", "content": "good"}]
    assert refused(api.post("chat/completions", {"messages": messages, name: 64}), 400)["param"] == name


def test_without_a_length_the_reply_is_what_fits(api: Api) -> None:
    long = "good " * 62  # two tokens are left
    replies = api.chat(long, n=16, seed=1)
    assert {choice["finish_reason"] for choice in replies["choices"]} == {"stop", "length"}
    assert max(len(choice["message"]["content"].split()) for choice in replies["choices"]) == 2


def test_the_openai_client_reads_a_reply(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="toy",
        messages=[{"role": "user", "content": "good"}],
        n=2,
        extra_body={"decoding": {"strategy": "best_of_n", "n": 8}},
    )
    extra = reply.model_extra
    assert extra is not None
    rewards = [result["rewards"]["default"] for result in extra["decoding"]["results"]]
    assert rewards == sorted(rewards, reverse=True)
    assert all(choice.message.role == "assistant" for choice in reply.choices)
    assert reply.usage is not None
    assert reply.usage.completion_tokens == extra["decoding"]["cost"]["generated_tokens"]


def test_the_openai_client_raises_what_the_server_says(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="toy", messages=[{"role": "user", "content": "good"}], top_p=0.5)
    assert caught.value.param == "top_p"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt", messages=[{"role": "user", "content": "good"}])
