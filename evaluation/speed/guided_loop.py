"""Guided decoding as a loop over two Transformers models, each with its KV cache; all prompts are one batch.

A child process: a request holds prompts' token ids, the answer holds the seconds that all their completions took.
"""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from evaluation.speed.json_child import Json, answer_lines, argument_of_child


class Stepper:
    """A Transformers model that reads a batch token by token: logits [rows, vocabulary] after what it has read."""

    def __init__(self, model: str, dtype: str) -> None:
        from transformers import AutoModelForCausalLM

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).to(self._device).eval()

    def begin(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """A new batch; texts of fewer tokens are padded on the left."""
        from transformers import DynamicCache

        longest = max(map(len, texts))
        ids = torch.tensor([[0] * (longest - len(text)) + list(text) for text in texts])
        mask = torch.tensor([[0] * (longest - len(text)) + [1] * len(text) for text in texts])
        self._mask = mask.to(self._device)
        self._positions = (self._mask.cumsum(1) - 1).clamp_(0)
        self._cache = DynamicCache()
        return self._read(ids.to(self._device))

    def step(self, ids: Tensor) -> Tensor:
        """One more token of each row, [rows, 1]."""
        self._mask = torch.cat((self._mask, self._mask.new_ones(len(ids), 1)), dim=1)
        self._positions = self._positions[:, -1:] + 1
        return self._read(ids)

    def _read(self, ids: Tensor) -> Tensor:
        logits: Tensor = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return logits[:, -1]


@torch.inference_mode()
def generate(
    policy: Stepper, guide: Stepper, prompts: Sequence[Sequence[int]], tokens: int, weight: float, *, greedy: bool
) -> list[list[int]]:
    """Samples of pi(y) pi_r(y)^weight, `tokens` of each prompt. Logits are added: what is constant cancels."""
    drawn: list[Tensor] = []
    for _ in range(tokens):
        mixed = policy.step(drawn[-1]) if drawn else policy.begin(prompts)
        mixed = mixed.float() + weight * (guide.step(drawn[-1]) if drawn else guide.begin(prompts))
        drawn.append(mixed.argmax(-1, keepdim=True) if greedy else torch.multinomial(mixed.softmax(-1), 1))
    answers: list[list[int]] = torch.cat(drawn, dim=1).tolist()
    return answers


def main() -> None:
    side = argument_of_child()
    policy, guide = (Stepper(side[name], side["dtype"]) for name in ("policy", "guide"))

    def answer(request: Json) -> Json:
        started = time.perf_counter()
        tokens = generate(
            policy, guide, request["prompts"], request["tokens"], request["weight"], greedy=request["greedy"]
        )
        return {"seconds": time.perf_counter() - started, "tokens": tokens}

    answer_lines(answer)


if __name__ == "__main__":
    main()
