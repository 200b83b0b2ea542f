"""LocalServer and `python -m opensandbox_sync.local` as processes: they start, they end, and leave nothing."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import psutil
import pytest

from opensandbox_sync.local import InvalidOptionError, LocalServer, LocalServerError

from .http_api import Api, call, pids, until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where servers of this test make their directories."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def with_a_process(server: LocalServer) -> int:
    """Makes a sandbox in which a process runs, and returns its pid."""
    api = Api(server)
    execd = api.execd(api.create()["id"])
    execd.run("(setsid sh -c 'echo $$ > pid; exec sleep 1000' &) ; true")
    return int(until(lambda: pids(execd.run("cat pid 2>/dev/null; true")), "the process")[0])


def gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_it_serves_what_its_config_says_until_it_is_stopped(temporary: Path) -> None:
    server = LocalServer(api_key="my key", isolation="none")
    assert server.start() is server
    assert server.start() is server
    assert server.config == {"domain": server.url, "api_key": "my key"}
    assert Api(server).call("GET", "/v1/sandboxes").status == 200
    pid = with_a_process(server)
    address = server.url[len("http://") :]
    server.stop()
    server.stop()
    assert gone(pid)
    assert list(temporary.iterdir()) == []
    with pytest.raises(ConnectionRefusedError):
        call(address, "GET", "/health")
    with pytest.raises(LocalServerError, match="not running"):
        _ = server.url


def test_it_starts_again_after_it_was_stopped() -> None:
    server = LocalServer()
    for _ in range(2):
        with server:
            assert call(server.url[len("http://") :], "GET", "/health").status == 200


def test_each_server_has_a_key_of_its_own() -> None:
    assert LocalServer().api_key != LocalServer().api_key


def test_it_listens_on_loopback_only() -> None:
    with LocalServer() as server:
        port = int(server.url.rpartition(":")[2])
        listening = [c.laddr for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port]
        assert [address.ip for address in listening] == ["127.0.0.1"]


def test_neither_key_nor_token_is_on_a_command_line() -> None:
    with LocalServer() as server:
        api = Api(server)
        token = api.call("GET", f"/v1/sandboxes/{api.create()['id']}/endpoints/44772").json["headers"]
        lines = [" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True)]
        assert len(lines) > 1
        for secret in (server.api_key, token["X-EXECD-ACCESS-TOKEN"]):
            assert not any(secret in line for line in lines)


def test_a_busy_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(LocalServerError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            LocalServer(port).start()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"port": 65536}, "port must be an int from 0 (a free one) to 65535, not 65536"),
        ({"port": -1}, "not -1"),
        ({"port": "8080"}, "not '8080'"),
        ({"port": True}, "not True"),
        ({"api_key": " "}, "api_key must be a text of printable ASCII"),
        ({"api_key": 7}, "not of type int"),
        ({"api_key": "two\nlines"}, "api_key must be"),
        ({"isolation": "docker"}, "isolation must be one of auto, bubblewrap, none, not 'docker'"),
        ({"isolation": None}, "not None"),
        ({"allow_host_path": "/nowhere"}, "allow_host_path must name absolute paths of directories that exist"),
        ({"allow_host_path": ["/tmp", "tests"]}, "not 'tests'"),
        ({"allow_host_path": ["/etc/passwd"]}, "not '/etc/passwd'"),
        ({"allow_host_path": 5}, "not 5"),
        ({"allow_host_path": [b"/tmp"]}, "not b'/tmp'"),
        ({"allow_host_path": [""]}, "not ''"),
        ({"allow_host_path": "/tmp/.."}, "all files of this machine"),
        (
            {"root": "/nowhere"},
            "root must be a directory with a system in it (usr, ...), such as",
        ),
        ({"root": 5}, "not 5"),
        ({"root": "/", "isolation": "none"}, "root needs isolation"),
    ],
)
def test_options_that_cannot_be_are_refused_with_what_would_be_right(options: Dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        LocalServer(**options)
    assert told in str(caught.value)
    assert isinstance(caught.value, LocalServerError)
    assert isinstance(caught.value, ValueError)


def test_a_key_that_cannot_be_is_not_shown() -> None:
    with pytest.raises(InvalidOptionError) as caught:
        LocalServer(api_key="h\u00fcsh")
    assert "h\u00fcsh" not in str(caught.value)


def test_a_path_may_be_a_text_a_path_or_several(tmp_path: Path) -> None:
    for given in (str(tmp_path), tmp_path, [tmp_path], (str(tmp_path),), iter([tmp_path])):
        assert LocalServer(allow_host_path=given)._allow_host_path == [str(tmp_path)]  # type: ignore[arg-type]
    assert LocalServer(allow_host_path=[])._allow_host_path == []


def test_a_root_with_what_is_to_be_kept_from_sandboxes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidOptionError, match=r"which has (your home directory|this project) in it"):
        LocalServer(root="/")
    home = tmp_path / "home" / "me"
    home.mkdir(parents=True)
    (tmp_path / "usr").mkdir()
    assert LocalServer(root=tmp_path)._root == str(tmp_path.resolve())
    monkeypatch.setenv("HOME", str(home))
    for root in (tmp_path, f"{home}/../.."):
        with pytest.raises(InvalidOptionError, match="which has your home directory in it"):
            LocalServer(root=root)


@pytest.mark.parametrize("isolation", ["none", "auto"])
def test_the_log_says_which_isolation_it_is_and_warns_where_nobody_asked_for_none(
    isolation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    caplog.set_level(logging.INFO, "opensandbox_sync.local")
    with LocalServer(isolation=isolation) as server:
        assert server.isolation == "none"
    ((_, level, line),) = caplog.record_tuples
    assert level == (logging.INFO if isolation == "none" else logging.WARNING)
    assert ("isolation: none" if isolation == "none" else "not isolated: ") in line
    assert ("bwrap is not installed" in line) == (isolation == "auto")


def test_a_missing_package_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cheroot" else find(name))
    with pytest.raises(LocalServerError, match=r'cheroot.*pip install "opensandbox-sync\[local\]"'):
        LocalServer().start()


def test_a_server_that_dies_while_it_starts_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = [sys.executable, "-c", "import sys; sys.exit(7)"]
    monkeypatch.setattr("opensandbox_sync.local.python_argv", lambda _: argv)
    with pytest.raises(LocalServerError, match=r"ended while it started \(exit code 7\)"):
        LocalServer().start()


def test_the_childs_own_reason_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'print(\'{"error": "no room"}\', flush=True)'
    monkeypatch.setattr("opensandbox_sync.local.python_argv", lambda _: [sys.executable, "-c", script])
    with pytest.raises(LocalServerError, match="did not start: no room"):
        LocalServer().start()


def test_it_cannot_be_pickled_and_says_why() -> None:
    with pytest.raises(TypeError, match="cannot be pickled: it owns a process"):
        pickle.dumps(LocalServer())


def test_neither_repr_nor_error_shows_the_key() -> None:
    server = LocalServer(api_key="hush")
    assert "hush" not in repr(server)
    with server:
        assert "hush" not in repr(server)


def test_importing_it_loads_no_web_server() -> None:
    script = "import sys, opensandbox_sync.local; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    assert not {"flask", "werkzeug", "cheroot", "psutil", "requests", "asyncio"} & set(loaded.stdout.split())


_FORK = """
import os, urllib.request
from opensandbox_sync.local import LocalServer
with LocalServer() as server:
    child = os.fork()
    if child == 0:
        server.stop()
        os._exit(0)
    os.waitpid(child, 0)
    print(urllib.request.urlopen(server.url + "/health").read().decode())
