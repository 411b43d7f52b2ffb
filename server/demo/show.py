"""`decant demo`: a server on the demo models, six prompts asked in five ways, one table.

Everything goes over HTTP to a server of its own process, as a client would see it.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn
from rich.table import Table

from server.demo.prompts import PROMPTS, DemoPrompt
from server.demo.world import ensure

MAX_TOKENS = 16  # about what a line of the table shows
SOFTMAX = {"by": "softmax", "beta": 0.5}
WAYS: dict[str, dict[str, Any]] = {
    "sample": {"strategy": "sample", "reward": "default"},
    "best of 4": {"strategy": "best_of_n", "n": 4},
    "best of 16": {"strategy": "best_of_n", "n": 16},
    "softmax of 4": {"strategy": "best_of_n", "n": 4, "select": SOFTMAX},
    "softmax of 16": {"strategy": "best_of_n", "n": 16, "select": SOFTMAX},
}
NEXT = """curl -s http://127.0.0.1:8000/v1/chat/completions -d '{
  "messages": [{"role": "user", "content": "How was the film?"}], "max_tokens": 40,
  "decoding": {"strategy": "best_of_n", "n": 16, "reward": {"default": 1, "tone": 2}, "return_kl": true}}'"""
WIDTH = 120
_ADDRESS = re.compile(r"at (http://\S+)")


@dataclass(frozen=True)
class Row:
    text: str
    reward: float
    kl: float
    tokens: int
    seconds: float


def show() -> int:
    """Run the demo; the process's exit status."""
    console = Console()
    if console.width < WIDTH:  # a pipe or a narrow window: the numbers matter more than the frame
        console = Console(width=WIDTH)
    console.print("[bold]Decant's demo[/]: SmolLM2-135M-Instruct, rewarded for positive sentiment, on this machine.")
    ensure()  # with its own progress bar, where the models are still to be made
    with _server(console) as url, httpx.Client(base_url=url, timeout=600) as client:
        rows = _ask(client, console)
    console.print(_table(rows))
    console.print(
        "reward: the sentiment model's logit, higher is more positive. gain: over the same prompt's plain sample.\n"
        "KL: how far the strategy's law may be from the policy's, in nats: an upper bound, or an estimate of it.\n"
        "tokens: all that were generated, every candidate's. seconds: with the six prompts asked at once.\n"
    )
    console.print("[bold]Next[/]: `make serve` in one terminal, and in another:\n")
    console.print(NEXT, highlight=False, markup=False, soft_wrap=True)
    return 0


@contextmanager
def _server(console: Console) -> Iterator[str]:
    """A server process on a free port of this machine; its address."""
    command = [sys.executable, "-m", "server.cli", "serve", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert process.stderr is not None
    lines: list[str] = []
    try:
        with console.status("Starting the engines (policy and reward): a minute or two on two cores"):
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


def _ask(client: httpx.Client, console: Console) -> dict[DemoPrompt, dict[str, Row]]:
    """All prompts at once in each way: the engine batches them."""
    rows: dict[DemoPrompt, dict[str, Row]] = {prompt: {} for prompt in PROMPTS}
    columns = (SpinnerColumn(), *Progress.get_default_columns()[:2], TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress, ThreadPoolExecutor(len(PROMPTS)) as pool:
        task = progress.add_task("Asking", total=len(PROMPTS) * len(WAYS))
        for way, decoding in WAYS.items():
            progress.update(task, description=f"Asking six prompts: {way}")
            asked = {pool.submit(_post, client, prompt, decoding): prompt for prompt in PROMPTS}
            for answer in as_completed(asked):
                rows[asked[answer]][way] = answer.result()
                progress.advance(task)
    return rows


def _post(client: httpx.Client, prompt: DemoPrompt, decoding: dict[str, Any]) -> Row:
    body: dict[str, Any] = {"max_tokens": MAX_TOKENS, "seed": 7, "decoding": {**decoding, "return_kl": True}}
    started = time.perf_counter()
    if prompt.chat:
        body["messages"] = [{"role": "user", "content": prompt.text}]
        answer = client.post("/v1/chat/completions", json=body)
    else:
        answer = client.post("/v1/completions", json={**body, "prompt": prompt.text})
    seconds = time.perf_counter() - started
    if answer.status_code != httpx.codes.OK:
        raise SystemExit(f"The server answered {answer.status_code}: {answer.text}")
    content = answer.json()
    [choice] = content["choices"]
    [result] = content["decoding"]["results"]
    return Row(
        text=choice["message"]["content"] if prompt.chat else choice["text"],
        reward=result["rewards"]["default"],
        kl=result["kl"]["nats"],
        tokens=content["usage"]["completion_tokens"],
        seconds=seconds,
    )


def _table(rows: dict[DemoPrompt, dict[str, Row]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True, min_width=max(map(len, WAYS)))
    table.add_column("text", no_wrap=True, overflow="ellipsis", max_width=WIDTH - 54)
    for name in ("reward", "gain", "KL", "tokens", "seconds"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    for prompt, answers in rows.items():
        kind = "to answer" if prompt.chat else "to continue"
        table.add_row(f"[cyan]{kind}[/]", f"[bold cyan]{prompt.text}[/]")
        for way, row in answers.items():
            table.add_row(way, " ".join(row.text.split()), *_numbers(row, answers["sample"].reward))
        table.add_section()
    table.add_row("[bold cyan]mean of six[/]", "")
    for way in WAYS:
        each = [answers[way] for answers in rows.values()]
        count = len(each)
        mean = Row(
            "",
            sum(r.reward for r in each) / count,
            sum(r.kl for r in each) / count,
            round(sum(r.tokens for r in each) / count),
            sum(r.seconds for r in each) / count,
        )
        plain = sum(answers["sample"].reward for answers in rows.values()) / count
        table.add_row(way, "", *_numbers(mean, plain), style="bold")
    return table


def _numbers(row: Row, plain: float) -> tuple[str, str, str, str, str]:
    return f"{row.reward:+.2f}", f"{row.reward - plain:+.2f}", f"{row.kl:.2f}", str(row.tokens), f"{row.seconds:.1f}"
