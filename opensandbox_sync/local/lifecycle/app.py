"""The control plane as one WSGI application: request ids, the guard, the proxy, and Flask for the rest."""

from __future__ import annotations

import logging
import uuid
from typing import Any, Callable, Dict, Iterable, Sequence, Set
from urllib.parse import quote

from flask import Flask, Response, abort, current_app, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request

from ..egress.sidecar import AUTH_HEADER, Sidecar
from . import guard
from .errors import ApiError, DetailError
from .proxy import EGRESS_PORT, ROUTE, Proxy, drain
from .routes import VERSION, Routes, answer_json, no_sidecar, nothing, relay
from .sandboxes import Registry
from .snapshots import SnapshotStore

logger = logging.getLogger("opensandbox_sync.local")
_MAX_JSON = 16 << 20


class ControlPlane:
    """A WSGI application."""

    def __init__(
        self,
        registry: Registry,
        snapshots: SnapshotStore,
        *,
        port: int,
        api_key: str,
        allowed_host_paths: Sequence[str],
    ) -> None:
        self._api_key = api_key
        self._proxy = Proxy(registry, port)
        self._flask = _flask(Routes(registry, snapshots, port, allowed_host_paths))

    def __call__(self, environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request_id = environ.get("HTTP_X_REQUEST_ID", "").strip() or uuid.uuid4().hex

        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            return start_response(status, [*headers, ("X-Request-ID", request_id)], exc_info)

        try:
            guard.check(environ, self._api_key)
            found = ROUTE.fullmatch(environ["REQUEST_URI"])
            if found is None:
                return self._flask(environ, start)
            sandbox = self._proxy.find(found, environ)
            if int(found["port"]) == EGRESS_PORT:
                if sandbox.sidecar is None:
                    raise no_sidecar(sandbox)
                return _ask_sidecar(sandbox.sidecar, found["path"] or "/", environ)(environ, start)
            return self._proxy.forward(sandbox, found, environ, start)
        except ApiError as error:
            answer = _refusal(error)
        except DetailError as error:
            answer = _detail(error)
        drain(environ)
        return answer(environ, start)


def _ask_sidecar(sidecar: Sidecar, path: str, environ: Dict[str, Any]) -> Response:
    asked = Request(environ)
    body = asked.get_data() if (asked.content_length or 0) <= _MAX_JSON else b""
    return relay(sidecar.answer(asked.method, path, asked.headers.get(AUTH_HEADER), body))


def _refusal(error: ApiError) -> Response:
    return answer_json({"code": error.code, "message": str(error)}, error.status)


def _detail(error: DetailError) -> Response:
    return answer_json({"detail": error.detail}, error.status, **error.headers)


def _http_error(error: HTTPException) -> Response:
    path = request.path.rstrip("/")
    if error.code == 404 and path and path != request.path and _methods(path):
        query = b"?" + request.query_string if request.query_string else b""
        answer = nothing(307)
        answer.headers["Location"] = request.host_url.rstrip("/") + quote(path) + query.decode("latin-1")
        return answer
    answer = answer_json({"detail": error.name}, error.code or 500)
    if error.code == 405:
        answer.headers["Allow"] = ", ".join(sorted(_methods(request.path) - {"HEAD", "OPTIONS"}))
    return answer


def _methods(path: str) -> Set[str]:
    """The verbs that there are for a path; none where it leads nowhere."""
    return set(current_app.url_map.bind("").allowed_methods(path))


def _unexpected(error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.path, exc_info=error)
    return answer_json({"code": "GENERAL::UNKNOWN_ERROR", "message": f"{type(error).__name__}: {error}"}, 500)


def _flask(routes: Routes) -> Flask:
    app = Flask("opensandbox_sync.local", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = _MAX_JSON
    app.url_map.merge_slashes = False
    app.register_error_handler(ApiError, _refusal)
    app.register_error_handler(DetailError, _detail)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)
    api = routes.blueprint()
    app.register_blueprint(api)
    app.register_blueprint(api, name="v1", url_prefix="/v1")
    app.add_url_rule("/health", "health", lambda: answer_json({"status": "healthy"}))
    app.add_url_rule("/version", "version", lambda: answer_json({"version": VERSION}))
    app.add_url_rule("/v1/metrics/events", "metrics", routes.metrics_event, methods=["POST"])
    verbs = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    app.add_url_rule("/egress/<sandbox_id>/<path:path>", "egress", routes.sidecar, methods=verbs)

    @app.before_request
    def no_head() -> None:
        # Flask adds HEAD to every GET; the real server does not have it.
        if request.method == "HEAD" and request.routing_exception is None:
            abort(405)

    @app.after_request
    def read_all(response: Response) -> Response:
        drain(request.environ)
        return response

    return app
