"""What `LocalServer` may be given, checked before anything is started."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, List, Optional, Tuple

ISOLATIONS = ("auto", "bubblewrap", "none")


class LocalServerError(RuntimeError):
    """The embedded server cannot be started; the message says why and what to do."""


class InvalidOptionError(LocalServerError, ValueError):
    """`LocalServer` was given what it cannot take: the message says which, and what would be right."""


def checked_port(port: Any) -> int:
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        raise InvalidOptionError(f"port must be an int from 0 (a free one) to 65535, not {port!r}")
    return port


def checked_key(key: Any) -> Optional[str]:
    """A key travels in a header, where not every text arrives as it was. The message does not show it."""
    right = "api_key must be a text of printable ASCII without spaces around it, or None for a random one"
    if key is not None and not isinstance(key, str):
        raise InvalidOptionError(f"{right}, not of type {type(key).__name__}")
    if key is not None and (not key or key != key.strip() or not (key.isascii() and key.isprintable())):
        raise InvalidOptionError(f"{right}; this one is {'not' if key.strip() else 'blank'}")
    return key


def checked_isolation(isolation: Any) -> str:
    if isolation not in ISOLATIONS:
        raise InvalidOptionError(f"isolation must be one of {', '.join(ISOLATIONS)}, not {isolation!r}")
    return str(isolation)


def checked_host_paths(paths: Any) -> List[str]:
    """One directory or several. A text is one: its characters would be paths, and `/` one of them."""
    if _path(paths) is None:
        try:
            return [_checked_host_path(path) for path in paths]
        except TypeError:
            pass
    return [_checked_host_path(paths)]


def _checked_host_path(given: Any) -> str:
    path = _path(given)
    path = path and Path(os.path.normpath(path))  # or nothing would be found to lie in it
    if path is None or not path.is_absolute() or not path.is_dir():
        raise InvalidOptionError(f"allow_host_path must name absolute paths of directories that exist, not {given!r}")
    if path.resolve() == Path("/"):
        raise InvalidOptionError(
            f"allow_host_path must not be {given!r}, which would give every sandbox all files of this machine; "
            "name the directories that volumes may come from"
        )
    return str(path)


def checked_root(given: Any, isolation: str) -> Optional[str]:
    """A directory with a system in it, and with nothing that isolation is to keep from sandboxes."""
    if given is None:
        return None
    right = "root must be a directory with a system in it (usr, ...), such as debootstrap makes"
    path = _path(given)
    if path is None or not (path / "usr").is_dir():
        raise InvalidOptionError(f"{right}, not {given!r}")
    if isolation == "none":
        raise InvalidOptionError(f"root needs isolation, which isolation='none' forbids; it is {given!r}")
    root = path.resolve()
    for what, private in _private():
        if root == private or root in private.parents:
            raise InvalidOptionError(f"{right}, not {given!r}, which has {what} in it: {private}")
    return str(root)


def _private() -> List[Tuple[str, Path]]:
    import pwd  # not everywhere, and the caller shall be told that in words

    homes = set()
    with contextlib.suppress(RuntimeError):
        homes.add(Path.home())
    with contextlib.suppress(KeyError):
        homes.add(Path(pwd.getpwuid(os.getuid()).pw_dir))  # whatever $HOME says
    # An account without a home may have the root directory for one; that has this package in it.
    found = [("your home directory", home.resolve()) for home in homes if home != Path("/")]
    return [*found, ("this project", Path(__file__).resolve().parent)]


def _path(given: Any) -> Optional[Path]:
    if not isinstance(given, (str, os.PathLike)) or not given:
        return None
    path = os.fspath(given)
    return Path(path) if isinstance(path, str) and path and "\0" not in path else None
