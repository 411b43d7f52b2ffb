"""A request that may draw more than its own budget or the server's is refused before it draws."""

import pytest

from decoders.testing import WatchedPolicy
from tests.support.fakes import world
from tests.support.serving import Api, Json, ok, refused, serving

CHAT: Json = {"messages": [{"role": "user", "content": "good"}]}
BEST: Json = {"strategy": "best_of_n", "n": 4}
CALIBRATED: Json = {"calibrated": True, "rollouts": 20}


BUDGETS: list[tuple[Json, int, int]] = [
    ({"strategy": "sample"}, 2, 10),
    (BEST, 4, 20),
    ({**BEST, **CALIBRATED}, 24, 120),
    ({"strategy": "controlled", "candidates": 3, "block_tokens": 2}, 2 * 3 * 3, 2 * 3 * 5),
    ({"strategy": "controlled", "candidates": 3, "block_tokens": 2, "block_stop": ["."]}, 30, 2 * 3 * (2 * 4 + 1)),
    (
        {
            "strategy": "cascade",
            "accept_threshold": 9,
            "max_tries": 4,
            "min_segment_tokens": 2,
            "max_segment_tokens": 3,
        },
        2 * 4 * 3,
        2 * 4 * (3 + 3 + 1),
    ),
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
        assert policy.peak == 0, "the policy was asked"
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
        assert policy.peak == 0, "the policy was asked"
        ok(api.post("completions", {**body, "decoding": BEST}))
