"""Marked secrets through every call: they reach the wire, and appear in nothing that is shown, logged, raised, or
pickled with an error.
"""

from __future__ import annotations

import base64
import inspect
import json
import logging
import pickle
import re
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

import pytest
import requests

import opensandbox_sync
from opensandbox_sync import (
    OSSFS,
    ConnectionConfig,
    Credential,
    CredentialAuth,
    CredentialBinding,
    CredentialMatch,
    CredentialMutationSet,
    ExecutionStream,
    ImageAuth,
    ImageSpec,
    InvalidArgumentError,
    IsolatedSession,
    NetworkPolicy,
    NetworkRule,
    PoolCapacity,
    RetryPolicy,
    Sandbox,
    SandboxClient,
    SandboxError,
    Volume,
)

from .scripted import _SANDBOX, RESET, Answer, Scripted, closed_port, serving
from .wire import COMMAND_ID, SANDBOX_ID, Request, complete, cut, init, stdout, stream, whole

NAMES = [
    *("key", "password", "user", "header", "sandbox_header", "endpoint_token", "signature", "registry"),
    *("ossfs_id", "ossfs_key", "env", "vault", "command_env", "template_env", "run_env", "file"),
]
SECRET = {name: f"MARK-{name.replace('_', '-')}-7f3a9" for name in NAMES}
MARK = re.compile(rb"MARK-[a-z-]+-7f3a9|" + base64.b64encode(b"MARK")[:5])
SIGNED = "127.0.0.1:1/route/MARK-signature-7f3a9/44772"

Call = Callable[[SandboxClient, Sandbox], Any]
BINDING = CredentialBinding("b", CredentialMatch(["api.example.com"]), CredentialAuth.bearer("token"))
CREDENTIAL = Credential("token", SECRET["vault"])
IMAGE = ImageSpec("private/image", ImageAuth("me", SECRET["registry"]))
VOLUME = Volume(
    "data",
    "/data",
    ossfs=OSSFS("bucket", "oss.example.com", access_key_id=SECRET["ossfs_id"], access_key_secret=SECRET["ossfs_key"]),
)
ENV = {"TOKEN": SECRET["env"]}
COMMAND_ENV = {"T": SECRET["command_env"]}
RUN_ENV = {"T": SECRET["run_env"]}
POD = {
    "spec": {"containers": [{"name": "main", "image": "i", "env": [{"name": "T", "value": SECRET["template_env"]}]}]}
}
CAPACITY = PoolCapacity(1, 2, 3, 4)
RULE = NetworkRule("allow", "example.com")


def isolated(sandbox: Sandbox) -> IsolatedSession:
    return IsolatedSession(sandbox.isolation, "i1")


#: ``Class.method``, or ``Class.method, how``: one call of each that there is.
def in_a_stream(act: Callable[[ExecutionStream], Any]) -> Call:
    def call(_: SandboxClient, sandbox: Sandbox) -> Any:
        with sandbox.commands.stream("x", env=COMMAND_ENV) as events:
            return act(events)

    return call


