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
from server.engines.remote import Elsewhere
from server.engines.rewards.build import build_reward, share_engine
from server.engines.rewards.raw_reward import ModelHere, RawReward
from server.engines.rewards.reward_input import reads
from server.engines.rewards.reward_timeout import RewardWithTimeout
from server.engines.text import Text
from server.engines.toy_text import ToyText
from server.settings import (
    ENGINES,
    AnyGuide,
    ClassifierReward,
    EngineArgs,
    PolicySettings,
    ProcessReward,
    Settings,
    SettingsError,
)

if TYPE_CHECKING:
    from server.engines.guided.plan import Plan
    from server.engines.vllm_seam import Engine, Renderer, Start

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
    raw: dict[str, RawReward] = field(default_factory=dict)
    """Rewards whose models run here, as pooling models, by name."""
    hosted: bool = False
    """Whether another server runs the policy's engine, and ends it."""
    on_cpu: bool = False  # where each sequence of a batch slows all others

    def up(self) -> dict[str, bool]:
        """Return whether each engine is alive."""
        return {name: not engine.errored for name, engine in self.engines.items()}

    async def reachable(self) -> dict[str, bool]:
        """Return whether each engine answers now: one on another server may be away, and come back."""
        return {
            name: await engine.reachable() if isinstance(engine, Elsewhere) else not engine.errored
            for name, engine in self.engines.items()
        }

    async def aclose(self) -> None:
        """Close everything, the engines last. What fails on the way is raised when the rest is closed."""
        await _close(self.closers, _own(self.engines, hosted=self.hosted))


@dataclass(frozen=True)
class Host:
    """Another server's engine for the policy, and how that server renders chats and reads answers."""

    engine: "Engine"
    online: "Renderer"


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
    problems: list[str] = []
    starts: dict[str, Start] = {}
    plan: Plan | None = None
    try:
        starts, plan = _policy_engines(settings)
    except SettingsError as error:
        problems += error.problems
    rewards, reward_engines = _reward_engines(settings, problems)
    if problems:
        raise SettingsError(*problems)
    return Prepared({**starts, **rewards}, plan, reward_engines)


def build(settings: Settings, report: Report = lambda _: None) -> Loaded:
    """Start the engines and load the rewards; this blocks for as long. Raises `SettingsError`."""
    _announce(settings, settings.policy.model, report)
    return _load(settings, prepare(settings), report)


def attach(host: Host, settings: Settings, report: Report = lambda _: None) -> Loaded:
    """Load the rewards beside a policy that another server runs; this blocks for as long. Raises `SettingsError`.

    Guides are loaded if the host's engine runs them.
    """
    from server.engines.guided.plan import hosted_plan

    plan = hosted_plan(settings.guides, settings.policy, host.engine.vllm_config)
    if plan is None and settings.guides:
        log.warning(
            "the guides of the settings are not loaded: this engine was started without the flags that "
            "`decant vllm-args` prints, with those of other settings, or without VLLM_USE_V2_MODEL_RUNNER=0"
        )
        settings = settings.model_copy(update={"guides": {}})
    _announce(settings, f"the engine of this server, {host.engine.model_config.model}", report)
    problems: list[str] = []
    starts, reward_engines = _reward_engines(settings, problems)
    if problems:
        raise SettingsError(*problems)
    return _load(settings, Prepared(starts, plan, reward_engines), report, host)


def _announce(settings: Settings, policy: str, report: Report) -> None:
    report(
        f"policy from {policy}"
        + "".join(f", guide '{name}' ({spec.kind})" for name, spec in settings.guides.items())
        + "".join(f", reward '{name}' ({spec.kind})" for name, spec in settings.rewards.items())
    )


