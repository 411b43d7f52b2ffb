"""The majority's answer [Wang et al. 2023, self-consistency; Li et al. 2023, weighted by reward].

a_i = what `answer` reads from y_i;   winner = argmax_a sum_{i: a_i = a} v_i,   v_i = 1  or  exp(r_i/beta) / sum_j
return the best-rewarded y_i of the winner
"""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import re2
from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, field_validator

from decoders.core import Prompt
from decoders.errors import InvalidRequest
from decoders.maths.logmath import INF, scaled
from decoders.parts.selection import Beta
from decoders.reply import Reply, ToolCall

NO_CALL = "no call"
"""The answer of a candidate that calls no tool: no tool's name has a space."""


def _compiles(pattern: str) -> str:
    try:
        re2.compile(pattern, _options())
    except re2.error as error:
        raise ValueError(f"not a regular expression that runs in linear time (RE2): {_message(error)}") from error
    return pattern


def _message(error: re2.error) -> str:
    [what] = error.args
    return what.decode() if isinstance(what, bytes) else str(what)


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20  # bytes that a request's expression may take
    return options


class ToolAnswer(BaseModel, frozen=True, extra="forbid"):
    """A vote by the tools that a candidate calls.

    Calls that were made together count in any order. A candidate that calls no tool votes for that; one whose call
    cannot be read, since its arguments are no JSON object, has no vote.
    """

    tool: Literal["name", "arguments", "call"] = Field(
        description="What of a call is the answer: the tool's name, its arguments, or both."
    )
    ignore: list[str] = Field(default_factory=list, max_length=64, description="Arguments that do not count.")

    @field_validator("ignore")
    @classmethod
    def _something_to_ignore(cls, ignore: list[str], info: ValidationInfo) -> list[str]:
        if ignore and info.data.get("tool") == "name":
            raise ValueError("A vote by name reads no arguments")
        return ignore

    def read(self, reply: Reply) -> str | None:
        """Return the calls as canonical JSON: keys in order, no spaces. One call stands alone, several in a list."""
        calls = [self._value(call) for call in reply.tool_calls]
        if any(call is None for call in calls):
            return None
        if not calls:
            return NO_CALL
        written = sorted(call if isinstance(call, str) else _canonical(call) for call in calls)
        return written[0] if len(written) == 1 else f"[{','.join(written)}]"

    def _value(self, call: ToolCall) -> Any:
        if self.tool == "name":
            return call.name
        try:
            arguments = json.loads(call.arguments, parse_float=_number)
        except ValueError:
            return None
        if not isinstance(arguments, dict):
            return None
        counted = {name: value for name, value in arguments.items() if name not in self.ignore}
        return counted if self.tool == "arguments" else {"name": call.name, "arguments": counted}


def _number(text: str) -> float:
    """Return a number of JSON, which has one kind of them: 1.0 is the integer 1."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class VoteShare(BaseModel, frozen=True, extra="forbid"):
    """The answer that was read from a completion, and its share of all the votes."""

    answer: str | None = Field(description="What the vote read from the completion.")
    share: float = Field(description="Of all the votes.")


Expression = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_compiles)]


class Vote(BaseModel, frozen=True, extra="forbid"):
    """The answer that most candidates give, by count or, with `beta`, by softmax(r/beta); ties share alike.

    The expression is RE2's: it has no backreferences, and no text makes it slow. An answer is its last match in a
    candidate, group 1 of it if there is one, without the space around it. A candidate without a match has no vote; if
    none has one, the best-rewarded candidate is returned, with no answer. Reasoning that is parsed has no vote.
    """

    by: Literal["vote"] = "vote"
    answer: Expression | ToolAnswer = Field(
        description="The regular expression that finds the answer, such as '####\\s*(-?[0-9.,]+)', or "
        '`{"tool": "call"}` for the tools that are called.'
    )
    beta: Beta | None = Field(None, description="Votes weigh softmax(reward / beta); by default they weigh alike.")

    def check(self, prompt: Prompt) -> None:
        """Raise `InvalidRequest` for a vote by tools where none can be called."""
        if isinstance(self.answer, ToolAnswer) and not prompt.tools:
            raise InvalidRequest("A vote by tools needs tools, in a chat.", "strategy.select.answer")

    def answers(self, replies: Sequence[Reply]) -> list[str | None]:
        """Return the answer that each reply gives, None where it gives none."""
        if isinstance(self.answer, ToolAnswer):
            return [self.answer.read(reply) for reply in replies]
        pattern = re2.compile(self.answer, _options())
        found: list[str | None] = []
        for reply in replies:
            matches = list(pattern.finditer(reply.text))
            group = matches[-1].group(1 if pattern.groups else 0) if matches else None
            found.append(None if group is None else group.strip())
        return found

    def shares(self, rewards: Sequence[float], answers: Sequence[str | None]) -> dict[str, float]:
        """Return each answer's share of the votes; empty where no candidate answers."""
        voters = [i for i, answer in enumerate(answers) if answer is not None]
        # Scaled among those that answer: beside a far better candidate that does not, all their weights may vanish.
        logs = [0.0] * len(voters) if self.beta is None else scaled([rewards[i] for i in voters], self.beta)
        votes: defaultdict[str, float] = defaultdict(float)
        for i, weight in zip(voters, logs, strict=True):
            votes[answers[i] or ""] += math.exp(weight)
        total = sum(votes.values())
        return {answer: weight / total for answer, weight in votes.items()}

    def log_weights(self, rewards: Sequence[float], replies: Sequence[Reply]) -> list[float]:
        """Return log-weights: uniform over the winning answers, and for each over its best-rewarded candidates."""
        answers = self.answers(replies)
        shares = self.shares(rewards, answers)
        top = max(shares.values(), default=0.0)
        # Sums in another order differ in the last digit, and would break a tie that is one.
        winners = {answer for answer, share in shares.items() if share >= top * (1 - 1e-12)} if shares else {None}
        log_weights = [-INF] * len(rewards)
        for winner in winners:
            own = [i for i, answer in enumerate(answers) if answer == winner]
            best = [i for i in own if rewards[i] == max(rewards[j] for j in own)]
            for i in best:
                log_weights[i] = -math.log(len(best))
        return log_weights

    def share_of(self, i: int, rewards: Sequence[float], replies: Sequence[Reply]) -> VoteShare:
        """Return the answer of candidate i, and its share of the votes."""
        answers = self.answers(replies)
        answer = answers[i]
        return VoteShare(answer=answer, share=0.0 if answer is None else self.shares(rewards, answers)[answer])