CALLS: Dict[str, Call] = {
    "SandboxClient.create": lambda client, _: client.create(
        IMAGE, volumes=[VOLUME], env=ENV, on_progress=PROGRESS.append, ready_timeout=0.5
    ),
    "SandboxClient.create, from a snapshot": lambda client, _: client.create(
        snapshot_id="s", env=ENV, ready_timeout=0.5
    ),
    "SandboxClient.create, from a template": lambda client, _: client.create(template_id="t", ready_timeout=0.5),
    "SandboxClient.create, from a pool": lambda client, _: client.create(pool="p", env=ENV, ready_timeout=0.5),
    "SandboxClient.connect": lambda client, _: client.connect(SANDBOX_ID, ready_timeout=0.5),
    "SandboxClient.info": lambda client, _: client.info(SANDBOX_ID),
    "SandboxClient.list": lambda client, _: client.list(),
    "SandboxClient.list_page": lambda client, _: client.list_page(),
    "SandboxClient.kill": lambda client, _: client.kill(SANDBOX_ID),
    "SandboxClient.pause": lambda client, _: client.pause(SANDBOX_ID),
    "SandboxClient.resume": lambda client, _: client.resume(SANDBOX_ID, ready_timeout=0.5),
    "SandboxClient.renew": lambda client, _: client.renew(SANDBOX_ID, 60),
    "SandboxClient.patch_metadata": lambda client, _: client.patch_metadata(SANDBOX_ID, {"a": "b"}),
    "SandboxClient.endpoint": lambda client, _: client.endpoint(SANDBOX_ID, 44772),
    "SandboxClient.endpoint, signed": lambda client, _: client.endpoint(SANDBOX_ID, 80, expires=2_000_000_000),
    "SandboxClient.health": lambda client, _: client.health(),
    "SandboxClient.version": lambda client, _: client.version(),
    "SnapshotService.create": lambda client, _: client.snapshots.create(SANDBOX_ID),
    "SnapshotService.get": lambda client, _: client.snapshots.get("s"),
    "SnapshotService.list": lambda client, _: list(client.snapshots.list()),
    "SnapshotService.delete": lambda client, _: client.snapshots.delete("s"),
    "SnapshotService.wait_ready": lambda client, _: client.snapshots.wait_ready("s", 0.2),
    "TemplateService.create": lambda client, _: client.templates.create(
        "i", publish="s3://x", env={"T": SECRET["template_env"]}
    ),
    "TemplateService.get": lambda client, _: client.templates.get("t"),
    "TemplateService.list": lambda client, _: list(client.templates.list()),
    "TemplateService.delete": lambda client, _: client.templates.delete("t"),
    "TemplateService.wait_built": lambda client, _: client.templates.wait_built("t", 0.2),
    "PoolService.create": lambda client, _: client.pools.create("p", template=POD, capacity=CAPACITY),
    "PoolService.get": lambda client, _: client.pools.get("p"),
    "PoolService.list": lambda client, _: client.pools.list(),
    "PoolService.update": lambda client, _: client.pools.update("p", CAPACITY),
    "PoolService.delete": lambda client, _: client.pools.delete("p"),
    "DiagnosticsService.logs": lambda client, _: client.diagnostics.logs(SANDBOX_ID, follow_url=True),
    "DiagnosticsService.events": lambda client, _: client.diagnostics.events(SANDBOX_ID, follow_url=True),
    "Sandbox.info": lambda _, sandbox: sandbox.info(),
    "Sandbox.kill": lambda _, sandbox: sandbox.kill(),
    "Sandbox.pause": lambda _, sandbox: sandbox.pause(),
    "Sandbox.resume": lambda _, sandbox: sandbox.resume(ready_timeout=0.5),
    "Sandbox.renew": lambda _, sandbox: sandbox.renew(60),
    "Sandbox.keep_alive": lambda _, sandbox: sandbox.keep_alive().__enter__().__exit__(None, None, None),
    "Sandbox.patch_metadata": lambda _, sandbox: sandbox.patch_metadata({"a": "b"}),
    "Sandbox.snapshot": lambda _, sandbox: sandbox.snapshot("n"),
    "Sandbox.detach": lambda _, sandbox: sandbox.detach(),
    "Sandbox.is_healthy": lambda _, sandbox: sandbox.is_healthy(),
    "Sandbox.wait_until_ready": lambda _, sandbox: sandbox.wait_until_ready(0.2),
    "Sandbox.endpoint": lambda _, sandbox: sandbox.endpoint(44772),
    "Sandbox.endpoint, signed": lambda _, sandbox: sandbox.endpoint(80, expires=2_000_000_000),
    "Sandbox.url": lambda _, sandbox: sandbox.url(44772),
    "Sandbox.wait_for_http": lambda _, sandbox: sandbox.wait_for_http(80, timeout=0.2),
    "Sandbox.wait_for_port": lambda _, sandbox: sandbox.wait_for_port(80, timeout=0.2),
    "CommandService.run": lambda _, sandbox: sandbox.commands.run("x", env=COMMAND_ENV),
    "CommandService.run, checked": lambda _, sandbox: sandbox.commands.run("x", env=COMMAND_ENV, check=True),
    "CommandService.run, of a list": lambda _, sandbox: sandbox.commands.run(["x"], env=COMMAND_ENV, timeout=0.2),
    "CommandService.stream": lambda _, sandbox: list(sandbox.commands.stream("x", env=COMMAND_ENV)),
    "CommandService.start": lambda _, sandbox: sandbox.commands.start("x", env=COMMAND_ENV),
    "CommandService.get": lambda _, sandbox: sandbox.commands.get(COMMAND_ID),
    "CommandService.set_env": lambda _, sandbox: sandbox.commands.set_env("TOKEN", SECRET["run_env"]),
    "CommandService.status": lambda _, sandbox: sandbox.commands.status(COMMAND_ID),
    "CommandService.logs": lambda _, sandbox: sandbox.commands.logs(COMMAND_ID),
    "CommandService.interrupt": lambda _, sandbox: sandbox.commands.interrupt(COMMAND_ID),
    "BackgroundCommand.status": lambda _, sandbox: sandbox.commands.get(COMMAND_ID).status(),
    "BackgroundCommand.logs": lambda _, sandbox: sandbox.commands.get(COMMAND_ID).logs(),
    "BackgroundCommand.interrupt": lambda _, sandbox: sandbox.commands.get(COMMAND_ID).interrupt(),
    "BackgroundCommand.follow": lambda _, sandbox: list(sandbox.commands.get(COMMAND_ID).follow()),
    "BackgroundCommand.wait": lambda _, sandbox: sandbox.commands.get(COMMAND_ID).wait(0.2),
    "ExecutionStream.lines": lambda _, sandbox: list(sandbox.commands.stream("x", env=COMMAND_ENV).lines()),
    "ExecutionStream.interrupt": in_a_stream(lambda events: events.interrupt()),
    "ExecutionStream.close": lambda _, sandbox: sandbox.commands.stream("x", env=COMMAND_ENV).close(),
    "ExecutionStream.read_all": lambda _, sandbox: sandbox.commands.stream("x", env=COMMAND_ENV).read_all(),
    "ExecutionStream.next_batch": in_a_stream(lambda events: events.next_batch()),
    "SessionService.create": lambda _, sandbox: sandbox.sessions.create(cwd="/w"),
    "SessionService.get": lambda _, sandbox: sandbox.sessions.get("s1"),
    "SessionService.run": lambda _, sandbox: sandbox.sessions.run("s1", "x"),
    "SessionService.stream": lambda _, sandbox: list(sandbox.sessions.stream("s1", "x")),
    "SessionService.delete": lambda _, sandbox: sandbox.sessions.delete("s1"),
    "BashSession.run": lambda _, sandbox: sandbox.sessions.get("s1").run("x", timeout=0.2),
    "BashSession.stream": lambda _, sandbox: list(sandbox.sessions.get("s1").stream("x")),
    "BashSession.close": lambda _, sandbox: sandbox.sessions.get("s1").close(),
    "CodeService.run": lambda _, sandbox: sandbox.code.run("1"),
    "CodeService.stream": lambda _, sandbox: list(sandbox.code.stream("1", context="c1")),
    "CodeService.create_context": lambda _, sandbox: sandbox.code.create_context("python"),
    "CodeService.get_context": lambda _, sandbox: sandbox.code.get_context("c1"),
    "CodeService.list_contexts": lambda _, sandbox: sandbox.code.list_contexts(),
    "CodeService.delete_context": lambda _, sandbox: sandbox.code.delete_context("c1"),
    "CodeService.delete_contexts": lambda _, sandbox: sandbox.code.delete_contexts("python"),
    "CodeService.interrupt": lambda _, sandbox: sandbox.code.interrupt("c1"),
    "FileService.write": lambda _, sandbox: sandbox.files.write("/a", SECRET["file"]),
    "FileService.write_many": lambda _, sandbox: sandbox.files.write_many({"/a": SECRET["file"], "/b": b"b"}),
    "FileService.read_text": lambda _, sandbox: sandbox.files.read_text("/a"),
    "FileService.read_lines": lambda _, sandbox: sandbox.files.read_lines("/a"),
    "FileService.read_bytes": lambda _, sandbox: sandbox.files.read_bytes("/a"),
    "FileService.iter_bytes": lambda _, sandbox: list(sandbox.files.iter_bytes("/a")),
    "FileService.upload": lambda _, sandbox: sandbox.files.upload("tree/a", "/a"),
    "FileService.download": lambda _, sandbox: sandbox.files.download("/a", "a"),
    "FileService.upload_dir": lambda _, sandbox: sandbox.files.upload_dir("tree", "/tree"),
    "FileService.download_dir": lambda _, sandbox: sandbox.files.download_dir("/tree", "back"),
    "FileService.info": lambda _, sandbox: sandbox.files.info("/a"),
    "FileService.exists": lambda _, sandbox: sandbox.files.exists("/a"),
    "FileService.list": lambda _, sandbox: sandbox.files.list("/"),
    "FileService.search": lambda _, sandbox: sandbox.files.search("/", "*.py"),
    "FileService.replace_text": lambda _, sandbox: sandbox.files.replace_text("/a", "x", SECRET["file"]),
    "FileService.move": lambda _, sandbox: sandbox.files.move("/a", "/b"),
    "FileService.remove": lambda _, sandbox: sandbox.files.remove("/a"),
    "FileService.make_dirs": lambda _, sandbox: sandbox.files.make_dirs("/d"),
    "FileService.remove_dirs": lambda _, sandbox: sandbox.files.remove_dirs("/d"),
    "FileService.set_permissions": lambda _, sandbox: sandbox.files.set_permissions("/a", mode=0o644),
    "FileService.as_user": lambda _, sandbox: sandbox.files.as_user(1000, 1000).info("/a"),
    "EgressService.get": lambda _, sandbox: sandbox.egress.get(),
    "EgressService.patch": lambda _, sandbox: sandbox.egress.patch([RULE]),
    "EgressService.delete": lambda _, sandbox: sandbox.egress.delete(["example.com"]),
    "EgressService.replace": lambda _, sandbox: sandbox.egress.replace(NetworkPolicy("deny", [RULE])),
    "EgressService.allow": lambda _, sandbox: sandbox.egress.allow("example.com"),
    "EgressService.deny": lambda _, sandbox: sandbox.egress.deny("example.com"),
    "CredentialVaultService.create": lambda _, sandbox: sandbox.vault.create([CREDENTIAL], [BINDING]),
    "CredentialVaultService.patch": lambda _, sandbox: sandbox.vault.patch(
        credentials=CredentialMutationSet(add=[CREDENTIAL])
    ),
    "CredentialVaultService.get": lambda _, sandbox: sandbox.vault.get(),
    "CredentialVaultService.delete": lambda _, sandbox: sandbox.vault.delete(),
    "CredentialVaultService.credentials": lambda _, sandbox: sandbox.vault.credentials(),
    "CredentialVaultService.credential": lambda _, sandbox: sandbox.vault.credential("token"),
    "CredentialVaultService.bindings": lambda _, sandbox: sandbox.vault.bindings(),
    "CredentialVaultService.binding": lambda _, sandbox: sandbox.vault.binding("b"),
    "MetricsService.get": lambda _, sandbox: sandbox.metrics.get(),
    "MetricsService.watch": lambda _, sandbox: list(sandbox.metrics.watch()),
    "MetricsWatch.close": lambda _, sandbox: sandbox.metrics.watch().close(),
    "SandboxDiagnosticsService.logs": lambda _, sandbox: sandbox.diagnostics.logs(follow_url=True),
    "SandboxDiagnosticsService.events": lambda _, sandbox: sandbox.diagnostics.events(follow_url=True),
    "IsolationService.capabilities": lambda _, sandbox: sandbox.isolation.capabilities(),
    "IsolationService.create": lambda _, sandbox: sandbox.isolation.create("/w"),
    "IsolationService.attach": lambda _, sandbox: sandbox.isolation.attach("i1"),
    "IsolationService.list": lambda _, sandbox: sandbox.isolation.list(),
    "IsolationService.run_once": lambda _, sandbox: sandbox.isolation.run_once("x", "/w", env=RUN_ENV),
    "IsolatedSession.info": lambda _, sandbox: isolated(sandbox).info(),
    "IsolatedSession.run": lambda _, sandbox: isolated(sandbox).run("x", env=RUN_ENV, timeout=1),
    "IsolatedSession.stream": lambda _, sandbox: list(isolated(sandbox).stream("x", env=RUN_ENV)),
    "IsolatedSession.start": lambda _, sandbox: isolated(sandbox).start("x", env=RUN_ENV),
    "IsolatedSession.get_run": lambda _, sandbox: isolated(sandbox).get_run("r1"),
    "IsolatedSession.delete": lambda _, sandbox: isolated(sandbox).delete(),
    "IsolatedRun.status": lambda _, sandbox: isolated(sandbox).get_run("r1").status(),
    "IsolatedRun.logs": lambda _, sandbox: isolated(sandbox).get_run("r1").logs(),
    "IsolatedRun.wait": lambda _, sandbox: isolated(sandbox).get_run("r1").wait(0.2),
}
#: What sends nothing of its own: the embedded server's start, and the end of each test.
NO_CALL = {"SandboxClient.local", "SandboxClient.close"}
#: What is checked against what was sent, which the script here does not know; and the watch, which here ends.
NOT_FINE = {"FileService.upload", "FileService.upload_dir", "FileService.download_dir", "MetricsService.watch"}
#: Lists and tuples of what came.
NO_SERVICE = {"FileList", "MessageLog", "OutputMessage"}
PROGRESS: List[str] = []
_KEPT = {"name": "token", "sourceType": "inline", "revision": 1}
VAULT = {"revision": 1, "credentials": [_KEPT], "bindings": []}
_STAMP = "2026-11-22T20:02:06Z"
_POOL = {
    "name": "p",
    "capacitySpec": {"bufferMin": 1, "bufferMax": 2, "poolMin": 3, "poolMax": 4},
    "template": POD,  # no documented answer has it; a server that told it all the same must not have it shown
}
_SNAPSHOT = {"id": "s", "sandboxId": SANDBOX_ID, "status": {"state": "Ready"}, "createdAt": _STAMP}
_TEMPLATE = {
    "templateId": "t",
    "image": "i",
    "status": {"phase": "Succeeded"},
    "env": {"T": SECRET["template_env"]},
    "createdAt": _STAMP,
    "updatedAt": _STAMP,
}
_POLICY = {"policy": {"defaultAction": "deny", "egress": []}, "mode": "deny_all", "enforcementMode": "dns"}
_METRICS = {"cpu_count": 2, "cpu_used_pct": 1, "mem_total_mib": 2, "mem_used_mib": 1, "timestamp": 1}
_FILE = {"path": "/a", "type": "file", "size": 1, "mode": 644, "owner": "u", "group": "g",
         "created_at": _STAMP, "modified_at": _STAMP}  # fmt: skip
