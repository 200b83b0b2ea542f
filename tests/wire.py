"""A server of raw bytes for the tests: what it answers is written out, down to where each write ends."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union
from urllib.parse import parse_qsl, unquote, urlsplit

from opensandbox_sync import Sandbox, SandboxClient

SANDBOX_ID = "5e5c0f0e-6141-4418-82d1-8be1b907e7d9"
COMMAND_ID = "a2cd6cba21ee4b69840a994e51cbf965"


class Request(NamedTuple):
    """One request as it came; the names of its headers are in lower case."""

    method: str
    target: str
    headers: Dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> Dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Hang:
    """In an answer: nothing more comes, until the client leaves."""


HANG = Hang()
Piece = Union[bytes, Hang]
Respond = Callable[[Request], Iterable[Piece]]


def whole(
    status: int = 200, body: Any = b"", headers: Optional[Dict[str, str]] = None, reason: str = "Whatever"
) -> List[Piece]:
    """An answer with its length; a body that is not bytes is sent as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Content-Length": str(len(raw)), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return [f"HTTP/1.1 {status} {reason}\r\n{lines}\r\n".encode("latin-1") + raw]


def refusal(status: int, code: str, message: str, headers: Optional[Dict[str, str]] = None) -> List[Piece]:
    """The server's error shape."""
    return whole(status, {"code": code, "message": message}, headers)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def frame(kind: str, **fields: Any) -> bytes:
    """One event as the daemon writes it: bare JSON and a blank line."""
    return json.dumps({"type": kind, **fields}, ensure_ascii=False).encode() + b"\n\n"


def init(command_id: str = COMMAND_ID) -> bytes:
    return frame("init", text=command_id, timestamp=1000)


def stdout(text: str) -> bytes:
    return frame("stdout", text=text, timestamp=1001)


def complete(milliseconds: int = 5) -> bytes:
    return frame("execution_complete", execution_time=milliseconds, timestamp=1005)


def failed(value: str, *traceback: str, name: str = "CommandExecError", timestamp: int = 1005) -> bytes:
    error = {"ename": name, "evalue": value, "traceback": list(traceback) or [f"exit status {value}"]}
    return frame("error", timestamp=timestamp, error=error)


def stream(*pieces: Piece) -> List[Piece]:
    """An event stream with one chunk for each piece, and its end; after a ``HANG`` there is none."""
    found: List[Piece] = [STREAM_HEAD, *(chunk(p) if isinstance(p, bytes) else p for p in pieces)]
    return found if HANG in pieces else [*found, LAST_CHUNK]


def cut(pieces: Iterable[Piece]) -> List[Piece]:
    """The same answer without its last piece: the connection ends there instead."""
    return [*list(pieces)[:-1], b""]


class Peer:
    """Listens on a free port, keeps each request, and answers with the pieces that ``respond`` gives for it.

    An empty piece closes the connection; without one it is kept for the next request.
    """

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.requests: List[Request] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._stopping = False
        self._connections: List[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def connection_count(self) -> int:
        """How many connections were made so far."""
        return len(self._connections)

    def asked(self, method: str, path: str) -> List[Request]:
        """The requests of that method whose path ends so."""
        return [r for r in list(self.requests) if r.method == method and r.path.endswith(path)]

    def stop(self) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as reader:
            while not self._stopping:
                request = _read_request(reader)
                if request is None:
                    return
                self.requests.append(request)
                for piece in self.respond(request):
                    if isinstance(piece, Hang):
                        reader.read(1)  # b"" when the client has left
                        return
                    if not piece:
                        return
                    connection.sendall(piece)


def _read_request(reader: Any) -> Optional[Request]:
    line = reader.readline()
    if not line:
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers = {}
    while True:
        line = reader.readline()
        if line in (b"\r\n", b""):
            break
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return Request(method, target, headers, reader.read(int(headers.get("content-length", 0))))


@contextlib.contextmanager
def peer_sandbox(respond: Respond, **settings: Any) -> Iterator[Tuple[Sandbox, Peer]]:
    """A sandbox whose daemon is a ``Peer``: it answers the endpoint look-up itself, the rest is ``respond``'s."""

    def answer(request: Request) -> Iterable[Piece]:
        if "/endpoints/" in request.path:
            return whole(200, {"endpoint": peer.address, "headers": {"X-EXECD-ACCESS-TOKEN": "token-of-the-endpoint"}})
        return respond(request)

    peer = Peer(answer)
    try:
        settings = {"domain": peer.address, "api_key": "key-of-the-server", **settings}
        with SandboxClient(**settings) as client:
            yield client.connect(SANDBOX_ID, wait_ready=False), peer
    finally:
        peer.stop()


def always(pieces: Iterable[Piece]) -> Respond:
    """The same answer to every request."""
    answer = list(pieces)
    return lambda request: answer
