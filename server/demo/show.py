"""`decant demo`: a server on the demo models, six prompts with many decodings, their answers and what these are worth.

All requests go over HTTP to a server in a process of its own, as a client's would.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager

import httpx
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn
from rich.table import Table

from server.demo.decodings import DECODINGS, Decoding, Figures, ask, mean
from server.demo.prompts import PROMPTS, DemoPrompt
from server.demo.world import ensure

NEXT = """curl -s http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' -d '{
  "messages": [{"role": "user", "content": "How was the film?"}], "max_tokens": 40,
  "decoding": {"strategy": "best_of_n", "n": 16, "reward": {"default": 1, "tone": 2}, "return_kl": true}}'"""
LEGEND = """
reward: the sentiment model's logit, higher is more positive. gain: over plain samples. tone: VADER's score, which no
guide was trained on. brevity: minus words per sentence. KL: how far the law is from the policy's, in nats: a bound or
an estimate for best-of-N, the log-ratio of a guided or tempered answer, or their sum. tokens: all that were
generated, every candidate's, and for a calibrated row, the first time, 32 rollouts a prompt that are kept. seconds:
with the six prompts asked at once; sample and guided rows ask for four answers each. A dash: no divergence is known.
"""
WIDTH = 120
_WIDEST = max(len(decoding.name) for decoding in DECODINGS)
_ADDRESS = re.compile(r"at (http://\S+)")


def show() -> int:
    """Run the demo; return the process's exit status."""
    console = Console()
    if console.width < WIDTH:  # a pipe or a narrow window, which would cut the numbers
        console = Console(width=WIDTH)
    console.print("[bold]Decant's demo[/]: SmolLM2-135M-Instruct, rewarded for positive sentiment, on this machine.\n")
    ensure()  # with its own progress bar if the models must be made
    with _server(console) as url, httpx.Client(base_url=url, timeout=600) as client:
        rows = _ask(client, console)
    console.print(_texts(rows))
    console.print(_means(rows))
    console.print(LEGEND, highlight=False)
    console.print("[bold]Next[/]: `make serve` in one terminal, and in another:\n")
    console.print(NEXT, highlight=False, markup=False, soft_wrap=True)
    return 0


@contextmanager
def _server(console: Console) -> Iterator[str]:
    """Start a server process on a free port; yield its address, and stop it at the end."""
    command = [sys.executable, "-m", "server.cli", "serve", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert process.stderr is not None
    lines: list[str] = []
    try:
        with console.status("Starting the engines (policy with guides, and reward): a minute or two on two cores"):
            for line in process.stderr:
                lines.append(line)
                if found := _ADDRESS.search(line):
                    break
            else:
                raise SystemExit("The server did not start. It said:\n" + "".join(lines[-30:]))
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.stderr.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def _ask(client: httpx.Client, console: Console) -> dict[DemoPrompt, dict[Decoding, Figures]]:
    """Request each decoding for all prompts at once: the engine batches them."""
    rows: dict[DemoPrompt, dict[Decoding, Figures]] = {prompt: {} for prompt in PROMPTS}
    columns = (SpinnerColumn(), *Progress.get_default_columns()[:2], TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress, ThreadPoolExecutor(len(PROMPTS)) as pool:
        task = progress.add_task("Asking", total=len(PROMPTS) * len(DECODINGS))
        for decoding in DECODINGS:
            progress.update(task, description=f"Asking six prompts: {decoding.name}")
            asked = {pool.submit(ask, client, prompt, decoding): prompt for prompt in PROMPTS}
            for answer in as_completed(asked):
                rows[asked[answer]][decoding] = answer.result()
                progress.advance(task)
    return rows


def _texts(rows: dict[DemoPrompt, dict[Decoding, Figures]]) -> Table:
    """Return the answers of the decodings that are shown."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True, min_width=_WIDEST)
    table.add_column("text", no_wrap=True, overflow="ellipsis", max_width=WIDTH - _WIDEST - 10)
    table.add_column("reward", justify="right", no_wrap=True)
    for prompt, answers in rows.items():
        kind = "to answer" if prompt.chat else "to continue"
        table.add_row(f"[cyan]{kind}[/]", f"[bold cyan]{prompt.text}[/]")
        for decoding, row in answers.items():
            if decoding.shown:
                table.add_row(decoding.name, " ".join(row.text.split()), f"{row.rewards['default']:+.2f}")
        table.add_section()
    return table


def _means(rows: dict[DemoPrompt, dict[Decoding, Figures]]) -> Table:
    """Return the figures of each decoding, means over the six prompts."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("mean of six prompts", no_wrap=True, min_width=_WIDEST)
    for name in ("reward", "gain", "tone", "brevity", "KL", "tokens", "seconds"):
        table.add_column(name, justify="right", no_wrap=True, min_width=8)
    means = {decoding: mean([answers[decoding] for answers in rows.values()]) for decoding in DECODINGS}
    plain = means[DECODINGS[0]].rewards["default"]
    for decoding, row in means.items():
        reward = row.rewards["default"]
        numbers = [f"{reward:+.2f}", f"{reward - plain:+.2f}", *(f"{row.rewards[r]:+.2f}" for r in ("tone", "brevity"))]
        kl = "-" if row.kl is None else f"{row.kl:.2f}"
        table.add_row(decoding.name, *numbers, kl, f"{row.tokens:.0f}", f"{row.seconds:.1f}")
    return table
