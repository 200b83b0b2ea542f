"""A server that only the benchmarks use: it answers at once, with bytes that it made beforehand.

It speaks enough of the lifecycle and execd APIs for every client here. The answer to a command is chosen by the command
itself (see ``stream_of``), so that each client sends what it always sends. Two ports serve the same: the second one
waits ``--latency`` before it answers each request. ``/bench/*`` is for the driver: it prepares a stream, and reports
the CPU time spent here, from which the share of time that the server was idle follows.

    python benchmarks/server.py          # prints {"port": ..., "slow_port": ..., "pid": ...} and serves
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import sys
import tempfile
import threading
import time
from functools import lru_cache
from typing import Callable, Dict, Iterator, List, Tuple, Union
from urllib.parse import parse_qs, urlsplit

from clients import SANDBOX_ID

SESSION_ID = "0c4a7a3e-8c55-4a53-9f0e-1d2f6b8f4a11"
COMMAND_ID = "c88ee153c10546e99e4bf2d05ce2ac32"
STAMP = 1795376297972
TAIL_SECONDS = 1.0  # how long execd 1.0 and 1.1 hold a command's response open after its terminal event
FIRST_EVENT_HOLD_SECONDS = 0.1
FRAMES_PER_CHUNK = 64
DOWNLOAD_BLOCK = 8 << 20  # a download is this many random bytes, again and again

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"

#: One part of an answer: bytes to send, seconds to wait (float), or how many bytes of a file to send (int).
Part = Union[bytes, float, int]


def frame(**fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(payload), payload)


OPENING = chunk(frame(type="init", text=COMMAND_ID, timestamp=STAMP)) + chunk(
    frame(type="ping", text="pong", timestamp=STAMP)
)
COMPLETE = chunk(frame(type="execution_complete", execution_time=3, timestamp=STAMP + 3))

# One unit of each kind of text, as it is and as the wire has it. Every unit stands for a whole number of characters.
_UNITS = {
    "plain": ("The quick brown fox jumps over the lazy dog. ",) * 2,
    "escapes": ('"a\\b"\t\x1b[1mC:\\d\x1b[0m', r"\"a\\b\"\t\u001b[1mC:\\d\u001b[0m"),
    "utf8": ("naïve 世界 😀 Ω ",) * 2,
}


def text_of(kind: str, size: int, ending: str) -> Tuple[str, bytes]:
    """A text of ``size`` characters and its JSON form (escapes and UTF-8: the whole units that fit)."""
    plain, wire = _UNITS[kind]
    times = max(1, (size - len(ending)) // len(plain))
    text, on_wire = plain * times, wire * times
    if kind == "plain":
        text = on_wire = (plain * (times + 2))[: size - len(ending)]
    return text + ending, (on_wire + ending.replace("\n", "\\n")).encode()


def output_frames(count: int, size: int, kind: str, ending: str) -> Iterator[bytes]:
    """``count`` stdout frames as execd writes them; each text begins with its own number, seven digits."""
    _, wire = text_of(kind, size - 7, ending)
    head, tail = b'{"type":"stdout","text":"', wire + b'","timestamp":%d}\n\n'
    for number in range(count):
        yield head + b"%07d" % number + tail % (STAMP + number // 20)


def text_length(command: str) -> int:
    """How many characters of output ``command`` has, line ends that were cut off not counted."""
    if not command.startswith("events "):
        return 0
    _, count, size, kind, framing = command.split()
    return int(count) * (7 + len(text_of(kind, int(size) - 7, ending_of(framing))[0]))


def ending_of(framing: str) -> str:
    return "" if framing == "cut" else "\n"


def stream_of(command: str) -> List[Part]:
    """What the server answers to ``command``: the chunks of one event stream.

    ``true`` · ``tail`` (the response stays open 1 s after the terminal event) · ``first`` (one event, then a pause) ·
    ``events <count> <size> <kind> <framing>`` with kind ``plain``, ``escapes`` or ``utf8`` and framing ``one`` (a frame
    in each chunk), ``many`` (64 in each) or ``cut`` (as ``one``, but line ends are cut off, as execd 1.0 does).
    """
    if command == "tail":
        return [STREAM_HEAD + OPENING + COMPLETE, TAIL_SECONDS, LAST_CHUNK]
    if command == "first":
        event = chunk(next(output_frames(1, 80, "plain", "\n")))
        return [STREAM_HEAD + OPENING + event, FIRST_EVENT_HOLD_SECONDS, COMPLETE + LAST_CHUNK]
    if not command.startswith("events "):
        return [STREAM_HEAD + OPENING + COMPLETE + LAST_CHUNK]
    _, count, size, kind, framing = command.split()
    frames = output_frames(int(count), int(size), kind, ending_of(framing))
    if framing == "many":
        held = list(frames)
        groups = (held[at : at + FRAMES_PER_CHUNK] for at in range(0, len(held), FRAMES_PER_CHUNK))
        body = b"".join(chunk(b"".join(group)) for group in groups)
    else:
        body = b"".join(map(chunk, frames))
    return [STREAM_HEAD + OPENING, body, COMPLETE + LAST_CHUNK]


class Request:
    """One request, read from a connection; the body is read only when it is asked for."""

    def __init__(self, connection: Connection, head: bytes) -> None:
        line, _, rest = head.partition(b"\r\n")
        method, target, _ = line.decode("latin-1").split(" ", 2)
        self.method = method
        self.url = urlsplit(target)
        self.headers: Dict[str, str] = {}
        for header in rest.decode("latin-1").split("\r\n"):
            name, _, value = header.partition(":")
            self.headers[name.lower()] = value.strip()
        self._connection = connection

    def body(self) -> bytes:
        return b"".join(bytes(piece) for piece in self.pieces())

    def pieces(self) -> Iterator[memoryview]:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                size = int(self._connection.line(), 16)
                yield from self._connection.exactly(size)
                self._connection.line()
                if not size:
                    return
        yield from self._connection.exactly(int(self.headers.get("content-length", 0)))


class Connection:
    """The bytes of one socket: a head, a line, or an exact number of bytes without keeping them."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = bytearray(1 << 20)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

    def until(self, mark: bytes) -> bytes:
        while True:
            found = self._buffer.find(mark, self._start, self._end)
            if found >= 0:
                taken = bytes(self._view[self._start : found])
                self._start = found + len(mark)
                return taken
            self._more()

    def line(self) -> bytes:
        return self.until(b"\r\n")

    def exactly(self, size: int) -> Iterator[memoryview]:
        while size:
            if self._start == self._end:
                self._more()
            stop = min(self._end, self._start + size)
            yield self._view[self._start : stop]
            size -= stop - self._start
            self._start = stop

    def _more(self) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start and self._end == len(self._buffer):
            rest = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, len(rest)
            self._view[: self._end] = rest
        got = self.sock.recv_into(self._view[self._end :])
        if not got:
            raise ConnectionError
        self._end += got


