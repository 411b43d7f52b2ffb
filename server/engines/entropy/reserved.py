"""Which token ids to reserve as signals.

The law does not depend on the choice, only the speed: a signal that the policy may well draw as itself takes a further
request wherever that could happen. So the choice falls on ids that stand for no token, then on special tokens.
"""

from collections.abc import Collection, Sequence
from typing import Any

from decoders.errors import InvalidRequest
from server.engines.entropy.asked import Signals


def candidates(tokenizer: Any, vocab_size: int, ends: Collection[int]) -> list[int]:
    """Ids from the one that the policy should draw most seldom on; none of `ends`, the ids that end an answer.

    `vocab_size` is the number of logits, which may be more than there are tokens.
    """
    tokens = set(tokenizer.get_vocab().values())
    padding = [i for i in range(vocab_size) if i not in tokens]
    named = set(tokenizer.all_special_ids)
    special = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
    special.sort(key=lambda i: (i in named, -i))  # one that no attribute names (beginning, padding) has no use yet
    unique = dict.fromkeys((*padding, *special, *range(vocab_size - 1, -1, -1)))
    return [i for i in unique if i < vocab_size and i not in ends]


def signals(found: Sequence[int], taken: Collection[int]) -> Signals:
    """The first two candidates that are not `taken` by the request's own stop tokens. Raises `InvalidRequest`."""
    free = iter(i for i in found if i not in taken)
    first, second = next(free, None), next(free, None)
    if first is None or second is None:
        raise InvalidRequest("There are two tokens fewer than this strategy needs besides these.", "stop_token_ids")
    return Signals(first, second)
