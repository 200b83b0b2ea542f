"""The local side of a transfer."""

from __future__ import annotations

import os
import stat
import sys
import types
from pathlib import Path
from typing import Any, Dict, List

import pytest

from opensandbox_sync.services.transfers import Progress, replacing


def test_a_new_file_takes_its_place_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with replacing(target) as write:
        write(b"new ")
        write(b"content")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new content"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(type(error)), replacing(tmp_path / "a") as write:
        write(b"half")
        raise error
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


@pytest.mark.parametrize("mode", [None, 0o777])
def test_while_it_is_written_nobody_else_can_read_it(tmp_path: Path, mode: Any) -> None:
    (tmp_path / "old").touch()
    for name in ("old", "new"):
        with replacing(tmp_path / name, mode) as write:
            write(b"secret so far")
            (temporary,) = tmp_path.glob(".*")
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o600


def test_it_is_made_as_nobody_elses_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: List[Any] = []
    plain = os.open

    def watched(path: Any, flags: int, mode: int = 0o777) -> int:
        made.append((flags, mode))
        return plain(path, flags, mode)

    monkeypatch.setattr(os, "open", watched)
    before = os.umask(0)
    try:
        with replacing(tmp_path / "a") as write:
            write(b"secret")
    finally:
        os.umask(before)
    *_, (flags, mode) = made  # before it, an empty one shows what the umask leaves
    assert mode == 0o600 and flags & os.O_EXCL and flags & os.O_CREAT
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666


def test_the_mode_is_the_one_given_or_the_old_ones_or_the_umasks(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    (tmp_path / "old").chmod(0o604)
    (tmp_path / "closed").touch()
    (tmp_path / "closed").chmod(0)
    (tmp_path / "link").symlink_to("old")
    before = os.umask(0o027)
    try:
        for name, mode in (("given", 0o4711), ("old", None), ("closed", None), ("link", None), ("new", None)):
            with replacing(tmp_path / name, mode) as write:
                write(b"")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"given": 0o711, "old": 0o604, "closed": 0, "link": 0o640, "new": 0o640}


class Bar:
    """tqdm, as far as we use it."""

    made: List[Bar] = []  # noqa: RUF012

    def __init__(self, **options: Any) -> None:
        self.options: Dict[str, Any] = options
        self.done = 0
        self.closed = False
        Bar.made.append(self)

    def update(self, count: int) -> None:
        self.done += count

    def close(self) -> None:
        self.closed = True


def test_progress_is_a_bar_where_tqdm_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module: Any = types.ModuleType("tqdm.auto")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    with pytest.raises(ValueError, match="mine"), Progress(True, "upload a", 10) as shown:
        shown.add(4)
        raise ValueError("mine")
    (bar,) = Bar.made
    assert (bar.options["total"], bar.options["desc"], bar.done, bar.closed) == (10, "upload a", 4, True)
    assert capsys.readouterr() == ("", "")


def test_progress_is_one_line_where_it_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with Progress(True, "upload a", 10) as shown:
        shown.add(4)
        shown.add(6)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("upload a: 10 of 10 bytes in ") and err.count("\n") == 1


def test_progress_is_silent_unless_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for wanted in (None, False):
        with Progress(wanted, "upload a", 10) as shown:
            shown.add(10)
    assert capsys.readouterr() == ("", "")
