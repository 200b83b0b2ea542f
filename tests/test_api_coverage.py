"""Every operation of the OpenAPI files has a method, and whatever a method sends is in them or in the reference.

Each method is called with all its arguments against a server that writes down what comes. Skipped where the files,
which are not part of the project, are absent.
"""

from __future__ import annotations

import contextlib
import json
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Pattern, Set, Tuple
from urllib.parse import parse_qsl, urlsplit

import pytest

from opensandbox_sync import (
    OSSFS,
    PVC,
    CredentialProxyConfig,
    Host,
    ImageAuth,
    ImageSpec,
    LifecycleHook,
    NetworkPolicy,
    NetworkRule,
    PeriodicLifecycleHook,
    PlatformSpec,
    Sandbox,
    SandboxClient,
    SandboxError,
    SandboxLifecycle,
    Volume,
)
from opensandbox_sync.services import isolation, vault
from opensandbox_sync.services.pools import PoolCapacity
from opensandbox_sync.services.templates import TemplateReadiness

from .lists import peer_server
from .wire import Piece, Request, peer_sandbox, whole

SHARED = Path(__file__).parents[1].parent / "shared"
SPECS, REFERENCE = SHARED / "specs", SHARED / "reference"

pytestmark = pytest.mark.skipif(not SPECS.is_dir(), reason="the OpenAPI files are not here")

#: Operations that no method is meant for: telemetry, and the verbs of the proxy (a sandbox's URL leads there).
NOT_MEANT = re.compile(r"/v1/metrics/events|/v1/sandboxes/\{sandbox_id\}/proxy/")

#: What is in no OpenAPI file, and the words with which reference/ tells of it.
ELSEWHERE = {
    "GET /v1/isolated/capabilities": "| `GET /capabilities` | `{available",
    "POST /v1/isolated/session": "| `POST /session` | body: `profile`",
    "GET /v1/isolated/sessions": '| `GET /sessions` | 200 `{"sessions"',
    "GET /v1/isolated/session/[^/]+": "| `GET /session/{id}` |",
    "DELETE /v1/isolated/session/[^/]+": "| `DELETE /session/{id}` |",
    "POST /v1/isolated/session/[^/]+/run": "| `POST /session/{id}/run` |",
    "GET /v1/isolated/session/[^/]+/runs/[^/]+": "| `GET /session/{id}/runs/{run}` |",
    "GET /v1/isolated/session/[^/]+/runs/[^/]+/logs": "| `GET …/runs/{run}/logs?cursor=` |",
    "GET /v1/isolated/session/[^/]+/files/.*": "files/\\*, directories/\\* under `/session/{id}/`",
    "GET /v1/filesystem/1000/1000/files/.*": "under `/v1/filesystem/{uid}/{gid}`",
    "GET /proxy/8000/path": "**`/proxy/{port}/{path}`**",
    "PUT /policy": "| POST/PUT | full replace.",
}


class Operation(NamedTuple):
    """One operation of an OpenAPI file, and the file for its references."""

    name: str
    pattern: Pattern[str]
    described: Dict[str, Any]
    parameters: List[Dict[str, Any]]
    document: Dict[str, Any]


def resolved(value: Dict[str, Any], document: Dict[str, Any]) -> Dict[str, Any]:
    while "$ref" in value:
        found: Any = document
        for part in value["$ref"][2:].split("/"):
            found = found[part]
        value = found
    return value


def operations() -> Iterator[Operation]:
    yaml = pytest.importorskip("yaml")
    for path in sorted(SPECS.iterdir()):
        text = path.read_text("utf-8")
        document = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        lifecycle = path.name.startswith(("sandbox-lifecycle", "diagnostic"))
        for route, verbs in document["paths"].items():
            full = ("/v1" if lifecycle else "") + route
            if path.suffix == ".json" and not full.startswith(("/v1/", "/health", "/version")):
                continue  # each route exists bare, too
            for verb, described in verbs.items():
                if verb == "parameters" or described.get("deprecated") or NOT_MEANT.match(full):
                    continue
                pattern = re.compile(f"{verb.upper()} " + re.sub(r"\\?\{[^}]*\}", "[^/]+", re.escape(full)) + r"\Z")
                listed = [*verbs.get("parameters", []), *described.get("parameters", [])]
                parameters = [resolved(parameter, document) for parameter in listed]
                yield Operation(f"{verb.upper()} {full}", pattern, described, parameters, document)


