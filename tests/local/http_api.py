"""A bare HTTP client for the tests of the embedded server: no SDK of ours or of anybody's between test and wire."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

from opensandbox_sync.local import LocalServer

NEVER_ENDS = ["tail", "-f", "/dev/null"]


class Reply(NamedTuple):
    status: int
    headers: Dict[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(address: str, method: str, path: str, body: Any = None, headers: Optional[Dict[str, str]] = None) -> Reply:
    """One request on a connection of its own; a body that is not bytes is sent as JSON.

    The address may be an endpoint with a path: `127.0.0.1:4711/proxy/44772`.
    """
    host, slash, base = address.partition("/")
    path = slash + base + path
    connection = http.client.HTTPConnection(host, timeout=30)
    with contextlib.closing(connection):
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"} if raw is not None else {}
        connection.request(method, path, raw, {**kind, **(headers or {})})
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, names, response.read())


class Api:
    """The server under test, and what tests do with it most."""

    def __init__(self, server: LocalServer) -> None:
        self.address = server.url[len("http://") :]
        self.key = {"OPEN-SANDBOX-API-KEY": server.api_key}

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Optional[Dict[str, str]] = None,
        *,
        key: bool = True,
    ) -> Reply:
        return call(self.address, method, path, body, {**(self.key if key else {}), **(headers or {})})

    def create(self, **fields: Any) -> Dict[str, Any]:
        made = self.call("POST", "/v1/sandboxes", create_body(**fields))
        assert made.status == 202, made
        return dict(made.json)

    @contextlib.contextmanager
    def sandbox(self, **fields: Any) -> Iterator[str]:
        sandbox_id = self.create(**fields)["id"]
        try:
            yield sandbox_id
        finally:
            self.call("DELETE", f"/v1/sandboxes/{sandbox_id}")

    def state(self, sandbox_id: str) -> str:
        """The sandbox's state, or "gone"."""
        answer = self.call("GET", f"/v1/sandboxes/{sandbox_id}")
        return str(answer.json["status"]["state"]) if answer.status == 200 else "gone"

    def execd(self, sandbox_id: str) -> Execd:
        return Execd(self.call("GET", f"/v1/sandboxes/{sandbox_id}/endpoints/44772").json)


class Execd:
    """The daemon of one sandbox, at its own address."""

    def __init__(self, endpoint: Dict[str, Any]) -> None:
        self.address = endpoint["endpoint"]
        self.headers = endpoint["headers"]

    def run(self, command: str) -> str:
        """Runs a command in the foreground and returns its stdout."""
        answer = call(self.address, "POST", "/command", {"command": command}, self.headers)
        assert answer.status == 200, answer
        events = [json.loads(frame) for frame in answer.body.split(b"\n\n") if frame.strip()]
        return "".join(event["text"] for event in events if event["type"] == "stdout")

    def start(self, command: str) -> None:
        """Starts a command in the background."""
        body = {"command": command, "background": True}
        assert call(self.address, "POST", "/command", body, self.headers).status == 200


def create_body(**fields: Any) -> Dict[str, Any]:
    """A body that create accepts; a field that is given as None is left out."""
    body = {"image": {"uri": "python:3.12"}, "timeout": 300, "resourceLimits": {}, "entrypoint": NEVER_ENDS}
    return {name: value for name, value in {**body, **fields}.items() if value is not None}


def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """Waits until the condition holds and returns what it gave."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.01)


def read_recording(text: str, ids: Dict[str, str]) -> Dict[str, Any]:
    """A recording with its sandbox's and snapshot's ids replaced by those of this run."""
    for recorded, ours in ids.items():
        text = text.replace(recorded, ours)
    return dict(json.loads(text))


def pids(text: str) -> List[int]:
    return [int(word) for word in text.split()]
