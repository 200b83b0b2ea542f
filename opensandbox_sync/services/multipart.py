"""The body of an upload: multipart/form-data whose length is known, handed to the socket piece by piece."""

from __future__ import annotations

import io
import json
import os
import tempfile
import uuid
from pathlib import Path, PurePath
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from ..errors import InvalidArgumentError, SandboxError

Block = Union[bytes, memoryview]

#: Larger pieces fall out of the cache, and are slower.
BLOCK = 256 * 1024
#: But what is in memory already is sent with fewer calls. Each has the whole of ``idle`` seconds, and no more.
MEMORY_BLOCK = 2**20
_GATHERED = 64 * 1024  # small contents and what stands between them go out together


class BodyFailed(SandboxError):
    """The body could not be made: not a matter of the connection. Its cause is what happened; callers raise that."""


class Source:
    """Bytes to send: their number, and ``blocks()``, which goes through them from the start each time."""

    def __init__(
        self, size: int, blocks: Callable[[], Iterator[Block]], close: Callable[[], None] = lambda: None
    ) -> None:
        self.size = size
        self.blocks = blocks
        self.close = close


def source_of(data: Any, encoding: str) -> Source:
    """What ``data`` holds: text, anything with a buffer, a binary file from its position on, or an iterable of pieces.

    Only an iterable, or a file that cannot seek, is copied: to a temporary file, since its length has to be known.
    """
    if isinstance(data, str):
        data = encoded(data, encoding)
    try:
        view = memoryview(data)
    except TypeError:
        pass
    except ValueError as cause:
        raise InvalidArgumentError(f"data cannot be read: {cause}") from cause  # released, or closed
    else:
        view = view.cast("B") if view.c_contiguous and view.nbytes else memoryview(bytes(view))
        return Source(len(view), lambda: (view[at : at + MEMORY_BLOCK] for at in range(0, len(view), MEMORY_BLOCK)))
    if isinstance(data, io.TextIOBase):
        raise InvalidArgumentError("data is a text file, which changes line ends; open it with 'rb', or pass its text")
    if hasattr(data, "read"):
        if getattr(data, "closed", False) or (hasattr(data, "readable") and not data.readable()):
            raise InvalidArgumentError("data is a file that is closed, or not open for reading")
        return _rest_of(data) or _spooled(_read_pieces(data), encoding)
    if isinstance(data, (PurePath, Mapping)) or not hasattr(data, "__iter__"):
        hint = "; upload() sends a local file" if isinstance(data, PurePath) else ""
        raise InvalidArgumentError(
            f"data must be text, bytes, a binary file or an iterable of pieces, not {type(data).__name__}{hint}"
        )
    return _spooled(iter(data), encoding)


def source_of_file(path: Path, size: int) -> Source:
    """A local file of ``size`` bytes, opened when it is its turn."""

    def blocks() -> Iterator[Block]:
        # Not followed if a link took its place since somebody looked.
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        with io.FileIO(os.open(path, flags), "rb") as file:
            yield from _blocks(file, size)

    return Source(size, blocks)


def encoded(text: str, encoding: str) -> bytes:
    """``text`` as bytes, or an error that names the argument."""
    try:
        return text.encode(encoding)
    except (UnicodeError, LookupError) as cause:
        raise InvalidArgumentError(f"data cannot be written as {encoding!r}: {cause}") from cause


def _rest_of(file: Any) -> Optional[Source]:
    """A binary file from its position on; None where it cannot seek, or gives text."""
    try:
        start = file.tell()
        size = file.seek(0, os.SEEK_END) - start
        file.seek(start)
    except (AttributeError, OSError, ValueError, TypeError):
        return None

    def blocks() -> Iterator[Block]:
        file.seek(start)
        return _blocks(file, max(0, size))

    return Source(max(0, size), blocks)


def _read_pieces(file: Any) -> Iterator[Any]:
    while True:
        piece = file.read(BLOCK)
        if not piece:
            return
        yield piece


def _spooled(pieces: Iterator[Any], encoding: str) -> Source:
    file = tempfile.TemporaryFile()
    try:
        for piece in pieces:
            if isinstance(piece, str):
                piece = encoded(piece, encoding)
            try:
                file.write(piece)
            except TypeError:
                raise InvalidArgumentError(f"data gave {type(piece).__name__} where text or bytes belong") from None
        size = file.tell()
    except BaseException:
        file.close()
        raise

    def blocks() -> Iterator[Block]:
        file.seek(0)
        return _blocks(file, size)

    return Source(size, blocks, file.close)


def _blocks(file: Any, size: int) -> Iterator[Block]:
    """Exactly ``size`` bytes of ``file``; one that became shorter is an error, since its length was promised."""
    buffer = memoryview(bytearray(min(size, BLOCK)))
    left = size
    while left:
        if hasattr(file, "readinto"):
            count = file.readinto(buffer[:left])
            block: Block = buffer[: count or 0]
        else:
            block = file.read(min(left, BLOCK))
        if not block:
            raise InvalidArgumentError(f"a file became {left} bytes shorter while it was sent")
        left -= len(block)
        yield block


class Multipart:
    """An upload's body, to be iterated for its pieces; ``len()`` is its length.

    The daemon pairs the k-th ``metadata`` part with the k-th ``file`` part, and looks only at parts with a file name.
    ``sent`` is told how many bytes of content have left.
    """

    def __init__(
        self, parts: Sequence[Tuple[Dict[str, Any], Source]], sent: Optional[Callable[[int], None]] = None
    ) -> None:
        boundary = uuid.uuid4().hex
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._sent = sent
        self._sources = [source for _, source in parts]
        self._heads = [_head(boundary, metadata) for metadata, _ in parts]
        self._end = f"--{boundary}--\r\n".encode()
        content = sum(source.size + 2 for source in self._sources)
        self._size = sum(map(len, self._heads)) + content + len(self._end)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Block]:
        try:
            yield from self._pieces()
        except Exception as cause:
            # Else the transport would take it for an error of the connection.
            raise BodyFailed("the body could not be made") from cause

    def _pieces(self) -> Iterator[Block]:
        gathered: List[Block] = []
        held = content = 0
        for head, source in zip(self._heads, self._sources):
            gathered.append(head)
            if source.size > _GATHERED:
                yield b"".join(gathered)
                for block in source.blocks():
                    yield block
                    self._tell(len(block))
                gathered = []
            else:
                gathered.extend(map(bytes, source.blocks()))  # a source may use its buffer again
                held += source.size + len(head)
                content += source.size
            gathered.append(b"\r\n")
            if held > _GATHERED:
                yield b"".join(gathered)
                self._tell(content)
                gathered, held, content = [], 0, 0
        yield b"".join([*gathered, self._end])
        self._tell(content)

    def _tell(self, count: int) -> None:
        if self._sent is not None and count:
            self._sent(count)


def _head(boundary: str, metadata: Mapping[str, Any]) -> bytes:
    lines = (
        f"--{boundary}",
        'Content-Disposition: form-data; name="metadata"; filename="metadata"',
        "Content-Type: application/json",
        "",
        json.dumps(metadata),
        f"--{boundary}",
        'Content-Disposition: form-data; name="file"; filename="file"',
        "Content-Type: application/octet-stream",
        "",
        "",
    )
    return "\r\n".join(lines).encode()
