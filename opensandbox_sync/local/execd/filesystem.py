"""What the file routes share: paths, what is told about a file, owners and modes, and the words of errors."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, NoReturn

from flask import request

from .commands import rfc3339
from .paths import UndefinedVariable, describe, expand
from .web import Failure, broken

PERMISSION_FIELDS = {"mode": "int", "owner": "string", "group": "string"}


def resolve(path: str, words: str = "error accessing file: ") -> Path:
    """`words` are what the daemon puts before the reason where there is no such variable."""
    try:
        return Path(expand(path, os.environ))
    except UndefinedVariable as error:
        broken(f"{words}{error}")


def paths_asked() -> List[str]:
    return request.args.getlist("path")


@contextmanager
def file_errors(operation: str, path: Path) -> Iterator[None]:
    """Turn an OSError into the daemon's answer: 404 for what is missing, 500 for everything else."""
    try:
        yield
    except (OSError, ValueError) as error:
        refuse(error, describe(operation, error, str(path)))


def refuse(error: Exception, reason: str) -> NoReturn:
    if isinstance(error, OSError) and error.errno == errno.ENOENT:
        raise Failure(404, "FILE_NOT_FOUND", f"file not found. {reason}") from error
    raise Failure(500, "RUNTIME_ERROR", f"error accessing file: {reason}") from error


def file_info(path: Path) -> Dict[str, Any]:
    """The wire's FileInfo; a link is told as a link, and the mode is its octal digits as a decimal number."""
    status = path.lstat()
    return {
        "path": str(path),
        "type": _kind(status.st_mode),
        "size": status.st_size,
        "modified_at": rfc3339(status.st_mtime_ns),
        "created_at": rfc3339(status.st_ctime_ns),
        "owner": _name(pwd.getpwuid, status.st_uid),
        "group": _name(grp.getgrgid, status.st_gid),
        "mode": int(f"{status.st_mode & 0o777:o}"),
    }


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "symlink"
    if stat.S_ISDIR(mode):
        return "directory"
    return "file" if stat.S_ISREG(mode) else "other"


def _name(lookup: Any, number: int) -> str:
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)


class Permissions:
    """Mode, owner and group as a request gives them; what is absent, empty or 0 is left alone."""

    def __init__(self, fields: Dict[str, Any]) -> None:
        self._mode = fields.get("mode", 0)
        self._owner, self._group = fields.get("owner", ""), fields.get("group", "")

    def apply(self, path: Path) -> None:
        """Set them; links are followed. A `ValueError` with the daemon's words says what failed."""
        if self._mode:
            mode = _octal(self._mode)
            try:
                path.chmod(mode)
            except (OSError, ValueError) as error:
                raise ValueError(describe("chmod", error, str(path))) from error
        if self._owner or self._group:
            uid = _number(pwd.getpwnam, self._owner, "user")
            gid = _number(grp.getgrnam, self._group, "group")
            try:
                os.chown(path, uid, gid)
            except (OSError, ValueError) as error:
                reason = describe("chown", error, str(path))
                raise ValueError(f"failed to set owner/group for {path}: {reason}") from error


def _octal(digits: int) -> int:
    wrong = f'strconv.ParseUint: parsing "{digits}": '
    if digits < 0 or set(str(digits)) & set("89"):
        raise ValueError(wrong + "invalid syntax")
    mode = int(str(digits), 8)
    if mode >= 2**32:
        raise ValueError(wrong + "value out of range")
    return mode & 0o777


def _number(lookup: Any, name: str, kind: str) -> int:
    if not name:
        return -1
    try:
        return int(lookup(name)[2])
    except (KeyError, ValueError):  # or a NUL in it
        raise ValueError(f"failed to lookup {kind} {name}: {kind}: unknown {kind} {name}") from None
