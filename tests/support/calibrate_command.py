"""`decant calibrate` on the toy, as tests run it."""

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from server.cli import app
from server.settings import Settings
from server.settings.reading import read_settings

COUNT = 6


def lines(tmp_path: Path, *bodies: object) -> Path:
    """A file with a line for each body; what is text already stays as it is."""
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(f"{b if isinstance(b, str) else json.dumps(b)}\n" for b in bodies), encoding="utf-8")
    return file


def decant(file: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["calibrate", str(file), "--toy", *options])


def settings() -> Settings:
    return read_settings(policy={"model": "toy"})
