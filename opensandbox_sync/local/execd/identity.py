"""The file routes as somebody else: /v1/filesystem/{uid}/{gid}/..., where the daemon runs as root."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List

from flask import Response, request

from .web import Failure, Route, invalid

_PREFIX = "/v1/filesystem/<uid>/<gid>"
_UNAVAILABLE = "FILESYSTEM_IDENTITY_UNAVAILABLE"


def mirrored(routes: List[Route]) -> List[Route]:
    return [(verb, _PREFIX + path, _acting(view)) for verb, path, view in routes]


def _acting(view: Callable[[], Response]) -> Callable[[str, str], Response]:
    def acting(uid: str, gid: str) -> Response:
        user, group = _number("uid", uid), _number("gid", gid)
        if sys.platform != "linux":
            raise Failure(501, _UNAVAILABLE, "filesystem identity needs Linux")
        if os.geteuid():
            raise Failure(503, _UNAVAILABLE, "filesystem identity needs a daemon that runs as root")
        _ = request.files  # an upload is received as ourselves and stored as them
        with _as_user(user, group):
            return view()

    return acting


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) >= 2**32 - 1:
        invalid(f"invalid {name}: {text}")
    return int(text)


@contextmanager
def _as_user(uid: int, gid: int) -> Iterator[None]:
    """Linux has an identity for files alone, and each thread its own: other requests do not see this."""
    library: Any = ctypes.CDLL(None)
    library.setfsgid(ctypes.c_uint(gid))
    library.setfsuid(ctypes.c_uint(uid))  # last on the way in: it takes root's file capabilities away
    try:
        yield
    finally:
        library.setfsuid(0)
        library.setfsgid(0)