def unknown_fields(body: Any, schema: Dict[str, Any], document: Dict[str, Any]) -> Iterator[str]:
    """The fields of ``body``, at any depth, that its schema does not name."""
    schema = resolved(schema, document)
    choices = [resolved(c, document) for key in ("anyOf", "oneOf", "allOf") for c in schema.get(key, [])]
    properties: Dict[str, Any] = dict(schema.get("properties", {}))
    others = schema.get("additionalProperties")
    items = schema.get("items")
    for choice in choices:
        properties.update(choice.get("properties", {}))
        others = choice.get("additionalProperties", others)
        items = choice.get("items", items)
    if isinstance(body, list):
        for item in body:
            yield from unknown_fields(item, items or {}, document)
    elif isinstance(body, dict) and (properties or others is not None):
        for name, value in body.items():
            if name in properties:
                yield from unknown_fields(value, properties[name], document)
            elif isinstance(others, dict):
                yield from unknown_fields(value, others, document)
            elif not others:
                yield name


def call_all(calls: Iterable[Callable[[], Any]]) -> None:
    """What comes back is no answer to most of them, and does not matter."""
    for call in calls:
        with contextlib.suppress(SandboxError):
            found = call()
            if hasattr(found, "__next__"):
                list(found)


Calls = List[Callable[[], Any]]
TEXTS = {"a": "1"}


def lifecycle_calls(client: SandboxClient) -> Calls:
    policy = NetworkPolicy("deny", [NetworkRule("allow", "api.test")])
    volumes = [
        Volume("a", "/a", host=Host("/data"), read_only=True, sub_path="x"),
        Volume("b", "/b", pvc=PVC("claim", True, True, "fast", "1Gi", ["ReadWriteOnce"])),
        Volume("c", "/c", ossfs=OSSFS("bucket", "https://oss", "2.0", ["allow_other"], "id", "secret")),
    ]
    hooks = SandboxLifecycle(LifecycleHook(["true"], 5), [PeriodicLifecycleHook("p", "* * * * *", ["true"], 5)])
    return [
        lambda: client.create(
            ImageSpec("python:3.12", ImageAuth("u", "p")),
            timeout=60,
            env=TEXTS,
            metadata=TEXTS,
            resource_limits={"cpu": "1"},
            resource_requests={"cpu": "1"},
            platform=PlatformSpec("linux", "amd64"),
            network_policy=policy,
            credential_proxy=CredentialProxyConfig(True),
            extensions=TEXTS,
            secure_access=True,
            entrypoint=["tail"],
            volumes=volumes,
            lifecycle=hooks,
            wait_ready=False,
        ),
        lambda: client.create(snapshot_id="s1", wait_ready=False),
        lambda: client.create(template_id="t1", timeout=60, wait_ready=False),
        lambda: client.create(pool="p1", wait_ready=False),
        lambda: client.info("b1"),
        lambda: client.list(states=["Running"], metadata=TEXTS),
        lambda: client.pause("b1"),
        lambda: client.resume("b1", wait_ready=False),
        lambda: client.renew("b1", 60),
        lambda: client.patch_metadata("b1", {"a": None}),
        lambda: client.endpoint("b1", 80, use_server_proxy=True),
        lambda: client.endpoint("b1", 80, expires=datetime(2030, 1, 1, tzinfo=timezone.utc)),
        lambda: client.kill("b1"),
        client.health,
        client.version,
        lambda: client.snapshots.create("b1", name="n"),
        lambda: client.snapshots.get("s1"),
        lambda: client.snapshots.list(sandbox_id="b1", name="n", states=["Ready"]),
        lambda: client.snapshots.delete("s1"),
        lambda: client.templates.create(
            "python:3.12",
            publish="s3://b",
            resource_limits={"cpu": "1"},
            entrypoint=["tail"],
            env=TEXTS,
            metadata=TEXTS,
            readiness=TemplateReadiness("tcp://127.0.0.1:1", 5),
            format="native",
        ),
        lambda: client.templates.get("t1"),
        lambda: client.templates.list(metadata=TEXTS),
        lambda: client.templates.delete("t1"),
        lambda: client.pools.create("p", template={}, capacity=PoolCapacity(1, 2, 3, 4)),
        lambda: client.pools.get("p"),
        lambda: client.pools.list(),
        lambda: client.pools.update("p", PoolCapacity(1, 2, 3, 4)),
        lambda: client.pools.delete("p"),
        lambda: client.diagnostics.logs("b1"),
        lambda: client.diagnostics.events("b1"),
    ]


