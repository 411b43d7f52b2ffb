"""How fast guided decoding is beside its limit, and beside what one would use instead, on the demo's policy.

Five processes run at the same time and take turns, each with as many threads (OMP_NUM_THREADS, 1 by default, bound to
no core). Prompts are random, so that no prefix cache serves them.
"""

import random
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from evaluation.speed.guided_sides import THREADS, Side, check_agreement, start, unseen_prompts
from evaluation.speed.speed_ratio import SpeedRatio, summarise

BATCHES = {1: 32, 16: 48}  # batch size: tokens of each completion
TURNS = 8
OURS = {"guided": "", "adapted": ", an adapter on half the layers"}

Rates = Mapping[tuple[str, int], list[float]]
"""Tokens per second at each turn, by side and batch size."""
console = Console()


def guided(turns: int = TURNS) -> list[SpeedRatio]:
    """Measure all sides at each batch size, `turns` times."""
    console.print("[bold]guided decoding[/]: starting four engines and a loop")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sides = start(Path(folder), stack)
        check_agreement(sides)
        rates = _take_turns(sides, turns)
    _print(rates)
    rows = (make(rates, batch) for make in (_against_limit, _against_others, _plain) for batch in BATCHES)
    return [each for some in rows for each in some]


def _take_turns(sides: Mapping[str, Side], turns: int) -> Rates:
    """Run every side at every turn, in another order each time; leave the first turn out of the rates."""
    rates: dict[tuple[str, int], list[float]] = {(name, batch): [] for name in sides for batch in BATCHES}
    todo = [
        (name, batch) for _ in range(1 + turns) for batch in BATCHES for name in random.sample([*sides], len(sides))
    ]
    for name, batch in track(todo, "taking turns", console=console, transient=True):
        tokens = BATCHES[batch]
        answer = sides[name](prompts=unseen_prompts(batch), tokens=tokens, greedy=False)
        rates[name, batch].append(batch * tokens / answer["seconds"])
    return {key: values[1:] for key, values in rates.items()}


def _against_limit(rates: Rates, batch: int) -> Iterator[SpeedRatio]:
    both = zip(rates["policy", batch], rates["guide", batch], strict=True)
    limit = [1 / (1 / policy + 1 / guide) for policy, guide in both]
    for name, what in OURS.items():
        label = f"guided tokens/s against 1/(1/policy + 1/guide), batch {batch}{what}"
        yield summarise(label, _ratios(rates[name, batch], limit), "at least 0.95")


def _against_others(rates: Rates, batch: int) -> Iterator[SpeedRatio]:
    """Compare with the processor and the loop; the loop's rate at batch 1 is also that of requests one by one."""
    for name, what in OURS.items():
        ours, tail = rates[name, batch], f"batch {batch}{what}"
        others = {"a guide in a logits processor": (rates["processor", batch], "above 1")}
        others["a Transformers loop"] = (rates["loop", batch], "above 1" if batch == 1 else "at least 5")
        if batch > 1:
            others["a Transformers loop, a request at a time"] = (rates["loop", 1], "at least 5")
        for other, (theirs, aim) in others.items():
            yield summarise(f"guided tokens/s against {other}, {tail}", _ratios(ours, theirs), aim)


def _plain(rates: Rates, batch: int) -> Iterator[SpeedRatio]:
    ratios = _ratios(rates["plain", batch], rates["policy", batch])
    yield summarise(f"plain tokens/s with guides loaded against without, batch {batch}", ratios, "about 1")


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def _print(rates: Rates) -> None:
    table = Table("tokens/s", *(f"batch {batch}" for batch in BATCHES), title=f"Guided decoding, threads: {THREADS}")
    for name in dict.fromkeys(name for name, _ in rates):
        table.add_row(name, *(f"{statistics.median(rates[name, batch]):.1f}" for batch in BATCHES))
    console.print(table)
