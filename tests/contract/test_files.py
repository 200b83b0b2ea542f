"""Files in a sandbox, one at a time."""

from __future__ import annotations

import io
import os
import tracemalloc
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Iterator, List, Tuple

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from opensandbox_sync import Sandbox
from opensandbox_sync.errors import (
    BadRequestError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    SandboxError,
    ServerError,
)
from opensandbox_sync.services.files import FileService, WriteEntry

from ..conftest import is_file_name, where_supported

EVERY_BYTE = bytes(range(256))


@pytest.fixture
def folder(sandbox: Sandbox) -> Iterator[str]:
    """An empty directory in the sandbox."""
    made = sandbox.commands.run("mktemp -d").stdout.strip()
    yield made
    sandbox.files.remove_dirs(made)


@pytest.fixture
def files(sandbox: Sandbox) -> FileService:
    return sandbox.files


# -- read and write ----------------------------------------------------------------------------------------------------


def test_text_comes_back_as_it_was_written(files: FileService, folder: str) -> None:
    text = "one\ntwo\r\nthree\rfour\u2028five\x85 é 😀\n\n"
    files.write(f"{folder}/a.txt", text)
    assert files.read_text(f"{folder}/a.txt") == text


def test_text_is_written_and_read_in_the_encoding_asked_for(files: FileService, folder: str) -> None:
    files.write(f"{folder}/a.txt", "grün", encoding="latin-1")
    assert files.read_bytes(f"{folder}/a.txt") == b"gr\xfcn"
    assert files.read_text(f"{folder}/a.txt", encoding="latin-1") == "grün"


def test_a_file_that_is_not_text_says_so_and_names_read_bytes(files: FileService, folder: str) -> None:
    files.write(f"{folder}/a.bin", b"ok\xff")
    with pytest.raises(InvalidArgumentError, match=r"a\.bin is not 'utf-8' text .*read_bytes"):
        files.read_text(f"{folder}/a.bin")


@pytest.mark.parametrize("encoding", ["no-such", "hex", None, 5, "", "a\0", "\ud800"])
def test_an_encoding_that_is_none_is_refused(files: FileService, folder: str, encoding: Any) -> None:
    files.write(f"{folder}/a.txt", "a")
    with pytest.raises(InvalidArgumentError):
        files.read_text(f"{folder}/a.txt", encoding=encoding)
    for data in ("text", iter(["text"])):
        with pytest.raises(InvalidArgumentError):
            files.write(f"{folder}/b.txt", data, encoding=encoding)
    assert not files.exists(f"{folder}/b.txt")


def test_the_same_file_as_a_command_sees_it(sandbox: Sandbox, folder: str) -> None:
    sandbox.files.write(f"{folder}/in.txt", "from outside")
    sandbox.commands.run(f"tr a-z A-Z < {folder}/in.txt > {folder}/out.txt").check()
    assert sandbox.files.read_text(f"{folder}/out.txt") == "FROM OUTSIDE"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: EVERY_BYTE, EVERY_BYTE),
        (lambda: b"", b""),
        (lambda: "", b""),
        (lambda: bytearray(b"array"), b"array"),
        (lambda: memoryview(b"0123456789")[2:5], b"234"),
        (lambda: memoryview(b"0123456789")[::2], b"02468"),
        (lambda: io.BytesIO(b"file"), b"file"),
        (lambda: iter([b"a", "é", memoryview(b"c"), b""]), b"a\xc3\xa9c"),
        (lambda: (f"{n}\n" for n in range(3)), b"0\n1\n2\n"),
        (lambda: [], b""),
        (lambda: b"big" * 1_000_000, b"big" * 1_000_000),
        (lambda: io.BytesIO(b"big" * 1_000_000), b"big" * 1_000_000),
        (lambda: (b"x" * 70_000 for _ in range(20)), b"x" * 1_400_000),
    ],
)
def test_write_takes_text_bytes_binary_files_and_iterables(
    files: FileService, folder: str, make: Callable[[], Any], expected: bytes
) -> None:
    files.write(f"{folder}/data", make())
    assert files.read_bytes(f"{folder}/data") == expected
    assert b"".join(files.iter_bytes(f"{folder}/data")) == expected


