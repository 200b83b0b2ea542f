"""An upload's body."""

from __future__ import annotations

import email.parser
import email.policy
import io
import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from hypothesis import given, settings, strategies as st
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from opensandbox_sync.errors import InvalidArgumentError
from opensandbox_sync.services.multipart import (
    BLOCK,
    MEMORY_BLOCK,
    BodyFailed,
    Multipart,
    Source,
    source_of,
    source_of_file,
)


def of(data: Any) -> Source:
    return source_of(data, "utf-8")


def parsed(body: Multipart) -> List[Tuple[Dict[str, Any], bytes]]:
    """What a server finds in it."""
    sent = b"".join(body)
    assert len(sent) == len(body)
    builder = EnvironBuilder(method="POST", input_stream=io.BytesIO(sent), content_type=body.content_type)
    builder.content_length = len(sent)
    with Request(builder.get_environ()) as request:
        described = [json.loads(part.read()) for part in request.files.getlist("metadata")]
        return list(zip(described, [part.read() for part in request.files.getlist("file")]))


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=300)), max_size=5))
def test_a_server_finds_what_was_sent(entries: List[Tuple[str, bytes]]) -> None:
    body = Multipart([({"path": path}, of(content)) for path, content in entries])
    assert parsed(body) == [({"path": path}, content) for path, content in entries]


def test_large_and_small_contents_go_out_in_order() -> None:
    contents = [b"a", b"b" * 100_000, b"", b"c" * (3 * BLOCK + 1), *(b"%d" % n * 20_000 for n in range(9)), b"end"]
    body = Multipart([({"n": n}, of(content)) for n, content in enumerate(contents)])
    assert [content for _, content in parsed(body)] == contents


def test_small_contents_go_out_together() -> None:
    body = Multipart([({"n": n}, of(b"small")) for n in range(100)])
    assert len(list(body)) == 1


def test_no_piece_is_large() -> None:
    body = Multipart([({}, of(io.BytesIO(b"x" * 5_000_000))), *(({}, of(b"y" * 60_000)) for _ in range(50))])
    assert max(map(len, body)) <= BLOCK


def test_bytes_are_not_copied() -> None:
    data = bytearray(b"x" * 1_000_000)
    pieces = iter(Multipart([({}, of(data))]))
    next(pieces)
    block = next(pieces)
    assert isinstance(block, memoryview) and block.obj is data


def test_a_body_can_be_gone_through_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"local" * 50_000)
    sources = [
        of("text"),
        of(io.BytesIO(b"file" * 50_000)),
        of(iter([b"spooled"])),
        source_of_file(tmp_path / "a", 250_000),
    ]
    body = Multipart([({}, source) for source in sources])
    assert b"".join(body) == b"".join(body)
    for source in sources:
        source.close()


def test_what_has_left_is_told_and_adds_up() -> None:
    told: List[int] = []
    sizes = [0, 10, 100_000, 5, 3_000_000, 70_000, 3]
    body = Multipart([({}, of(b"x" * size)) for size in sizes], told.append)
    for _ in body:
        pass
    assert sum(told) == sum(sizes) and len(told) > 5 and 0 not in told


def test_what_the_caller_is_told_before_it_left_is_nothing() -> None:
    told: List[int] = []
    pieces = iter(Multipart([({}, of(b"x" * 3_000_000))], told.append))
    next(pieces)
    next(pieces)
    assert told == []
    next(pieces)
    assert told == [MEMORY_BLOCK]


def test_an_error_of_the_data_is_not_one_of_the_connection(tmp_path: Path) -> None:
    def fail(count: int) -> None:
        raise OSError("mine")

    for body, kind in (
        (Multipart([({}, of(b"x"))], fail), OSError),
        (Multipart([({}, source_of_file(tmp_path / "missing", 5))]), FileNotFoundError),
        (Multipart([({}, source_of_file(tmp_path, 5))]), IsADirectoryError),
    ):
        with pytest.raises(BodyFailed) as caught:
            for _ in body:
                pass
        assert isinstance(caught.value.__cause__, kind)


def test_a_file_gives_as_many_bytes_as_were_promised(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    assert b"".join(map(bytes, source_of_file(path, 4).blocks())) == b"0123"
    with pytest.raises(InvalidArgumentError, match="2 bytes shorter"):
        list(source_of_file(path, 12).blocks())


def test_a_link_that_took_a_files_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "a").symlink_to("secret")
    with pytest.raises(OSError, match="symbolic links"):
        list(source_of_file(tmp_path / "a", 6).blocks())


class OnlyRead:
    """A file that can nothing else."""

    def __init__(self, *pieces: Any) -> None:
        self._pieces = list(pieces)

    def read(self, size: int = -1) -> Any:
        return self._pieces.pop(0) if self._pieces else self._end

    _end: Any = b""


class OnlyReadText(OnlyRead):
    _end = ""


@pytest.mark.parametrize("file", [OnlyRead(b"one", b"two"), OnlyReadText("one", "two"), OnlyRead(b"one", "two")])
def test_a_file_that_can_only_be_read_is_read_to_its_end(file: Any) -> None:
    source = of(file)
    assert (source.size, b"".join(map(bytes, source.blocks()))) == (6, b"onetwo")
    source.close()


class OnlyReadAndSeek(io.BytesIO):
    readinto = property()  # type: ignore[assignment]  # as if it had none


def test_a_file_without_readinto_is_sent() -> None:
    assert b"".join(map(bytes, of(OnlyReadAndSeek(b"x" * 600_000)).blocks())) == b"x" * 600_000


def test_a_position_behind_the_end_leaves_nothing() -> None:
    file = io.BytesIO(b"short")
    file.seek(100)
    assert of(file).size == 0 and list(of(file).blocks()) == []


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")  # noqa: PTH110
def test_a_failing_iterable_leaves_no_file_open() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"some"
        raise KeyError("mine")

    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(KeyError):
        of(pieces())
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_the_parts_read_as_mime() -> None:
    body = Multipart([({"path": 'a"\r\nb'}, of(b"content"))])
    head = f"Content-Type: {body.content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + b"".join(body))
    found = [
        (part.get_param("name", header="content-disposition"), part.get_filename()) for part in message.iter_parts()
    ]
    assert found == [("metadata", "metadata"), ("file", "file")]
