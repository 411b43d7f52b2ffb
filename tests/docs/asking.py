"""The shell commands and programs of a page, run against a server at another address."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.docs.blocks import Block, of, values


def curl(block: Block, url: str, tokens: int | None = None) -> dict[str, Any]:
    """Return the answer to a block's command, run by a shell against `url`; `tokens` replaces its `max_tokens`."""
    script = block.text.replace("http://127.0.0.1:8000", url)
    if tokens is not None:
        script = re.sub(r'("max_tokens": )\d+', rf"\g<1>{tokens}", script)
    assert script != block.text
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    assert "error" not in answer, answer
    return answer


def client(block: Block, url: str, folder: Path) -> str:
    """Return what a block's program prints, run with the server at `url`."""
    program = block.text.replace("http://127.0.0.1:8000", url)
    assert program != block.text
    file = folder / "program.py"
    file.write_text(program)
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def same_shape(block: Block, url: str) -> dict[str, Any]:
    """Return the answer to the request shown just before `block`; assert that it has all that `block` shows."""
    before = [one for one in of("curl") if one.file == block.file and one.line < block.line]
    real = curl(before[-1], url)
    [shown] = values(block.text)
    assert list(shape(shown, real)) == []
    result, [example] = real["decoding"]["results"][0], shown["decoding"]["results"]
    assert result["draws"] == example["draws"]
    if "kl" in example:
        assert result["kl"]["estimator"] == example["kl"]["estimator"]
    return real


def shape(shown: Any, real: Any, where: str = "") -> Iterator[str]:
    """Yield a line for each part of `shown` that an answer lacks or has with another type."""
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
