"""Which names of this server requests may use.

A web page can let its own name point to 127.0.0.1 (DNS rebinding): then a browser takes a server on its reader's
machine for the page's own, and lets the page send it anything. The request still has the page's name as its Host.
"""

from collections.abc import Collection
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import UnknownHost
from server.http.errors import error_response
from server.settings import ServerSettings

LOCAL = "localhost"


def allowed_hosts(settings: ServerSettings) -> Collection[str] | None:
    """Return the names that requests may use, besides addresses; None where every name is allowed."""
    if settings.allowed_hosts is not None:
        return [*settings.allowed_hosts, LOCAL]
    return [LOCAL] if settings.api_keys_file is None and is_loopback(settings.host) else None


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what listens on a host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == LOCAL


class HostGate:
    """Middleware that refuses a request whose Host is neither an address nor one of these names.

    Nobody can point an address elsewhere, so addresses are always allowed, and so is a request without a Host, which no
    browser sends.
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            if not self._allowed(host):
                message = f"This server is not called '{host}'; server.allowed_hosts in its settings can allow it."
                await error_response(UnknownHost(message))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _allowed(self, host: str) -> bool:
        name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
        if not name or name.lower() in self._names:
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True
