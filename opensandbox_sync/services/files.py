"""Files: read, write, and whole trees, with proof that they arrived."""

from __future__ import annotations

import stat
from contextlib import closing
from os import PathLike
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple, Union, overload

from ..errors import ApiError, InvalidArgumentError, NotFoundError, NotSupportedError, ProtocolError
from ..models import RemotePath, check_whole
from .file_routes import FileRoutes, blocks
from .file_wire import (
    FileInfo,
    Mode,
    WriteEntry,
    checked_encoding,
    checked_name,
    checked_path,
    checked_text,
    infos_of,
    permissions,
    range_header,
    says_missing,
)
from .multipart import Source, source_of, source_of_file
from .transfers import Progress, ProgressOption, check_progress, check_target, local_path, replacing

if TYPE_CHECKING:
    from ..sandbox import Sandbox
    from .trees import TreeTransfer

LocalPath = Union[str, "PathLike[str]"]

_MAX_ID = 2**32 - 2
_PAIRS = 400  # of metadata and file in one request: Go's multipart reader takes 1000 parts


class FileService:
    """Reads and writes files in a sandbox; ``sandbox.files``.

    The daemon expands every path: ``$NAME`` and ``${NAME}`` from its own environment (an unknown name is an error, and
    ``$1``, ``$$`` and the like vanish), a leading ``~`` as its home. There is no way to name a literal one. A relative
    path starts at the daemon's working directory.

    What is missing raises ``NotFoundError``. A ``mode`` is ``0o644`` or ``"644"``; owners and groups are names.
    """

    def __init__(self, sandbox: Sandbox, prefix: str = "") -> None:
        self._routes = FileRoutes(sandbox, prefix)

    def as_user(self, uid: int, gid: int) -> FileService:
        """The same files as that user has them: what it may not do fails, and what it makes is its own.

        A daemon that does not know this raises ``NotSupportedError``, one that may not change users ``ServerError``;
        nothing is ever done as another user instead.
        """
        for name, number in (("uid", uid), ("gid", gid)):
            if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _MAX_ID:
                raise InvalidArgumentError(f"{name} must be a whole number from 0 to {_MAX_ID}, not {number!r}")
        if self._routes.prefix.startswith("/v1/isolated"):
            raise NotSupportedError("an isolated session has one user, which is chosen when it is made")
        return FileService(self._routes.sandbox, f"/v1/filesystem/{uid}/{gid}")

    # -- read -------------------------------------------------------------------------------------------------------

    def read_text(
        self, path: RemotePath, *, encoding: str = "utf-8", offset: Optional[int] = None, limit: Optional[int] = None
    ) -> str:
        """The file as text, just as it is; with ``offset`` (a line's number, from 1) or ``limit`` (lines) a part of it.

        The daemon cuts the part out: its lines without all line ends that they had, joined by ``\\n``. A file that is
        not ``encoding`` raises ``InvalidArgumentError``, which is a ``ValueError``.
        """
        encoding = checked_encoding(encoding)
        asked = {"offset": offset, "limit": limit}
        lines = {name: check_whole(name, value, 1) for name, value in asked.items() if value is not None}
        content = self._routes.read(checked_path(path), lines, {})
        try:
            return content.decode(encoding)
        except (ValueError, LookupError) as cause:
            raise InvalidArgumentError(f"{path} is not {encoding!r} text ({cause}); use read_bytes()") from cause

    def read_lines(
        self, path: RemotePath, *, encoding: str = "utf-8", offset: Optional[int] = None, limit: Optional[int] = None
    ) -> List[str]:
        """The file's lines without their ends (``\\n`` or ``\\r\\n``). Arguments as in ``read_text``."""
        text = self.read_text(path, encoding=encoding, offset=offset, limit=limit)
        if not text:
            return []
        lines = text.split("\n")
        if offset is None and limit is None and not lines[-1]:
            lines.pop()  # what follows the last line end; a part has none there
        return [line.rstrip("\r") for line in lines]

    def read_bytes(self, path: RemotePath, *, start: int = 0, end: Optional[int] = None) -> bytes:
        """The file's bytes, or those that ``read_bytes(path)[start:end]`` would be.

        A negative ``start`` counts from the end, and goes without ``end``.
        """
        path, part = checked_path(path), range_header(start, end)
        try:
            return self._routes.read(path, {}, part)
        except ApiError as error:
            if error.status_code == 416 and part:  # nothing is there
                return b""
            raise

    def iter_bytes(self, path: RemotePath, *, start: int = 0, end: Optional[int] = None) -> Iterator[bytes]:
        """Yield the file's bytes as they come, holding one piece at a time. Arguments as in ``read_bytes``.

        Raises ``TransportError`` where the connection breaks before the last piece.
        """
        return self._pieces(checked_path(path), range_header(start, end))

    def _pieces(self, path: str, part: Dict[str, str]) -> Iterator[bytes]:
        try:
            body, size = self._routes.open(path, part)
        except ApiError as error:
            if error.status_code == 416 and part:
                return
            raise
        with closing(body):
            yield from blocks(path, part, body, size)

    def download(self, remote: RemotePath, local: LocalPath, *, progress: ProgressOption = None) -> int:
        """Fetch a file, piece by piece, and return its size in bytes. ``progress`` as in ``upload``.

        It is written beside ``local``, for nobody else to read, counted, and renamed: ``local`` is what it was, or the
        whole file.
        """
        target, path = local_path("local", local), checked_path(remote, "remote")
        check_progress(progress)
        check_target(target)
        body, told = self._routes.open(path, {})
        with closing(body):
            size = self._routes.size(path) if told is None else told
            with Progress(progress, f"download {target.name}", size) as shown, replacing(target) as write:
                for block in blocks(path, {}, body, size):
                    write(block)
                    shown.add(len(block))
        return size

    # -- write ------------------------------------------------------------------------------------------------------

    def write(
        self,
        path: RemotePath,
        data: Any,
        *,
        mode: Optional[Mode] = 0o644,
        owner: Optional[str] = None,
        group: Optional[str] = None,
        encoding: str = "utf-8",
    ) -> None:
        """Write a file: text, bytes, a binary file (from its position on), or an iterable of texts or bytes.

        Directories above it are made. An existing file is overwritten in place (a reader may see a part), and gets
        ``mode`` too; ``mode=None`` leaves it the one it has, but makes a new file executable: so does the daemon.
        """
        self.write_many([WriteEntry(path, data, mode, owner, group, encoding)])

    def write_many(
        self, entries: Union[Mapping[Any, Any], Iterable[Union[WriteEntry, Tuple[RemotePath, Any]]]]
    ) -> None:
        """Write several files in one request (one for each 400): ``WriteEntry`` objects, or paths with their data.

        All arguments are checked before anything is sent. Where it fails, the files before may have been written.
        """
        if isinstance(entries, str) or not isinstance(entries, Iterable):
            raise InvalidArgumentError(
                f"entries must be a mapping of paths to data or a list, not {type(entries).__name__}"
            )
        found = [_entry(entry) for entry in (entries.items() if isinstance(entries, Mapping) else entries)]
        encodings = [checked_encoding(entry.encoding) for entry in found]
        metadata = [_metadata(entry.path, entry.mode, entry.owner, entry.group) for entry in found]
        sources: List[Source] = []
        try:
            for entry, encoding in zip(found, encodings):
                sources.append(source_of(entry.data, encoding))
            parts = list(zip(metadata, sources))
            for at in range(0, len(parts), _PAIRS):
                self._routes.upload(parts[at : at + _PAIRS])
        finally:
            for source in sources:
                source.close()

    def upload(
        self,
        local: LocalPath,
        remote: RemotePath,
        *,
        mode: Optional[Mode] = 0o644,
        owner: Optional[str] = None,
        group: Optional[str] = None,
        verify: bool = True,
        progress: ProgressOption = None,
    ) -> int:
        """Send a local file, piece by piece, and return its size in bytes.

        ``mode``, ``owner`` and ``group`` as in ``write``.
        ``verify`` asks the daemon afterwards how many bytes it has; ``TransportError`` where that is another number.
        ``progress`` is called with (bytes done, bytes in all); True shows a bar where tqdm is installed, else a line.
        """
        source, metadata = local_path("local", local), _metadata(remote, mode, owner, group, "remote")
        check_progress(progress)
        try:
            source = source.resolve(strict=True)
            status = source.stat()
            if not stat.S_ISREG(status.st_mode):
                raise InvalidArgumentError(f"local {str(local)!r} is not a file; upload_dir() sends a directory")
            source.open("rb").close()
        except (OSError, RuntimeError) as cause:
            raise InvalidArgumentError(f"local {str(local)!r} cannot be read: {cause}") from cause
        with Progress(progress, f"upload {source.name}", status.st_size) as shown:
            self._routes.upload([(metadata, source_of_file(source, status.st_size))], shown.add)
        if verify:
            self._routes.verify({metadata["path"]: status.st_size})
        return status.st_size

    # -- trees ------------------------------------------------------------------------------------------------------

    def upload_dir(
        self,
        local: LocalPath,
        remote: RemotePath,
        *,
        ignore: Iterable[str] = (),
        verify: bool = True,
        progress: ProgressOption = None,
    ) -> TreeTransfer:
        """Send what is in a local directory into the directory ``remote``, which is made where it is missing.

        Modes are kept, and empty directories; a directory that is there already keeps its own mode, and what
        ``remote`` has besides stays. ``ignore`` takes patterns as in a ``.gitignore``. Links, sockets and the like are
        not sent; the result names them. Where a link of the sandbox is in the way nothing is sent:
        ``InvalidArgumentError``, or ``BadRequestError`` where ``remote`` itself is one. Small files go many in one
        request, and a few requests at once. ``verify`` and ``progress`` as in ``upload``.
        """
        from .trees import upload_dir

        return upload_dir(self._routes, local, remote, ignore=ignore, verify=verify, progress=progress)

    def download_dir(
        self, remote: RemotePath, local: LocalPath, *, ignore: Iterable[str] = (), progress: ProgressOption = None
    ) -> TreeTransfer:
        """Fetch what is in a directory into the local directory ``local``, which is made where it is missing.

        As ``upload_dir``, the other way round. Nothing is written outside ``local`` or through a link in it, and each
        file is there as a whole or not at all.
        """
        from .trees import download_dir

        return download_dir(self._routes, remote, local, ignore=ignore, progress=progress)

    # -- look -------------------------------------------------------------------------------------------------------

    @overload
    def info(self, path: RemotePath) -> FileInfo: ...  # type: ignore[overload-overlap]
    @overload
    def info(self, path: Iterable[RemotePath]) -> Dict[str, FileInfo]: ...
    def info(self, path: Union[RemotePath, Iterable[RemotePath]]) -> Union[FileInfo, Dict[str, FileInfo]]:
        """What is known of a path, or of several, by path. ``NotFoundError`` if one of them is missing."""
        if isinstance(path, (bytes, Mapping)) or not isinstance(path, (str, PurePath, Iterable)):
            raise InvalidArgumentError(f"path must be a path in the sandbox or a list of them, not {path!r}")
        if isinstance(path, (str, PurePath)):
            asked = checked_path(path)
            return self._routes.infos([asked])[asked]
        return self._routes.infos([checked_path(item) for item in path])

    def exists(self, path: RemotePath) -> bool:
        """Whether there is anything at ``path``; a link counts, wherever it leads."""
        try:
            self._routes.infos([checked_path(path)])
        except NotFoundError as error:
            if not says_missing(error):  # it is the sandbox, or the session, that is missing
                raise
            return False
        return True

    def list(self, path: RemotePath, *, depth: int = 1) -> List[FileInfo]:
        """What is in a directory, and with ``depth`` above 1 in those below; a directory stands before its content.

        Links are told, not entered. ``BadRequestError`` for a path that is no directory, or a link to one.
        """
        return self._routes.listing(checked_path(path), check_whole("depth", depth, 1))

    def search(self, path: RemotePath, pattern: str = "**") -> List[FileInfo]:
        """All files below ``path`` whose own name matches ``pattern``: ``*``, ``?``, ``[a-z]``, ``{a,b}``.

        Directories are never found. A pattern with a ``/`` matches nothing, but for a leading ``**/``.
        """
        params = {"path": checked_path(path), "pattern": checked_name("pattern", pattern)}
        return self._routes.call("GET", "/files/search", f"search {path}", params=params).read(infos_of)

    # -- change -----------------------------------------------------------------------------------------------------

    def replace_text(self, path: RemotePath, old: str, new: str) -> int:
        """Replace each ``old`` in a file by ``new``, literally, and return how many there were; 0 is no error."""
        path = checked_path(path)
        change = {"old": checked_text("old", old), "new": checked_text("new", new, may_be_empty=True)}
        options = {"params": {"verbose": "true"}, "json": {path: change}}
        answer = self._routes.call("POST", "/files/replace", f"replace text in {path}", **options)
        try:
            count = answer.json()[path]["replacedCount"]
        except (KeyError, TypeError):
            count = None
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ProtocolError(
                f"the daemon did not say how often it replaced text in {path}", request_id=answer.request_id
            )
        return count

    def move(self, source: RemotePath, destination: RemotePath) -> None:
        """Rename a file or directory; directories above ``destination`` are made.

        ``ConflictError`` where ``destination`` exists: nothing is overwritten, and nothing moved into it.
        """
        pair = {"src": checked_path(source, "source"), "dest": checked_path(destination, "destination")}
        self._routes.call("POST", "/files/mv", f"move {source} to {destination}", json=[pair])

    def remove(self, *paths: RemotePath) -> None:
        """Remove files; those that are missing are fine. ``ServerError`` for a directory: see ``remove_dirs``."""
        self._routes.delete("/files", [checked_path(path) for path in paths])

    def make_dirs(
        self,
        *paths: RemotePath,
        mode: Optional[Mode] = None,
        owner: Optional[str] = None,
        group: Optional[str] = None,
    ) -> None:
        """Make directories and those above them; existing ones are left as they are.

        ``mode`` (755 unless given), ``owner`` and ``group`` are for the paths named, not for those above them.
        """
        wanted = [_metadata(path, mode, owner, group) for path in paths]
        self._routes.make_dirs({fields.pop("path"): fields for fields in wanted})

    def remove_dirs(self, *paths: RemotePath) -> None:
        """Remove directories with all that is in them; those that are missing are fine. A plain file goes, too."""
        self._routes.delete("/directories", [checked_path(path) for path in paths])

    def set_permissions(
        self,
        path: RemotePath,
        *,
        mode: Optional[Mode] = None,
        owner: Optional[str] = None,
        group: Optional[str] = None,
    ) -> None:
        """Change what is given, and nothing else, of a file or directory; a link is followed."""
        path, fields = checked_path(path), permissions(mode, owner, group)
        if not fields:
            raise InvalidArgumentError("set_permissions() needs a mode, an owner or a group")
        self._routes.call("POST", "/files/permissions", f"change the permissions of {path}", json={path: fields})

    def __repr__(self) -> str:
        prefix = self._routes.prefix
        return f"<FileService of {self._routes.sandbox.id}{' at ' + prefix if prefix else ''}>"


def _entry(entry: Any) -> WriteEntry:
    if isinstance(entry, WriteEntry):
        return entry
    if isinstance(entry, tuple) and len(entry) == 2:
        return WriteEntry(*entry)
    raise InvalidArgumentError(f"entries must be WriteEntry objects or (path, data) pairs, not {type(entry).__name__}")


def _metadata(
    path: RemotePath, mode: Optional[Mode], owner: Optional[str], group: Optional[str], name: str = "path"
) -> Dict[str, Any]:
    return {"path": checked_path(path, name), **permissions(mode, owner, group)}
