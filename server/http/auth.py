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

from decoders.errors import DecantError
from server.errors import Unauthorized
from server.http.errors import error_response
from server.http.rate_limit_headers import with_rate_limits
from server.runtime.client import ANYONE, Client
from server.runtime.key_file import Key
from server.runtime.key_ring import KeyRing
from server.runtime.limiter import Limiter
from server.telemetry.request_info import request_info

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
    """Middleware that lets a request to one of `GUARDED` through if it carries a known key that has room for it.

    Args:
        keys: the known keys.
        limiter: counts the requests of each key.
        refused: called with the error when a request is refused.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing, limiter: Limiter, refused: Callable[[DecantError], None]) -> None:
        self._app = app
        self._keys = keys
        self._limiter = limiter
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(GUARDED):
            try:
                await self._keys.refresh()
                key = self._key(scope)
                client = key.client
                send = with_rate_limits(send, client, self._limiter)
                if scope["method"] == "POST":  # the others read no more than a list
                    self._limiter.request(client)
            except DecantError as error:
                self._refused(error)
                await error_response(error)(scope, receive, send)
                return
            request_info().client = client.name
            scope = {**scope, OWNER: key.digest, CLIENT: client}
        await self._app(scope, receive, send)

    def _key(self, scope: Scope) -> Key:
        """Return the request's key. Raises `Unauthorized` if it has no known one, or one that has expired."""
        given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        scheme, _, secret = given.partition(" ")
        key = self._keys.find(digest_of(secret.strip())) if scheme.lower() == "bearer" else None
        if key is None:
            raise Unauthorized("Send a key that this server knows: Authorization: Bearer KEY.")
        if key.expires <= time.time():
            raise Unauthorized("This key has expired.")
        return key
