"""Which token ids to reserve as signals.

The choice changes the speed and not the law: where the policy may well draw a signal as an ordinary token, a further
request is needed. So ids that stand for no token are chosen first, then special tokens.
"""

from collections.abc import Collection, Sequence
from typing import Any

from decoders.errors import InvalidRequest
from server.engines.entropy.request_args import Signals


def signal_candidates(tokenizer: Any, vocab_size: int, ends: Collection[int]) -> list[int]:
    """Return token ids, those that the policy should draw most rarely first.

    Args:
        vocab_size: The number of logits, which may be more than the tokenizer has tokens.
        ends: The ids that end an answer, which are left out.
    """
    tokens = set(tokenizer.get_vocab().values())
    padding = [i for i in range(vocab_size) if i not in tokens]
    named = set(tokenizer.all_special_ids)
    special = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
    special.sort(key=lambda i: (i in named, -i))  # those that no attribute names (beginning, padding) are not used
    unique = dict.fromkeys((*padding, *special, *range(vocab_size - 1, -1, -1)))
    return [i for i in unique if i < vocab_size and i not in ends]


def choose_signals(candidates: Sequence[int], taken: Collection[int]) -> Signals:
    """Return the first two candidates that are no stop tokens (`taken`) of the request. Raises `InvalidRequest`."""
    free = iter(i for i in candidates if i not in taken)
    first, second = next(free, None), next(free, None)
    if first is None or second is None:
        raise InvalidRequest(
            "This strategy needs two tokens of the vocabulary that are no stop tokens.", "sampling.stop_token_ids"
        )
    return Signals(first, second)
