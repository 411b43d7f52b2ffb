"""One way for every reward to fail: typed, named, and in time."""

import asyncio
import logging
import math
from collections.abc import Sequence

from decoders.core import Candidate, Prompt
from decoders.errors import DecantError, RewardFailed, RewardTimeout
from decoders.models import Reward, scores_all
from server.engines.scores import reals

log = logging.getLogger("decant")


class Guarded:
    """A reward that answers within `timeout` seconds with one number or None a completion, or raises `RewardFailed`.

    NaN and infinities pass: strategies know what to do with them. A reward that ever gave one, or None, does not
    score all.
    """

    def __init__(self, name: str, reward: Reward, timeout: float) -> None:
        self._name = name
        self._reward = reward
        self._timeout = timeout
        self.scores_all = scores_all(reward)

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float | None]:
        try:
            async with asyncio.timeout(self._timeout):
                scores = reals(await self._reward.score(prompt, completions))
            if len(scores) != len(completions):
                raise RewardFailed(f"gave {len(scores)} rewards for {len(completions)} completions")
        except TimeoutError as error:
            raise RewardTimeout(f"The reward '{self._name}' took more than {self._timeout:g} s.") from error
        except RewardFailed as error:
            raise type(error)(f"The reward '{self._name}' failed: {error}") from error
        except DecantError:  # an engine that died is its own story
            raise
        except Exception as error:
            raise RewardFailed(f"The reward '{self._name}' failed: {type(error).__name__}: {error}") from error
        if self.scores_all and not all(s is not None and math.isfinite(s) for s in scores):
            self.scores_all = False
            log.warning(
                "the reward '%s' has no finite number for a completion: no bound on KL stands on it now", self._name
            )
        return scores
