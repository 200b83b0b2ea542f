"""Serves a WSGI application on a socket that already listens: cheroot, with the two things it lacks."""

from __future__ import annotations

import logging
import os
import queue
import socket
import sys
import threading
from typing import Any, Callable, Dict, Iterable

from cheroot import makefile, server, wsgi

logger = logging.getLogger("opensandbox_sync.local")

CLIENT_SOCKET = "client.socket"
WsgiApp = Callable[[Any, Any], Iterable[bytes]]


class AbortedError(Exception):
    """Raised from an application's body when the rest of the answer cannot be had.

    The connection is cut without the final chunk, so the client sees that the answer is not whole.
    """


class _GrowingPool:
    """A thread for each busy connection: cheroot's pool has a fixed size, and a streamed answer holds one."""

    def __init__(self, server: wsgi.Server) -> None:
        self._server = server
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._free = 0

    def start(self) -> None:
        """Threads are made when they are needed."""

    def stop(self, timeout: float = 0) -> None:
        """The threads are daemons: they end with the process."""

    def put(self, connection: Any) -> None:
        with self._lock:
            if self._free == 0:
                threading.Thread(target=self._work, name="http", daemon=True).start()
            else:
                self._free -= 1
        self._queue.put(connection)

    def _work(self) -> None:
        while True:
            connection = self._queue.get()
            keep = False
            try:
                keep = connection.communicate()
            except Exception:
                logger.debug("a connection ended", exc_info=True)
            with self._lock:
                self._free += 1
            try:
                if keep:
                    self._server.put_conn(connection)
                else:
                    connection.close()
            except Exception:
                logger.debug("a connection could not be put back", exc_info=True)


class _Connection(server.HTTPConnection):
    def __init__(self, owner: Any, sock: socket.socket, make: Any = makefile.MakeFile) -> None:
        super().__init__(owner, sock, make)
        sock.settimeout(None)  # a stream is not cut because its reader pauses
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # not every kernel lets it be inherited


class _Gateway(wsgi.Gateway_10):
    def get_environ(self) -> Dict[str, Any]:  # type: ignore[override]
        """Adds the client's socket: it shows, while nothing is written, that nobody is there any more."""
        environ: Dict[str, Any] = super().get_environ()  # type: ignore[no-untyped-call]
        return {**environ, CLIENT_SOCKET: self.req.conn.socket}


class Server(wsgi.Server):
    """`Server(socket, app).start()` serves until the process ends: keep-alive, each chunk flushed."""

    ConnectionClass = _Connection
    keep_alive_conn_limit = None  # type: ignore[assignment]  # any number

    def __init__(self, listening: socket.socket, app: WsgiApp) -> None:
        address = listening.getsockname()[:2]
        super().__init__(address, app, server_name="opensandbox-sync", request_queue_size=128, timeout=300)
        self.gateway = _Gateway
        self._listening = listening
        self.requests = _GrowingPool(self)

    def prepare(self) -> None:
        # cheroot takes this variable for systemd's and would serve on descriptor 3.
        listen_pid = os.environ.pop("LISTEN_PID", None)
        try:
            super().prepare()
        finally:
            if listen_pid is not None:
                os.environ["LISTEN_PID"] = listen_pid

    def bind(self, family: int, type: int, proto: int = 0) -> socket.socket:
        self.socket = self._listening
        return self._listening

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, (AbortedError, OSError)):  # a client or a backend went away: its own affair
            level = logging.DEBUG
        logger.log(level, "%s", msg, exc_info=traceback)
