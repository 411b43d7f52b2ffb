"""Chats on vLLM against Transformers' own rendering of them: a new turn, a continued one, and none."""

import asyncio
from typing import Any

import pytest

from evaluation.support.tiny_models import make_tokenizer
from server.engines.text import Chat
from server.engines.text.model_text import ModelText
from tests.support.engine import Tiny
from tests.support.reference import greedy, tokenizer

USER = {"role": "user", "content": "The quick"}
BEGUN = {"role": "assistant", "content": "brown fox"}
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 8, "ignore_eos": True, "logprobs": True}
STRIPS = (
    "{% for m in messages %}<s>{{ m.role }} {{ m.content | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant {% endif %}"
)


@pytest.mark.engine
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("flags", "rendered"),
    [
        ({}, {"add_generation_prompt": True}),
        ({"add_generation_prompt": True}, {"add_generation_prompt": True}),
        ({"add_generation_prompt": False}, {"add_generation_prompt": False}),
        ({"continue_final_message": True}, {"continue_final_message": True}),
        ({"continue_final_message": True, "add_generation_prompt": False}, {"continue_final_message": True}),
    ],
)
def test_a_turn_is_rendered_as_transformers_renders_it(
    tiny: Tiny, flags: dict[str, bool], rendered: dict[str, bool]
) -> None:
    words = tokenizer(tiny.models["policy"])
    text = words.apply_chat_template([USER, BEGUN], tokenize=False, **rendered)
    ids = words.encode(text, add_special_tokens=False)
    _, logprobs = greedy(tiny.models["policy"], ids, 8)
    answer = tiny.post("/v1/chat/completions", messages=[USER, BEGUN], **GREEDY, **flags)
    assert answer["usage"]["prompt_tokens"] == len(ids)
    got = [entry["logprob"] for entry in answer["choices"][0]["logprobs"]["content"]]
    assert got == pytest.approx(logprobs, abs=1e-4)


@pytest.mark.engine
@pytest.mark.timeout(900)
@pytest.mark.parametrize("flags", [{}, {"add_generation_prompt": False}, {"continue_final_message": True}])
def test_vllms_renderer_gives_a_plain_chat_the_same_tokens(tiny: Tiny, flags: dict[str, bool]) -> None:
    """An option sends a chat to vLLM's renderer; this template does not know it."""
    chat = {"messages": [{"role": "system", "content": "Be kind. "}, USER, BEGUN], **flags}
    own = tiny.post("/tokenize", **chat)["tokens"]
    assert tiny.post("/tokenize", **chat, reasoning_effort="none")["tokens"] == own


@pytest.mark.engine
@pytest.mark.timeout(900)
def test_an_empty_turn_is_a_new_one(tiny: Tiny) -> None:
    new = tiny.post("/v1/chat/completions", messages=[USER], **GREEDY)
    empty = {"role": "assistant", "content": " "}
    prefix = tiny.post("/v1/chat/completions", messages=[USER, empty], continue_final_message=True, **GREEDY)
    assert (prefix["choices"], prefix["usage"]) == (new["choices"], new["usage"])


@pytest.mark.engine
@pytest.mark.timeout(900)
@pytest.mark.parametrize("reward", ["default", "steps", "tagged", "foreign", "likely", "implied"])
def test_a_text_that_a_reward_cannot_read_is_a_400_of_its_field(tiny: Tiny, reward: str) -> None:
    def refused(**body: Any) -> str:
        answer = tiny.client.post("/v1/rewards", json={"reward": reward, **body})
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert "reads" in error["message"]
        return str(error["param"])

    long = "long " * 1500
    assert refused(prompt="The quick", completions=["a", long]) == "completions"
    assert refused(messages=[USER], completions=[long]) == "completions"
    assert refused(prompt=long, completions=["a"]) == "prompt"
    assert refused(messages=[{**USER, "content": long}], completions=["a"]) == "messages"
    if reward in ("likely", "implied"):
        assert refused(prompt="", completions=["a"]) == "prompt"
    elif reward == "tagged":  # no step, and so nothing to read and no reward
        [only] = tiny.post("/v1/rewards", reward=reward, prompt="", completions=[""])["data"]
        assert (only["rewards"], only["total"]) == ({reward: None}, None)
    else:
        assert refused(prompt="", completions=[""]) == "prompt"


@pytest.mark.parametrize(("content", "seen"), [("fox \n\n", "fox"), ("fox", "fox"), (" ", ""), ("", "")])
def test_what_a_template_strips_of_a_begun_turn_is_not_judged_either(content: str, seen: str) -> None:
    words = make_tokenizer(372, STRIPS)
    text = ModelText(words, 1024, len(words))
    prefix = {"role": "assistant", "content": content}
    prompt = asyncio.run(text.chat(Chat((USER, prefix), "continued")))
    assert prompt.text == f"<s>user The quick</s><s>assistant {seen}"
    assert [message["content"] for message in prompt.answered(" jumps")] == ["The quick", f"{seen} jumps"]


@pytest.mark.engine
def test_tokens_of_texts_and_chats_are_those_of_requests(tiny: Tiny) -> None:
    chat = {"messages": [{"role": "user", "content": "A good answer"}]}
    for fields, path in (({"prompt": "A good answer"}, "/v1/completions"), (chat, "/v1/chat/completions")):
        tokenized = tiny.post("/tokenize", **fields, return_token_strs=True)
        answer = tiny.post(path, **fields, max_tokens=1)
        assert tokenized["count"] == answer["usage"]["prompt_tokens"]
        assert len(tokenized["tokens"]) == len(tokenized["token_strs"]) == tokenized["count"]
    bare = tiny.post("/tokenize", prompt="A good answer", add_special_tokens=False)["tokens"]
    assert bare == tiny.ids("A good answer")
    assert tiny.post("/detokenize", tokens=bare) == {"prompt": "A good answer"}


@pytest.mark.engine
def test_the_log_probability_of_a_given_text_is_the_engines(tiny: Tiny) -> None:
    prompt, completion = "The quick brown", " fox jumps over"
    echoed = tiny.post(prompt=prompt + completion, max_tokens=0, echo=True, logprobs=0)["choices"][0]["logprobs"]
    own = len(tiny.ids(completion))
    assert tiny.ids(prompt) + tiny.ids(completion) == tiny.ids(prompt + completion)
    fields = {"prompt": prompt, "completions": [completion], "reward": "default"}
    [row] = tiny.post("/v1/rewards", **fields, policy_logprob=True, guides={"weak": 1.5})["data"]
    assert row["policy_logprob"] == pytest.approx(sum(echoed["token_logprobs"][-own:]), abs=1e-3)
    guided = {"strategy": "sample", "guides": {"weak": 1.5}}
    steered = tiny.post(prompt=prompt + completion, max_tokens=0, echo=True, logprobs=0, decoding=guided)["choices"][0]
    assert row["guided_logprob"] == pytest.approx(sum(steered["logprobs"]["token_logprobs"][-own:]), abs=1e-3)