"""


def test_a_fork_of_the_caller_ends_nothing() -> None:
    forking = subprocess.run([sys.executable, "-c", _FORK], cwd=ROOT, check=True, capture_output=True, text=True)
    assert forking.stdout == '{"status":"healthy"}\n'


_OWNER = """
import os, sys, time
from opensandbox_sync.local import LocalServer
server = LocalServer(api_key="k", isolation="none").start()
if "fork" in sys.argv and os.fork() == 0:
    time.sleep(1000)
print(server.url, flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("more", [[], ["fork"]])
def test_when_its_owner_is_killed_nothing_is_left(temporary: Path, more: List[str]) -> None:
    """Also when a forked copy of the owner lives on and holds the pipe to the server open."""
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, *more], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert owner.stdout is not None
    with owner.stdout:
        url = owner.stdout.readline().strip()
    server = LocalServer(api_key="k")
    server._process, server._port = owner, int(url.rpartition(":")[2])  # type: ignore[assignment]
    pid = with_a_process(server)
    server._process = None
    owner.kill()
    owner.wait()
    try:
        until(lambda: gone(pid) and not list(temporary.iterdir()), "the end of everything")
    finally:
        os.killpg(owner.pid, signal.SIGKILL) if more else None


@pytest.mark.parametrize("paused", [False, True])
def test_a_killed_server_leaves_no_process_and_once_it_is_stopped_no_directory(temporary: Path, paused: bool) -> None:
    server = LocalServer(isolation="none").start()
    pid = with_a_process(server)
    api = Api(server)
    for item in api.call("GET", "/v1/sandboxes").json["items"] if paused else ():
        assert api.call("POST", f"/v1/sandboxes/{item['id']}/pause").status == 202
        until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "it is stopped")
    api.execd(api.create()["id"]).run("mkdir locked && touch locked/x && chmod 0 locked")
    assert server._process is not None
    server._process.kill()
    server.stop()
    assert list(temporary.iterdir()) == []
    until(lambda: gone(pid), "the end of what ran")


