"""Meeting the policy's server: what it must be and do, before anything is served."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.engines.remote import handshake
from server.settings import PolicySettings, SettingsError
from tests.engines.remote.conftest import URL
from tests.support.engine import ENGINE
from tests.support.reference import tokenizer

CARD = {"id": "m", "max_model_len": 512}
Answers = Callable[[dict[str, Any]], httpx.Response]


def drawn(body: dict[str, Any], **more: Any) -> httpx.Response:
    logprobs = {"token_logprobs": [-1.0], "top_logprobs": [{"token_id:7": -1.0}]}
    one = {"index": 0, "text": "a", "token_ids": [7], "logprobs": logprobs, "prompt_token_ids": body["prompt"], **more}
    return httpx.Response(200, json={"choices": [{**one, "finish_reason": "length"}]})


def meet(
    policy: Path,
    cards: Any = (CARD,),
    completions: Answers = drawn,
    tokenize: Callable[[str], list[int]] | None = None,
    **settings: Any,
) -> Any:
    def server(request: httpx.Request) -> httpx.Response:
        match request.url.path:
            case "/v1/models":
                return httpx.Response(200, json={"data": list(cards)}) if cards is not None else httpx.Response(503)
            case "/v1/completions":
                return completions(json.loads(request.content))
            case "/tokenize":
                if tokenize is None:
                    return httpx.Response(404)
                return httpx.Response(200, json={"tokens": tokenize(json.loads(request.content)["prompt"])})
        raise AssertionError(request.url)

    spec = PolicySettings.model_validate({"model": str(policy), "url": URL, "engine": ENGINE, **settings})
    return handshake.prepare(spec, httpx.MockTransport(server))()


def test_the_shorter_context_counts(policy: Path) -> None:
    assert meet(policy).model_config.max_model_len == 512
    assert meet(policy, [{"id": "m"}]).model_config.max_model_len == ENGINE["max_model_len"]


def test_the_same_tokenizer_is_met(policy: Path) -> None:
    words = tokenizer(policy)
    assert meet(policy, tokenize=lambda text: words.encode(text, add_special_tokens=False)) is not None


def test_a_model_is_met_by_its_name(policy: Path) -> None:
    assert meet(policy, [CARD, {"id": "other"}], url_model="other")._model == "other"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"cards": None}, "503"),
        ({"cards": []}, "name one of its models in policy.url_model: none"),
        ({"cards": [CARD, {"id": "n"}]}, "name one of its models in policy.url_model: m, n"),
        ({"url_model": "o"}, "'o' is not there; name one of its models in policy.url_model: m"),
        ({"completions": lambda _: httpx.Response(400, text="no logprobs here")}, "it refuses token ids.*no logprobs"),
        ({"completions": lambda body: drawn(body, token_ids=None)}, "without token ids or log-probabilities"),
        ({"completions": lambda body: drawn(body, logprobs=None)}, "without token ids or log-probabilities"),
        ({"completions": lambda body: drawn(body, prompt_token_ids=[1])}, "changes the token ids of a prompt"),
        ({"tokenize": lambda _: [1, 2]}, "its tokenizer is not that of policy.model"),
    ],
)
def test_what_will_not_do_is_told_in_a_line(policy: Path, what: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=f"policy.url: {URL}: .*{message}") as raised:
        meet(policy, **what)
    assert len(raised.value.problems) == 1


def test_a_server_that_is_away_is_told_in_a_line(policy: Path) -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("All connection attempts failed", request=request)

    spec = PolicySettings(model=str(policy), url=URL, engine=ENGINE)
    start = handshake.prepare(spec, httpx.MockTransport(away))
    with pytest.raises(SettingsError, match=f"policy.url: {URL}: All connection attempts failed"):
        start()


def test_its_key_comes_from_the_environment(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="POLICY_KEY is not set"):
        meet(policy, api_key_env="POLICY_KEY")
    monkeypatch.setenv("POLICY_KEY", "swordfish")
    assert meet(policy, api_key_env="POLICY_KEY")._client.headers["authorization"] == "Bearer swordfish"
