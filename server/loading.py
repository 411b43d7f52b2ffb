"""From settings to everything loaded: the policy, its text, the rewards."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from decoders.core import Candidate, Sampling
from decoders.errors import RewardFailed
from decoders.models import Models, Reward
from decoders.rng import SeededRng
from server.calibration.store import open_store
from server.engines.batcher import Batcher
from server.engines.function import load, scorer
from server.engines.reading import READS
from server.engines.remote import RemoteReward
from server.engines.reward_timeout import Guarded
from server.engines.text import ModelText, Text
from server.engines.toy import ToyBrevity, ToyGuide, ToyPolicy, ToyReward, ToyText
from server.settings import (
    ENGINES,
    AnyReward,
    ClassifierReward,
    FunctionReward,
    GuideReward,
    HttpReward,
    ProcessReward,
    Settings,
    SettingsError,
)

if TYPE_CHECKING:
    from server.engines.guided.plan import Plan
    from server.engines.policy import VllmPolicy
    from server.engines.vllm_seam import Engine, Start

Report = Callable[[str], None]
POLICY, GUIDED = ENGINES
log = logging.getLogger("decant")


@dataclass
class Loaded:
    """The models a server serves, and what keeps them alive."""

    models: Models
    text: Text
    kinds: dict[str, str] = field(default_factory=dict)  # of each reward
    engines: "dict[str, Engine]" = field(default_factory=dict)
    closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def up(self) -> dict[str, bool]:
        """Whether each engine lives."""
        return {name: not engine.errored for name, engine in self.engines.items()}

    async def aclose(self) -> None:
        """Close all of it, the engines last. What fails on the way is raised when the rest is closed."""
        await _close(self.closers, self.engines)


def toy(settings: Settings | None = None) -> Loaded:
    """The exact toy with two rewards and two guides: no engine, no weights. Raises `SettingsError`."""
    rewards: dict[str, Reward] = {"default": ToyReward(), "brevity": ToyBrevity()}
    guides = {"kind": ToyGuide(), "brief": ToyGuide((1.0, 0.0, 0.0, 0.0, 0.0), "q_head")}
    store = None if settings is None else open_store(settings)
    models = Models(ToyPolicy(loaded=guides), rewards, store)
    return Loaded(models, ToyText(), dict.fromkeys(rewards, "toy"), closers=[] if store is None else [store.aclose])


@dataclass
class Prepared:
    """What starts each engine, as vLLM has understood its arguments; nothing is loaded yet."""

    starts: "dict[str, Start]"
    plan: "Plan | None"
    runs: dict[str, str]  # of each reward model, the engine that runs it: two rewards may read one model


def prepare(settings: Settings) -> Prepared:
    """Let vLLM read the configuration of every model. Raises `SettingsError` with a line for each that it refuses."""
    from server.engines import vllm_seam as seam  # seconds of imports, which the toy does without

    problems: list[str] = []
    starts: dict[str, Start] = {}
    plan: Plan | None = None
    runs: dict[str, str] = {}
    try:
        starts, plan = _policy_engines(settings)
    except SettingsError as error:
        problems += error.problems
    for name, spec in settings.rewards.items():
        if isinstance(spec, ClassifierReward | ProcessReward):
            runs[name] = next((other for other in runs if _same_engine(spec, settings.rewards[other])), name)
            if runs[name] == name:
                try:
                    starts[name] = seam.prepare(spec.model, spec.engine, stats=False, runner="pooling")
                except SettingsError as error:
                    problems += (f"rewards.{name}: {problem}" for problem in error.problems)
    if problems:
        raise SettingsError(*problems)
    return Prepared(starts, plan, runs)


def build(settings: Settings, report: Report = lambda _: None) -> Loaded:
    """Start the engines and load the rewards; blocks meanwhile. Raises `SettingsError`."""
    from server.engines import vllm_seam as seam
    from server.engines.policy import VllmPolicy

    kinds: dict[str, str] = {name: spec.kind for name, spec in settings.rewards.items()}
    guides: dict[str, str] = {name: spec.kind for name, spec in settings.guides.items()}
    report(
        f"policy from {settings.policy.model}"
        + "".join(f", guide '{n}' ({k})" for n, k in guides.items())
        + "".join(f", reward '{n}' ({k})" for n, k in kinds.items())
    )
    made = prepare(settings)
    plan, runs = made.plan, made.runs
    engines: dict[str, Engine] = {}
    store = open_store(settings)
    closers: list[Callable[[], Awaitable[None]]] = [] if store is None else [store.aclose]
    try:
        seam.start_all(made.starts, engines)
        text = seam.model_text(*(engines[name] for name in ENGINES if name in engines))
        policy = VllmPolicy(engines[POLICY], settings.policy.served_name, text, guides, plan, engines.get(GUIDED))
        rewards: dict[str, Reward] = {}
        for name, spec in settings.rewards.items():
            reward, reads = _reward(spec, policy, text, engines.get(runs.get(name, "")), closers)
            report(f"reward '{name}': {reads}")
            rewards[name] = Guarded(name, reward, spec.timeout_s)
    except BaseException:
        with ThreadPoolExecutor(1) as thread:  # where no event loop runs
            failure = thread.submit(asyncio.run, _close(closers, engines)).exception()
        if failure is not None:
            log.error("what had been started did not close", exc_info=failure)
        raise
    return Loaded(Models(policy, rewards, store), text, kinds, engines, closers)


def _policy_engines(settings: Settings) -> "tuple[dict[str, Start], Plan | None]":
    """What starts the policy's engine, with the guides in it or in a second one."""
    from server.engines import vllm_seam as seam

    model, plain = settings.policy.model, settings.policy.engine
    if not settings.guides:
        return {POLICY: seam.prepare(model, plain, stats=True)}, None
    from server.engines.guided.plan import plan

    # The model learns what a batch asks for from vLLM's V1 runner, before the forward pass; V2 has no such moment.
    os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")
    if settings.guided_engine is None:
        made, arguments = plan(settings.guides, settings.policy)
        return {POLICY: seam.prepare(model, arguments, stats=True)}, made
    second = settings.policy.model_copy(update={"engine": {**plain, **settings.guided_engine}})
    made, arguments = plan(settings.guides, second)
    starts = {POLICY: seam.prepare(model, plain, stats=True), GUIDED: seam.prepare(model, arguments, stats=False)}
    return starts, made


