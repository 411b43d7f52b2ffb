"""The seam to vLLM: starting an engine, and telling its errors apart.

Tried with vLLM 0.32 on CPU. What is used: AsyncEngineArgs, AsyncLLM (from_vllm_config, generate, encode, errored,
model_config, vllm_config, get_tokenizer, shutdown), SamplingParams, PoolingParams, tokens_input.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TypeAlias

from vllm.config import PoolerConfig, VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMClientError
from vllm.platforms import current_platform
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from decoders.core import Sampling
from decoders.errors import EngineDead, EngineFailed, InvalidRequest
from server.engines.entropy import load as entropy
from server.engines.text.model_text import ModelText
from server.engines.text.policy_text import PolicyText
from server.settings import EngineArgs, SettingsError
from server.telemetry.exporting import engine_endpoint
from server.telemetry.spans import tracing

# `Sampling`'s names of vLLM's sampling parameters.
_SAMPLING = {"structured_outputs": "grammar", **{f.name: f.name for f in fields(Sampling)}}

Engine: TypeAlias = AsyncLLM
Renderer: TypeAlias = OnlineRenderer
Start = Callable[[], Engine]


def prepare(
    model: str,
    arguments: EngineArgs,
    *,
    stats: bool,
    check: Callable[[VllmConfig], None] | None = None,
    **defaults: Any,
) -> Start:
    """Return what starts an engine in a process of its own, and blocks until the engine has loaded.

    Args:
        arguments: vLLM's engine arguments, which override `defaults`' and some of Decant's own.
        stats: Put vLLM's own metrics into the process's Prometheus registry. Only one of several engines may, since
            vLLM removes those of an earlier one.
        check: Is called with the configuration, and may raise `SettingsError`.

    Raises `SettingsError` if vLLM refuses the configuration.
    """
    if stats and tracing():  # vLLM makes the spans of a request out of its statistics
        defaults["otlp_traces_endpoint"] = engine_endpoint(os.environ)
    _, config = configure(model, {**defaults, **arguments})
    if not stats and config.observability_config.otlp_traces_endpoint is not None:
        raise SettingsError(
            f"{model}: otlp_traces_endpoint: only the policy's first engine can be traced; leave it out"
        )
    if check is not None:
        check(config)

    def start() -> Engine:
        with _start_errors(model):
            return AsyncLLM.from_vllm_config(config, disable_log_stats=not stats)

    return start


def configure(model: str, arguments: EngineArgs) -> tuple[EngineArgs, VllmConfig]:
    """Return the engine arguments with Decant's own, and the configuration that vLLM makes of them.

    Raises `SettingsError` if vLLM refuses them.
    """
    values = dict(arguments)
    if isinstance(values.get("pooler_config"), dict):
        values["pooler_config"] = PoolerConfig(**values["pooler_config"])
    if current_platform.is_cpu():
        # Prefixes are cached in whole blocks: with vLLM's 128 tokens, most of a blockwise search would not be cached.
        values.setdefault("block_size", 32)
    if current_platform.is_cpu() and values.get("runner") != "pooling":
        # A seeded request whose prompt is prefilled in chunks kills a CPU engine: the runner rewinds the random
        # generator of a row that it discards, which CPU generators cannot do. Whole prefills discard no row.
        if values.get("enable_chunked_prefill"):
            raise SettingsError(
                "policy.engine.enable_chunked_prefill cannot be true on CPU: a seeded request would kill the engine"
            )
        values["enable_chunked_prefill"] = False
    with _start_errors(model):
        config = AsyncEngineArgs(model=model, **values).create_engine_config(UsageContext.ENGINE_CONTEXT)
    if values.get("runner") != "pooling":
        entropy.load(config)
    return values, config


def batch_arguments(places: int) -> EngineArgs:
    """Return engine arguments with which all sequences run at once that admission lets in.

    Otherwise they wait in the engine's queue, which knows neither lanes nor clients.
    """
    return {"max_num_seqs": min(places, 1024)}


def on_cpu() -> bool:
    """Return whether engines run on this machine's CPU."""
    return bool(current_platform.is_cpu())


def start_all(starts: Mapping[str, Start], engines: dict[str, Engine]) -> None:
    """Start engines, and put each into `engines` when it is up.

    All at once on a CPU, where a start is mostly imports. One after the other on a GPU: each measures the free memory,
    and would count what another one allocates meanwhile.
    """
    if not current_platform.is_cpu():
        for name, start in starts.items():
            engines[name] = start()
        return
    with ThreadPoolExecutor(max(len(starts), 1)) as threads:
        started = {name: threads.submit(start) for name, start in starts.items()}
    engines.update({name: future.result() for name, future in started.items() if future.exception() is None})
    for future in started.values():
        future.result()


@contextmanager
def _start_errors(model: str) -> Iterator[None]:
    """Turn what vLLM raises while an engine starts into a `SettingsError` that names the model."""
    try:
        yield
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        message = " ".join(str(error).split())  # pydantic's messages have several lines
        raise SettingsError(f"vLLM cannot start '{model}': {message}") from error


@contextmanager
def engine_errors(engine: str, field: str | None = None) -> Iterator[None]:
    """Turn vLLM's exceptions into Decant's; a refusal that names no parameter is reported for `field`."""
    try:
        yield
    except EngineDeadError as error:
        raise EngineDead(f"The {engine} engine has died.") from error
    except VLLMClientError as error:
        raise _invalid(error, field) from error
    except EngineGenerateError as error:
        # vLLM wraps a mistake in a request in this too, unless it is one of its own errors.
        if isinstance(error.__cause__, ValueError | TypeError):
            raise _invalid(error.__cause__, field) from error
        raise EngineFailed(f"The {engine} engine failed this request. The server's log says why.") from error


def _invalid(error: BaseException, field: str | None) -> InvalidRequest:
    parameter = getattr(error, "parameter", None)
    if parameter in _SAMPLING:
        return InvalidRequest(str(error), f"sampling.{_SAMPLING[parameter]}")
    return InvalidRequest(str(error), parameter or field)


def end_tokens(engine: Engine) -> set[int]:
    """Return the tokens that end an answer."""
    config = engine.model_config.try_get_generation_config()
    named = config.get("eos_token_id")
    ends = {engine.get_tokenizer().eos_token_id, *([named] if isinstance(named, int) else named or ())}
    return ends - {None}


def model_text(engine: Engine, chat_template: str | None = None) -> ModelText:
    """Return an engine's tokenizer with the engine's bounds, and a chat template in place of the tokenizer's own."""
    return ModelText(engine.get_tokenizer(), *bounds_of(engine), chat_template)


def policy_text(online: Renderer, engine: Engine, *others: Engine) -> PolicyText:
    """Return the policy's tokenizer with its engine's bounds, and the smallest `max_logprobs` of it and `others`.

    Args:
        online: How vLLM renders the policy's chats, and parses its answers.
    """
    config = engine.vllm_config
    reasons = config.reasoning_config is not None and config.reasoning_config.enabled
    priorities = config.scheduler_config.policy == "priority"
    return PolicyText(online, *bounds_of(engine, *others), reasons=reasons, priorities=priorities)


def bounds_of(engine: Engine, *others: Engine) -> tuple[int, int, int]:
    """Return the context, the vocabulary and the likeliest tokens that can be reported."""
    config = engine.model_config
    vocabulary = config.get_vocab_size()
    bounds = [one.model_config.max_logprobs for one in (engine, *others)]
    return config.max_model_len, vocabulary, min(vocabulary if bound == -1 else bound for bound in bounds)
