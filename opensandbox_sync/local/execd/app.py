"""The routes of the daemon, who may use them, and what an unknown one gets."""

from __future__ import annotations

import hmac
import re
from typing import Any, Dict, Iterable, List, Optional

from flask import Flask, Request, Response, current_app, request
from werkzeug.exceptions import HTTPException

from ..serving import WsgiApp
from . import directories, files, isolation, metrics, proxy, transfers
from .code import Code
from .commands import Commands
from .identity import mirrored
from .processes import Processes
from .sessions import Sessions
from .web import Failure, Route, answer, broken, chunks, empty, query, text

TOKEN_HEADER = "X-EXECD-ACCESS-TOKEN"
OWN_PREFIX = "/proxy/44772"  # what a daemon in a container would reach on its own port
_OWN_HOST = re.compile(r"^(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$", re.I)


class _Request(Request):
    """Uploads may have any number of parts, of any size."""

    max_form_parts = None
    max_form_memory_size = None


def create_app(token: Optional[str], processes: Processes) -> WsgiApp:
    app = Flask("execd", static_folder=None)
    app.request_class = _Request
    app.url_map.redirect_defaults = False
    app.url_map.merge_slashes = False
    commands, sessions = Commands(processes), Sessions(processes)
    code = Code(processes, commands)

    def interrupt() -> Response:
        return _interrupt(commands, sessions, code)

    routes: List[Route] = [("GET", "/ping", empty)]
    routes += [("DELETE", "/command", interrupt), ("DELETE", "/code", interrupt)]
    routes += commands.routes() + sessions.routes() + code.routes() + metrics.routes()
    file_routes = files.routes() + directories.routes() + transfers.routes()
    routes += file_routes + mirrored(file_routes) + isolation.routes(file_routes)
    for number, (verb, path, view) in enumerate(routes):
        app.add_url_rule(path, str(number), view, methods=[verb], provide_automatic_options=False)
    proxy.add_to(app)

    @app.before_request
    def guard() -> Optional[Response]:
        return _refuse_strangers() or _authenticate(token) or _refuse_head()

    @app.after_request
    def drain(response: Response) -> Response:
        """The next request on the connection begins behind this one's body, also where nobody read it."""
        for _ in chunks(request.environ["wsgi.input"].read):
            pass
        return response

    app.register_error_handler(Failure, lambda failure: answer(failure.body(), failure.status))
    app.register_error_handler(HTTPException, _http_error)
    return _without_prefix(app)


def _without_prefix(app: WsgiApp) -> WsgiApp:
    """Serve `/proxy/44772/...` as `/...`: endpoints are told in that form, as Docker's are."""

    def stripped(environ: Dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith(OWN_PREFIX) and path[len(OWN_PREFIX) :][:1] in ("", "/"):
            environ["PATH_INFO"] = path[len(OWN_PREFIX) :] or "/"
        return app(environ, start_response)

    return stripped


def _interrupt(commands: Commands, sessions: Sessions, code: Code) -> Response:
    """One id, whatever it names. A session that is interrupted is deleted."""
    identity = query("id")
    if sessions.close(identity) or code.interrupt(identity):
        return empty()
    command = commands.find(identity)
    if not command:
        broken("error interruptting code context. no such session")
    if command.done.is_set():
        broken(f"error interruptting code context. command session {identity} is not running")
    command.interrupt()
    return empty()


def _refuse_strangers() -> Optional[Response]:
    """A web page must not reach this server: not by a name that leads here, nor by a cross-site request."""
    if not _OWN_HOST.match(request.headers.get("Host", "localhost")):
        return answer({"code": "FORBIDDEN", "message": "this Host is not served here"}, 403)
    if request.path.startswith("/proxy/"):  # a server in the sandbox may have pages, and users with browsers
        return None
    site = request.headers.get("Sec-Fetch-Site", "none")
    if "Origin" in request.headers or site not in ("none", "same-origin"):
        return answer({"code": "FORBIDDEN", "message": "requests from web pages are not served here"}, 403)
    return None


def _authenticate(token: Optional[str]) -> Optional[Response]:
    given = request.headers.get(TOKEN_HEADER, "")
    if not token or request.path == "/ping" or hmac.compare_digest(given.encode(), token.encode()):
        return None
    return answer({"error": f"Unauthorized: invalid or missing header {TOKEN_HEADER}"}, 401)


def _refuse_head() -> Optional[Response]:
    """Flask would answer HEAD wherever there is GET."""
    is_proxied = request.path.startswith("/proxy/")
    return _not_found() if request.method == "HEAD" and not is_proxied else None


def _not_found() -> Response:
    return text("404 page not found", 404, "text/plain")


def _http_error(error: HTTPException) -> Response:
    """An unknown path and a wrong verb are one and the same; a path with a slash too many is led back."""
    if error.code not in (404, 405):
        return Response(b"", error.code or 500)
    path = request.path.rstrip("/")
    if path == request.path or not current_app.url_map.bind("").test(path, request.method):
        return _not_found()
    query_string = "?" + request.query_string.decode("latin-1") if request.query_string else ""
    return Response(b"", 301 if request.method == "GET" else 307, {"Location": path + query_string})
