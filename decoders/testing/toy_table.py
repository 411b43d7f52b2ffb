"""The toy's tables: four words and an end, the laws of the next word, and of whole completions.

The next word depends on the length and the sum of the tokens before it, and a completion has at most four tokens. The
model is small enough to enumerate, so that a test knows a strategy's law to the last digit.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from decoders.core import Sampling, Tokens
from decoders.maths.logmath import logsumexp
from decoders.policy import TokenLaw

EOS = 0
WORDS = ("", " good", " bad", " plain", " odd")
MAX_TOKENS = 4


@dataclass(frozen=True)
class ToyGuide:
    """A guide: one score for each next word. An `arm` normalises the scores, a `q_head` takes them as they are."""

    scores: Sequence[float] = (0.0, 1.0, -1.0, 0.25, 0.25)
    kind: str = "arm"

    def logits(self, prefix: Tokens, vocabulary: int) -> list[float]:
        """Return the guide's logit of every token after `prefix`; a word that repeats the last one scores half."""
        scores = [s / 2 if prefix and v == prefix[-1] else s for v, s in enumerate(self.scores[:vocabulary])]
        z = logsumexp(scores) if self.kind == "arm" else 0.0
        return [s - z for s in scores]


@dataclass(frozen=True)
class ToyTable:
    """A tabular language model and its laws, with the guides `loaded` beside it by name.

    `vocabulary` is the number of words (word 0 ends a completion), and `longest` the number of tokens of the longest
    completion; smaller ones enumerate faster.
    """

    vocabulary: int = len(WORDS)
    longest: int = MAX_TOKENS
    name: str = "toy"
    loaded: Mapping[str, ToyGuide] = field(default_factory=dict)

    @property
    def guides(self) -> dict[str, str]:
        return {name: guide.kind for name, guide in self.loaded.items()}

    def logprobs(self, prompt: Tokens, prefix: Tokens) -> list[float]:
        """Return log pi(v | prompt, prefix) for every token v."""
        if len(prefix) + 1 >= self.longest:
            return [0.0 if v == EOS else -math.inf for v in range(self.vocabulary)]
        k = sum(prompt) + sum(prefix) + len(prefix)
        weights = [1.0 + k % 2] + [1.0 + (k * v + v) % 3 for v in range(1, self.vocabulary)]
        z = math.log(sum(weights))
        return [math.log(w) - z for w in weights]

    def guided(self, prompt: Tokens, prefix: Tokens, law: TokenLaw) -> list[float]:
        """Return log p(v | prompt, prefix) for every token v under a law of policy and guides."""
        policy = self.logprobs(prompt, prefix)
        if law == TokenLaw():
            return policy
        total = [law.policy * p if p > -math.inf else p for p in policy]
        for name, weight in law.guides.items():
            logits = self.loaded[name].logits(prefix, self.vocabulary)
            total = [t + weight * g for t, g in zip(total, logits, strict=True)]
        z = logsumexp(total)
        return [t - z for t in total]

    def law(self, prompt: Tokens, prefix: Tokens, sampling: Sampling) -> list[float]:
        """Return the log-probability of every token after the request's guides, bias, temperature and top-k."""
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

    def entropy(self, prompt: Tokens, prefix: Tokens, sampling: Sampling) -> float:
        """Return the entropy of the next token's law under guides, in nats."""
        logprobs = self.guided(prompt, prefix, TokenLaw(guides=sampling.guides))
        return -math.fsum(math.exp(v) * v for v in logprobs if v > -math.inf)

    def completions(
        self, prompt: Tokens = (), max_tokens: int | None = None, guides: Mapping[str, float] | None = None
    ) -> dict[Tokens, float]:
        """Return the probability of every completion: the closed form to compare a strategy's law with.

        Args:
            prompt: Token ids of the prompt.
            max_tokens: Completions are cut at this many tokens; by default at `longest`.
            guides: Guides with weights; by default the policy alone.
        """
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
