"""The garden world: its grammar is exact, its checkpoints are the recorded ones, and alignment works in it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.garden import store
from training.garden.arms import arm_accuracy
from training.garden.data import SCALES, DialogueExample, Scale, preference_pairs
from training.garden.grammar import (
    KINDS,
    PLANTS,
    UNPARSED_HARMLESS,
    UNPARSED_HELPFUL,
    SentenceKind,
    all_questions,
    gold,
    sample_dialogue,
    write,
)
from training.garden.metrics import held_out_pairs
from training.garden.rewards import reward_accuracy, score
from training.garden.sampling import sample_answers
from training.garden.study import Study
from training.garden.tokenizer import EOS, decode_response, encode_prompt, encode_response
from training.garden.value import Rollout, prefix_correlation

kinds = st.lists(st.sampled_from(KINDS), max_size=8)
plants = st.sampled_from(PLANTS)
rngs = st.randoms(use_true_random=False)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def study() -> Study:
    return Study(store.ROOT, all_questions()[::3])


# The grammar


@given(kinds, plants, rngs)
def test_gold_is_the_sum_of_the_kinds_that_were_written(
    kinds: list[SentenceKind], plant: str, rng: random.Random
) -> None:
    worth = gold(write(kinds, plant, rng))
    assert worth.helpful == sum(kind.helpful for kind in kinds)
    assert worth.harmless == sum(kind.harmless for kind in kinds)
    assert worth.unparsed == 0


@given(kinds.filter(bool), plants, rngs)
def test_an_unfinished_sentence_is_worth_that_of_gibberish(
    kinds: list[SentenceKind], plant: str, rng: random.Random
) -> None:
    cut = gold(write(kinds, plant, rng).removesuffix("."))
    whole = gold(write(kinds[:-1], plant, rng))
    assert cut.helpful == whole.helpful + UNPARSED_HELPFUL
    assert cut.harmless == whole.harmless + UNPARSED_HARMLESS
    assert cut.unparsed == 1


def test_a_seed_gives_the_same_dialogues() -> None:
    first, second = random.Random(5), random.Random(5)
    assert [sample_dialogue(first) for _ in range(20)] == [sample_dialogue(second) for _ in range(20)]


# The checkpoints


def test_the_files_are_the_recorded_ones() -> None:
    assert store.digests(store.ROOT) == store.read_metrics()["sha256"]


def test_chat_messages_give_the_ids_the_models_were_trained_on(study: Study) -> None:
    dialogue = sample_dialogue(random.Random(0))
    messages = [
        {"role": "user", "content": dialogue.question},
        {"role": "assistant", "content": dialogue.response},
    ]
    prompt = encode_prompt(study.tokenizer, dialogue.question)
    response = encode_response(study.tokenizer, dialogue.response)
    question = study.tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=False)
    answered = study.tokenizer.apply_chat_template(messages, return_dict=False)
    assert question == prompt
    assert answered == prompt + response
    assert decode_response(study.tokenizer, response) == dialogue.response


@pytest.mark.parametrize("name", store.CLASSES)
def test_every_configuration_says_where_an_answer_ends(study: Study, name: str) -> None:
    model = study.models[name]
    assert model.config.eos_token_id == EOS
    assert model.dtype == torch.float32
    if model.can_generate():
        assert model.generation_config.eos_token_id == EOS


@pytest.mark.parametrize("scale", SCALES)
def test_recorded_accuracies_are_measured_again(study: Study, scale: Scale) -> None:
    record = store.read_metrics()
    pairs = held_out_pairs(study.tokenizer, scale, record["seed"])
    measured = {
        f"reward_{scale}": reward_accuracy(study.models[f"reward_{scale}"], pairs),
        f"arm_{scale}": arm_accuracy(study.models[f"arm_{scale}"], pairs),
    }
    for name, accuracy in measured.items():
        assert accuracy == pytest.approx(record["metrics"][name]["pair_accuracy"], abs=0.01)


@pytest.mark.parametrize("scale", SCALES)
def test_rewards_order_fresh_pairs_with_or_without_eos(study: Study, scale: Scale) -> None:
    pairs = preference_pairs(study.tokenizer, scale, 100, "test", sharpness=math.inf)
    reward = study.models[f"reward_{scale}"]
    assert reward_accuracy(reward, pairs) > 0.8
    ended = score(reward, [pair.chosen.tokens for pair in pairs])
    plain = score(reward, [pair.chosen.tokens[:-1] for pair in pairs])
    assert torch.corrcoef(torch.stack([ended, plain]))[0, 1] > 0.9


# Alignment


def test_best_of_n_is_truly_more_helpful_with_n(study: Study) -> None:
    one, four, sixteen = (study.measure(f"best of {n}", *study.best_of_n(n, seed=3 + n)) for n in (1, 4, 16))
    assert one.reward_helpful + 0.5 < four.reward_helpful < sixteen.reward_helpful - 0.5
    assert one.gold_helpful + 0.5 < four.gold_helpful < sixteen.gold_helpful - 0.2
    assert one.unparsed < 0.3


def test_guidance_pays_reward_with_kl(study: Study) -> None:
    rows = [
        study.measure("guided", *study.guided({"arm_helpful": w} if w else {}, seed=4)) for w in (0.0, 0.5, 1.0, 2.0)
    ]
    rewards, divergences = [row.reward_helpful for row in rows], [row.kl for row in rows]
    assert rewards == sorted(rewards)
    assert divergences == sorted(divergences)
    assert rewards[-1] > rewards[0] + 1
    assert divergences[0] == 0


def test_the_prefix_scorer_knows_more_as_the_answer_goes_on(study: Study) -> None:
    answers = [
        DialogueExample(prompt, one.tokens)
        for prompt, one in zip(study.prompts, sample_answers(study.policy, study.prompts, seed=5), strict=True)
    ]
    rewards = score(study.models["reward_helpful"], [answer.tokens for answer in answers]).tolist()
    rollouts = [Rollout(answer, reward) for answer, reward in zip(answers, rewards, strict=True)]
    early, late, done = (prefix_correlation(study.models["value_helpful"], rollouts, f) for f in (0.25, 0.75, 1.0))
    assert early < late < done
    assert done > 0.8
