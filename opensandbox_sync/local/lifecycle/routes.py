"""The lifecycle API's routes."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional, Sequence, Tuple
from urllib.parse import parse_qsl

from flask import Blueprint, Response, abort, request

from ..egress.sidecar import AUTH_HEADER, Answer
from . import diagnostics, kubernetes, schema
from .creation import (
    CREATE,
    DEFAULT_ENTRYPOINT,
    NETWORK_POLICY,
    NETWORK_RULE,
    check_extensions,
    check_request,
)
from .errors import ApiError, DetailError, invalid_parameter
from .labels import patched
from .proxy import EGRESS_PORT, EXECD_PORT, TOKEN_HEADER, VERBS, check_port
from .sandboxes import Registry, Sandbox, stamp, without_none
from .snapshots import SnapshotStore

VERSION = "1.1.1"
_NAME_OF_SNAPSHOT = schema.model({"name": schema.optional(schema.text(shortest=1))})
_RENEWAL = schema.model({"expiresAt": schema.required(schema.moment)})
_LABELS = schema.mapping(schema.nullable(schema.text()))
_NETWORK_BODIES = {
    "PUT": NETWORK_POLICY,
    "PATCH": schema.array(NETWORK_RULE),
    "DELETE": schema.array(schema.text()),
}
_METRICS_EVENT = schema.model(
    {
        "eventType": schema.required(schema.one_of("sandbox.create")),
        "sandboxId": schema.optional(schema.text()),
        "image": schema.optional(schema.text()),
        "createDurationMs": schema.required(schema.integer(least=0)),
        "success": schema.required(schema.boolean),
    }
)
_LOG_LINES, _EVENT_LINES = schema.integer(least=1, most=10000), schema.integer(least=1, most=500)


def answer_json(value: Any, status: int = 200, **headers: str) -> Response:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Response(body, status, headers, content_type="application/json")


def nothing(status: int) -> Response:
    answer = Response(status=status)
    del answer.headers["Content-Type"]
    return answer


def relay(answer: Answer) -> Response:
    return Response(answer.body, answer.status, answer.headers)


def no_sidecar(sandbox: Sandbox) -> ApiError:
    return ApiError(
        502,
        "BACKEND_CONNECTION_FAILED",
        f"Could not connect to the backend sandbox {sandbox.id}:{EGRESS_PORT}: it was created without a "
        "network policy, so it has no egress sidecar.",
    )


def _body(check: schema.Check) -> Any:
    return schema.validate(check, _sent())


def _sent() -> Any:
    """To the real server a body that is not called JSON is a text, which no model takes."""
    raw = request.get_data()
    return raw.decode("utf-8", "replace") if raw and not request.is_json else schema.parse_json(raw)


def _last(name: str) -> Optional[str]:
    """A query parameter; of several the last counts."""
    values = request.args.getlist(name)
    return values[-1] if values else None


def _query(**checks: Tuple[schema.Check, Any]) -> List[Any]:
    """Reads query parameters, each with its check and its default; one 422 tells all that are wrong."""
    problems: schema.Problems = []
    values = [
        check(_last(name), ["query", name], problems) if name in request.args else default
        for name, (check, default) in checks.items()
    ]
    if problems:
        raise DetailError(422, problems)
    return values


def _page(items: Sequence[Any], page: int, size: int) -> Response:
    pages = -(-len(items) // size)
    chosen = items[(page - 1) * size : page * size]
    return answer_json(
        {
            "items": [item.to_json() for item in chosen],
            "pagination": {
                "page": page,
                "pageSize": size,
                "totalItems": len(items),
                "totalPages": pages,
                "hasNextPage": page < pages,
            },
        }
    )


def _port(text: str) -> int:
    problems: schema.Problems = []
    number: int = schema.integer()(text, ["path", "port"], problems)
    if problems:
        raise DetailError(422, problems)
    return number


_PAGING: Dict[str, Tuple[schema.Check, Any]] = {
    "page": (schema.integer(least=1), 1),
    "pageSize": (schema.integer(least=1, most=200), 20),
}


class Routes:
    """Every route exists bare and under /v1, as on the real server."""

    def __init__(
        self, registry: Registry, snapshots: SnapshotStore, port: int, allowed_host_paths: Sequence[str]
    ) -> None:
        self._registry = registry
        self._snapshots = snapshots
        self._port = port
        self._allowed = allowed_host_paths

    def blueprint(self) -> Blueprint:
        api = Blueprint("api", __name__)
        one = "/sandboxes/<sandbox_id>"
        for rule, view, *verbs in (
            ("/sandboxes", self.create, "POST"),
            ("/sandboxes", self.list, "GET"),
            (one, self.get, "GET"),
            (one, self.kill, "DELETE"),
            (f"{one}/metadata", self.patch_metadata, "PATCH"),
            (f"{one}/pause", self.pause, "POST"),
            (f"{one}/resume", self.resume, "POST"),
            (f"{one}/renew-expiration", self.renew, "POST"),
            (f"{one}/endpoints/<port>", self.endpoint, "GET"),
            (f"{one}/proxy/<port>", self.no_port, *VERBS),
            (f"{one}/proxy/<port>/<path:path>", self.no_port, *VERBS),
            (f"{one}/proxy/<port>/", self.no_port, *VERBS),
            (f"{one}/networkpolicy", self.network_policy, "GET", "PUT", "PATCH", "DELETE"),
            (f"{one}/diagnostics/logs", self.logs, "GET"),
            (f"{one}/diagnostics/events", self.events, "GET"),
            (f"{one}/diagnostics/inspect", self.inspect, "GET"),
            (f"{one}/diagnostics/summary", self.summary, "GET"),
            (f"{one}/snapshots", self.create_snapshot, "POST"),
            ("/snapshots", self.list_snapshots, "GET"),
            ("/snapshots/<snapshot_id>", self.get_snapshot, "GET"),
            ("/snapshots/<snapshot_id>", self.delete_snapshot, "DELETE"),
            ("/pools", self.pools, "POST", "GET"),
            ("/pools/<name>", self.pools, "GET", "PUT", "DELETE"),
            ("/templates", self.templates, "POST", "GET"),
            ("/templates/<name>", self.templates, "GET", "DELETE"),
        ):
            endpoint = f"{view.__name__}-{rule.count('/')}"
            api.add_url_rule(rule, endpoint, view, methods=verbs, provide_automatic_options=False)
        return api

    # sandboxes

    def create(self) -> Response:
        wanted = _body(CREATE)
        check_extensions(wanted.get("extensions") or {})
        snapshot_id: Optional[str] = wanted.get("snapshotId")
        restore_from = self._snapshots.acquire(snapshot_id) if snapshot_id else None
        try:
            if snapshot_id and not wanted.get("entrypoint"):
                wanted["entrypoint"] = DEFAULT_ENTRYPOINT
            check_request(wanted, self._allowed, can_mount=self._registry.can_mount)
            sandbox = self._registry.create(wanted, restore_from)
        finally:
            if snapshot_id:
                self._snapshots.release(snapshot_id)
        made = sandbox.to_json()
        started = {
            "state": "Running",
            "reason": "CONTAINER_RUNNING",
            "message": "Sandbox container started successfully.",
            "lastTransitionAt": made["createdAt"],
        }
        names = ("id", "metadata", "extensions", "platform", "expiresAt", "createdAt", "entrypoint")
        told = without_none({name: made.get(name) for name in names})
        return answer_json({"id": told.pop("id"), "status": started, **told}, 202)

    def list(self) -> Response:
        page, size = _query(**_PAGING)
        states = {state.lower() for state in request.args.getlist("state")}
        labels = self._label_filter(_last("metadata") or "")
        chosen = [
            sandbox
            for sandbox in self._registry.newest_first()
            if (not states or sandbox.state.lower() in states)
            and all(sandbox.metadata.get(key) == value for key, value in labels.items())
        ]
        return _page(chosen, page, size)

    @staticmethod
    def _label_filter(raw: str) -> Dict[str, str]:
        try:
            # Decoded here once more: clients encode each key and value, and then the whole.
            return dict(parse_qsl(raw, keep_blank_values=True, strict_parsing=True)) if raw else {}
        except ValueError as error:
            raise ApiError(400, "INVALID_METADATA_FORMAT", f"Invalid metadata format: {error}") from None

    def get(self, sandbox_id: str) -> Response:
        return answer_json(self._registry.get(sandbox_id).to_json())

    def kill(self, sandbox_id: str) -> Response:
        self._registry.kill(sandbox_id)
        return nothing(204)

    def patch_metadata(self, sandbox_id: str) -> Response:
        patch = _body(_LABELS)
        sandbox = self._registry.get(sandbox_id)
        sandbox.metadata = patched(sandbox.metadata, patch)
        return answer_json(sandbox.to_json())

    def pause(self, sandbox_id: str) -> Response:
        self._registry.get(sandbox_id).pause()
        return nothing(202)

    def resume(self, sandbox_id: str) -> Response:
        self._registry.get(sandbox_id).resume()
        return nothing(202)

    def renew(self, sandbox_id: str) -> Response:
        expires = _body(_RENEWAL)["expiresAt"]
        return answer_json({"expiresAt": stamp(self._registry.renew(sandbox_id, expires))})

    def endpoint(self, sandbox_id: str, port: str) -> Response:
        number = _port(port)
        through_server, expires = _query(use_server_proxy=(schema.boolean, False), expires=(schema.integer(), None))
        if through_server and expires is not None:
            raise invalid_parameter(
                "use_server_proxy cannot be combined with expires; signed endpoints require the gateway route."
            )
        check_port(number)
        if expires is not None:
            raise ApiError(
                400,
                "SANDBOX::API_NOT_SUPPORTED",
                "Signed routes (expires parameter) are not supported when runtime.type='docker'. Use the "
                "Kubernetes runtime for signed routes.",
            )
        sandbox = self._registry.get(sandbox_id)
        address, headers = self._address(sandbox, number)
        if through_server:
            mount = "/v1" if request.path.startswith("/v1/") else ""
            address = f"{request.host}{mount}/sandboxes/{sandbox_id}/proxy/{number}"
        return answer_json(without_none({"endpoint": address, "headers": headers}))

    def _address(self, sandbox: Sandbox, port: int) -> Tuple[str, Optional[Dict[str, str]]]:
        """Most sandboxes have this machine's network: what listens there is reached as it is."""
        if port == EXECD_PORT:  # as with Docker's bridge; the daemon knows its own port and makes no second hop
            return f"127.0.0.1:{sandbox.port}/proxy/{port}", {TOKEN_HEADER: sandbox.token}
        if port == EGRESS_PORT:
            headers = {AUTH_HEADER: sandbox.sidecar.token} if sandbox.sidecar else None
            return f"127.0.0.1:{self._port}/egress/{sandbox.id}", headers
        if not sandbox.has_network:
            # Not the daemon's own proxy: it wants a header, which no browser sends.
            return f"127.0.0.1:{self._port}/v1/sandboxes/{sandbox.id}/proxy/{port}", None
        return f"127.0.0.1:{port}", None

    def no_port(self, sandbox_id: str, port: str, path: str = "") -> Response:
        """What the proxy did not take, because its port is not written in digits."""
        check_port(_port(port))
        abort(404)

    # egress

    def network_policy(self, sandbox_id: str) -> Response:
        check = _NETWORK_BODIES.get(request.method)
        body = json.dumps(_body(check)).encode() if check else b""
        sandbox = self._registry.get(sandbox_id)
        if sandbox.sidecar is None:
            raise no_sidecar(sandbox)
        return relay(sandbox.sidecar.answer(request.method, "/policy", sandbox.sidecar.token, body))

    def sidecar(self, sandbox_id: str, path: str) -> Response:
        """What answers on a sandbox's port 18080; not under /v1."""
        sandbox = self._registry.get(sandbox_id)
        if sandbox.sidecar is None:
            raise no_sidecar(sandbox)
        token = request.headers.get(AUTH_HEADER)
        return relay(sandbox.sidecar.answer(request.method, "/" + path, token, request.get_data()))

    # snapshots

    def create_snapshot(self, sandbox_id: str) -> Response:
        given = _sent() if request.get_data() else None
        name = schema.validate(schema.nullable(_NAME_OF_SNAPSHOT), given)
        made = self._snapshots.create(self._registry.get(sandbox_id), (name or {}).get("name"))
        return answer_json(made, 202, Location=f"/v1/snapshots/{made['id']}")

    def list_snapshots(self) -> Response:
        page, size = _query(**_PAGING)
        states = request.args.getlist("state")
        sandbox_id, name = _last("sandboxId"), _last("name")
        chosen = [
            snapshot
            for snapshot in self._snapshots.newest_first()
            if (not states or snapshot.state in states)
            and sandbox_id in (None, snapshot.sandbox_id)
            and name in (None, snapshot.name)
        ]
        return _page(chosen, page, size)

    def get_snapshot(self, snapshot_id: str) -> Response:
        return answer_json(self._snapshots.get(snapshot_id).to_json())

    def delete_snapshot(self, snapshot_id: str) -> Response:
        self._snapshots.delete(snapshot_id, self._registry.uses_snapshot)
        return nothing(204)

    # what needs Kubernetes

    def pools(self, name: str = "") -> Response:
        if request.method in ("POST", "PUT"):
            _body(kubernetes.NEW_POOL if request.method == "POST" else kubernetes.POOL_UPDATE)
        raise kubernetes.NO_POOLS

    def templates(self, name: str = "") -> Response:
        if request.method == "POST":
            _body(kubernetes.NEW_TEMPLATE)
        elif not name:
            _query(**_PAGING)
        raise kubernetes.NO_TEMPLATES

    # diagnostics

    def logs(self, sandbox_id: str) -> Response:
        (lines,) = _query(tail=(_LOG_LINES, diagnostics.LOG_LINES))
        scope = self._scope("logs", ("container", "all"))
        sandbox = self._registry.get(sandbox_id)
        if scope is None:
            return _deprecated(diagnostics.log_of(sandbox, lines, _last("since")))
        told = diagnostics.log_of(sandbox, diagnostics.LOG_LINES + 1).splitlines(keepends=True)
        content, truncated = "".join(told[-diagnostics.LOG_LINES :]), len(told) > diagnostics.LOG_LINES
        return answer_json(diagnostics.descriptor(sandbox, "logs", scope, content, truncated))

    def events(self, sandbox_id: str) -> Response:
        (lines,) = _query(limit=(_EVENT_LINES, diagnostics.EVENT_LINES))
        scope = self._scope("events", ("runtime", "all"))
        sandbox = self._registry.get(sandbox_id)
        if scope is None:
            return _deprecated(diagnostics.events_of(sandbox, lines))
        content = diagnostics.events_of(sandbox, diagnostics.EVENT_LINES)
        truncated = len(sandbox.happenings) > diagnostics.EVENT_LINES
        return answer_json(diagnostics.descriptor(sandbox, "events", scope, content, truncated))

    def inspect(self, sandbox_id: str) -> Response:
        return _text(diagnostics.inspection(self._registry.get(sandbox_id)))

    def summary(self, sandbox_id: str) -> Response:
        lines, events = _query(tail=(_LOG_LINES, 50), event_limit=(_EVENT_LINES, 20))
        return _text(diagnostics.summary(self._registry.get(sandbox_id), lines, events))

    @staticmethod
    def _scope(kind: str, known: Sequence[str]) -> Optional[str]:
        raw = _last("scope")
        scope = raw.strip().lower() if raw is not None else None
        if scope is not None and scope not in known:
            raise ApiError(
                400,
                "DIAGNOSTICS_SCOPE_UNSUPPORTED",
                f"Unsupported {kind} diagnostics scope '{raw}'. Supported scopes: {', '.join(known)}.",
            )
        return scope

    # telemetry

    def metrics_event(self) -> Response:
        """Taken, checked and forgotten."""
        _body(_METRICS_EVENT)
        return nothing(204)


def _text(content: str, **headers: str) -> Response:
    return Response(content, headers=headers, content_type="text/plain; charset=utf-8")


def _deprecated(content: str) -> Response:
    """The older form of a diagnostics route: asked without a scope."""
    return _text(content, Deprecation="true")
