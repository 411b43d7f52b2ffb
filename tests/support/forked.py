"""`decant` with its engines forked: a fork has vLLM imported already, so an engine starts in 4 s and not in 20.

python -m tests.support.forked serve --config FILE

On a CPU vLLM spawns its processes, whatever `VLLM_WORKER_MULTIPROC_METHOD` says, so that each can bind OpenMP's threads
to cores of its own; elsewhere it forks by default. Tests run on one thread, which nothing binds.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evaluation.support import servers


@contextmanager
def decant(settings: dict[str, Any], log: Path | None = None) -> Iterator[str]:
    """Run `decant serve` with `settings`, and with forked engines, while the block runs; yield its address."""
    with servers.decant(settings, log, module=__name__) as url:
        yield url


def fork_engines() -> None:
    """Let engines that this process starts from now on be forked."""
    from vllm.model_executor.models import registry
    from vllm.platforms.cpu import CpuPlatform

    # vLLM looks at a model's class in a process of its own, because some classes start CUDA: here none does.
    registry._run_in_subprocess = lambda look: look()
    check = CpuPlatform.check_and_update_config

    def and_fork(config: Any) -> None:
        check(config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    CpuPlatform.check_and_update_config = staticmethod(and_fork)


if __name__ == "__main__":
    from server.cli import main

    fork_engines()
    main()
