"""docs/architecture.md has one line for each file of decoders/ and server/, and names no other files."""

import ast
import re
from collections.abc import Iterator

from tests.docs.blocks import ROOT, pages
from tests.test_architecture import ROOMS

PAGE = pages()["docs/architecture.md"]


def listed() -> Iterator[str]:
    """Yield each file that has a line, under the heading of its folder."""
    folder = ""
    for line in PAGE.splitlines():
        if heading := re.match(r"### `([\w/]+/)`", line):
            folder = heading[1]
        elif entry := re.match(r"- `([\w/]+\.py)`: \S", line):
            yield folder + entry[1]


def sources() -> Iterator[str]:
    """Yield each file with code: an `__init__.py` that has only a docstring says nothing new."""
    for top in ("decoders", "server"):
        for file in sorted((ROOT / top).rglob("*.py")):
            body = ast.parse(file.read_text(encoding="utf-8")).body
            if file.name != "__init__.py" or len(body) > 1:
                yield file.relative_to(ROOT).as_posix()


def test_every_file_has_one_line_and_every_line_a_file() -> None:
    assert sorted(listed()) == sorted(sources())


def test_files_that_the_way_of_a_request_names_exist() -> None:
    way = PAGE.partition("## The way of a request")[2].partition("\n## ")[0]
    names = set(re.findall(r"`([\w/]+\.py)`", way))
    assert len(names) > 10
    known = list(sources())
    for name in names:
        assert any(file == name or file.endswith(f"/{name}") for file in known), name


def test_the_table_of_imports_names_the_rooms() -> None:
    table = PAGE.partition("## Who may import whom")[2].partition("\n## ")[0]
    named = re.findall(r"`([\w/]+(?:\.py)?)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.M)))
    small = {"server/__init__.py", "server/healthcheck.py", "server/installed.py", "server/errors.py"}
    assert [room for room in ROOMS if room not in small] == [room for room in named if room in ROOMS]
