"""The daemon itself: its proxy, its entrypoint, its environment, its end."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from typing import Any, Dict, Iterator, List

import psutil
import pytest

from .execd_daemon import Execd, execd, output, read_events, running_execd
from .http_api import call, until

__all__ = ["execd"]


class _Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        told = {"path": self.path, "body": body.decode(), "headers": {k.lower(): v for k, v in self.headers.items()}}
        answer = json.dumps(told).encode()
        self.send_response(201)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("X-Mine", "1")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def backend() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_the_proxy_passes_a_request_on_without_the_token(execd: Execd, backend: int) -> None:
    headers = {"X-Other": "2", "Origin": "http://a.page"}
    reply = execd.call("POST", f"/proxy/{backend}/a%20b/c?x=1&x=%2F", b"body", headers)
    assert (reply.status, reply.headers["x-mine"]) == (201, "1")
    told: Dict[str, Any] = reply.json
    assert (told["path"], told["body"]) == ("/a%20b/c?x=1&x=%2F", "body")
    assert told["headers"]["x-other"] == "2"
    assert told["headers"]["x-forwarded-proto"] == "http"
    assert "x-execd-access-token" not in told["headers"]


def test_the_proxy_streams_and_says_when_nobody_is_there(execd: Execd) -> None:
    port = execd.address.split(":")[1]
    via = execd.call("POST", f"/proxy/{port}/command", {"command": "echo via"})
    assert via.status == 401  # the token stays here
    nobody = execd.call("GET", "/proxy/1/")
    assert (nobody.status, nobody.body) == (502, b"Bad Gateway\n")
    assert call(execd.address, "GET", "/proxy/1/").status == 401


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/proxy", 404, b"404 page not found"),
        ("/proxy/", 400, b"port is required\n"),
        ("/proxy//x", 400, b"port is required\n"),
        ("/proxy/x/", 502, b"Bad Gateway\n"),
        ("/proxy/70000/", 502, b"Bad Gateway\n"),
    ],
)
def test_the_proxy_needs_a_port(execd: Execd, path: str, status: int, body: bytes) -> None:
    reply = execd.call("GET", path)
    assert (reply.status, reply.body) == (status, body)


def test_its_own_routes_are_served_under_the_prefix_of_its_endpoint_too(execd: Execd) -> None:
    own = "/proxy/44772"
    assert execd.call("GET", own + "/ping").status == 200
    assert output(read_events(execd.call("POST", own + "/command", {"command": "echo own"}).body)) == "own\n"
    assert execd.call("GET", own + "/files/info?path=/etc/passwd").json["/etc/passwd"]["type"] == "file"
    for path in ("", "/", "/nope"):
        assert execd.call("GET", own + path).body == b"404 page not found"
    assert execd.call("GET", own + "0/").status == 502  # another port, though it begins the same
    # What a web page may reach are servers in the sandbox, never the daemon.
    page = {"Origin": "http://a.page"}
    assert [execd.call("GET", path + "/metrics", headers=page).status for path in ("", own)] == [403, 403]
    assert call(execd.address, "GET", own + "/metrics").status == 401


def test_the_end_of_standard_input_ends_the_daemon_and_all_its_processes() -> None:
    with running_execd() as execd:
        execd.command("sleep 60 & setsid -f sleep 61; (setsid sleep 62 &)")
        execd.command("trap '' TERM; sleep 63", background=True)
        execd.events("/code", {"context": {"language": "python"}, "code": "1"})
        tree = until(lambda: _at_least(execd, 5), "all of them")
    assert execd.process.returncode == 0
    _, alive = psutil.wait_procs(tree, 10)
    assert alive == []


def test_sigterm_ends_it_too() -> None:
    with running_execd() as execd:
        execd.command("sleep 60", background=True)
        tree = until(lambda: _at_least(execd, 1), "the command")
        execd.process.terminate()
        assert execd.process.wait(10) == 0
        assert psutil.wait_procs(tree, 10)[1] == []


@pytest.mark.parametrize("failing", [False, True])
def test_the_daemon_ends_also_where_a_child_vanishes_meanwhile(failing: bool) -> None:
    program = """
import subprocess, sys
import psutil
from opensandbox_sync.local.execd import daemon, processes

short, long = (subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL) for _ in range(2))
children = psutil.Process.children

def listed(self, recursive):
    found = children(self, recursive)
    if short.poll() is None:
        short.kill()
        short.wait()
    return found

psutil.Process.children = listed
print(long.pid, flush=True)
if sys.argv[1:]:
    daemon.end_everything = lambda: [processes.end_everything(), 1 / 0]
daemon._end()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *["failing"] * failing], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    until(lambda: not psutil.pid_exists(int(done.stdout)), "the end of the child that was left")
    assert ("ZeroDivisionError" in done.stderr) is failing
    assert failing or not done.stderr


def _at_least(execd: Execd, count: int) -> List[psutil.Process]:
    found = psutil.Process(execd.process.pid).children(recursive=True)
    return found if len(found) >= count else []


def test_an_entrypoint_that_ends_is_reported_with_its_code() -> None:
    with running_execd(entrypoint=["sh", "-c", "echo out; exit 3"]) as execd:
        assert execd.process.stdout
        assert json.loads(execd.process.stdout.readline()) == {"entrypoint": "exited", "code": 3}
        assert (execd.directory / "entrypoint.log").read_text() == "out\n"


def test_an_entrypoint_that_is_not_there_is_logged_and_harms_nothing() -> None:
    with running_execd(entrypoint=["/opt/code-interpreter/none.sh"]) as execd:
        assert output(execd.command("echo fine")) == "fine\n"
        assert "the entrypoint was not run: " in (execd.directory / "entrypoint.log").read_text()


def test_commands_see_only_the_sandbox_s_variables() -> None:
    with running_execd(env={"MINE": "1"}) as execd:
        names = {line.split("=")[0] for line in output(execd.command("env -0 | tr '\\0\\n' '\\n '")).splitlines()}
    ours = {"PATH", "LANG", "TERM", "HOME", "TMPDIR", "MINE", "OPENSANDBOX_ID", "EXECD_ENVS", "JUPYTER_PORT"}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == ours


def test_the_official_interpreter_s_probe_succeeds(execd: Execd) -> None:
    probe = "exec 3<>/dev/tcp/127.0.0.1/${JUPYTER_PORT:-44771}"
    assert execd.command(probe)[-1]["type"] == "execution_complete"
