"""The `usage` and `decoding` objects of a response: what the answer cost, and how it was chosen."""

from collections.abc import Sequence
from typing import Any, Protocol

from decoders.core import Prompt
from decoders.events import Done, Info, Result

Json = dict[str, Any]


class Reported(Protocol):
    """What of a strategy decides what is reported."""

    @property
    def return_candidates(self) -> bool: ...

    @property
    def return_kl(self) -> bool: ...


def usage(prompts: Sequence[Prompt], tokens: Sequence[int]) -> Json:
    """OpenAI's count, in which every generated token is a completion token, as `best_of` had it."""
    prompt = sum(len(p.tokens) for p in prompts)
    generated = sum(tokens)
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}


def decoding(name: str, strategy: Reported, dones: Sequence[Done], queued: float, warnings: Sequence[str] = ()) -> Json:
    """Results in the order of the choices; seconds by phase, of the longest run where there are several prompts."""
    phases = {phase for d in dones for phase in d.cost.seconds}
    report: Json = {
        "strategy": name,
        "results": [_result(r, d, strategy) for d in dones for r in d.results],
        "cost": {
            "candidates": sum(d.cost.candidates for d in dones),
            "generated_tokens": sum(d.cost.generated_tokens for d in dones),
            "returned_tokens": sum(len(r.candidate.tokens) for d in dones for r in d.results),
            "scored_tokens": sum(d.cost.scored_tokens for d in dones),
            "seconds": {
                "queue": queued,
                **{phase: max(d.cost.seconds.get(phase, 0.0) for d in dones) for phase in sorted(phases)},
            },
        },
    }
    if warnings:
        report["warnings"] = list(warnings)
    if strategy.return_candidates:
        report["candidates"] = [
            {
                "prompt": p,
                "index": i,
                "text": scored.candidate.text,
                "tokens": len(scored.candidate.tokens),
                "finish_reason": scored.candidate.finish,
                "rewards": scored.rewards,
                **({} if scored.calibrated is None else {"calibrated_rewards": scored.calibrated}),
                "chosen": i in d.chosen,
                **({"aborted": True} if scored.aborted else {}),
            }
            for p, d in enumerate(dones)
            for i, scored in enumerate(d.candidates)
        ]
    return report


def _result(result: Result, done: Done, strategy: Reported) -> Json:
    report: Json = {"rewards": result.rewards}
    if result.calibrated is not None:
        report["calibrated_rewards"] = result.calibrated
    if done.rollouts is not None:
        # Results that go by the same rollouts are independent only given these.
        report["calibration"] = {"rollouts": done.rollouts, "shared": len(done.results) > 1}
    if result.mean_rewards is not None:
        report["mean_rewards"] = result.mean_rewards
    if result.scored.proposal is not None:
        report |= _diagnostics(result.scored.proposal.info)
    report |= _diagnostics(result.info)
    if strategy.return_kl:
        kl = result.kl
        report["kl"] = None if kl is None else {"nats": kl.nats, "estimator": kl.estimator, "reference": kl.reference}
        if result.policy_logprob is not None:
            report["policy_logprob"] = result.policy_logprob
    return report


def _diagnostics(info: Info | None) -> Json:
    """Return a strategy's own diagnostics, without those that are None."""
    if info is None:
        return {}
    return {name: value for name, value in info.model_dump().items() if value is not None}
