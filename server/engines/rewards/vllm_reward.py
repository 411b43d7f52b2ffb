"""Rewards that vLLM computes: classifiers and process reward models in pooling engines."""

import math
from collections.abc import Callable, Sequence
from functools import partial

from vllm.v1.engine.async_llm import AsyncLLM

from decoders.core import Candidate, Prompt
from decoders.parts.concurrency import together
from server.engines.rewards.pooling_engine import PoolingEngine
from server.engines.rewards.raw_reward import RawReward
from server.engines.rewards.reward_text import RewardText
from server.engines.rewards.step_tags import StepTagger
from server.engines.rewards.vllm_raw_reward import VllmRawReward
from server.engines.text.model_text import ModelText
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
        self._settings = settings
        self._pooling = PoolingEngine(engine)
        self.raw: RawReward = VllmRawReward(engine, text, templated=settings.chat_template is not None)
        self._tagger = None
        if isinstance(settings, ProcessReward) and settings.step_tag is not None:
            self._tagger = StepTagger(settings, text)
        self.reward_text = RewardText(settings.model, settings.template, text, policy)
        self.scores_all = self._tagger is None  # an answer without a step has no reward
        outputs = self._pooling.outputs
        if self._pooling.at_steps and self._tagger is None:
            raise SettingsError(f"reward model '{settings.model}' has scores at step tags alone: set `step_tag`")
        if outputs > 1 and settings.label is None:
            raise SettingsError(f"reward model '{settings.model}' has {outputs} outputs: set `label` to name one")
        if not 0 <= (settings.label or 0) < outputs:
            raise SettingsError(f"reward model '{settings.model}' has {outputs} outputs, and none is {settings.label}")

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:
        ids = self._tagger is None and await self.reward_text.uses_policy_ids(prompt)
        return await together(self._score(prompt, c, ids=ids) for c in completions)

    async def _score(self, prompt: Prompt, candidate: Candidate, *, ids: bool) -> float:
        label, activation = self._settings.label or 0, self._settings.activation
        each = partial(self._pooling.each, activation=activation, salt=prompt.cache_salt)
        if self._tagger is not None:
            tagged = await self._tagger.encode(self.reward_text, prompt, candidate.text)
            if not tagged.ends:  # no step, and so no reward
                return math.nan
            rows = await each(tagged.tokens, step_tag=self._tagger.tag)
            return self._reduce(self._tagger.step_scores([row[label] for row in rows], tagged))
        if ids:
            read = await self.reward_text.policy_ids(prompt, candidate)
        else:
            located = isinstance(self._settings, ProcessReward)
            read = await self.reward_text.encode(prompt, prompt.reply(candidate), located=located)
        if isinstance(self._settings, ClassifierReward):
            tokens = self._pooling.without_padding(read.tokens)
            salt = prompt.cache_salt
            return (await self._pooling.whole(tokens, activation=activation, second=read.second, salt=salt))[label]
        # One score for each token, of which only the completion's count.
        scores = [row[label] for row in await each(read.tokens)]
        return self._reduce(scores[read.start : read.stop] or scores[-1:])

    def _reduce(self, steps: list[float]) -> float:
        assert isinstance(self._settings, ProcessReward)
        return REDUCE[self._settings.reduce](steps)
