"""The `usage` and `decoding` objects of a response: what the answer cost, and how it was chosen."""

from collections.abc import Sequence
from typing import Any, Protocol

from decoders.core import Prompt
from decoders.events import KL, Done, Info, Result, ScoredCandidate
from server.engines.text.chat_parser import ChatParser
from server.http.chat_format import parts
from server.http.schemas.reports import (
    CalibrationReport,
    CandidateReport,
    CostReport,
    DecodingReport,
    KLReport,
    ResultBase,
    ResultReport,
)
from server.http.schemas.usage import CompletionTokensDetails, Usage


class Reported(Protocol):
    """The fields of a strategy that decide what is reported."""

    @property
    def return_candidates(self) -> bool: ...

    @property
    def return_kl(self) -> bool: ...


def usage(prompts: Sequence[Prompt], tokens: Sequence[int], dones: Sequence[Done] = ()) -> Usage:
    """Return OpenAI's count, in which every generated token is a completion token, as `best_of` had it.

    Args:
        dones: The ends of the prompts' runs, once they are known, for the choices' tokens of reasoning.
    """
    prompt = sum(len(p.tokens) for p in prompts)
    generated = sum(tokens)
    details: dict[str, Any] = {}
    if any(isinstance(p.parser, ChatParser) and p.parser.reasons for p in prompts):
        replies = (p.reply(r.candidate) for p, done in zip(prompts, dones, strict=False) for r in done.results)
        counted = sum(reply.reasoning_tokens for reply in replies)
        details["completion_tokens_details"] = CompletionTokensDetails(reasoning_tokens=counted)
    return Usage(prompt_tokens=prompt, completion_tokens=generated, total_tokens=prompt + generated, **details)


def decoding(
    name: str,
    strategy: Reported,
    prompts: Sequence[Prompt],
    dones: Sequence[Done],
    queued: float,
    warnings: Sequence[str] = (),
) -> DecodingReport:
    """Return the report on the runs of all prompts, with results in the order of the choices.

    Args:
        name: The strategy's name.
        strategy: What it was asked to report.
        prompts: The request's.
        dones: The end of each prompt's run.
        queued: The seconds that the request waited for admission.
        warnings: What the client should change before the next release.
    """
    optional: dict[str, Any] = {}
    if warnings:
        optional["warnings"] = list(warnings)
    if strategy.return_candidates:
        optional["candidates"] = [
            _candidate(scored, prompt, p, i, chosen=i in done.chosen)
            for p, (prompt, done) in enumerate(zip(prompts, dones, strict=True))
            for i, scored in enumerate(done.candidates)
        ]
    results = [_result(result, done, strategy) for done in dones for result in done.results]
    return DecodingReport(strategy=name, results=results, cost=_cost(dones, queued), **optional)


def _cost(dones: Sequence[Done], queued: float) -> CostReport:
    """Return the sum over all prompts. Seconds are, phase by phase, those of the longest run."""
    phases = sorted({phase for done in dones for phase in done.cost.seconds})
    longest = {phase: max(done.cost.seconds.get(phase, 0.0) for done in dones) for phase in phases}
    return CostReport(
        candidates=sum(done.cost.candidates for done in dones),
        generated_tokens=sum(done.cost.generated_tokens for done in dones),
        returned_tokens=sum(len(result.candidate.tokens) for done in dones for result in done.results),
        scored_tokens=sum(done.cost.scored_tokens for done in dones),
        seconds={"queue": queued, **longest},
    )


def _candidate(scored: ScoredCandidate, prompt: Prompt, place: int, index: int, *, chosen: bool) -> CandidateReport:
    reply = prompt.reply(scored.candidate)
    optional: dict[str, Any] = parts(prompt, reply)
    if scored.calibrated is not None:
        optional["calibrated_rewards"] = scored.calibrated
    if scored.aborted:
        optional["aborted"] = True
    return CandidateReport(
        prompt=place,
        index=index,
        text=reply.text,
        tokens=len(scored.candidate.tokens),
        finish_reason=scored.candidate.finish,
        rewards=dict(scored.rewards),
        chosen=chosen,
        **optional,
    )


def _result(result: Result, done: Done, strategy: Reported) -> ResultBase:
    optional: dict[str, Any] = {}
    if result.calibrated is not None:
        optional["calibrated_rewards"] = result.calibrated
    if done.rollouts is not None:
        # Results that go by the same rollouts are independent only given these.
        optional["calibration"] = CalibrationReport(rollouts=dict(done.rollouts), shared=len(done.results) > 1)
    if result.mean_rewards is not None:
        optional["mean_rewards"] = result.mean_rewards
    if result.scored.proposal is not None:
        optional |= _diagnostics(result.scored.proposal.info)
    optional |= _diagnostics(result.info)
    if strategy.return_kl:
        optional["kl"] = _kl(result.kl)
        if result.policy_logprob is not None:
            optional["policy_logprob"] = result.policy_logprob
    return ResultReport(rewards=dict(result.rewards), **optional)


def _diagnostics(info: Info | None) -> dict[str, Any]:
    """Return a strategy's own diagnostics, without those that are None."""
    if info is None:
        return {}
    return {name: value for name in type(info).model_fields if (value := getattr(info, name)) is not None}


def _kl(kl: KL | None) -> KLReport | None:
    return None if kl is None else KLReport(nats=kl.nats, estimator=kl.estimator, reference=kl.reference)
