"""Bearer keys: stored as hashes, compared in constant time.

A key is 256 random bits, which cannot be guessed, so one round of SHA-256 is enough: a slow hash would only slow every
request.
"""

import hashlib
import secrets
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import Unauthorized
from server.http.errors import error_response
from server.runtime.client import ANYONE, Client
from server.runtime.key_file import Key
from server.runtime.key_ring import KeyRing

PREFIX = "dk-"
GUARDED = ("/v1", "/tokenize", "/detokenize", "/classify", "/pooling", "/score")
OWNER = "decant_owner"  # where a request's scope has the digest of its key
CLIENT = "decant_client"  # where it has the `Client` whose key it is


def new_key() -> str:
    """Return a new random key."""
    return PREFIX + secrets.token_urlsafe(32)


def owner_of(request: Request) -> str:
    """Return the digest of the key that the request carried, or "" on a server without keys."""
    return str(request.scope.get(OWNER, ""))


def client_of(request: Request) -> Client:
    """Return the holder of the request's key, or the client without a name on a server without keys."""
    client: Client = request.scope.get(CLIENT, ANYONE)
    return client


def digest_of(key: str) -> str:
    """Return the hash of a key, as the key file has it."""
    return hashlib.sha256(key.encode()).hexdigest()


class KeyGate:
    """Middleware that lets a request to one of `GUARDED` through if it carries a known key.

    Args:
        keys: the known keys.
        refused: called with the reason when a request is refused.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing, refused: Callable[[str], None]) -> None:
        self._app = app
        self._keys = keys
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(GUARDED):
            await self._keys.refresh()
            key = self._key(scope)
            if key is None or key.expires <= time.time():
                self._refused("unauthorized")
                wrong = (
                    "This key has expired." if key else "Send a key that this server knows: Authorization: Bearer KEY."
                )
                await error_response(Unauthorized(wrong))(scope, receive, send)
                return
            scope = {**scope, OWNER: key.digest, CLIENT: key.client}
        await self._app(scope, receive, send)

    def _key(self, scope: Scope) -> Key | None:
        """Return the request's key, or None if it has no known one."""
        given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        scheme, _, key = given.partition(" ")
        return self._keys.find(digest_of(key.strip())) if scheme.lower() == "bearer" else None
