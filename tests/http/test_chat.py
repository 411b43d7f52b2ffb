"""POST /v1/chat/completions: what comes back, on the toy."""

import math
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from decoders.core import Candidate, Prompt, Rng, Sampling
from server.engines.toy import WORDS, ToyPolicy
from server.loading import toy
from tests.support.delegating import DelegatingPolicy
from tests.support.fakes import world
from tests.support.serving import Api, Json, events, ok, refused, serving


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving(toy()) as api:
        yield api


@pytest.fixture(scope="module")
def client(api: Api) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{api.url}/v1", api_key="any")


def stream(api: Api, **fields: object) -> list[Json]:
    body = {"messages": [{"role": "user", "content": "good"}], "stream": True, **fields}
    response = api.post("chat/completions", body)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    return events(response.text)[0]


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


@pytest.mark.parametrize("n", [1, 3])
def test_chunks_begin_with_the_role_and_end_with_one_reason(api: Api, n: int) -> None:
    chunks = stream(api, n=n, seed=4)
    whole = api.chat(n=n, seed=4)
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert all("usage" not in chunk for chunk in chunks)
    assert all("decoding" not in chunk for chunk in chunks)
    for index, choice in enumerate(whole["choices"]):
        own = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
        assert ["role" in c["delta"] for c in own] == [True] + [False] * (len(own) - 1)
        assert "".join(c["delta"]["content"] for c in own) == choice["message"]["content"]
        assert [c["finish_reason"] for c in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]


def test_a_sample_streams_token_by_token_with_its_logprobs(api: Api) -> None:
    chunks = stream(api, seed=4, logprobs=True, top_logprobs=1)
    entries = [chunk["choices"][0]["logprobs"]["content"] for chunk in chunks]
    assert [len(entry) for entry in entries] == [1] * len(chunks)
    whole = api.chat(seed=4, logprobs=True, top_logprobs=1)["choices"][0]["logprobs"]["content"]
    assert [entry for [entry] in entries] == whole


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("strategy", ["sample", "best_of_n"])
def test_the_last_chunk_carries_decoding_and_usage(api: Api, strategy: str, usage: bool) -> None:
    decoding = {"strategy": strategy, "reward": "default"}
    fields = {"seed": 4, "n": 2, "decoding": decoding}
    chunks = stream(api, **fields, stream_options={"include_usage": usage})
    whole = api.chat(**fields)
    *others, last = chunks
    assert all("decoding" not in chunk for chunk in others)
    assert last["decoding"]["results"] == whole["decoding"]["results"]
    if usage:
        assert last["choices"] == []
        assert last["usage"] == whole["usage"]
        assert all(chunk["usage"] is None for chunk in others)
    else:
        assert last["choices"][0]["finish_reason"] is not None


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("include", [False, True, None])
def test_each_chunk_has_the_usage_so_far_where_that_is_asked_for(api: Api, n: int, include: bool | None) -> None:
    options = {"include_usage": include, "continuous_usage_stats": True}
    chunks = stream(api, seed=4, n=n, stream_options=options)
    usage = api.chat(seed=4, n=n)["usage"]
    totals = [chunk["usage"]["total_tokens"] for chunk in chunks]
    assert totals == sorted(totals)
    assert totals[0] == usage["prompt_tokens"] + 1
    assert chunks[-1]["usage"] == usage
    assert (chunks[-1]["choices"] == []) == bool(include)
    assert [c["usage"]["completion_tokens"] for c in chunks if c["choices"]] == list(
        range(1, usage["completion_tokens"] + 1)
    )
    searched = stream(api, seed=4, n=n, stream_options=options, decoding={"strategy": "best_of_n", "n": 8})
    whole = api.chat(seed=4, n=n, decoding={"strategy": "best_of_n", "n": 8})
    assert searched[-1]["usage"] == whole["usage"]


def test_padded_chunks_do_not_tell_their_length(api: Api) -> None:
    body = {"messages": [{"role": "user", "content": "good"}], "stream": True, "seed": 4}
    lines = api.post("chat/completions", {**body, "stream_options": {"include_obfuscation": True}}).text.split("\n\n")
    assert {(len(line) - len("data: ")) % 256 for line in lines[:-2]} == {0}
    bare = events(api.post("chat/completions", {**body, "stream_options": {"include_obfuscation": False}}).text)[0]
    assert not any("obfuscation" in chunk for chunk in bare)


def test_best_of_n_streams_each_answer_at_once(api: Api) -> None:
    chunks = stream(api, seed=4, n=2, decoding={"strategy": "best_of_n"})
    assert [chunk["choices"][0]["index"] for chunk in chunks] == [0, 1]
    assert all(chunk["choices"][0]["finish_reason"] for chunk in chunks)


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


def test_the_openai_client_reads_a_stream(client: openai.OpenAI) -> None:
    chunks: list[ChatCompletionChunk] = list(
        client.chat.completions.create(
            model="toy",
            messages=[{"role": "user", "content": "good"}],
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"decoding": {"strategy": "best_of_n", "n": 4, "return_kl": True}},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage is not None
    extra = chunks[-1].model_extra
    assert extra is not None
    assert extra["decoding"]["results"][0]["kl"]["nats"] > 0


def test_the_openai_client_raises_what_the_server_says(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="toy", messages=[{"role": "user", "content": "good"}], top_p=0.5)
    assert caught.value.param == "top_p"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt", messages=[{"role": "user", "content": "good"}])