_ISOLATED = {"session_id": "i1", "status": "active", "created_at": _STAMP}
_RUN = stream(init(), stdout("out"), complete())
GOOD: Dict[str, Answer] = {
    "POST /command": _RUN,
    "POST /s1/run": _RUN,
    "POST /code": _RUN,
    "POST /i1/run": lambda request: whole(200, {"run_id": "r1"}) if request.json.get("background") else _RUN,
    "POST /session": whole(200, {"session_id": "s1"}),
    "DELETE /session/s1": whole(),
    f"GET /command/status/{COMMAND_ID}": whole(
        200, {"id": COMMAND_ID, "running": False, "exit_code": 0, "started_at": _STAMP, "finished_at": _STAMP}
    ),
    f"GET /command/{COMMAND_ID}/logs": lambda request: whole(
        200, b"" if request.query.get("cursor", "0") != "0" else b"x"
    ),
    "POST /code/context": whole(200, {"id": "c1", "language": "python"}),
    "GET /code/contexts": whole(200, [{"id": "c1", "language": "python"}]),
    "GET /code/contexts/c1": whole(200, {"id": "c1", "language": "python"}),
    "DELETE /code/contexts/c1": whole(),
    "DELETE /code/contexts": whole(),
    "DELETE /code": whole(),
    "GET /files/info": whole(200, {"/a": _FILE, "/tree": _FILE}),
    "GET /files/search": whole(200, [_FILE]),
    "GET /files/download": whole(200, b"text"),
    "GET /directories/list": whole(200, [_FILE]),
    "POST /files/upload": whole(),
    "POST /files/mv": whole(),
    "POST /files/permissions": whole(),
    "POST /files/replace": whole(200, {"/a": {"replacedCount": 1}}),
    "DELETE /files": whole(),
    "POST /directories": whole(),
    "DELETE /directories": whole(),
    "GET /metrics": whole(200, _METRICS),
    "GET /policy": whole(200, _POLICY),
    "PATCH /policy": whole(200, _POLICY),
    "PUT /policy": whole(200, _POLICY),
    "DELETE /policy": whole(200, _POLICY),
    "GET /endpoints/80": whole(200, {"endpoint": SIGNED}),
    "GET /sandboxes": whole(200, {"items": [], "pagination": {}}),
    "GET /snapshots": whole(200, {"items": [_SNAPSHOT], "pagination": {}}),
    "GET /snapshots/s": whole(200, _SNAPSHOT),
    "POST /snapshots": whole(202, _SNAPSHOT),
    "DELETE /snapshots/s": whole(204),
    "GET /templates": whole(200, {"items": [_TEMPLATE], "pagination": {}}),
    "GET /templates/t": whole(200, _TEMPLATE),
    "POST /templates": whole(202, _TEMPLATE),
    "DELETE /templates/t": whole(204),
    "GET /pools": whole(200, {"items": [_POOL]}),
    "GET /pools/p": whole(200, _POOL),
    "POST /pools": whole(201, _POOL),
    "PUT /pools/p": whole(200, _POOL),
    "DELETE /pools/p": whole(204),
    "GET /isolated/session/i1": whole(200, _ISOLATED),
    "GET /isolated/sessions": whole(200, {"sessions": [_ISOLATED]}),
    "POST /isolated/session": whole(200, _ISOLATED),
    "DELETE /isolated/session/i1": whole(),
    "GET /isolated/capabilities": whole(200, {"available": True}),
    "GET /isolated/session/i1/runs/r1": whole(200, {"session_id": "i1", "run_id": "r1", "running": False}),
    "GET /isolated/session/i1/runs/r1/logs": whole(200, b"x"),
    "POST /renew-expiration": whole(200, {"expiresAt": "2036-11-22T20:02:06Z"}),
    "PATCH /metadata": whole(200, _SANDBOX),
    "GET /version": whole(200, {"version": "1.1.0"}),
    "GET /metrics/watch": stream(json.dumps(_METRICS).encode() + b"\n"),
    "GET /credential-vault/credentials": whole(200, VAULT),
    "GET /credential-vault/credentials/token": whole(200, _KEPT),
    "GET /credential-vault/bindings": whole(200, VAULT),
    "GET /credential-vault/bindings/b": whole(200, {"name": "b", "revision": 1}),
    "POST /credential-vault": whole(201, VAULT),
    "PATCH /credential-vault": whole(200, VAULT),
    "GET /credential-vault": whole(200, VAULT),
    "DELETE /credential-vault": whole(204),
    f"POST /v1/sandboxes/{SANDBOX_ID}/resume": whole(202),
    f"POST /v1/sandboxes/{SANDBOX_ID}/pause": whole(202),
}