def _load(settings: Settings, made: Prepared, report: Report, host: Host | None = None) -> Loaded:
    """Start the engines that are prepared, and load the rewards beside them and the host's."""
    from server.engines import vllm_seam as seam
    from server.engines.chat_rendering import online_renderer
    from server.engines.policy import VllmPolicy

    kinds: dict[str, str] = {name: spec.kind for name, spec in settings.rewards.items()}
    guides: dict[str, str] = {name: spec.kind for name, spec in settings.guides.items()}
    engines: dict[str, Engine] = {} if host is None else {POLICY: host.engine}
    store = open_store(settings)
    closers: list[Callable[[], Awaitable[None]]] = [] if store is None else [store.aclose]
    try:
        seam.start_all(made.starts, engines)
        closers += [engine.aclose for engine in engines.values() if isinstance(engine, Elsewhere)]
        online = online_renderer(engines[POLICY], settings.policy) if host is None else host.online
        text = seam.policy_text(online, *(engines[name] for name in ENGINES if name in engines))
        policy = VllmPolicy(engines[POLICY], settings.policy.served_name, text, guides, made.plan, engines.get(GUIDED))
        rewards: dict[str, Reward] = {}
        raw: dict[str, RawReward] = {}
        for name, spec in settings.rewards.items():
            reward, what = build_reward(spec, policy, text, engines.get(made.reward_engines.get(name, "")), closers)
            report(f"reward '{name}': {what}")
            rewards[name] = RewardWithTimeout(name, reads(reward, spec), spec.timeout_s)
            if isinstance(reward, ModelHere):
                raw[name] = reward.raw
    except BaseException:
        with ThreadPoolExecutor(1) as thread:  # a thread has no running event loop
            closing = _close(closers, _own(engines, hosted=host is not None))
            failure = thread.submit(asyncio.run, closing).exception()
        if failure is not None:
            log.error("engines or rewards that had started could not be closed", exc_info=failure)
        raise
    on_cpu = settings.policy.url is None and seam.on_cpu()
    return Loaded(Models(policy, rewards, store), text, kinds, engines, closers, raw, host is not None, on_cpu)


def _reward_engines(settings: Settings, problems: list[str]) -> "tuple[dict[str, Start], dict[str, str]]":
    """Return what starts the rewards' engines, and each reward's engine; mistakes are appended to `problems`."""
    from server.engines.rewards import reward_model

    starts: dict[str, Start] = {}
    reward_engines: dict[str, str] = {}
    for name, spec in settings.rewards.items():
        if isinstance(spec, ClassifierReward | ProcessReward):
            same = (other for other in reward_engines if share_engine(spec, settings.rewards[other]))
            reward_engines[name] = next(same, name)
            if reward_engines[name] == name:
                try:
                    starts[name] = reward_model.prepare(spec.model, spec.engine)
                except SettingsError as error:
                    problems += (f"rewards.{name}: {problem}" for problem in error.problems)
    return starts, reward_engines


def _policy_engines(settings: Settings) -> "tuple[dict[str, Start], Plan | None]":
    """Return what starts the policy's engine, with the guides in it or in a second one."""
    from server.engines import vllm_seam as seam
    from server.engines.chat_rendering import check_parsers
    from server.engines.remote import handshake

    check_parsers(settings.policy)
    model = settings.policy.model
    if settings.policy.url is not None:
        return {POLICY: handshake.prepare(settings.policy)}, None
    batch = seam.batch_arguments(settings.server.max_sequences)
    if settings.guided_engine is None:
        arguments, made = policy_arguments(settings.policy, settings.guides)
        return {POLICY: seam.prepare(model, arguments, stats=True, **batch)}, made
    plain, _ = policy_arguments(settings.policy, {})
    second = settings.policy.model_copy(update={"engine": {**settings.policy.engine, **settings.guided_engine}})
    arguments, made = policy_arguments(second, settings.guides)
    second_start = seam.prepare(model, arguments, stats=False, **batch)
    return {POLICY: seam.prepare(model, plain, stats=True, **batch), GUIDED: second_start}, made


def policy_arguments(policy: PolicySettings, guides: Mapping[str, AnyGuide]) -> "tuple[EngineArgs, Plan | None]":
    """Return the arguments of an engine for the policy with these guides in it. Raises `SettingsError`."""
    if policy.reasoning_parser is not None:  # the engine lets a grammar begin after the reasoning
        policy = policy.model_copy(update={"engine": {"reasoning_parser": policy.reasoning_parser, **policy.engine}})
    if not guides:
        return policy.engine, None
    from server.engines.guided.plan import plan

    # vLLM's V1 runner gives a batch's weights to the model before the forward pass; V2 gives them only afterwards.
    os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")
    made, arguments = plan(guides, policy)
    return arguments, made


def _own(engines: "Mapping[str, Engine]", *, hosted: bool) -> "dict[str, Engine]":
    """Return the engines that are ours to end."""
    return {name: engine for name, engine in engines.items() if not (hosted and name == POLICY)}


async def _close(closers: Sequence[Callable[[], Awaitable[None]]], engines: "Mapping[str, Engine]") -> None:
    """Call every closer, then shut down every engine, whichever of them fails."""
    async with AsyncExitStack() as stack:
        for engine in engines.values():
            stack.callback(engine.shutdown, timeout=1)
        for close in closers:
            stack.push_async_callback(close)
