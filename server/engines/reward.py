"""Rewards that vLLM computes: classifiers and process reward models in pooling engines, and the policy's own guides."""

import math
import uuid
from collections.abc import Callable, Sequence

from vllm import PoolingParams
from vllm.inputs.engine import tokens_input
from vllm.v1.engine.async_llm import AsyncLLM

from decoders.core import Candidate, Prompt
from decoders.errors import InvalidRequest, RewardFailed, UnreadableText
from decoders.pool import together
from server.engines.policy import VllmPolicy
from server.engines.reading import Reading
from server.engines.text import ModelText
from server.engines.vllm import engine_errors
from server.settings import ClassifierReward, ProcessReward, SettingsError

REDUCE: dict[str, Callable[[list[float]], float]] = {
    "last": lambda steps: steps[-1],
    "min": min,
    "mean": lambda steps: math.fsum(steps) / len(steps),
    "product": math.prod,
}


class VllmReward:
    """Scores prompt and completion in a pooling AsyncLLM, batched by the engine over all requests.

    What the model reads, `reading` says: a chat by the model's own chat template, unless the settings say otherwise.
    An answer that may still go on is read as one that ends where it is.
    """

    def __init__(
        self, engine: AsyncLLM, settings: ClassifierReward | ProcessReward, text: ModelText, policy: ModelText
    ) -> None:
        self.engine = engine
        self._settings = settings
        self._text = text
        self._tag = _step_tag(settings, text)
        self.reading = Reading(settings.model, settings.template, text, policy)
        self._task = "classify" if isinstance(settings, ClassifierReward) else "token_classify"
        labels = engine.model_config.hf_config.num_labels
        if labels > 1 and settings.label is None:
            raise SettingsError(f"reward model '{settings.model}' has {labels} outputs: set `label` to name one")

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:
        ids = self._tag is None and await self.reading.hands_over(prompt)
        return await together(self._score(prompt, c, ids=ids) for c in completions)

    async def _score(self, prompt: Prompt, candidate: Candidate, *, ids: bool) -> float:
        if ids:
            read = await self.reading.ids(prompt, candidate)
        else:
            located = isinstance(self._settings, ProcessReward)
            read = await self.reading.encoded(prompt, self._tagged(candidate.text), located=located)
        tokens = read.tokens
        limit = self._text.max_model_len
        if not 0 < len(tokens) <= limit:
            raise UnreadableText(f"prompt and completion are {len(tokens)} tokens, and it reads 1 to {limit}")
        params = PoolingParams(task=self._task, use_activation=self._settings.activation)
        try:
            with engine_errors("reward"):
                async for output in self.engine.encode(tokens_input(list(tokens)), params, uuid.uuid4().hex):
                    data = output.outputs.data
        except InvalidRequest as error:  # what the engine refuses here is not the client's doing
            raise RewardFailed(str(error)) from error
        label = self._settings.label or 0
        if isinstance(self._settings, ClassifierReward):
            return float(data[label])
        steps = [float(row[label]) for row in data.reshape(len(data), -1)]
        if self._tag is None:  # one for each token: the prompt's say nothing of the completion
            steps = steps[read.start : read.stop] or steps[-1:]
        elif len(steps) == len(tokens):  # some models give the steps alone
            steps = [step for step, token in zip(steps, tokens, strict=True) if token == self._tag]
        if not steps:  # an empty completion has no step, and so no reward
            return math.nan
        return REDUCE[self._settings.reduce](steps)

    def _tagged(self, completion: str) -> str:
        if not isinstance(self._settings, ProcessReward) or self._settings.step_tag is None:
            return completion
        steps = completion.split(self._settings.step_separator)
        return "".join(step + self._settings.step_tag for step in steps if step.strip())


class GuideReward:
    """A guide of the policy as a reward of whole completions, computed by the policy's engine."""

    def __init__(self, policy: VllmPolicy, guide: str) -> None:
        self._policy = policy
        self._guide = guide

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:
        return await together(self._policy.guide_reward(prompt, c, self._guide) for c in completions)


def _step_tag(settings: ClassifierReward | ProcessReward, text: ModelText) -> int | None:
    """The token id of the step tag. Raises `SettingsError` if the model's tokenizer has no such token."""
    if not isinstance(settings, ProcessReward) or settings.step_tag is None:
        return None
    tokens = text.tokens(settings.step_tag, special=False)
    if len(tokens) != 1:
        raise SettingsError(f"step_tag '{settings.step_tag}' is not one token of reward model '{settings.model}'")
    return tokens[0]
