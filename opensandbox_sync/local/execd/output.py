"""What a foreground command says, read live from its pipes.

The shell's end is the end of the output, also where a child keeps the pipes open; what such a child says later is
read and thrown away, so that it is not killed by a broken pipe. The same holds when the reader of the stream has gone.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import threading
import time
from typing import Dict, Iterator, List

from .events import PING_SECONDS, LineSplitter, output_frames, ping

READ_SIZE = 65536
# How long a lone carriage return waits for its line feed.
HOLD_SECONDS = 0.05


class _Pipe:
    """How the bytes of one pipe become frames."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.lines = LineSplitter()

    def frames(self, texts: List[bytes]) -> bytes:
        return output_frames(self._kind, texts)

    def rest(self, handle: int) -> Iterator[bytes]:
        """What is in the pipe now: a child that lives on may go on writing for ever."""
        left = struct.unpack("i", fcntl.ioctl(handle, termios.FIONREAD, bytes(4)))[0]
        while left > 0:
            data = os.read(handle, min(left, READ_SIZE))
            left = left - len(data) if data else 0
            yield self.frames(self.lines.feed(data))
        yield self.frames(self.lines.end())


class Output:
    """Both pipes of a command, and a third one that tells its end."""

    def __init__(self) -> None:
        self._open: Dict[int, _Pipe] = {}
        self.stdout, self.stderr = self._pipe("stdout"), self._pipe("stderr")
        self._ended, self._end = os.pipe()

    def _pipe(self, kind: str) -> int:
        reader, writer = os.pipe()
        self._open[reader] = _Pipe(kind)
        return writer

    def given(self) -> None:
        """The command has the writing ends now, if it was started."""
        os.close(self.stdout)
        os.close(self.stderr)

    def end(self) -> None:
        """The command has ended."""
        os.close(self._end)

    def close(self) -> None:
        """Nobody reads any more; whoever still writes may go on doing so."""
        os.close(self._ended)
        for handle in self._open:
            threading.Thread(target=_swallow, args=(handle,), name="swallow", daemon=True).start()
        self._open.clear()

    def frames(self) -> Iterator[bytes]:
        """Frames as they come, with pings, until the command has ended and all it said was read."""
        poll = select.poll()
        for handle in (self._ended, *self._open):
            poll.register(handle, select.POLLIN)
        next_ping = time.monotonic() + PING_SECONDS
        while True:
            held = any(pipe.lines.holds_return for pipe in self._open.values())
            seconds = min(next_ping - time.monotonic(), HOLD_SECONDS if held else PING_SECONDS)
            ready = {handle for handle, _ in poll.poll(max(0.0, seconds) * 1000)}
            frames = b"".join([self._read(handle, poll) for handle in list(self._open) if handle in ready])
            if not ready:
                frames = b"".join([pipe.frames(pipe.lines.idle()) for pipe in self._open.values()])
            if frames:
                yield frames
            if self._ended in ready:
                break
            if time.monotonic() >= next_ping:
                next_ping += PING_SECONDS
                yield ping()
        for handle, pipe in self._open.items():
            yield from pipe.rest(handle)

    def _read(self, handle: int, poll: select.poll) -> bytes:
        pipe = self._open[handle]
        data = os.read(handle, READ_SIZE)
        if data:
            return pipe.frames(pipe.lines.feed(data))
        poll.unregister(handle)
        os.close(handle)
        del self._open[handle]
        return pipe.frames(pipe.lines.end())


def _swallow(handle: int) -> None:
    while os.read(handle, READ_SIZE):
        pass
    os.close(handle)
