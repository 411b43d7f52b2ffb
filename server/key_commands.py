"""`decant keys`: the lines of a key file, made, listed and revoked while servers go on reading it.

A line is appended, or overwritten in place by a comment of its own length, in one write each. So a server never reads a
half of the file, and one that has the file mounted by itself, as in a container, sees the change.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from server.http import auth
from server.runtime import key_file
from server.runtime.key_file import Key

keys = typer.Typer(no_args_is_help=True, help="Bearer keys for server.api_keys_file.")
SHOWN = 8  # digits of a hash, by which a list tells keys of one name apart
SPAN = re.compile(r"(\d{1,5})([dh])")

Name = Annotated[str, typer.Argument(help="The name of the key's owner.")]
File = Annotated[Path, typer.Option(help="The key file.")]


@keys.command("add")
def add(
    name: Name,
    file: Annotated[Path, typer.Option(help="The key file; made if need be, readable by you alone.")],
    expires: Annotated[
        str | None, typer.Option(help="A time such as 2027-01-31T00:00:00Z, or from now on: 90d, 12h.")
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Requests a minute.")] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(help="Tokens a minute: prompts, and all that is generated.")
    ] = None,
    sequences: Annotated[int | None, typer.Option(help="Sequences drawn at the same time.")] = None,
    strategies: Annotated[str | None, typer.Option(help="Strategies allowed, such as sample,best_of_n.")] = None,
    weight: Annotated[
        float | None, typer.Option(help="Share of the server among the keys that wait; 1 by default.")
    ] = None,
) -> None:
    """Make a key, keep its hash in FILE, and print it this once. A further key of a name shares its limits."""
    key = auth.new_key()
    given: dict[str, Any] = {
        "expires": None if expires is None else _time(expires),
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "sequences": sequences,
        "strategies": strategies,
        "weight": weight,
    }
    options = "".join(f" {option}={value}" for option, value in given.items() if value is not None)
    entry = f"{name}:{auth.digest_of(key)}{options}"
    with _mistakes():
        if key_file.HEAD.match(entry) is None:
            raise ValueError("a key's name has up to 64 letters, digits, '.', '_' and '-'")
        try:
            entry = f"{name}:{auth.digest_of(key)} {key_file.parse_line(entry).options}".rstrip()
        except ValueError as error:
            raise ValueError(str(error).removeprefix(": ")) from error
        with _locked(file, os.O_RDWR | os.O_APPEND | os.O_CREAT) as handle:
            before = _text(handle)
            entry = f"\n{entry}\n" if before and not before.endswith("\n") else f"{entry}\n"
            key_file.parse(before + entry)
            os.write(handle, entry.encode())
    typer.echo(key)


@keys.command("list")
def show(file: File) -> None:
    """Show the file's keys, by the beginning of their hashes, with their options. Exit with 2 if it has a mistake."""
    with _mistakes():
        found = key_file.parse(file.read_text())
    table = Table("name", "hash", "expires", "options", box=None)
    for key in found:
        options = key.options.model_copy(update={"expires": None})
        shown = " ".join(word for word in str(options).split() if not word.startswith("expires="))
        table.add_row(key.client.name, key.digest[:SHOWN], _expiry(key), shown)
    Console(width=None if os.isatty(1) else 200, highlight=False).print(table)


@keys.command("revoke")
def revoke(
    name: Name,
    file: File,
    digest: Annotated[str, typer.Option("--hash", help="How the key's hash begins; by default all of NAME's.")] = "",
) -> None:
    """Revoke the keys of NAME, for good: servers refuse them within two seconds."""
    revoked = 0
    with _mistakes(), _locked(file, os.O_RDWR) as handle:
        text = _text(handle)
        key_file.parse(text)
        offset = 0
        for line in text.splitlines(keepends=True):
            size = len(line.encode())
            body = line.rstrip("\r\n")
            key = key_file.parse_line(body) if any(key_file.key_lines(body)) else None
            if key is not None and key.client.name == name and key.digest.startswith(digest):
                now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                comment = f"# {name} {key.digest[:SHOWN]} revoked {now}"
                os.pwrite(handle, comment.ljust(len(body.encode())).encode(), offset)
                revoked += 1
            offset += size
        if not revoked:
            raise ValueError(f"{file} has no such key of {name}")
        os.fsync(handle)
    typer.echo(f"{revoked} key{'s' if revoked > 1 else ''} of {name} revoked")


def _time(text: str) -> str:
    """Return a time as the file has it: a span from now on is added to the present."""
    match = SPAN.fullmatch(text)
    if match is None:
        return text
    span = timedelta(**{"days" if match[2] == "d" else "hours": int(match[1])})
    return (datetime.now(UTC) + span).strftime("%Y-%m-%dT%H:%M:%SZ")


def _expiry(key: Key) -> str:
    if key.options.expires is None:
        return "never"
    gone = key.options.expires <= datetime.now(UTC)
    return f"{key.options.expires.astimezone(UTC):%Y-%m-%d %H:%M}Z{' (expired)' if gone else ''}"


def _text(handle: int) -> str:
    return os.pread(handle, os.fstat(handle).st_size, 0).decode()


@contextmanager
def _locked(file: Path, flags: int) -> Iterator[int]:
    """Open the file for one command at a time."""
    handle = os.open(file, flags, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _mistakes() -> Iterator[None]:
    """Show a mistake as a line, and exit with status 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        typer.secho(f"decant: {error}", err=True, fg="red")
        raise typer.Exit(2) from error
