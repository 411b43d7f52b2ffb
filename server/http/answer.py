"""The answer to one generating request, as its parts become known: what both writers share."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from decoders.core import Prompt
from decoders.events import Done
from server.http import report
from server.http.openai_format import AnswerFormat, Choice
from server.http.report import Reported

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
    """Whether the request has a `decoding` object: if so, the answer has one too."""
    warnings: Sequence[str] = ()
    """What the client should change before the next release."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of an answer: the ends of the prompts' runs, by the index of the prompt."""

    spec: AnswerSpec
    ends: dict[int, Done] = field(default_factory=dict)

    def head(self) -> Json:
        """Return the fields that are the same in all chunks. Call it once: it makes the answer's id."""
        spec = self.spec
        return {"id": spec.format.prefix + uuid.uuid4().hex, "created": int(time.time()), "model": spec.model}

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
        return report.usage(self.spec.prompts, [done.cost.generated_tokens for done in self._in_order()])

    def decoding(self, queued: float) -> Json:
        """Return the field `decoding` and its report, or nothing if the request did not ask for it."""
        spec = self.spec
        if not spec.reports:
            return {}
        return {"decoding": report.decoding(spec.strategy, spec.reported, self._in_order(), queued, spec.warnings)}

    def _in_order(self) -> list[Done]:
        return [self.ends[i] for i in range(len(self.spec.prompts))]
