"""Isolated sessions need a sandbox inside the sandbox. There is none here, and every route says so."""

from __future__ import annotations

from typing import Any, List

from flask import Response

from .web import Failure, Route, answer

_SESSION = "/v1/isolated/session/<session_id>"
_NEEDED = [
    ("POST", "/v1/isolated/session"),
    ("GET", "/v1/isolated/sessions"),
    ("GET", _SESSION),
    ("DELETE", _SESSION),
    ("POST", _SESSION + "/run"),
    ("GET", _SESSION + "/runs/<run_id>"),
    ("GET", _SESSION + "/runs/<run_id>/logs"),
    ("GET", _SESSION + "/diff"),
    ("POST", _SESSION + "/commit"),
]


def routes(file_routes: List[Route]) -> List[Route]:
    needed = _NEEDED + [(verb, _SESSION + path) for verb, path, _ in file_routes]
    return [
        ("GET", "/v1/isolated/capabilities", capabilities),
        *((verb, path, unavailable) for verb, path in needed),
    ]


def capabilities() -> Response:
    return answer(
        {
            "available": False,
            "message": "the embedded server has no isolated sessions",
            "setpriv_available": False,
            "userns_available": False,
            "commit_supported": False,
            "diff_supported": False,
        }
    )


def unavailable(**_: Any) -> Response:
    raise Failure(503, "SERVICE_UNAVAILABLE", "isolation unavailable")
