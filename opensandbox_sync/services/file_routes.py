"""The daemon's file routes below one prefix: their requests, and what their answers mean."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Mapping, Optional, Sequence, Tuple

from ..errors import (
    ApiError,
    ConflictError,
    ConnectError,
    NotFoundError,
    NotSupportedError,
    ProtocolError,
    RequestTimeoutError,
    SandboxError,
    ServerError,
    TransportError,
    as_class,
)
from .file_wire import (
    FileInfo,
    FileList,
    by_length,
    content_range,
    directory_error,
    info_of,
    infos_of,
    length_of,
    named,
    part_length,
    says_missing,
)
from .multipart import BodyFailed, Multipart, Source

if TYPE_CHECKING:
    from ..sandbox import Sandbox
    from ..transport import Answer, Body

Parts = Sequence[Tuple[Dict[str, Any], Source]]

_MOST_BYTES = 2**60
_BYTES_PER_SECOND = 8 * 2**20  # at least so fast does a daemon bring an upload to its disk, before it answers


class FileRoutes:
    """The file routes of a sandbox; ``prefix`` leads to those of another user or of an isolated session."""

    def __init__(self, sandbox: Sandbox, prefix: str) -> None:
        self.sandbox = sandbox
        self.prefix = prefix

    def call(self, method: str, route: str, action: str, **options: Any) -> Answer:
        """One request; an error says what the daemon meant, whatever status it gave."""
        transport = self.sandbox._client._transport
        try:
            return transport.request(self.sandbox._execd, method, self.prefix + route, action=action, **options)
        except ApiError as error:
            raise _meant(error, route)

    # -- down -------------------------------------------------------------------------------------------------------

    def read(self, path: str, params: Mapping[str, Any], part: Mapping[str, str]) -> bytes:
        """A file, or the ``part`` of it that ``range_header`` names; a read that was cut is repeated."""
        try:
            answer = self.call(
                "GET",
                "/files/download",
                f"read {path}",
                params={"path": path, **params},
                headers={"Accept": "*/*", **part},
                idle=self.sandbox._client.config.timeout_seconds,
            )
        except (ProtocolError, TransportError, ServerError) as error:
            raise self._unread(path, error)
        if params and not answer.content and self._is_directory(path):
            raise directory_error(path)  # lines of one are none, and no error
        size = part_length(path, part, answer.status, answer.headers)
        check_size(path, part, len(answer.content), size)
        return answer.content

    def open(self, path: str, part: Mapping[str, str]) -> Tuple[Body, Optional[int]]:
        """The same as it comes, and how many bytes that must be, for ``blocks``; None where it is not told."""
        client = self.sandbox._client
        try:
            body = client._transport.stream(
                self.sandbox._execd,
                "GET",
                self.prefix + "/files/download",
                action=f"read {path}",
                params={"path": path},
                headers={"Accept": "*/*", **part},
                idle=client.config.timeout_seconds,
            )
        except ApiError as error:
            meant = _meant(error, "/files/download")
            raise self._unread(path, meant) if isinstance(meant, ServerError) else meant
        try:
            if (length_of(body.headers) or 0) > _MOST_BYTES:
                raise directory_error(path)
            return body, part_length(path, part, body.status, body.headers)
        except BaseException:
            body.close()
            raise

    def _unread(self, path: str, error: SandboxError) -> SandboxError:
        """The error for a read that failed: of a directory the daemon promises more bytes than there are, with one
        status or another, and what a proxy makes of that differs again.
        """
        if isinstance(error, (ConnectError, RequestTimeoutError, NotSupportedError)) or not self._is_directory(path):
            return error
        found = directory_error(path)
        found.__cause__ = error
        return found

    def _is_directory(self, path: str) -> bool:
        try:
            return self.infos([path])[path].type == "directory"
        except SandboxError:
            return False

    def size(self, path: str) -> int:
        """How many bytes a read of ``path`` gives; a link is followed."""
        body, size = self.open(path, {"Range": "bytes=0-0"})
        with closing(body):
            if body.status == 206:
                held = content_range(body.headers)
                size = held[2] if held else None
            else:
                size = length_of(body.headers)  # an empty file, or a server that knows no ranges
        if size is None:
            raise ProtocolError(f"the daemon does not say how long {path} is")
        return size

    # -- up ---------------------------------------------------------------------------------------------------------

    def upload(self, parts: Parts, sent: Optional[Callable[[int], None]] = None) -> None:
        """Write files in one request; ``sent`` is told how many bytes more have left."""
        body = Multipart(parts, sent)
        try:
            self.call(
                "POST",
                "/files/upload",
                f"write {named([metadata['path'] for metadata, _ in parts])}",
                data=body,
                headers={"Content-Type": body.content_type},
                idle=self.sandbox._client.config.timeout_seconds + len(body) / _BYTES_PER_SECOND,
            )
        except BodyFailed as failure:
            assert failure.__cause__ is not None
            raise failure.__cause__ from None

    def verify(self, sizes: Mapping[str, int]) -> None:
        """Raise where the daemon has not as many bytes of a path as were sent."""
        found = self.infos(list(sizes))
        for path, size in sizes.items():
            # Through a link the daemon writes, too, and tells the link's own size.
            stored = found[path].size if found[path].type == "file" else self.size(path)
            if stored != size:
                raise TransportError(f"could not write {path}: {size} bytes were sent, and {stored} are stored")

    # -- about ------------------------------------------------------------------------------------------------------

    def infos(self, paths: Sequence[str]) -> Dict[str, FileInfo]:
        found: Dict[str, FileInfo] = {}
        for some in by_length(paths):
            answer = self.call("GET", "/files/info", f"look up {named(some)}", params=[("path", path) for path in some])
            found.update(answer.read(partial(_told_of, some)))
        return found

    def listing(self, path: str, depth: int = 1) -> FileList:
        params = {"path": path, "depth": depth}
        return self.call("GET", "/directories/list", f"list {path}", params=params).read(infos_of)

    def delete(self, route: str, paths: Sequence[str]) -> None:
        for some in by_length(paths):
            self.call("DELETE", route, f"remove {named(some)}", params=[("path", path) for path in some])

    def make_dirs(self, wanted: Mapping[str, Mapping[str, Any]]) -> None:
        """Parents in a request before their children: within one the order is random, and a parent that was made for
        its child does not get its own mode any more.
        """
        levels: Dict[int, Dict[str, Mapping[str, Any]]] = {}
        for path, fields in wanted.items():
            levels.setdefault(path.rstrip("/").count("/"), {})[path] = fields
        for _, level in sorted(levels.items()):
            self.call("POST", "/directories", f"make {named(list(level))}", json=level)


def _told_of(paths: Sequence[str], data: Any) -> Dict[str, FileInfo]:
    for path in paths:
        if not isinstance(data, dict) or path not in data:
            raise ProtocolError(f"the daemon told nothing about {path}")
    return {path: info_of(data[path]) for path in paths}


def blocks(path: str, part: Mapping[str, str], body: Body, size: Optional[int]) -> Iterator[bytes]:
    """All of a body, which must have ``size`` bytes; over a user's own session nobody else counts them."""
    done = 0
    while True:
        block = body.read()
        if not block:
            break
        done += len(block)
        if size is not None and done > size:
            break
        yield block
    check_size(path, part, done, size)


def check_size(path: str, part: Mapping[str, str], done: int, size: Optional[int]) -> None:
    if size is None or done == size:
        return
    if done < size:
        raise TransportError(f"could not read {path}: {done} of {size} bytes came")
    if part and not size:
        raise ProtocolError(f"could not read {path}: a part was asked for ({part['Range']}), and the whole file came")
    raise ProtocolError(f"could not read {path}: more than the {size} bytes that were told came")


def _meant(error: ApiError, route: str) -> ApiError:
    if isinstance(error, NotFoundError) and error.body.startswith("404 page not found"):
        too_old = f"{error}; this sandbox's daemon is too old to know that address"
        return as_class(NotSupportedError, error, too_old)
    if isinstance(error, ServerError):
        # It tells some missing files with a 500. What an upload misses is a directory that it could not make.
        if says_missing(error) and route not in ("/files/upload", "/directories"):
            return as_class(NotFoundError, error)
        if route == "/files/mv" and "already exists" in error.body:
            return as_class(ConflictError, error)
    return error
