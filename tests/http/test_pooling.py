"""POST /classify, /pooling and /score over the toy, in the shapes of vLLM's pooling models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.loading import toy
from tests.http.test_auth import add
from tests.support.serving import Api, Json, ok, refused, serving

CHAT: Json = {"messages": [{"role": "user", "content": "good"}, {"role": "assistant", "content": " bad odd odd"}]}
PATHS = ("/classify", "/pooling", "/score", "/v1/score")
ASKED: dict[str, Json] = {
    "/classify": CHAT,
    "/pooling": CHAT,
    "/score": {"text_1": "good", "text_2": "bad"},
    "/v1/score": {"text_1": "good", "text_2": "bad"},
}


def post(api: Api, path: str, **body: Any) -> Json:
    return ok(api.http.post(path, json=body))


def lasting(answer: Json, prefix: str) -> Json:
    """Return the answer without what differs from request to request."""
    assert answer.pop("id").startswith(f"{prefix}-")
    assert answer.pop("created") > 0
    return answer


def usage(tokens: int) -> Json:
    details = {"prompt_tokens_details": None, "completion_tokens_details": None}
    return {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0, **details}


def test_a_chat_has_the_reward_that_rewards_give_its_last_message(api: Api) -> None:
    rewards = {"default": 1, "brevity": 1}
    scored = ok(
        api.post("rewards", {"messages": CHAT["messages"][:1], "completions": [" bad odd odd"], "reward": rewards})
    )
    for name, value in scored["data"][0]["rewards"].items():
        classified = post(api, "/classify", **CHAT, model=name)
        assert lasting(classified, "classify") == {
            "object": "list",
            "model": name,
            "data": [{"index": 0, "label": None, "probs": [value], "num_classes": 1}],
            "usage": usage(5),
        }
        pooled = post(api, "/pooling", **CHAT, model=name, task="classify", use_activation=False)
        assert lasting(pooled, "pooling") == {
            "object": "list",
            "model": name,
            "data": [{"index": 0, "object": "pooling", "data": [value]}],
            "usage": usage(5),
        }


def test_a_text_is_the_completion_of_nothing_and_lists_keep_their_order(api: Api) -> None:
    one = post(api, "/pooling", input="good good")
    assert (one["model"], one["data"]) == ("default", [{"index": 0, "object": "pooling", "data": [2.0]}])
    several = post(api, "/classify", input=["good", "bad bad", "good good good"], encoding_format=None)
    assert [row["probs"] for row in several["data"]] == [[1.0], [-2.0], [3.0]]
    assert [row["index"] for row in several["data"]] == [0, 1, 2]
    assert several["usage"] == usage(6)


@pytest.mark.parametrize(
    "names", [("queries", "documents"), ("queries", "items"), ("data_1", "data_2"), ("text_1", "text_2")]
)
def test_pairs_are_prompts_and_completions(api: Api, names: tuple[str, str]) -> None:
    for path in ("/score", "/v1/score"):
        for first in ("odd", ["odd"], ["odd", "odd"]):
            answer = post(api, path, **dict(zip(names, (first, ["good", "bad bad"]), strict=True)))
            assert lasting(answer, "score") == {
                "object": "list",
                "model": "default",
                "data": [{"index": 0, "object": "score", "score": 1.0}, {"index": 1, "object": "score", "score": -2.0}],
                "usage": usage(5),
            }


def test_what_changes_nothing_is_accepted_and_a_request_has_its_own_id(api: Api) -> None:
    same = {"user": "a", "truncation_side": "left", "padding": "do_not_pad", "priority": 0, "request_id": "mine"}
    own = {"encoding_format": "float", "embed_dtype": "float32", "endianness": "native", "dimensions": None}
    assert post(api, "/pooling", **CHAT, **same, **own)["id"] == "pooling-mine"
    limits = {"max_tokens_per_query": 0, "max_tokens_per_doc": 0, "chat_template_kwargs": {}}
    assert post(api, "/score", queries="a", documents="b", **same, **limits)["id"] == "score-mine"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/classify", {}, "input"),
        ("/classify", {"input": "a", **CHAT}, "input"),
        ("/classify", {"input": []}, "input"),
        ("/classify", {"input": 3}, "input"),
        ("/classify", {"input": [1, 2]}, "input"),
        ("/classify", {"input": "a", "add_special_tokens": False}, "add_special_tokens"),
        ("/classify", {"input": "a", "add_generation_prompt": True}, "add_generation_prompt"),
        ("/classify", {**CHAT, "add_generation_prompt": True}, "add_generation_prompt"),
        ("/classify", {**CHAT, "continue_final_message": True}, "continue_final_message"),
        ("/classify", {**CHAT, "use_activation": True}, "use_activation"),
        ("/classify", {"messages": CHAT["messages"][:1]}, "messages"),
        ("/classify", {**CHAT, "chat_template": "a"}, "chat_template"),
        ("/classify", {**CHAT, "task": "classify"}, "task"),
        ("/classify", {"input": "a", "truncate_prompt_tokens": 3}, "truncate_prompt_tokens"),
        ("/classify", {"input": "a", "padding": "max_length"}, "padding"),
        ("/pooling", {"input": "a", "task": "token_classify"}, "task"),
        ("/pooling", {"input": "a", "task": "embed"}, "task"),
        ("/pooling", {"input": "a", "dimensions": 3}, "dimensions"),
        ("/pooling", {"input": "a", "encoding_format": "base64"}, "encoding_format"),
        ("/score", {"queries": "a"}, "queries"),
        ("/score", {"queries": "a", "documents": "b", "text_1": "c"}, "queries"),
        ("/score", {"queries": ["a", "b"], "documents": ["a", "b", "c"]}, "queries"),
        ("/score", {"text_1": "a", "text_2": []}, "text_2"),
        ("/score", {"text_1": "a", "text_2": {"content": []}}, "text_2"),
        ("/score", {"text_1": "a", "text_2": "b", "instruction": "c"}, "instruction"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(api: Api, path: str, body: Json, field: str) -> None:
    assert refused(api.http.post(path, json=body), 400)["param"] == field


@pytest.mark.parametrize("path", PATHS)
def test_a_reward_is_named_by_the_model(api: Api, path: str) -> None:
    unknown = refused(api.http.post(path, json={**ASKED[path], "model": "toy"}), 404)
    assert (unknown["code"], unknown["param"]) == ("model_not_found", "model")
    assert "Rewards: 'default', 'brevity'" in unknown["message"]


@pytest.mark.parametrize("path", PATHS)
def test_a_key_and_a_reward_are_needed(path: str, tmp_path: Path) -> None:
    key = add(tmp_path / "keys")
    loaded = toy()
    bare = replace(loaded, models=replace(loaded.models, rewards={}))
    with serving(bare, api_keys_file=tmp_path / "keys") as own:
        refused(own.http.post(path, json=ASKED[path]), 401)
        none = own.http.post(path, json=ASKED[path], headers={"Authorization": f"Bearer {key}"})
        assert refused(none, 400)["param"] == "model"
