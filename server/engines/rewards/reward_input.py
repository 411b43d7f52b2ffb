"""What a reward reads of an answer that was taken apart: the answer without its reasoning, or all of it."""

from collections.abc import Sequence
from dataclasses import replace

from decoders.core import Candidate, Prompt
from decoders.models import Reward, scores_all
from server.settings import AnyReward, TextReward


class AnswerReward:
    """Hands a reward the answers alone: their texts without the reasoning, and the calls of tools apart."""

    def __init__(self, reward: Reward) -> None:
        self._reward = reward
        self.scores_all = scores_all(reward)

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> Sequence[float | None]:
        if prompt.parser is not None:
            completions = [_answer(prompt, candidate) for candidate in completions]
        return await self._reward.score(prompt, completions)


class WholeReward:
    """Hands a reward the whole texts as they were drawn, and nothing apart."""

    def __init__(self, reward: Reward) -> None:
        self._reward = reward
        self.scores_all = scores_all(reward)

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> Sequence[float | None]:
        return await self._reward.score(replace(prompt, parser=None), completions)


def reads(reward: Reward, spec: AnyReward) -> Reward:
    """Return the reward with what its settings say that it reads; one that scores tokens reads them all."""
    if not isinstance(spec, TextReward):
        return reward
    return AnswerReward(reward) if spec.reward_input == "answer" else WholeReward(reward)


def _answer(prompt: Prompt, candidate: Candidate) -> Candidate:
    """Return the candidate with its text as the answer alone: then its tokens say more than its text."""
    text = prompt.reply(candidate).text
    return candidate if text == candidate.text else replace(candidate, text=text, trimmed=True)
