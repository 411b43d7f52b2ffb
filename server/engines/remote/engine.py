"""The policy's engine on another server, reached by POST /v1/completions."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.exceptions import VLLMClientError
from vllm.outputs import RequestOutput
from vllm.renderers import renderer_from_config
from vllm.sampling_params import RequestOutputKind

from decoders.errors import EngineFailed
from server.engines.remote.completions_body import completions_body
from server.engines.remote.completions_choices import StreamedOutputs, request_output

CONNECT = 5.0  # seconds
RETRY_AFTER = 0.2  # seconds
RETRIED = frozenset({429, 502, 503})
DATA = "data: "


class Refused(VLLMClientError):  # type: ignore[misc]
    """The server refuses a request; `parameter` is its name for what to change, if it says."""

    def __init__(self, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class RemoteEngine:
    """What Decant uses of vLLM's `AsyncLLM`, over HTTP: no weights are loaded here, but the tokenizer and the config.

    The server's next-token law is the policy's law as long as it serves the weights that `config` names, which nothing
    here can check. A request that fails before the first byte of its answer is sent once more: nothing of the first
    draw was used, so the law is the same. What fails later is not, and neither is anything that the server refuses.

    Args:
        url: The server's address, up to `/v1`.
        model: The server's name for the policy.
        config: vLLM's configuration of the policy, as of an engine here.
        headers: Sent with every request.
    """

    errored = False
    """Never: the server may come back, and what reaches it then is served."""

    def __init__(
        self,
        url: str,
        model: str,
        config: VllmConfig,
        headers: Mapping[str, str],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.vllm_config = config
        self.model_config = config.model_config
        self.renderer = renderer_from_config(config)
        self._url = url
        self._model = model
        self._client = httpx.AsyncClient(
            headers=dict(headers),
            timeout=httpx.Timeout(
                None, connect=CONNECT
            ),  # an answer takes as long as it takes: the request has a limit
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),  # admission bounds them
            transport=transport,
        )

    def get_tokenizer(self) -> Any:
        return self.renderer.get_tokenizer()

    async def generate(
        self,
        prompt: Mapping[str, Any],
        sampling_params: SamplingParams,
        request_id: str,
        *,
        priority: int = 0,
        **unsupported: Any,
    ) -> AsyncGenerator[RequestOutput]:
        """Yield what the server draws. Leaving the generator ends the request there, as closing a connection does.

        Raises `EngineFailed`, and `Refused` for what the server refuses.
        """
        if unsupported:
            raise Refused("The policy's server takes no grammar that begins after the reasoning.")
        params, tokens = sampling_params, list(prompt["prompt_token_ids"])
        # vLLM streams no log-probabilities of prompts.
        stream = params.prompt_logprobs is None and (params.n > 1 or params.output_kind == RequestOutputKind.DELTA)
        salt = prompt.get("cache_salt")
        body = completions_body(self._model, tokens, params, stream=stream, cache_salt=salt, priority=priority)
        likeliest = params.logprobs or 0
        async with self._answer(body) as answer:
            if not stream:
                choices = json.loads(await answer.aread())["choices"]
                yield request_output(request_id, tokens, choices, likeliest)
                return
            outputs = StreamedOutputs(params)
            async for choices in _chunks(answer):
                output = outputs.next(request_output(request_id, tokens, choices, likeliest))
                if output.outputs:
                    yield output
            if not outputs.complete:
                raise EngineFailed("The policy's server ended a stream before its completions.")

    @asynccontextmanager
    async def _answer(self, body: Mapping[str, Any]) -> AsyncGenerator[httpx.Response]:
        """Send a request, once more if it fails before the first byte of its answer, and hold the answer open."""
        try:
            answer = await self._send(body)
        except httpx.TransportError as error:
            raise EngineFailed(f"The policy's server cannot be reached: {type(error).__name__}.") from error
        try:
            if answer.status_code != httpx.codes.OK:
                raise _refused(answer.status_code, await answer.aread())
            yield answer
        except (httpx.TransportError, json.JSONDecodeError) as error:
            raise EngineFailed(f"The policy's server broke off an answer: {type(error).__name__}.") from error
        finally:
            await answer.aclose()

    async def _send(self, body: Mapping[str, Any]) -> httpx.Response:
        request = self._client.build_request("POST", f"{self._url}/completions", json=body)
        try:
            answer = await self._client.send(request, stream=True)
        except httpx.TransportError:
            await asyncio.sleep(RETRY_AFTER)
            return await self._client.send(request, stream=True)
        if answer.status_code in RETRIED:
            await answer.aclose()
            await asyncio.sleep(RETRY_AFTER)
            return await self._client.send(request, stream=True)
        return answer

    async def reachable(self) -> bool:
        """Return whether the server lists its models within a second."""
        try:
            answer = await self._client.get(f"{self._url}/models", timeout=1.0)
        except httpx.TransportError:
            return False
        return answer.status_code == httpx.codes.OK

    def shutdown(self, timeout: float | None = None) -> None:  # noqa: ARG002
        """End nothing: the engine is another server's."""
        self.renderer.shutdown()

    async def aclose(self) -> None:
        await self._client.aclose()


async def _chunks(answer: httpx.Response) -> AsyncGenerator[list[Any]]:
    """Yield the choices of each chunk of a stream."""
    async for line in answer.aiter_lines():
        if not line.startswith(DATA) or line == f"{DATA}[DONE]":
            continue
        chunk = json.loads(line.removeprefix(DATA))
        if "error" in chunk:
            raise EngineFailed(f"The policy's server failed: {chunk['error'].get('message', 'it does not say why')}")
        if chunk["choices"]:
            yield chunk["choices"]


def _refused(status: int, body: bytes) -> Exception:
    """Return the error for an answer that is none: the client's for a refused field, else the server's."""
    try:
        error = json.loads(body)["error"]
        message, parameter = str(error["message"]), error.get("param")
    except (LookupError, TypeError, ValueError, AttributeError):
        message, parameter = "it does not say why", None
    if status in (400, 422):
        return Refused(message, parameter)
    return EngineFailed(f"The policy's server answered with status {status}.")
