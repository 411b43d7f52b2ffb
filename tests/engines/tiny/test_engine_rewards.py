"""Reward models in pooling engines against Transformers, and best-of-N over them."""

import math
import time
from typing import Any

import httpx
import pytest
from openai import OpenAI

from evaluation.support.tiny_models import STEP
from tests.support.engine import Tiny
from tests.support.reference import classify, greedy, tokenizer

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def test_rewards_equal_transformers_on_the_policys_own_tokens(tiny: Tiny) -> None:
    text = "A good answer is"
    prompt = tiny.ids(text)
    tokens, _ = greedy(tiny.models["policy"], prompt, 10)
    rewards = {"default": 1.0, "steps": 1.0, "foreign": 1.0}
    answer = tiny.post(
        prompt=prompt, max_tokens=10, temperature=0, ignore_eos=True, decoding={"strategy": "sample", "reward": rewards}
    )
    got = answer["decoding"]["results"][0]["rewards"]
    ids = prompt + tokens
    assert got["default"] == pytest.approx(float(classify(tiny.models["classifier"], ids)[0]), abs=1e-4)
    steps = classify(tiny.models["process"], ids, "TokenClassification")[len(prompt) :, 0]
    assert got["steps"] == pytest.approx(float(steps.mean()), abs=1e-4)
    whole = text + answer["choices"][0]["text"]
    own = tokenizer(tiny.models["other"]).encode(whole, add_special_tokens=True)
    assert got["foreign"] == pytest.approx(float(classify(tiny.models["other"], own)[0]), abs=1e-4)


def test_the_rewards_endpoint_scores_text(tiny: Tiny) -> None:
    completions = [" fox jumps", " dog."]
    answer = tiny.post("/v1/rewards", prompt="The quick", completions=completions)
    for completion, row in zip(completions, answer["data"], strict=True):
        ids = tiny.ids("The quick") + tiny.ids(completion)
        assert row["rewards"]["default"] == pytest.approx(float(classify(tiny.models["classifier"], ids)[0]), abs=1e-4)
    ended = tiny.post("/v1/rewards", prompt="The quick", completions=completions, ended=True)
    assert ended["data"][0]["total"] != answer["data"][0]["total"]


def test_a_value_for_each_token_is_of_the_answers_own_in_a_chat(tiny: Tiny) -> None:
    """By the model's own template, whose closing of the turn is read and has no value that counts."""
    words = tokenizer(tiny.models["process"])
    chat = [{"role": "user", "content": "The quick"}]
    completions = [" fox jumps", "dog."]
    answer = tiny.post("/v1/rewards", messages=chat, completions=completions, reward="steps")
    for completion, row in zip(completions, answer["data"], strict=True):
        ids = words.apply_chat_template([*chat, {"role": "assistant", "content": completion}], return_dict=False)
        own = tiny.ids(completion)
        values = classify(tiny.models["process"], ids, "TokenClassification")[-len(own) - 1 : -1, 0]
        assert ids[-len(own) - 1 :] == [*own, *tiny.ids("\n")]
        assert row["rewards"]["steps"] == pytest.approx(float(values.mean()), abs=1e-4)


def test_a_process_reward_scores_the_steps_alone(tiny: Tiny) -> None:
    completion = "first\nsecond\n\nthird"
    answer = tiny.post("/v1/rewards", prompt="The quick", completions=[completion], reward="tagged")
    ids = tokenizer(tiny.models["process"]).encode(f"The quickfirst{STEP}second{STEP}third{STEP}")
    values = classify(tiny.models["process"], ids, "TokenClassification")[:, 0]
    [step] = tiny.ids(STEP)
    at_steps = [float(v) for v, token in zip(values, ids, strict=True) if token == step]
    assert len(at_steps) == 3
    assert answer["data"][0]["total"] == pytest.approx(min(at_steps), abs=1e-4)
    nothing = tiny.post("/v1/rewards", prompt="x", completions=["\n"], reward="tagged")
    assert nothing["data"][0]["rewards"] == {"tagged": None}


def test_a_completion_cut_by_a_stop_string_is_scored_as_it_is_returned(tiny: Tiny) -> None:
    fox, dog = tiny.ids(" fox")[0], tiny.ids(" dog")[0]
    answer = tiny.post(
        prompt="The",
        max_tokens=50,
        logit_bias={str(fox): 100, str(dog): 100},
        stop=" dog",
        seed=1,
        decoding={"strategy": "best_of_n", "n": 1},
    )
    ids = tiny.ids("The") + tiny.ids(answer["choices"][0]["text"])
    expected = float(classify(tiny.models["classifier"], ids)[0])
    assert answer["decoding"]["results"][0]["rewards"]["default"] == pytest.approx(expected, abs=1e-4)


