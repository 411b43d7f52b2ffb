"""`decant keys`: what the commands write, show and refuse."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from server import cli
from server.runtime import key_file

OPTIONS = (
    *("--requests-per-minute", "60", "--tokens-per-minute", "1000", "--sequences", "8"),
    *("--strategies", "sample,best_of_n", "--weight", "2"),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def run(*words: str, file: Path) -> Result:
    return CliRunner().invoke(cli.app, ["keys", *words, "--file", str(file)])


def made(*words: str, file: Path) -> str:
    result = run("add", *words, file=file)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_options_are_written_behind_the_hash(file: Path) -> None:
    key = made("ann", "--expires", "2027-01-31T00:00:00Z", *OPTIONS, file=file)
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert file.read_text() == (
        f"ann:{digest} expires=2027-01-31T00:00:00Z requests_per_minute=60 tokens_per_minute=1000 sequences=8 "
        "strategies=sample,best_of_n weight=2\n"
    )


@pytest.mark.parametrize(("span", "delta"), [("90d", timedelta(days=90)), ("12h", timedelta(hours=12))])
def test_a_key_expires_after_a_span(file: Path, span: str, delta: timedelta) -> None:
    made("ann", "--expires", span, file=file)
    [key] = key_file.read(file)
    assert abs(datetime.fromtimestamp(key.expires, UTC) - datetime.now(UTC) - delta) < timedelta(seconds=5)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--sequences", "0"), "sequences: Input should be greater than 0"),
        (("--strategies", "best"), "strategies: there is no strategy 'best'"),
        (("--expires", "tomorrow"), "expires: Input should be a valid datetime"),
        (("--expires", "2027-01-31 00:00:00Z"), "is not OPTION=VALUE"),
        (("--weight", "nan"), "weight: "),
    ],
)
def test_an_option_that_could_not_be_read_back_is_refused(file: Path, words: tuple[str, ...], says: str) -> None:
    result = run("add", "ann", *words, file=file)
    assert result.exit_code == 2
    assert result.stderr.startswith("decant: ")
    assert says in result.stderr
    assert not file.exists() or not file.read_text()


def test_a_further_key_of_a_name_has_its_limits_or_is_refused(file: Path) -> None:
    made("ann", *OPTIONS, file=file)
    before = file.read_text()
    result = run("add", "ann", file=file)
    assert result.exit_code == 2
    assert "the keys of ann share their limits, and line 1 has other ones" in result.stderr
    assert file.read_text() == before
    made("ann", "--expires", "1d", *OPTIONS, file=file)
    assert len(key_file.read(file)) == 2


def test_a_list_shows_no_whole_hash(file: Path) -> None:
    made("ann", *OPTIONS, file=file)
    made("bob", "--expires", "2020-01-01T00:00:00Z", file=file)
    result = run("list", file=file)
    first, second = key_file.read(file)
    assert result.exit_code == 0
    _, ann, bob = (" ".join(line.split()) for line in result.stdout.splitlines())
    options = "requests_per_minute=60 tokens_per_minute=1000 sequences=8 strategies=sample,best_of_n weight=2"
    assert ann == f"ann {first.digest[:8]} never {options}"
    assert bob == f"bob {second.digest[:8]} 2020-01-01 00:00Z (expired)"
    assert first.digest not in result.stdout


def test_a_list_says_which_line_is_wrong(file: Path) -> None:
    made("ann", file=file)
    file.write_text(file.read_text() + "bob\n")
    result = run("list", file=file)
    assert (result.exit_code, result.stderr) == (2, "decant: line 2 is not NAME:SHA256\n")


def test_a_revoked_key_is_a_comment_in_its_place(file: Path) -> None:
    made("ann", file=file)
    bob = made("bob", file=file)
    made("ann", file=file)
    lines, inode = file.read_text().splitlines(), file.stat().st_ino
    result = run("revoke", "ann", "--hash", key_file.read(file)[0].digest[:8], file=file)
    assert (result.exit_code, result.stdout) == (0, "1 key of ann revoked\n")
    after = file.read_text().splitlines()
    assert after[0].startswith("# ann ")
    assert lines[0].partition(":")[2] not in after[0]
    assert [len(line) for line in after] == [len(line) for line in lines]
    assert after[1:] == lines[1:]
    assert file.stat().st_ino == inode
    assert run("revoke", "ann", file=file).exit_code == 0
    assert [key.digest for key in key_file.read(file)] == [hashlib.sha256(bob.encode()).hexdigest()]
    result = run("revoke", "ann", file=file)
    assert result.exit_code == 2
    assert "has no such key of ann" in result.stderr


def test_a_name_of_one_letter_in_a_file_without_a_last_newline_is_revoked(file: Path) -> None:
    made("a", file=file)
    file.write_text("# größer\r\n" + file.read_text().rstrip())
    assert run("revoke", "a", file=file).exit_code == 0
    assert "a:" not in file.read_text()
    assert key_file.parse(file.read_text()) == []
