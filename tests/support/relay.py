"""A relay of TCP connections to another server, which can be cut and mended."""

import socket
import threading
from types import TracebackType


class Relay:
    """Listens on a free port of this machine while its block runs, and passes bytes on both ways unless it is cut."""

    def __init__(self, port: int) -> None:
        """Args:
        port: the server's, on this machine.
        """
        self._to = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._whole = True

    def __enter__(self) -> "Relay":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def cut(self) -> None:
        """Break every connection, and each that comes, at once."""
        self._whole = False
        for one in self._open:
            one.close()
        self._open.clear()

    def mend(self) -> None:
        self._whole = True

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # it is closed
                return
            if not self._whole:
                client.close()
                continue
            server = socket.create_connection(self._to)
            self._open += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(2**16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:  # cut, or left
            return