class BenchServer:
    def __init__(self, latency: float) -> None:
        self.requests = 0
        self.streams: Dict[str, List[Part]] = {}
        for command in ("true", "tail", "first"):
            self.streams[command] = stream_of(command)
        self._file = tempfile.TemporaryFile()
        self._file.write(os.urandom(DOWNLOAD_BLOCK))
        self._file.flush()
        self._listeners = [self._listen(0.0), self._listen(latency)]

    @property
    def ports(self) -> List[int]:
        return [listener.getsockname()[1] for listener, _ in self._listeners]

    @staticmethod
    def _listen(latency: float) -> Tuple[socket.socket, float]:
        return socket.create_server(("127.0.0.1", 0), backlog=256), latency

    def serve(self) -> None:
        for listener, latency in self._listeners:
            threading.Thread(target=self._accept, args=(listener, latency), daemon=True).start()

    def _accept(self, listener: socket.socket, latency: float) -> None:
        port = listener.getsockname()[1]
        while True:
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._converse, args=(sock, port, latency), daemon=True).start()

    def _converse(self, sock: socket.socket, port: int, latency: float) -> None:
        connection = Connection(sock)
        try:
            while True:
                request = Request(connection, connection.until(b"\r\n\r\n"))
                parts = self._answer(request, port)
                if latency:
                    time.sleep(latency)
                for part in parts:
                    self._send(sock, part)
        except OSError:
            pass  # the client went away, as it may
        finally:
            sock.close()

    def _send(self, sock: socket.socket, part: Part) -> None:
        if isinstance(part, bytes):
            sock.sendall(part)
        elif isinstance(part, float):
            time.sleep(part)
        else:  # sendfile: half the CPU of sendall, so that a fast reader does not wait for us
            sent = 0
            while sent < part:
                sent += os.sendfile(sock.fileno(), self._file.fileno(), 0, min(DOWNLOAD_BLOCK, part - sent))

    def _answer(self, request: Request, port: int) -> List[Part]:
        route = self._control if request.url.path.startswith("/bench/") else self._api
        return route(request, port)

    def _control(self, request: Request, port: int) -> List[Part]:
        if request.method == "POST":  # the stream of this command, made now; the one before it is dropped
            command = request.body().decode()
            self.streams = {name: parts for name, parts in self.streams.items() if " " not in name}
            self.streams[command] = stream_of(command)
        return [answer(200, {"cpu": time.process_time(), "requests": self.requests})]

    def _api(self, request: Request, port: int) -> List[Part]:
        self.requests += 1
        path = request.url.path[3:] if request.url.path.startswith("/v1/") else request.url.path
        if path.startswith("/files/"):
            return files(request, path)
        if path == "/directories/list":
            asked = query_paths(request)[0]
            return [listing(asked) if is_tree(asked) else answer(404, missing(asked))]
        body = request.body()
        if path == "/command" or path.endswith("/run"):
            return self.streams[json.loads(body)["command"]]
        for verb, matches, status, reply in PLAIN_ANSWERS:
            if verb == request.method and matches(path):
                return [answer(status, reply(port))]
        return [answer(404, {"code": "NOT_FOUND", "message": path})]


