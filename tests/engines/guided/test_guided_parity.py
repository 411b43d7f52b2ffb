"""The guided law inside vLLM against Transformers: chunks, preemptions, cached prefixes and aborts change nothing."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from scipy.stats import chisquare

from tests.support.guided import VOCABULARY, make_guided_models
from tests.support.guided_engine import EngineProcess, GuidedRequest, Json
from tests.support.reference import Reference

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
CLOSE = 1e-4
ENGINE = {
    "dtype": "float32",
    "max_model_len": 256,
    "kv_cache_memory_bytes": 2**27,
    "enforce_eager": True,
    "max_num_seqs": 16,
    "block_size": 32,
    "seed": 0,
}
GREEDY = {"temperature": 0.0, "max_tokens": 24, "ignore_eos": True, "logprobs": 0}
WEIGHTS: list[dict[str, float]] = [
    {},
    {"arm": 1.0},
    {"arm": 0.5, "qwen": 0.25},
    {"qwen": -1.0},
    {"tuned": 2.0},
    {"tuned": -0.5, "long": 0.3},
    {"head": 1.5},
    {"scores": 0.7, "arm": -0.3},
    {"window": 1.0, "long": -0.5},
    {"arm": 1.0, "qwen": 0.5, "window": -0.25, "tuned": 1.0, "long": 0.5, "head": -1.0},
    {"head": -100.0, "qwen": 3.0},
    {},
]


def prompt(seed: int, length: int) -> list[int]:
    return random.Random(seed).choices(range(5, VOCABULARY), k=length)


def stress() -> list[GuidedRequest]:
    """Requests that come and go at random, most of them with a beginning in common with others."""
    rng = random.Random(0)
    requests = []
    for i in range(44):
        shared = prompt(i % len(WEIGHTS), 100)[: rng.choice([40, 80, 100])]
        params = {**GREEDY, "max_tokens": rng.randrange(8, 30)}
        if i % 8 == 3:
            params["prompt_logprobs"] = 0
        leaves = rng.randrange(1, 12) if i % 6 == 5 else None
        weights = WEIGHTS[i % len(WEIGHTS)]
        policy = 1.0 if i % 7 else 1.7
        request = GuidedRequest(
            shared + prompt(100 + i, rng.randrange(30)), weights, policy, params, rng.randrange(40), leaves
        )
        requests.append(request)
    return requests


STRESS = stress()
# Alike in shape, whatever the guides are, so that the same sums are done in the same order.
ALIKE = [
    GuidedRequest(prompt(50 + i, 20 + 7 * i), w, params=GREEDY) for i, w in enumerate([{}, *WEIGHTS[1:9:2], {}, {}])
]
UNGUIDED = [GuidedRequest(request.prompt, params=GREEDY) for request in ALIKE]
PLAIN = [GuidedRequest(prompt(60 + i, 20 + 7 * i), params=GREEDY) for i in range(7)]
# One prompt, asked for in turn with guides and without.
TURNS: list[dict[str, float]] = [{}, {"arm": 1.0}, {}, {"arm": -0.5, "head": 1.0}, {"arm": 0.5, "qwen": 0.5}]
SAME = [
    GuidedRequest(prompt(70, 100), w, params={**GREEDY, "max_tokens": 8}, arrives=20 * i) for i, w in enumerate(TURNS)
]
SLIDING = [
    GuidedRequest(prompt(i, 60), w, params=GREEDY)
    for i, w in enumerate([{}, {"full": 1.0}, {"window": 0.5}, {"full": -0.5, "window": 1.0}])
]
DRAWS = 4000
DRAW = GuidedRequest(
    prompt(7, 3),
    {"full": 0.6, "window": -0.3},
    params={"n": DRAWS, "seed": 3, "temperature": 0.7, "max_tokens": 1},
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_guided_models(tmp_path_factory.mktemp("guided"))


@pytest.fixture(scope="module")
def engines(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, EngineProcess]]:
    root = tmp_path_factory.mktemp("engines")
    guides: Json = {
        "arm": {"kind": "arm", "model": models["llama"]},
        "qwen": {"kind": "arm", "model": models["qwen"]},
        "window": {"kind": "arm", "model": models["window"]},
        "tuned": {"kind": "implicit", "model": models["adapter"]},
        "long": {"kind": "arm", "model": models["long"]},
        "head": {"kind": "q_head", "head": models["head"]},
        "scores": {"kind": "q_head", "model": models["llama"]},
    }
    sliding: Json = {
        "full": {"kind": "arm", "model": models["llama"]},
        "window": {"kind": "arm", "model": models["narrow"]},
    }
    tight = {**ENGINE, "enable_chunked_prefill": True, "max_num_batched_tokens": 64}
    whole = {**ENGINE, "enable_chunked_prefill": False}
    small = {"num_gpu_blocks_override": 180}
    started = {
        "guided": EngineProcess.start(
            root / "guided", models["policy"], guides, {**tight, **small}, [PLAIN, ALIKE, STRESS, SAME]
        ),
        "plain": EngineProcess.start(root / "plain", models["policy"], {}, tight, [PLAIN, UNGUIDED]),
        "sliding": EngineProcess.start(root / "sliding", models["window"], sliding, whole, [SLIDING, [DRAW]]),
    }
    yield started
    for child in started.values():
        child.stop()


@pytest.fixture(scope="module")
def reference(models: dict[str, Path]) -> Reference:
    guides = {name: models[name] for name in ("tuned", "qwen", "window", "long")}
    return Reference(
        models["policy"],
        {**guides, "arm": models["llama"]},
        {"tuned": models["policy"]},
        {"head": models["head"], "scores": models["llama"]},
    )


def agree(reference: Reference, request: GuidedRequest, answer: Json) -> None:
    """Each token is the likeliest after those before it, and its log-probability is the law's."""
    [tokens], [logprobs] = answer["tokens"], answer["logprobs"]
    assert len(tokens) == request.params["max_tokens"]
    law = reference.law([*request.prompt, *tokens], request.guides, policy=request.policy)
    rows = law[len(request.prompt) - 1 : -1]
    close = CLOSE * max(1.0, *map(abs, request.guides.values()), 0.0)  # weights scale float32's own error too
    assert logprobs == pytest.approx([float(row[t]) for row, t in zip(rows, tokens, strict=True)], abs=close)
    assert logprobs == pytest.approx(rows.max(-1).values.tolist(), abs=close)
    if "prompt_logprobs" in request.params:
        want = [float(law[i, token]) for i, token in enumerate(request.prompt[1:])]
        assert answer["prompt_logprobs"][0] is None
        assert answer["prompt_logprobs"][1:] == pytest.approx(want, abs=close, rel=1e-5)