def echo(request: Request) -> Any:
    """The server's own answer to what it cannot read: it repeats what was sent."""
    sent = request.body.decode("utf-8", "replace")
    return whole(422, {"detail": [{"loc": ["body", "env"], "msg": "not valid", "input": sent}]})


MOODS: Dict[str, Any] = {
    "good": None,
    "refusing": whole(400, {"code": "NO", "message": "no"}),
    "repeating": echo,
    "unauthorized": whole(401, {"code": "UNAUTHORIZED", "message": "bad key"}),
    "broken": whole(502, b"<html>Bad Gateway</html>"),
    "redirecting": whole(307, b"", {"Location": "http://u:MARK-cookie-7f3a9@x/y?token=MARK-cookie-7f3a9"}),
    "resetting": [RESET],
    "cut": cut(stream(init(), stdout("half"))),
    "speaking nonsense": whole(200, b"nonsense", {"Set-Cookie": "id=MARK-cookie-7f3a9"}),
    "gone": None,
}


class Listener(logging.Handler):
    """All that the package logs, as it would be written."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: List[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def log() -> Iterator[Listener]:
    logger, listener = logging.getLogger("opensandbox_sync"), Listener()
    before = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.DEBUG)
    yield listener
    logger.removeHandler(listener)
    logger.setLevel(before)


def with_secrets(server: Scripted, mood: str) -> None:
    """Let the server be of that mood, and tell secret headers of the sandbox's endpoint."""
    address = f"127.0.0.1:{closed_port()}" if mood == "gone" else server.address
    headers = {"X-EXECD-ACCESS-TOKEN": SECRET["endpoint_token"]}
    plain = {**server.table, **GOOD}
    for kind in ("logs", "events"):
        plain[f"GET /diagnostics/{kind}"] = whole(
            200, {"sandboxId": SANDBOX_ID, "kind": kind, "scope": "all", "delivery": "url", "contentType": "text/plain",
                  "truncated": False, "contentUrl": f"http://{address}/signed?signature={SECRET['signature']}"}
        )  # fmt: skip
    server.table = plain if MOODS[mood] is None else dict.fromkeys(plain, MOODS[mood])
    for port in (44772, 18080):
        server.table[f"GET /endpoints/{port}"] = whole(200, {"endpoint": address, "headers": headers})
    server.table["GET /signed"] = MOODS[mood] or whole(200, b"the log")


