"""A server that misbehaves on purpose, for the tests of faults: ``wire.Peer`` with a lifecycle server's and a daemon's
plain answers, so that a test writes out only the one that goes wrong.

What it received is counted by ``Peer.asked``: a claim about what was sent is made about what arrived.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import subprocess
import sys
import time
from typing import Any, Callable, Dict, Iterable, Iterator, Mapping, Optional, Sequence, Tuple, Union

from opensandbox_sync import Sandbox, SandboxClient

from .wire import COMMAND_ID, SANDBOX_ID, Hang, Peer, Piece, Request, Respond, _read_request, refusal, whole

API_KEY = "key-of-the-server"


class Reset:
    """In an answer: the connection is reset, not closed."""


RESET = Reset()
Answer = Union[Iterable[Any], Respond]
Table = Mapping[str, Answer]

_STAMP = "2026-11-22T20:02:06Z"
_SANDBOX = {"id": SANDBOX_ID, "status": {"state": "Running"}, "createdAt": _STAMP, "expiresAt": "2036-11-22T20:02:06Z"}
#: What a server that nothing is wrong with answers; ``METHOD end-of-the-path``.
PLAIN: Dict[str, Answer] = {
    "GET /ping": whole(),
    "GET /health": whole(200, {"status": "healthy"}),
    "POST /v1/sandboxes": whole(202, _SANDBOX),
    f"GET /v1/sandboxes/{SANDBOX_ID}": whole(200, _SANDBOX),
    f"DELETE /v1/sandboxes/{SANDBOX_ID}": whole(204),
    "DELETE /command": whole(),
    f"GET /command/status/{COMMAND_ID}": whole(200, {"id": COMMAND_ID, "running": True, "started_at": _STAMP}),
}


class Scripted(Peer):
    """A ``Peer`` that can also reset a connection, and speak TLS."""

    def __init__(self, table: Table, tls: Optional[ssl.SSLContext] = None) -> None:
        self.table: Dict[str, Answer] = {**PLAIN, **table}
        #: How many connections are over, on this side.
        self.ended = 0
        #: A POST beyond so many on one connection is lost, as on a connection that a server just gave up.
        self.posts_per_connection = sys.maxsize
        self._tls = tls
        super().__init__(self._answer)

    def _answer(self, request: Request) -> Iterable[Piece]:
        asked = f"{request.method} {request.path}"
        found = [key for key in self.table if key.split()[0] == request.method and asked.endswith(key.split()[1])]
        if found:
            answer = self.table[max(found, key=len)]
            return answer(request) if callable(answer) else answer
        if "/endpoints/" in request.path:
            prefix = f"/v1/sandboxes/{SANDBOX_ID}/proxy/44772" if "use_server_proxy" in request.query else ""
            return whole(200, {"endpoint": self.address + prefix})
        return refusal(404, "TEST::NOT_SCRIPTED", f"{asked} is not scripted")

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client may leave at any time, also inside a handshake
            if self._tls is not None:
                plain, connection = connection, self._tls.wrap_socket(connection, server_side=True)
                self._connections[self._connections.index(plain)] = connection
            with connection, connection.makefile("rb") as reader:
                self._serve_requests(connection, reader)
        self.ended += 1

    def _serve_requests(self, connection: socket.socket, reader: Any) -> None:
        posts = 0
        while not self._stopping:
            request = _read_request(reader)
            if request is None:
                return
            self.requests.append(request)
            posts += request.method == "POST"
            answer: Iterable[Any] = self.respond(request) if posts <= self.posts_per_connection else [RESET]
            for piece in answer:
                if isinstance(piece, Reset):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                if isinstance(piece, Hang):
                    reader.read(1)  # b"" when the client has left
                    return
                if not piece:
                    return
                connection.sendall(piece)


@contextlib.contextmanager
def serving(table: Table, tls: Optional[ssl.SSLContext] = None) -> Iterator[Scripted]:
    """The server alone, for tests that make their own client."""
    server = Scripted(table, tls)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def scripted(table: Table, **settings: Any) -> Iterator[Tuple[Sandbox, Scripted]]:
    """A handle of a sandbox on a server that answers as ``table`` says, and the server."""
    with serving(table) as server:
        settings = {"domain": server.address, "api_key": API_KEY, **settings}
        with SandboxClient(**settings) as client:
            yield client.connect(SANDBOX_ID, wait_ready=False), server


def in_turn(*answers: Iterable[Any]) -> Callable[[Request], Iterable[Any]]:
    """The first answer to the first request, and so on; the last one to all that follow."""
    left = list(answers)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


def closed_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def promptly(seconds: float = 10.0) -> Iterator[None]:
    """A guard against hanging, far above what the block needs; its exact time is nobody's claim."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds, "it waited for what would never come"


def python(script: str, *arguments: str, flags: Sequence[str] = (), **options: Any) -> subprocess.Popen[str]:
    """A Python process of its own for what cannot be tested inside the tests': signals, forks, exit."""
    return subprocess.Popen(
        [sys.executable, *flags, "-c", script, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        **options,
    )


def finished(process: subprocess.Popen[str], seconds: float = 60.0) -> str:
    """The output of a process that ended well; what it said on stderr is the failure."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"it hung; stdout {out!r}, stderr {err}") from None
    assert process.returncode == 0, err
    return out
