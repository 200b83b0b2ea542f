"""Files in and out: multipart uploads, and downloads that are whole, a byte range, or lines."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Dict, Iterator, List, Optional, Tuple
from urllib.parse import quote

from flask import Response, request
from werkzeug.datastructures import FileStorage
from werkzeug.http import http_date, is_resource_modified

from ..serving import AbortedError
from .filesystem import PERMISSION_FIELDS, Permissions, refuse, resolve
from .paths import UndefinedVariable, describe, expand, make_directories
from .web import Failure, Route, broken, chunks, empty, first_value, invalid, query, struct, text

PIECE = 128 * 1024
GO_BUFFER = 2048  # a longer answer is chunked
_UNIT, _RANGE = "bytes=", re.compile(r"(\d{0,18})\s*-\s*(\d{0,18})", re.ASCII)


def routes() -> List[Route]:
    return [("POST", "/files/upload", upload), ("GET", "/files/download", download)]


def upload() -> Response:
    """The k-th `metadata` part belongs to the k-th `file` part; both must have a file name."""
    if request.mimetype != "multipart/form-data" or not (request.files or request.form):
        raise Failure(400, "INVALID_FILE", "multipart form is empty")
    described, contents = request.files.getlist("metadata"), request.files.getlist("file")
    if not described:
        raise Failure(400, "INVALID_FILE_METADATA", "metadata file is missing")
    if not contents:
        raise Failure(400, "INVALID_FILE_CONTENT", "file is missing")
    if len(described) != len(contents):
        counts = f"{len(described)} vs {len(contents)}"
        raise Failure(400, "INVALID_FILE", f"metadata and file count mismatch: {counts}")
    for part, content in zip(described, contents):
        fields = _metadata(part)
        _store(fields["path"], Permissions(fields), content.stream)
    return empty()


def _metadata(part: FileStorage) -> Dict[str, Any]:
    words = "invalid metadata format. "
    try:
        value, rest = first_value(part.read().decode("utf-8", "replace").lstrip(), words)
        if rest.strip():
            invalid(f"{words}invalid character {rest.strip()[0]!r} after top-level value")
        fields = struct(value, "FileMetadata", {"path": "string", **PERMISSION_FIELDS}, words)
    except Failure as error:
        raise Failure(400, "INVALID_FILE_METADATA", error.message) from error
    if not fields.get("path"):
        raise Failure(400, "INVALID_FILE_METADATA", "metadata path is empty")
    return fields


def _store(name: str, permissions: Permissions, content: IO[bytes]) -> None:
    """Overwrite in place, so that a file keeps its inode, mode and owner; make parents as needed."""
    try:
        path = Path(expand(name, os.environ))
    except UndefinedVariable as error:
        broken(f"error resolving target path {name}. {error}")
    try:
        make_directories(path.parent)
    except ValueError as error:
        broken(f"error creating target directory {path.parent}. {error}")
    step = "opening destination file", "open"
    try:
        # A new file is executable, as with the real daemon, unless a mode is given.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o777), "wb", 0) as target:
            step = "copying file", "write"
            shutil.copyfileobj(content, target, PIECE)
    except (OSError, ValueError) as error:
        broken(f"error {step[0]} {path}. {describe(step[1], error, str(path))}")
    try:
        permissions.apply(path)
    except ValueError as error:
        broken(f"error chmoding file {path}. {error}")


def download() -> Response:
    asked = query("path")
    path = resolve(asked, f"error resolving file path: {asked}. ")
    by_lines = bool(request.args.get("offset") or request.args.get("limit"))
    if by_lines and request.headers.get("Range"):
        invalid("line-based reading (offset/limit) and byte range (Range header) are mutually exclusive")
    try:
        file = path.open("rb", 0)
    except IsADirectoryError:
        if by_lines:
            _lines_asked()
            return text("", 200)
        # The daemon promises more bytes than there can be and sends none.
        headers = {"Content-Length": str(2**63 - 1)}
        return Response(_nothing(), 200, headers, content_type="application/octet-stream")
    except (OSError, ValueError) as error:
        refuse(error, describe("open", error, str(path)))
    try:
        response = _some_lines(file) if by_lines else _bytes(file, path)
    except Failure:
        file.close()
        raise
    response.call_on_close(file.close)
    return response


def _nothing() -> Iterator[bytes]:
    raise AbortedError("a directory has no content")
    yield b""


def _lines_asked() -> Tuple[int, Optional[int]]:
    """Offset (from 1) and limit; at least one of them is given."""
    given = {name: request.args[name] for name in ("offset", "limit") if request.args.get(name)}
    for name, value in given.items():
        if not (re.fullmatch(r"\d{1,19}", value, re.ASCII) and 1 <= int(value) < 2**63):
            invalid(f"invalid query parameter '{name}': {value}")
    return int(given.get("offset", "1")), int(given["limit"]) if "limit" in given else None


def _some_lines(file: IO[bytes]) -> Response:
    """A short answer has its length, as Go's server gives it one; a longer one is chunked."""
    lines = _lines(file, *_lines_asked())
    head = b""
    for line in lines:
        head += line
        if len(head) > GO_BUFFER:
            return Response(chain([head], lines), 200, content_type="text/plain; charset=utf-8")
    return Response(head, 200, content_type="text/plain; charset=utf-8")