def test_a_server_removes_what_killed_ones_left_and_nothing_of_living_ones(temporary: Path) -> None:
    with LocalServer(isolation="none") as living:
        killed = LocalServer(isolation="none").start()
        with_a_process(killed)
        assert killed._process is not None
        killed._process.kill()
        killed._process.wait()
        assert len(list(temporary.iterdir())) == 2
        foreign = temporary / "opensandbox-of-another-kind"
        foreign.mkdir()
        with LocalServer(isolation="none"):
            until(lambda: not Path(killed._directory or "/").exists(), "the removal")
            assert with_a_process(living)
        assert {str(path) for path in temporary.iterdir()} == {str(foreign), living._directory}
    killed.stop()
    assert list(temporary.iterdir()) == [foreign]


# the command line


@pytest.fixture
def main(temporary: Path) -> Iterator[Any]:
    started: List[subprocess.Popen[str]] = []

    def run(*arguments: str, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "opensandbox_sync.local", *arguments],
            cwd=ROOT,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_it_says_what_it_is_and_a_signal_ends_all(
    main: Any, temporary: Path, number: signal.Signals
) -> None:
    process = main("--port", "0", "--isolation", "none", OPEN_SANDBOX_API_KEY="from the environment")
    lines = [process.stdout.readline() for _ in range(5)]
    assert lines[1].split(":", 1)[1].strip() == "that of $OPEN_SANDBOX_API_KEY"
    assert lines[2] == "Isolation:       none\n"
    assert "not isolated" in lines[3]
    server = LocalServer(api_key="from the environment")
    server._process, server._port = process, int(lines[0].strip().rpartition(":")[2])
    assert Api(server).call("GET", "/v1/sandboxes").status == 200
    pid = with_a_process(server)
    server._process = None
    process.send_signal(number)
    assert process.communicate(timeout=20)[1] == ""
    assert process.returncode == 0
    assert gone(pid)
    assert list(temporary.iterdir()) == []


def test_a_key_may_be_given_or_is_made(main: Any) -> None:
    given = main("--port", "0", "--api-key", "given", OPEN_SANDBOX_API_KEY="other")
    assert [given.stdout.readline() for _ in range(2)][1].endswith(" given\n")
    made = main("--port", "0", OPEN_SANDBOX_API_KEY="")
    assert len([made.stdout.readline() for _ in range(2)][1].split()[-1]) >= 32


def test_a_busy_port_is_one_line(main: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        process = main("--port", str(port))
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")
    assert err == f"opensandbox_sync.local: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_host_paths_are_allowed_by_option(main: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    process = main(
        "--port",
        "0",
        "--api-key",
        "k",
        "--isolation",
        "none",
        "--allow-host-path",
        str(tmp_path / "a"),
        "--allow-host-path",
        os.path.relpath(tmp_path / "b", ROOT),  # a shell's user may be near
    )
    address = process.stdout.readline().strip().rpartition("//")[2]
    volume = {"name": "v", "mountPath": "/d", "host": {"path": "/etc"}}
    body = {"image": {"uri": "x"}, "resourceLimits": {}, "entrypoint": ["x"], "volumes": [volume]}
    answer = call(address, "POST", "/v1/sandboxes", body, {"OPEN-SANDBOX-API-KEY": "k"})
    assert json.loads(answer.body)["message"].endswith(f"Allowed prefixes: ['{tmp_path}/a', '{tmp_path}/b']")
