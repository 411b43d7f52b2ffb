"""Meeting the policy's server before anything is served: that it is there, and answers in the policy's own tokens."""

import os
from collections.abc import Mapping
from typing import Any

import httpx
from vllm import SamplingParams

from decoders.errors import EngineFailed
from server.engines.remote.completions_body import completions_body
from server.engines.remote.completions_choices import request_output
from server.engines.remote.engine import CONNECT, RemoteEngine
from server.engines.vllm_seam import Start, configure
from server.settings import PolicySettings, SettingsError

ANSWER = 60.0  # seconds that the server may take for one token
TEXT = "Décanter 12 wines, slowly:\n\tred, white and rosé."  # tokenized by both sides


def prepare(policy: PolicySettings, transport: httpx.BaseTransport | None = None) -> Start:
    """Return what meets the policy's server, and gives an engine that sends requests to it.

    Raises `SettingsError`, here if the key is not set or vLLM cannot read the policy's configuration, and at the start
    if the server is not there, serves no such model, or does not answer in the tokens of `policy.model`.
    """
    assert policy.url is not None
    headers = _headers(policy)
    url = policy.url.rstrip("/")
    _, config = configure(policy.model, policy.engine)

    def start() -> Any:
        with httpx.Client(
            headers=headers, timeout=httpx.Timeout(ANSWER, connect=CONNECT), transport=transport
        ) as client:
            server = _Server(client, url)
            try:
                card = server.card(policy)
                longest = card.get("max_model_len") or config.model_config.max_model_len
                config.model_config.max_model_len = min(longest, config.model_config.max_model_len)
                engine = RemoteEngine(url, card["id"], config, headers)
                server.check_tokens(card["id"], engine.get_tokenizer())
            except (httpx.HTTPError, ValueError, LookupError, EngineFailed) as error:
                raise SettingsError(f"policy.url: {url}: {error}") from error
        return engine

    return start


def _headers(policy: PolicySettings) -> dict[str, str]:
    if policy.api_key_env is None:
        return {}
    key = os.environ.get(policy.api_key_env, "")
    if not key:
        raise SettingsError(f"policy.api_key_env: {policy.api_key_env} is not set in the environment")
    return {"Authorization": f"Bearer {key}"}


class _Server:
    def __init__(self, client: httpx.Client, url: str) -> None:
        self._client = client
        self._url = url

    def card(self, policy: PolicySettings) -> Mapping[str, Any]:
        """Return what the server says of its model for the policy: that of its name, or its only one."""
        answer = self._client.get(f"{self._url}/models")
        answer.raise_for_status()
        cards = {card["id"]: card for card in answer.json()["data"]}
        name = policy.url_model
        if name is None and len(cards) == 1:
            [name] = cards
        if name not in cards:
            wanted = "" if name is None else f"'{name}' is not there; "
            raise ValueError(
                f"{wanted}name one of its models in policy.url_model: {', '.join(sorted(cards)) or 'none'}"
            )
        found: Mapping[str, Any] = cards[name]
        return found

    def check_tokens(self, model: str, tokenizer: Any) -> None:
        """Raise ValueError unless the server takes and gives token ids and log-probabilities, by the same tokenizer."""
        ids = tokenizer.encode(TEXT, add_special_tokens=False)
        sent = [*ids, len(tokenizer) - 1]
        body = completions_body(
            model, sent, SamplingParams(max_tokens=1, logprobs=1), stream=False, cache_salt=None, priority=0
        )
        answer = self._client.post(f"{self._url}/completions", json=body)
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"it refuses token ids with log-probabilities: {answer.text[:300]}")
        [choice] = answer.json()["choices"]
        [part] = request_output("", sent, [choice], 1).outputs
        if not part.token_ids or part.logprobs is None:
            raise ValueError("it answers without token ids or log-probabilities")
        if choice.get("prompt_token_ids") not in (None, sent):
            raise ValueError("it changes the token ids of a prompt")
        other = self._client.post(
            f"{self._url.removesuffix('/v1')}/tokenize",
            json={"model": model, "prompt": TEXT, "add_special_tokens": False},
        )
        if other.status_code == httpx.codes.OK and other.json().get("tokens") != ids:
            raise ValueError("its tokenizer is not that of policy.model")
