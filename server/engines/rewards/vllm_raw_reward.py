"""A reward model in a pooling engine, asked about texts as `vllm serve` would be."""

from collections.abc import Sequence

from vllm.v1.engine.async_llm import AsyncLLM

from decoders.core import Tokens
from decoders.errors import InvalidRequest
from server.engines.rewards.pooling_engine import PoolingEngine
from server.engines.rewards.raw_reward import PoolingTask, ReadText
from server.engines.rewards.reward_text import paired
from server.engines.text.model_text import ModelText
from server.engines.text.protocol import Message


class VllmRawReward:
    """Reads texts as vLLM 0.32 does, which puts a BOS before a text even where the text begins with one itself.

    Args:
        text: The model's tokenizer.
        templated: Whether the settings have a chat template, by which vLLM would render pairs too.
    """

    def __init__(self, engine: AsyncLLM, text: ModelText, *, templated: bool) -> None:
        self._engine = engine
        self._pooling = PoolingEngine(engine)
        self._text = text
        self._templated = templated
        self.outputs = self._pooling.outputs

    def label(self, index: int) -> str | None:
        names = getattr(self._engine.model_config.hf_config, "id2label", None) or {}
        name = names.get(index)
        return None if name is None else str(name)

    async def task(self) -> PoolingTask:
        task = self._engine.model_config.get_pooling_task(await self._engine.get_supported_tasks())
        return "classify" if task == "classify" else "token_classify"

    async def text(self, text: str | Sequence[int], *, special: bool) -> ReadText:
        if isinstance(text, str):
            return self._read(await self._text.encoded(text, special=special, field="input"), "input")
        unknown = [token for token in text if token >= self._text.vocab_size]
        if unknown:
            message = f"Token ids {unknown[:5]} are outside the vocabulary of {self._text.vocab_size} tokens."
            raise InvalidRequest(message, "input")
        return self._read(tuple(text), "input")

    async def chat(self, messages: Sequence[Message], *, reply: bool, continued: bool, special: bool) -> ReadText:
        rendered = self._text.render(messages, reply=reply, continued=continued)
        return self._read(await self._text.encoded(rendered, special=special, field="messages"), "messages")

    async def pair(self, first: str, second: str) -> ReadText:
        if self._templated:
            roles = [{"role": "query", "content": first}, {"role": "document", "content": second}]
            rendered = self._text.render(roles, reply=False)
            return self._read(await self._text.encoded(rendered, special=True, field="documents"), "documents")
        if not self._engine.model_config.use_sep_token:  # a head made of a causal model's tokens
            return self._read(await self._text.encoded(first + second, special=True, field="documents"), "documents")
        await self._text.encoded(first + second, special=False, field="documents")  # refuses what is far too long
        tokens, types = paired(self._text, first, second)
        return self._read(tokens, "documents", types)

    def _read(self, tokens: Tokens, field: str, second: int | None = None) -> ReadText:
        limit = self._text.max_model_len
        if not 0 < len(tokens) <= limit:
            raise InvalidRequest(f"A text is {len(tokens)} tokens, and the model reads 1 to {limit}.", field)
        return ReadText(tokens, second)

    async def whole(self, read: ReadText, activation: bool | None) -> list[float]:
        return await self._pooling.whole(read.tokens, activation=activation, second=read.second)

    async def each(self, read: ReadText, activation: bool | None) -> list[list[float]]:
        return await self._pooling.each(read.tokens, activation=activation)
