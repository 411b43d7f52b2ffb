"""Training and measuring of the demo's guides on a model small enough to enumerate, and the shipped adapters."""

import json
import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from training.guided_reference import guided_law
from training.guides import adapter
from training.guides.evaluate import distinct_2, mean_and_error
from training.guides.halves import TOP, top
from training.guides.pairs import pairs_of
from training.guides.review_judge import judge, untouched
from training.guides.sampling import DrawnCompletion, chunks, policy_exponent, sample_chunks
from training.guides.study import SHARES, WEIGHTS, laws
from training.guides.train import GuideRecipe, log_probs, loss_of, train_guide
from training.sentiment.data import Review

VOCABULARY, END = 6, 0
LAYERS = 2
"""Layers of the tiny guides' tops, of their policy's three."""
PROMPTS = [[1, 2, 3], [4, 5], [2, 1, 1]]
SHIPPED = ("positive", "brief")


def llama(seed: int) -> Any:
    """Return a random Llama with laws that are far from uniform."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        initializer_range=0.3,
        eos_token_id=END,
        pad_token_id=END,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def policy() -> Any:
    return llama(0)


@pytest.fixture(scope="module")
def other() -> Any:
    """Return the policy with its upper layers changed, as a guide changes them."""
    changed = llama(0)
    torch.manual_seed(1)
    with torch.no_grad():
        for layer in changed.model.layers[1:]:
            for weight in layer.parameters():
                weight += 0.3 * torch.randn_like(weight)
    return changed


@torch.no_grad()
def next_law(model: Any, ids: list[int]) -> torch.Tensor:
    law: torch.Tensor = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    return law


def completions(tokens: int) -> Iterator[list[int]]:
    """Yield every completion of at most `tokens` tokens."""
    for length in range(1, tokens + 1):
        for ids in product(range(VOCABULARY), repeat=length):
            ended = ids[-1] == END
            if END not in ids[:-1] and (ended or length == tokens):
                yield list(ids)


def draw_of(prompt: int, ids: list[int], log_prob: float = 0.0) -> DrawnCompletion:
    return DrawnCompletion(prompt, ids, log_prob, 0.0, torch.empty(0, 0))


@pytest.mark.parametrize("ratio", [False, True])
def test_draws_follow_the_law_they_name(policy: Any, other: Any, ratio: bool) -> None:
    prompt, n = PROMPTS[0], 4000
    exact: dict[tuple[int, ...], tuple[float, float, float]] = {}
    for ids in completions(2):
        p = own = spread = 0.0
        for place, token in enumerate(ids):
            pi, guide = (next_law(model, prompt + ids[:place]) for model in (policy, other))
            scores = pi + 1.5 * (guide - pi) if ratio else pi + 1.5 * guide
            law = scores.log_softmax(-1)
            p, own = p + law[token].item(), own + pi[token].item()
            spread += (law.exp() * (law - pi)).sum().item()
        exact[tuple(ids)] = p, own, spread
    assert sum(math.exp(p) for p, _, _ in exact.values()) == pytest.approx(1, abs=1e-5)
    # The estimate of a draw depends on the draw, and on average it is the divergence of the whole laws.
    kl = sum(math.exp(p) * (p - own) for p, own, _ in exact.values())
    assert sum(math.exp(p) * spread for p, _, spread in exact.values()) == pytest.approx(kl, abs=1e-5)
    assert kl > 0.05

    guides = [(top(other, LAYERS), 1.5)]
    (draws,) = sample_chunks(policy, [prompt], n, tokens=2, seed=0, guides=guides, ratio=ratio)
    for draw in draws:
        _, own, spread = exact[tuple(draw.ids)]
        assert draw.log_prob == pytest.approx(own, abs=1e-4)
        assert draw.kl == pytest.approx(spread, abs=1e-4)
    for answer, (p, _, _) in exact.items():
        share = sum(tuple(draw.ids) == answer for draw in draws) / n
        assert abs(share - math.exp(p)) <= 5 * math.sqrt(math.exp(p) / n) + 1e-3, answer


def test_a_guide_that_learnt_nothing_sharpens_in_plain_form_and_vanishes_in_ratio_form() -> None:
    pi = torch.randn(7, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    sharp = (pi / 0.25).log_softmax(-1)

    def mixed(weights: list[float], **form: Any) -> torch.Tensor:
        return guided_law(pi, [(pi, weight) for weight in weights], policy=policy_exponent(weights, **form))

    assert torch.allclose(mixed([1.0, 2.0], ratio=False), sharp, atol=1e-5)
    assert torch.allclose(mixed([], ratio=False, temperature=0.25), sharp, atol=1e-5)
    assert torch.allclose(mixed([3.0], ratio=True), pi, atol=1e-5)


def test_chunks_hold_every_prompt_once_and_one_length_each() -> None:
    made = list(chunks([*PROMPTS, [5, 5, 5]], 2))
    assert sorted(index for chunk in made for index in chunk) == [0, 1, 2, 3]
    assert made == [[1], [0, 2], [3]]


def test_a_top_with_a_padded_batch_gives_the_whole_models_log_probabilities(policy: Any, other: Any) -> None:
    draws = [
        draw for chunk in sample_chunks(policy, PROMPTS, 3, tokens=5, seed=1, keep_hidden=LAYERS) for draw in chunk
    ]
    assert len({len(draw.hidden) for draw in draws}) > 1
    with torch.no_grad():
        ours = log_probs(top(other, LAYERS), [(len(PROMPTS[draw.prompt]), draw) for draw in draws]).tolist()
    for draw, value in zip(draws, ours, strict=True):
        prompt = PROMPTS[draw.prompt]
        whole = sum(next_law(other, prompt + draw.ids[:t])[token].item() for t, token in enumerate(draw.ids))
        assert value == pytest.approx(whole, abs=1e-4)


def test_the_loss_by_hand() -> None:
    learnt, own = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 1.0])
    plain = (math.log(1 + math.exp(-1.0)) + math.log(1 + math.exp(0.5))) / 2
    margin = (math.log(1 + math.exp(-0.5)) + math.log(1 + math.exp(1.0))) / 2
    assert loss_of(learnt, own, beta_r=0.5, margin=0.0).item() == pytest.approx(plain)
    assert loss_of(learnt, own, beta_r=0.5, margin=1.0).item() == pytest.approx(margin)


def test_pairs_are_of_one_prompt_best_with_worst() -> None:
    draws = [draw_of(index % 2, [index]) for index in range(12)]
    labels = [float(index) for index in range(10)] + [0.5, 1.5]
    pairs = pairs_of([[1], [1, 2]], draws, labels, ends=2, per=2, gap=3.0, seed=0)
    met = {(pair.start, pair.chosen.ids[0], pair.rejected.ids[0]) for pair in pairs}
    assert met == {(1, good, bad) for good in (6, 8) for bad in (0, 10)} | {
        (2, good, bad) for good in (7, 9) for bad in (1, 11)
    }
    assert len(pairs) == len(met)
    assert pairs_of([[1], [1, 2]], draws, labels, ends=2, per=2, gap=9.0, seed=0) == []
    few = pairs_of([[1]], draws[:3:2], [0.0, 1.0], ends=3, per=3, gap=0.5, seed=0)
    assert [(pair.chosen.ids, pair.rejected.ids) for pair in few] == [([2], [0])]


def test_training_teaches_what_the_pairs_prefer(policy: Any) -> None:
    draws = [d for c in sample_chunks(policy, PROMPTS, 40, tokens=6, seed=2, keep_hidden=LAYERS) for d in c]
    labels = [float(draw.ids.count(3)) for draw in draws]
    pairs = pairs_of(PROMPTS, draws, labels, ends=12, per=2, gap=1.0, seed=0)
    recipe = GuideRecipe(gap=1.0, layers=LAYERS, steps=30, learning_rate=5e-3, beta_r=0.5)
    guide = train_guide(policy, pairs, recipe, name="three", progress=False).merge_and_unload()
    (plain,) = sample_chunks(policy, PROMPTS[:1], 400, tokens=6, seed=3)
    (moved,) = sample_chunks(policy, PROMPTS[:1], 400, tokens=6, seed=3, guides=[(guide, 1.0)])

    def threes(some: list[DrawnCompletion]) -> float:
        return sum(draw.ids.count(3) for draw in some) / len(some)

    assert threes(moved) > 1.3 * threes(plain)


def test_an_adapter_read_back_for_the_whole_model_is_the_one_trained(policy: Any, tmp_path: Path) -> None:
    draws = [d for c in sample_chunks(policy, PROMPTS, 8, tokens=6, seed=4, keep_hidden=LAYERS) for d in c]
    pairs = pairs_of(PROMPTS, draws, [float(d.ids.count(3)) for d in draws], ends=4, per=2, gap=1.0, seed=0)
    guide = train_guide(
        policy, pairs, GuideRecipe(gap=1.0, layers=LAYERS, steps=4, learning_rate=1e-2), name="three", progress=False
    )
    policy.save_pretrained(tmp_path / "policy")
    adapter.save(guide, tmp_path / "guide", below=1)
    scored = [(len(PROMPTS[draw.prompt]), draw) for draw in draws]
    with torch.no_grad():
        trained, untrained = log_probs(guide, scored), log_probs(top(policy, LAYERS), scored)
        read = log_probs(adapter.load(tmp_path / "policy", tmp_path / "guide", LAYERS), scored)
    change = (trained - untrained).abs().mean().item()
    assert (read - trained).abs().mean().item() < 0.05 * change


def test_numbers_of_a_row() -> None:
    draws = [draw_of(0, [1, 2, 1, 2]), draw_of(0, [1, 2]), draw_of(1, [3])]
    assert distinct_2(draws) == 2 / 4
    assert mean_and_error(draws, [1.0, 3.0, 4.0]) == (3.0, 1.0)


def test_the_table_has_each_control_and_mixes_of_two() -> None:
    rows = laws({"positive": object(), "brief": object()})
    assert [law.temperature for law in rows if not law.guides] == [1.0, *(1 / (1 + w) for w in WEIGHTS)]
    assert [[w for _, w in law.guides] for law in rows if len(law.guides) == 2] == [[a, 1 - a] for a in SHARES]
    assert not [law for law in laws({"brief": object()}) if len(law.guides) > 1]


def test_the_judge_learns_words_from_reviews_the_reward_has_not_seen() -> None:
    reviews = [Review(text, good, "short") for text, good in (("a fine film", True), ("a dull film", False))] * 8
    score = judge(reviews)
    fine, dull, unknown = score(["fine", "dull", ""])
    assert fine > 0 > dull
    assert unknown == pytest.approx(score.bias)
    long = [Review("long one", True, "long"), Review("long two", True, "long")]
    assert untouched([*reviews[:3], *long], short=2, long=1) == [reviews[2], long[1]]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_adapter_is_plain_low_rank_on_the_top_layers(name: str) -> None:
    from safetensors.torch import load_file

    directory = adapter.ASSETS / name
    config = json.loads((directory / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    assert config["task_type"] == "CAUSAL_LM"
    assert config["base_model_name_or_path"] == adapter.BASE
    assert config["layers_to_transform"] == list(range(30 - TOP, 30))
    assert config["bias"] == "none"
    extras = ("modules_to_save", "use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "target_parameters")
    assert not any(config.get(extra) for extra in extras)
    file = directory / "adapter_model.safetensors"
    assert file.stat().st_size <= 2_600_000
    weights = load_file(file)
    places = {weight_name.rpartition(".lora_")[0] for weight_name in weights}
    assert len(places) == TOP * len(config["target_modules"])
    assert {place.rpartition(".")[2] for place in places} == set(config["target_modules"])
    for place in places:
        down, up = weights.pop(f"{place}.lora_A.weight"), weights.pop(f"{place}.lora_B.weight")
        assert down.dtype == up.dtype == torch.bfloat16
        assert down.shape[0] == up.shape[1] == config["r"]
        assert down.isfinite().all()
        assert up.abs().max() > 0
    assert weights == {}
