"""Names of an older release: accepted for one release, with a warning that says what to write instead."""

from collections.abc import Iterator

import pytest

from server.loading import toy
from tests.support.serving import Api, Json, events, ok, refused, serving

CASCADE: Json = {"strategy": "cascade", "accept_threshold": 1.0}
OLD_CASCADE: Json = {**CASCADE, "accept_from": 0.5, "segment_least": 2, "segment_tokens": 3}
NEW_CASCADE: Json = {**CASCADE, "accept_start": 0.5, "min_segment_tokens": 2, "max_segment_tokens": 3}
PEERS: Json = {"strategy": "best_of_n", "n": 3, "calibrated": True}


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving(toy()) as api:
        yield api


def body(decoding: Json, **more: object) -> Json:
    return {"prompt": "good", "max_tokens": 4, "seed": 3, "decoding": decoding, **more}


def answer(api: Api, decoding: Json) -> Json:
    return ok(api.post("completions", body(decoding)))


@pytest.mark.parametrize(
    ("old", "new", "warnings"),
    [
        (OLD_CASCADE, NEW_CASCADE, ["accept_start", "min_segment_tokens", "max_segment_tokens"]),
        ({**PEERS, "rollouts": 0}, {**PEERS, "rollouts": "candidates"}, ["'candidates'"]),
        (
            {"strategy": "best_of_n", "n": 2, "proposal": OLD_CASCADE},
            {"strategy": "best_of_n", "n": 2, "proposal": NEW_CASCADE},
            ["accept_start", "min_segment_tokens", "max_segment_tokens"],
        ),
    ],
    ids=["cascade", "rollouts", "proposal"],
)
def test_an_older_name_means_what_the_new_one_does_and_warns(
    api: Api, old: Json, new: Json, warnings: list[str]
) -> None:
    by_old, by_new = answer(api, old), answer(api, new)
    assert by_old["choices"] == by_new["choices"]
    assert "warnings" not in by_new["decoding"]
    said = by_old["decoding"]["warnings"]
    assert len(said) == len(warnings)
    assert all(word in line for word, line in zip(warnings, said, strict=True))


def test_a_warning_names_the_place_in_a_proposal(api: Api) -> None:
    decoding = {"strategy": "best_of_n", "n": 2, "proposal": OLD_CASCADE}
    assert answer(api, decoding)["decoding"]["warnings"][0].startswith("decoding.proposal.accept_from ")


def test_a_stream_warns_in_its_last_chunk(api: Api) -> None:
    chunks, _ = events(api.post("completions", body(OLD_CASCADE, stream=True)).text)
    assert len(chunks[-1]["decoding"]["warnings"]) == 3


@pytest.mark.parametrize(
    ("decoding", "param"),
    [
        ({**OLD_CASCADE, "segment_least": 0}, "decoding.min_segment_tokens"),
        ({**OLD_CASCADE, "accept_start": 0.1}, "decoding.accept_from"),
        ({**PEERS, "rollouts": -1}, "decoding.rollouts"),
        ({**PEERS, "rollouts": False}, "decoding.rollouts"),
        ({"strategy": "rejection", "calibrated": True, "rollouts": 0}, "decoding.rollouts"),
        ({"strategy": "best_of_n", "segment_least": 1}, "decoding.segment_least"),
    ],
)
def test_what_was_wrong_by_an_older_name_still_is(api: Api, decoding: Json, param: str) -> None:
    assert refused(api.post("completions", body(decoding)), 400)["param"] == param


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"regex": "good"}, "regex"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"presence_penalty": 1.0}, "presence_penalty"),
        ({"echo": True, "logprobs": 0}, "echo"),
        ({"n": 9}, "n"),
        ({"temperature": 0}, "temperature"),
    ],
)
def test_a_strategy_that_cannot_honour_a_parameter_names_it_as_it_was_sent(api: Api, more: Json, param: str) -> None:
    strategy = {"strategy": "best_of_n", "n": 2} if param == "n" else {"strategy": "controlled", "candidates": 2}
    assert refused(api.post("completions", body(strategy, **more)), 400)["param"] == param


@pytest.mark.parametrize(
    ("proposal", "param"),
    [
        ({"strategy": "speculative_rejection", "reward": "absent"}, "decoding.proposal.reward"),
        ({"strategy": "best_of_n", "n": 2, "proposal": {"strategy": "sample"}}, "decoding.proposal.proposal"),
        ({"strategy": "rejection", "r_max": 9, "max_draws": 2}, "decoding.n"),
        ({"strategy": "sample", "return_kl": True}, "decoding.proposal.return_kl"),
    ],
)
def test_a_proposals_parameter_is_named_in_its_place(api: Api, proposal: Json, param: str) -> None:
    decoding = {"strategy": "best_of_n", "n": 3, "proposal": proposal}
    assert refused(api.post("completions", body(decoding)), 400)["param"] == param
