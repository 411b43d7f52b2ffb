"""From settings to everything loaded: the policy, its text, the rewards."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from decoders.core import Candidate, Models, Reward, Sampling
from decoders.errors import RewardFailed
from decoders.rng import SeededRng
from server.engines.batcher import Batcher
from server.engines.function import scorer
from server.engines.guard import Guarded
from server.engines.remote import RemoteReward
from server.engines.text import ModelText, Text
from server.engines.toy import ToyBrevity, ToyPolicy, ToyReward, ToyText
from server.settings import AnyReward, ClassifierReward, FunctionReward, HttpReward, ProcessReward, Settings

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

Report = Callable[[str], None]
POLICY = "policy"  # its engine's name; no reward may have it
log = logging.getLogger("decant")


@dataclass
class Loaded:
    """The models a server serves, and what keeps them alive."""

    models: Models
    text: Text
    kinds: dict[str, str] = field(default_factory=dict)  # of each reward
    engines: "dict[str, AsyncLLM]" = field(default_factory=dict)
    closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def up(self) -> dict[str, bool]:
        """Whether each engine lives."""
        return {name: not engine.errored for name, engine in self.engines.items()}

    async def aclose(self) -> None:
        for close in self.closers:
            await close()
        _shutdown(self.engines)


def toy() -> Loaded:
    """The exact toy with two rewards: no engine, no weights."""
    rewards: dict[str, Reward] = {"default": ToyReward(), "brevity": ToyBrevity()}
    return Loaded(Models(ToyPolicy(), rewards), ToyText(), dict.fromkeys(rewards, "toy"))


def build(settings: Settings, report: Report = lambda _: None) -> Loaded:
    """Start the engines and load the rewards; blocks meanwhile. Raises `SettingsError`."""
    from server.engines import vllm as seam  # seconds of imports, which the toy does without
    from server.engines.policy import VllmPolicy

    kinds: dict[str, str] = {name: spec.kind for name, spec in settings.rewards.items()}
    report(f"policy from {settings.policy.model}" + "".join(f", reward '{n}' ({k})" for n, k in kinds.items()))
    starts = {POLICY: seam.prepare(settings.policy.model, settings.policy.engine, stats=True)}
    runs: dict[str, str] = {}  # of each reward model, the engine that runs it: two rewards may read one model
    for name, spec in settings.rewards.items():
        if isinstance(spec, ClassifierReward | ProcessReward):
            runs[name] = next((other for other in runs if _same_engine(spec, settings.rewards[other])), name)
            if runs[name] == name:
                starts[name] = seam.prepare(spec.model, spec.engine, stats=False, runner="pooling")
    engines: dict[str, AsyncLLM] = {}
    closers: list[Callable[[], Awaitable[None]]] = []
    try:
        seam.start_all(starts, engines)
        text = seam.model_text(engines[POLICY])
        rewards: dict[str, Reward] = {
            name: Guarded(name, _reward(spec, text, engines.get(runs.get(name, "")), closers), spec.timeout_s)
            for name, spec in settings.rewards.items()
        }
    except BaseException:
        _shutdown(engines)
        raise
    policy = VllmPolicy(engines[POLICY], settings.policy.served_name)
    return Loaded(Models(policy, rewards), text, kinds, engines, closers)


async def warm(loaded: Loaded) -> None:
    """Walk each path once, so that no client waits for what is compiled at its first use.

    A reward that fails here is only reported: one on another server may come up later.
    """
    prompt = await loaded.text.encode("Hello")
    drawn: list[Candidate] = []
    for sampling in _WARM if loaded.engines else ():
        async for _, candidate in loaded.models.policy.sample(
            prompt, 2 if sampling.temperature else 1, sampling, SeededRng(0)
        ):
            drawn.append(candidate)
    for name, reward in loaded.models.rewards.items():
        try:
            await reward.score(prompt, drawn)
        except RewardFailed as error:
            log.warning("the reward '%s' does not answer yet: %s", name, error)


_WARM = (
    Sampling(max_tokens=2),
    Sampling(max_tokens=2, temperature=0.0),
    Sampling(max_tokens=2, logprobs=1, prompt_logprobs=1, top_k=5, top_p=0.9, presence_penalty=0.1, min_p=0.01),
)


def _same_engine(one: AnyReward, other: AnyReward) -> bool:
    models = ClassifierReward | ProcessReward
    return (
        isinstance(one, models) and isinstance(other, models) and (one.model, one.engine) == (other.model, other.engine)
    )


def _reward(
    spec: AnyReward, policy: ModelText, engine: "AsyncLLM | None", closers: list[Callable[[], Awaitable[None]]]
) -> Reward:
    if isinstance(spec, FunctionReward):
        return Batcher(scorer(spec.load()), spec.max_batch, spec.timeout_s)
    if isinstance(spec, HttpReward):
        remote = RemoteReward(spec)
        closers.append(remote.aclose)
        return Batcher(remote.score, spec.max_batch, spec.timeout_s)
    from server.engines import vllm as seam
    from server.engines.reward import VllmReward

    assert engine is not None
    return VllmReward(engine, spec, seam.model_text(engine), policy)


def _shutdown(engines: "dict[str, AsyncLLM]") -> None:
    for engine in engines.values():
        engine.shutdown(timeout=1)
