"""Guided decoding as a loop over two Transformers models, each with its KV cache; all prompts are one batch.

A child process: a request holds prompts' token ids, the answer holds the seconds that all their completions took.
"""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from evaluation.speed.json_child import Json, answer_lines, argument_of_child
from training.guided_reference import CachedModel, guided_law


def load_cached(path: str, dtype: str) -> CachedModel:
    """Load a causal model, onto the GPU if there is one."""
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return CachedModel(AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(device).eval())


@torch.inference_mode()
def generate_guided(
    policy: CachedModel,
    guide: CachedModel,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    weight: float,
    *,
    greedy: bool,
) -> list[list[int]]:
    """Return `tokens` tokens after each prompt, sampled from pi(y) pi_r(y)^weight or, if `greedy`, the likeliest.

    The end token is ignored, and the logits are added as they are, which is all that a loop for speed needs.
    """
    drawn: list[Tensor] = []
    for _ in range(tokens):
        last = drawn[-1] if drawn else None
        law = guided_law(policy.next(prompts, last), [(guide.next(prompts, last), weight)])
        drawn.append(law.argmax(-1, keepdim=True) if greedy else torch.multinomial(law.exp(), 1))
    completions: list[list[int]] = torch.cat(drawn, dim=1).tolist()
    return completions


def main() -> None:
    side = argument_of_child()
    policy, guide = (load_cached(side[name], side["dtype"]) for name in ("policy", "guide"))

    def answer(request: Json) -> Json:
        started = time.perf_counter()
        completions = generate_guided(
            policy, guide, request["prompts"], request["tokens"], request["weight"], greedy=request["greedy"]
        )
        return {"seconds": time.perf_counter() - started, "tokens": completions}

    answer_lines(answer)


if __name__ == "__main__":
    main()
