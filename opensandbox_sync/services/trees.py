"""Whole directories, up and down: what is sent, what is refused, and a few transfers at once."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
import uuid
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from ..errors import ClosedError, InvalidArgumentError, NotFoundError, ProtocolError
from .file_routes import FileRoutes, blocks
from .file_wire import checked_path, checked_text, says_missing
from .ignore import Ignore
from .multipart import source_of_file
from .transfers import Progress, ProgressOption, check_progress, check_target, local_path, replacing

if TYPE_CHECKING:
    from ..transport import Body

_AT_ONCE = 8  # more than a processor of ours keeps busy: most of a small file's time is the way to it and back
_BATCH_FILES = 200
_BATCH_BYTES = 4 * 2**20
_ALL = 10**6  # a depth that no tree has

# What the daemon would expand in a path; there is no way to write it literally.
_EXPANDED = re.compile(r"\$[A-Za-z0-9_{*#$@!?-]")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass
class TreeTransfer:
    """What was transferred: ``files`` and ``directories`` by their paths relative to the tree, the bytes in all, and
    ``skipped``, which says of each path that was left out why. What ``ignore`` covers is not mentioned.
    """

    files: List[str] = field(default_factory=list)
    directories: List[str] = field(default_factory=list)
    size: int = 0
    skipped: Dict[str, str] = field(default_factory=dict)


class _File(NamedTuple):
    name: str
    size: int
    mode: int


# -- up ------------------------------------------------------------------------------------------------------------


def upload_dir(
    routes: FileRoutes,
    local: Any,
    remote: Any,
    *,
    ignore: Iterable[str],
    verify: bool,
    progress: ProgressOption,
) -> TreeTransfer:
    """See ``FileService.upload_dir``."""
    root, target, ignored = local_path("local", local), checked_path(remote, "remote"), Ignore(ignore)
    check_progress(progress)
    if not root.is_dir():
        raise InvalidArgumentError(f"local {str(root)!r} is not a directory; upload() sends a file")
    directories, files, skipped = _scan(root, ignored)
    below = target.rstrip("/") + "/"
    _check_remote(routes, target, {*directories, *(file.name for file in files)})
    # A directory that its owner may not write to could not be filled.
    routes.make_dirs({target: {}, **{below + name: _wire(mode | 0o700) for name, mode in directories.items()}})
    with Progress(progress, f"upload {root.name}", sum(file.size for file in files)) as shown:

        def send(batch: Sequence[_File], stop: _Stop) -> None:
            def sent(count: int) -> None:
                stop.check()
                shown.add(count)

            parts = [
                ({"path": below + name, **_wire(mode)}, source_of_file(root / name, size)) for name, size, mode in batch
            ]
            routes.upload(parts, sent)
            if verify:
                routes.verify({below + file.name: file.size for file in batch})

        _at_once(send, _batches(files))
    closed = {below + name: _wire(mode) for name, mode in directories.items() if mode & 0o700 != 0o700}
    for path in reversed(list(closed)):
        routes.call("POST", "/files/permissions", f"change the mode of {path}", json={path: closed[path]})
    return _result(directories, files, skipped)


def _scan(root: Path, ignored: Ignore) -> Tuple[Dict[str, int], List[_File], Dict[str, str]]:
    """(modes of directories, files, what is skipped) below ``root``, a directory before its content; no link is
    followed.
    """
    directories: Dict[str, int] = {}
    files: List[_File] = []
    skipped: Dict[str, str] = {}
    pending = [""]
    while pending:
        above = pending.pop()
        try:
            with os.scandir(root / above) as entries:
                found = [(above + entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        except OSError as cause:
            raise InvalidArgumentError(f"local {str(root / above)!r} cannot be read: {cause}") from cause
        for name, status in sorted(found, key=lambda item: item[0]):
            kind = status.st_mode
            if ignored.matches(name, stat.S_ISDIR(kind)):
                continue
            if not stat.S_ISDIR(kind) and not stat.S_ISREG(kind):
                skipped[name] = "a link" if stat.S_ISLNK(kind) else "not a regular file"
                continue
            _check_expansion(checked_text("local: the name", name))
            if stat.S_ISDIR(kind):
                directories[name] = kind & 0o777
                pending.append(name + "/")
            else:
                files.append(_File(name, status.st_size, kind & 0o777))
    return directories, files, skipped


def _check_remote(routes: FileRoutes, target: str, names: Set[str]) -> None:
    """Look that nothing would be written through a link of the sandbox, where there is something of these names."""
    pending = [""] if names else []
    while pending:
        above = pending.pop()
        try:
            entries = routes.listing(f"{target.rstrip('/')}/{above}".rstrip("/") or "/")
        except NotFoundError as error:
            if not says_missing(error):
                raise
            return  # the target itself: all is new
        for info in entries:
            name = above + info.path.rsplit("/", 1)[-1]
            if name in names and info.type == "symlink":
                raise InvalidArgumentError(
                    f"{info.path!r} in the sandbox is a link where {name!r} belongs; nothing was sent"
                )
            if name in names and info.type == "directory":
                pending.append(name + "/")


def _check_expansion(name: str) -> None:
    if _EXPANDED.search(name):
        raise InvalidArgumentError(
            f"{name!r} cannot be named to the daemon, which expands '$' in paths; rename it, or ignore= it"
        )


def _wire(mode: int) -> Dict[str, int]:
    # Without the checks for slips: it comes from a file. To the daemon 0 is none, and it makes new files executable.
    return {"mode": int(f"{mode or 0o600:o}")}


def _batches(files: Sequence[_File]) -> Iterator[List[_File]]:
    """Small files together, since most of their time is the request's; a large one by itself."""
    batch: List[_File] = []
    held = 0
    for file in files:
        if batch and (len(batch) == _BATCH_FILES or held + file.size > _BATCH_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(file)
        held += file.size
    if batch:
        yield batch


# -- down ----------------------------------------------------------------------------------------------------------


def download_dir(
    routes: FileRoutes, remote: Any, local: Any, *, ignore: Iterable[str], progress: ProgressOption
) -> TreeTransfer:
    """See ``FileService.download_dir``."""
    path, root, ignored = checked_path(remote, "remote"), local_path("local", local), Ignore(ignore)
    check_progress(progress)
    if root.exists() and not root.is_dir():
        raise InvalidArgumentError(f"local {str(root)!r} is not a directory; download() fetches a file")
    top, directories, files, skipped = _listing(routes, path, ignored)
    made = _make_local(root, directories, files)
    with Progress(progress, f"download {root.name}", sum(file.size for file in files)) as shown:

        def fetch(file: _File, stop: _Stop) -> None:
            source = top + file.name
            body, told = routes.open(source, {})
            with closing(body), stop.ending(body):
                size = routes.size(source) if told is None else told
                with replacing(root / file.name, file.mode) as write:
                    for block in blocks(source, {}, body, size):
                        stop.check()
                        write(block)
                        shown.add(len(block))

        _at_once(fetch, files)
    for name in reversed(made):
        (root / name).chmod(directories[name])
    return _result(directories, files, skipped)


def _listing(routes: FileRoutes, path: str, ignored: Ignore) -> Tuple[str, Dict[str, int], List[_File], Dict[str, str]]:
    """(what all paths start with, modes of directories, files, what is skipped) of a directory in the sandbox."""
    top = routes.infos([path])[path].path.rstrip("/") + "/"
    directories: Dict[str, int] = {}
    files: Dict[str, _File] = {}
    skipped: Dict[str, str] = {}
    for info in routes.listing(path, _ALL):
        name = _relative(info.path, top)
        if ignored.covers(name, info.type == "directory"):
            continue
        if info.type not in ("file", "directory"):
            skipped[name] = "a link" if info.type == "symlink" else "not a regular file"
            continue
        _check_expansion(name)
        for end in (at for at, letter in enumerate(name) if letter == "/"):
            directories.setdefault(name[:end], 0o755)
        if info.type == "directory":
            directories[name] = info.mode & 0o777
        else:
            files[name] = _File(name, info.size, info.mode)
    both = sorted(set(directories) & set(files))
    if both:
        raise ProtocolError(f"the sandbox lists {both[0]!r} as a file and as a directory; nothing was written")
    return top, directories, list(files.values()), skipped


def _relative(path: str, top: str, windows: bool = os.name == "nt") -> str:
    """``path`` below ``top``; refused where it would lead anywhere else on this machine."""
    name = path[len(top) :] if path.startswith(top) else ""
    try:
        os.fsencode(name)
    except UnicodeEncodeError as cause:
        raise ProtocolError(f"the sandbox lists {path!r}, which is no name here; nothing was written") from cause
    for part in name.split("/"):
        leads_away = part in ("", ".", "..") or "\0" in part or _DRIVE.match(part)
        if leads_away or (windows and ("\\" in part or ":" in part)):
            raise ProtocolError(f"the sandbox lists {path!r}, which leads out of {top!r}; nothing was written")
    return name


def _make_local(root: Path, directories: Dict[str, int], files: Sequence[_File]) -> List[str]:
    """Make the directories, after a look that nothing would be written through a link or over a namesake; which are
    new.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        _check_case(root, [*directories, *(file.name for file in files)])
        made = []
        for name in directories:
            there = root / name
            if there.is_symlink() or (there.exists() and not there.is_dir()):
                raise InvalidArgumentError(f"local {str(there)!r} is a link or a file where a directory belongs")
            if not there.exists():
                made.append(name)
        for file in files:
            check_target(root / file.name, parent=False)
        for name in made:
            (root / name).mkdir(mode=0o700)
    except OSError as cause:
        raise InvalidArgumentError(f"local {str(root)!r} cannot be written: {cause}") from cause
    return made


def _check_case(root: Path, names: Sequence[str]) -> None:
    seen: Dict[str, str] = {}
    for name in names:
        folded = unicodedata.normalize("NFC", name).casefold()
        other = seen.setdefault(folded, name)
        if other != name and _ignores_case(root):
            raise InvalidArgumentError(f"{other!r} and {name!r} would be the same file in {str(root)!r}")


def _ignores_case(directory: Path) -> bool:
    probe = directory / f".{uuid.uuid4().hex}a"
    try:
        probe.touch(0o600)
        return probe.with_name(probe.name.upper()).exists()
    finally:
        probe.unlink(missing_ok=True)


# -- both ----------------------------------------------------------------------------------------------------------


def _result(directories: Dict[str, int], files: Sequence[_File], skipped: Dict[str, str]) -> TreeTransfer:
    size = sum(file.size for file in files)
    return TreeTransfer([file.name for file in files], list(directories), size, skipped)


class _Stop:
    """Ends the transfers beside one that failed."""

    def __init__(self) -> None:
        self.cause: Optional[BaseException] = None
        self._bodies: Set[Body] = set()

    def check(self) -> None:
        if self.cause is not None:
            raise ClosedError("another transfer of the tree failed")

    @contextmanager
    def ending(self, body: Body) -> Iterator[None]:
        """Within the block, ``body`` is woken by ``set``."""
        self._bodies.add(body)
        try:
            self.check()  # it may have been set before it knew of this body
            yield
        finally:
            self._bodies.discard(body)

    def set(self, cause: BaseException) -> None:
        if self.cause is None or not isinstance(cause, Exception):  # a Ctrl-C is what the caller shall see
            self.cause = cause
        for body in list(self._bodies):
            body.end()


def _at_once(act: Callable[[Any, _Stop], None], jobs: Iterable[Any]) -> None:
    """Do all jobs, a few at a time, in this thread and in others. The first failure, or a Ctrl-C, ends the others, and
    is raised when they have.
    """
    stop = _Stop()
    left = list(jobs)[::-1]

    def work() -> None:
        while stop.cause is None:
            try:
                job = left.pop()
            except IndexError:
                return
            try:
                act(job, stop)
            except BaseException as error:
                stop.set(error)

    helpers = [Thread(target=work, name="opensandbox-files") for _ in left[1:_AT_ONCE]]
    try:
        for helper in helpers:
            try:
                helper.start()
            except RuntimeError:  # as at exit, or where the system has no more: then there are fewer at once
                break
        work()
        _join(helpers)
    except BaseException as error:
        stop.set(error)
        _join(helpers)
    if stop.cause is not None:
        raise stop.cause


def _join(threads: Iterable[Thread]) -> None:
    for thread in threads:
        if thread.ident is not None:  # it was started
            thread.join()
