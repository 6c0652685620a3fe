"""A line to a server that can be cut and mended: a TCP forwarder on loopback."""

from __future__ import annotations

import contextlib
import socket
import threading


class Line:
    """Forwards connections to `port` of this machine. A context manager; `here` is where to connect to."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.here: int = self._listening.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._whole = True
        self._hushed = False

    def __enter__(self) -> Line:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """Ends every connection and refuses new ones."""
        with self._lock:
            self._whole = False
            ended, self._open = self._open, set()
        for connection in ended:
            _end(connection)

    def hush(self) -> None:
        """Keeps connections open, and lets nothing through any more: a peer that hangs."""
        self._hushed = True

    def mend(self) -> None:
        """Lets connections through again."""
        with self._lock:
            self._whole = True

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            with self._lock:
                whole = self._whole
            if not whole:
                _end(client)
                continue
            server = socket.create_connection(("127.0.0.1", self._port))
            with self._lock:
                self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                if not self._hushed:
                    sink.sendall(part)
        with self._lock:
            self._open -= {source, sink}
        for connection in (source, sink):
            _end(connection)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