def test_every_request_gets_its_own_law_whatever_the_scheduler_does(
    engines: dict[str, EngineProcess], reference: Reference
) -> None:
    result = engines["guided"].result()
    answers = result["batches"][2]
    assert result["counts"]["preempted"] > 0
    assert result["counts"]["chunked"] > 0
    assert sum(answer["cached"] for answer in answers if answer) > 0
    seen: Counter[str] = Counter()
    for request, answer in zip(STRESS, answers, strict=True):
        if answer is None:
            assert request.leaves is not None
            continue
        agree(reference, request, answer)
        seen.update(list(request.guides) or ["plain"])
        seen["prompt_logprobs"] += "prompt_logprobs" in request.params
    assert all(seen[name] > 1 for name in [*reference.guides, *reference.q, "plain", "prompt_logprobs"])
    assert answers.count(None) > 2


def test_a_cached_prefix_serves_those_whose_guides_have_read_it(
    engines: dict[str, EngineProcess], reference: Reference
) -> None:
    answers = engines["guided"].result()["batches"][3]
    for request, answer in zip(SAME, answers, strict=True):
        agree(reference, request, answer)
    assert [answer["cached"] for answer in answers] == [0, 0, 96, 96, 0]


def test_a_plain_row_is_what_it_is_without_guides_to_the_last_bit(engines: dict[str, EngineProcess]) -> None:
    """Both in a batch of its own kind and beside guided rows."""
    without = engines["plain"].result()["batches"]
    plain, mixed, *_ = engines["guided"].result()["batches"]
    assert plain == without[0]
    same = [answer == other for answer, other in zip(mixed, without[1], strict=True)]
    assert same == [not request.guides for request in ALIKE]


def test_sliding_windows_are_each_models_own(engines: dict[str, EngineProcess], models: dict[str, Path]) -> None:
    reference = Reference(models["window"], {"full": models["llama"], "window": models["narrow"]})
    for request, answer in zip(SLIDING, engines["sliding"].result()["batches"][0], strict=True):
        agree(reference, request, answer)


def test_tokens_are_drawn_from_the_guided_law(engines: dict[str, EngineProcess], models: dict[str, Path]) -> None:
    reference = Reference(models["window"], {"full": models["llama"], "window": models["narrow"]})
    [answer] = engines["sliding"].result()["batches"][1]
    law = (reference.law(DRAW.prompt, DRAW.guides)[-1] / DRAW.params["temperature"]).softmax(-1).tolist()
    drawn = Counter(token for [token] in answer["tokens"])
    assert drawn.total() == DRAWS
    often = [token for token, p in enumerate(law) if p * DRAWS >= 5]
    assert len(often) > 20
    counts = [drawn[token] for token in often]
    expected = [law[token] * DRAWS for token in often]
    rest = DRAWS - sum(expected)
    test = chisquare([*counts, DRAWS - sum(counts)], [*expected, rest])
    assert test.pvalue > 1e-4


def test_an_adapter_holds_and_computes_only_what_it_changes(engines: dict[str, EngineProcess]) -> None:
    """It changes the second layer's attention and the end of its MLP, and nothing in the first layer."""
    result = engines["guided"].result()
    assert set(result["shared"]["guide_tuned"]) == {"model.embed_tokens", "model.layers.1.mlp.gate_up_proj", "lm_head"}
    assert [name for name in result["attention"] if name.startswith("guide_tuned")] == [
        "guide_tuned.model.layers.1.self_attn.attn"
    ]
    assert all(shared == [] for name, shared in result["shared"].items() if name != "guide_tuned")
