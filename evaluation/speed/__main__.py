"""How fast Decant is beside what one would use instead: ratios, each measured within one run on one machine.

    python -m evaluation.speed [plain] [tiny] [best_of_n] [plugin] [guided] [blocks] [particles] [early]

plain, tiny   requests per second at concurrency 16 against `vllm serve` with the same engine arguments: on the demo
              policy, and on a tiny random model, for which the server itself is most of the work
best_of_n     wall time of best-of-16 over HTTP against raw vLLM: generate(n=16), then one classify call
plugin        requests per second of `vllm serve` with the plug-in against one without, on the tiny model; and speed of
              best-of-16 in it against `decant serve`
guided        tokens per second of guided decoding against its limit, against a guide in a logits processor and against
              a Transformers loop; and of plain requests on the same engine against an engine without guides
blocks        wall time of blockwise controlled decoding against raw vLLM that generates as many tokens and scores the
              same unfinished answers; and the share of resubmitted tokens that the prefix cache holds
particles     wall time of particles against as many plain samples
early         wall time and tokens of speculative rejection against full best-of-N; their rewards are not compared

Both sides run at the same time and take turns, so that other work of the machine slows both alike. A ratio is the
median over turns. For the first four, each side is started first once: see `both_orders`.
"""

import sys
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from evaluation.speed.best_of_n import best_of_n
from evaluation.speed.guided import guided
from evaluation.speed.plugin import plugin
from evaluation.speed.searches import blocks, early, particles
from evaluation.speed.speed_ratio import SpeedRatio
from evaluation.speed.throughput import plain, tiny

MEASURES: dict[str, Callable[[], list[SpeedRatio]]] = {
    "plain": plain,
    "tiny": tiny,
    "best_of_n": best_of_n,
    "plugin": plugin,
    "guided": guided,
    "blocks": blocks,
    "particles": particles,
    "early": early,
}


def main() -> None:
    console = Console()
    table = Table("measure", "Decant / other", "IQR", "aim", title="Speed as ratios")
    for name in sys.argv[1:] or MEASURES:
        for label, ratio, spread, aim in MEASURES[name]():
            console.print(f"{label}: {ratio:.3f} (IQR {spread:.3f}, {aim})")
            table.add_row(label, f"{ratio:.3f}", f"{spread:.3f}", aim)
    console.print(table)


if __name__ == "__main__":
    main()