def test_pooling_endpoints_give_the_models_own_outputs(tiny: Tiny) -> None:
    """Of the text as it stands, with the model's activation by default; `label`, `reduce` and steps do not count."""
    words = tokenizer(tiny.models["classifier"])
    texts = ["The quick fox", "A good dog."]
    ids = [words.encode(text) for text in texts]
    raw = [float(classify(tiny.models["classifier"], own)[0]) for own in ids]
    for given in (texts, ids):
        answer = tiny.post("/classify", input=given)
        probs = [pytest.approx([1 / (1 + math.exp(-value))], abs=1e-5) for value in raw]
        assert [row["probs"] for row in answer["data"]] == probs
        assert {(row["label"], row["num_classes"]) for row in answer["data"]} == {("LABEL_0", 1)}
        assert answer["usage"]["prompt_tokens"] == sum(map(len, ids))
    pooled = tiny.post("/pooling", input=texts[0], model="default", use_activation=False)
    assert pooled["data"] == [{"index": 0, "object": "pooling", "data": [pytest.approx(raw[0], abs=1e-4)]}]
    chat = [{"role": "user", "content": "The quick"}, {"role": "assistant", "content": " fox"}]
    for reply in (False, True):
        said = words.apply_chat_template(chat, add_generation_prompt=reply, return_dict=False)
        answer = tiny.post("/classify", messages=chat, add_generation_prompt=reply, use_activation=False)
        expected = float(classify(tiny.models["classifier"], said)[0])
        assert answer["data"][0]["probs"] == [pytest.approx(expected, abs=1e-4)]
    scored = tiny.post("/score", queries=texts[0], documents=texts, use_activation=False)
    for text, row in zip(texts, scored["data"], strict=True):
        both = words(texts[0], text)["input_ids"]
        assert row["score"] == pytest.approx(float(classify(tiny.models["classifier"], both)[0]), abs=1e-4)
    for name in ("steps", "tagged"):
        [row] = tiny.post("/pooling", model=name, input=texts[0], task="token_classify")["data"]
        each = classify(tiny.models["process"], ids[0], "TokenClassification").sigmoid().tolist()
        assert row["data"] == [pytest.approx(one, abs=1e-5) for one in each]
        for path, asked in (("/classify", {"input": "a"}), ("/score", {"text_1": "a", "text_2": "b"})):
            refusal = tiny.client.post(path, json={**asked, "model": name})
            assert (refusal.status_code, refusal.json()["error"]["param"]) == (400, "model")
    bad: list[dict[str, Any]] = [{"input": "word " * 2000}, {"input": [99999]}]
    for body in bad:
        refusal = tiny.client.post("/pooling", json=body)
        assert (refusal.status_code, refusal.json()["error"]["param"]) == (400, "input")


def test_best_of_n_returns_the_best_and_its_reward_rises_with_n(tiny: Tiny) -> None:
    means = []
    for n in (1, 4, 16):
        rewards = []
        for seed in range(12):
            decoding = {"strategy": "best_of_n", "n": n, "return_candidates": True, "return_kl": True}
            answer = tiny.post(prompt="How much wood", max_tokens=12, seed=seed, decoding=decoding)
            result = answer["decoding"]["results"][0]
            candidates = answer["decoding"]["candidates"]
            assert len(candidates) == n
            best = max(c["rewards"]["default"] for c in candidates)
            assert result["rewards"]["default"] == best
            chosen = [c["text"] for c in candidates if c["chosen"]]
            assert chosen == [answer["choices"][0]["text"]]
            assert result["kl"]["nats"] <= math.log(n) - (n - 1) / n + 1e-9
            assert answer["usage"]["completion_tokens"] == sum(c["tokens"] for c in candidates)
            rewards.append(best)
        means.append(sum(rewards) / len(rewards))
    assert means[0] < means[1] < means[2]


def test_early_stopping_draws_no_more_than_it_needs(tiny: Tiny) -> None:
    decoding = {"strategy": "best_of_n", "n": 32, "batch": 4}
    easy = tiny.post(prompt="The", max_tokens=4, decoding={**decoding, "stop_at": -1000.0})
    hard = tiny.post(prompt="The", max_tokens=4, decoding={**decoding, "stop_at": 1000.0})
    assert easy["decoding"]["cost"]["candidates"] == 4
    assert hard["decoding"]["cost"]["candidates"] == 32
    quantile = {"calibrated": True, "rollouts": 20, "stop_at": 0.5, "reward": {"default": 1.0}}
    calibrated = tiny.post(prompt="The", max_tokens=4, seed=2, decoding={**decoding, **quantile})
    result = calibrated["decoding"]["results"][0]
    assert 0.5 <= result["calibrated_rewards"]["default"] <= 1.0
    assert calibrated["decoding"]["cost"]["candidates"] == result["draws"] + 20


def test_the_openai_client_streams_and_does_not(tiny: Tiny) -> None:
    client = OpenAI(base_url=f"{tiny.client.base_url}/v1", api_key="none")
    ask: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "The quick"}],
        "max_tokens": 8,
        "seed": 3,
        "extra_body": {"decoding": {"strategy": "best_of_n", "n": 4}},
    }
    whole: Any = client.chat.completions.create(**ask)
    stream: Any = client.chat.completions.create(**ask, stream=True)
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].decoding["results"] == whole.decoding["results"]
    plain = client.completions.create(model="tiny", prompt="The quick", max_tokens=8, seed=3)
    pieces = client.completions.create(model="tiny", prompt="The quick", max_tokens=8, seed=3, stream=True)
    assert "".join(p.choices[0].text for p in pieces) == plain.choices[0].text


def test_a_client_that_leaves_stops_the_engines_work(tiny: Tiny) -> None:
    body = {"prompt": "The", "max_tokens": 900, "ignore_eos": True, "decoding": {"strategy": "best_of_n", "n": 24}}
    for stream in (False, True):
        with pytest.raises(httpx.ReadTimeout):
            tiny.client.post("/v1/completions", json={**body, "stream": stream}, timeout=httpx.Timeout(30, read=0.5))
        deadline = time.monotonic() + 60
        while tiny.metric("vllm:num_requests_running") + tiny.metric("vllm:num_requests_waiting") > 0:
            assert time.monotonic() < deadline, "the engine still works for a client that left"
            time.sleep(0.1)
    assert tiny.metric("decant_requests_in_flight") == 0


def test_vllms_own_metrics_are_on_the_same_page(tiny: Tiny) -> None:
    before = tiny.metric("vllm:generation_tokens_total")
    tiny.post(prompt="The", max_tokens=5, ignore_eos=True)
    assert tiny.metric("vllm:generation_tokens_total") >= before + 5
    assert tiny.metric("decant_engine_up") == 5
