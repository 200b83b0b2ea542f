"""The control plane's way of serving, and what a daemon that streams needs on top."""

from __future__ import annotations

import socket
from typing import Any

from cheroot import makefile, server, wsgi

from .. import serving


class _Connection(server.HTTPConnection):  # type: ignore[misc]
    def __init__(self, owner: Any, sock: socket.socket, make: Any = makefile.MakeFile) -> None:
        super().__init__(owner, sock, make)
        sock.settimeout(None)  # a stream is not cut because its reader pauses
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # not every kernel lets it be inherited


class _Gateway(wsgi.Gateway_10):  # type: ignore[misc]
    def get_environ(self) -> Any:
        """The client's socket shows a stream that nobody is there any more, while nothing is written."""
        return {**super().get_environ(), "client.socket": self.req.conn.socket}


class Server(serving.Server):
    ConnectionClass = _Connection

    def __init__(self, listening: socket.socket, app: serving.WsgiApp) -> None:
        super().__init__(listening, app)
        self.gateway = _Gateway
