"""`python -m training.garden` rebuilds the six checkpoints; `--study` measures how each way of decoding uses them."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from training.garden import store
from training.garden.build import build_checkpoints
from training.garden.study import run_study


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.garden", description=__doc__)
    parser.add_argument("--out", type=Path, default=store.ROOT, help="where the checkpoints are (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all randomness (default: 0)")
    parser.add_argument(
        "--study", action="store_true", help="measure the checkpoints in --out instead of building them"
    )
    arguments = parser.parse_args()

    torch.set_num_threads(1)  # on tiny models more threads are slower, and change the order of sums
    torch.use_deterministic_algorithms(True)
    transformers_logging.disable_progress_bar()
    start = time.perf_counter()
    if arguments.study:
        run_study(arguments.out, arguments.seed)
    else:
        numbers = build_checkpoints(arguments.out, arguments.seed)
        for name, metrics in numbers.items():
            listed = "  ".join(f"{key} {value:.3f}" for key, value in metrics.items())
            print(f"{name:16} {store.digests(arguments.out)[name][:12]}  {listed}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
