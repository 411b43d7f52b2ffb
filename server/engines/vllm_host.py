"""A `vllm serve` that runs Decant as a plug-in: whether Decant can work in it."""

import os
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from vllm.platforms import current_platform

FLAGS = "start it with the flags that `decant vllm-args` prints"


def keyed(args: Namespace) -> bool:
    """Return whether this server asks for keys."""
    return bool(args.api_key or os.environ.get("VLLM_API_KEY"))


def host_problems(args: Namespace, config: Any) -> Iterator[str]:
    """Yield a line for each reason why Decant cannot work in this server.

    Args:
        args: vLLM's arguments.
        config: The configuration of the engine.
    """
    if current_platform.is_cpu() and config.scheduler_config.enable_chunked_prefill:
        yield f"--no-enable-chunked-prefill is needed on CPU, where a seeded request would kill the engine: {FLAGS}"
    if config.model_config.skip_tokenizer_init:
        yield "--skip-tokenizer-init leaves Decant no texts to score"
    if args.headless:
        yield "--headless serves no requests"
