"""What a strategy may see: the frozen policy, the randomness, and the values that pass between them.

Everything here is a value or a protocol, so that a strategy runs unchanged on an exact toy, where its law is
enumerated, and on vLLM, where it is served.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

Tokens = tuple[int, ...]
Finish = Literal["stop", "length"]
Rewards = Mapping[str, float | None]
"""Of one completion, by name: None where a reward does not apply to it, not finite where it should and has no value."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the policy continues: token ids of its own vocabulary and the text they stand for.

    `messages` is the chat that was rendered, for a reward model with a chat template of its own. `continues` says that
    its last message is the beginning of the assistant's turn, which the policy goes on with.
    """

    tokens: Tokens
    text: str
    messages: tuple[Mapping[str, str], ...] | None = None
    continues: bool = False

    def answered(self, completion: str) -> tuple[Mapping[str, str], ...]:
        """Return the chat with the assistant's finished turn: one message, also where the prompt has its beginning."""
        messages = self.messages or ()
        if self.continues and messages:
            return (*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + completion})
        return (*messages, {"role": "assistant", "content": completion})


@dataclass(frozen=True, slots=True)
class Alternative:
    """One token that could have stood at a position, with its log-probability in nats."""

    token: int
    text: str
    logprob: float
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class TokenLogprob(Alternative):
    """The token that does stand there; `top` has the most likely ones, and it among them or beside them.

    `text` is what it adds to the text, `raw` the bytes it stands for: those of a character may be several tokens', and
    its text is that of the last of them.
    """

    top: tuple[Alternative, ...] = ()

    def worded(self, text: str, raw: bytes) -> "TokenLogprob":
        """The same token with another text."""
        own = (replace(a, text=text, raw=raw) if a.token == self.token else a for a in self.top)
        return replace(self, text=text, raw=raw, top=tuple(own))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A completion, or a piece of one while `finish` is None.

    `tokens` is all that was drawn, end-of-sequence included; `text` is what the client sees, cut before a stop
    string. `trimmed` says that the two differ by such a cut. `logprobs` is one entry per token, when asked for; their
    texts join to what all tokens say, of which `text` is the beginning.
    """

    tokens: Tokens
    text: str
    finish: Finish | None = None
    stop: str | int | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
    trimmed: bool = False


def join(pieces: Sequence[Candidate]) -> Candidate:
    """The completion that pieces make up."""
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
"""What an answer is before its first block."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """A constraint on the text: a JSON schema, any JSON object, or a regular expression."""

    kind: Literal["json", "json_object", "regex"]
    value: str | Mapping[str, Any] = ""


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
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    grammar: Grammar | None = None
    guides: Mapping[str, float] = field(default_factory=dict)
    stream: bool = False
    """Pieces are wanted as they are made."""

    @property
    def is_greedy(self) -> bool:
        """Whether all draws are one and the same: a temperature below 1e-5 counts as none, as in vLLM."""
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
            and self.min_tokens == 0
            and self.grammar is None
        )


class Rng(Protocol):
    """All the randomness of one request."""

    def draw(self, log_weights: Sequence[float]) -> int:
        """An index with probability proportional to exp(log_weights[i]); at least one weight is positive."""

    def seed(self) -> int | None:
        """A seed for one engine call, or None where the request is not to be reproducible."""

    def plain(self) -> "Rng":
        """The same for a draw of one that is all that a request asks of the engine: `seed` keeps the request's own."""

    def fork(self) -> "Rng":
        """Randomness of its own for work that goes on beside this, whose order nobody knows."""


@dataclass(frozen=True, slots=True)
class EntropyStop:
    """Where a block ends by itself: before its first token, after `min_tokens` of them, that is as uncertain as this.

    That is where the entropy of the next token's law over the whole vocabulary is at least `entropy` nats. The law is
    the one whose log-probabilities are reported: with guides, and without temperature, truncation and biases.
    """

    entropy: float
    min_tokens: int = 1


@dataclass(frozen=True, slots=True)
class TokenLaw:
    """A next-token law to score a completion by: p(v) ~ pi(v)^policy prod_i pi_i(v)^guides[i]."""

    policy: float = 1.0
    guides: Mapping[str, float] = field(default_factory=dict)


class Policy(Protocol):
    """The frozen language model, with the guides that are loaded beside it."""

    @property
    def name(self) -> str: ...

    @property
    def guides(self) -> Mapping[str, str]:
        """The kind of each loaded guide: arm, implicit or q_head."""

    def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        """Draw `n` completions together; yield (index, completion) as each one finishes.

        With `pieces`, yield (index, piece) as they are made instead; the last piece of each has its `finish`.
        Closing the generator stops the work. `sampling.n` is not read: `n` is. With `sampling.max_tokens` 0 nothing is
        drawn: the completions are empty, and have the prompt's log-probabilities where those are asked for.
        """

    def extend(
        self,
        prompt: Prompt,
        prefix: Candidate,
        n: int,
        tokens: int,
        sampling: Sampling,
        rng: Rng,
        *,
        stop_block: Sequence[str] = (),
        entropy_stop: EntropyStop | None = None,
    ) -> AsyncGenerator[tuple[int, Candidate, int]]:
        """Draw `n` continuations of `prefix` by at most `tokens` tokens; yield (index, whole, drawn) as each finishes.

        A whole is `prefix` and what was drawn after it: its text is that of all its tokens, cut at a stop string
        wherever that began, and its `finish` is None where it may go on. A string of `stop_block` ends what is drawn
        now, and is kept; `entropy_stop` ends it before a token. `sampling.max_tokens` bounds the whole. `drawn` is the
        number of tokens it took, those that were thrown away behind a stop string included.
        """

    def check_entropy_stop(self, sampling: Sampling) -> None:
        """Raise `InvalidRequest` where `extend` cannot take a `entropy_stop` with this sampling."""

    async def logprob(self, prompt: Prompt, completion: Candidate, law: TokenLaw) -> float:
        """sum_t log p(y_t | prompt, y_<t) under `law`, in nats."""