def answer(status: int, value: object = None) -> bytes:
    body = b"" if value is None else json.dumps(value).encode()
    kind = "Content-Type: application/json\r\n" if body else ""
    head = f"HTTP/1.1 {status} OK\r\n{kind}X-Request-ID: bench\r\n"
    if status != 204:
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def files(request: Request, path: str) -> List[Part]:
    if path == "/files/upload":
        for _ in request.pieces():
            pass
        return [answer(200)]
    names = query_paths(request)
    if path == "/files/info":
        return [answer(200, {name: info(name, "directory" if is_tree(name) else "file") for name in names})]
    size = size_of(names[0])
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n".encode()
    return [head + b"x" * size] if size < 65536 else [head, size]


def query_paths(request: Request) -> List[str]:
    return parse_qs(request.url.query)["path"]


def size_of(name: str) -> int:
    """A path ends in the size of the file: /bench/268435456, /tree/2000/d3/f43-243."""
    return int(re.split("[/-]", name)[-1])


def info(name: str, kind: str) -> Dict[str, object]:
    stamp = "2026-11-22T20:02:06Z"
    size = size_of(name) if kind == "file" else 4096
    told = {"path": name, "type": kind, "size": size, "modified_at": stamp, "created_at": stamp}
    return {**told, "owner": "root", "group": "root", "mode": 644 if kind == "file" else 755}


def is_tree(name: str) -> bool:
    return name.startswith("/tree/") and name.count("/") == 2


def tree_names(count: int) -> List[str]:
    """A tree of so many small files in 20 directories: their names, below /tree/<count>."""
    return sorted(f"d{number % 20}/f{number}-{200 + number % 1000}" for number in range(count))


@lru_cache(maxsize=None)
def listing(top: str) -> bytes:
    """What /directories/list answers for a tree: a directory before its content."""
    found: Dict[str, Dict[str, object]] = {}
    for name in tree_names(int(top.rsplit("/", 1)[1])):
        for path, kind in ((f"{top}/{name.split('/')[0]}", "directory"), (f"{top}/{name}", "file")):
            found.setdefault(path, info(path, kind))
    return answer(200, list(found.values()))


def missing(path: str) -> Dict[str, str]:
    return {"code": "FILE_NOT_FOUND", "message": f"file not found. lstat {path}: no such file or directory"}


def sandbox(_port: int) -> Dict[str, object]:
    stamp = "2026-11-22T20:02:06.425903Z"
    return {
        "id": SANDBOX_ID,
        "image": {"uri": "python:3.12"},
        "status": {"state": "Running", "reason": "CONTAINER_RUNNING", "message": "", "lastTransitionAt": stamp},
        "entrypoint": ["tail", "-f", "/dev/null"],
        "expiresAt": "2026-11-22T20:12:06.425903Z",
        "createdAt": stamp,
    }


def endpoint(port: int) -> Dict[str, object]:
    return {"endpoint": f"127.0.0.1:{port}", "headers": {"X-EXECD-ACCESS-TOKEN": "token"}}


def nothing(_port: int) -> None:
    return None


#: verb, does the path match, status, body
PLAIN_ANSWERS: List[Tuple[str, Callable[[str], bool], int, Callable[[int], object]]] = [
    ("GET", lambda path: path == "/ping", 200, nothing),
    ("GET", lambda path: "/endpoints/" in path, 200, endpoint),
    ("GET", lambda path: path == f"/sandboxes/{SANDBOX_ID}", 200, sandbox),
    ("POST", lambda path: path == "/sandboxes", 202, sandbox),
    ("DELETE", lambda path: path.startswith("/sandboxes/"), 204, nothing),
    ("POST", lambda path: path == "/directories", 200, nothing),
    ("POST", lambda path: path == "/session", 200, lambda _port: {"session_id": SESSION_ID}),
    ("DELETE", lambda path: path.startswith("/session/"), 200, nothing),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds before each answer of the second port")
    server = BenchServer(parser.parse_args().latency)
    server.serve()
    port, slow_port = server.ports
    print(json.dumps({"port": port, "slow_port": slow_port, "pid": os.getpid()}), flush=True)
    sys.stdin.read()  # the driver holds the other end: when it is gone, so is this server


if __name__ == "__main__":
    main()