def shown(value: Any, depth: int = 0) -> Iterator[str]:
    """What a person may see of a value: its repr, and those of what it is made of."""
    yield repr(value)
    if depth < 2 and hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            inner = getattr(value, name)
            if hasattr(inner, "__dataclass_fields__") or isinstance(inner, (list, tuple)):
                yield from shown(inner, depth + 1)
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from shown(item, depth + 1)


def shown_of_error(error: BaseException, mood: str) -> Iterator[str]:
    yield str(error)
    yield repr(error)
    yield "".join(traceback.format_exception(type(error), error, error.__traceback__))
    if mood != "repeating":  # there, its .body is what the server said
        yield pickle.dumps(error).decode("latin-1")
    execution = getattr(error, "execution", None)
    if execution is not None:
        yield repr(execution)


def search(texts: Iterable[str], what: str) -> None:
    for text in texts:
        found = MARK.search(text.encode("utf-8", "replace"))
        assert found is None, f"{what} shows {found.group() if found else ''!r}: {text[:3000]}"


def settings(server: Scripted, records: List[Any], session: Optional[requests.Session]) -> Dict[str, Any]:
    return {
        "domain": f"http://{SECRET['user']}:{SECRET['password']}@{server.address}",
        "api_key": SECRET["key"],
        "headers": {"X-Tenant": SECRET["header"]},
        "sandbox_headers": {"X-Inside": SECRET["sandbox_header"]},
        "timeout": 1,
        "retry": RetryPolicy(max_retries=1, initial_backoff=0.001),
        "on_request": records.append,
        "on_response": records.append,
        **({"session": session} if session else {}),
    }


