"""A tokenizer is never in two threads at once: long texts are encoded in a thread, and by a copy."""

import asyncio
import threading
from copy import deepcopy
from typing import Any

from vllm.tokenizers.hf import maybe_make_thread_pool

from server.engines.text.long_texts import LONG
from server.engines.text.model_text import ModelText
from tests.support.templates import BEGUN, made

CALLS = 5


class OneThreadTokenizer:
    """A tokenizer that notes the threads in which it is used."""

    eos_token_id = 1

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.copies: list[OneThreadTokenizer] = []

    def __deepcopy__(self, memo: object) -> "OneThreadTokenizer":
        other = OneThreadTokenizer()
        self.copies.append(other)
        return other

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        self.threads.add(threading.get_ident())
        return [2, *map(ord, text)] if add_special_tokens else list(map(ord, text))


def test_each_tokenizer_is_used_in_one_thread() -> None:
    async def run() -> None:
        texts = ["a" * LONG, "b", "c" * LONG]
        prompts = await asyncio.gather(*(text.encode(t) for t in texts))
        completions = await asyncio.gather(*(text.completion(t, ended=True) for t in texts))
        assert [p.tokens for p in prompts] == [(2, *map(ord, t)) for t in texts]
        assert [c.tokens for c in completions] == [(*map(ord, t), 1) for t in texts]

    tokenizer = OneThreadTokenizer()
    text = ModelText(tokenizer, 10**6, 256)
    asyncio.run(run())
    [other] = tokenizer.copies
    assert tokenizer.threads == {threading.get_ident()}
    assert len(other.threads) == 1
    assert not tokenizer.threads & other.threads


def test_a_call_that_changes_the_tokenizer_may_run_beside_a_long_text() -> None:
    """Reading special tokens as words sets a flag of a fast tokenizer, which fails while another thread encodes."""

    async def run(text: ModelText) -> None:
        for _ in range(CALLS):
            encoding = asyncio.create_task(text.read(long, special=True))
            await asyncio.sleep(0)
            while not encoding.done():
                assert text.tokens_as_words(short) == words
                assert text.tokens(short, special=False) == tokens
                await asyncio.sleep(0)
            assert await encoding == expected

    for tokenizer in (made(BEGUN, begins=True), maybe_make_thread_pool(made(BEGUN, begins=True), 2)):
        short, long = "<s>a", "a good answer " * LONG
        alone: Any = deepcopy(ModelText(made(BEGUN, begins=True), 10**7, 384).tokenizer)
        words = tuple(alone.encode(short, add_special_tokens=False, split_special_tokens=True))
        tokens = tuple(alone.encode(short, add_special_tokens=False))
        expected = tuple(alone.encode(long))
        assert words != tokens
        asyncio.run(run(ModelText(tokenizer, 10**7, 384)))


def test_a_pool_of_copies_is_shared_with_the_thread() -> None:
    pool = maybe_make_thread_pool(made(BEGUN), 2)
    assert ModelText(pool, 1024, 384)._thread.tokenizer is pool
