"""Rewards that vLLM computes: classifiers and process reward models in pooling engines."""

import math
import uuid
from collections.abc import Callable, Sequence

from vllm import PoolingParams
from vllm.inputs.engine import tokens_input
from vllm.v1.engine.async_llm import AsyncLLM

from decoders.core import Candidate, Prompt, Tokens
from decoders.errors import InvalidRequest, RewardFailed, UnreadableText
from decoders.parts.concurrency import together
from server.engines.rewards.reward_text import RewardText
from server.engines.rewards.step_tags import StepTagger
from server.engines.text.model_text import ModelText
from server.engines.vllm_seam import engine_errors
from server.settings import ClassifierReward, ProcessReward, SettingsError

REDUCE: dict[str, Callable[[list[float]], float]] = {
    "last": lambda steps: steps[-1],
    "min": min,
    "mean": lambda steps: math.fsum(steps) / len(steps),
    "product": math.prod,
}


class VllmReward:
    """Scores prompt and completion in a pooling AsyncLLM, which batches over all requests.

    `RewardText` says what the model reads: a chat by the model's own chat template, unless the settings say otherwise.
    An answer that may still go on is read as one that ends where it is.
    """

    def __init__(
        self, engine: AsyncLLM, settings: ClassifierReward | ProcessReward, text: ModelText, policy: ModelText
    ) -> None:
        """Raises `SettingsError` for settings that the model does not support."""
        self._engine = engine
        self._settings = settings
        self._text = text
        self._tagger = None
        if isinstance(settings, ProcessReward) and settings.step_tag is not None:
            self._tagger = StepTagger(settings, text)
        self.reward_text = RewardText(settings.model, settings.template, text, policy)
        self.scores_all = self._tagger is None  # an answer without a step has no reward
        self._params = PoolingParams(task="classify", use_activation=settings.activation)
        if isinstance(settings, ProcessReward):
            self._params = _token_params(engine, settings, None if self._tagger is None else self._tagger.tag)
        labels = engine.model_config.hf_config.num_labels
        if labels > 1 and settings.label is None:
            raise SettingsError(f"reward model '{settings.model}' has {labels} outputs: set `label` to name one")

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:
        ids = self._tagger is None and await self.reward_text.uses_policy_ids(prompt)
        return await together(self._score(prompt, c, ids=ids) for c in completions)

    async def _score(self, prompt: Prompt, candidate: Candidate, *, ids: bool) -> float:
        if self._tagger is not None:
            tagged = await self._tagger.encode(self.reward_text, prompt, candidate.text)
            if not tagged.ends:  # no step, and so no reward
                return math.nan
            return self._reduce(self._tagger.step_scores(await self._rows(tagged.tokens), tagged))
        if ids:
            read = await self.reward_text.policy_ids(prompt, candidate)
        else:
            located = isinstance(self._settings, ProcessReward)
            read = await self.reward_text.encode(prompt, candidate.text, located=located)
        rows = await self._rows(read.tokens)
        if isinstance(self._settings, ClassifierReward):
            return rows[0]
        # One score for each token, of which only the completion's count.
        return self._reduce(rows[read.start : read.stop] or rows[-1:])

    async def _rows(self, tokens: Tokens) -> list[float]:
        """Return the model's output for the whole, or for each token that the engine gives an output for."""
        limit = self._text.max_model_len
        if not 0 < len(tokens) <= limit:
            raise UnreadableText(f"prompt and completion are {len(tokens)} tokens, and it reads 1 to {limit}")
        try:
            with engine_errors("reward"):
                async for output in self._engine.encode(
                    tokens_input(list(tokens)), self._params.clone(), uuid.uuid4().hex
                ):
                    data = output.outputs.data
        except InvalidRequest as error:  # what the engine refuses here is not the client's mistake
            raise RewardFailed(str(error)) from error
        rows = [data] if isinstance(self._settings, ClassifierReward) else [row.reshape(-1) for row in data]
        return [float(row[self._settings.label or 0]) for row in rows]

    def _reduce(self, steps: list[float]) -> float:
        assert isinstance(self._settings, ProcessReward)
        return REDUCE[self._settings.reduce](steps)


def _token_params(engine: AsyncLLM, settings: ProcessReward, tag: int | None) -> PoolingParams:
    """Return the parameters that request token scores.

    Raises `SettingsError` if the model only gives scores of steps and the settings have no tag.
    """
    params = PoolingParams(task="token_classify", use_activation=settings.activation)
    pooler = engine.model_config.pooler_config
    if pooler is not None and pooler.tok_pooling_type == "STEP":
        if tag is None:
            raise SettingsError(f"reward model '{settings.model}' has scores at step tags alone: set `step_tag`")
        params.step_tag_id = tag
    return params
