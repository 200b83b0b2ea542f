"""The server's proxy route, against small backends that speak plain bytes."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

from .http_api import Api, call, until


class Backend:
    """Reads whole requests, keeps them, and answers each with what `answer` writes; one thread per connection."""

    def __init__(self, answer: Callable[[socket.socket, bytes], bool]) -> None:
        self.requests: List[bytes] = []
        self.connections = 0
        self.closed = threading.Semaphore(0)
        self._answer = answer
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as incoming, contextlib.suppress(OSError):
            while True:
                request = self._read(incoming)
                if not request:
                    break
                self.requests.append(request)
                if not self._answer(connection, request):
                    break
        self.closed.release()

    @staticmethod
    def _read(incoming: Any) -> bytes:
        head = b"".join(iter(incoming.readline, b"\r\n"))
        length = re.search(rb"(?i)content-length: (\d+)", head)
        body = incoming.read(int(length[1])) if length else b""
        if b"chunked" in head:
            while True:
                line = incoming.readline()
                body += line + incoming.read(int(line, 16) + 2)
                if line == b"0\r\n":
                    break
        return head + b"\r\n" + body if head else b""

    def close(self) -> None:
        self._listening.close()


def plain(connection: socket.socket, _: bytes) -> bool:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    return True


@pytest.fixture
def backend() -> Iterator[Callable[..., Backend]]:
    made: List[Backend] = []

    def make(answer: Callable[[socket.socket, bytes], bool] = plain) -> Backend:
        made.append(Backend(answer))
        return made[-1]

    yield make
    for one in made:
        one.close()


def heads(request: bytes) -> Dict[str, str]:
    lines = request.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def replying(raw: bytes, *, keep: bool = False) -> Callable[[socket.socket, bytes], bool]:
    def answer(connection: socket.socket, _: bytes) -> bool:
        connection.sendall(raw)
        return keep

    return answer


def through(api: Api, sandbox_id: str, port: int, path: str = "") -> str:
    return f"/v1/sandboxes/{sandbox_id}/proxy/{port}{path}"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_path_and_query_arrive_as_they_were_sent(api: Api, sandbox_id: str, backend: Any, method: str) -> None:
    behind = backend()
    path = "/a%2Fb/../c%20d?x=1&x&y=%20+%FF&z=//"
    answer = api.call(method, through(api, sandbox_id, behind.port, path), headers=api.key)
    assert (answer.status, answer.body) == (200, b"ok")
    assert behind.requests[0].split(b"\r\n")[0] == f"{method} {path} HTTP/1.1".encode()


@pytest.mark.parametrize("tail", ["", "/", "?a=b"])
def test_the_bare_port_is_the_root(api: Api, sandbox_id: str, backend: Any, tail: str) -> None:
    behind = backend()
    assert api.call("GET", through(api, sandbox_id, behind.port, tail), key=False).status == 200
    query = tail if tail.startswith("?") else ""
    assert behind.requests[0].startswith(f"GET /{query} HTTP/1.1\r\n".encode())


def test_secrets_and_hop_headers_stay_here_and_the_others_go_on(api: Api, sandbox_id: str, backend: Any) -> None:
    behind = backend()
    kept = {"X-Mine": "1", "Accept": "a/b", "OpenSandbox-Egress-Auth": "t", "X-Execd-Access-Token": "u"}
    dropped = {
        "Authorization": "Bearer x",
        "Cookie": "a=b",
        "OpenSandbox-Secure-Access": "s",
        "OpenSandbox-Access-Renew": "skip",
        "Forwarded": "for=9.9.9.9",
        "X-Forwarded-Port": "1",
        "X-Real-IP": "9.9.9.9",
        "Connection": "X-Named",
        "X-Named": "1",
        "Keep-Alive": "timeout=1",
        "TE": "trailers",
    }
    rewritten = {"X-Forwarded-For": "9.9.9.9", "X-Forwarded-Host": "evil", "X-Forwarded-Proto": "https"}
    api.call("GET", through(api, sandbox_id, behind.port), headers={**kept, **dropped, **rewritten})
    seen = heads(behind.requests[0])
    assert seen.items() >= {name.lower(): value for name, value in kept.items()}.items()
    assert not {name.lower() for name in (*dropped, *api.key)} & set(seen) - {"connection"}
    assert (seen["x-forwarded-for"], seen["x-forwarded-host"]) == ("127.0.0.1", api.address)
    assert (seen["x-forwarded-proto"], seen["host"]) == ("http", f"127.0.0.1:{behind.port}")


def test_a_page_of_an_application_may_call_it_through_the_proxy(api: Api, sandbox_id: str, backend: Any) -> None:
    behind = backend()
    answer = api.call("GET", through(api, sandbox_id, behind.port), headers={"Origin": "http://x"}, key=False)
    assert answer.status == 200
    assert heads(behind.requests[0])["origin"] == "http://x"


def test_answer_headers_come_back_but_for_hop_headers_and_redirects_stay_inside(
    api: Api, sandbox_id: str, backend: Any
) -> None:
    behind = backend(
        replying(
            b"HTTP/1.1 302 Found\r\nLocation: /login?x=1\r\nServer: theirs\r\nX-Request-ID: theirs\r\n"
            b"Connection: X-Hop\r\nDate: Sun, 22 Nov 2020 22:52:35 GMT\r\nX-A: 1\r\nContent-Length: 0\r\n\r\n"
        )
    )
    answer = api.call("GET", through(api, sandbox_id, behind.port, "/deep"), headers={"X-Request-ID": " mine "})
    assert answer.status == 302
    assert answer.headers["location"] == through(api, sandbox_id, behind.port, "/login?x=1")
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["date"] == "Sun, 22 Nov 2020 22:52:35 GMT"
    assert answer.headers["server"] != "theirs"
    assert answer.headers["x-a"] == "1"
    assert "connection" not in answer.headers


def test_a_streamed_answer_arrives_piece_by_piece(api: Api, sandbox_id: str, backend: Any) -> None:
    steps: List[threading.Event] = [threading.Event() for _ in range(3)]

    def answer(connection: socket.socket, _: bytes) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number, step in enumerate(steps):
            connection.sendall(b"3\r\nn=%d\r\n" % number)
            if not step.wait(20):
                return False
        connection.sendall(b"0\r\n\r\n")
        return True

    behind = backend(answer)
    connection = http.client.HTTPConnection(api.address, timeout=20)
    connection.request("GET", through(api, sandbox_id, behind.port))
    response = connection.getresponse()
    for number, step in enumerate(steps):
        assert response.read1(100) == b"n=%d" % number
        step.set()
    assert response.read() == b""
    connection.close()


def test_a_stream_without_chunks_arrives_piece_by_piece(api: Api, sandbox_id: str, backend: Any) -> None:
    go = threading.Event()

    def answer(connection: socket.socket, _: bytes) -> bool:
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\none")
        go.wait(20)
        connection.sendall(b"two")
        return False

    behind = backend(answer)
    connection = http.client.HTTPConnection(api.address, timeout=20)
    connection.request("GET", through(api, sandbox_id, behind.port))
    response = connection.getresponse()
    assert response.read1(100) == b"one"
    go.set()
    assert response.read() == b"two"
    connection.close()


def test_a_reader_that_leaves_a_silent_stream_is_noticed_at_once(api: Api, sandbox_id: str, backend: Any) -> None:
    closed = threading.Event()

    def answer(connection: socket.socket, _: bytes) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        connection.settimeout(20)
        if not connection.recv(1):
            closed.set()
        return False

    behind = backend(answer)
    connection = http.client.HTTPConnection(api.address, timeout=20)
    connection.request("GET", through(api, sandbox_id, behind.port))
    response = connection.getresponse()
    assert response.read1(1) == b"x"
    response.close()
    connection.close()
    assert closed.wait(20)


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_is_streamed_whole(api: Api, sandbox_id: str, backend: Any, chunked: bool) -> None:
    behind = backend()
    body = bytes(range(256)) * 4096
    connection = http.client.HTTPConnection(api.address, timeout=20)
    if chunked:
        pieces = iter([body[:100], body[100:]])
        connection.request("POST", through(api, sandbox_id, behind.port), pieces, encode_chunked=True)
    else:
        connection.request("POST", through(api, sandbox_id, behind.port), body)
    assert connection.getresponse().read() == b"ok"
    raw = behind.requests[0].split(b"\r\n\r\n", 1)[1]
    assert (_unchunked(raw) if chunked else raw) == body
    connection.request("GET", "/health")  # the same connection goes on where the upload ended
    assert connection.getresponse().read() == b'{"status":"healthy"}'
    connection.close()


def _unchunked(raw: bytes) -> bytes:
    whole = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        whole, raw = whole + raw[: int(size, 16)], raw[int(size, 16) + 2 :]
    return whole


def test_small_requests_share_one_connection_to_the_backend(api: Api, sandbox_id: str, backend: Any) -> None:
    behind = backend()
    for _ in range(5):
        assert api.call("GET", through(api, sandbox_id, behind.port)).body == b"ok"
    assert (behind.connections, len(behind.requests)) == (1, 5)


def test_a_connection_that_the_backend_has_closed_is_not_used_again(api: Api, sandbox_id: str, backend: Any) -> None:
    behind = backend(replying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    for _ in range(5):
        assert api.call("POST", through(api, sandbox_id, behind.port), b"x").body == b"ok"
        assert behind.closed.acquire(timeout=20)
    assert behind.connections == 5


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
    ],
)
def test_an_answer_that_is_cut_is_cut_here_too(api: Api, sandbox_id: str, backend: Any, raw: bytes) -> None:
    behind = backend(replying(raw))
    with pytest.raises(http.client.IncompleteRead) as cut:
        api.call("GET", through(api, sandbox_id, behind.port))
    assert cut.value.partial == b"short"


@pytest.mark.parametrize("raw", [b"", b"garbage\r\n\r\n"])
def test_a_backend_that_says_nothing_sensible_is_a_bad_gateway(
    api: Api, sandbox_id: str, backend: Any, raw: bytes
) -> None:
    behind = backend(replying(raw))
    answer = api.call("GET", through(api, sandbox_id, behind.port))
    assert (answer.status, answer.json["code"]) == (502, "BACKEND_RESPONSE_FAILED")


def test_a_port_where_nobody_listens_is_a_bad_gateway_and_the_upload_is_read(
    api: Api, sandbox_id: str, backend: Any
) -> None:
    behind = backend()
    behind.close()
    until(lambda: _refuses(behind.port), "the closed port")
    connection = http.client.HTTPConnection(api.address, timeout=20)
    for body in (b"x" * 100000, iter([b"x" * 100000])):
        connection.request("POST", through(api, sandbox_id, behind.port), body, encode_chunked=True)
        response = connection.getresponse()
        assert response.status == 502
        assert b'"code":"BACKEND_CONNECTION_FAILED"' in response.read()
    connection.close()


def _refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_ports_of_the_server_itself_are_not_there(api: Api, sandbox_id: str) -> None:
    """The route wants no key, and nothing of the server listens inside a container."""
    own = api.execd(sandbox_id).address.rpartition(":")[2]
    with api.sandbox() as other:
        for port in (api.address.rpartition(":")[2], api.execd(other).address.rpartition(":")[2]):
            answer = api.call("GET", f"/v1/sandboxes/{sandbox_id}/proxy/{port}/ping", key=False)
            assert (answer.status, answer.json["code"]) == (502, "BACKEND_CONNECTION_FAILED")
            assert "this server's own" in answer.json["message"]
        assert api.call("GET", f"/v1/sandboxes/{sandbox_id}/proxy/{own}/ping", key=False).status == 200


def test_a_backend_that_keeps_silent_is_a_gateway_timeout(
    backend: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from opensandbox_sync.local.lifecycle import proxy

    monkeypatch.setattr(proxy, "_TIMEOUT_SECONDS", 0.05)
    with _control_plane(tmp_path) as (address, sandbox_id):
        release = threading.Event()
        behind = backend(lambda connection, _: release.wait(20) and False)
        answer = call(address, "GET", f"/sandboxes/{sandbox_id}/proxy/{behind.port}/")
        release.set()
        assert (answer.status, answer.json["code"]) == (504, "BACKEND_TIMEOUT")


@contextlib.contextmanager
def _control_plane(base: Path) -> Iterator[Tuple[str, str]]:
    """A control plane inside this process, with one sandbox."""
    from opensandbox_sync.local.lifecycle.app import ControlPlane
    from opensandbox_sync.local.lifecycle.sandboxes import Registry
    from opensandbox_sync.local.lifecycle.snapshots import SnapshotStore
    from opensandbox_sync.local.serving import Server

    registry = Registry(base)
    listening = socket.create_server(("127.0.0.1", 0))
    app = ControlPlane(
        registry, SnapshotStore(base), port=listening.getsockname()[1], api_key="k", allowed_host_paths=[]
    )
    sandbox_id = registry.create({}, None).id
    server = Server(listening, app)
    serving = threading.Thread(target=server.start)
    serving.start()
    try:
        yield "{}:{}".format(*listening.getsockname()), sandbox_id
    finally:
        registry.close()
        server.stop()
        serving.join()


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE"])
def test_other_verbs_are_not_proxied(api: Api, sandbox_id: str, backend: Any, method: str) -> None:
    answer = api.call(method, through(api, sandbox_id, backend().port))
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET, PATCH, POST, PUT")


@pytest.mark.parametrize("tail", ["x", "x/", "1.5/a", "x/a/b?c"])
def test_a_port_is_a_number(api: Api, tail: str) -> None:
    answer = api.call("GET", f"/v1/sandboxes/x/proxy/{tail}")
    (detail,) = answer.json["detail"]
    assert (answer.status, detail["type"], detail["loc"]) == (422, "int_parsing", ["path", "port"])
    assert api.call("GET", "/v1/sandboxes/x/proxy/-1/").json["code"] == "DOCKER::INVALID_PORT"


def test_an_unknown_sandbox_is_named_as_it_was_meant(api: Api) -> None:
    answer = api.call("GET", "/v1/sandboxes/a%20%C3%A9/proxy/80/")
    assert answer.json == {"code": "DOCKER::SANDBOX_NOT_FOUND", "message": "Sandbox a é not found."}


def test_websockets_are_not_proxied(api: Api, sandbox_id: str, backend: Any) -> None:
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    answer = api.call("GET", through(api, sandbox_id, backend().port), headers=headers)
    assert (answer.status, answer.json["code"]) == (400, "GENERAL::UNKNOWN_ERROR")
