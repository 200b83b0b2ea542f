"""HTTP chunks -> body bytes, many chunks per pass. Pure: no I/O.

``http.client`` reads each chunk with several calls of its own; with one event per chunk that costs more than all the
rest. RFC 9112 §7.1 is the format.
"""

from __future__ import annotations

from itertools import takewhile
from typing import List

from .errors import ProtocolError

_MAX_LINE = 8192


class Dechunker:
    """Feed it a chunked body's bytes, take the content; ``done`` once the final chunk and its trailers are in."""

    def __init__(self) -> None:
        self.done = False
        #: Bytes behind the end of the body: the connection is out of step and cannot be used again.
        self.excess = b""
        #: The content that stood before the error which ``feed`` raised: it may be the result of a run.
        self.before = b""
        self._rest = b""  # a size line, CRLF or trailer that is not all there yet
        self._left = 0  # bytes of the current chunk still to come
        self._in_trailers = False
        self._after_data = False  # the CRLF that closes a chunk is due

    def feed(self, data: bytes) -> bytes:
        """The content that ``data`` brings; raises ``ProtocolError`` where it is not chunked coding."""
        if self._left > len(data):
            self._left -= len(data)
            return data
        out: List[bytes] = []
        try:
            self._feed(data, out)
        except ProtocolError:
            self.before = b"".join(out)
            raise
        return b"".join(out)

    def _feed(self, data: bytes, out: List[bytes]) -> None:
        if self._rest:
            data, self._rest = self._rest + data, b""
        at, many = 0, True
        while at < len(data) and not self.done:
            if self._left:
                piece = data[at : at + self._left]
                out.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._after_data = not self._left
                continue
            if many and not self._after_data and not self._in_trailers:
                many = False  # what it leaves, it would leave again
                at = self._many(data, at, out)
                continue
            end = data.find(b"\r\n", at)
            if (end if end >= 0 else len(data) - 1) - at > _MAX_LINE:  # - 1: half of its end may be there
                raise ProtocolError(f"a line between chunks is longer than {_MAX_LINE} bytes")
            if end < 0:
                self._rest = data[at:]
                return
            self._line(data[at:end])
            at = end + 2
        self.excess = data[at:] if self.done else b""

    def _many(self, data: bytes, at: int, out: List[bytes]) -> int:
        """Take the whole chunks from ``at`` on in one pass where that is sure to be right; return where it stopped.

        Splitting at CRLF gives size, content, size, content …, unless a content holds a CRLF itself. Every size is
        compared with the length of its content, so a wrong guess shows, and the careful loop reads on from there.
        """
        parts = data[at:].split(b"\r\n") if at else data.split(b"\r\n")
        whole = (len(parts) - 1) // 2 * 2
        sizes, contents = parts[0:whole:2], parts[1:whole:2]
        lengths = list(map(len, contents))
        usual = {length: b"%x" % length for length in set(lengths)}
        if 0 in usual or sizes != list(map(usual.__getitem__, lengths)):
            right = list(takewhile(lambda pair: _fits(pair[0], len(pair[1])), zip(sizes, contents)))
            contents = [content for _, content in right]
            whole = 2 * len(contents)
        out.extend(contents)
        return len(data) - len(b"\r\n".join(parts[whole:]))

    def _line(self, line: bytes) -> None:
        if self._after_data:
            if line:
                raise ProtocolError("a chunk is longer than it said")
            self._after_data = False
        elif self._in_trailers:
            self.done = not line
        else:
            self._left = _size(line)
            self._in_trailers = not self._left


def _fits(size: bytes, length: int) -> bool:
    """Whether this is the size line of a content of that length; an empty one ends the body."""
    try:
        return 0 < length == _size(size) and len(size) <= _MAX_LINE
    except ProtocolError:
        return False  # a piece of content where the guess saw a size


def _size(line: bytes) -> int:
    digits = line.split(b";", 1)[0].strip(b" \t")
    # int() takes signs, underscores and white space, which HTTP does not.
    if not digits or len(digits) > 16 or digits.strip(b"0123456789abcdefABCDEF"):
        raise ProtocolError(f"a chunk's size line reads {line[:40]!r}")
    return int(digits, 16)
