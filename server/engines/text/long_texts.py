"""Long texts, encoded beside the event loop, and not read to their end where their beginning is already too long.

A text of 15 MB takes a tokenizer half a minute and three gigabytes.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any, TypeVar

from decoders.core import Tokens
from decoders.errors import InvalidRequest

LONG = 4096  # characters, or tokens: what is longer is handed to the thread
CHARACTERS = 12  # for each token of the context: prose of four characters a token fills the context three times
FULL = 2  # contexts: what follows a beginning may change a few of its last tokens, and not half of them

Made = TypeVar("Made")


class TokenizerThread:
    """A thread with a tokenizer of its own.

    A tokenizer is not safe in two threads: a call may change its state (truncation, how special tokens are split) while
    another one reads it. vLLM's pools of copies are safe, and are shared.
    """

    def __init__(self, tokenizer: Any, max_model_len: int) -> None:
        self.tokenizer = _for_another_thread(tokenizer)
        self._max_model_len = max_model_len
        self._thread = ThreadPoolExecutor(1, "tokenizer")

    async def run(self, work: Callable[[], Made]) -> Made:
        """Return what the work makes, in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def tokens(self, text: str, *, special: bool, field: str | None, cut: bool) -> Tokens:
        """Return a text's token ids.

        Args:
            field: The client's name of a text that must fit the context; without one it may be of any length.
            cut: Whether the tokens are cut to the context afterwards.

        Raises `InvalidRequest` for a text whose beginning alone is far over the context.
        """
        most = max(CHARACTERS * self._max_model_len, LONG)
        if field is not None and len(text) > most:
            if cut:
                message = f"The prompt has {len(text)} characters; at most {most} are read to be cut."
                raise InvalidRequest(message, "truncate_prompt_tokens")
            start = await self.run(lambda: token_ids(self.tokenizer, text[:most], special=special))
            if len(start) > FULL * self._max_model_len:
                message = (
                    f"The text has {len(text)} characters, and far more tokens than this model's {self._max_model_len}."
                )
                raise InvalidRequest(message, field)
        return await self.run(lambda: token_ids(self.tokenizer, text, special=special))

    async def text(self, tokens: Sequence[int]) -> str:
        return await self.run(lambda: decoded(self.tokenizer, tokens))


def token_ids(tokenizer: Any, text: str, *, special: bool) -> Tokens:
    return tuple(tokenizer.encode(text, add_special_tokens=special))


def decoded(tokenizer: Any, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))


def _for_another_thread(tokenizer: Any) -> Any:
    """Return a tokenizer that another thread may use at the same time: a copy, unless this one is a pool of copies."""
    from vllm.tokenizers.hf import ThreadSafeHFTokenizerMixin  # seconds of imports, which the toy does without

    return tokenizer if isinstance(tokenizer, ThreadSafeHFTokenizerMixin) else deepcopy(tokenizer)