def sandbox_calls(sandbox: Sandbox) -> Calls:
    session = sandbox.sessions.get("s1")
    background = sandbox.commands.get("c1")
    credential = vault.Credential("c", "secret")
    match = vault.CredentialMatch(["api.example.com"], ["https"], [443], ["GET"], ["/*"])
    return [
        sandbox.is_healthy,
        lambda: sandbox.commands.run("ls", cwd="/", env=TEXTS, timeout=1, uid=1, gid=1),
        lambda: sandbox.commands.run(["ls"]),
        lambda: sandbox.commands.start("ls"),
        background.status,
        lambda: background.logs(5),
        background.interrupt,
        lambda: sandbox.sessions.create(cwd="/"),
        lambda: session.run("ls", cwd="/", timeout=1),
        session.close,
        lambda: sandbox.code.run("1", context="c1"),
        lambda: sandbox.code.create_context("python", cwd="/"),
        lambda: sandbox.code.get_context("c1"),
        lambda: sandbox.code.list_contexts("python"),
        lambda: sandbox.code.delete_context("c1"),
        lambda: sandbox.code.delete_contexts("python"),
        lambda: sandbox.code.interrupt("c1"),
        sandbox.metrics.get,
        sandbox.metrics.watch().close,
        lambda: sandbox.wait_for_http(8000, "/path"),
        lambda: sandbox.vault.create(
            [credential], [vault.CredentialBinding("b", match, vault.CredentialAuth.api_key("X-Key", "c"))]
        ),
        sandbox.vault.get,
        lambda: sandbox.vault.patch(
            credentials=vault.CredentialMutationSet(add=[credential], delete=["d"]),
            bindings=vault.CredentialBindingMutationSet(delete=["d"]),
            expected_revision=1,
        ),
        sandbox.vault.delete,
        sandbox.vault.credentials,
        lambda: sandbox.vault.credential("c"),
        sandbox.vault.bindings,
        lambda: sandbox.vault.binding("b"),
    ]


def egress_calls(sandbox: Sandbox) -> Calls:
    return [
        sandbox.egress.get,
        lambda: sandbox.egress.patch([NetworkRule("allow", "api.test")]),
        lambda: sandbox.egress.delete(["api.test"]),
        lambda: sandbox.egress.replace(NetworkPolicy("deny", [NetworkRule("allow", "api.test")])),
    ]


def file_calls(sandbox: Sandbox, directory: Path) -> Calls:
    files = sandbox.files
    return [
        lambda: files.info("/a"),
        lambda: files.remove("/a"),
        lambda: files.set_permissions("/a", mode=0o644, owner="u", group="g"),
        lambda: files.move("/a", "/b"),
        lambda: files.search("/", "*.py"),
        lambda: files.replace_text("/a", "x", "y"),
        lambda: files.write("/a", b"x"),
        lambda: files.read_bytes("/a"),
        lambda: files.read_lines("/a"),
        lambda: files.download("/a", directory / "a"),
        lambda: files.list("/", depth=2),
        lambda: files.make_dirs("/a"),
        lambda: files.remove_dirs("/a"),
        lambda: files.as_user(1000, 1000).info("/a"),
    ]


def isolation_calls(sandbox: Sandbox) -> Calls:
    session = isolation.IsolatedSession(sandbox.isolation, "i1")
    run = session.get_run("r1")
    return [
        sandbox.isolation.capabilities,
        lambda: sandbox.isolation.create(
            isolation.IsolatedWorkspace("/w", "rw"),
            overlays=[isolation.IsolatedOverlay("/o", "overlay", False)],
            profile="strict",
            extra_writable=["/t"],
            binds=[isolation.IsolatedBind("/s", "/d", True)],
            share_net=True,
            env_passthrough=isolation.EnvPassthrough("allow", ["PATH"]),
            uid=1,
            gid=1,
            uid_mode="setpriv",
            idle_timeout=60,
        ),
        sandbox.isolation.list,
        session.info,
        lambda: session.run("ls", env=TEXTS, timeout=1),
        lambda: session.start("ls"),
        run.status,
        lambda: run.logs(5),
        lambda: session.files.info("/w"),
        session.delete,
    ]


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> List[Request]:
    """What all methods of the package send, each with all that it can send."""

    def respond(request: Request) -> Iterable[Piece]:
        return whole(200, b"" if request.path == "/ping" else {})

    def of_template(request: Request) -> Iterable[Piece]:
        return whole(200, {"endpoint": "127.0.0.1:1"}, {"OPEN-SANDBOX-ORIGIN": "template"})

    found: List[Request] = []
    with peer_sandbox(respond) as (sandbox, peer):
        call_all(lifecycle_calls(sandbox._client))
        call_all(sandbox_calls(sandbox) + egress_calls(sandbox) + isolation_calls(sandbox))
        call_all(file_calls(sandbox, tmp_path_factory.mktemp("files")))
        found += peer.requests
    with peer_server(of_template) as (client, peer):
        call_all(egress_calls(client.connect("fsb-1", wait_ready=False)))
        found += peer.requests
    return found


