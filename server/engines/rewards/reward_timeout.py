"""Every reward fails in one way: by a typed error that names it, and within its time."""

import asyncio
import logging
import math
from collections.abc import Sequence

from decoders.core import Candidate, Prompt
from decoders.errors import DecantError, PublicRewardFailure, RewardFailed, RewardTimeout
from decoders.models import Reward, scores_all
from server.engines.rewards.reward_values import as_rewards

log = logging.getLogger("decant")


class RewardWithTimeout:
    """A reward that returns a number or None for each completion within `timeout` seconds, or raises `RewardFailed`.

    NaN and infinities pass: strategies handle them. Once the reward has returned one of these, or None, its
    `scores_all` is false.
    """

    def __init__(self, name: str, reward: Reward, timeout: float) -> None:
        self._name = name
        self._reward = reward
        self._timeout = timeout
        self.scores_all = scores_all(reward)

    async def score(self, prompt: Prompt, completions: Sequence[Candidate]) -> list[float | None]:
        try:
            async with asyncio.timeout(self._timeout):
                rewards = as_rewards(await self._reward.score(prompt, completions))
            if len(rewards) != len(completions):
                raise PublicRewardFailure(f"gave {len(rewards)} rewards for {len(completions)} completions")
        except TimeoutError as error:
            raise RewardTimeout(f"The reward '{self._name}' took more than {self._timeout:g} s.") from error
        except RewardFailed as error:
            raise named(self._name, error) from error
        except DecantError:  # an engine that died has an error of its own
            raise
        except Exception as error:
            log.warning("the reward '%s' raised", self._name, exc_info=error)  # the traceback says where
            failure = RewardFailed(f"{type(error).__name__}: {error}", public=f"it raised {type(error).__name__}")
            raise named(self._name, failure) from error
        if self.scores_all and not all(r is not None and math.isfinite(r) for r in rewards):
            self.scores_all = False
            log.warning(
                "the reward '%s' returned no finite number for a completion: no bound on KL is reported with it now",
                self._name,
            )
        return rewards


def named(name: str, error: RewardFailed) -> RewardFailed:
    """Return the failure with the reward's name, for the log and for clients."""
    failed = f"The reward '{name}' failed"
    public = f"{failed}. The server's log says why." if error.public is None else f"{failed}: {error.public}"
    return type(error)(f"{failed}: {error}", public=public)
