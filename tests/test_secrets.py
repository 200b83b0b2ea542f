"""Marked secrets through every call: they reach the wire, and appear in nothing that is shown, logged, raised, or
pickled with an error.
"""

from __future__ import annotations

import base64
import logging
import pickle
import re
import traceback
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

import pytest
import requests

from opensandbox_sync import (
    OSSFS,
    ConnectionConfig,
    Credential,
    CredentialAuth,
    CredentialBinding,
    CredentialMatch,
    CredentialMutationSet,
    ImageAuth,
    ImageSpec,
    InvalidArgumentError,
    RetryPolicy,
    Sandbox,
    SandboxClient,
    SandboxError,
    Volume,
)

from .scripted import RESET, Answer, Scripted, closed_port, serving
from .wire import COMMAND_ID, SANDBOX_ID, Request, complete, cut, init, stdout, stream, whole

NAMES = [
    *("key", "password", "user", "header", "sandbox_header", "endpoint_token", "signature", "registry"),
    *("ossfs_id", "ossfs_key", "env", "vault", "command_env", "template_env", "run_env"),
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
CALLS: Dict[str, Call] = {
    "create": lambda client, _: client.create(
        IMAGE, volumes=[VOLUME], env={"TOKEN": SECRET["env"]}, on_progress=PROGRESS.append, ready_timeout=0.2
    ),
    "create from a snapshot": lambda client, _: client.create(
        snapshot_id="s", env={"T": SECRET["env"]}, ready_timeout=0.2
    ),
    "connect": lambda client, _: client.connect(SANDBOX_ID, ready_timeout=0.2),
    "info": lambda client, _: client.info(SANDBOX_ID),
    "list": lambda client, _: client.list(),
    "kill": lambda client, _: client.kill(SANDBOX_ID),
    "pause": lambda client, _: client.pause(SANDBOX_ID),
    "resume": lambda client, _: client.resume(SANDBOX_ID, ready_timeout=0.2),
    "renew": lambda client, _: client.renew(SANDBOX_ID, 60),
    "patch_metadata": lambda client, _: client.patch_metadata(SANDBOX_ID, {"a": "b"}),
    "endpoint": lambda client, _: client.endpoint(SANDBOX_ID, 44772),
    "signed endpoint": lambda client, _: client.endpoint(SANDBOX_ID, 80, expires=2_000_000_000),
    "health": lambda client, _: client.health(),
    "version": lambda client, _: client.version(),
    "snapshots": lambda client, _: client.snapshots.create(SANDBOX_ID),
    "templates": lambda client, _: client.templates.create("i", publish="s3://x", env={"T": SECRET["template_env"]}),
    "pools": lambda client, _: client.pools.list(),
    "diagnostics": lambda client, _: client.diagnostics.logs(SANDBOX_ID, follow_url=True),
    "run": lambda _, sandbox: sandbox.commands.run("x", env={"T": SECRET["command_env"]}),
    "run a list": lambda _, sandbox: sandbox.commands.run(["x"], env={"T": SECRET["command_env"]}, timeout=0.2),
    "stream": lambda _, sandbox: list(sandbox.commands.stream("x", env={"T": SECRET["command_env"]})),
    "start": lambda _, sandbox: sandbox.commands.start("x", env={"T": SECRET["command_env"]}),
    "set_env": lambda _, sandbox: sandbox.commands.set_env("TOKEN", SECRET["run_env"]),
    "status": lambda _, sandbox: sandbox.commands.status(COMMAND_ID),
    "logs": lambda _, sandbox: sandbox.commands.logs(COMMAND_ID),
    "interrupt": lambda _, sandbox: sandbox.commands.interrupt(COMMAND_ID),
    "sessions": lambda _, sandbox: sandbox.sessions.create().run("x"),
    "code": lambda _, sandbox: sandbox.code.run("1"),
    "files": lambda _, sandbox: sandbox.files.write("/a", b"b"),
    "files read": lambda _, sandbox: sandbox.files.read_bytes("/a"),
    "egress": lambda _, sandbox: sandbox.egress.allow("example.com"),
    "vault create": lambda _, sandbox: sandbox.vault.create([CREDENTIAL], [BINDING]),
    "vault patch": lambda _, sandbox: sandbox.vault.patch(credentials=CredentialMutationSet(add=[CREDENTIAL])),
    "vault get": lambda _, sandbox: sandbox.vault.get(),
    "metrics": lambda _, sandbox: sandbox.metrics.get(),
    "isolation": lambda _, sandbox: sandbox.isolation.create("/w"),
    "wait_for_http": lambda _, sandbox: sandbox.wait_for_http(80, timeout=0.2),
    "wait_for_port": lambda _, sandbox: sandbox.wait_for_port(80, timeout=0.2),
}
PROGRESS: List[str] = []
VAULT = {"revision": 1, "credentials": [{"name": "token", "sourceType": "inline", "revision": 1}], "bindings": []}
_STATE = {"status": {"state": "Running"}, "createdAt": "2026-11-22T20:02:06Z"}
GOOD: Dict[str, Answer] = {
    "POST /command": stream(init(), stdout("out"), complete()),
    "GET /endpoints/80": whole(200, {"endpoint": SIGNED}),
    "GET /sandboxes": whole(200, {"items": [], "pagination": {}}),
    "POST /credential-vault": whole(201, VAULT),
    "PATCH /credential-vault": whole(200, VAULT),
    "GET /credential-vault": whole(200, VAULT),
    f"POST /v1/sandboxes/{SANDBOX_ID}/resume": whole(202),
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
    plain["GET /diagnostics/logs"] = whole(
        200, {"sandboxId": SANDBOX_ID, "kind": "logs", "scope": "all", "delivery": "url", "contentType": "text/plain",
              "truncated": False, "contentUrl": f"http://{address}/signed?signature={SECRET['signature']}"}
    )  # fmt: skip
    server.table = plain if MOODS[mood] is None else dict.fromkeys(plain, MOODS[mood])
    for port in (44772, 18080):
        server.table[f"GET /endpoints/{port}"] = whole(200, {"endpoint": address, "headers": headers})
    server.table["GET /signed"] = MOODS[mood] or whole(404)


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
def test_no_call_shows_a_secret_whatever_the_server_does(log: Listener, mood: str, own_session: bool) -> None:
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
    for name in ("key", "header", *(() if mood == "gone" else ("sandbox_header", "endpoint_token"))):
        assert SECRET[name].encode() in sent, f"{name} was not even sent: this proves nothing"
    fine = [name for name, end in ended.items() if end == "fine"]
    assert len(fine) >= 15 if mood == "good" else len(ended) - len(fine) >= 15, ended


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
