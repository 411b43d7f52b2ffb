"""From settings to loaded models: the policy, its tokenizer, the rewards, the calibration store."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from decoders.models import Models, Reward
from decoders.testing import ToyBrevity, ToyGuide, ToyPolicy, ToyReward
from server.calibration.store import open_store
from server.engines.rewards.build import build_reward, share_engine
from server.engines.rewards.reward_timeout import RewardWithTimeout
from server.engines.text import Text
from server.engines.toy_text import ToyText
from server.settings import (
    ENGINES,
    ClassifierReward,
    ProcessReward,
    Settings,
    SettingsError,
)

if TYPE_CHECKING:
    from server.engines.guided.plan import Plan
    from server.engines.vllm_seam import Engine, Start

Report = Callable[[str], None]
POLICY, GUIDED = ENGINES
log = logging.getLogger("decant")


@dataclass
class Loaded:
    """The models that a server serves, the engines that run them, and what closes them."""

    models: Models
    text: Text
    kinds: dict[str, str] = field(default_factory=dict)  # of rewards, by name
    engines: "dict[str, Engine]" = field(default_factory=dict)
    closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def up(self) -> dict[str, bool]:
        """Return whether each engine is alive."""
        return {name: not engine.errored for name, engine in self.engines.items()}

    async def aclose(self) -> None:
        """Close everything, the engines last. What fails on the way is raised when the rest is closed."""
        await _close(self.closers, self.engines)


def toy(settings: Settings | None = None) -> Loaded:
    """Return the exact toy with two rewards and two guides: no engine, no weights. Raises `SettingsError`."""
    rewards: dict[str, Reward] = {"default": ToyReward(), "brevity": ToyBrevity()}
    guides = {"kind": ToyGuide(), "brief": ToyGuide((1.0, 0.0, 0.0, 0.0, 0.0), "q_head")}
    store = None if settings is None else open_store(settings)
    models = Models(ToyPolicy(loaded=guides), rewards, store)
    return Loaded(models, ToyText(), dict.fromkeys(rewards, "toy"), closers=[] if store is None else [store.aclose])


@dataclass
class Prepared:
    """What starts each engine, its arguments checked by vLLM; nothing is loaded yet."""

    starts: "dict[str, Start]"
    plan: "Plan | None"
    reward_engines: dict[str, str]  # by the reward's name: two rewards may read one model


def prepare(settings: Settings) -> Prepared:
    """Let vLLM check the configuration of every model. Raises `SettingsError` with a line for each that it refuses."""
    from server.engines import vllm_seam as seam  # seconds of imports, which the toy does without

    problems: list[str] = []
    starts: dict[str, Start] = {}
    plan: Plan | None = None
    reward_engines: dict[str, str] = {}
    try:
        starts, plan = _policy_engines(settings)
    except SettingsError as error:
        problems += error.problems
    for name, spec in settings.rewards.items():
        if isinstance(spec, ClassifierReward | ProcessReward):
            same = (other for other in reward_engines if share_engine(spec, settings.rewards[other]))
            reward_engines[name] = next(same, name)
            if reward_engines[name] == name:
                try:
                    starts[name] = seam.prepare(spec.model, spec.engine, stats=False, runner="pooling")
                except SettingsError as error:
                    problems += (f"rewards.{name}: {problem}" for problem in error.problems)
    if problems:
        raise SettingsError(*problems)
    return Prepared(starts, plan, reward_engines)


def build(settings: Settings, report: Report = lambda _: None) -> Loaded:
    """Start the engines and load the rewards; this blocks for as long. Raises `SettingsError`."""
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
    plan = made.plan
    engines: dict[str, Engine] = {}
    store = open_store(settings)
    closers: list[Callable[[], Awaitable[None]]] = [] if store is None else [store.aclose]
    try:
        seam.start_all(made.starts, engines)
        text = seam.model_text(*(engines[name] for name in ENGINES if name in engines))
        policy = VllmPolicy(engines[POLICY], settings.policy.served_name, text, guides, plan, engines.get(GUIDED))
        rewards: dict[str, Reward] = {}
        for name, spec in settings.rewards.items():
            reward, reads = build_reward(spec, policy, text, engines.get(made.reward_engines.get(name, "")), closers)
            report(f"reward '{name}': {reads}")
            rewards[name] = RewardWithTimeout(name, reward, spec.timeout_s)
    except BaseException:
        with ThreadPoolExecutor(1) as thread:  # a thread has no running event loop
            failure = thread.submit(asyncio.run, _close(closers, engines)).exception()
        if failure is not None:
            log.error("engines or rewards that had started could not be closed", exc_info=failure)
        raise
    return Loaded(Models(policy, rewards, store), text, kinds, engines, closers)


def _policy_engines(settings: Settings) -> "tuple[dict[str, Start], Plan | None]":
    """Return what starts the policy's engine, with the guides in it or in a second one."""
    from server.engines import vllm_seam as seam

    model, plain = settings.policy.model, settings.policy.engine
    if not settings.guides:
        return {POLICY: seam.prepare(model, plain, stats=True)}, None
    from server.engines.guided.plan import plan

    # vLLM's V1 runner gives a batch's weights to the model before the forward pass; V2 gives them only afterwards.
    os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")
    if settings.guided_engine is None:
        made, arguments = plan(settings.guides, settings.policy)
        return {POLICY: seam.prepare(model, arguments, stats=True)}, made
    second = settings.policy.model_copy(update={"engine": {**plain, **settings.guided_engine}})
    made, arguments = plan(settings.guides, second)
    starts = {POLICY: seam.prepare(model, plain, stats=True), GUIDED: seam.prepare(model, arguments, stats=False)}
    return starts, made


async def _close(closers: Sequence[Callable[[], Awaitable[None]]], engines: "Mapping[str, Engine]") -> None:
    """Call every closer, then shut down every engine, whichever of them fails."""
    async with AsyncExitStack() as stack:
        for engine in engines.values():
            stack.callback(engine.shutdown, timeout=1)
        for close in closers:
            stack.push_async_callback(close)
