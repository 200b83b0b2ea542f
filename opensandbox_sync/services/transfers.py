"""The local side of a transfer: how far it is, and a file that is there as a whole or not at all."""

from __future__ import annotations

import io
import os
import stat
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Union

from ..errors import InvalidArgumentError

ProgressOption = Union[bool, Callable[[int, int], Any], None]

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


class Progress:
    """Tells how far a transfer is: to a callable, in a tqdm bar, or in one line at its end. A context manager.

    Safe to share between threads: what is told never goes back.
    """

    def __init__(self, wanted: ProgressOption, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._tell = wanted if callable(wanted) else None
        self._bar = _bar(what, total) if wanted is True else None
        self._line = wanted is True and self._bar is None

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            if self._tell is not None:
                self._tell(self._done, self._total)
            if self._bar is not None:
                self._bar.update(count)

    def __enter__(self) -> Progress:
        self.add(0)
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._line:
            seconds = time.monotonic() - self._started
            print(f"{self._what}: {self._done} of {self._total} bytes in {seconds:.1f} s", file=sys.stderr)


def check_progress(value: Any) -> None:
    if value is not None and not isinstance(value, bool) and not callable(value):
        raise InvalidArgumentError(f"progress must be True or a function of (done, total), not {value!r}")


def _bar(what: str, total: int) -> Any:
    try:
        make = import_module("tqdm.auto").tqdm
    except ImportError:
        return None
    return make(total=total, desc=what, unit="B", unit_scale=True)


def local_path(name: str, value: Any) -> Path:
    """A path on this machine, or an error that names the argument."""
    try:
        text = os.fspath(value)
    except TypeError:
        text = None
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidArgumentError(f"{name} must be a path on this machine (text or a Path), not {value!r}")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as cause:
        raise InvalidArgumentError(f"{name} {value!r} is not a name that this machine's files can have") from cause
    return Path(text)


def check_target(target: Path, *, parent: bool = True) -> None:
    """Refuse what a file cannot be put in the place of; ``parent``: its directory has to be there, too."""
    try:
        kind = target.lstat().st_mode
    except FileNotFoundError:
        kind = stat.S_IFREG
    except OSError as cause:
        raise InvalidArgumentError(f"local {str(target)!r} cannot be written: {cause.strerror}") from cause
    if stat.S_ISDIR(kind):
        raise InvalidArgumentError(f"local {str(target)!r} is a directory; name the file in it")
    if not stat.S_ISREG(kind) and not stat.S_ISLNK(kind):
        raise InvalidArgumentError(f"local {str(target)!r} is not a regular file; it would be replaced")
    if parent and not target.parent.is_dir():
        raise InvalidArgumentError(f"local {str(target)!r} has no directory {str(target.parent)!r} to be in")


@contextmanager
def replacing(target: Path, mode: Optional[int] = None) -> Iterator[Callable[[bytes], None]]:
    """A new file, readable for nobody else, that takes ``target``'s place when the block ends well; else it is removed.
    Yields what writes to it.

    ``mode`` None: what ``target`` has, or what a new file gets here. A link at ``target`` is replaced, not followed.
    """
    temporary = target.with_name(f".{uuid.uuid4().hex}.part")
    try:  # the opening too: a Ctrl-C that comes within it is raised when the file is there
        if mode is None:
            mode = _mode_of(target, temporary)
        with io.FileIO(os.open(temporary, _NEW, 0o600), "wb") as file:

            def write(data: bytes) -> None:
                done = file.write(data)
                while done < len(data):  # no buffer between: the blocks are large
                    done += file.write(memoryview(data)[done:])

            yield write
        temporary.chmod(mode & 0o777)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _mode_of(target: Path, probe: Path) -> int:
    """The mode that ``target`` has, or that a new file there gets: ``probe`` is made, and removed, to see it."""
    try:
        found = target.lstat().st_mode
        if stat.S_ISREG(found):
            return stat.S_IMODE(found)
    except FileNotFoundError:
        pass
    # The umask can only be read by setting it, which other threads would notice. An empty file shows it.
    os.close(os.open(probe, _NEW, 0o666))
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    return mode
