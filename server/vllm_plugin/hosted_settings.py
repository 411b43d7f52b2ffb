"""The settings of Decant inside `vllm serve`: the same file, without what vLLM decides there."""

import os
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path

from server import preflight
from server.engines.rewards.function_reward import import_beside
from server.settings import ClassifierReward, ProcessReward, Settings, SettingsError
from server.settings.reading import read

VARIABLE = "DECANT_CONFIG"
VLLMS = {  # settings of the server that is vLLM's here, and its flags for them
    "docs": ", and give --disable-fastapi-docs",
    "metrics": "",
    "operations_port": "",
    "operations_host": "",
    "cors_origins": ", and give --allowed-origins",
}
RENDERING = ("tool_call_parser", "reasoning_parser", "chat_template", "trust_request_chat_template")
"""What else the policy's section says: how chats are rendered and answers read."""


def hosted_settings(args: Namespace, problems: Iterable[str]) -> Settings:
    """Return the settings of the file that DECANT_CONFIG names, over what `vllm serve` was started with.

    Args:
        args: vLLM's arguments.
        problems: What else is wrong with the server.

    Raises `SettingsError` with every problem that was found.
    """
    path = os.environ.get(VARIABLE)
    config = Path(path) if path else None
    served = args.served_model_name[0] if args.served_model_name else args.model
    import_beside(config)
    found = read(config, {"policy": {"model": args.model, "name": served}})
    lines = [*problems, *found.problems, *preflight.problems(found.sections, serving=False)]
    if found.settings is not None:
        lines += [*_conflicts(found.settings, args, served), *_several_servers(found.settings, args)]
    if lines or found.settings is None:
        raise SettingsError(*lines)
    policy = found.settings.policy.model_copy(update={"name": served})
    return found.settings.model_copy(update={"policy": policy})


def _several_servers(settings: Settings, args: Namespace) -> Iterator[str]:
    """Yield a line for each reward whose engine every API server would start again."""
    if (args.api_server_count or 1) > 1:
        for name, reward in settings.rewards.items():
            if isinstance(reward, ClassifierReward | ProcessReward):
                yield (
                    f"rewards.{name}: with --api-server-count {args.api_server_count} each API server would start its "
                    "engine: serve its model apart, and name it here as a reward of kind http"
                )


def _conflicts(settings: Settings, args: Namespace, served: str) -> Iterator[str]:
    """Yield a line for each setting that vLLM decides here, and decides otherwise."""
    if settings.policy.model != args.model:
        yield f"policy.model is {settings.policy.model}, and `vllm serve` runs {args.model}"
    if settings.policy.name not in (None, served):
        yield f"policy.name is {settings.policy.name}, and `vllm serve` calls the model {served}: --served-model-name"
    for field in RENDERING:
        wanted, used = getattr(settings.policy, field), getattr(args, field, None)
        if field in settings.policy.model_fields_set and wanted != used:
            flag = "--" + field.replace("_", "-")
            yield f"policy.{field} is {wanted}, and `vllm serve` has {used}: {flag}, as `decant vllm-args` prints it"
    if settings.policy.url is not None:
        yield "policy.url: inside `vllm serve` the policy runs in its own engine; leave it out"
    for name in sorted(settings.logs.model_fields_set & {"format", "level"}):
        yield f"logs.{name}: inside `vllm serve` the log is vLLM's: leave it out, and see VLLM_LOGGING_CONFIG_PATH"
    if settings.guided_engine is not None:
        yield "guided_engine: inside `vllm serve` guides run in its own engine; leave it out"
    for field, instead in VLLMS.items():
        if field in settings.server.model_fields_set:
            yield f"server.{field}: inside `vllm serve` this is vLLM's: leave it out{instead}"
    if settings.server.api_keys_file is not None:
        yield "server.api_keys_file: inside `vllm serve` keys are vLLM's: leave it out, and give --api-key"
