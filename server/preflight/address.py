"""Whether the server can listen at its address."""

import errno
import socket
from collections.abc import Iterator
from typing import Any


def address_problems(host: str, port: int, name: str = "") -> Iterator[str]:
    """Yield a line for each address that cannot be listened at, as asyncio will try it.

    Args:
        name: What stands before `host` and `port` in the names of the settings.
    """
    try:
        addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        yield f"server.{name}host: '{host}' is no address: {error.strerror}"
        return
    for family, kind, protocol, _, address in addresses:
        try:
            opened = socket.socket(family, kind, protocol)
        except OSError:  # a family that this machine does not have; asyncio skips it too
            continue
        try:
            with opened as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
                probe.listen(1)
        except OSError as error:
            yield _unbound(error, address, name)


def _unbound(error: OSError, address: Any, name: str) -> str:
    host, port = address[:2]
    if error.errno == errno.EADDRINUSE:
        return f"server.{name}port: something listens on {host} port {port} already"
    field = "port" if error.errno == errno.EACCES else "host"
    return f"server.{name}{field}: cannot listen on {host} port {port}: {error.strerror}"
