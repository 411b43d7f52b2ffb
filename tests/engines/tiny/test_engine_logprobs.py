"""Log-probabilities on vLLM: streams equal whole answers column by column, and both equal Transformers."""

import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from tests.http.test_logprobs import COLUMNS, consistent, streamed
from tests.support.engine import Tiny
from tests.support.guiding import ONE, guided
from tests.support.languages import TEXTS
from tests.support.reference import teacher_forced, transformers

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
CLOSE = 1e-4
SPLIT = "([好的é🙂] ?){2,9}"  # every character is several tokens
GUIDED = {"decoding": guided(ONE)}
SEARCHES = [
    {"strategy": "best_of_n", "n": 2},
    {"strategy": "controlled", "candidates": 2, "block_tokens": 3},
    {"strategy": "particles", "particles": 2, "block_tokens": 3},
    {"strategy": "speculative_rejection", "n": 3, "checkpoints": [2, 5]},
    {"strategy": "cascade", "accept_threshold": 0.0, "max_segment_tokens": 4, "min_segment_tokens": 2, "max_tries": 2},
]


def chunks(tiny: Tiny, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    with tiny.client.stream("POST", path, json={**body, "stream": True}) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                chunk = json.loads(line.removeprefix("data: "))
                assert "error" not in chunk, chunk
                yield chunk


def same(part: dict[str, Any], choice: dict[str, Any]) -> None:
    """A streamed choice and a whole one: numbers may differ by what else the engine had in its batches."""
    assert part["text"] == choice["text"]
    assert part["finish"] == (choice["finish_reason"], choice["stop_reason"])
    have, want = part["columns"], choice["logprobs"]
    for name in ("tokens", "text_offset"):
        assert have[name] == want[name]
    assert have["token_logprobs"] == pytest.approx(want["token_logprobs"], abs=CLOSE)
    for one, other in zip(have["top_logprobs"], want["top_logprobs"], strict=True):
        assert one == (None if other is None else pytest.approx(other, abs=CLOSE))
    assert set(have) == set(COLUMNS)


def both(tiny: Tiny, body: dict[str, Any], logprobs: int) -> list[dict[str, Any]]:
    """The choices of a whole answer, seen to be those of its stream and to be consistent."""
    choices: list[dict[str, Any]] = tiny.post(**body)["choices"]
    parts = streamed(list(chunks(tiny, "/v1/completions", body)))
    assert len(parts) == len(choices)
    for choice in choices:
        same(parts[choice["index"]], choice)
        consistent(choice, top=logprobs)
    return choices


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("n", [1, 3])
def test_streams_equal_whole_answers_column_by_column(tiny: Tiny, language: str, n: int) -> None:
    prompt = TEXTS[language]
    known = teacher_forced(tiny.models["policy"], tiny.ids(prompt))
    for echo, form, guides in product((False, True), ({}, {"regex": SPLIT}), ({}, GUIDED)):
        body = {"prompt": prompt, "echo": echo, "n": n, "max_tokens": 14, "seed": 5, "logprobs": 2, **form, **guides}
        free = both(tiny, body, 2)
        said = free[0]["text"].removeprefix(prompt) if echo else free[0]["text"]
        middle = said[len(said) // 2] if said else "x"
        for stop in ({"stop": [middle, "nowhere"]}, {"stop": middle, "include_stop_str_in_output": True}):
            for choice in both(tiny, {**body, **stop}, 2):
                if choice["index"] == 0 and said:
                    assert choice["stop_reason"] == middle
                if echo and not guides:
                    columns = choice["logprobs"]
                    assert columns["token_logprobs"][0] is None
                    assert columns["token_logprobs"][1 : len(known) + 1] == pytest.approx(known, abs=CLOSE)
                    assert "".join(columns["tokens"][: len(known) + 1]) == prompt


@pytest.mark.parametrize("decoding", SEARCHES, ids=lambda decoding: str(decoding["strategy"]))
def test_searches_tell_log_probabilities_as_samples_do(tiny: Tiny, decoding: dict[str, Any]) -> None:
    for language, form, guides in product(TEXTS, ({}, {"regex": SPLIT}), ({}, {"guides": ONE})):
        if form and decoding["strategy"] != "best_of_n":
            continue
        how: dict[str, Any] = {"decoding": {**decoding, **guides}}
        body: dict[str, Any] = {"prompt": TEXTS[language], "max_tokens": 9, "seed": 2, "logprobs": 2, **form, **how}
        text = both(tiny, body, 2)[0]["text"]
        both(tiny, {**body, "stop": [text[len(text) // 2] if text else "x", "nowhere"]}, 2)


@pytest.mark.parametrize("language", TEXTS)
def test_a_prompt_is_scored_as_transformers_scores_it(tiny: Tiny, language: str) -> None:
    """`echo` with no tokens to come, by text and by token ids, once and several times."""
    ids = tiny.ids(TEXTS[language])
    want = teacher_forced(tiny.models["policy"], ids)
    for prompt in (TEXTS[language], ids):
        choices = both(tiny, {"prompt": prompt, "echo": True, "max_tokens": 0, "logprobs": 3, "n": 2}, 3)
        for choice in choices:
            first, *others = choice["logprobs"]["token_logprobs"]
            assert (choice["text"], first) == (TEXTS[language], None)
            assert others == pytest.approx(want, abs=CLOSE)


def test_what_lm_eval_asks_is_what_it_reads(tiny: Tiny) -> None:
    """Its request, and its way to read the answer: sums of log-probabilities, and whether greedy decoding says so."""
    import torch

    rows, lengths = [tiny.ids(text) for text in TEXTS.values()], [3, 9, 17, 20, 5, 1]
    asked: dict[str, Any] = {
        "prompt": rows,
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": 1,
        "seed": 1234,
        "echo": True,
    }
    answer = tiny.post(model="tiny", **asked)
    for ids, length, choice in zip(rows, lengths, answer["choices"], strict=True):
        columns = choice["logprobs"]
        have, tops = columns["token_logprobs"][length:-1], columns["top_logprobs"][length:-1]
        assert sum(have) == pytest.approx(sum(teacher_forced(tiny.models["policy"], ids)[length - 1 :]), abs=1e-3)
        with torch.no_grad():
            likeliest = transformers(tiny.models["policy"], "CausalLM")(torch.tensor([ids])).logits[0].argmax(-1)
        greedy = [int(likeliest[i - 1]) == ids[i] for i in range(length, len(ids))]
        assert [value == max(top.values()) for value, top in zip(have, tops, strict=True)] == greedy


@pytest.mark.parametrize("language", TEXTS)
def test_a_chats_tokens_join_to_its_text_and_their_bytes_to_its_bytes(tiny: Tiny, language: str) -> None:
    messages = [{"role": "user", "content": TEXTS[language]}]
    for n, form, stop in product((1, 2), ({}, {"regex": SPLIT}), ({}, {"stop": ["的", "e"]})):
        body = {"messages": messages, "n": n, "max_tokens": 12, "seed": 1, "logprobs": True, "top_logprobs": 3}
        body = {**body, **form, **stop}
        parts: dict[int, tuple[list[str], list[Any]]] = {i: ([], []) for i in range(n)}
        for chunk in chunks(tiny, "/v1/chat/completions", body):
            for part in chunk["choices"]:
                texts, entries = parts[part["index"]]
                texts.append(part["delta"]["content"])
                entries += part["logprobs"]["content"]
        for choice in tiny.post("/v1/chat/completions", **body)["choices"]:
            said, entries = choice["message"]["content"], choice["logprobs"]["content"]
            assert "".join(parts[choice["index"]][0]) == said
            words = [(entry["token"], entry["bytes"]) for entry in entries]
            assert [(entry["token"], entry["bytes"]) for entry in parts[choice["index"]][1]] == words
            assert "".join(entry["token"] for entry in entries) == said
            data = bytes(b for entry in entries for b in entry["bytes"])
            assert data.decode(errors="replace").startswith(said)
            if form:
                assert data.decode(errors="ignore") == said
            for entry in entries:
                own = {name: entry[name] for name in ("token", "logprob", "bytes")}
                assert own in entry["top_logprobs"]
                assert len(entry["top_logprobs"]) in (3, 4)