def test_a_file_is_written_from_its_position_on(files: FileService, folder: str, tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"head and body")
    with (tmp_path / "local").open("rb") as local:
        local.read(9)
        files.write(f"{folder}/a", local)
    assert files.read_bytes(f"{folder}/a") == b"body"


def test_a_pipe_is_written_to_its_end(files: FileService, folder: str) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        files.write(f"{folder}/a", pipe)
    assert files.read_bytes(f"{folder}/a") == b"through a pipe"


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (None, "NoneType"),
        (7, "int"),
        ({"a": 1}, "dict"),
        (io.StringIO("x"), "'rb'"),
        (Path("local"), r"upload\(\)"),
        ([1], "gave int"),
        ("\ud800", "utf-8"),
    ],
)
def test_data_of_another_kind_is_refused_and_nothing_is_written(
    files: FileService, folder: str, data: Any, hint: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=hint):
        files.write(f"{folder}/a", data)
    assert not files.exists(f"{folder}/a")


def test_data_that_is_closed_is_refused_and_nothing_is_written(files: FileService, folder: str, tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as closed, (tmp_path / "b").open("wb") as only_written:
        closed.close()
        memory, view = io.BytesIO(b"x"), memoryview(b"x")
        memory.close()
        view.release()
        for data in (closed, only_written, memory, view):
            with pytest.raises(InvalidArgumentError, match="data"):
                files.write(f"{folder}/a", data)
    assert not files.exists(f"{folder}/a")


def test_what_an_iterable_raises_is_raised_and_nothing_is_written(files: FileService, folder: str) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"some"
        raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine$"):
        files.write(f"{folder}/a", pieces())
    assert not files.exists(f"{folder}/a")


def test_write_makes_the_directories_above(files: FileService, folder: str) -> None:
    files.write(f"{folder}/x/y/z.txt", "deep")
    assert files.read_text(f"{folder}/x/y/z.txt") == "deep"


def test_write_replaces_what_was_there_however_long(files: FileService, folder: str) -> None:
    files.write(f"{folder}/a", "a longer text")
    files.write(f"{folder}/a", "short")
    assert files.read_text(f"{folder}/a") == "short"


def test_many_files_are_written_at_once(files: FileService, folder: str) -> None:
    files.write_many(
        [
            WriteEntry(f"{folder}/a", "text"),
            WriteEntry(PurePosixPath(folder) / "b", b"bytes", mode="755"),
            (f"{folder}/c", io.BytesIO(b"file")),
        ]
    )
    assert [files.read_bytes(f"{folder}/{name}") for name in "abc"] == [b"text", b"bytes", b"file"]
    assert [files.info(f"{folder}/{name}").mode for name in "abc"] == [0o644, 0o755, 0o644]


def test_many_more_files_than_one_request_takes_are_written(files: FileService, folder: str) -> None:
    wanted = {f"{folder}/{number}": str(number) for number in range(900)}
    files.write_many(wanted)
    assert {info.path: info.size for info in files.list(folder)} == {path: len(text) for path, text in wanted.items()}


@pytest.mark.parametrize("entries", [None, "text", [1], [("path",)], 5])
def test_entries_of_another_kind_are_refused(files: FileService, entries: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="entries"):
        files.write_many(entries)


def test_all_entries_are_checked_before_the_first_is_written(files: FileService, folder: str) -> None:
    with pytest.raises(InvalidArgumentError):
        files.write_many([(f"{folder}/a", "fine"), (f"{folder}/b", 7)])
    assert files.list(folder) == []


# -- parts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, None), (3, None), (0, 1), (2, 5), (255, 300), (256, None), (300, None), (300, 310), (-1, None), (-999, None)],
)
def test_a_byte_range_is_the_slice(files: FileService, folder: str, start: int, end: Any) -> None:
    files.write(f"{folder}/a", EVERY_BYTE)
    assert files.read_bytes(f"{folder}/a", start=start, end=end) == EVERY_BYTE[start:end]
    assert b"".join(files.iter_bytes(f"{folder}/a", start=start, end=end)) == EVERY_BYTE[start:end]


def test_a_byte_range_of_an_empty_file_is_empty(files: FileService, folder: str) -> None:
    files.write(f"{folder}/a", b"")
    assert files.read_bytes(f"{folder}/a", start=1) == b""
    assert list(files.iter_bytes(f"{folder}/a", start=1, end=4)) == []