def shown(request: Request) -> str:
    return f"{request.method} {urlsplit(request.target).path}"


def documented(request: Request) -> Optional[str]:
    found = [words for pattern, words in ELSEWHERE.items() if re.fullmatch(pattern, shown(request))]
    return found[0] if found else None


def reference() -> str:
    return "".join(path.read_text("utf-8") for path in sorted(REFERENCE.glob("*.md")))


def words_of(request: Request) -> Set[str]:
    """The words in code or JSON, in the sections of reference/ that tell of this request."""
    words = documented(request) or f"`{shown(request)}`"
    sections = [text for text in re.split(r"^#+ ", reference(), flags=re.MULTILINE) if words in text]
    code = " ".join(re.findall(r"```.*?```|`[^`\n]+`|\{[^\n]*\}", "\n".join(sections), re.DOTALL))
    return set(re.findall(r"\w+", code))


def test_every_operation_has_a_method(sent: List[Request]) -> None:
    asked = [shown(request) for request in sent]
    missing = {o.name for o in operations() if not any(o.pattern.match(text) for text in asked)}
    assert missing == set()


def test_every_path_that_is_sent_is_in_the_documents(sent: List[Request]) -> None:
    known = list(operations())
    text = reference()
    for request in sent:
        if any(operation.pattern.match(shown(request)) for operation in known):
            continue
        words = documented(request)
        assert words is not None, f"{shown(request)} is in no document"
        assert words in text


def test_every_field_that_is_sent_is_in_the_documents(sent: List[Request]) -> None:
    known = list(operations())
    checked = 0
    for request in sent:
        # Files are the same routes in an isolated session and under another identity.
        route = re.sub(r"/v1/(isolated/session/[^/]+|filesystem/\d+/\d+)(?=/(files|directories)/)", "", shown(request))
        matching = [operation for operation in known if operation.pattern.match(route)]
        for name, strange in names_sent(request, matching):
            checked += 1
            if strange:
                assert name in words_of(request), f"{shown(request)} sends {name}, which is in no document"
    assert checked > 150


def names_sent(request: Request, matching: List[Operation]) -> Iterator[Tuple[str, bool]]:
    """(name, whether no OpenAPI file has it) of what a request sends in its query and in its JSON body."""
    queried = {p["name"] for operation in matching for p in operation.parameters if p["in"] == "query"}
    for name, _ in parse_qsl(urlsplit(request.target).query):
        yield name, name not in queried
    if not request.body or request.headers.get("content-type") != "application/json":
        return
    strange: Optional[List[str]] = None
    for operation in matching:
        content = operation.described.get("requestBody", {}).get("content", {}).get("application/json")
        if content is not None:
            found = list(unknown_fields(request.json, content["schema"], operation.document))
            strange = found if strange is None else [name for name in strange if name in found]
    for name in field_names(request.json):
        yield name, strange is None or name in strange


def field_names(body: Any) -> Iterator[str]:
    if isinstance(body, list):
        for item in body:
            yield from field_names(item)
    elif isinstance(body, dict):
        for name, value in body.items():
            if re.fullmatch("[A-Za-z_]{2,}", name):  # a path or a label's key is no field
                yield name
            yield from field_names(value)


def test_a_name_that_nobody_knows_is_found() -> None:
    """The check itself can fail."""
    body = b'{"command":"ls","comand":1}'
    request = Request("POST", "/command?backgruond=1", {"content-type": "application/json"}, body)
    matching = [operation for operation in operations() if operation.pattern.match("POST /command")]
    assert dict(names_sent(request, matching)) == {"backgruond": True, "command": False, "comand": True}
    assert "argv" in words_of(request) and "comand" not in words_of(request)
    assert "overlays" not in words_of(request), "that is another section's"
