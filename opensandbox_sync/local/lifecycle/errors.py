"""How the control plane says no."""

from __future__ import annotations

from typing import Any, Dict, List


class ApiError(Exception):
    """An answer `{"code", "message"}` with this status."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class DetailError(Exception):
    """An answer `{"detail": ...}`: what FastAPI itself says, for instance to an invalid body (422)."""

    def __init__(self, status: int, detail: Any, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


def invalid_parameter(message: str) -> ApiError:
    return ApiError(400, "SANDBOX::INVALID_PARAMETER", message)


def sandbox_not_found(sandbox_id: str) -> ApiError:
    return ApiError(404, "DOCKER::SANDBOX_NOT_FOUND", f"Sandbox {sandbox_id} not found.")


def problem(kind: str, where: List[Any], message: str, value: Any, **context: Any) -> Dict[str, Any]:
    """One entry of a 422's `detail`, in pydantic's shape and words."""
    entry: Dict[str, Any] = {"type": kind, "loc": list(where), "msg": message, "input": value}
    if context:
        entry["ctx"] = context
    return entry
