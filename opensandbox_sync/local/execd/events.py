"""The event stream: what one frame looks like, and how bytes of output become frames.

A frame is bare JSON and an empty line, no `data:`. Its keys come in this order, and a zero value has no key:
type, text, execution_count, execution_time, timestamp, results, error.
"""

from __future__ import annotations

import json
import time
from typing import Any, Dict, List, Optional

from .web import dumps

PING_SECONDS = 3.0
# A longer text without a line end is sent in pieces. Worst case (six bytes a character) it stays below the
# 64 MiB that readers accept.
LONGEST_TEXT = 10 * 1024 * 1024

_quote = json.encoder.encode_basestring_ascii


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def frame(
    kind: str,
    text: str = "",
    *,
    execution_count: int = 0,
    execution_time: int = 0,
    results: Optional[Dict[str, Any]] = None,
    error: Optional[Dict[str, Any]] = None,
) -> bytes:
    fields = {
        "type": kind,
        "text": text,
        "execution_count": execution_count,
        "execution_time": execution_time,
        "timestamp": now_ms(),
        "results": results,
        "error": error,
    }
    return dumps({name: value for name, value in fields.items() if value}).encode() + b"\n\n"


def ping() -> bytes:
    return frame("ping", "pong")


def error_frame(name: str, value: str, traceback: Optional[List[str]]) -> bytes:
    return frame("error", error={"ename": name, "evalue": value, "traceback": traceback})


def late_failure(message: str) -> bytes:
    """An error told in a stream that has begun: without a type, and without its empty line."""
    return dumps({"code": "RUNTIME_ERROR", "message": message}).encode()


def output_frames(kind: str, texts: List[bytes]) -> bytes:
    """One frame for each text, joined: what was read together is sent together."""
    head = f'{{"type":"{kind}","text":'
    tail = f',"timestamp":{now_ms()}}}\n\n'
    return "".join([head + _quote(item.decode("utf-8", "replace")) + tail for item in texts]).encode("ascii")


class LineSplitter:
    """Bytes in, whole lines out, each with its own line end (`\\n`, `\\r` or `\\r\\n`)."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> List[bytes]:
        """The lines that `data` completes. A line that ends in `\\r` waits: the `\\n` may be on its way."""
        if b"\n" not in data and b"\r" not in data and not self.holds_return:
            self._pending += data
            return self._cut()
        lines = (bytes(self._pending) + data).splitlines(True)
        self._pending = bytearray() if lines[-1].endswith(b"\n") else bytearray(lines.pop())
        return lines

    @property
    def holds_return(self) -> bool:
        return self._pending.endswith(b"\r")

    def idle(self) -> List[bytes]:
        """What need not wait when nothing more came: a progress bar ends its redraws with `\\r`."""
        return self.end() if self.holds_return else []

    def end(self) -> List[bytes]:
        """The last line, which may have no end."""
        rest, self._pending = bytes(self._pending), bytearray()
        return [rest] if rest else []

    def _cut(self) -> List[bytes]:
        if len(self._pending) < LONGEST_TEXT:
            return []
        end = len(self._pending)
        while end > len(self._pending) - 4 and self._pending[end - 1] & 0xC0 == 0x80:
            end -= 1
        if self._pending[end - 1] >= 0xC0:  # the first byte of a character stays with the rest of it
            end -= 1
        piece = bytes(self._pending[:end])
        del self._pending[:end]
        return [piece]
