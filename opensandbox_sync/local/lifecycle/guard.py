"""Who may speak to the control plane: local programs that know the key, and no web page."""

from __future__ import annotations

import hmac
import re
from typing import Any, Dict
from urllib.parse import unquote

from .errors import ApiError

KEY_HEADER = "OPEN-SANDBOX-API-KEY"
_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE | re.ASCII)
_PROXY = re.compile(r"(/v1)?/sandboxes/[^/]+/proxy/\d+(/|$)", re.ASCII)


def check(environ: Dict[str, Any], api_key: str) -> None:
    """Raises 403 for what a browser may have been made to send by a page, and 401 without the right key."""
    if not _HOST.fullmatch(environ.get("HTTP_HOST", "")):
        # A page whose name was re-bound to 127.0.0.1 still sends its own name.
        message = "This server answers to 127.0.0.1, localhost and [::1] only."
        raise ApiError(403, "FORBIDDEN_HOST", message)
    path = unquote(environ["PATH_INFO"])
    is_proxy = _PROXY.match(path) is not None and ".." not in path
    if is_proxy:
        return  # applications in sandboxes have users with browsers; as on the real server, no key is asked
    if "HTTP_ORIGIN" in environ or environ.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin"):
        raise ApiError(403, "FORBIDDEN_ORIGIN", "This API does not answer to web pages.")
    if path.startswith(("/health", "/version", "/egress/")):
        return
    given = environ.get("HTTP_OPEN_SANDBOX_API_KEY", "")
    if not given:
        message = f"Authentication credentials are missing. Provide API key via {KEY_HEADER} header."
        raise ApiError(401, "MISSING_API_KEY", message)
    if not hmac.compare_digest(given.encode("latin-1", "replace"), api_key.encode("utf-8")):
        message = "Authentication credentials are invalid. Check your API key and try again."
        raise ApiError(401, "INVALID_API_KEY", message)
