"""The fenced blocks of the documentation, each with a name that stays when others come and go."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PAGES_FOR_AUTHORS = ("docs/writing-a-strategy.md", "docs/writing-a-reward.md")  # run whole, by test_writing.py
FENCE = re.compile(r"^ *(`{3,}|~{3,}) *(\S*)")


@dataclass(frozen=True)
class Block:
    """One fenced block. `name` is its file, heading and language, and a number from the second such block on."""

    name: str
    language: str
    text: str
    line: int

    @property
    def file(self) -> str:
        return self.name.partition("#")[0]


def extract(file: str, text: str) -> Iterator[Block]:
    """Yield the blocks of a Markdown file. Raise ValueError for a block that is never closed."""
    heading, fence, language, start = "", "", "", 0
    inside: list[str] = []
    seen: Counter[str] = Counter()
    for number, line in enumerate(text.splitlines(), 1):
        mark = FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not mark[2]:
                name = f"{file}#{heading}:{language}"
                seen[name] += 1
                indent = min((len(one) - len(one.lstrip()) for one in inside if one.strip()), default=0)
                body = "".join(f"{one[indent:]}\n" for one in inside)
                yield Block(f"{name}{seen[name] if seen[name] > 1 else ''}", language, body, start)
                fence = ""
            else:
                inside.append(line)
        elif mark:
            fence, language, start, inside = mark[1], mark[2], number, []
        elif line.startswith("#"):
            heading = line.lstrip("#").strip()
    if fence:
        raise ValueError(f"{file}: the block in line {start} is never closed")


@cache
def pages() -> dict[str, str]:
    """Return the text of every Markdown file of the project, by its path."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in listed.stdout.splitlines()}


@cache
def blocks() -> tuple[Block, ...]:
    return tuple(block for file, text in pages().items() for block in extract(file, text))


def of(runner: str) -> list[Block]:
    return [block for block in blocks() if kind(block) == runner]


def kind(block: Block) -> str | None:
    """Return the name of the runner that runs a block, by its content; None if no runner does."""
    if block.file in ("docs/api.md", "docs/clients.md"):
        return Path(block.file).stem
    if block.file in PAGES_FOR_AUTHORS:
        return "page"
    if block.language == "json":
        return "answer" if '"choices"' in block.text else "bodies"
    if block.language == "yaml":
        return "compose" if "services" in yaml.safe_load(block.text) else "settings"
    if block.language == "python":
        return "client" if "openai" in block.text else "training"
    if block.language == "sh" and block.text.startswith("curl ") and "127.0.0.1:8000" in block.text:
        return "curl"
    if block.language == "sh" and all(line.startswith("decant keys ") for line in block.text.splitlines()):
        return "keys"
    if block.language == "sh" and all(line.startswith("decant ") for line in block.text.splitlines()):
        return "command"
    return None


def values(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects of a block, in order."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        assert isinstance(value, dict)
        found.append(value)
        at += len(text[at:]) - len(text[at:].lstrip())
    return found


def body(value: dict[str, Any]) -> dict[str, Any]:
    """Return a chat request for an example: itself if it is a whole request, or one with it as `decoding`."""
    if "decoding" in value:
        return value
    return {"messages": [{"role": "user", "content": "How was the film?"}], "max_tokens": 40, "decoding": value}
