"""Paths as the daemon reads them: `$NAME`, `${NAME}` and a leading `~` are expanded; there is no escape."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Mapping

from .environment import VARIABLE


class UndefinedVariable(ValueError):
    pass


def expand(path: str, environment: Mapping[str, str]) -> str:
    """The absolute path that `path` names; `UndefinedVariable` where it names an unknown variable."""
    missing = [a or b for a, b in VARIABLE.findall(path) if (a or b) not in environment]
    if missing:
        raise UndefinedVariable(f"path references undefined environment variables: {', '.join(missing)}")
    path = VARIABLE.sub(lambda found: environment[found.group(1) or found.group(2)], path)
    if path == "~" or path.startswith("~/"):
        path = environment.get("HOME", "/") + path[1:]
    return os.path.normpath(Path(path).absolute())


def working_directory(path: str, environment: Mapping[str, str]) -> str:
    """An existing directory, or a `ValueError` with the daemon's words."""
    try:
        full = expand(path, environment)
    except UndefinedVariable as error:
        raise ValueError(f'cannot resolve working directory "{path}": {error}') from error
    try:
        mode = Path(full).stat().st_mode
    except FileNotFoundError as error:
        reason = describe("stat", error, full)
        raise ValueError(f"working directory does not exist: {full}: {reason}") from error
    except (OSError, ValueError) as error:
        reason = describe("stat", error, full)
        raise ValueError(f"cannot access working directory {full}: {reason}") from error
    if not stat.S_ISDIR(mode):
        raise ValueError(f"working directory path is not a directory: {full}")
    return full


def make_directories(path: Path) -> None:
    """`mkdir -p`; a `ValueError` names the place that stands in the way, in the daemon's words."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        there = next((place for place in (path, *path.parents) if os.path.lexists(place)), path)
        if isinstance(error, OSError) and not there.is_dir():
            raise ValueError(f"mkdir {there}: not a directory") from error
        raise ValueError(describe("mkdir", error, str(getattr(error, "filename", path)))) from error


def describe(operation: str, error: Exception, path: str) -> str:
    """An OSError in Go's words: `open /x: no such file or directory`."""
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "invalid argument"
    return f"{operation} {path}: {reason[:1].lower()}{reason[1:]}"
