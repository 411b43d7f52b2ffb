"""POST /v1/chat/completions on the toy, streamed."""

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from tests.support.serving import Api, Json, events


@pytest.fixture(scope="module")
def client(api: Api) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{api.url}/v1", api_key="any")


def stream(api: Api, **fields: object) -> list[Json]:
    body = {"messages": [{"role": "user", "content": "good"}], "stream": True, **fields}
    response = api.post("chat/completions", body)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    return events(response.text)[0]


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
