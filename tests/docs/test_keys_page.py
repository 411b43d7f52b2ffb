"""docs/keys.md: its commands run one after the other, and its examples are what the server reads and writes."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server import cli
from server.loading import toy
from server.runtime.key_file import KeyOptions, parse_line
from tests.docs.blocks import Block, of, pages
from tests.support.serving import serving

PAGE = pages()["docs/keys.md"]


@pytest.mark.parametrize("block", of("keys"), ids=lambda block: block.name)
def test_commands_run(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in block.text.splitlines():
        result = CliRunner().invoke(cli.app, shlex.split(line)[1:])
        assert result.exit_code == 0, result.output
    assert [line.partition(":")[0] for line in (tmp_path / "keys.txt").read_text().splitlines()][1] == "bob"


def test_the_line_that_is_shown_is_read_and_has_every_option() -> None:
    [line] = re.findall(r"^    NAME:SHA256 (.*)$", PAGE, re.M)
    assert parse_line(f"ann:{'a' * 64} {line}").options.model_fields_set == set(KeyOptions.model_fields)


def test_the_line_of_the_accounting_log_has_the_fields_that_are_written(tmp_path: Path) -> None:
    [shown] = re.findall(r"^    (\{\"time\".*?\})$", PAGE, re.M | re.S)
    with serving(toy(), accounting_log=tmp_path / "log") as api:
        api.complete()
    assert list(json.loads((tmp_path / "log").read_text())) == list(json.loads(shown))
