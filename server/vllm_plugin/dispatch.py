"""The middleware that picks Decant's requests; all others go on to vLLM as they came, byte for byte."""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from decoders.errors import InvalidRequest
from server.http.auth import OWNER
from server.http.body import INLINE
from server.http.preset_choice import HEADER, PresetChoice
from server.http.routes.models import model_cards
from server.http.strict_json import read_json
from server.runtime.state import ServerState

GENERATING = ("/v1/completions", "/v1/chat/completions")
MODELS = "/v1/models"
OWN = ("/v1/strategies", "/v1/rewards", "/healthz", "/readyz")
OWN_BELOW = ("/v1/reports/", "/v1/models/")


class Target:
    """Decant's app, once it is loaded."""

    def __init__(self) -> None:
        self.app: Starlette | None = None
        self.keyed = False

    def serve(self, app: Starlette, *, keyed: bool) -> None:
        """Send requests to `app` from now on; with `keyed` each client's key owns the reports of its answers."""
        self.app, self.keyed = app, keyed

    @property
    def state(self) -> ServerState:
        assert self.app is not None
        state: ServerState = self.app.state.server
        return state


class Dispatch:
    """Sends a request to Decant's app if the path is Decant's, or if its body or header asks for a strategy."""

    def __init__(self, app: ASGIApp, target: Target) -> None:
        self._vllm = app
        self._target = target

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._target.app is None:
            await self._vllm(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path in OWN or path.startswith(OWN_BELOW):
            await self._decant(scope, receive, send)
        elif path in GENERATING and scope["method"] == "POST":
            body, replay = await _read(receive)
            if await self._asks(body, Headers(scope=scope)):
                await self._decant(scope, replay, send)
            else:
                await self._vllm(scope, replay, send)
        elif path == MODELS and scope["method"] == "GET":
            await self._vllm(scope, receive, _Listing(send, self._target.state))
        else:
            await self._vllm(scope, receive, send)

    async def _decant(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._target.app is not None
        key = Headers(scope=scope).get("authorization", "") if self._target.keyed else ""
        owner = hashlib.sha256(key.encode()).hexdigest() if key else ""
        await self._target.app({**scope, OWNER: owner}, receive, send)

    async def _asks(self, body: bytes, headers: Mapping[str, str]) -> bool:
        if len(body) <= INLINE:
            return self._asks_for_strategy(body, headers)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._target.state.body_threads, self._asks_for_strategy, body, headers)

    def _asks_for_strategy(self, body: bytes, headers: Mapping[str, str]) -> bool:
        """Return whether a request is Decant's. One that Decant would not read is, if it may ask for a strategy."""
        state = self._target.state
        choice = PresetChoice(state.presets, state.model)
        try:
            data = read_json(body, state.settings.body_limits)
        except InvalidRequest:
            names = ["decoding", *choice.models()[1:]]
            return choice.asks_for_strategy({}, headers.get(HEADER)) or any(
                json.dumps(name).encode() in body for name in names
            )
        return isinstance(data, dict) and choice.asks_for_strategy(data, headers.get(HEADER))


class _Listing:
    """Sends vLLM's list of models with a card for each preset at its end."""

    def __init__(self, send: Send, state: ServerState) -> None:
        self._send = send
        self._cards = model_cards(state)[1:]
        self._start: Message = {}
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        if self._start["status"] == 200:
            listed: dict[str, Any] = json.loads(self._body)
            listed["data"] += [json.loads(card.to_json()) for card in self._cards]
            self._body = json.dumps(listed, ensure_ascii=False, separators=(",", ":")).encode()
            MutableHeaders(raw=self._start["headers"])["content-length"] = str(len(self._body))
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": self._body})


async def _read(receive: Receive) -> tuple[bytes, Receive]:
    """Return a request's body, and what gives it again, followed by what comes after it."""
    first: list[Message] = []
    while not first or first[-1].get("more_body"):
        first.append(await receive())
    body = b"".join(message.get("body", b"") for message in first)

    async def replay() -> Message:
        return first.pop(0) if first else await receive()

    return body, replay
