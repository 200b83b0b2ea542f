"""One daemon alone, started as the control plane starts it, and how its answers are read."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional

import pytest

from opensandbox_sync.local.lifecycle import launch

from .http_api import Reply, call

Event = Dict[str, Any]


class Execd:
    """A running daemon, and requests to it with its token."""

    def __init__(self, daemon: launch.Daemon, directory: Path) -> None:
        self.process = daemon.process
        self.directory = directory
        self.address = f"127.0.0.1:{daemon.port}"
        self.headers = {"X-EXECD-ACCESS-TOKEN": daemon.token}

    def call(self, method: str, path: str, body: Any = None, headers: Optional[Dict[str, str]] = None) -> Reply:
        return call(self.address, method, path, body, {**self.headers, **(headers or {})})

    def command(self, command: str, **fields: Any) -> List[Event]:
        return self.events("/command", {"command": command, **fields})

    def events(self, path: str, body: Any) -> List[Event]:
        reply = self.call("POST", path, body)
        assert reply.status == 200, reply
        return read_events(reply.body)

    def session(self, **fields: Any) -> str:
        return str(self.call("POST", "/session", fields).json["session_id"])

    @contextlib.contextmanager
    def stream(self, path: str, body: Any) -> Iterator[Iterator[Event]]:
        """Events as they come."""
        connection = http.client.HTTPConnection(self.address, timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body), self.headers)
            response = connection.getresponse()
            assert response.status == 200, response.read()
            yield (json.loads(line) for line in response if line.strip())


def read_events(body: bytes) -> List[Event]:
    return [json.loads(part) for part in body.split(b"\n\n") if part]


def output(events: List[Event], kind: str = "stdout") -> str:
    return "".join(event["text"] for event in events if event.get("type") == kind)


def without_pings(events: List[Event]) -> List[Event]:
    return [event for event in events if event.get("type") != "ping"]


@contextlib.contextmanager
def running_execd(env: Optional[Mapping[str, str]] = None, entrypoint: Optional[List[str]] = None) -> Iterator[Execd]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        launch.make_directory(directory)
        daemon = launch.start("test", directory, env or {}, entrypoint)
        assert daemon.process.stdin and daemon.process.stdout
        with daemon.process, daemon.process.stdin:
            try:
                yield Execd(daemon, directory)
            finally:
                daemon.process.stdin.close()
                try:
                    daemon.process.wait(20)
                except subprocess.TimeoutExpired:
                    daemon.process.kill()  # or leaving `with` would wait for it for ever
                    raise


@pytest.fixture(scope="module")
def execd() -> Iterator[Execd]:
    """One daemon for the tests of a module, with the umask that the recordings were made with."""
    before = os.umask(0o022)
    try:
        with running_execd() as running:
            yield running
    finally:
        os.umask(before)
