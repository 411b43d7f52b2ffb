"""What a reward model's pooling engine gives for token ids: numbers for the whole text, or for each token."""

import uuid
from typing import Any

from vllm import PoolingParams
from vllm.inputs.engine import tokens_input
from vllm.v1.engine.async_llm import AsyncLLM

from decoders.core import Tokens
from decoders.errors import InvalidRequest, RewardFailed, UnreadableText
from server.engines.vllm_seam import engine_errors

Row = list[float]

# vLLM gives these models a fixed number of outputs, which their configurations need not say.
OUTPUTS = {"Qwen2ForRewardModel": 1, "InternLM2ForRewardModel": 1, "Qwen2ForProcessRewardModel": 2}


class PoolingEngine:
    """A reward model in a pooling AsyncLLM, which batches over all requests."""

    def __init__(self, engine: AsyncLLM) -> None:
        self._engine = engine
        config = engine.model_config
        pooler = config.pooler_config
        self._max_len = config.max_model_len
        self.outputs: int = OUTPUTS.get(config.architecture, config.hf_config.num_labels)
        """How many numbers the model gives."""
        self.at_steps = pooler is not None and pooler.tok_pooling_type == "STEP"
        """Whether the model has numbers at step tags alone."""
        self._reads_last = pooler is not None and pooler.seq_pooling_type == "LAST"
        self._padding: int | None = getattr(config.hf_config.get_text_config(), "pad_token_id", None)

    async def whole(
        self, tokens: Tokens, *, activation: bool | None, second: int | None = None, salt: str | None = None
    ) -> Row:
        """Return the numbers of a whole text: [outputs].

        A model that has numbers for tokens alone, as reward models with a head of their own do, has them at the last.

        Args:
            activation: Apply the model's sigmoid or softmax; None leaves that to vLLM.
            second: Where the second text of a pair begins, for a model with token types.
            salt: What the prefix cache is kept apart by.

        Raises `UnreadableText` for a text that is too long, and `RewardFailed`.
        """
        if "classify" not in await self._engine.get_supported_tasks():
            return (await self.each(tokens, activation=activation, salt=salt))[-1]
        params = PoolingParams(task="classify", use_activation=activation)
        if second is not None:
            params.extra_kwargs = {"compressed_token_type_ids": second}
        return [float(value) for value in await self._encode(tokens, params, salt)]

    async def each(
        self, tokens: Tokens, *, activation: bool | None, step_tag: int | None = None, salt: str | None = None
    ) -> list[Row]:
        """Return the numbers of each token, or of each `step_tag` if the model has no others: [tokens, outputs]."""
        params = PoolingParams(task="token_classify", use_activation=activation)
        if self.at_steps:
            params.step_tag_id = step_tag
        return [[float(value) for value in row.reshape(-1)] for row in await self._encode(tokens, params, salt)]

    def without_padding(self, tokens: Tokens) -> Tokens:
        """Return the tokens up to the last one that Transformers' sequence classifiers would read.

        They read the last token that is not their padding token, which may be the one that ends an answer.
        """
        if not self._reads_last or self._padding is None:
            return tokens
        end = len(tokens)
        while end > 1 and tokens[end - 1] == self._padding:
            end -= 1
        return tokens[:end]

    async def _encode(self, tokens: Tokens, params: PoolingParams, salt: str | None) -> Any:
        if not 0 < len(tokens) <= self._max_len:
            raise UnreadableText(f"prompt and completion are {len(tokens)} tokens, and it reads 1 to {self._max_len}")
        try:
            with engine_errors("reward"):
                inputs = tokens_input(list(tokens), cache_salt=salt)
                async for output in self._engine.encode(inputs, params, uuid.uuid4().hex):
                    data = output.outputs.data
        except InvalidRequest as error:  # what the engine refuses here is not the client's mistake
            raise RewardFailed(str(error), public="its engine refused the text") from error
        return data
