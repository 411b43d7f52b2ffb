"""Asking a server as a page asks it: its shell commands and programs, at another address."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.docs.blocks import Block, of, values


def curl(block: Block, url: str, tokens: int | None = None) -> dict[str, Any]:
    """The answer to a block's command, sent by a shell to the server at `url`; `tokens` replaces its `max_tokens`."""
    script = block.text.replace("http://127.0.0.1:8000", url)
    if tokens is not None:
        script = re.sub(r'("max_tokens": )\d+', rf"\g<1>{tokens}", script)
    assert script != block.text
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    assert "error" not in answer, answer
    return answer


def client(block: Block, url: str, folder: Path) -> str:
    """What a block's program prints, run with the server at `url`."""
    program = block.text.replace("http://127.0.0.1:8000", url)
    assert program != block.text
    file = folder / "program.py"
    file.write_text(program)
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def same_shape(block: Block, url: str) -> dict[str, Any]:
    """The answer to the request that the page shows just before `block`, seen to have all that `block` shows."""
    before = [one for one in of("curl") if one.file == block.file and one.line < block.line]
    real = curl(before[-1], url)
    [shown] = values(block.text)
    assert list(shape(shown, real)) == []
    result, [told] = real["decoding"]["results"][0], shown["decoding"]["results"]
    assert (result["draws"], result["kl"]["estimator"]) == (told["draws"], told["kl"]["estimator"])
    return real


def shape(shown: Any, real: Any, where: str = "") -> Iterator[str]:
    """What of `shown` an answer has not, or has of another type."""
    if isinstance(shown, dict) and isinstance(real, dict):
        for key, value in shown.items():
            yield from shape(value, real[key], f"{where}.{key}") if key in real else [f"{where}.{key} is not there"]
    elif isinstance(shown, list) and isinstance(real, list):
        if len(shown) != len(real):
            yield f"{where} has {len(real)} entries"
        for i, (one, other) in enumerate(zip(shown, real, strict=False)):
            yield from shape(one, other, f"{where}[{i}]")
    elif not isinstance(real, int | float if isinstance(shown, int | float) else type(shown)):
        yield f"{where} is {real!r}"
