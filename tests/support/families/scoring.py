"""Decant's rewards of every family's twin, each on a pooling engine of its own, one engine after another.

python -m tests.support.families.scoring JOB.json RESULT.json

It is a process of its own, which forks its engines.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from server.engines.text import Chat
from tests.support.families.family import ANSWERS, CHATS, TEXTS, Json
from tests.support.forked import fork_engines


def main(job: Path, result: Path) -> None:
    from pydantic import TypeAdapter
    from transformers import AutoTokenizer

    from server.engines.text.model_text import ModelText
    from server.settings import AnyReward

    fork_engines()
    fields = json.loads(job.read_text())
    words = AutoTokenizer.from_pretrained(fields["policy"])
    policy = ModelText(words, 1024, len(words))
    specs = TypeAdapter(dict[str, AnyReward]).validate_python(fields["rewards"])
    result.write_text(json.dumps({name: _scores(spec, policy) for name, spec in specs.items()}))


def _scores(spec: Any, policy: Any) -> Json:
    """Return the scores of each chat's answers, and of texts, or what went wrong."""
    from server.engines.rewards import reward_model
    from server.engines.rewards.build import build_reward

    try:
        engine = reward_model.prepare(spec.model, spec.engine)()
    except Exception as error:
        return {"error": str(error)}
    try:
        reward, _ = build_reward(spec, policy, policy, engine, [])
        with asyncio.Runner() as runner:
            return {
                "chats": runner.run(_chats(reward, policy)),
                "text": runner.run(_text(reward, policy)),
                "raw": runner.run(_raw(reward)),
            }
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        engine.shutdown(timeout=1)


async def _chats(reward: Any, policy: Any) -> list[Sequence[float | None]]:
    """Return the scores of all chats, whose answers are in the engine at the same time."""
    candidates = [await policy.completion(answer, ended=True) for answer in ANSWERS]
    prompts = [await policy.chat(Chat(tuple(chat))) for chat in CHATS]
    return list(await asyncio.gather(*(reward.score(prompt, candidates) for prompt in prompts)))


async def _text(reward: Any, policy: Any) -> float:
    """Return the score of a text after a text, with the token that ended it."""
    prompt, completion = TEXTS
    [score] = await reward.score(await policy.encode(prompt), [await policy.completion(completion, ended=True)])
    return float(score)


async def _raw(reward: Any) -> list[float] | None:
    """Return what `/score` reads of two texts, without a head's activation, if the model has numbers for pairs."""
    if await reward.raw.task() != "classify":
        return None
    read = await reward.raw.pair(*TEXTS)
    return list(await reward.raw.whole(read, activation=False))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
