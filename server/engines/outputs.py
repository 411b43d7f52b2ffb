"""What vLLM reports of one engine request, as candidates."""

import math
from collections.abc import Mapping, Sequence

from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput

from decoders.core import Alternative, Candidate, Prompt, Sampling, TokenLogprob
from decoders.errors import EngineFailed
from server.engines.prompt_text import described
from server.engines.text import ModelText
from server.engines.token_text import TokenText


class Outputs:
    """Candidates of one engine request. With `read`, a reader has yet to say what their tokens say."""

    def __init__(self, text: ModelText, prompt: Prompt, sampling: Sampling, *, read: bool) -> None:
        self._text = text
        self._prompt = prompt
        self._sampling = sampling
        self._read = read
        self._known: tuple[TokenLogprob | None, ...] | None = None  # of the prompt's tokens
        self._answers: dict[int, TokenText] = {}
        self._begun: set[int] = set()

    def candidate(self, part: CompletionOutput, output: RequestOutput) -> Candidate:
        """A completion, or the next piece of one: the first has the prompt's log-probabilities, where asked for."""
        reason = part.finish_reason
        if reason not in (None, "stop", "length", "repetition"):
            raise EngineFailed(f"The policy engine ended a completion by '{reason}'.")
        first = part.index not in self._begun
        self._begun.add(part.index)
        return Candidate(
            tokens=tuple(part.token_ids),
            text=part.text,
            finish=None if reason is None else "length" if reason == "length" else "stop",
            stop=part.stop_reason,
            logprobs=None if part.logprobs is None else self._logprobs(part),
            prompt_logprobs=self._of_prompt(output) if first else None,
            trimmed=isinstance(part.stop_reason, str),  # a token may run past a stop string that is included
        )

    def _logprobs(self, part: CompletionOutput) -> tuple[TokenLogprob, ...]:
        entries = tuple(_logprob(e, t) for e, t in zip(part.logprobs or (), part.token_ids, strict=True))
        if self._read:
            return entries
        if part.index not in self._answers:
            skip = self._sampling.skip_special_tokens
            self._answers[part.index] = TokenText(self._text, self._prompt.tokens, skip_special=skip)
        return self._answers[part.index].described(entries)

    def _of_prompt(self, output: RequestOutput) -> tuple[TokenLogprob | None, ...] | None:
        """One for each token but the first. Pieces of several completions may come together, with one of them."""
        if self._sampling.prompt_logprobs is None:
            return None
        if self._known is None:
            entries: Sequence[Mapping[int, Logprob] | None] = output.prompt_logprobs or ()
            pairs = zip(entries, self._prompt.tokens, strict=True)
            known = [_logprob(entry, token) for entry, token in pairs if entry is not None]
            self._known = (None, *described(self._text, self._prompt, known))
        return self._known


def _logprob(entry: Mapping[int, Logprob], token: int) -> TokenLogprob:
    """vLLM gives the token that stands there first, then the most likely ones in order, it again among them."""
    ranked = sorted(entry.items(), key=lambda item: item[1].rank or math.inf)
    top = tuple(Alternative(t, "", e.logprob) for t, e in ranked)
    return TokenLogprob(token, "", entry[token].logprob, top=top)
