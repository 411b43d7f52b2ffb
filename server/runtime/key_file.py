"""The key file: a line for each key, with its owner's name, its hash and its options.

    NAME:SHA256 expires=2027-01-31T00:00:00Z requests_per_minute=60 strategies=sample,best_of_n weight=2

A line that begins with # is a comment. The keys of one name share their limits, so their lines have the same ones.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, PositiveInt, ValidationError, field_validator

from decoders import STRATEGIES
from server.runtime.client import Client, ClientLimits
from server.settings import SettingsError

HEAD = re.compile(r"(?P<name>[\w.-]{1,64}):(?P<digest>[0-9a-f]{64})", re.ASCII)
OTHER_WORK = ("rewards", "classify", "pooling", "score")  # what else a key may be allowed, by the names in metrics
WORK = (*(strategy.model_fields["strategy"].default for strategy in STRATEGIES), *OTHER_WORK)


def _names(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


class KeyOptions(BaseModel, frozen=True, extra="forbid"):
    """What may stand behind a key's hash, each as `option=value`."""

    expires: AwareDatetime | None = Field(None, description="From when on the key is refused.")
    requests_per_minute: PositiveInt | None = None
    tokens_per_minute: PositiveInt | None = None
    sequences: PositiveInt | None = Field(None, description="Sequences at the same time, all its requests together.")
    strategies: Annotated[tuple[str, ...] | None, BeforeValidator(_names)] = None
    weight: float = Field(1.0, gt=0, le=1000, description="Its share of the server among the keys that wait.")

    @field_validator("strategies")
    @classmethod
    def _known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in names or ():
            if name not in WORK:
                raise ValueError(f"there is no strategy '{name}'. There are: {', '.join(WORK)}")
        return names

    def __str__(self) -> str:
        """Return the options as a line of the file has them."""
        return " ".join(f"{name}={_text(value)}" for name, value in self if name in self.model_fields_set)


class Key(NamedTuple):
    """One line of the file."""

    client: Client
    digest: str
    options: KeyOptions
    expires: float  # unix time in seconds; infinite for a key that does not expire


def parse_line(text: str) -> Key:
    """Return the key of a line. Raises `ValueError`, whose message goes on behind the number of a line."""
    head, _, rest = text.strip().partition(" ")
    match = HEAD.fullmatch(head)
    if match is None:
        raise ValueError(" is not NAME:SHA256")
    given: dict[str, str] = {}
    for word in rest.split():
        name, equals, value = word.partition("=")
        if not equals or name in given:
            raise ValueError(f": {name} is there twice" if equals else f": '{word}' is not OPTION=VALUE")
        given[name] = value
    try:
        options = KeyOptions.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "extra_forbidden":
            message = f"there is no such option. There are: {', '.join(KeyOptions.model_fields)}"
        else:
            message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f": {first['loc'][0]}: {message}") from error
    allowed = None if options.strategies is None else frozenset(options.strategies)
    limits = ClientLimits(options.requests_per_minute, options.tokens_per_minute, options.sequences, allowed)
    expires = float("inf") if options.expires is None else options.expires.timestamp()
    return Key(Client(match["name"], options.weight, limits), match["digest"], options, expires)


def key_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line that is a key's."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield number, line


def parse(text: str) -> list[Key]:
    """Return the keys of a file's text. Raises `ValueError`, whose message names the line."""
    keys: list[Key] = []
    first: dict[str, tuple[int, Client]] = {}
    for number, line in key_lines(text):
        try:
            key = parse_line(line)
        except ValueError as error:
            raise ValueError(f"line {number}{error}") from error
        before, client = first.setdefault(key.client.name, (number, key.client))
        if client != key.client:
            raise ValueError(
                f"line {number}: the keys of {client.name} share their limits, and line {before} has other ones"
            )
        keys.append(key)
    return keys


def read(path: Path) -> list[Key]:
    """Return the keys of a file. Raises `SettingsError`: without its keys a server would start open to all."""
    try:
        keys = parse(path.read_text())
    except OSError as error:
        raise SettingsError(f"server.api_keys_file: {error}") from error
    except ValueError as error:  # UnicodeDecodeError too
        raise SettingsError(f"server.api_keys_file: {path}, {error}") from error
    if not keys:
        raise SettingsError(f"server.api_keys_file: {path} has no key. Add one: decant keys add NAME --file {path}")
    return keys


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return ",".join(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)
