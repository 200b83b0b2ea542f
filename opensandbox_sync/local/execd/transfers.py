"""Files in and out: multipart uploads, and downloads that are whole, a byte range, or lines."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from itertools import islice
from pathlib import Path
from typing import IO, Any, Dict, Iterator, List, Optional, Tuple
from urllib.parse import quote

from flask import Response, request
from werkzeug.datastructures import FileStorage
from werkzeug.http import http_date, is_resource_modified

from ..serving import AbortedError
from .filesystem import PERMISSION_FIELDS, Permissions, refuse, resolve
from .paths import UndefinedVariable, describe, expand
from .web import Failure, Route, broken, chunks, empty, invalid, query, text

PIECE = 128 * 1024


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
    try:
        fields = json.loads(part.read())
        kinds = {"path": str, **PERMISSION_FIELDS}
        fields = {name: value for name, value in fields.items() if name in kinds and value is not None}
        for name, value in fields.items():
            if type(value) is not kinds[name]:
                raise ValueError(f"json: cannot unmarshal field {name} of type {kinds[name].__name__}")
    except (ValueError, AttributeError, RecursionError) as error:
        raise Failure(400, "INVALID_FILE_METADATA", f"invalid metadata format. {error}") from error
    if not fields.get("path"):
        raise Failure(400, "INVALID_FILE_METADATA", "metadata path is empty")
    return fields


def _store(name: str, permissions: Permissions, content: IO[bytes]) -> None:
    """Overwrite in place, so that a file keeps its inode, mode and owner; make parents as needed."""
    try:
        path = Path(expand(name, os.environ))
    except UndefinedVariable as error:
        broken(f"error resolving target path {name}. {error}")
    step = "creating target directory", "mkdir", path.parent
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        step = "opening destination file", "open", path
        # A new file is executable, as with the real daemon, unless a mode is given.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o777), "wb", 0) as target:
            step = "copying file", "write", path
            shutil.copyfileobj(content, target, PIECE)
        step = "chmoding file", "chmod", path
        permissions.apply(path)
    except (OSError, ValueError) as error:
        reason = describe(step[1], error, str(step[2])) if isinstance(error, OSError) else str(error)
        broken(f"error {step[0]} {step[2]}. {reason}")


def download() -> Response:
    path = resolve(query("path"))
    lines = _lines_asked()
    if lines and "Range" in request.headers:
        invalid("line-based reading (offset/limit) and byte range (Range header) are mutually exclusive")
    try:
        file = path.open("rb", 0)
    except IsADirectoryError:
        # The daemon promises more bytes than there can be and sends none.
        headers = {"Content-Length": str(2**63 - 1)}
        return Response(_nothing(), 200, headers, content_type="application/octet-stream")
    except (OSError, ValueError) as error:
        refuse(error, describe("open", error, str(path)))
    if lines:
        response = Response(_lines(file, *lines), 200, content_type="text/plain; charset=utf-8")
    else:
        response = _bytes(file, path)
    response.call_on_close(file.close)
    return response


def _nothing() -> Iterator[bytes]:
    raise AbortedError("a directory has no content")
    yield b""


def _lines_asked() -> Optional[Tuple[int, Optional[int]]]:
    """Offset (from 1) and limit, if either was given."""
    given = {name: request.args[name] for name in ("offset", "limit") if name in request.args}
    for name, value in given.items():
        if not value.isdecimal() or int(value) < 1:
            invalid(f"invalid query parameter '{name}': {value}")
    if not given:
        return None
    return int(given.get("offset", "1")), int(given["limit"]) if "limit" in given else None


def _lines(file: IO[bytes], offset: int, limit: Optional[int]) -> Iterator[bytes]:
    """Lines without their ends, joined by `\\n`; no line end after the last."""
    with os.fdopen(os.dup(file.fileno()), "rb") as buffered:
        stop = offset - 1 + limit if limit else None
        for number, line in enumerate(islice(buffered, offset - 1, stop)):
            yield (b"\n" if number else b"") + line.rstrip(b"\r\n")


def _bytes(file: IO[bytes], path: Path) -> Response:
    status = os.fstat(file.fileno())
    size = status.st_size
    headers = {"Content-Disposition": _disposition(path.name), "Last-Modified": http_date(status.st_mtime)}
    if not stat.S_ISREG(status.st_mode):
        refuse(ValueError(), f"open {path}: not a regular file")
    if not is_resource_modified(request.environ, last_modified=http_date(status.st_mtime)):
        return Response(b"", 304, headers)
    wanted = _range(size) if size else None
    if wanted is None:
        headers.update({"Accept-Ranges": "bytes", "Content-Length": str(size)})
        return Response(_pieces(file, size), 200, headers, content_type="application/octet-stream")
    start, end = wanted
    if start >= end:
        headers.update({"Content-Range": f"bytes */{size}", "X-Content-Type-Options": "nosniff"})
        response = text("invalid range: failed to overlap\n", 416)
        response.headers.extend(headers)
        return response
    file.seek(start)
    del headers["Last-Modified"]
    headers.update({"Content-Range": f"bytes {start}-{end - 1}/{size}", "Content-Length": str(end - start)})
    return Response(_pieces(file, end - start), 206, headers, content_type="application/octet-stream")


def _pieces(file: IO[bytes], size: int) -> Iterator[bytes]:
    """Exactly `size` bytes: a file that shrinks meanwhile cuts the answer, it does not end it."""
    sent = 0
    for piece in chunks(file.read, size):
        sent += len(piece)
        yield piece
    if sent < size:
        raise AbortedError("the file became shorter")


def _range(size: int) -> Optional[Tuple[int, int]]:
    """The first range asked for as (start, end), cut to the file; an empty one if it cannot be had."""
    if "Range" not in request.headers:
        return None
    asked = request.range
    if asked is None or asked.units != "bytes":
        return 0, 0
    start, end = asked.ranges[0]
    if start is None or start < 0:
        return max(0, size + (start or 0)), size
    return start, min(end or size, size)


def _disposition(name: str) -> str:
    if name.isascii():
        name = re.sub(r"[\r\n]", " ", name)  # as Go writes any header
        return f'attachment; filename="{name}"'
    escaped = quote(name, safe="")
    return f"attachment; filename=\"{escaped}\"; filename*=UTF-8''{escaped}"
