"""The start of an answer, read in one go, is what ``http.client`` reads of it."""

from __future__ import annotations

import http.client
import socket
from typing import Any, List

import pytest
from hypothesis import given, settings, strategies as st

from opensandbox_sync import connections


class Connection:
    """As much of a connection as a response needs."""

    def __init__(self) -> None:
        self.limit = connections.Limit(None, 5.0)
        self.used_at = 0.0


def begun(data: bytes, method: str) -> List[Any]:
    """What an answer that begins with ``data`` is taken for, and the body behind it; or the error."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        response = connections._Response(ours, method=method, connection=Connection())
        try:
            response.begin()
            fields = [response.version, response.status, response.reason, response.headers.items()]
            return [*fields, response.chunked, response.length, response.will_close, response.fp.read()]
        except (http.client.HTTPException, ValueError, OSError) as error:
            return [type(error)]
        finally:
            response.close()


def both_ways(data: bytes, method: str = "GET") -> List[Any]:
    at_once = begun(data, method)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "SHORT_WAY", False)
        assert at_once == begun(data, method)
    return at_once


HEADS = [
    "HTTP/1.1 200 OK",
    "HTTP/1.1 200",
    "HTTP/1.1 200 ",
    "HTTP/1.1 404 Not  Found ",
    "HTTP/1.1 204 No Content",
    "HTTP/1.1 304 Not Modified",
    "HTTP/1.0 200 OK",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
    "HTTP/1.1 99 x",
    "HTTP/1.1 abc x",
    "HTTP/2 200 OK",
    "ICY 200 OK",
    "220 mail",
    "",
]
HEADERS = [
    "Content-Length: 3",
    "content-length:3",
    "Content-Length: 3\r\nContent-Length: 3",
    "Content-Length: 3\r\nContent-Length: 4",
    "Content-Length: -1",
    "Content-Length: x",
    "Content-Length: \xb2",
    "Content-Length:",
    "Content-Length: 3\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: CHUNKED",
    "Transfer-Encoding: gzip, chunked",
    "Connection: close",
    "Connection: Keep-Alive, Close\r\nContent-Length: 3",
    "X-Folded: a\r\n b\r\nContent-Length: 3",
    "No colon\r\nContent-Length: 3",
    "X Space: a\r\nContent-Length: 3",
    "X-Latin: caf\xe9\r\nContent-Length: 3",
    "X-Empty:\r\nContent-Length: 3",
    "X-NUL: a\0b\r\nContent-Length: 3",
    "\r\n".join(f"X-{number}: {number}" for number in range(90)),
    "\r\n".join(f"X-{number}: {number}" for number in range(120)),
    "X-Long: " + "a" * 7000,
    "X-Longer: " + "a" * 70000,
    "X-Twice: a\r\nX-Twice: b\r\nContent-Length: 3",
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("head", HEADS)
def test_the_start_of_an_answer_is_the_same_in_both_ways(head: str, method: str) -> None:
    for headers in HEADERS:
        for data in (f"{head}\r\n{headers}\r\n\r\nabc", f"{head}\r\n{headers}\r\n\r\n", f"{head}\r\n{headers}\r\n"):
            both_ways(data.encode("latin-1"), method)
    both_ways(f"{head}\n{HEADERS[0]}\n\nabc".encode(), method)


@given(st.lists(st.sampled_from([*HEADS, *HEADERS[:-3], "", "a: b", " c"]), max_size=5), st.integers(0, 200))
@settings(max_examples=300, deadline=None)
def test_any_start_of_an_answer_is_the_same_in_both_ways(lines: List[str], cut: int) -> None:
    data = "\r\n".join([HEADS[0], *lines, "", "abc"]).encode("latin-1")
    both_ways(data)
    both_ways(data[:cut])


def test_a_plain_answer_is_read_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("http.client was asked")

    monkeypatch.setattr(http.client.HTTPResponse, "begin", never)
    found = begun(b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 3\r\n\r\nabc", "GET")
    assert found == [11, 200, "OK", [("X-A", "b"), ("Content-Length", "3")], False, 3, False, b"abc"]
