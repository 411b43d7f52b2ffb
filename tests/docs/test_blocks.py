"""Every fenced block is run by a runner or is listed with a reason; commands in the text exist."""

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from typer.main import get_command

from server.cli import app
from tests.docs.asking import shape
from tests.docs.blocks import ROOT, Block, blocks, extract, kind, of, pages
from tests.docs.unrun import UNRUN

RUNNERS = {
    "answer",
    "api",
    "bodies",
    "client",
    "clients",
    "command",
    "compose",
    "curl",
    "keys",
    "page",
    "settings",
    "training",
}
PAGE = """# One
```sh
a
```
## Two
  ~~~json
  {"a":
    1}
  ~~~
```sh
b
```
```sh
c
```
"""


def test_blocks_are_found_with_their_names() -> None:
    assert list(extract("p.md", PAGE)) == [
        Block("p.md#One:sh", "sh", "a\n", 2),
        Block("p.md#Two:json", "json", '{"a":\n  1}\n', 6),
        Block("p.md#Two:sh", "sh", "b\n", 10),
        Block("p.md#Two:sh2", "sh", "c\n", 13),
    ]
    with pytest.raises(ValueError, match="line 2 is never closed"):
        list(extract("p.md", "# One\n```sh\n"))


def test_every_block_is_run_or_listed_with_a_reason() -> None:
    names = [block.name for block in blocks()]
    assert len(names) == len(set(names)) > 15
    fences = sum(len(re.findall(r"^ *(?:```|~~~)", text, re.M)) for text in pages().values())
    assert fences == 2 * len(names), "each fence opens or closes a block that was found"
    assert {block.name for block in blocks() if kind(block) is None} == UNRUN.keys()
    assert all(len(reason) > 10 for reason in UNRUN.values())


def test_no_runner_is_without_blocks() -> None:
    assert {kind(block) for block in blocks()} == RUNNERS | {None}
    assert all(of(runner) for runner in RUNNERS)


def test_make_knows_its_targets() -> None:
    said = {target for text in pages().values() for target in re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, re.M)}
    assert {"demo", "test", "serve"} <= said
    makefile = (ROOT / "Makefile").read_text()
    assert said <= set(re.findall(r"^([a-z-]+):", makefile, re.M))


def test_modules_that_are_called_exist() -> None:
    said = {name for text in pages().values() for name in re.findall(r"python -m (\w[\w.]*)", text)}
    assert len(said) > 4
    for name in said:
        assert find_spec(name) is not None, name
        folder = ROOT / name.replace(".", "/")
        assert (folder / "__main__.py").is_file() or not folder.is_dir(), name


def test_subcommands_that_are_named_exist() -> None:
    known = set(getattr(get_command(app), "commands"))  # noqa: B009
    said = {name for text in pages().values() for name in re.findall(r"(?:^|`|# )decant ([a-z][a-z-]+)", text, re.M)}
    assert {"serve", "calibrate", "check", "keys"} <= said <= known


def test_the_environment_of_the_commands_is_named_before_the_first_of_them() -> None:
    readme = pages()["README.md"]
    first = min(readme.index(word) for word in ("`decant serve", "decant keys"))
    assert 0 < readme.index("source .venv/bin/activate") < first
    assert "VENV   ?= .venv" in (ROOT / "Makefile").read_text()


def test_links_between_the_pages_lead_somewhere() -> None:
    for file, text in pages().items():
        for link, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]*)?\)", text):
            target = ((ROOT / file).parent / link).resolve() if link else ROOT / file
            assert target.exists(), f"{file}: {link}"
            if anchor:
                titles = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
                slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
                assert anchor[1:] in slugs, f"{file}: {link}{anchor}"


def test_the_command_is_installed_where_the_environment_is() -> None:
    done = subprocess.run([sys.executable, "-m", "server.cli", "--help"], capture_output=True, text=True, check=True)
    assert "serve" in done.stdout


def test_differences_of_shape_are_found() -> None:
    shown = {"a": [{"b": 1, "c": "x"}], "d": 1.5}
    assert list(shape(shown, {"a": [{"b": 2.5, "c": "y", "e": 0}], "d": 1})) == []
    assert list(shape(shown, {"a": [{"b": None}, {}], "d": "1"})) == [
        ".a has 2 entries",
        ".a[0].b is None",
        ".a[0].c is not there",
        ".d is '1'",
    ]