async def warm(loaded: Loaded) -> None:
    """Walk each path once, so that no client waits for what is compiled at its first use.

    A reward that fails here is only reported: one on another server may come up later.
    """
    prompt = await loaded.text.encode("Hello")
    drawn: list[Candidate] = []
    guided = Sampling(max_tokens=2, guides=dict.fromkeys(loaded.models.policy.guides, 0.5))
    most = min(1, loaded.text.max_logprobs)
    told = replace(_TOLD, logprobs=most, prompt_logprobs=most)
    for sampling in (*_WARM, told, *([guided] if guided.guides else ())) if loaded.engines else ():
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
)
_TOLD = Sampling(max_tokens=2, top_k=5, top_p=0.9, presence_penalty=0.1, min_p=0.01)


def _same_engine(one: AnyReward, other: AnyReward) -> bool:
    models = ClassifierReward | ProcessReward
    return (
        isinstance(one, models) and isinstance(other, models) and (one.model, one.engine) == (other.model, other.engine)
    )


def _reward(
    spec: AnyReward,
    policy: "VllmPolicy",
    text: ModelText,
    engine: "Engine | None",
    closers: list[Callable[[], Awaitable[None]]],
) -> tuple[Reward, str]:
    """A reward as the settings describe it, and how it reads."""
    if isinstance(spec, FunctionReward):
        function = scorer(load(spec.function))
        return Batcher(function, spec.max_batch, spec.timeout_s, scores_all=spec.scores_all), READS["policy"]
    if isinstance(spec, HttpReward):
        remote = RemoteReward(spec, policy=text)
        closers.append(remote.aclose)
        return Batcher(remote.score, spec.max_batch, spec.timeout_s, scores_all=True), READS[spec.template]
    from server.engines import reward
    from server.engines import vllm_seam as seam

    if isinstance(spec, GuideReward):
        return reward.GuideReward(policy, spec.guide), f"{READS['policy']}; the policy's own token ids"
    assert engine is not None
    made = reward.VllmReward(engine, spec, seam.model_text(engine), text)
    return made, str(made.reading)


async def _close(closers: Sequence[Callable[[], Awaitable[None]]], engines: "Mapping[str, Engine]") -> None:
    """Call every closer, then shut down every engine, whichever of them fails."""
    async with AsyncExitStack() as stack:
        for engine in engines.values():
            stack.callback(engine.shutdown, timeout=1)
        for close in closers:
            stack.push_async_callback(close)
