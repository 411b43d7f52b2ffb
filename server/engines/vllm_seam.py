"""The seam to vLLM: starting an engine, and telling its errors apart.

Tried with vLLM 0.32 on CPU. What is used: AsyncEngineArgs, AsyncLLM (from_vllm_config, generate, encode, errored,
model_config, vllm_config, get_tokenizer, shutdown), SamplingParams, PoolingParams, tokens_input.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeAlias

from vllm.config import PoolerConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMClientError
from vllm.platforms import current_platform
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from decoders.errors import EngineDead, EngineFailed, InvalidRequest
from server.engines.entropy import load as entropy
from server.engines.text.model_text import ModelText
from server.settings import EngineArgs, SettingsError

# vLLM's names of parameters, where a request names them otherwise.
_FIELDS = {"structured_outputs": "response_format"}

Engine: TypeAlias = AsyncLLM
Start = Callable[[], Engine]


def prepare(model: str, arguments: EngineArgs, *, stats: bool, **defaults: Any) -> Start:
    """What starts an engine, in a process of its own, and blocks until it has loaded. Raises `SettingsError`.

    `stats` puts vLLM's own metrics into the process's Prometheus registry; of two engines only one can, since
    vLLM takes the former's away.
    """
    values: dict[str, Any] = {**defaults, **arguments}
    if isinstance(values.get("pooler_config"), dict):
        values["pooler_config"] = PoolerConfig(**values["pooler_config"])
    if current_platform.is_cpu():
        # A prefix is cached in whole blocks: vLLM's 128 tokens would leave most of a blockwise search out of the cache.
        values.setdefault("block_size", 32)
    if current_platform.is_cpu() and values.get("runner") != "pooling":
        # A seeded request whose prompt is prefilled in chunks kills a CPU engine: the runner rewinds the random
        # generator of a row it discards, which CPU generators cannot do. Whole prefills never discard a row.
        if values.get("enable_chunked_prefill"):
            raise SettingsError(
                "policy.engine.enable_chunked_prefill cannot be true on CPU: a seeded request would kill the engine"
            )
        values["enable_chunked_prefill"] = False
    with _blamed_on(model):
        config = AsyncEngineArgs(model=model, **values).create_engine_config(UsageContext.ENGINE_CONTEXT)
    if values.get("runner") != "pooling":
        entropy.load(config)

    def start() -> Engine:
        with _blamed_on(model):
            return AsyncLLM.from_vllm_config(config, disable_log_stats=not stats)

    return start


def start_all(starts: Mapping[str, Start], engines: dict[str, Engine]) -> None:
    """Start engines and put them into `engines` as they come up.

    At once on a CPU, where a start is mostly imports. One by one on a GPU: each measures the memory that is free, and
    would take another's loading for its own.
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
def _blamed_on(model: str) -> Iterator[None]:
    """What vLLM raises on the way up is about the settings."""
    try:
        yield
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        said = " ".join(str(error).split())  # pydantic's say it in several lines
        raise SettingsError(f"vLLM cannot start '{model}': {said}") from error


@contextmanager
def engine_errors(engine: str, field: str | None = None) -> Iterator[None]:
    """vLLM's exceptions as Decant's, at one place; a refusal that names no field is laid to `field`."""
    try:
        yield
    except EngineDeadError as error:
        raise EngineDead(f"The {engine} engine has died.") from error
    except VLLMClientError as error:
        raise _invalid(error, field) from error
    except EngineGenerateError as error:
        # vLLM wraps what is wrong with a request in this too, when it is not one of its own errors.
        if isinstance(error.__cause__, ValueError | TypeError):
            raise _invalid(error.__cause__, field) from error
        raise EngineFailed(f"The {engine} engine failed this request: {error.__cause__ or error}") from error


def _invalid(error: BaseException, field: str | None) -> InvalidRequest:
    parameter = getattr(error, "parameter", None)
    return InvalidRequest(str(error), _FIELDS.get(parameter, parameter) if parameter else field)


def end_tokens(engine: Engine) -> set[int]:
    """The tokens that end an answer by themselves."""
    config = engine.model_config.try_get_generation_config()
    named = config.get("eos_token_id")
    ends = {engine.get_tokenizer().eos_token_id, *([named] if isinstance(named, int) else named or ())}
    return ends - {None}


def model_text(engine: Engine, *others: Engine) -> ModelText:
    """The tokenizer of an engine, with the engine's bounds; with `others` of the same model, the least of theirs."""
    config = engine.model_config
    vocabulary = config.get_vocab_size()
    bounds = [one.model_config.max_logprobs for one in (engine, *others)]
    most = min(vocabulary if bound == -1 else bound for bound in bounds)
    return ModelText(engine.get_tokenizer(), config.max_model_len, vocabulary, most)
