"""The directory of a server: locked while the server lives, so that the next one removes it if it was killed.

Loads nothing that is not in the standard library: the caller's process uses it too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import uuid
from pathlib import Path
from typing import List

_PREFIX = "opensandbox-"
_LOCK = "lock"


def make() -> Path:
    """Makes a directory whose lock this process holds until it ends."""
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o600)  # never closed
    fcntl.flock(lock, fcntl.LOCK_EX)
    (directory / ".lock").rename(directory / _LOCK)  # only now: nobody sees a lock that nobody holds
    return directory


def remove_abandoned() -> None:
    """Removes the directories of this user's servers that were killed."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = directory.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            lock = os.open(directory / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its server lives
                for path in directory.iterdir():
                    if path.name != _LOCK:  # it goes last: what has none is never touched again
                        remove_tree(path)
                remove_tree(directory)
            finally:
                os.close(lock)


def remove_tree(directory: Path) -> None:
    """Removes a directory, also one in which commands took away their own permissions, or that is deeper than a path
    may be long.
    """
    with contextlib.suppress(RecursionError):
        shutil.rmtree(directory, ignore_errors=True)
    while os.path.lexists(directory) and _remove_a_level(directory):
        pass


def _remove_a_level(directory: Path) -> bool:
    """Removes the files and directories in it, and moves what is in those up here; whether there was any progress."""
    progress = False
    for path in _entries(directory):
        for below in _entries(path):
            with contextlib.suppress(OSError):
                if is_directory(below):
                    below.chmod(0o700)
                    below.rename(directory / uuid.uuid4().hex)
                else:
                    below.unlink()
                progress = True
        with contextlib.suppress(OSError):
            if is_directory(path):
                path.rmdir()
            else:
                path.unlink()
            progress = True
    with contextlib.suppress(OSError):
        directory.rmdir()
    return progress


def _entries(directory: Path) -> List[Path]:
    if not is_directory(directory):
        return []
    with contextlib.suppress(OSError):
        directory.chmod(0o700)
        return list(directory.iterdir())
    return []


def is_directory(path: Path) -> bool:
    """Whether there is a directory, and no link to one; what may not be looked at is none."""
    with contextlib.suppress(OSError):
        return stat.S_ISDIR(path.lstat().st_mode)
    return False
