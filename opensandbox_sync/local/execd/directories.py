"""Directories: listed, made and removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, List

from flask import Response, request

from .files import entries
from .filesystem import PERMISSION_FIELDS, Permissions, file_errors, file_info, paths_asked, resolve
from .paths import describe, make_directories
from .web import Route, answer, broken, empty, invalid, query


def routes() -> List[Route]:
    return [
        ("GET", "/directories/list", listing),
        ("POST", "/directories", make),
        ("DELETE", "/directories", remove),
    ]


def listing() -> Response:
    root = resolve(query("path"), "error converting path  to absolute. ")
    asked = request.args.get("depth") or "1"
    if not asked.isdecimal():
        invalid(f"invalid query parameter 'depth': {asked}")
    with file_errors("lstat", root):
        root.lstat()
    if root.is_symlink():
        invalid(f"path is a symbolic link, refusing to traverse: {root}")
    if not root.is_dir():
        invalid(f"path is not a directory: {root}")
    with file_errors("open", root):
        return answer(list(_below(root, int(asked))))


def _below(directory: Path, depth: int) -> Iterator[Dict[str, Any]]:
    """A parent, then its children, in the order of their names' bytes; links are told and not entered."""
    if not depth:
        return
    for child in sorted(directory.iterdir(), key=lambda item: os.fsencode(item.name)):
        told = file_info(child)
        yield told
        if told["type"] == "directory":
            yield from _below(child, depth - 1)


def make() -> Response:
    """With all parents; mode and owner are only for the last one, and only if it was not there."""
    for asked, fields in entries("Permission", PERMISSION_FIELDS).items():
        path = resolve(asked)
        if path.is_dir():
            continue
        try:
            make_directories(path)
            Permissions(fields).apply(path)
        except ValueError as error:
            broken(f"error accessing file: {error}")
    return empty()


def remove() -> Response:
    """Everything below too; a plain file or a link is removed as well, and what is missing is fine."""
    for asked in filter(None, paths_asked()):
        path = resolve(asked, f"error resolving directory {asked}. ")
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            broken(f"error removing directory {asked}. {describe('unlinkat', error, str(path))}")
    return empty()
