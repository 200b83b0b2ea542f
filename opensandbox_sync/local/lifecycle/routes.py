"""The lifecycle API's routes."""

from __future__ import annotations

import json
import os
from collections import deque
from typing import Any, Dict, List, Optional, Sequence, Tuple
from urllib.parse import parse_qsl

from flask import Blueprint, Response, request

from ..egress.sidecar import AUTH_HEADER, Answer
from . import schema
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
from .launch import LOG_NAME
from .proxy import EGRESS_PORT, EXECD_PORT, TOKEN_HEADER
from .sandboxes import Registry, Sandbox, stamp, without_none
from .snapshots import SnapshotStore

VERSION = "1.1.1"
_MOST_LOG = 1 << 20
_NAME_OF_SNAPSHOT = schema.model({"name": schema.optional(schema.text(shortest=1))})
_RENEWAL = schema.model({"expiresAt": schema.required(schema.moment)})
_LABELS = schema.mapping(schema.nullable(schema.text()))
_NETWORK_BODIES = {
    "PUT": NETWORK_POLICY,
    "PATCH": schema.array(NETWORK_RULE),
    "DELETE": schema.array(schema.text()),
}
_POOLS = ApiError(
    501,
    "KUBERNETES::POOL_NOT_SUPPORTED",
    "Pool management is only available when runtime.type is 'kubernetes'.",
)
_TEMPLATES = ApiError(501, "FSB::API_NOT_SUPPORTED", "Template management requires the kubernetes runtime.")


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
    return schema.validate(check, schema.parse_json(request.get_data()))


def _query(**checks: Tuple[schema.Check, Any]) -> List[Any]:
    """Reads query parameters, each with its check and its default; one 422 tells all that are wrong."""
    problems: schema.Problems = []
    values = [
        check(request.args[name], ["query", name], problems) if name in request.args else default
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
            (f"{one}/networkpolicy", self.network_policy, "GET", "PUT", "PATCH", "DELETE"),
            (f"{one}/diagnostics/logs", self.logs, "GET"),
            (f"{one}/diagnostics/events", self.events, "GET"),
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
        labels = self._label_filter(request.args.get("metadata", ""))
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
        problems: schema.Problems = []
        number = schema.integer()(port, ["path", "port"], problems)
        if problems:
            raise DetailError(422, problems)
        through_server, expires = _query(use_server_proxy=(schema.boolean, False), expires=(schema.integer(), None))
        if through_server and expires is not None:
            raise invalid_parameter(
                "use_server_proxy cannot be combined with expires; signed endpoints require the gateway route."
            )
        if not 1 <= number <= 65535:
            raise ApiError(400, "DOCKER::INVALID_PORT", "Port must be between 1 and 65535.")
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
            return f"127.0.0.1:{sandbox.port}/proxy/{port}", {TOKEN_HEADER: sandbox.token}
        return f"127.0.0.1:{port}", None

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
        raw = request.get_data()
        given = schema.parse_json(raw) if raw else None
        name = schema.validate(schema.nullable(_NAME_OF_SNAPSHOT), given)
        made = self._snapshots.create(self._registry.get(sandbox_id), (name or {}).get("name"))
        return answer_json(made, 202, Location=f"/v1/snapshots/{made['id']}")

    def list_snapshots(self) -> Response:
        page, size = _query(**_PAGING)
        states = request.args.getlist("state")
        sandbox_id, name = request.args.get("sandboxId"), request.args.get("name")
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
        self._snapshots.delete(snapshot_id)
        return nothing(204)

    # what needs Kubernetes

    def pools(self, name: str = "") -> Response:
        raise _POOLS

    def templates(self, name: str = "") -> Response:
        raise _TEMPLATES

    # diagnostics

    def logs(self, sandbox_id: str) -> Response:
        scope = self._scope("logs", ("container", "all"))
        sandbox = self._registry.get(sandbox_id)
        try:
            with (sandbox.directory / LOG_NAME).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _MOST_LOG))  # a line may be as long as the disk is large
                content = b"".join(deque(log, maxlen=100)).decode("utf-8", "replace")
        except OSError:
            content = ""
        return self._told(sandbox, "logs", scope, content or "(no logs)", "sandbox container logs")

    def events(self, sandbox_id: str) -> Response:
        scope = self._scope("events", ("runtime", "all"))
        sandbox = self._registry.get(sandbox_id)
        head = (
            f"Sandbox:    {sandbox.id}",
            f"Status:     {sandbox.state.lower()}",
            f"Created:    {stamp(sandbox.created)}",
            f"Isolation:  {sandbox.isolation}",
        )
        content = "\n".join([*head, *sandbox.happenings[-50:]])
        return self._told(sandbox, "events", scope, content, "runtime events")

    @staticmethod
    def _scope(kind: str, known: Sequence[str]) -> Optional[str]:
        raw = request.args.get("scope")
        scope = raw.strip().lower() if raw is not None else None
        if scope is not None and scope not in known:
            raise ApiError(
                400,
                "DIAGNOSTICS_SCOPE_UNSUPPORTED",
                f"Unsupported {kind} diagnostics scope '{raw}'. Supported scopes: {', '.join(known)}.",
            )
        return scope

    @staticmethod
    def _told(sandbox: Sandbox, kind: str, scope: Optional[str], content: str, what: str) -> Response:
        if scope is None:  # the older form of these routes
            return Response(content, headers={"Deprecation": "true"}, content_type="text/plain; charset=utf-8")
        told: Dict[str, Any] = {
            "sandboxId": sandbox.id,
            "kind": kind,
            "scope": scope,
            "delivery": "inline",
            "contentType": "text/plain; charset=utf-8",
            "content": content,
            "contentLength": len(content.encode("utf-8")),
            "truncated": False,
        }
        if scope == "all":
            told["warnings"] = [f"The current backend only contributes {what} to the all scope."]
        return answer_json(told)
