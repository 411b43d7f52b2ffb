"""Calibrated rewards, budgets, proposals and votes as clients meet them, and every strategy over HTTP; on the toy."""

import asyncio
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from decoders import STRATEGIES
from decoders.core import Prompt, Sampling
from server.engines.build import toy
from server.engines.toy import WORDS, ToyReward
from server.settings import Settings
from tests.fakes import giving, world
from tests.serving import Api, Json, events, ok, refused, serving
from tests.watched import WatchedPolicy

CHAT: Json = {"messages": [{"role": "user", "content": "good"}]}
BEST: Json = {"strategy": "best_of_n", "n": 4}
CALIBRATED: Json = {"calibrated": True, "rollouts": 20}
WEIGHTS = {"default": 2.0, "brevity": 0.5}
NEEDS: dict[str, Json] = {
    "reward_guided": {"guides": {"kind": 1.0}},
    "rejection": {"r_max": 9.0},
    "cascade": {"accept_threshold": 1.0},
}
NAMES: list[str] = [strategy.model_fields["strategy"].default for strategy in STRATEGIES]


def reward(text: str) -> float:
    return ToyReward().of(tuple(WORDS.index(f" {word}") for word in text.split()))


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving(toy()) as api:
        yield api


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A server whose store has four rewards of 'good', of completions of 16 tokens, by `default` alone."""
    for name in [name for name in os.environ if name.startswith("DECANT_")]:
        monkeypatch.delenv(name)
    loaded = toy(Settings.read(policy={"model": "toy"}, calibration={"store": tmp_path / "rollouts.db", "rollouts": 4}))
    assert loaded.models.calibration is not None
    asyncio.run(loaded.models.calibration.keep(Prompt((1,), ""), Sampling(), "default", [-1.0, 0.0, 0.0, 1.0]))
    with serving(loaded) as api:
        yield api
    asyncio.run(loaded.aclose())


def test_a_calibrated_reward_is_its_quantile_among_the_stored_rewards(stored: Api) -> None:
    body = {"prompt": "good", "completions": ["good", "bad", "", "good good", "plain"], "reward": "default"}
    answer = ok(stored.post("rewards", {**body, "calibrated": True, "on_demand": False}))
    assert [row["rewards"] for row in answer["data"]] == [{"default": r} for r in (1.0, -1.0, 0.0, 2.0, 0.25)]
    quantiles = [0.875, 0.125, 0.5, 1.0, 0.75]
    assert [row["calibrated_rewards"] for row in answer["data"]] == [{"default": c} for c in quantiles]
    assert [row["total"] for row in answer["data"]] == quantiles
    assert answer["cost"]["generated_tokens"] == 0
    assert "calibrated_rewards" not in ok(stored.post("rewards", body))["data"][0]


def test_the_total_is_the_weighted_sum_of_quantiles(api: Api) -> None:
    body = {"prompt": "odd", "completions": ["good", "bad odd"], "reward": WEIGHTS, **CALIBRATED}
    answer = ok(api.post("rewards", body))
    assert 20 <= answer["cost"]["generated_tokens"] <= 20 * 4
    assert answer["cost"]["scored_tokens"] == 2 * (answer["cost"]["generated_tokens"] + 20 + (2 + 3))
    assert set(answer["cost"]["seconds"]) == {"queue", "generate", "score"}
    for row in answer["data"]:
        assert set(row["rewards"]) == set(row["calibrated_rewards"]) == set(WEIGHTS)
        assert all(0 <= c <= 1 for c in row["calibrated_rewards"].values())
        total = sum(weight * row["calibrated_rewards"][name] for name, weight in WEIGHTS.items())
        assert row["total"] == pytest.approx(total, abs=1e-12)


def test_rollouts_of_scored_completions_are_drawn_as_asked_and_by_the_seed(api: Api) -> None:
    def ask(**more: object) -> Json:
        return ok(api.post("rewards", {**CHAT, "completions": ["plain odd"], **CALIBRATED, **more}))

    assert [ask(seed=3)["data"] for _ in range(3)] == [ask(seed=3)["data"]] * 3
    assert len({str(ask(seed=seed)["data"]) for seed in range(8)}) > 1
    assert ask(max_tokens=1)["cost"]["generated_tokens"] == 20
    assert ask(max_tokens=1, rollouts=7)["cost"]["generated_tokens"] == 7
    assert ask(max_tokens=1, rollouts=None)["cost"]["generated_tokens"] == 100
    assert ask(temperature=1e-5)["cost"]["generated_tokens"] % 20 == 0, "all alike"


def test_what_a_reward_without_a_value_has_is_null() -> None:
    with serving(world(rewards={"default": giving(math.inf)})) as api:
        [row] = ok(api.post("rewards", {"prompt": "good", "completions": ["bad"], **CALIBRATED}))["data"]
    assert (row["rewards"], row["calibrated_rewards"], row["total"]) == ({"default": None}, {"default": None}, None)


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        *(({name: value}, name, f"'{name}' is about samples of the policy: set calibrated.") for name, value in {
            "rollouts": 5, "on_demand": True, "max_tokens": 5, "temperature": 1.0, "top_p": 1.0, "top_k": 0,
            "min_p": 0.0, "stop": "a", "seed": 1,
        }.items()),
        ({"calibrated": True, "on_demand": False}, "on_demand", "has no 4 stored rollouts of brevity"),
        ({"calibrated": True, "rollouts": 0}, "rollouts", "greater than or equal to 1"),
        ({"calibrated": True, "rollouts": 1025}, "rollouts", "less than or equal to 1024"),
        ({"calibrated": True, "temperature": 0}, "temperature", "greater than 0"),
        ({"calibrated": True, "max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"calibrated": True, "max_tokens": 64}, "max_tokens", "together over this model's context of 64"),
        ({"calibrated": True, "prompt": "odd " * 64}, "prompt", "The prompt has 64 tokens"),
        ({"calibrated": True, "prompt": ""}, "prompt", "The prompt is empty"),
        ({"calibrated": True, "top_p": 0.5}, "top_p", "does not support"),
        ({"calibrated": True, "reward": "zip"}, "reward", "brevity, default"),
    ],
)  # fmt: skip
def test_what_cannot_be_calibrated_is_a_400_that_names_the_field(
    stored: Api, change: Json, param: str, words: str
) -> None:
    body = {"prompt": "good", "completions": ["bad"], "reward": "brevity"}
    error = refused(stored.post("rewards", {**body, **change}), 400)
    assert error["param"] == param
    assert words in error["message"]


def test_messages_that_are_too_long_to_sample_after_are_named(api: Api) -> None:
    body = {"messages": [{"role": "user", "content": "odd " * 64}], "completions": ["bad"]}
    ok(api.post("rewards", body))
    assert refused(api.post("rewards", {**body, **CALIBRATED}), 400)["param"] == "messages"


def test_rollouts_over_the_servers_own_bounds_are_refused_unless_they_may_not_be_drawn() -> None:
    body = {"prompt": "good", "completions": ["bad"], **CALIBRATED, "max_tokens": 5}
    for limits, wrong in (
        ({"max_candidates": 20}, {"rollouts": 21}),
        ({"max_generated_tokens": 100}, {"max_tokens": 6}),
    ):
        policy = WatchedPolicy()
        with serving(world(policy), **limits) as api:
            error = refused(api.post("rewards", {**body, **wrong}), 400)
            assert (error["param"], policy.most) == ("rollouts", 0)
            assert "over this server's budget of" in error["message"]
            assert refused(api.post("rewards", {**body, **wrong, "on_demand": False}), 400)["param"] == "on_demand"
            ok(api.post("rewards", body))


TRANSFORMS = [{"kind": "identity"}, {"kind": "log"}, {"kind": "exponential", "t": -2.0}]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: transform["kind"])
@pytest.mark.parametrize(
    "fields",
    [
        BEST,
        {"strategy": "controlled", "block_tokens": 2},
        {"strategy": "particles", "block_tokens": 2},
        {"strategy": "rejection", "max_draws": 64},
    ],
    ids=lambda fields: fields["strategy"],
)
def test_a_calibrated_search_reports_quantiles(api: Api, fields: Json, transform: Json) -> None:
    decoding = {**fields, **CALIBRATED, "transform": transform, "reward": WEIGHTS, "return_candidates": True}
    for seed in range(3):
        report = api.complete(n=2, seed=seed, decoding=decoding)["decoding"]
        assert len(report["results"]) == 2
        chosen = [candidate for candidate in report["candidates"] if candidate["chosen"]]
        assert len(chosen) == 2
        for scored in (*report["results"], *report["candidates"]):
            assert set(scored["calibrated_rewards"]) == set(WEIGHTS)
            assert all(0 <= c <= 1 for c in scored["calibrated_rewards"].values())
        for result in report["results"]:
            assert result["calibrated_rewards"] in [candidate["calibrated_rewards"] for candidate in chosen]
        assert report["cost"]["candidates"] > 20
        assert "calibrated_rewards" not in api.complete(decoding=BEST)["decoding"]["results"][0]


def test_the_best_is_the_best_by_the_transformed_quantiles(stored: Api) -> None:
    decoding = {**BEST, "calibrated": True, "on_demand": False, "reward": "default", "return_candidates": True}
    quantile = {-1.0: 0.125, 0.0: 0.5, 1.0: 0.875}
    for seed in range(8):
        report = stored.complete(seed=seed, decoding=decoding)["decoding"]
        for candidate in report["candidates"]:
            worth = candidate["rewards"]["default"]
            want = quantile.get(worth, 0.0 if worth < -1 else 1.0 if worth > 1 else 0.75 if worth > 0 else 0.25)
            assert candidate["calibrated_rewards"] == {"default": want}
        best = max(candidate["calibrated_rewards"]["default"] for candidate in report["candidates"])
        assert report["results"][0]["calibrated_rewards"] == {"default": best}
        assert report["cost"]["candidates"] == 4


BUDGETS: list[tuple[Json, int, int]] = [
    ({"strategy": "sample"}, 2, 10),
    (BEST, 4, 20),
    ({**BEST, **CALIBRATED}, 24, 120),
    ({"strategy": "controlled", "candidates": 3, "block_tokens": 2}, 2 * 3 * 3, 2 * 3 * 5),
    ({"strategy": "particles", "particles": 3, "block_tokens": 2}, 2 * 3 * 3, 2 * 3 * 5),
    ({"strategy": "rejection", "r_max": 9.0, "max_draws": 7}, 7, 35),
    ({"strategy": "speculative_rejection", "n": 4, "checkpoints": [2]}, 2 * 4, 2 * (4 * 2 + 2 * 3)),
    ({**BEST, "proposal": {"strategy": "controlled", "candidates": 3, "block_tokens": 2}}, 4 * 9, 4 * 15),
]


@pytest.mark.parametrize(("fields", "candidates", "tokens"), BUDGETS, ids=lambda case: str(case)[:40])
def test_a_request_over_its_own_budget_is_refused_before_any_work(fields: Json, candidates: int, tokens: int) -> None:
    policy = WatchedPolicy()
    body: Json = {"n": 2, "max_tokens": 5}
    with serving(world(policy)) as api:
        for over in ({"candidates": candidates - 1}, {"tokens": tokens - 1}, {"candidates": candidates, "tokens": 1}):
            decoding = {**fields, "budget": over}
            for stream in (False, True):
                wrong = {"prompt": "good", **body, "stream": stream, "decoding": decoding}
                error = refused(api.post("completions", wrong), 400)
                assert error["param"] == "decoding.budget"
                assert "over its own budget of" in error["message"]
            chat = {**CHAT, **body, "decoding": decoding}
            assert refused(api.post("chat/completions", chat), 400)["param"] == "decoding.budget"
        assert policy.most == 0, "the policy was asked"
        decoding = {**fields, "budget": {"candidates": candidates, "tokens": tokens}}
        cost = api.complete(**body, decoding=decoding)["decoding"]["cost"]
        assert cost["candidates"] <= candidates
        assert cost["generated_tokens"] == policy.tokens <= tokens


def test_the_prompts_of_a_request_add_up_to_its_budget(api: Api) -> None:
    body: Json = {"prompt": ["good", "bad", "odd"], "max_tokens": 5}
    for over in ({"candidates": 11}, {"tokens": 59}):
        error = refused(api.post("completions", {**body, "decoding": {**BEST, "budget": over}}), 400)
        assert error["param"] == "decoding.budget"
    ok(api.post("completions", {**body, "decoding": {**BEST, "budget": {"candidates": 12, "tokens": 60}}}))


@pytest.mark.parametrize(
    ("limits", "what"), [({"max_candidates": 12}, "candidates"), ({"max_generated_tokens": 60}, "tokens")]
)
def test_a_request_over_the_servers_budget_is_refused_before_any_work(limits: Json, what: str) -> None:
    policy = WatchedPolicy()
    with serving(world(policy), **limits) as api:
        body: Json = {"prompt": ["good", "bad", "odd"], "max_tokens": 5}
        for path, wrong in (
            ("completions", {**body, "decoding": {**BEST, "n": 5}}),
            (
                "completions",
                {**body, "decoding": {**BEST, "budget": {"candidates": 99, "tokens": 99}}, "prompt": ["a"] * 4},
            ),
            ("completions", {**body, "n": 5}),
            ("chat/completions", {**CHAT, "max_tokens": 5, "decoding": {**BEST, "n": 13}}),
        ):
            error = refused(api.post(path, wrong), 400)
            assert error["param"] == "decoding"
            assert f"{what}, over this server's budget of" in error["message"]
        assert policy.most == 0, "the policy was asked"
        ok(api.post("completions", {**body, "decoding": BEST}))


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"budget": {"candidates": 0}}, "decoding.budget.candidates", "greater than or equal to 1"),
        ({"budget": {"zip": 1}}, "decoding.budget.zip", "no such field"),
        ({"budget": 5}, "decoding.budget", "JSON object"),
        ({"calibrated": True, "rollouts": 1025}, "decoding.rollouts", "less than or equal to 1024"),
        ({"calibrated": True, "transform": {"kind": "zip"}}, "decoding.transform.kind", "'exponential'"),
        ({"calibrated": True, "transform": {"kind": "exponential", "t": 51}}, "decoding.transform.t", "less than"),
        ({"transform": {"kind": "log"}}, "decoding.transform", "set calibrated"),
        ({"calibrated": True, "rollouts": 0, "stop_at": 0.9}, "decoding.rollouts", "stop_at needs rollouts"),
        ({"calibrated": True, "on_demand": False}, "decoding.on_demand", "no 100 stored rollouts of default"),
        ({"select": {"by": "vote"}}, "decoding.select.answer", "required"),
        ({"select": {"by": "vote", "answer": "(good"}}, "decoding.select.answer", "linear time (RE2): missing )"),
        ({"select": {"by": "vote", "answer": r"(a)\1"}}, "decoding.select.answer", "invalid escape sequence"),
        ({"select": {"by": "vote", "answer": ""}}, "decoding.select.answer", "at least 1 character"),
        ({"select": {"by": "vote", "answer": "a", "beta": 0}}, "decoding.select.beta", "greater than 0"),
        ({"select": {"by": "vote", "answer": "a"}, "stop_at": 1}, "decoding.stop_at", "not what vote looks for"),
        ({"guides": {"kind": 1}, "proposal": {"strategy": "sample"}}, "decoding.guides", "name its guides there"),
        ({"proposal": "sample"}, "decoding.proposal", "JSON object"),
        ({"proposal": {"strategy": "zip"}}, "decoding.proposal.strategy", "'speculative_rejection', 'cascade'"),
        ({"proposal": {"n": 4}}, "decoding.proposal.strategy", "required"),
        ({"proposal": {"strategy": "cascade"}}, "decoding.proposal.accept_threshold", "required"),
        ({"proposal": {"strategy": "controlled", "zip": 1}}, "decoding.proposal.zip", "no such field"),
        ({"proposal": {"strategy": "controlled", "block_stop": [""]}}, "decoding.proposal.block_stop.0", "at least 1"),
        ({"proposal": {"strategy": "particles", "particles": 0}}, "decoding.proposal.particles", "greater than"),
        ({"proposal": {**BEST, "select": {"by": "zip"}}}, "decoding.proposal.select.by", "'vote'"),
        ({"proposal": {**BEST, "proposal": {"strategy": "sample"}}}, "decoding.proposal.proposal", "no such field"),
        ({"proposal": {"strategy": "sample", "return_kl": True}}, "decoding.proposal.return_kl", "outside"),
        ({"proposal": {"strategy": "sample", "return_candidates": True}}, "decoding.proposal.return_candidates",
         "outside"),
        ({"proposal": {"strategy": "sample", "budget": {"tokens": 5}}}, "decoding.proposal.budget", "outside"),
        ({"proposal": {"strategy": "sample", "reward": "zip"}}, "decoding.proposal.reward", "brevity, default"),
        ({"proposal": {"strategy": "sample", "guides": {"zip": 1}}}, "decoding.proposal.guides", "brief, kind"),
        ({"proposal": {"strategy": "sample", "guides": {"kind": 101}}}, "decoding.proposal.guides.kind", "between"),
        ({"proposal": {"strategy": "reward_guided"}}, "decoding.proposal.guides", "Name a guide"),
        ({"proposal": {"strategy": "rejection"}}, "decoding.proposal.r_max", "needs a bound"),
        ({"proposal": {"strategy": "rejection", "r_max": -9}}, "decoding.proposal.r_max", "is above r_max = -9"),
        ({"proposal": {"strategy": "controlled", "beams": 5}}, "decoding.proposal.beams", "5 beams"),
        ({"proposal": {"strategy": "particles", "transform": {"kind": "log"}}}, "decoding.proposal.transform",
         "calibrated"),
        ({"proposal": {"strategy": "particles", "calibrated": True, "on_demand": False}}, "decoding.proposal.on_demand",
         "no 100 stored rollouts"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_search_cannot_do_is_a_400_that_names_the_field(
    api: Api, change: Json, param: str, words: str, stream: bool
) -> None:
    error = refused(api.post("completions", {"prompt": "good", "stream": stream, "decoding": {**BEST, **change}}), 400)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert words in error["message"]


def test_a_proposal_says_its_own_reward_beside_the_one_that_chooses(api: Api) -> None:
    proposal = {"strategy": "rejection", "reward": "brevity", **CALIBRATED, "beta": 0.5}
    decoding = {**BEST, "reward": "default", "proposal": proposal, "return_kl": True, "return_candidates": True}
    report = api.complete(seed=1, decoding=decoding)["decoding"]
    [result] = report["results"]
    assert result["rewards"] == {"default": max(c["rewards"]["default"] for c in report["candidates"])}
    assert len(report["candidates"]) == 4
    assert result["accepted"]
    assert result["kl"]["estimator"] == "order_statistic_bound+tilt_log_ratio"
    assert report["strategy"] == "best_of_n"
    assert report["cost"]["candidates"] >= 4 + 20


def test_the_majoritys_answer_is_reported_with_its_share(api: Api) -> None:
    decoding = {**BEST, "n": 16, "select": {"by": "vote", "answer": r" (\w+)"}, "return_candidates": True}
    for seed in range(8):
        body = api.complete(seed=seed, decoding=decoding)
        lasts = [c["text"].split()[-1] for c in body["decoding"]["candidates"] if c["text"]]
        vote = body["decoding"]["results"][0]["vote"]
        assert lasts.count(vote["answer"]) == max(map(lasts.count, lasts))
        assert vote["share"] == pytest.approx(lasts.count(vote["answer"]) / len(lasts))
        assert body["choices"][0]["text"].split()[-1] == vote["answer"]


def test_where_no_candidate_answers_the_best_is_returned_with_no_answer(api: Api) -> None:
    decoding = {**BEST, "select": {"by": "vote", "answer": "#### (.*)"}, "return_candidates": True}
    body = api.complete(seed=0, decoding=decoding)
    assert body["decoding"]["results"][0]["vote"] == {"answer": None, "share": 0.0}
    best = max(c["rewards"]["default"] for c in body["decoding"]["candidates"])
    assert reward(body["choices"][0]["text"]) == best
    assert "vote" not in api.complete(decoding=BEST)["decoding"]["results"][0]


def test_a_reward_above_r_max_ends_the_request(api: Api) -> None:
    decoding: Json = {"strategy": "rejection", "r_max": -0.5, "beta": 1e-3}
    for seed in range(8):
        body = {"prompt": "good", "seed": seed, "decoding": decoding}
        error = refused(api.post("completions", body), 400)
        assert error["param"] == "decoding.r_max"
        assert "above r_max = -0.5" in error["message"]


def test_a_result_that_was_not_accepted_says_so(api: Api) -> None:
    decoding: Json = {"strategy": "rejection", "r_max": 1e3, "max_draws": 4}
    report = api.complete(n=2, decoding=decoding)["decoding"]
    assert [result["accepted"] for result in report["results"]] == [False, False]
    assert {result["draws"] for result in report["results"]} == {4}
    report = api.complete(n=2, decoding={**decoding, "beta": 1e6, "max_draws": 64})["decoding"]
    assert [result["accepted"] for result in report["results"]] == [True, True]


def test_a_tilt_that_takes_too_many_draws_is_refused_with_their_number(api: Api) -> None:
    decoding = {"strategy": "rejection", **CALIBRATED, "transform": {"kind": "exponential"}}
    error = refused(api.post("completions", {"prompt": "good", "decoding": decoding}), 400)
    assert error["param"] == "decoding.max_draws"
    assert "draws, over max_draws = 256" in error["message"]


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_answers_whole_and_as_a_stream(api: Api, name: str, path: str) -> None:
    start = {"prompt": "good"} if path == "completions" else CHAT
    decoding = {"strategy": name, **NEEDS.get(name, {}), "reward": "default"}
    body = {**start, "n": 2, "seed": 5, "decoding": decoding}
    whole = ok(api.post(path, body))
    streamed = api.post(path, {**body, "stream": True})
    assert streamed.status_code == 200
    chunks, _ = events(streamed.text)
    assert [chunk for chunk in chunks if "error" in chunk] == []
    for index, choice in enumerate(whole["choices"]):
        pieces = [piece for chunk in chunks for piece in chunk["choices"] if piece["index"] == index]
        if path == "completions":
            text, parts = choice["text"], [piece["text"] for piece in pieces]
        else:
            text, parts = choice["message"]["content"], [piece["delta"]["content"] for piece in pieces]
        assert "".join(parts) == text
        assert [piece["finish_reason"] for piece in pieces if piece["finish_reason"]] == [choice["finish_reason"]]
        assert whole["decoding"]["results"][index]["rewards"]["default"] == reward(text)
    for report in (whole["decoding"], chunks[-1]["decoding"]):
        assert report["strategy"] == name
        assert report["results"] == whole["decoding"]["results"]
        assert report["cost"]["candidates"] >= 2
        assert report["cost"]["generated_tokens"] >= report["cost"]["returned_tokens"] > 0


def test_every_strategy_is_listed_with_its_law_and_schema(api: Api) -> None:
    listed = ok(api.http.get("/v1/strategies"))["strategies"]
    assert list(listed) == NAMES
    for name, strategy in listed.items():
        assert "Law: " in strategy["description"] or "Law, " in strategy["description"]
        schema = strategy["schema"]
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert schema["properties"]["strategy"]["const"] == name
        assert "budget" in schema["properties"]
        assert set(schema.get("required", [])) <= set(NEEDS.get(name, {}))
