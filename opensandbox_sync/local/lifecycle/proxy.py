"""The server's proxy route: any verb to any port of a sandbox, streamed both ways, each piece as it comes."""

from __future__ import annotations

import http.client
import re
import select
import socket
import threading
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple
from urllib.parse import quote, unquote

from ..serving import CLIENT_SOCKET, AbortedError
from .errors import ApiError, DetailError
from .sandboxes import Registry, Sandbox

EXECD_PORT = 44772
EGRESS_PORT = 18080
TOKEN_HEADER = "X-EXECD-ACCESS-TOKEN"
ROUTE = re.compile(
    r"(?:https?://[^/]+)?(?P<prefix>(?:/v1)?/sandboxes/(?P<id>[^/?]+)/proxy/(?P<port>\d+))"
    r"(?P<path>/[^?]*)?(?:\?(?P<query>.*))?",
    re.ASCII | re.DOTALL,
)
VERBS = ("GET", "POST", "PUT", "DELETE", "PATCH")
_TIMEOUT_SECONDS = 180.0
# A backend may close a connection that has been idle for a while; nothing is sent on one older than this.
_REUSE_SECONDS = 2.0
_PIECE = 65536
_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_NOT_FORWARDED = _HOP_BY_HOP | {
    "host",
    "authorization",
    "cookie",
    "expect",
    "content-length",
    "open-sandbox-api-key",
    "opensandbox-secure-access",
    "opensandbox-access-renew",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
}
_NOT_RETURNED = _HOP_BY_HOP | {"server", "x-request-id"}

Environ = Dict[str, Any]


class _Connections:
    """Idle connections to backends, so that a small request costs no new one."""

    def __init__(self) -> None:
        self._idle: Dict[int, List[Tuple[float, http.client.HTTPConnection]]] = {}
        self._lock = threading.Lock()

    def take(self, port: int) -> http.client.HTTPConnection:
        with self._lock:
            idle = self._idle.pop(port, [])
            usable = [entry for entry in idle if time.monotonic() - entry[0] < _REUSE_SECONDS]
            last = usable.pop() if usable else None
            if usable:
                self._idle[port] = usable
        for entry in idle:
            if entry is not last and entry not in usable:
                entry[1].close()
        if last is not None and not _readable([last[1].sock], 0):
            return last[1]
        if last is not None:  # readable while idle: it was closed
            last[1].close()
        return http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)

    def give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._idle.setdefault(connection.port, []).append((time.monotonic(), connection))


def check_port(port: int) -> None:
    if not 1 <= port <= 65535:
        raise ApiError(400, "DOCKER::INVALID_PORT", "Port must be between 1 and 65535.")


class Proxy:
    def __init__(self, registry: Registry, own_port: int) -> None:
        self._registry = registry
        self._own_port = own_port
        self._connections = _Connections()

    def find(self, found: re.Match[str], environ: Environ) -> Sandbox:
        """Returns the sandbox that is asked for; raises what the real server answers instead."""
        if environ["REQUEST_METHOD"] not in VERBS:
            raise DetailError(405, "Method Not Allowed", Allow=", ".join(sorted(VERBS)))
        if environ.get("HTTP_UPGRADE", "").lower() == "websocket":
            raise ApiError(400, "GENERAL::UNKNOWN_ERROR", "Websocket upgrade is not supported yet")
        check_port(int(found["port"]))
        sandbox = self._registry.get(unquote(found["id"]))
        if sandbox.state in ("Terminated", "Failed"):
            message = f"Sandbox {sandbox.id} has ended: it is {sandbox.state}."
            raise ApiError(500, "DOCKER::NETWORK_MODE_ENDPOINT_UNAVAILABLE", message)
        return sandbox

    def forward(
        self, sandbox: Sandbox, found: re.Match[str], environ: Environ, start: Callable[..., Any]
    ) -> Iterable[bytes]:
        port = int(found["port"])
        through_daemon = port != EXECD_PORT and not sandbox.has_network
        if not through_daemon and (port == self._own_port or self._registry.is_daemon_of_another(port, sandbox.id)):
            # In a container it would not be there either. Whoever asks here has shown no key.
            message = f"Could not connect to the backend sandbox 127.0.0.1:{port}: that port is this server's own."
            raise ApiError(502, "BACKEND_CONNECTION_FAILED", message)
        connection = self._connections.take(sandbox.port if port == EXECD_PORT or through_daemon else port)
        within = f"/proxy/{port}" if through_daemon else ""
        if through_daemon:
            environ["HTTP_X_EXECD_ACCESS_TOKEN"] = sandbox.token
        try:
            backend = _send_request(connection, within, found, environ)
            response = connection.getresponse()
        except ConnectionRefusedError as error:
            connection.close()
            message = f"Could not connect to the backend sandbox 127.0.0.1:{port}: {error}"
            raise ApiError(502, "BACKEND_CONNECTION_FAILED", message) from error
        except socket.timeout as error:
            connection.close()
            message = f"The backend sandbox 127.0.0.1:{port} did not respond in time: {error}"
            raise ApiError(504, "BACKEND_TIMEOUT", message) from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            message = (
                f"The backend sandbox 127.0.0.1:{port} dropped the connection or sent an invalid response: {error}"
            )
            raise ApiError(502, "BACKEND_RESPONSE_FAILED", message) from error
        start(f"{response.status} {response.reason}", _returned_headers(response, found["prefix"]))
        return self._body(connection, response, backend, environ[CLIENT_SOCKET])

    def _body(
        self,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        backend: socket.socket,
        client: socket.socket,
    ) -> Iterator[bytes]:
        reusable, last = False, b""
        left: Optional[int] = None if response.chunked else response.length
        try:
            # The length is counted here: read1 of Python 3.8 does not, and none sees that a body is cut.
            while left is None or left > 0:
                if left is None and not _await_piece(backend, response, client):
                    raise AbortedError("the client has gone")
                piece = response.read1(_PIECE if left is None else min(_PIECE, left))
                if not piece:
                    break
                if left is not None:
                    left -= len(piece)
                if left == 0:
                    last = piece
                else:
                    yield piece
            if left:
                raise AbortedError(f"{left} bytes of the body did not come")
            reusable = not response.will_close
        except (OSError, http.client.HTTPException) as error:
            raise AbortedError(str(error)) from error
        finally:
            response.close()
            if reusable:
                self._connections.give_back(connection)
            else:
                connection.close()
        yield last  # only now: its reader may come back at once, and then finds the connection free


