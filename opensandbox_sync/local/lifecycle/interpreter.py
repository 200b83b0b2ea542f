"""What of this machine a daemon needs to run inside a sandbox: the interpreter, its packages, and ours."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import List, Sequence, Tuple

OURS = "/.opensandbox"
_HOST = f"{OURS}/host"


class UnavailableError(Exception):
    """Bubblewrap does not work here; the text says why, and what to do."""


def is_below(path: str, directories: Sequence[str]) -> bool:
    """Whether the path is one of the directories or lies in one."""
    return any(path == directory or path.startswith(directory.rstrip("/") + "/") for directory in directories)


class Interpreter:
    """`argv` runs Python inside, `path` is what it needs on sys.path besides, `mounts` are (source, target).

    Over the host's own system directories all keeps its name, so that a virtual environment works. `relocated`
    is for a file system with another libc, and perhaps no Python: there it lies in a corner, and the host's own
    loader starts it with the host's libraries.
    """

    def __init__(self, shown: Sequence[str], *, relocated: bool) -> None:
        packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        needed = [sys.base_prefix, sys.base_exec_prefix, *packages]
        if relocated:
            libraries = _libraries()
            loader = next((path for path in libraries if Path(path).name.startswith("ld-")), None)
            if loader is None:
                raise UnavailableError("a root directory needs a Python that is linked dynamically")
            folders = sorted({str(Path(path).parent) for path in libraries})
            needed += folders
            search = ":".join(_HOST + folder for folder in folders)
            self.argv = [_HOST + loader, "--library-path", search, _HOST + os.path.realpath(sys.executable)]
        else:
            needed += [sys.prefix, sys.exec_prefix]
            self.argv = [sys.executable]
        prefix = _HOST if relocated else ""
        self.path = [prefix + path for path in packages]
        chosen = _outermost([path for path in needed if not is_below(path, shown)])
        self.mounts: List[Tuple[str, str]] = [(path, prefix + path) for path in chosen]
        local = str(Path(__file__).resolve().parents[1])
        self.mounts.append((local, f"{OURS}/opensandbox_sync/local"))


def _outermost(paths: Sequence[str]) -> List[str]:
    """Each path once and as it is really called too, without those that lie in another of them."""
    every = sorted({name for path in paths if Path(path).exists() for name in (path, os.path.realpath(path))})
    home = os.path.realpath(Path.home())
    for path in every:
        if is_below(home, [path]):
            raise UnavailableError(
                f"Python lives in {path}, which has all of your home directory in it; use another Python, or a "
                "virtual environment in a directory of its own"
            )
    return [path for path in every if not any(is_below(path, [other]) for other in every if other != path)]


def _libraries() -> List[str]:
    """The shared libraries that this process has loaded, the loader among them."""
    with Path("/proc/self/maps").open() as maps:
        names = {line.split(None, 5)[5].strip() for line in maps if line.count("/")}
    return sorted(name for name in names if ".so" in Path(name).name)
