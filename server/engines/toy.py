"""An exact toy: a tabular language model whose every law can be written down, and rewards to go with it.

Four words and an end; the next word depends on the length and the sum of what stands before it, and a completion
has at most four tokens. Small enough to enumerate, so the tests know each strategy's law to the last digit; served
by `decant serve --toy`, so that the API can be tried without an engine.
"""

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar

from decoders.core import EMPTY, Alternative, Candidate, Prompt, Rng, Sampling, TokenLogprob, Tokens, join
from decoders.errors import InvalidRequest
from decoders.maths.logmath import logsumexp
from decoders.policy import EntropyStop, TokenLaw
from server.engines.text import Turn

EOS = 0
WORDS = ("", " good", " bad", " plain", " odd")
MAX_TOKENS = 4

_SUPPORTED = frozenset(
    {"n", "max_tokens", "temperature", "top_k", "logprobs", "stream", "skip_special_tokens", "logit_bias", "guides"}
)
_DEFAULTS = Sampling()
# What requests call the fields that are Decant's own; prompt_logprobs are what `echo` adds to `logprobs`.
_REQUESTED_AS = {"grammar": "response_format", "prompt_logprobs": "echo"}


@dataclass(frozen=True)
class ToyGuide:
    """A guide: scores for the next word. An `arm` normalises them, a `q_head` takes them as they are."""

    scores: Sequence[float] = (0.0, 1.0, -1.0, 0.25, 0.25)
    kind: str = "arm"

    def logits(self, prefix: Tokens, vocabulary: int) -> list[float]:
        """Of every token, after `prefix`; the second of two like words is worth half."""
        scores = [s / 2 if prefix and v == prefix[-1] else s for v, s in enumerate(self.scores[:vocabulary])]
        z = logsumexp(scores) if self.kind == "arm" else 0.0
        return [s - z for s in scores]


