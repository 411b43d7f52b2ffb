"""The answer to one generating request, as its parts become known: what both writers share."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from decoders.core import Prompt
from decoders.events import Done
from server.http import report
from server.http.openai_format import AnswerFormat, Choice
from server.http.report import Reported
from server.http.schemas.reports import DecodingReport, KeptReport
from server.telemetry.request_info import request_info

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AnswerSpec:
    """The answer that a request asked for."""

    format: AnswerFormat
    model: str
    prompts: Sequence[Prompt]
    n: int
    """Choices for each prompt."""
    strategy: str
    reported: Reported
    reports: bool
    """Whether the request asked for a strategy: if so, the answer has the field `decoding`."""
    warnings: Sequence[str] = ()
    """What the client should change before the next release."""
    keep: Callable[[str, bytes], None] | None = None
    """Keeps the report, as JSON, of the answer with this id."""


@dataclass(slots=True)
class Answer:
    """What is known of an answer: the ends of the prompts' runs, by the index of the prompt."""

    spec: AnswerSpec
    ends: dict[int, Done] = field(default_factory=dict)
    head: Json = field(init=False)
    """The fields that are the same in all chunks."""

    def __post_init__(self) -> None:
        spec, info = self.spec, request_info()
        info.answer = spec.format.prefix + info.id
        self.head = {"id": info.answer, "created": int(time.time()), "model": spec.model}

    def choices(self) -> list[Choice]:
        """Return all choices, those of the first prompt first."""
        spec = self.spec
        return [
            spec.format.choice(p * spec.n + i, spec.prompts[p], result.candidate)
            for p, done in enumerate(self._in_order())
            for i, result in enumerate(done.results)
        ]

    def usage(self) -> Any:
        """Return the `usage` of the whole answer."""
        dones = self._in_order()
        return report.usage(self.spec.prompts, [done.cost.generated_tokens for done in dones], dones)

    def report(self, queued: float) -> DecodingReport:
        """Return the report of a request that waited `queued` seconds, and keep it for GET /v1/reports."""
        spec = self.spec
        made = report.decoding(spec.strategy, spec.reported, spec.prompts, self._in_order(), queued, spec.warnings)
        if spec.keep is not None:
            spec.keep(self.head["id"], self._kept(made))
        return made

    def _kept(self, made: DecodingReport) -> bytes:
        """Return the report as it is kept, without candidates: their texts may be long."""
        own = DecodingReport(**{name: getattr(made, name) for name in made.model_fields_set - {"candidates"}})
        return KeptReport(object="report", **self.head, decoding=own).to_json()

    def _in_order(self) -> list[Done]:
        return [self.ends[i] for i in range(len(self.spec.prompts))]