def _lines(file: IO[bytes], offset: int, limit: Optional[int]) -> Iterator[bytes]:
    """Lines without their ends, joined by `\\n`; no line end after the last."""
    with os.fdopen(os.dup(file.fileno()), "rb") as buffered:
        start = min(offset - 1, sys.maxsize)
        stop = min(start + limit, sys.maxsize) if limit else None
        for number, line in enumerate(islice(buffered, start, stop)):
            yield (b"\n" if number else b"") + line.rstrip(b"\r\n")


def _bytes(file: IO[bytes], path: Path) -> Response:
    status = os.fstat(file.fileno())
    size = status.st_size
    headers = {"Content-Disposition": _disposition(path.name), "Last-Modified": http_date(status.st_mtime)}
    if not stat.S_ISREG(status.st_mode):
        refuse(ValueError(), f"open {path}: not a regular file")
    ranges = _ranges(size)
    if ranges is None:
        return _no_range(size, headers)
    # As with Go: the first range that has any bytes, whatever the conditions say; only then these; only then the rest.
    start, end = max(ranges, key=lambda one: one[0] < one[1], default=(0, size))
    if (not ranges or start == end) and _is_unchanged(headers["Last-Modified"]):
        return Response(b"", 304, headers)
    if not ranges and size and _ranges_asked().strip(" ,") != _UNIT:
        return _no_range(size, headers)
    if not ranges or start == end:
        headers["Accept-Ranges"] = "bytes"
    if ranges:
        file.seek(start)
        del headers["Last-Modified"]
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    kind = "application/octet-stream"
    return Response(_pieces(file, end - start), 206 if ranges else 200, headers, content_type=kind)


def _no_range(size: int, headers: Dict[str, str]) -> Response:
    response = text("invalid range: failed to overlap\n", 416)
    response.headers.extend({**headers, "Content-Range": f"bytes */{size}", "X-Content-Type-Options": "nosniff"})
    return response


def _is_unchanged(modified: str) -> bool:
    condition = request.headers.get("If-None-Match")
    if condition:  # there are no tags, so only `*` holds
        return condition.strip() == "*"
    return not is_resource_modified(request.environ, last_modified=modified)


def _pieces(file: IO[bytes], size: int) -> Iterator[bytes]:
    """Exactly `size` bytes: a file that shrinks meanwhile cuts the answer, it does not end it."""
    sent = 0
    for piece in chunks(file.read, size):
        sent += len(piece)
        yield piece
    if sent < size:
        raise AbortedError("the file became shorter")


def _ranges_asked() -> str:
    return request.headers.get("Range") or _UNIT


def _ranges(size: int) -> Optional[List[Tuple[int, int]]]:
    """The ranges that can be had as (start, end), cut to the file; None where the header is no range at all.

    `-0` can be had, and is empty.
    """
    asked = _ranges_asked()
    if not asked.startswith(_UNIT):
        return None
    ranges = []
    for one in filter(str.strip, asked[len(_UNIT) :].split(",")):
        found = _RANGE.fullmatch(one.strip())
        first, last = found.groups() if found else ("", "")
        if not (first or last) or (first and last and int(last) < int(first)):
            return None
        start = int(first) if first else max(0, size - int(last))
        if start < size or not first:
            ranges.append((start, min(int(last) + 1, size) if first and last else size))
    return ranges if size else []


def _disposition(name: str) -> str:
    if name.isascii():
        name = re.sub(r"[\r\n]", " ", name)  # as Go writes any header
        return f'attachment; filename="{name}"'
    escaped = quote(name, safe="")
    return f"attachment; filename=\"{escaped}\"; filename*=UTF-8''{escaped}"