@dataclass(frozen=True)
class ToyPolicy:
    """The tabular policy. `vocabulary` words (the first ends) and `longest` tokens; smaller ones enumerate faster."""

    vocabulary: int = len(WORDS)
    longest: int = MAX_TOKENS
    name: str = "toy"
    loaded: Mapping[str, ToyGuide] = field(default_factory=dict)

    @property
    def guides(self) -> dict[str, str]:
        return {name: guide.kind for name, guide in self.loaded.items()}

    def guided(self, prompt: Tokens, prefix: Tokens, law: TokenLaw) -> list[float]:
        """log p(v | prompt, prefix) for every token v under a law of policy and guides."""
        policy = self.logprobs(prompt, prefix)
        if law == TokenLaw():
            return policy
        total = [law.policy * p if p > -math.inf else p for p in policy]
        for name, weight in law.guides.items():
            logits = self.loaded[name].logits(prefix, self.vocabulary)
            total = [t + weight * g for t, g in zip(total, logits, strict=True)]
        z = logsumexp(total)
        return [t - z for t in total]

    async def logprob(self, prompt: Prompt, completion: Candidate, law: TokenLaw) -> float:
        tokens = completion.tokens
        return math.fsum(self.guided(prompt.tokens, tokens[:i], law)[token] for i, token in enumerate(tokens))

    def logprobs(self, prompt: Tokens, prefix: Tokens) -> list[float]:
        """log pi(v | prompt, prefix) for every token v."""
        if len(prefix) + 1 >= self.longest:
            return [0.0 if v == EOS else -math.inf for v in range(self.vocabulary)]
        k = sum(prompt) + sum(prefix) + len(prefix)
        weights = [1.0 + k % 2] + [1.0 + (k * v + v) % 3 for v in range(1, self.vocabulary)]
        z = math.log(sum(weights))
        return [math.log(w) - z for w in weights]

    def law(self, prompt: Tokens, prefix: Tokens, sampling: Sampling) -> list[float]:
        """log-probabilities after the request's guides, bias, temperature and top-k."""
        logprobs = self.guided(prompt, prefix, TokenLaw(guides=sampling.guides))
        logits = [v + sampling.logit_bias.get(t, 0.0) for t, v in enumerate(logprobs)]
        if sampling.temperature == 0:
            best = logits.index(max(logits))
            return [0.0 if v == best else -math.inf for v in range(self.vocabulary)]
        likeliest = max(logits)  # differences first: a small temperature must not overflow
        logits = [(v - likeliest) / sampling.temperature for v in logits]
        if sampling.top_k > 0:
            kept = sorted(range(self.vocabulary), key=lambda v: -logits[v])[: sampling.top_k]
            logits = [x if v in kept else -math.inf for v, x in enumerate(logits)]
        z = logsumexp(logits)
        return [x - z for x in logits]

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        for i in range(n):
            if sampling.max_tokens == 0:
                yield i, replace(EMPTY, finish="length")
                continue
            whole = EMPTY
            while whole.finish is None:
                piece = self._draw(prompt.tokens, whole.tokens, sampling, rng)
                whole = join([whole, piece])
                if pieces:
                    yield i, piece
            if not pieces:
                yield i, whole

    async def extend(
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
        for i in range(n):
            whole, drawn = prefix, 0
            while whole.finish is None and drawn < tokens:
                if (
                    entropy_stop
                    and drawn >= entropy_stop.min_tokens
                    and self.entropy(prompt.tokens, whole.tokens, sampling) >= entropy_stop.entropy
                ):
                    break
                whole, drawn = join([whole, self._draw(prompt.tokens, whole.tokens, sampling, rng)]), drawn + 1
                if any(whole.text.endswith(end) for end in stop_block):
                    break
            yield i, whole, drawn

    def check_entropy_stop(self, sampling: Sampling) -> None:
        """Any sampling will do."""

    def entropy(self, prompt: Tokens, prefix: Tokens, sampling: Sampling) -> float:
        """Of the next token's law under guides, in nats."""
        logprobs = self.guided(prompt, prefix, TokenLaw(guides=sampling.guides))
        return -math.fsum(math.exp(v) * v for v in logprobs if v > -math.inf)

    def _draw(self, prompt: Tokens, before: Tokens, sampling: Sampling, rng: Rng) -> Candidate:
        """The next token."""
        token = rng.draw(self.law(prompt, before, sampling))
        full = len(before) + 1 == sampling.max_tokens
        return Candidate(
            (token,),
            WORDS[token],
            "stop" if token == EOS else "length" if full else None,
            logprobs=self._logprob(prompt, before, token, sampling),
        )

    def _logprob(
        self, prompt: Tokens, prefix: Tokens, token: int, sampling: Sampling
    ) -> tuple[TokenLogprob, ...] | None:
        if sampling.logprobs is None:
            return None
        logprobs = self.guided(prompt, prefix, TokenLaw(guides=sampling.guides))
        ranked = sorted((v for v in range(self.vocabulary) if logprobs[v] > -math.inf), key=lambda v: -logprobs[v])
        best = [v for i, v in enumerate(ranked) if i < sampling.logprobs or v == token]
        top = tuple(Alternative(v, WORDS[v], logprobs[v], WORDS[v].encode()) for v in best)
        return (TokenLogprob(token, WORDS[token], logprobs[token], WORDS[token].encode(), top),)

    def completions(
        self, prompt: Tokens = (), max_tokens: int | None = None, guides: Mapping[str, float] | None = None
    ) -> dict[Tokens, float]:
        """Every completion with its probability, under guides if any."""
        law = TokenLaw(guides=guides or {})
        done: dict[Tokens, float] = {}
        open_: list[tuple[Tokens, float]] = [((), 0.0)]
        while open_:
            prefix, logp = open_.pop()
            if prefix and (prefix[-1] == EOS or len(prefix) == max_tokens):
                done[prefix] = math.exp(logp)
                continue
            for v, lp in enumerate(self.guided(prompt, prefix, law)):
                if lp > -math.inf:
                    open_.append(((*prefix, v), logp + lp))
        return done


@dataclass(frozen=True)
class ToyReward:
    """A linear reward: the sum of each word's worth. Equal sums tie, as real rewards may."""

    worth: Sequence[float] = (0.0, 1.0, -1.0, 0.25, 0.25)
    scores_all: ClassVar[bool] = True

    def of(self, tokens: Tokens) -> float:
        return math.fsum(self.worth[t] for t in tokens)

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:  # noqa: ARG002
        return [self.of(c.tokens) for c in completions]


@dataclass(frozen=True)
class ToyBrevity:
    """Minus the number of words: a second objective, at odds with the first."""

    per_word: float = field(default=1.0)
    scores_all: ClassVar[bool] = True

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:  # noqa: ARG002
        return [-self.per_word * sum(t != EOS for t in c.tokens) for c in completions]


class ToyText:
    """Text for the toy: its own words, and any other word as the one its letters add up to."""

    max_model_len = 64
    vocab_size = len(WORDS)
    max_logprobs = len(WORDS)

    async def encode(self, text: str) -> Prompt:
        known = {w.strip(): t for t, w in enumerate(WORDS)}
        tokens = [known.get(w, 1 + sum(map(ord, w)) % (len(WORDS) - 1)) for w in text.split()]
        return Prompt(tuple(tokens), text)

    def given(self, tokens: Sequence[int]) -> Prompt:
        return Prompt(tuple(tokens), self.decode(tokens))

    async def chat(self, messages: Sequence[dict[str, str]], turn: Turn = "new") -> Prompt:
        prompt = await self.encode("\n".join(m["content"] for m in messages))
        return Prompt(prompt.tokens, prompt.text, tuple(messages), turn == "continued")

    async def completion(self, text: str, *, ended: bool) -> Candidate:
        tokens = (await self.encode(text)).tokens
        return Candidate((*tokens, EOS) if ended else tokens, text, "stop" if ended else "length")

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(WORDS[t] for t in tokens)

    def check(self, sampling: Sampling) -> None:
        """Refuse what a table can not do."""
        for f in fields(Sampling):
            if f.name not in _SUPPORTED and getattr(sampling, f.name) != getattr(_DEFAULTS, f.name):
                name = _REQUESTED_AS.get(f.name, f.name)
                if sampling.grammar is not None and sampling.grammar.kind == "regex" and f.name == "grammar":
                    name = "regex"
                raise InvalidRequest(f"The toy policy does not support '{name}'.", name)
        wrong = [t for t in sampling.logit_bias if not 0 <= t < self.vocab_size]
        if wrong:
            raise InvalidRequest(
                f"Token ids {wrong[:5]} are outside the vocabulary of {self.vocab_size} tokens.", "logit_bias"
            )
