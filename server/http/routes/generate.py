"""POST /v1/completions and POST /v1/chat/completions."""

import time
from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from decoders.core import Prompt
from decoders.events import Cost
from server.http.answer import AnswerSpec
from server.http.auth import client_of, owner_of
from server.http.body import BodyReader
from server.http.chat_format import ChatFormat
from server.http.event_writer import EventWriter
from server.http.openai_format import AnswerFormat, CompletionFormat
from server.http.prompts import encode_prompts
from server.http.response_writers import AnswerWriter
from server.http.run_response import RunResponse
from server.http.schemas.chat import ChatBody
from server.http.schemas.common import StreamOptions
from server.http.schemas.completions import CompletionsBody
from server.http.token_details import TokenDetails
from server.runtime.checks import (
    check_budget,
    check_engines,
    check_length,
    check_logprobs,
    check_min_tokens,
    check_priority,
    check_prompt_count,
    check_strategy,
)
from server.runtime.client import Client
from server.runtime.request_runner import Job, RequestRunner
from server.runtime.state import ServerState
from server.telemetry.request_info import request_info


def router(state: ServerState) -> APIRouter:
    """Return the routes. They raise `DecantError` for a request that is refused before any work."""
    routes = APIRouter()
    text = state.loaded.text
    bodies = BodyReader(state)

    @routes.post("/v1/completions")
    async def completions(request: Request) -> Response:
        arrived = time.perf_counter()
        body = await bodies.read(request, CompletionsBody)
        check_prompt_count(len(body.prompts), state.settings)
        form = CompletionFormat(echo=body.echo, top=body.logprobs, details=_details(body))
        return _respond(state, request, body, form, await encode_prompts(body, text), arrived)

    @routes.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        arrived = time.perf_counter()
        body = await bodies.read(request, ChatBody)
        form = ChatFormat(body.top_logprobs or 0 if body.logprobs else None, _details(body))
        return _respond(state, request, body, form, await encode_prompts(body, text), arrived)

    return routes


def _details(body: CompletionsBody | ChatBody) -> TokenDetails:
    return TokenDetails(body.return_token_ids, body.prompt_logprobs is not None)


def _respond(
    state: ServerState,
    request: Request,
    body: CompletionsBody | ChatBody,
    form: AnswerFormat,
    prompts: Sequence[Prompt],
    arrived: float,
) -> RunResponse:
    """Check the request, count its guides, and return the response that will do its work."""
    job = _checked(state, client_of(request), body, prompts, arrived)
    state.metrics.guided(state.loaded.models.resolve_guides(body.decoding.guides))
    info = request_info()
    info.operation = "chat" if isinstance(body, ChatBody) else "text_completion"
    info.model = body.model or state.model
    runner = RequestRunner(state, job)
    spec = AnswerSpec(
        form,
        body.model or state.model,
        prompts,
        body.n,
        job.name,
        body.decoding,
        reports="decoding" in body.model_fields_set,
        warnings=body.warnings,
        keep=partial(state.reports.keep, owner_of(request)),
    )
    if body.stream:
        options = body.stream_options or StreamOptions()
        return RunResponse(runner, lambda send: EventWriter(send, spec, options))
    return RunResponse(runner, lambda send: AnswerWriter(send, spec))


def _checked(
    state: ServerState, client: Client, body: CompletionsBody | ChatBody, prompts: Sequence[Prompt], arrived: float
) -> Job:
    """Return the job of a request that passes all checks. Raises `InvalidRequest`, `StrategyNotAllowed`, ..."""
    text, models, strategy = state.loaded.text, state.loaded.models, body.decoding
    samplings = [body.sampling(prompt, text.max_model_len) for prompt in prompts]
    check_strategy(client, strategy)
    check_engines(state.loaded.up())
    prompt_field = "messages" if isinstance(body, ChatBody) else "prompt"
    for prompt, sampling in zip(prompts, samplings, strict=True):
        check_length(prompt, sampling, text, prompt_field, body.length_field)
        check_min_tokens(sampling)
    check_logprobs(samplings[0], text, body.logprobs_field)
    check_priority(body.priority, text)
    with body.client_fields.translated():
        text.check(samplings[0])
        strategy.check(models, samplings[0])
    max_cost = sum((strategy.max_cost(sampling, models) for sampling in samplings), Cost())
    strategy.budget.check(max_cost, "its own", "decoding.budget")
    check_budget(max_cost, state.settings, "decoding")
    work = list(zip(prompts, samplings, strict=True))
    return Job(
        strategy,
        strategy.strategy,
        work,
        body.seed,
        arrived,
        client,
        body.client_fields.as_sent,
        max_generated=max_cost.generated_tokens,
        model=body.model,
        cost_field="decoding",
    )
