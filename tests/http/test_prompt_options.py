"""What becomes of a prompt and what is told of its tokens, over HTTP on the toy."""

import asyncio
from typing import Any

import pytest

from server.runtime.admission import Admission
from tests.support.serving import Api, Json, events, ok, refused

PATHS: dict[str, Json] = {
    "completions": {"prompt": "good bad odd"},
    "chat/completions": {"messages": [{"role": "user", "content": "good bad odd"}]},
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("cut", "kept"),
    [
        ({"truncate_prompt_tokens": 2}, "bad odd"),
        ({"truncate_prompt_tokens": 2, "truncation_side": "left"}, "bad odd"),
        ({"truncate_prompt_tokens": 2, "truncation_side": "right"}, "good bad"),
        ({"truncate_prompt_tokens": 3}, "good bad odd"),
        ({"truncate_prompt_tokens": -1}, "good bad odd"),
    ],
)
def test_a_prompt_is_cut_to_so_many_tokens(api: Api, path: str, cut: Json, kept: str) -> None:
    got = ok(api.post(path, {**PATHS[path], **cut, "seed": 1, "return_token_ids": True}))
    place = got if path.startswith("chat") else got["choices"][0]
    assert ok(api.post("../tokenize", {"prompt": kept}))["tokens"] == place["prompt_token_ids"]
    assert got["usage"]["prompt_tokens"] == len(kept.split())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"truncate_prompt_tokens": 64}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
        ({"truncation_side": "middle"}, "truncation_side"),
        ({"cache_salt": ""}, "cache_salt"),
        ({"priority": 1}, "priority"),
        ({"priority": False}, "priority"),
        ({"prompt_logprobs": 0}, "prompt_logprobs"),  # the toy has none
        ({"prompt_logprobs": 0, "stream": True}, "prompt_logprobs"),
        ({"prompt_logprobs": 21}, "prompt_logprobs"),
        ({"return_token_ids": 1}, "return_token_ids"),
    ],
)
def test_what_cannot_be_is_refused_by_name(api: Api, path: str, fields: Json, param: str) -> None:
    assert refused(api.post(path, {**PATHS[path], **fields}), 400)["param"] == param


def test_nothing_is_left_of_a_prompt_that_is_cut_to_nothing(api: Api) -> None:
    body = {**PATHS["completions"], "truncate_prompt_tokens": 0}
    assert refused(api.post("completions", body), 400)["param"] == "prompt"


def test_one_number_of_log_probabilities_of_the_prompt(api: Api) -> None:
    body = {"prompt": "good", "echo": True, "logprobs": 2, "prompt_logprobs": 1}
    assert "another number" in refused(api.post("completions", body), 400)["message"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("n", [1, 2])
def test_a_stream_tells_the_ids_that_the_answer_tells(api: Api, path: str, n: int) -> None:
    body = {**PATHS[path], "seed": 2, "n": n, "return_token_ids": True}
    whole = ok(api.post(path, body))
    chunks, _ = events(api.post(path, {**body, "stream": True}).text)
    streamed: dict[int, list[int]] = {i: [] for i in range(n)}
    prompts: list[Any] = []
    for chunk in chunks:
        prompts += [one["prompt_token_ids"] for one in (chunk, *chunk["choices"]) if "prompt_token_ids" in one]
        for choice in chunk["choices"]:
            streamed[choice["index"]] += choice["token_ids"]
    assert streamed == {choice["index"]: choice["token_ids"] for choice in whole["choices"]}
    assert all(streamed.values())
    if path == "completions":
        assert prompts == [choice["prompt_token_ids"] for choice in whole["choices"]]
    else:
        assert prompts == [whole["prompt_token_ids"]]


def test_no_ids_beside_reasoning_that_is_hidden(api: Api) -> None:
    body = {**PATHS["chat/completions"], "return_token_ids": True, "include_reasoning": False}
    assert refused(api.post("chat/completions", body), 400)["param"] == "include_reasoning"


def test_waiting_requests_are_admitted_by_priority_and_then_in_their_order() -> None:
    async def run() -> list[str]:
        admission, order = Admission(1, 10), list[str]()

        async def request(name: str, priority: int) -> None:
            async with admission.place(1, priority):
                order.append(name)

        async with asyncio.TaskGroup() as tasks, admission.place(1):
            for name, priority in (("a", 0), ("b", 5), ("c", -1), ("d", 0), ("e", -1)):
                tasks.create_task(request(name, priority))
            await asyncio.sleep(0)
            assert admission.queued == 5
        assert admission.idle
        return order

    assert asyncio.run(run()) == ["c", "e", "a", "d", "b"]
