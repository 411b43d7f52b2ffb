"""Models and files that the settings name and that do not exist."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from server.settings import ClassifierReward, EngineArgs, ImplicitGuide, ProcessReward, QHeadGuide
from server.settings.valid_sections import ValidSections

CONFIGS = ("config.json", "params.json")  # of a checkpoint: Transformers' and Mistral's
ADAPTER = "adapter_config.json"
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def model_problems(sections: ValidSections) -> Iterator[str]:
    """Yield a line for each model or file that does not exist."""
    if sections.policy is not None:
        yield from _model("policy.model", sections.policy.model, sections.policy.engine)
        yield from _files("policy.engine", sections.policy.engine)
    for name, reward in sections.rewards.items():
        if isinstance(reward, ClassifierReward | ProcessReward):
            yield from _model(f"rewards.{name}.model", reward.model, reward.engine)
            yield from _files(f"rewards.{name}.engine", reward.engine)
    for name, guide in sections.guides.items():
        where = f"guides.{name}"
        if guide.model is not None:
            yield from _model(f"{where}.model", guide.model, adapter=True)
        if guide.base is not None:
            yield from _model(f"{where}.base", guide.base)
        if isinstance(guide, ImplicitGuide):
            if guide.reference is not None:
                yield from _model(f"{where}.reference", guide.reference, adapter=True)
            if guide.reference_base is not None:
                yield from _model(f"{where}.reference_base", guide.reference_base)
        if isinstance(guide, QHeadGuide) and guide.head is not None and not Path(guide.head).is_file():
            yield f"{where}.head: there is no file {Path(guide.head).absolute()}"


def _model(where: str, model: str, arguments: EngineArgs | None = None, *, adapter: bool = False) -> Iterator[str]:
    """Yield what is wrong with a model's name: a path to a checkpoint (or an adapter), or an id on a hub."""
    path = Path(model)
    if path.is_dir():
        names = (*CONFIGS, ADAPTER) if adapter else CONFIGS
        elsewhere = (arguments or {}).get("hf_config_path")
        if not elsewhere and not any((path / name).is_file() for name in names):
            yield f"{where}: {path.absolute()} holds no {CONFIGS[0]}{f' or {ADAPTER}' if adapter else ''}"
    elif path.is_file() or "://" in model:  # one file of weights, or a store that vLLM can read
        return
    elif model.startswith("~"):
        yield f"{where}: '~' is not expanded here: write the whole path, such as {path.expanduser()}"
    elif model.startswith((".", "/")) or model.endswith("/") or not HUB_ID.fullmatch(model):
        yield f"{where}: there is no {path.absolute()}"
    elif _offline() and not _cached(model):
        yield f"{where}: there is no {path.absolute()}, and no '{model}' in the cache of the hub, which is off"


def _files(where: str, arguments: EngineArgs) -> Iterator[str]:
    """Yield the paths among an engine's arguments that do not exist."""
    for name in ("tokenizer", "hf_config_path"):
        value = arguments.get(name)
        if isinstance(value, str) and value.startswith((".", "/", "~")) and not Path(value).exists():
            yield f"{where}.{name}: there is no {Path(value).absolute()}"


def _offline() -> bool:
    return any(
        os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def _cached(model: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(model, name), str) for name in (*CONFIGS, ADAPTER))
