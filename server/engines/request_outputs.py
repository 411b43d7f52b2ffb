"""vLLM's outputs of one engine request as candidates."""

import math
from collections.abc import Mapping, Sequence

from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput

from decoders.core import Alternative, Candidate, Prompt, Sampling, TokenLogprob
from decoders.errors import EngineFailed
from server.engines.text.model_text import ModelText
from server.engines.text.prompt_text import prompt_logprobs_with_text
from server.engines.text.token_text import TokenText


class RequestOutputs:
    """Turns the outputs of one engine request into candidates.

    With `detokenize`, their log-probabilities have the tokens' texts; otherwise an `AnswerReader` adds these later.
    """

    def __init__(self, text: ModelText, prompt: Prompt, sampling: Sampling, *, detokenize: bool) -> None:
        self._text = text
        self._prompt = prompt
        self._sampling = sampling
        self._detokenize = detokenize
        self._prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
        self._readers: dict[int, TokenText] = {}  # by the completion's index
        self._started: set[int] = set()

    def candidate(self, part: CompletionOutput, output: RequestOutput) -> Candidate:
        """Return a completion, or its next piece: the first piece has the prompt's log-probabilities, if requested."""
        reason = part.finish_reason
        if reason not in (None, "stop", "length", "repetition"):
            raise EngineFailed(f"The policy engine ended a completion by '{reason}'.")
        first = part.index not in self._started
        self._started.add(part.index)
        return Candidate(
            tokens=tuple(part.token_ids),
            text=part.text,
            finish=None if reason is None else "length" if reason == "length" else "stop",
            stop=part.stop_reason,
            logprobs=None if part.logprobs is None else self._logprobs(part),
            prompt_logprobs=self._logprobs_of_prompt(output) if first else None,
            trimmed=isinstance(part.stop_reason, str),  # a token may run past a stop string that is included
        )

    def _logprobs(self, part: CompletionOutput) -> tuple[TokenLogprob, ...]:
        entries = tuple(_logprob(e, t) for e, t in zip(part.logprobs or (), part.token_ids, strict=True))
        if not self._detokenize:
            return entries
        if part.index not in self._readers:
            skip = self._sampling.skip_special_tokens
            self._readers[part.index] = TokenText(self._text, self._prompt.tokens, skip_special=skip)
        return self._readers[part.index].with_text(entries)

    def _logprobs_of_prompt(self, output: RequestOutput) -> tuple[TokenLogprob | None, ...] | None:
        """Return an entry for each prompt token, None for the first.

        They are kept: where one output has pieces of several completions, vLLM reports them only once.
        """
        if self._sampling.prompt_logprobs is None:
            return None
        if self._prompt_logprobs is None:
            entries: Sequence[Mapping[int, Logprob] | None] = output.prompt_logprobs or ()
            pairs = zip(entries, self._prompt.tokens, strict=True)
            known = [_logprob(entry, token) for entry, token in pairs if entry is not None]
            self._prompt_logprobs = (None, *prompt_logprobs_with_text(self._text, self._prompt, known))
        return self._prompt_logprobs


def _logprob(entry: Mapping[int, Logprob], token: int) -> TokenLogprob:
    """Return vLLM's entry for one position, its tokens in the order of their rank."""
    ranked = sorted(entry.items(), key=lambda item: item[1].rank or math.inf)
    top = tuple(Alternative(t, "", e.logprob, rank=e.rank) for t, e in ranked)
    return TokenLogprob(token, "", entry[token].logprob, rank=entry[token].rank, top=top)
