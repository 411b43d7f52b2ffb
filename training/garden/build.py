"""From a seed to six models: the policy first, everything else from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm import tqdm

from training.garden import store
from training.garden.arms import train_arm
from training.garden.data import SCALES, Example, policy_corpus, preference_pairs
from training.garden.grammar import all_questions
from training.garden.metrics import measure
from training.garden.policy import train_policy
from training.garden.rewards import score, train_reward
from training.garden.sampling import sample
from training.garden.tokenizer import build_tokenizer, encode_prompt
from training.garden.value import Rollout, train_value

DIALOGUES, PAIRS = 20_000, 6000
ROLLOUTS, FRESH_ROLLOUTS = 24, 4  # per question: to train the prefix scorer, and to measure it


def roll_out(policy: Any, reward: Any, tokenizer: Any, per_question: int, seed: int) -> list[Rollout]:
    """`per_question` answers of the policy to every question, scored by `reward`; 512 at a time."""
    prompts = [encode_prompt(tokenizer, question) for question in all_questions() * per_question]
    answers: list[Example] = []
    for start in tqdm(range(0, len(prompts), 512), desc=f"{'rollouts':16}", unit="batch"):
        batch = prompts[start : start + 512]
        drawn = sample(policy, batch, seed=seed + start)
        answers += [Example(prompt, one.tokens) for prompt, one in zip(batch, drawn, strict=True)]
    rewards = score(reward, [answer.tokens for answer in answers]).tolist()
    return [Rollout(answer, value) for answer, value in zip(answers, rewards, strict=True)]


def fresh_rollouts(models: dict[str, Any], tokenizer: Any, seed: int) -> list[Rollout]:
    """Rollouts that no prefix scorer was trained on."""
    return roll_out(models["policy"], models["reward_helpful"], tokenizer, FRESH_ROLLOUTS, 2_000_000 + seed)


def train_all(tokenizer: Any, seed: int) -> dict[str, Any]:
    """The six models by name, in the order of training."""
    policy = train_policy(policy_corpus(tokenizer, DIALOGUES, str(seed)), len(tokenizer), seed)
    models = {"policy": policy}
    for scale in SCALES:
        pairs = preference_pairs(tokenizer, scale, PAIRS, f"train/{seed}")
        models[f"reward_{scale}"] = train_reward(policy, pairs, f"reward_{scale}", seed)
        models[f"arm_{scale}"] = train_arm(policy, pairs, f"arm_{scale}", seed)
    rollouts = roll_out(policy, models["reward_helpful"], tokenizer, ROLLOUTS, 1000 + seed)
    models["value_helpful"] = train_value(policy, rollouts, "value_helpful", seed)
    return models


def build(root: Path, seed: int) -> dict[str, dict[str, float]]:
    """Train all six, write them to `root` with digests and held-out numbers, and return the numbers."""
    tokenizer = build_tokenizer(seed)
    models = train_all(tokenizer, seed)
    for name, model in models.items():
        store.save(root, name, model, tokenizer)
    numbers = measure(models, tokenizer, fresh_rollouts(models, tokenizer, seed), seed)
    store.write_metrics(root, seed, numbers)
    return numbers
