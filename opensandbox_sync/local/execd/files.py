"""Files: told about, removed, changed, moved, searched and edited."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Iterator, List

from flask import Response, request

from .filesystem import PERMISSION_FIELDS, Permissions, file_errors, file_info, paths_asked, refuse, resolve
from .paths import describe
from .patterns import BadPattern, name_matcher
from .web import Route, answer, broken, empty, invalid, query, read_json, struct

PARSING = "error parsing request, MAYBE invalid body format. "


def routes() -> List[Route]:
    return [
        ("GET", "/files/info", info),
        ("DELETE", "/files", remove),
        ("POST", "/files/permissions", permissions),
        ("POST", "/files/mv", move),
        ("GET", "/files/search", search),
        ("POST", "/files/replace", replace),
    ]


def entries(kind: str, fields: Dict[str, type]) -> Dict[str, Dict[str, Any]]:
    """A body that is a map of paths, each with an object."""
    body = read_json(PARSING)
    if body is None:
        return {}
    if not isinstance(body, dict):
        invalid(f"{PARSING}json: cannot unmarshal into Go value of type map[string]model.{kind}")
    return {path: struct(value or {}, kind, fields, PARSING) for path, value in body.items()}


def info() -> Response:
    found = {}
    for asked in sorted(paths_asked()):
        path = resolve(asked)
        try:
            found[asked] = file_info(path)
        except (OSError, ValueError) as error:
            reason = describe("lstat", error, str(path))
            refuse(error, f"file not found: {path}: {reason}" if isinstance(error, FileNotFoundError) else reason)
    return answer(found)


def remove() -> Response:
    """What is missing is as good as removed; a directory is refused."""
    for asked in paths_asked():
        path = resolve(asked)
        try:
            path.stat()  # as the daemon does: a dangling link is taken for missing
            if path.is_dir():
                broken(f"error removing file {asked}. path is a directory: {path}")
            path.unlink()
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            broken(f"error removing file {asked}. {describe('remove', error, str(path))}")
    return empty()


def permissions() -> Response:
    """Missing is a 500 here."""
    for asked, fields in entries("Permission", PERMISSION_FIELDS).items():
        path = resolve(asked)
        try:
            path.stat()
            Permissions(fields).apply(path)
        except OSError as error:
            broken(f"error changing permissions for {asked}. {describe('chmod', error, str(path))}")
        except ValueError as error:
            broken(f"error changing permissions for {asked}. {error}")
    return empty()


def move() -> Response:
    body = read_json(PARSING)
    if not isinstance(body, list):
        invalid(PARSING + "json: cannot unmarshal into Go value of type []model.RenameFileItem")
    for item in body:
        pair = struct(item, "RenameFileItem", {"src": str, "dest": str}, PARSING)
        source, target = resolve(pair.get("src", "")), resolve(pair.get("dest", ""))
        with file_errors("stat", source):
            source.stat()
        if os.path.lexists(target):
            broken(f"error accessing file: destination path already exists: {target}")
        with file_errors("mkdir", target.parent):
            target.parent.mkdir(0o755, parents=True, exist_ok=True)
        with file_errors("rename", source):
            source.rename(target)
    return empty()


def search() -> Response:
    """Every file below a path whose own name matches; directories are walked and never found."""
    root = resolve(query("path"))
    try:
        matches = name_matcher(request.args.get("pattern") or "**")
    except BadPattern as error:
        broken(f"error searching files. {error}")
    with file_errors("lstat", root):
        root.lstat()
    found = []
    with file_errors("open", root):
        for path in _walk(root):
            if matches(path.name):
                found.append(file_info(path))
    return answer(found)


def _walk(path: Path) -> Iterator[Path]:
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for child in sorted(path.iterdir(), key=lambda item: os.fsencode(item.name)):
        yield from _walk(child)


def replace() -> Response:
    """Replace all occurrences, as bytes; no occurrence is a success too."""
    counts = {}
    for asked, change in entries("ReplaceFileContentItem", {"old": str, "new": str}).items():
        if not change.get("old"):
            invalid("old content must not be empty")
        path = resolve(asked)
        old, new = change["old"].encode(), change.get("new", "").encode()
        with file_errors("open", path):
            content = path.read_bytes()
            counts[asked] = {"replacedCount": content.count(old)}
            path.write_bytes(content.replace(old, new))
    return answer(counts) if request.args.get("verbose") == "true" else empty()
