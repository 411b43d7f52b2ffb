"""Log-probabilities of given completions, by POST /v1/rewards."""

import pytest

from tests.support.serving import Api, Json, ok, refused

BODY: Json = {"prompt": "good", "completions": [" bad odd", " good"]}


def test_they_stand_beside_the_rewards_where_they_are_asked_for(api: Api) -> None:
    plain = ok(api.post("rewards", BODY))["data"]
    asked = ok(api.post("rewards", {**BODY, "policy_logprob": True, "guides": {"kind": 1}}))
    for bare, row in zip(plain, asked["data"], strict=True):
        assert "policy_logprob" not in bare
        assert "guided_logprob" not in bare
        assert row["rewards"] == bare["rewards"]
        assert row["total"] == bare["total"]
        assert row["policy_logprob"] < 0
        assert row["guided_logprob"] < 0
        assert row["guided_logprob"] != row["policy_logprob"]
    assert asked["cost"]["scored_tokens"] == 3 * ok(api.post("rewards", BODY))["cost"]["scored_tokens"]


def test_a_guide_of_weight_zero_is_the_policy(api: Api) -> None:
    rows = ok(api.post("rewards", {**BODY, "policy_logprob": True, "guides": {"kind": 0}}))["data"]
    assert [row["guided_logprob"] for row in rows] == pytest.approx([row["policy_logprob"] for row in rows])


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"guides": {"strong": 1}}, "guides"),
        ({"guides": {"kind": 101}}, "guides.kind"),
        ({"policy_logprob": 1}, "policy_logprob"),
    ],
)
def test_what_cannot_be_measured_is_refused(api: Api, more: Json, field: str) -> None:
    assert refused(api.post("rewards", {**BODY, **more}), 400)["param"] == field
