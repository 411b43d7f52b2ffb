"""What an answer tells of tokens beside their texts, in vLLM's fields: ids, and the prompt's log-probabilities."""

from dataclasses import dataclass
from typing import Any

from decoders.core import Candidate, Prompt, TokenLogprob
from server.http.openai_logprobs import finite


@dataclass(frozen=True, slots=True)
class TokenDetails:
    """Which of them a request asks for."""

    ids: bool = False
    prompt_logprobs: bool = False

    def of_answer(self, candidate: Candidate) -> dict[str, Any]:
        """Return the fields of an answer's tokens, or of a piece's."""
        return {"token_ids": list(candidate.tokens)} if self.ids else {}

    def of_prompt(self, prompt: Prompt, candidate: Candidate) -> dict[str, Any]:
        """Return the fields of the prompt's tokens."""
        found: dict[str, Any] = {"prompt_token_ids": list(prompt.tokens)} if self.ids else {}
        if self.prompt_logprobs:
            found["prompt_logprobs"] = [_by_id(entry) for entry in candidate.prompt_logprobs or ()]
        return found


NO_DETAILS = TokenDetails()


def _by_id(entry: TokenLogprob | None) -> dict[str, Any] | None:
    """Return the token at a position and the likeliest ones by their ids; None for the first, which has none."""
    if entry is None:
        return None
    return {
        str(one.token): {"logprob": finite(one.logprob), "rank": one.rank, "decoded_token": one.text}
        for one in (entry.top or (entry,))
    }
