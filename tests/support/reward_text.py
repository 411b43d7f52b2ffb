"""Prompts and completions as a reward model with a small tokenizer reads them."""

import asyncio
from typing import Any

from decoders.core import Candidate, Prompt, Tokens
from server.engines.rewards.reward_text import RewardText, RewardTokens
from server.engines.text import Chat
from server.engines.text.model_text import ModelText
from server.settings import Template

CHAT = ({"role": "system", "content": "Be kind."}, {"role": "user", "content": "How much wood?"})
COMPLETION = " A good dog."


def text(fast: Any) -> ModelText:
    return ModelText(fast, 1024, len(fast))


def chat(policy: Any) -> Prompt:
    return asyncio.run(text(policy).chat(Chat(tuple(CHAT))))


def completed(policy: Any, prompt: str = "How much wood?") -> Prompt:
    return asyncio.run(text(policy).encode(prompt))


def drawn(policy: Any, *, ended: bool = True) -> Candidate:
    return asyncio.run(text(policy).completion(COMPLETION, ended=ended))


def read(
    reward: Any, policy: Any, prompt: Prompt, candidate: Candidate, template: Template | None = None
) -> tuple[RewardTokens, bool]:
    """What is read, and whether it is the policy's ids."""

    async def both() -> tuple[RewardTokens, bool]:
        reading = RewardText("judge", template, text(reward), text(policy))
        if await reading.uses_policy_ids(prompt):
            return await reading.policy_ids(prompt, candidate), True
        return await reading.encode(prompt, candidate.text, located=True), False

    return asyncio.run(both())


def encoded(fast: Any, of: str, *, special: bool = True) -> Tokens:
    return tuple(fast.encode(of, add_special_tokens=special))
