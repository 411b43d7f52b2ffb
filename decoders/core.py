"""The values that pass between a strategy and the policy, and the randomness of a request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from decoders.reply import AnswerParser, Reply

Tokens = tuple[int, ...]
Finish = Literal["stop", "length"]
Rewards = Mapping[str, float | None]
"""The rewards of one completion by name: None where a reward does not apply, not finite where it has no number."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the policy continues: token ids of its own vocabulary and the text they stand for.

    `messages` is the chat that was rendered to it, for a reward model with a chat template of its own, and `tools` are
    what it may call; both as OpenAI's API has them. `continues` says that the last message is the beginning of the
    assistant's turn, which the policy continues. `parser` takes answers apart; without one an answer is its text.
    Requests of one `cache_salt` share what engines keep of prompts, and with no other; those of a lower `priority` are
    served first, where the policy's engine goes by priority. Draws of a request with `turns` ask them for places.
    """

    tokens: Tokens
    text: str
    messages: tuple[Mapping[str, Any], ...] | None = None
    continues: bool = False
    tools: tuple[Mapping[str, Any], ...] = ()
    parser: AnswerParser | None = field(default=None, compare=False)
    cache_salt: str | None = field(default=None, compare=False)
    priority: int = field(default=0, compare=False)
    turns: "Turns | None" = field(default=None, compare=False)

    def reply(self, candidate: "Candidate") -> Reply:
        """Return a completion of this prompt taken apart."""
        if self.parser is None:
            return Reply(candidate.text, candidate.text)
        return self.parser.read(candidate.tokens, candidate.text)

    def answered(self, completion: str | Reply) -> tuple[Mapping[str, Any], ...]:
        """Return the chat with the assistant's finished turn as one message, its beginning in the prompt included."""
        said = Reply(completion, completion) if isinstance(completion, str) else completion
        content = (said.content or "") if said.tool_calls else said.text
        calls = {"tool_calls": [call.as_openai() for call in said.tool_calls]} if said.tool_calls else {}
        messages = self.messages or ()
        if self.continues and messages:
            return (*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + content, **calls})
        return (*messages, {"role": "assistant", "content": content, **calls})


@dataclass(frozen=True, slots=True)
class Alternative:
    """One token that could have stood at a position, with its log-probability in nats."""

    token: int
    text: str
    logprob: float
    raw: bytes = b""
    rank: int | None = field(default=None, kw_only=True)
    """Its place among all tokens by probability, from 1, where the policy reports it."""


@dataclass(frozen=True, slots=True)
class TokenLogprob(Alternative):
    """The token at a position; `top` has the most likely tokens there, this one always among them.

    `text` is what the token adds to the text, `raw` the bytes it stands for. Where several tokens make up a character,
    the last of them has the character as its text.
    """

    top: tuple[Alternative, ...] = ()

    def worded(self, text: str, raw: bytes) -> "TokenLogprob":
        """Return the same token with another text."""
        own = (replace(a, text=text, raw=raw) if a.token == self.token else a for a in self.top)
        return replace(self, text=text, raw=raw, top=tuple(own))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A completion, or a piece of one while `finish` is None.

    `tokens` has all drawn tokens, end-of-sequence included. `text` is what the client sees, cut before a stop string;
    `trimmed` says that text was cut off. `logprobs` has one entry for each token, where the sampling asks for them;
    the texts of the entries join to the text of all tokens, of which `text` is the beginning.
    """

    tokens: Tokens
    text: str
    finish: Finish | None = None
    stop: str | int | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
    trimmed: bool = False


def join(pieces: Sequence[Candidate]) -> Candidate:
    """Return the completion that the pieces make up."""
    if len(pieces) == 1:
        return pieces[0]
    last = pieces[-1]
    return Candidate(
        tokens=tuple(t for p in pieces for t in p.tokens),
        text="".join(p.text for p in pieces),
        finish=last.finish,
        stop=last.stop,
        logprobs=None if last.logprobs is None else tuple(t for p in pieces for t in p.logprobs or ()),
        prompt_logprobs=pieces[0].prompt_logprobs,
        trimmed=last.trimmed,
    )


EMPTY = Candidate((), "", logprobs=())
"""An answer before its first block."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """A constraint on the text.

    By `kind`, `value` is a JSON schema (`json`), a regular expression, the texts to choose from (`choice`), a grammar
    in EBNF or Lark's form (`grammar`), or the JSON of a structural tag, which constrains parts of the text.
    """

    kind: Literal["json", "json_object", "regex", "choice", "grammar", "structural_tag"]
    value: str | Mapping[str, Any] | tuple[str, ...] = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the policy is sampled. A strategy reads `n`, `max_tokens` and `stream`; the rest is the policy's.

    Fields have the names of OpenAI's API and of vLLM's `SamplingParams`, which they reach by name; `grammar`, `guides`
    and `stream` are Decant's own.

    With `guides` the policy is the guided one, p(v) ~ pi(v) prod_i pi_i(v)^guides[i], and all else applies to that.
    """

    n: int = 1
    max_tokens: int = 16
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    thinking_token_budget: int | None = None
    grammar: Grammar | None = None
    guides: Mapping[str, float] = field(default_factory=dict)
    stream: bool = False
    """Whether completions are to be yielded in pieces, as they are made."""

    @property
    def is_greedy(self) -> bool:
        """Whether all draws are the same. As in vLLM, a temperature below 1e-5 counts as 0."""
        return self.temperature < 1e-5

    @property
    def is_policy_law(self) -> bool:
        """Whether tokens are drawn from the (guided) model's next-token law, whose log-probabilities it reports."""
        return self.temperature == 1.0 and self.is_untruncated

    @property
    def is_untruncated(self) -> bool:
        """Whether nothing but guides and temperature shapes the next-token law: then its probabilities are known."""
        return (
            self.top_p == 1.0
            and self.top_k <= 0
            and self.min_p == 0.0
            and self.presence_penalty == self.frequency_penalty == 0.0
            and self.repetition_penalty == 1.0
            and not self.logit_bias
            and self.allowed_token_ids is None
            and not self.bad_words
            and self.min_tokens == 0
            and self.thinking_token_budget is None
            and self.grammar is None
        )


class Rng(Protocol):
    """All the randomness of one request."""

    def draw(self, log_weights: Sequence[float]) -> int:
        """Return an index with probability proportional to exp(log_weights[i]); at least one weight is positive."""

    def seed(self) -> int | None:
        """Return a seed for one engine call, or None where the request has no seed."""

    def plain(self) -> "Rng":
        """Return the same randomness for a request's only engine call for one sample: its seed is the request's own."""

    def fork(self) -> "Rng":
        """Return independent randomness for concurrent work, whose order of draws is not known."""


class Turns(Protocol):
    """The places of a request that draws many sequences: how many it has at once changes with the server's load."""

    async def take(self, sequences: int, tokens: int) -> int:
        """Wait until one or more of `sequences`, of up to `tokens` each, may be drawn; return how many."""

    def end(self, sequences: int) -> None:
        """Give back the places of so many sequences, which have ended."""