@pytest.mark.parametrize(("start", "end"), [(0, 0), (5, 2), (-3, 2), ("1", None), (True, None), (None, 5), (0, 1.5)])
def test_a_byte_range_that_is_none_is_refused(files: FileService, start: Any, end: Any) -> None:
    for read in (files.read_bytes, files.iter_bytes):
        with pytest.raises(InvalidArgumentError):
            read("/tmp/a", start=start, end=end)


def test_lines_are_counted_from_one(files: FileService, folder: str) -> None:
    files.write(f"{folder}/a", "one\ntwo\r\nthree\nfour\n")
    assert files.read_text(f"{folder}/a", offset=2) == "two\nthree\nfour"
    assert files.read_text(f"{folder}/a", limit=2) == "one\ntwo"
    assert files.read_text(f"{folder}/a", offset=3, limit=1) == "three"
    assert files.read_text(f"{folder}/a", offset=9) == ""


@pytest.mark.parametrize("value", [0, -1, "2", 1.5, True])
def test_a_line_number_that_is_none_is_refused(files: FileService, value: Any) -> None:
    for name in ("offset", "limit"):
        with pytest.raises(InvalidArgumentError, match=name):
            files.read_text("/tmp/a", **{name: value})


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("\n", [""]),
        ("a", ["a"]),
        ("a\n", ["a"]),
        ("a\r\nb\n\nc", ["a", "b", "", "c"]),
        ("a\x0b\x85\u2028b\n", ["a\x0b\x85\u2028b"]),
    ],
)
def test_lines_end_at_line_feeds_and_nowhere_else(files: FileService, folder: str, text: str, lines: List[str]) -> None:
    files.write(f"{folder}/a", text)
    assert files.read_lines(f"{folder}/a") == lines


def test_a_part_of_the_lines(files: FileService, folder: str) -> None:
    files.write(f"{folder}/a", "one\n\nthree\n\nfive\n")
    assert files.read_lines(f"{folder}/a", offset=2, limit=3) == ["", "three", ""]
    assert files.read_lines(f"{folder}/a", offset=7) == []


# -- transfers ---------------------------------------------------------------------------------------------------------


def test_a_file_goes_up_and_comes_down_again(files: FileService, folder: str, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "up").write_bytes(content)
    assert files.upload(tmp_path / "up", f"{folder}/there") == len(content)
    assert files.download(f"{folder}/there", str(tmp_path / "down")) == len(content)
    assert (tmp_path / "down").read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["down", "up"]


def test_an_empty_file_goes_up_and_comes_down_again(files: FileService, folder: str, tmp_path: Path) -> None:
    (tmp_path / "up").touch()
    assert files.upload(tmp_path / "up", f"{folder}/there") == 0
    assert files.download(f"{folder}/there", tmp_path / "down") == 0
    assert (tmp_path / "down").read_bytes() == b""


def test_progress_ends_at_the_whole(files: FileService, folder: str, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(b"x" * 1_000_000)
    told: List[Tuple[int, int]] = []
    files.upload(tmp_path / "up", f"{folder}/a", progress=lambda done, total: told.append((done, total)))
    files.download(f"{folder}/a", tmp_path / "down", progress=lambda done, total: told.append((done, total)))
    assert told.count((1_000_000, 1_000_000)) == 2
    middle = told.index((1_000_000, 1_000_000)) + 1
    assert told[:middle] == sorted(told[:middle]) and len(told[:middle]) > 2
    assert told[middle:] == sorted(told[middle:])


@pytest.mark.parametrize("progress", ["bar", 1, []])
def test_progress_that_cannot_be_called_is_refused(files: FileService, tmp_path: Path, progress: Any) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(InvalidArgumentError, match="progress"):
        files.upload(tmp_path / "a", "/tmp/a", progress=progress)
    with pytest.raises(InvalidArgumentError, match="progress"):
        files.download("/tmp/a", tmp_path / "b", progress=progress)


@pytest.mark.parametrize("error", [ValueError("mine"), OSError("mine"), KeyboardInterrupt()])
def test_what_progress_raises_ends_the_transfer_and_leaves_no_half_file(
    files: FileService, folder: str, tmp_path: Path, error: BaseException
) -> None:
    (tmp_path / "up").write_bytes(b"x" * 2_000_000)
    (tmp_path / "old").write_bytes(b"old")
    files.upload(tmp_path / "up", f"{folder}/a")

    def fail(done: int, total: int) -> None:
        if done:
            raise error

    for act in (
        lambda: files.upload(tmp_path / "up", f"{folder}/b", progress=fail),
        lambda: files.download(f"{folder}/a", tmp_path / "old", progress=fail),
        lambda: files.download(f"{folder}/a", tmp_path / "new", progress=fail),
    ):
        with pytest.raises(type(error)) as caught:
            act()
        assert caught.value is error
    assert (tmp_path / "old").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "up"]


