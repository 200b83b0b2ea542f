"""HTTP's chunked coding, many chunks per pass, compared with one that reads byte by byte."""

from __future__ import annotations

import http.client
import io
from typing import List, Optional, Tuple

import pytest
from hypothesis import given, settings, strategies as st

from opensandbox_sync import ProtocolError
from opensandbox_sync.chunked import Dechunker


def chunks(*contents: bytes, extension: bytes = b"") -> bytes:
    return b"".join(b"%x%s\r\n%s\r\n" % (len(content), extension, content) for content in contents)


def decoded(pieces: List[bytes]) -> Tuple[bytes, bool, bytes]:
    """(content, whether it is whole, what is behind it)"""
    dechunker = Dechunker()
    content, behind = b"", b""
    for piece in pieces:
        if dechunker.done:
            behind += piece
        else:
            content += dechunker.feed(piece)
    return content, dechunker.done, dechunker.excess + behind


def cut_at(data: bytes, places: List[int]) -> List[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in zip(edges, edges[1:])]


def by_the_standard_library(data: bytes) -> Optional[bytes]:
    """What ``http.client`` reads; None where it finds that the body is cut."""

    class Socket:
        def makefile(self, mode: str) -> io.BytesIO:
            return io.BytesIO(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data)

    response = http.client.HTTPResponse(Socket())  # type: ignore[arg-type]
    try:
        response.begin()
        return response.read()
    except http.client.HTTPException:
        return None
    finally:
        response.close()


contents = st.lists(
    st.binary(min_size=1, max_size=40)
    | st.lists(st.sampled_from([b"\r\n", b"1\r\n", b"a", b"0\r\n\r\n", b"\n"]), min_size=1, max_size=6).map(b"".join),
    max_size=12,
)


@given(contents, st.lists(st.integers(0, 5000), max_size=25), st.sampled_from([b"", b";x=1", b" ", b"\t;a"]))
@settings(max_examples=300, deadline=None)
def test_any_cut_of_a_body_gives_its_content(contents: List[bytes], places: List[int], extension: bytes) -> None:
    """Contents that hold line breaks, sizes and whole endings are the ones that a pass over many could mistake."""
    data = chunks(*contents, extension=extension) + b"0\r\n\r\n"
    whole = (b"".join(contents), True, b"")
    assert decoded([data]) == whole
    assert decoded(cut_at(data, places)) == whole
    assert decoded([data[i : i + 1] for i in range(len(data))]) == whole
    assert by_the_standard_library(data) == whole[0]


@given(contents, st.integers(0, 5000))
@settings(max_examples=200, deadline=None)
def test_a_body_that_is_cut_is_never_done(contents: List[bytes], place: int) -> None:
    data = chunks(*contents) + b"0\r\n\r\n"
    content, done, _ = decoded([data[: place % len(data)]])
    assert not done
    assert b"".join(contents).startswith(content)


@given(st.lists(st.binary(max_size=60) | st.sampled_from([b"1\r\na\r\n", b"0\r\n", b"\r\n"]), max_size=8))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_content_or_a_protocol_error(pieces: List[bytes]) -> None:
    data = b"".join(pieces)
    try:
        content, done, excess = decoded([data])
    except ProtocolError:
        with pytest.raises(ProtocolError):
            decoded([data[i : i + 1] for i in range(len(data))])
        return
    assert len(content) + len(excess) <= len(data)
    assert decoded(pieces) == (content, done, excess)


def test_what_is_behind_the_end_is_excess() -> None:
    assert decoded([chunks(b"a") + b"0\r\n\r\nHTTP/1.1"]) == (b"a", True, b"HTTP/1.1")


def test_trailers_end_with_a_blank_line() -> None:
    assert decoded([chunks(b"a") + b"0\r\nDate: x\r\n"]) == (b"a", False, b"")
    assert decoded([chunks(b"a") + b"0\r\nDate: x\r\nB: y\r\n\r\n"]) == (b"a", True, b"")


def test_an_upper_case_size_is_read() -> None:
    assert decoded([b"A\r\n0123456789\r\n0\r\n\r\n"]) == (b"0123456789", True, b"")


@pytest.mark.parametrize("size", [b"", b"-1", b"+1", b"1_0", b"0x1", b"g", b" ", b"1 1", b"f" * 17, b"\xb2"])
def test_a_size_that_is_no_size_is_refused(size: bytes) -> None:
    with pytest.raises(ProtocolError, match="size"):
        decoded([size + b"\r\nabcdefghijklmnop\r\n"])


@pytest.mark.parametrize("cut", [1, 100, 10**6])
def test_the_longest_line_between_chunks_is_the_same_however_it_is_cut(cut: int) -> None:
    for line in (b"1" + b";" * 8191, b"0\r\n" + b"A" * 8192):
        data = line + b"\r\na\r\n"
        decoded([data[i : i + cut] for i in range(0, len(data), cut)])
        data = line + b"A\r\na\r\n"
        with pytest.raises(ProtocolError, match="longer than 8192 bytes"):
            decoded([data[i : i + cut] for i in range(0, len(data), cut)])


def test_a_size_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    dechunker = Dechunker()
    with pytest.raises(ProtocolError):
        for _ in range(100):
            dechunker.feed(b"1" * 1000)


@pytest.mark.parametrize("count", [1, 10])
def test_a_chunk_longer_than_it_says_is_refused(count: int) -> None:
    with pytest.raises(ProtocolError):
        decoded([chunks(*[b"ab"] * count) + b"1\r\nab\r\n" + chunks(*[b"ab"] * count)])


def test_a_chunk_shorter_than_it_says_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decoded([chunks(*[b"ab"] * 9) + b"3\r\nab\r\n" + chunks(*[b"ab"] * 9)])
