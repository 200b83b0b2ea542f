"""Files: told about, removed, changed, moved, searched and edited."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List

from flask import Response, request

from .filesystem import PERMISSION_FIELDS, Permissions, file_errors, file_info, paths_asked, refuse, resolve
from .paths import describe, make_directories
from .patterns import BadPattern, name_matcher
from .web import Route, answer, broken, empty, invalid, json_kind, query, read_json, struct

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


def entries(kind: str, fields: Dict[str, str]) -> Dict[str, Dict[str, Any]]:
    """A body that is a map of paths, each with an object."""
    body = read_json(PARSING)
    if body is None:
        return {}
    if not isinstance(body, dict):
        invalid(f"{PARSING}json: cannot unmarshal {json_kind(body)} into Go value of type map[string]model.{kind}")
    return {
        path: struct(value, kind, fields, PARSING, "." + path.replace("~", "~0").replace("/", "~1"))
        for path, value in body.items()
    }


def info() -> Response:
    found = {}
    for asked in sorted(paths_asked()):
        path = resolve(asked, f"error accessing file: invalid path {asked}: ")
        try:
            found[asked] = file_info(path)
        except (OSError, ValueError) as error:
            what = "file not found:" if isinstance(error, FileNotFoundError) else "error accessing file"
            refuse(error, f"{what} {asked}: {describe('lstat', error, str(path))}")
    return answer(found)


def remove() -> Response:
    """What is missing is as good as removed; a directory is refused."""
    for asked in paths_asked():
        words = f"error removing file {asked}. "
        path = resolve(asked, words + "invalid path: ")
        try:
            path.stat()  # as the daemon does: a dangling link is taken for missing
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            broken(words + describe("stat", error, str(path)))
        if path.is_dir():
            broken(f"{words}path is a directory: {asked}")
        try:
            path.unlink()
        except OSError as error:
            broken(f"{words}failed to remove file: {describe('remove', error, str(path))}")
    return empty()


def permissions() -> Response:
    """Missing is a 500 here."""
    for asked, fields in entries("Permission", PERMISSION_FIELDS).items():
        words = f"error changing permissions for {asked}. "
        try:
            Permissions(fields).apply(resolve(asked, words))
        except ValueError as error:
            broken(f"{words}{error}")
    return empty()


def move() -> Response:
    body = read_json(PARSING)
    if not isinstance(body, list) and body is not None:
        invalid(f"{PARSING}json: cannot unmarshal {json_kind(body)} into Go value of type []model.RenameFileItem")
    fields = {"src": "string", "dest": "string"}
    pairs = [struct(item, "RenameFileItem", fields, PARSING, f".{index}") for index, item in enumerate(body or ())]
    for pair in pairs:
        _rename(pair.get("src", ""), pair.get("dest", ""))
    return empty()


def _rename(old: str, new: str) -> None:
    source = resolve(old, "error accessing file: invalid source path: ")
    target = resolve(new, "error accessing file: invalid destination path: ")
    try:
        source.stat()
    except FileNotFoundError as error:
        refuse(error, f"source path not found: {old}: {describe('stat', error, str(source))}")
    except (OSError, ValueError):
        pass  # the rename then tells
    try:
        make_directories(target.parent)
    except ValueError as error:
        broken(f"error accessing file: failed to create destination directory: {error}")
    if os.path.exists(target):  # noqa: PTH110  (of a link, what it leads to; never an error)
        broken(f"error accessing file: destination path already exists: {new}")
    try:
        source.rename(target)
    except (OSError, ValueError) as error:
        refuse(error, f"failed to rename file: {describe('rename', error, f'{source} {target}')}")


def search() -> Response:
    """Every file below a path whose own name matches; directories are walked and never found."""
    root = resolve(query("path"), "error converting path  to absolute. ")
    with file_errors("stat", root):
        root.stat()
    pattern = request.args.get("pattern") or "**"
    try:
        matches = name_matcher(pattern)
    except BadPattern as error:
        broken(f"error searching files. invalid pattern {pattern}: {error}")
    found = []
    try:
        for path in _walk(root):
            if matches(path.name):
                with suppress(FileNotFoundError):  # it has gone meanwhile
                    found.append(file_info(path))
    except OSError as error:
        where = str(error.filename or root)
        broken(f"error searching files. error accessing path {where}: {describe('open', error, where)}")
    return answer(found)


def _walk(path: Path) -> Iterator[Path]:
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    children = []
    with suppress(FileNotFoundError):
        children = sorted(path.iterdir(), key=lambda item: os.fsencode(item.name))
    for child in children:
        yield from _walk(child)


def replace() -> Response:
    """Replace all occurrences, as bytes; no occurrence is a success too."""
    counts = {}
    for asked, change in entries("ReplaceFileContentItem", {"old": "string", "new": "string"}).items():
        path = resolve(asked)
        with file_errors("stat", path):
            path.stat()
        with file_errors("read" if path.is_dir() else "open", path):
            content = path.read_bytes()
        old, new = change.get("old", "").encode(), change.get("new", "").encode()
        if not old:
            invalid("old content must not be empty")
        counts[asked] = {"replacedCount": content.count(old)}
        with file_errors("open", path):
            path.write_bytes(content.replace(old, new))
    return answer(counts) if request.args.get("verbose") == "true" else empty()
