"""Log-probabilities over HTTP on the toy, whole and streamed, with other fields of a request."""

from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import pytest

from server.loading import toy
from tests.support.fakes import world
from tests.support.serving import Api, Json, events, ok, serving
from tests.support.spelling import SPELLED, Spelling, SpellingText

COLUMNS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
PROMPT = "good bad"
STOPS: list[Json] = [{}, {"stop": ["END"]}, {"stop": "日"}, {"stop": ["o", "ND."], "include_stop_str_in_output": True}]
GUIDED = {"decoding": {"strategy": "reward_guided", "guides": {"kind": 1.0}}}


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving(world(Spelling(), text=SpellingText())) as api:
        yield api


def streamed(chunks: list[Json]) -> dict[int, Json]:
    """The choices that the chunks of a completion make up."""
    made: dict[int, Json] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        whole = made.setdefault(choice["index"], {"text": "", "columns": {name: [] for name in COLUMNS}})
        whole["text"] += choice["text"]
        for name in COLUMNS if choice["logprobs"] else ():
            whole["columns"][name] += choice["logprobs"][name]
        whole["finish"] = (choice["finish_reason"], choice["stop_reason"])
    return made


def consistent(choice: Json, *, top: int) -> None:
    """What holds for the columns of any completion."""
    columns = choice["logprobs"]
    tokens = columns["tokens"]
    assert "".join(tokens) == choice["text"]
    assert columns["text_offset"] == [len("".join(tokens[:i])) for i in range(len(tokens))]
    for token, logprob, others in zip(tokens, columns["token_logprobs"], columns["top_logprobs"], strict=True):
        assert (logprob is None) == (others is None)
        if others is not None:
            assert others.get(token, -1e9) >= logprob
            assert len(others) <= top + 1


@pytest.mark.parametrize("max_tokens", [0, 1, 6, 9])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("echo", [False, True])
def test_a_streams_pieces_are_the_whole_answers_columns(api: Api, echo: bool, n: int, max_tokens: int) -> None:
    if max_tokens == 0 and not echo:
        return
    seen = set()
    for logprobs, stop, guides, seed in product((None, 0, 2), STOPS, ({}, GUIDED), range(3)):
        asked = {} if logprobs is None else {"logprobs": logprobs}
        body = {"prompt": PROMPT, "echo": echo, "n": n, "max_tokens": max_tokens, "seed": seed}
        body = {**body, **asked, **stop, **guides}
        whole = ok(api.post("completions", body))["choices"]
        parts = streamed(events(api.post("completions", {**body, "stream": True}).text)[0])
        assert len(whole) == len(parts) == n
        for choice in whole:
            part = parts[choice["index"]]
            assert part["text"] == choice["text"], body
            assert part["finish"] == (choice["finish_reason"], choice["stop_reason"]), body
            seen.add(choice["stop_reason"])
            if logprobs is None:
                assert choice["logprobs"] is None
                continue
            assert part["columns"] == choice["logprobs"], body
            consistent(choice, top=logprobs or 0)
            if echo:
                assert choice["logprobs"]["tokens"][:2] == ["good", " bad"]
                assert choice["logprobs"]["token_logprobs"][:2] == [None, -2.0]
    if max_tokens == 9:
        assert {"END", "日", "o", "ND.", None} >= seen > {"o", "日", None}


def test_a_chats_pieces_are_the_whole_answers_entries(api: Api) -> None:
    for stop, guides, n, seed in product(STOPS, ({}, GUIDED), (1, 3), range(6)):
        body = {"messages": [{"role": "user", "content": PROMPT}], "n": n, "seed": seed, "max_tokens": 8}
        body = {**body, "logprobs": True, "top_logprobs": 2, **stop, **guides}
        whole = ok(api.post("chat/completions", body))["choices"]
        chunks, _ = events(api.post("chat/completions", {**body, "stream": True}).text)
        for choice in whole:
            parts = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
            entries = choice["logprobs"]["content"]
            said = choice["message"]["content"]
            assert "".join(part["delta"]["content"] for part in parts) == said
            assert [entry for part in parts for entry in part["logprobs"]["content"]] == entries
            assert "".join(entry["token"] for entry in entries) == said
            data = bytes(b for entry in entries for b in entry["bytes"])
            assert data.decode(errors="replace").startswith(said)
            if choice["stop_reason"] and "\ufffd" not in said:
                assert data == said.encode()
            for entry in entries:
                own = {name: entry[name] for name in ("token", "logprob", "bytes")}
                assert own in entry["top_logprobs"]


def test_parts_of_a_character_have_its_bytes_and_the_last_has_its_text(api: Api) -> None:
    found = 0
    for seed in range(40):
        messages = [{"role": "user", "content": PROMPT}]
        body = {"messages": messages, "seed": seed, "max_tokens": 8, "logprobs": True, "top_logprobs": 5}
        entries = ok(api.post("chat/completions", body))["choices"][0]["logprobs"]["content"]
        for one, other in pairwise(entries):
            if (one["bytes"], other["bytes"]) == (list(SPELLED[1]), list(SPELLED[2])):
                found += 1
                assert one["token"] == ""
                assert other["token"].endswith(" go日")
    assert found > 3


def test_of_two_tokens_with_one_text_the_likelier_is_kept(api: Api) -> None:
    """Else a client that compares the drawn token with the best of the others takes it for the best."""
    wrong = 0
    for seed in range(20):
        body: dict[str, Any] = {"prompt": PROMPT, "seed": seed, "max_tokens": 8, "logprobs": 4}
        columns = ok(api.post("completions", body))["choices"][0]["logprobs"]
        chat = {"messages": [{"role": "user", "content": PROMPT}], "seed": seed, "max_tokens": 8}
        whole = ok(api.post("chat/completions", {**chat, "logprobs": True, "top_logprobs": 4}))
        entries = whole["choices"][0]["logprobs"]["content"]
        for others, entry in zip(columns["top_logprobs"], entries, strict=True):
            best = max(other["logprob"] for other in entry["top_logprobs"])
            assert max(others.values()) == best
            wrong += sum(other["token"] == entry["token"] for other in entry["top_logprobs"]) > 1
    assert wrong > 3, "it does not come up"


def test_a_prompts_first_token_has_its_text_when_the_answer_ends_by_itself() -> None:
    """The end's token has no text, and so leaves the prompt its own."""
    with serving(world(Spelling(), text=SpellingText())) as api, serving(toy()) as plain:
        for seed in range(8):
            [choice] = api.complete(PROMPT, echo=True, logprobs=1, seed=seed, max_tokens=10)["choices"]
            if choice["finish_reason"] == "stop":
                assert choice["logprobs"]["tokens"][0] == "good"
            [choice] = plain.complete(PROMPT, logprobs=0, seed=seed)["choices"]
            assert choice["logprobs"]["tokens"][-1] == ""
