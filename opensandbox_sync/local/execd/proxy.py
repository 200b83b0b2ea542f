"""/proxy/{port}/...: a server inside the sandbox, reached through the daemon."""

from __future__ import annotations

import http.client
import re
from typing import Iterator, Optional, Tuple
from urllib.parse import quote

from flask import Flask, Response, abort, request

from ..serving import AbortedError
from .web import text

VERBS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
PIECE = 65536

# Headers that speak of one connection only, and those that are set anew or kept back on the next.
_HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
_NOT_PASSED = _HOP_BY_HOP | {"content-length", "host", "x-execd-access-token", "x-forwarded-host"}


_PATHS = ("/proxy", "/proxy/", "/proxy//<path:path>", "/proxy/<port>", "/proxy/<port>/", "/proxy/<port>/<path:path>")


def add_to(app: Flask) -> None:
    for path in _PATHS:
        app.add_url_rule(path, "proxy", forward, methods=VERBS, provide_automatic_options=False)


def forward(port: str = "", path: str = "") -> Response:
    if request.path == "/proxy":
        abort(404)
    if not port:
        return text("port is required\n", 400)
    if not (re.fullmatch(r"\d{1,5}", port, re.ASCII) and 0 < int(port) < 65536):
        return text("Bad Gateway\n", 502)
    target = "/" + quote(path, safe="/:@!$&'()*+,;=~")
    if request.query_string:
        target += "?" + request.query_string.decode("latin-1")
    backend = http.client.HTTPConnection("127.0.0.1", int(port))
    try:
        backend.request(request.method, target, _body(), dict(_headers()), encode_chunked=_is_chunked())
        answer = backend.getresponse()
    except (OSError, http.client.HTTPException):
        backend.close()
        return text("Bad Gateway\n", 502)
    headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP]
    response = Response(_pieces(answer), answer.status, headers)
    response.call_on_close(backend.close)
    return response


def _is_chunked() -> bool:
    return request.content_length is None and bool(request.environ.get("wsgi.input_terminated"))


def _body() -> Optional[Iterator[bytes]]:
    if not request.content_length and not _is_chunked():
        return None
    return iter(lambda: request.stream.read(PIECE), b"")


def _headers() -> Iterator[Tuple[str, str]]:
    for name, value in request.headers.items():
        if name.lower() not in _NOT_PASSED:
            yield name, value
    if _is_chunked():
        yield "Transfer-Encoding", "chunked"
    elif request.content_length:
        yield "Content-Length", str(request.content_length)
    yield "X-Forwarded-For", request.remote_addr or ""
    yield "X-Forwarded-Proto", "http"


def _pieces(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """As they come. If the server stops early, so does the answer, without looking whole."""
    left = answer.length
    try:
        while left is None or left > 0:
            piece = answer.read1(PIECE if left is None else min(left, PIECE))
            if not piece:
                break
            left = None if left is None else left - len(piece)
            yield piece
    except (OSError, http.client.HTTPException) as error:
        raise AbortedError(str(error)) from error
    if left:
        raise AbortedError(f"{left} bytes did not come")
