"""Bearer keys: stored as hashes, compared in constant time.

A key is 256 random bits, which cannot be guessed, so one round of SHA-256 is enough: a slow hash would only slow every
request. The key file has a line for each key, `NAME:SHA256`, as `decant keys add` writes it.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import Unauthorized
from server.http.errors import error_response
from server.settings import SettingsError

PREFIX = "dk-"
GUARDED = ("/v1", "/tokenize", "/detokenize", "/classify", "/pooling", "/score")
OWNER = "decant_owner"  # where a request's scope has the digest of its key
_LINE = re.compile(r"(?P<name>[\w.-]{1,64}):(?P<digest>[0-9a-f]{64})")


def new_key() -> str:
    """Return a new random key."""
    return PREFIX + secrets.token_urlsafe(32)


def line(name: str, key: str) -> str:
    """Return the file's line for a key. Raises ValueError for a name that could not be read back."""
    text = f"{name}:{_digest(key)}"
    if not _LINE.fullmatch(text):
        raise ValueError("a key's name has up to 64 letters, digits, '.', '_' and '-'")
    return text


def read(path: Path) -> list[str]:
    """Return the digests of a key file. Raises `SettingsError`: without its keys a server would start open to all."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise SettingsError(f"server.api_keys_file: {error}") from error
    digests = []
    for number, text in enumerate(lines, 1):
        if text.strip() and not text.startswith("#"):
            match = _LINE.fullmatch(text.strip())
            if match is None:
                raise SettingsError(f"server.api_keys_file: {path}, line {number} is not NAME:SHA256")
            digests.append(match["digest"])
    if not digests:
        raise SettingsError(f"server.api_keys_file: {path} has no key. Add one: decant keys add NAME --file {path}")
    return digests


def owner_of(request: Request) -> str:
    """Return the digest of the key that the request carried, or "" on a server without keys."""
    return str(request.scope.get(OWNER, ""))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class KeyGate:
    """Middleware that lets a request to one of `GUARDED` through if it carries a known key.

    Args:
        digests: the hashes of the known keys.
        refused: called with the reason when a request is refused.
    """

    def __init__(self, app: ASGIApp, digests: Iterable[str], refused: Callable[[str], None]) -> None:
        self._app = app
        self._digests = tuple(digests)
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(GUARDED):
            owner = self._owner(scope)
            if owner is None:
                self._refused("unauthorized")
                error = Unauthorized("Send a key that this server knows: Authorization: Bearer KEY.")
                await error_response(error)(scope, receive, send)
                return
            scope = {**scope, OWNER: owner}
        await self._app(scope, receive, send)

    def _owner(self, scope: Scope) -> str | None:
        """Return the digest of the request's key, or None if it has no known one."""
        given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        scheme, _, key = given.partition(" ")
        digest = _digest(key.strip())
        # All digests are compared, so that the time taken does not show which one matched.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return digest if scheme.lower() == "bearer" and any(matches) else None
