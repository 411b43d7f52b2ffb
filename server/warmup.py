"""One request along each path of the engines before the first client's, so that no client waits for compilation."""

import logging
from dataclasses import replace

from decoders.core import Candidate, Sampling
from decoders.errors import RewardFailed
from decoders.rng import SeededRng
from server.loading import Loaded

log = logging.getLogger("decant")

PLAIN = Sampling(max_tokens=2)
TRUNCATED = Sampling(max_tokens=2, top_k=5, top_p=0.9, presence_penalty=0.1, min_p=0.01)


async def warm_up(loaded: Loaded) -> None:
    """Draw from the policy in each way that compiles something of its own, and score what was drawn.

    A reward that fails here is only reported in the log: one on another server may come up later.
    """
    prompt = await loaded.text.encode("Hello")
    drawn: list[Candidate] = []
    if loaded.engines:
        top = min(1, loaded.text.max_logprobs)
        ways = [PLAIN, replace(PLAIN, temperature=0.0), replace(TRUNCATED, logprobs=top, prompt_logprobs=top)]
        if guides := loaded.models.policy.guides:
            ways.append(replace(PLAIN, guides=dict.fromkeys(guides, 0.5)))
        for sampling in ways:
            n = 1 if sampling.is_greedy else 2
            async for _, candidate in loaded.models.policy.sample(prompt, n, sampling, SeededRng(0)):
                drawn.append(candidate)
    for name, reward in loaded.models.rewards.items():
        try:
            await reward.score(prompt, drawn)
        except RewardFailed as error:
            log.warning("the reward '%s' does not answer yet: %s", name, error)
