"""Log-probabilities of tokens in OpenAI's two formats."""

import math
from collections.abc import Sequence
from typing import Any

from decoders.core import Alternative, TokenLogprob
from server.http.schemas.responses import ChatLogprobs, CompletionLogprobs

IMPOSSIBLE = -9999.0  # OpenAI's figure for a token that cannot be drawn, since JSON has no -inf


def completion_logprobs(tokens: Sequence[TokenLogprob | None], first: str, offset: int) -> CompletionLogprobs:
    """Return the log-probabilities of a completion.

    Args:
        tokens: one entry for each token; None for the first token of a prompt, which has no log-probability.
        first: the text of that first token.
        offset: where the first token's text begins, in characters.
    """
    texts = [first if token is None else token.text for token in tokens]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    return CompletionLogprobs(
        tokens=texts,
        token_logprobs=[None if token is None else finite(token.logprob) for token in tokens],
        top_logprobs=[None if token is None else _by_text(token.top) for token in tokens],
        text_offset=offsets,
    )


def chat_logprobs(tokens: Sequence[TokenLogprob], *, top: bool) -> ChatLogprobs:
    """Return the log-probabilities of a chat completion, with the likeliest tokens of each position if `top`."""
    content = [
        {**_entry(token), "top_logprobs": [_entry(other) for other in token.top] if top else []} for token in tokens
    ]
    return ChatLogprobs.model_validate({"content": content, "refusal": None})  # faster than a constructor for each


def _entry(token: Alternative) -> dict[str, Any]:
    return {"token": token.text, "logprob": finite(token.logprob), "bytes": list(token.raw)}


def _by_text(top: Sequence[Alternative]) -> dict[str, float]:
    """Return log-probabilities by text. Parts of characters may have the same text: the likelier counts."""
    found: dict[str, float] = {}
    for token in top:
        found[token.text] = max(finite(token.logprob), found.get(token.text, -math.inf))
    return found


def finite(logprob: float) -> float:
    """Return a log-probability as JSON can have it."""
    return logprob if math.isfinite(logprob) else IMPOSSIBLE
