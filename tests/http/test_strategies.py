"""Every strategy over HTTP on the toy, with proposals and votes: refusals and reports."""

import pytest

from decoders import STRATEGIES
from tests.support.fakes import toy_reward
from tests.support.serving import Api, Json, events, ok, refused

CHAT: Json = {"messages": [{"role": "user", "content": "good"}]}
BEST: Json = {"strategy": "best_of_n", "n": 4}
CALIBRATED: Json = {"calibrated": True, "rollouts": 20}
NEEDS: dict[str, Json] = {
    "reward_guided": {"guides": {"kind": 1.0}},
    "rejection": {"r_max": 9.0},
    "cascade": {"accept_threshold": 1.0},
}
NAMES: list[str] = [strategy.model_fields["strategy"].default for strategy in STRATEGIES]


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
        ({"select": {"by": "vote", "answer": "a", "beta": 0}}, "decoding.select.beta", "equal to 0.000000000001"),
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
        ({"proposal": {**BEST, "proposal": {"strategy": "sample"}}}, "decoding.proposal.proposal", "no proposal of"),
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
    assert toy_reward(body["choices"][0]["text"]) == best
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
        assert whole["decoding"]["results"][index]["rewards"]["default"] == toy_reward(text)
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
