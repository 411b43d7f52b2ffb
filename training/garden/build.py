"""Train all six models from a seed: first the policy, then the others from its weights and its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm import tqdm

from training.garden import store
from training.garden.arms import train_arm
from training.garden.data import SCALES, DialogueExample, policy_corpus, preference_pairs
from training.garden.grammar import all_questions
from training.garden.metrics import measure_models
from training.garden.policy import train_policy
from training.garden.rewards import score, train_reward
from training.garden.sampling import sample_answers
from training.garden.tokenizer import build_tokenizer, encode_prompt
from training.garden.value import Rollout, train_value

DIALOGUES, PAIRS = 20_000, 6000
ROLLOUTS, FRESH_ROLLOUTS = 24, 4  # per question: to train the prefix scorer, and to measure it


def scored_rollouts(policy: Any, reward: Any, tokenizer: Any, per_question: int, seed: int) -> list[Rollout]:
    """Draw `per_question` answers of the policy to every question, 512 at a time, and score them by `reward`."""
    prompts = [encode_prompt(tokenizer, question) for question in all_questions() * per_question]
    answers: list[DialogueExample] = []
    for start in tqdm(range(0, len(prompts), 512), desc=f"{'rollouts':16}", unit="batch"):
        batch = prompts[start : start + 512]
        drawn = sample_answers(policy, batch, seed=seed + start)
        answers += [DialogueExample(prompt, one.tokens) for prompt, one in zip(batch, drawn, strict=True)]
    rewards = score(reward, [answer.tokens for answer in answers]).tolist()
    return [Rollout(answer, value) for answer, value in zip(answers, rewards, strict=True)]


def fresh_rollouts(models: dict[str, Any], tokenizer: Any, seed: int) -> list[Rollout]:
    """Return rollouts that no prefix scorer was trained on."""
    return scored_rollouts(models["policy"], models["reward_helpful"], tokenizer, FRESH_ROLLOUTS, 2_000_000 + seed)


def train_all(tokenizer: Any, seed: int) -> dict[str, Any]:
    """Train the six models; return them by name, in the order of training."""
    policy = train_policy(policy_corpus(tokenizer, DIALOGUES, str(seed)), len(tokenizer), seed)
    models = {"policy": policy}
    for scale in SCALES:
        pairs = preference_pairs(tokenizer, scale, PAIRS, f"train/{seed}")
        models[f"reward_{scale}"] = train_reward(policy, pairs, f"reward_{scale}", seed)
        models[f"arm_{scale}"] = train_arm(policy, pairs, f"arm_{scale}", seed)
    rollouts = scored_rollouts(policy, models["reward_helpful"], tokenizer, ROLLOUTS, 1000 + seed)
    models["value_helpful"] = train_value(policy, rollouts, "value_helpful", seed)
    return models


def build_checkpoints(root: Path, seed: int) -> dict[str, dict[str, float]]:
    """Train all models, write them to `root` with digests and held-out metrics, and return the metrics."""
    tokenizer = build_tokenizer(seed)
    models = train_all(tokenizer, seed)
    for name, model in models.items():
        store.save(root, name, model, tokenizer)
    metrics = measure_models(models, tokenizer, fresh_rollouts(models, tokenizer, seed), seed)
    store.write_metrics(root, seed, metrics)
    return metrics
