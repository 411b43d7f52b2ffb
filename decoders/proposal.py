"""Candidates that are another strategy's answers, each an independent draw of that strategy's law."""

import time
from contextlib import aclosing
from dataclasses import replace

from decoders.base import Decoder
from decoders.core import Sampling
from decoders.errors import InvalidRequest
from decoders.events import Cost, Done, Result, Run, ScoredCandidate
from decoders.models import Models
from decoders.parts.concurrency import together
from decoders.parts.scoring import score
from decoders.parts.search_run import SearchRun

WHOLE_REQUEST = ("return_candidates", "return_kl", "budget")  # fields that hold for the request, not for its proposal


def runs_of(strategy: Decoder, n: int) -> tuple[int, int]:
    """Return how many runs, of how many results each, give `n` independent answers."""
    return (1, n) if strategy.independent else (n, 1)


def check_proposal(strategy: Decoder, models: Models, sampling: Sampling, n: int) -> None:
    """Raise `InvalidRequest` where the strategy cannot propose `n` answers, or says what the whole request says."""
    if getattr(strategy, "proposal", None) is not None:
        raise InvalidRequest("A proposal has no proposal of its own.", "strategy.proposal.proposal")
    for name in WHOLE_REQUEST:
        if getattr(strategy, name) != Decoder.model_fields[name].get_default(call_default_factory=True):
            raise InvalidRequest("Say this of the whole request, outside the proposal.", f"strategy.proposal.{name}")
    try:
        strategy.check(models, replace(sampling, n=runs_of(strategy, n)[1]))
    except InvalidRequest as error:
        raise _of_proposal(error) from error


async def propose(strategy: Decoder, n: int, run: SearchRun) -> list[ScoredCandidate]:
    """Return `n` answers of the strategy, with the rewards that `run` needs, and count their cost in it.

    Raise `InvalidRequest`, which names the proposal's parameter, `RewardFailed` or `EngineFailed`.
    """
    strategy = strategy.model_copy(update={"return_kl": run.measure})
    started = time.perf_counter()
    runs, each = runs_of(strategy, n)
    sampling = replace(run.draws, n=each)
    try:
        ends = await together(
            _end(strategy.decode(run.prompt, run.models, sampling, run.rng.fork())) for _ in range(runs)
        )
    except InvalidRequest as error:
        raise _of_proposal(error) from error
    wall = time.perf_counter() - started
    run.add(ends[0].cost if runs == 1 else Cost.concurrent([end.cost for end in ends], wall))
    return await _scored([result for end in ends for result in end.results], run)


async def _scored(results: list[Result], run: SearchRun) -> list[ScoredCandidate]:
    """Return the answers as candidates, scored by those rewards that the proposal has not scored already."""
    lacking = [name for name in run.names if not all(name in result.rewards for result in results)]
    completions = [result.candidate for result in results]
    fresh, cost = await score(run.prompt, completions, {name: run.models.rewards[name] for name in lacking})
    run.add(cost)
    return [
        ScoredCandidate(
            result.candidate,
            {name: own[name] if name in lacking else result.rewards[name] for name in run.names},
            proposal=result,
        )
        for result, own in zip(results, fresh, strict=True)
    ]


async def _end(run: Run) -> Done:
    """Return the end of a run."""
    async with aclosing(run) as events:
        async for event in events:
            if isinstance(event, Done):
                return event
    raise AssertionError("a run ends with Done")


def _of_proposal(error: InvalidRequest) -> InvalidRequest:
    """Return the same error of the proposal's parameters. The number of its results is the outer number of draws."""
    field = "strategy.n" if error.field == "sampling.n" else error.field
    if field is not None and error.field is not None and error.field.startswith("strategy."):
        field = "strategy.proposal." + error.field.removeprefix("strategy.")
    return InvalidRequest(str(error), field)