def test_a_download_keeps_the_mode_of_what_it_replaces(files: FileService, folder: str, tmp_path: Path) -> None:
    files.write(f"{folder}/a", "new", mode=0o755)
    (tmp_path / "old").write_text("old")
    (tmp_path / "old").chmod(0o640)
    (tmp_path / "plain").touch()
    files.download(f"{folder}/a", tmp_path / "old")
    files.download(f"{folder}/a", tmp_path / "new")
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_download_replaces_a_link_and_does_not_write_through_it(
    files: FileService, folder: str, tmp_path: Path
) -> None:
    files.write(f"{folder}/a", "new")
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    files.download(f"{folder}/a", tmp_path / "link")
    assert (tmp_path / "target").read_text() == "mine"
    assert not (tmp_path / "link").is_symlink() and (tmp_path / "link").read_text() == "new"


def test_a_local_path_that_cannot_be_used_is_refused_before_anything_is_sent(
    files: FileService, folder: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    files.write(f"{folder}/a", "a")
    for local in (tmp_path / "missing", tmp_path, tmp_path / "pipe", "", None, b"bytes", "a\0b", "\ud800"):
        with pytest.raises(InvalidArgumentError, match="local"):
            files.upload(local, f"{folder}/new")  # type: ignore[arg-type]
    for local in (tmp_path, tmp_path / "pipe", tmp_path / "no" / "where", "", None, "a\0b", "\ud800"):
        with pytest.raises(InvalidArgumentError, match="local"):
            files.download(f"{folder}/a", local)  # type: ignore[arg-type]
    assert not files.exists(f"{folder}/new")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_an_upload_over_a_link_is_verified_at_its_target(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    sandbox.commands.run(f"echo old > {folder}/target; ln -s target {folder}/link").check()
    (tmp_path / "up").write_text("new content")
    sandbox.files.upload(tmp_path / "up", f"{folder}/link")
    assert sandbox.files.read_text(f"{folder}/target") == "new content"


def test_a_large_file_passes_through_without_being_held(files: FileService, folder: str, tmp_path: Path) -> None:
    size = 48 * 2**20
    with (tmp_path / "up").open("wb") as file:
        file.truncate(size)
    tracemalloc.start()
    try:
        files.upload(tmp_path / "up", f"{folder}/a")
        files.download(f"{folder}/a", tmp_path / "down")
        assert sum(map(len, files.iter_bytes(f"{folder}/a"))) == size
        with (tmp_path / "up").open("rb") as file:
            files.write(f"{folder}/b", file)
        files.write(f"{folder}/c", (b"x" * 2**16 for _ in range(2**9)))
        streamed = tracemalloc.get_traced_memory()[1]
        assert len(files.read_bytes(f"{folder}/a")) == size
        whole = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert streamed < 8 * 2**20
    assert whole < size + 8 * 2**20


# -- look --------------------------------------------------------------------------------------------------------------


def test_info_tells_what_a_path_is(sandbox: Sandbox, folder: str) -> None:
    sandbox.files.write(f"{folder}/a", "12345", mode=0o640)
    sandbox.commands.run(f"ln -s a {folder}/link; ln -s nowhere {folder}/dangling").check()
    info = sandbox.files.info(f"{folder}/a")
    assert (info.path, info.type, info.size, info.mode) == (f"{folder}/a", "file", 5, 0o640)
    assert info.modified_at is not None and info.created_at is not None
    assert abs(info.modified_at - datetime.now(timezone.utc)) < timedelta(minutes=5)
    assert info.owner and info.group
    found = sandbox.files.info([folder, PurePosixPath(f"{folder}/link"), f"{folder}/dangling"])
    assert {path: told.type for path, told in found.items()} == {
        folder: "directory",
        f"{folder}/link": "symlink",
        f"{folder}/dangling": "symlink",
    }


def test_info_of_nothing_is_nothing(files: FileService) -> None:
    assert files.info([]) == {}


def test_info_of_more_paths_than_a_url_holds(files: FileService, folder: str) -> None:
    paths = [f"{folder}/{'long-' * 30}{number}" for number in range(200)]
    files.write_many(dict.fromkeys(paths, "x"))
    assert set(files.info(paths)) == set(paths)
    files.remove(*paths)
    assert files.list(folder) == []


def test_exists(sandbox: Sandbox, folder: str) -> None:
    sandbox.files.write(f"{folder}/a", "")
    sandbox.commands.run(f"ln -s nowhere {folder}/dangling").check()
    there = [sandbox.files.exists(f"{folder}/{name}") for name in ("a", ".", "dangling", "b", "b/c", "a/c")]
    assert there == [True, True, True, False, False, False]


def test_list_goes_as_deep_as_asked(files: FileService, folder: str) -> None:
    files.write_many({f"{folder}/b/c/d": "1", f"{folder}/a": "12", f"{folder}/.hidden": ""})
    assert [info.path[len(folder) + 1 :] for info in files.list(folder)] == [".hidden", "a", "b"]
    assert [info.path[len(folder) + 1 :] for info in files.list(folder, depth=2)] == [".hidden", "a", "b", "b/c"]
    deep = files.list(folder, depth=99)
    assert [(info.path[len(folder) + 1 :], info.type) for info in deep][-1] == ("b/c/d", "file")


def test_list_tells_links_and_does_not_enter_them(sandbox: Sandbox, folder: str) -> None:
    sandbox.commands.run(f"mkdir {folder}/d; touch {folder}/d/f; ln -s d {folder}/link").check()
    listed = [(info.path[len(folder) + 1 :], info.type) for info in sandbox.files.list(folder, depth=5)]
    assert listed == [("d", "directory"), ("d/f", "file"), ("link", "symlink")]
    with pytest.raises(BadRequestError, match="symbolic link"):
        sandbox.files.list(f"{folder}/link")


@pytest.mark.parametrize("depth", [0, -1, 1.5, "1", True])
def test_a_depth_that_is_none_is_refused(files: FileService, depth: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="depth"):
        files.list("/tmp", depth=depth)


def test_search_finds_files_by_their_own_names(files: FileService, folder: str) -> None:
    files.write_many({f"{folder}/{name}": "" for name in ("a.py", "d/b.py", "d/e/c.txt", ".x.py")})
    found = [info.path[len(folder) + 1 :] for info in files.search(folder, "*.py")]
    assert sorted(found) == [".x.py", "a.py", "d/b.py"]
    assert [info.path for info in files.search(folder, "d")] == []
    assert len(files.search(folder)) == 4


# -- change ------------------------------------------------------------------------------------------------------------


def test_replace_text_counts_what_it_replaced(files: FileService, folder: str) -> None:
    files.write(f"{folder}/a", "a.b.c\n", mode=0o755)
    assert files.replace_text(f"{folder}/a", ".", "→") == 2
    assert files.read_text(f"{folder}/a") == "a→b→c\n"
    assert files.replace_text(f"{folder}/a", "→", "") == 2
    assert files.replace_text(f"{folder}/a", "nowhere", "x") == 0
    assert (files.read_text(f"{folder}/a"), files.info(f"{folder}/a").mode) == ("abc\n", 0o755)


def test_move_renames_and_makes_directories_but_overwrites_nothing(files: FileService, folder: str) -> None:
    files.write_many({f"{folder}/a": "a", f"{folder}/b": "b"})
    files.move(f"{folder}/a", f"{folder}/new/place")
    assert files.read_text(f"{folder}/new/place") == "a" and not files.exists(f"{folder}/a")
    with pytest.raises(ConflictError, match="already exists"):
        files.move(f"{folder}/b", f"{folder}/new/place")
    with pytest.raises(ConflictError):
        files.move(f"{folder}/b", f"{folder}/new")
    files.move(f"{folder}/new", f"{folder}/renamed")
    assert files.read_text(f"{folder}/renamed/place") == "a"


def test_remove_takes_files_and_not_directories(files: FileService, folder: str) -> None:
    files.write_many({f"{folder}/a": "", f"{folder}/b": "", f"{folder}/d/c": ""})
    files.remove(f"{folder}/a", f"{folder}/b", f"{folder}/missing")
    files.remove()
    with pytest.raises(ServerError, match="is a directory"):
        files.remove(f"{folder}/d")
    assert [info.path for info in files.list(folder, depth=2)] == [f"{folder}/d", f"{folder}/d/c"]


def test_directories_are_made_with_parents_and_removed_with_content(files: FileService, folder: str) -> None:
    files.make_dirs(f"{folder}/a/b/c", f"{folder}/d")
    files.make_dirs(f"{folder}/a/b")
    files.make_dirs()
    files.write(f"{folder}/a/b/c/f", "x")
    assert files.info(f"{folder}/a/b").type == "directory"
    files.remove_dirs(f"{folder}/a", f"{folder}/missing")
    assert [info.path for info in files.list(folder)] == [f"{folder}/d"]


def test_make_dirs_gives_the_mode_to_what_is_named_and_keeps_what_exists(files: FileService, folder: str) -> None:
    files.make_dirs(f"{folder}/a/b", f"{folder}/a", f"{folder}/c", mode=0o700)
    assert [files.info(f"{folder}/{name}").mode for name in ("a", "a/b", "c")] == [0o700] * 3
    files.make_dirs(f"{folder}/c", mode="755")
    assert files.info(f"{folder}/c").mode == 0o700


def test_a_file_in_the_way_of_a_directory_is_an_error(files: FileService, folder: str) -> None:
    files.write(f"{folder}/a", "")
    with pytest.raises(ServerError):
        files.make_dirs(f"{folder}/a/b")
    with pytest.raises(ServerError):
        files.write(f"{folder}/a/b", "")


# -- modes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "read"), [(0o600, 0o600), ("600", 0o600), ("0600", 0o600), ("0o755", 0o755), (0o7, 0o7)]
)
def test_modes_are_octal_both_ways(files: FileService, folder: str, mode: Any, read: int) -> None:
    files.write(f"{folder}/a", "", mode=mode)
    assert files.info(f"{folder}/a").mode == read
    files.write(f"{folder}/b", "")
    files.set_permissions(f"{folder}/b", mode=mode)
    assert files.info(f"{folder}/b").mode == read


def test_a_new_file_is_not_executable(files: FileService, folder: str, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n")
    (tmp_path / "script").chmod(0o755)
    files.write(f"{folder}/a", "")
    files.upload(tmp_path / "script", f"{folder}/b")
    files.upload(tmp_path / "script", f"{folder}/c", mode=0o755)
    assert [files.info(f"{folder}/{name}").mode for name in "abc"] == [0o644, 0o644, 0o755]


def test_a_mode_of_none_leaves_an_existing_file_its_own(files: FileService, folder: str) -> None:
    files.write(f"{folder}/a", "old", mode=0o750)
    files.write(f"{folder}/a", "new", mode=None)
    assert (files.info(f"{folder}/a").mode, files.read_text(f"{folder}/a")) == (0o750, "new")


@pytest.mark.parametrize(
    ("mode", "hint"),
    [
        (644, "0o644"),
        (755, "0o755"),
        (777, "0o777"),
        (0o1000, "0o777"),
        (400, "0o400"),
        (440, "0o440"),
        (444, "0o444"),
        (500, "0o500"),
        (-1, "octal"),
        (0, "0"),
        ("0", "0"),
        ("888", "octal"),
        ("rwx", "octal"),
        ("", "octal"),
        ("1777", "0o777"),
        (True, "octal"),
        (6.44, "octal"),
        (b"644", "octal"),
    ],
)
def test_a_mode_that_is_a_slip_is_refused_with_a_hint(
    files: FileService, folder: str, tmp_path: Path, mode: Any, hint: str
) -> None:
    (tmp_path / "a").touch()
    for act in (
        lambda: files.write(f"{folder}/never", "", mode=mode),
        lambda: files.upload(tmp_path / "a", f"{folder}/never", mode=mode),
        lambda: files.make_dirs(f"{folder}/never", mode=mode),
        lambda: files.set_permissions(folder, mode=mode),
    ):
        with pytest.raises(InvalidArgumentError, match=hint):
            act()
    assert not files.exists(f"{folder}/never")


@pytest.mark.parametrize("mode", [0o1000, 0o1777, 0o2755, 0o4755])
def test_a_mode_with_more_than_permission_bits_is_not_taken_for_a_slip(files: FileService, mode: int) -> None:
    with pytest.raises(InvalidArgumentError, match=r"0o777 at most$"):
        files.set_permissions("/tmp", mode=mode)


def test_set_permissions_changes_only_what_is_given(sandbox: Sandbox, folder: str) -> None:
    user, group = sandbox.commands.run("id -un; id -gn").stdout.split()
    sandbox.files.write(f"{folder}/a", "", mode=0o640)
    sandbox.files.set_permissions(f"{folder}/a", owner=user, group=group)
    info = sandbox.files.info(f"{folder}/a")
    assert (info.mode, info.owner, info.group) == (0o640, user, group)


def test_set_permissions_needs_something_to_set(files: FileService, folder: str) -> None:
    with pytest.raises(InvalidArgumentError, match="a mode, an owner or a group"):
        files.set_permissions(folder)
    for owner in (0, "", "a\0"):
        with pytest.raises(InvalidArgumentError, match="owner"):
            files.set_permissions(folder, owner=owner)  # type: ignore[arg-type]


def test_an_owner_that_nobody_is_is_an_error(files: FileService, folder: str) -> None:
    with pytest.raises(ServerError, match="no-such-user"):
        files.write(f"{folder}/a", "", owner="no-such-user")


# -- what is missing, and what is no file ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["missing", "missing/below", "file/below"])
@pytest.mark.parametrize(
    "act",
    [
        lambda files, path, _: files.read_text(path),
        lambda files, path, _: files.read_bytes(path),
        lambda files, path, _: files.read_bytes(path, start=1),
        lambda files, path, _: next(files.iter_bytes(path)),
        lambda files, path, local: files.download(path, local / "new"),
        lambda files, path, local: files.download_dir(path, local / "new"),
        lambda files, path, _: files.info(path),
        lambda files, path, _: files.list(path),
        lambda files, path, _: files.search(path),
        lambda files, path, _: files.replace_text(path, "a", "b"),
        lambda files, path, _: files.set_permissions(path, mode=0o600),
        lambda files, path, _: files.move(path, path + ".moved"),
    ],
)
def test_what_is_missing_is_not_found(
    files: FileService, folder: str, tmp_path: Path, act: Callable[[FileService, str, Path], Any], name: str
) -> None:
    files.write(f"{folder}/file", "")
    with pytest.raises(NotFoundError):
        act(files, f"{folder}/{name}", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_reading_a_directory_is_refused_with_what_to_do_instead(
    files: FileService, folder: str, tmp_path: Path
) -> None:
    for act in (
        lambda: files.read_text(folder),
        lambda: files.read_text(folder, offset=1),
        lambda: files.read_text(folder, limit=3),
        lambda: files.read_lines(folder),
        lambda: files.read_bytes(folder),
        lambda: next(files.iter_bytes(folder)),
        lambda: files.download(folder, tmp_path / "new"),
    ):
        with pytest.raises(BadRequestError, match=r"is a directory; use .*download_dir"):
            act()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["", None, 5, b"/tmp/a", "/tmp/a\0b", "/tmp/\ud800", ["/tmp"]])
def test_a_path_that_is_none_is_refused_everywhere(files: FileService, tmp_path: Path, path: Any) -> None:
    (tmp_path / "a").touch()
    for act in (
        lambda: files.read_text(path),
        lambda: files.read_lines(path),
        lambda: files.read_bytes(path),
        lambda: files.iter_bytes(path),
        lambda: files.write(path, ""),
        lambda: files.write_many([(path, "")]),
        lambda: files.upload(tmp_path / "a", path),
        lambda: files.download(path, tmp_path / "b"),
        lambda: files.upload_dir(tmp_path, path),
        lambda: files.download_dir(path, tmp_path / "c"),
        lambda: files.info([path]),
        lambda: files.exists(path),
        lambda: files.list(path),
        lambda: files.search(path),
        lambda: files.replace_text(path, "a", "b"),
        lambda: files.move(path, "/tmp/x"),
        lambda: files.move("/tmp/x", path),
        lambda: files.remove(path),
        lambda: files.make_dirs(path),
        lambda: files.remove_dirs(path),
        lambda: files.set_permissions(path, mode=0o600),
    ):
        with pytest.raises(InvalidArgumentError):
            act()
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


def test_texts_that_are_none_are_refused(files: FileService) -> None:
    for act in (
        lambda: files.replace_text("/tmp/a", "", "b"),
        lambda: files.replace_text("/tmp/a", "a", None),  # type: ignore[arg-type]
        lambda: files.replace_text("/tmp/a", "a", "\ud800"),
        lambda: files.search("/tmp", ""),
        lambda: files.search("/tmp", 5),  # type: ignore[arg-type]
        lambda: files.search("/tmp", "a\0"),
    ):
        with pytest.raises(InvalidArgumentError):
            act()


def test_a_variable_and_a_tilde_in_a_path_are_expanded_by_the_daemon(sandbox: Sandbox) -> None:
    home = sandbox.files.info("~").path
    sandbox.files.write("~/tilde.txt", "home")
    try:
        assert sandbox.files.read_text(f"{home}/tilde.txt") == "home"
        assert sandbox.files.read_text("$HOME/tilde.txt") == "home"
    finally:
        sandbox.files.remove("~/tilde.txt")
    with pytest.raises(ServerError, match="NO_SUCH_VARIABLE"):
        sandbox.files.read_text("/tmp/$NO_SUCH_VARIABLE")


# -- as somebody else --------------------------------------------------------------------------------------------------


def test_as_user_reads_and_writes_as_that_user_or_not_at_all(sandbox: Sandbox) -> None:
    shared = sandbox.commands.run("mktemp -d /tmp/shared.XXXXXX").stdout.strip()
    somebody = sandbox.files.as_user(12345, 12345)
    try:
        sandbox.files.set_permissions(shared, mode=0o777)
        if sandbox.files.info(shared).owner != "root":
            with pytest.raises(ServerError, match="FILESYSTEM_IDENTITY_UNAVAILABLE"), where_supported():
                somebody.write(f"{shared}/theirs", "theirs")
            assert sandbox.files.list(shared) == []
            return
        with where_supported():
            somebody.list(shared)
        sandbox.files.write(f"{shared}/secret", "root's", mode=0o600)
        somebody.write(f"{shared}/theirs", "theirs")
        info = somebody.info(f"{shared}/theirs")
        assert (info.owner, info.group) == ("12345", "12345")
        for act in (
            lambda: somebody.read_text(f"{shared}/secret"),
            lambda: somebody.write(f"{shared}/secret", "mine"),
            lambda: somebody.set_permissions(f"{shared}/secret", mode=0o666),
        ):
            with pytest.raises(ServerError, match=r"permitted|permission denied"):
                act()
        assert sandbox.files.read_text(f"{shared}/secret") == "root's"
    finally:
        sandbox.files.remove_dirs(shared)


@pytest.mark.parametrize("number", [-1, 2**32 - 1, "0", 1.0, True, None])
def test_as_user_refuses_what_is_no_id(files: FileService, number: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="uid"):
        files.as_user(number, 0)
    with pytest.raises(InvalidArgumentError, match="gid"):
        files.as_user(0, number)


# -- anything ----------------------------------------------------------------------------------------------------------


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80).filter(is_file_name)


@given(name=names, content=st.binary(max_size=5000))
@example(name="\r", content=b"")
@example(name="\n.txt", content=b"\r\n--")
@example(name='"; filename="x', content=b"quoted")
@example(name=" ", content=b"blank")
@example(name="~", content=b"only a leading one is the home")
@example(name="%2e%2e+\\&=#?", content=EVERY_BYTE)
@example(name="é" * 127, content=b"long")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_under_any_name_come_back_equal(files: FileService, folder: str, name: str, content: bytes) -> None:
    path = f"{folder}/{name}"
    files.write(path, content)
    try:
        assert files.read_bytes(path) == content
        assert files.info(path).size == len(content)
        assert [info.path for info in files.list(folder)] == [path]
        files.move(path, path := f"{folder}/moved")
        assert b"".join(files.iter_bytes(path)) == content
    finally:
        files.remove(path)
    assert not files.exists(path)


def test_a_sandbox_that_is_gone_is_not_a_missing_file(make_sandbox: Any) -> None:
    with make_sandbox() as sandbox:
        assert sandbox.files.exists("/tmp")
        sandbox.kill()
        with pytest.raises(SandboxError):
            sandbox.files.exists("/tmp")
