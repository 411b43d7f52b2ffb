"""POST /v1/completions and POST /v1/chat/completions."""

import asyncio
import time
from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from decoders.core import Prompt, Sampling
from decoders.errors import DecantError, InvalidRequest
from decoders.events import Cost
from server.http.openai_format import Chat, Completions, Shape
from server.http.response_writers import EventWriter, JsonWriter
from server.http.schemas.chat import ChatBody
from server.http.schemas.common import Body, StreamOptions
from server.http.schemas.completions import CompletionsBody
from server.runtime.request_runner import Answer, Job
from server.runtime.service import Service


def router(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/completions")
    async def completions(request: Request) -> Response:
        arrived = time.perf_counter()
        try:
            body = await service.parse(request, CompletionsBody)
            prompts = await asyncio.gather(*(_prompt(service, p) for p in _bounded(service, body)))
            shape = Completions(echo=body.echo, top=body.logprobs)
            samplings = [body.sampling(p, service.loaded.text.max_model_len) for p in prompts]
            return _answer(service, body, shape, prompts, samplings, "prompt", arrived)
        except DecantError as error:
            return service.refuse(error)

    @routes.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        arrived = time.perf_counter()
        try:
            body = await service.parse(request, ChatBody)
            prompt = await service.loaded.text.chat([m.plain() for m in body.messages], body.turn)
            sampling = body.sampling(prompt, service.loaded.text.max_model_len)
            return _answer(
                service,
                body,
                Chat(body.top_logprobs or 0 if body.logprobs else None),
                [prompt],
                [sampling],
                "messages",
                arrived,
            )
        except DecantError as error:
            return service.refuse(error)

    return routes


def _answer(
    service: Service,
    body: Body,
    shape: Shape,
    prompts: Sequence[Prompt],
    samplings: Sequence[Sampling],
    field: str,
    arrived: float,
) -> Response:
    """Check what can be checked before any work, then hand over to the work."""
    service.check_engines()
    for prompt, sampling in zip(prompts, samplings, strict=True):
        service.check_length(prompt, sampling, field, body.length_field)
        service.check_minimum(sampling)
    service.check_logprobs(samplings[0], body.logprobs_field)
    service.loaded.text.check(samplings[0])
    strategy, name = body.decoding, body.decoding.strategy
    strategy.check(service.loaded.models, samplings[0])
    most = sum((strategy.max_cost(sampling, service.loaded.models) for sampling in samplings), Cost())
    strategy.budget.check(most, "its own", "decoding.budget")
    service.check_budget(most, "decoding")
    service.metrics.guided(service.loaded.models.resolve_guides(strategy.guides))
    job = Job(strategy, name, list(zip(prompts, samplings, strict=True)), body.seed, arrived)
    reports = "decoding" in body.model_fields_set
    if body.stream:
        options = body.stream_options or StreamOptions()
        return Answer(
            service,
            job,
            EventWriter(shape, service.model, prompts, body.n, name, strategy, reports=reports, options=options),
        )
    return Answer(service, job, JsonWriter(shape, service.model, prompts, body.n, name, strategy, reports=reports))


async def _prompt(service: Service, prompt: str | list[int]) -> Prompt:
    text = service.loaded.text
    if isinstance(prompt, str):
        return await text.encode(prompt)
    wrong = [t for t in prompt if t >= text.vocab_size]
    if wrong:
        raise InvalidRequest(f"Token ids {wrong[:5]} are outside the vocabulary of {text.vocab_size} tokens.", "prompt")
    return text.given(prompt)


def _bounded(service: Service, body: CompletionsBody) -> list[str | list[int]]:
    prompts = body.prompts
    most = service.settings.max_prompts
    if len(prompts) > most:
        raise InvalidRequest(f"{len(prompts)} prompts are over this server's limit of {most} a request.", "prompt")
    return prompts
