"""Choices of a /v1/completions answer, or of a chunk of its stream, as vLLM's engine would report them."""

from collections.abc import Mapping
from typing import Any

from vllm import SamplingParams
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind

from decoders.errors import EngineFailed

TOKEN = "token_id:"  # what a server writes before an id in place of a token's text


def request_output(request_id: str, tokens: list[int], choices: list[Any], likeliest: int) -> RequestOutput:
    """Return the completions, or their next pieces, of one answer or chunk. Raises `EngineFailed` for what is none.

    Args:
        tokens: The prompt's.
        likeliest: How many likeliest tokens were asked for.
    """
    try:
        parts = [_completion(choice, likeliest) for choice in choices]
        known = choices[0].get("prompt_logprobs") if choices else None
        prompt_logprobs = None if known is None else [_entry(entry) for entry in known]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise EngineFailed(f"The policy's server answered without token ids or log-probabilities: {error!r}") from error
    return RequestOutput(request_id, None, tokens, prompt_logprobs, parts, all(part.finished() for part in parts))


class StreamedOutputs:
    """Makes of a stream's pieces what the engine would report: these pieces, or each completion when it has ended."""

    def __init__(self, params: SamplingParams) -> None:
        self._pieces = params.output_kind == RequestOutputKind.DELTA
        self._left: int = params.n
        self._whole: dict[int, CompletionOutput] = {}

    @property
    def complete(self) -> bool:
        """Whether every completion has ended."""
        return self._left == 0

    def next(self, output: RequestOutput) -> RequestOutput:
        """Return what is to be reported after the next pieces."""
        self._left -= sum(part.finished() for part in output.outputs)
        if not self._pieces:
            joined = [self._joined(part) for part in output.outputs]
            output.outputs = [part for part in joined if part.finished()]
        return output

    def _joined(self, piece: CompletionOutput) -> CompletionOutput:
        whole = self._whole.setdefault(piece.index, piece)
        if whole is not piece:
            whole.text += piece.text
            whole.token_ids.extend(piece.token_ids)
            if whole.logprobs is not None:
                whole.logprobs.extend(piece.logprobs or ())
            whole.finish_reason, whole.stop_reason = piece.finish_reason, piece.stop_reason
        return whole


def _completion(choice: Mapping[str, Any], likeliest: int) -> CompletionOutput:
    tokens = list(map(int, choice["token_ids"]))
    logprobs = choice.get("logprobs")
    return CompletionOutput(
        index=choice["index"],
        text=choice["text"],
        token_ids=tokens,
        cumulative_logprob=None,
        logprobs=None if logprobs is None else _logprobs(tokens, logprobs, likeliest),
        finish_reason=choice.get("finish_reason"),
        stop_reason=choice.get("stop_reason"),
    )


def _logprobs(tokens: list[int], logprobs: Mapping[str, Any], likeliest: int) -> list[dict[int, Logprob]]:
    """Return the log-probabilities at each position, in nats: of the drawn token, and of the likeliest ones.

    The server sends no ranks. The likeliest tokens have theirs by their order; a drawn token that is not among them has
    none.
    """
    found = []
    for token, own, top in zip(tokens, logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True):
        known = sorted(((_id(name), value) for name, value in top.items()), key=lambda item: -item[1])
        ranks = {other: rank for rank, (other, _) in enumerate(known[:likeliest], 1)}
        found.append({other: Logprob(value, ranks.get(other)) for other, value in [(token, own), *known]})
    return found


def _id(name: str) -> int:
    if not name.startswith(TOKEN):
        raise ValueError(f"'{name}' is not the id of a token")
    return int(name.removeprefix(TOKEN))


def _entry(entry: Mapping[str, Any] | None) -> dict[int, Logprob] | None:
    """Return the log-probabilities at one position of the prompt."""
    if entry is None:
        return None
    return {int(token): Logprob(known["logprob"], known.get("rank")) for token, known in entry.items()}