@pytest.mark.parametrize(
    "mood, own_session", [*((mood, False) for mood in MOODS), *((mood, True) for mood in ("good", "cut", "gone"))]
)
def test_no_call_shows_a_secret_whatever_the_server_does(
    log: Listener, mood: str, own_session: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_text(SECRET["file"])
    monkeypatch.chdir(tmp_path)
    records: List[Any] = []
    ended: Dict[str, str] = {}
    del PROGRESS[:]
    with requests.Session() as session, serving({}) as server:
        with_secrets(server, mood)
        with SandboxClient(**settings(server, records, session if own_session else None)) as client:
            search(map(repr, (client, client.config, client._plane)), "a client")
            for name, call in CALLS.items():
                sandbox = client.connect(SANDBOX_ID, wait_ready=False)
                try:
                    result = call(client, sandbox)
                except SandboxError as error:
                    ended[name] = type(error).__name__
                    search(shown_of_error(error, mood), f"the error of {name}")
                else:
                    ended[name] = "fine"
                    search(shown(result), f"the result of {name}")
                search(map(repr, (sandbox, sandbox.commands)), "a handle")
        sent = b"".join(r.body + repr(r.headers).encode() for r in server.requests)
    search(log.lines, "the log")
    search(map(repr, records), "a hook")
    search(PROGRESS, "the progress")
    assert len(log.lines) > 40 and len(records) > 80
    told = ("sandbox_header", "endpoint_token", "command_env", "run_env", "file")
    for name in ("key", "header", "env", "template_env", *(() if mood == "gone" else told)):
        assert SECRET[name].encode() in sent, f"{name} was not even sent: this proves nothing"
    failed = [f"{name}: {end}" for name, end in ended.items() if end != "fine"]
    failed = [told for told in failed if mood != "good" or told.partition(":")[0] not in NOT_FINE]
    assert not failed if mood == "good" else len(failed) > 80, "\n".join(failed)


def test_every_public_method_is_called() -> None:
    """Derived from the classes: one that is added is found here."""
    kinds = [getattr(opensandbox_sync, name) for name in opensandbox_sync.__all__]
    wanted = {
        f"{kind.__name__}.{name}"
        for kind in kinds
        if isinstance(kind, type) and not issubclass(kind, Exception) and not hasattr(kind, "__dataclass_fields__")
        if kind.__name__ not in NO_SERVICE
        for name, value in inspect.getmembers(kind)
        if not name.startswith("_") and callable(value)
    }
    assert wanted - NO_CALL == {name.partition(",")[0] for name in CALLS}


REFUSED: List[Tuple[str, Callable[[], Any]]] = [
    ("api_key", lambda: SandboxClient(api_key=SECRET["key"] + "\n")),
    ("headers", lambda: ConnectionConfig(headers={"X": SECRET["header"] + "\r\nY: z"})),
    ("sandbox_headers", lambda: ConnectionConfig(sandbox_headers={"X": SECRET["header"] + "\u20ac"})),
    ("domain", lambda: SandboxClient(domain=f"http://me:{SECRET['password']}@host:99999")),
    ("domain", lambda: SandboxClient(domain=f"http://me:{SECRET['password']}@ho st")),
    ("domain", lambda: SandboxClient(domain=f"http://host/?token={SECRET['password']}")),
    ("password", lambda: ImageAuth("me", [SECRET["registry"]])),  # type: ignore[arg-type]
    ("value", lambda: Credential("c", [SECRET["vault"]])),  # type: ignore[arg-type]
    ("env", lambda: SandboxClient().create("i", env={"A": [SECRET["env"]]})),  # type: ignore[dict-item]
    ("env", lambda: Sandbox(SandboxClient(), "s").commands.run("x", env={"A": SECRET["env"] + "\0"})),
    ("env", lambda: Sandbox(SandboxClient(), "s").commands.run("x", env={"A=": SECRET["env"]})),
    ("value", lambda: Sandbox(SandboxClient(), "s").commands.set_env("A", SECRET["env"] + "\n")),
    ("volumes", lambda: SandboxClient().create("i", volumes=[VOLUME, VOLUME])),
    ("ossfs", lambda: Volume("v", "/d", ossfs=OSSFS("bucket", "e", "3", access_key_secret=SECRET["ossfs_key"]))),
]


@pytest.mark.parametrize("named, refused", REFUSED, ids=[f"{at} {name}" for at, (name, _) in enumerate(REFUSED)])
def test_a_secret_that_is_refused_is_not_shown_by_the_refusal(named: str, refused: Callable[[], Any]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        refused()
    assert named in str(caught.value)
    search(shown_of_error(caught.value, ""), "the refusal")


def test_models_that_hold_secrets_do_not_show_them() -> None:
    search(map(repr, (IMAGE, VOLUME, CREDENTIAL, CredentialMutationSet(add=[CREDENTIAL]))), "a model")
    search(map(str, (IMAGE, VOLUME, CREDENTIAL)), "a model")
