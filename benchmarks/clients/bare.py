"""The limit: ``http.client`` for small calls, a bare socket for streams and files, ``json.loads`` for each event.

It checks statuses and nothing else. It knows no retry, no deadline, no error of its own.
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Tuple

from clients import SANDBOX_ID, files_below, keep

if TYPE_CHECKING:
    from pathlib import Path

_BOUNDARY = b"bare-socket-boundary"


class Client:
    def __init__(self, address: str) -> None:
        self._address = address
        self._http = http.client.HTTPConnection(address)
        self._socket: Optional[socket.socket] = None

    def info(self) -> str:
        return str(json.loads(self._call("GET", f"/v1/sandboxes/{SANDBOX_ID}"))["id"])

    def attach(self) -> None:
        host, port = self._address.split(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb", 1 << 16)

    def ping(self) -> bool:
        return self._call("GET", "/ping") == b""

    def true(self) -> Tuple[str, Optional[int]]:
        return self._small("/command", "true")

    def session(self) -> Callable[[], Tuple[str, Optional[int]]]:
        session_id = json.loads(self._call("POST", "/session", b"{}"))["session_id"]
        return lambda: self._small(f"/session/{session_id}/run", "true")

    def run(self, command: str) -> Tuple[str, Optional[int]]:
        texts: List[str] = []
        code = self.callback(command, texts.append)
        return "".join(texts), code

    def callback(self, command: str, on_text: Callable[[str], None]) -> Optional[int]:
        body = json.dumps({"command": command}).encode()
        self._send("POST /command HTTP/1.1", b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        code = None
        for frames in self._chunks():
            for frame in frames:
                event = json.loads(frame)
                if event["type"] == "stdout":
                    on_text(event["text"])
                elif event["type"] == "execution_complete":
                    code = 0
            if code == 0 and command == "tail":  # the rest comes a second later: a new connection is cheaper
                self.close()
                self.attach()
                break
        return code

    iterate = callback

    def upload_bytes(self, path: str, data: bytes) -> None:
        self._upload(path, len(data), [data])

    def upload_file(self, path: str, local: Path) -> None:
        with local.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            self._upload(path, size, iter(lambda: file.read(1 << 18), b""))

    def download_bytes(self, path: str) -> int:
        data = bytearray(self._download(path))
        self._file.readinto(data)
        return len(data)

    def download_iter(self, path: str) -> int:
        return sum(map(len, self._pieces(path)))

    def download_file(self, path: str, local: Path) -> None:
        with local.open("wb") as file:
            for piece in self._pieces(path):
                file.write(piece)

    def upload_tree(self, local: Path, path: str) -> None:
        for name, file in files_below(local):
            content = file.read_bytes()
            self._upload(f"{path}/{name}", len(content), [content])

    def download_tree(self, path: str, local: Path) -> None:
        for entry in json.loads(self._call("GET", f"/directories/list?path={path}&depth=99")):
            if entry["type"] == "file":
                content = self._file.read(self._download(entry["path"]))
                keep(local, entry["path"][len(path) + 1 :], content)

    def lifecycle(self) -> Optional[int]:
        body = json.dumps(
            {
                "image": {"uri": "python:3.12"},
                "entrypoint": ["tail", "-f", "/dev/null"],
                "timeout": 600,
                "resourceLimits": {"cpu": "1", "memory": "2Gi"},
            }
        ).encode()
        sandbox_id = json.loads(self._call("POST", "/v1/sandboxes", body))["id"]
        self._call("GET", f"/v1/sandboxes/{sandbox_id}/endpoints/44772")
        self.ping()
        code = self.true()[1]
        self._call("DELETE", f"/v1/sandboxes/{sandbox_id}")
        return code

    def for_thread(self) -> Client:
        return Client(self._address)

    def close(self) -> None:
        self._http.close()
        if self._socket is not None:
            self._file.close()
            self._socket.close()

    def _call(self, method: str, path: str, body: Optional[bytes] = None) -> bytes:
        self._http.request(method, path, body, {"OPEN-SANDBOX-API-KEY": "bench"})
        response = self._http.getresponse()
        if response.status >= 300:
            raise OSError(response.status)
        return response.read()

    def _small(self, path: str, command: str) -> Tuple[str, Optional[int]]:
        """One short stream through ``http.client``, left at its terminal event unless all of it is there."""
        self._http.request("POST", path, json.dumps({"command": command}))
        response = self._http.getresponse()
        for line in iter(response.readline, b""):
            if line != b"\n" and json.loads(line)["type"] == "execution_complete":
                if command == "tail":
                    self._http.close()
                else:
                    response.read()
                return "", 0
        raise OSError("the stream was cut")

    def _send(self, head: str, body: bytes = b"") -> Dict[bytes, bytes]:
        """Sends a request; the headers of its answer."""
        assert self._socket is not None
        self._socket.sendall(f"{head}\r\nHost: {self._address}\r\n".encode() + body)
        return self._headers()

    def _headers(self) -> Dict[bytes, bytes]:
        if b" 200 " not in self._file.readline():
            raise OSError("refused")
        headers = {}
        for line in iter(self._file.readline, b"\r\n"):
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        return headers

    def _chunks(self) -> Iterator[List[bytes]]:
        """The frames of each chunk; a chunk that is one frame is not copied."""
        read, readline = self._file.read, self._file.readline
        rest = b""
        for line in iter(readline, b"0\r\n"):
            data = rest + read(int(line, 16))
            if readline() != b"\r\n":
                raise OSError("a chunk is cut")
            if data.find(b"\n\n") == len(data) - 2:
                frames, rest = [data], b""
            else:
                frames = data.split(b"\n\n")
                rest = frames.pop()
            yield frames
        readline()

    def _upload(self, path: str, size: int, pieces: Any) -> None:
        assert self._socket is not None
        part = b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n'
        head = part % (_BOUNDARY, b"metadata", b"metadata") + json.dumps({"path": path}).encode() + b"\r\n"
        head += part % (_BOUNDARY, b"file", b"file")
        tail = b"\r\n--%s--\r\n" % _BOUNDARY
        self._socket.sendall(
            b"POST /files/upload HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n"
            b"Content-Type: multipart/form-data; boundary=%s\r\n\r\n" % (len(head) + size + len(tail), _BOUNDARY) + head
        )
        for piece in pieces:
            self._socket.sendall(piece)
        self._socket.sendall(tail)
        self._headers()

    def _download(self, path: str) -> int:
        """Asks for a file; its size. The bytes are next on the socket."""
        return int(self._send(f"GET /files/download?path={path} HTTP/1.1", b"\r\n")[b"content-length"])

    def _pieces(self, path: str) -> Iterator[bytes]:
        left = self._download(path)
        while left:
            piece = self._file.read1(min(left, 1 << 16))
            if not piece:
                raise OSError("the file is cut")
            left -= len(piece)
            yield piece
