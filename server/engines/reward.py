"""Rewards that vLLM computes: classifiers and process reward models in pooling engines, and the policy's own guides."""

import math
import uuid
from collections.abc import Callable, Sequence
from itertools import takewhile

from vllm import PoolingParams
from vllm.inputs.engine import tokens_input
from vllm.v1.engine.async_llm import AsyncLLM

from decoders.core import Candidate, Prompt, Tokens
from decoders.errors import InvalidRequest, RewardFailed
from decoders.pool import together
from server.engines.policy import VllmPolicy
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

    A model that shares the policy's tokenizer gets the policy's own token ids. Any other one gets text: through
    its own chat template where the prompt is a chat and it has one, else prompt and completion as they stand.
    """

    def __init__(
        self, engine: AsyncLLM, settings: ClassifierReward | ProcessReward, text: ModelText, policy: ModelText
    ) -> None:
        self.engine = engine
        self._settings = settings
        self._text = text
        self._tag = _step_tag(settings, text)
        self._hands_over_tokens = self._tag is None and text.same_tokens(policy)
        self._task = "classify" if isinstance(settings, ClassifierReward) else "token_classify"
        labels = engine.model_config.hf_config.num_labels
        if labels > 1 and settings.label is None:
            raise SettingsError(f"reward model '{settings.model}' has {labels} outputs: set `label` to name one")

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float]:
        return await together(self._score(prompt, c) for c in completions)

    async def _score(self, prompt: Prompt, candidate: Candidate) -> float:
        tokens, start = self._tokens(prompt, candidate)
        limit = self._text.max_model_len
        if len(tokens) > limit:
            raise RewardFailed(f"prompt and completion are {len(tokens)} tokens, and it reads {limit}")
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
            steps = steps[start:] or steps[-1:]
        elif len(steps) == len(tokens):  # some models give the steps alone
            steps = [step for step, token in zip(steps, tokens, strict=True) if token == self._tag]
        if not steps:  # an empty completion has no step, and so no reward
            return math.nan
        return REDUCE[self._settings.reduce](steps)

    def _tokens(self, prompt: Prompt, candidate: Candidate) -> tuple[Tokens, int]:
        """The token ids to score, and where the completion begins among them.

        Text that a stop string cut is encoded anew, since its ids run past the cut.
        """
        if not self._hands_over_tokens:
            tokens = self._encode(prompt, self._tagged(candidate.text))
            alone = self._encode(prompt, "")
            return tokens, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(tokens, alone, strict=False)))
        own = self._text.tokens(candidate.text, special=False) if candidate.trimmed else candidate.tokens
        return prompt.tokens + own, len(prompt.tokens)

    def _tagged(self, completion: str) -> str:
        if not isinstance(self._settings, ProcessReward) or self._settings.step_tag is None:
            return completion
        steps = completion.split(self._settings.step_separator)
        return "".join(step + self._settings.step_tag for step in steps if step.strip())

    def _encode(self, prompt: Prompt, completion: str) -> Tokens:
        if prompt.messages is None or not self._text.has_chat_template:
            return self._text.tokens(prompt.text + completion, special=prompt.messages is None)
        return self._text.tokens(self._text.render(prompt.answered(completion), reply=False), special=False)


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