def _await_piece(backend: socket.socket, response: http.client.HTTPResponse, client: socket.socket) -> bool:
    """Waits for more of a stream; returns False as soon as its reader has gone: what runs there may be ended."""
    if response.fp is None:
        return True
    backend.settimeout(0)
    buffered = response.fp.peek(1)
    backend.settimeout(_TIMEOUT_SECONDS)
    if response.chunked and buffered in (b"\r", b"\r\n"):
        buffered = b""  # the end of the chunk before; it promises nothing
    watched = [backend, client]
    while not buffered:
        ready = _readable(watched, _TIMEOUT_SECONDS)
        if backend in ready or not ready:
            break  # also when the time is up: the read then says so
        if not client.recv(1, socket.MSG_PEEK):
            return False
        watched = [backend]  # the client has sent its next request already
    return True


def _readable(sockets: List[socket.socket], seconds: float) -> List[socket.socket]:
    poll = select.poll()  # not select(): descriptors may be above 1024
    for sock in sockets:
        poll.register(sock, select.POLLIN)
    found = {descriptor for descriptor, _ in poll.poll(seconds * 1000)}
    return [sock for sock in sockets if sock.fileno() in found]


def _send_request(
    connection: http.client.HTTPConnection, within: str, found: re.Match[str], environ: Environ
) -> socket.socket:
    """Sends the request with its body; returns the backend's socket, which the connection may forget later."""
    target = within + (found["path"] or "/")
    if found["query"] is not None:
        target += "?" + found["query"]
    method = environ["REQUEST_METHOD"]
    # Only bytes that are no URL at all are quoted: an escape the caller chose stays as it is.
    target = quote(target, safe="!\"#$%&'()*+,/:;<=>?@[\\]^`{|}", encoding="latin-1")
    connection.putrequest(method, target, skip_accept_encoding=True)
    for name, value in _forwarded_headers(environ):
        connection.putheader(name, value)
    body = _request_body(environ) if method != "GET" else None
    if body is not None:
        chunked = "CONTENT_LENGTH" not in environ
        connection.putheader(*(("Transfer-Encoding", "chunked") if chunked else _content_length(environ)))
        connection.endheaders()
        try:
            _send(connection, body, chunked)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have answered before it had read everything
    else:
        connection.endheaders()
    backend: socket.socket = connection.sock
    return backend


def _content_length(environ: Environ) -> Tuple[str, str]:
    return "Content-Length", environ["CONTENT_LENGTH"]


def _send(connection: http.client.HTTPConnection, body: Iterator[bytes], chunked: bool) -> None:
    for piece in body:
        connection.send(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
    if chunked:
        connection.send(b"0\r\n\r\n")


def _request_body(environ: Environ) -> Optional[Iterator[bytes]]:
    if environ.get("CONTENT_LENGTH") or environ.get("wsgi.input_terminated"):
        return iter(lambda: environ["wsgi.input"].read(_PIECE), b"")
    return None


def drain(environ: Environ) -> None:
    """Reads what is left of a request's body: the next request on the connection begins behind it."""
    for _ in _request_body(environ) or ():
        pass


def _forwarded_headers(environ: Environ) -> Iterator[Tuple[str, str]]:
    named = {name.strip().lower() for name in environ.get("HTTP_CONNECTION", "").split(",")}
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            name = key[5:].replace("_", "-")
        elif key == "CONTENT_TYPE":
            name = "Content-Type"
        else:
            continue
        if name.lower() not in _NOT_FORWARDED and name.lower() not in named:
            yield name.title(), value
    yield "X-Forwarded-Proto", "http"
    yield "X-Forwarded-Host", environ.get("HTTP_HOST", "")
    yield "X-Forwarded-For", environ.get("REMOTE_ADDR", "")


def _returned_headers(response: http.client.HTTPResponse, prefix: str) -> List[Tuple[str, str]]:
    headers = []
    for name, value in response.getheaders():
        if name.lower() in _NOT_RETURNED:
            continue
        if name.lower() == "location" and value.startswith("/") and not value.startswith("//"):
            value = prefix + value  # a redirect to a root-relative place stays inside the proxy
        headers.append((name, value))
    return headers
