"""No event loop, no thread, no surprise: inside a running loop, a notebook's kernel, a signal handler, and at exit."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, List

import pytest

from .scripted import API_KEY, finished, python, scripted, serving
from .wire import SANDBOX_ID, complete, init, stdout, stream, whole

RUN = {"POST /command": stream(init(), stdout("hi"), complete())}


def test_calls_work_inside_a_running_event_loop() -> None:
    with scripted(RUN) as (sandbox, _):

        async def main() -> List[str]:
            here = sandbox.commands.run("x").stdout
            lines = list(sandbox.commands.stream("x").lines())
            loop = asyncio.get_running_loop()
            other = await loop.run_in_executor(None, lambda: sandbox.commands.run("x").stdout)
            return [here, *lines, other]

        assert asyncio.run(main()) == ["hi"] * 3


def test_calls_work_inside_a_signal_handler() -> None:
    seen: List[str] = []
    with scripted(RUN) as (sandbox, _):
        before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(sandbox.commands.run("x").stdout))
        try:
            signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert seen == ["hi"]


QUIET = """
import json, logging, signal, sys, threading
handlers = [signal.getsignal(number) for number in sorted(signal.valid_signals())]
from opensandbox_sync import SandboxClient
with SandboxClient(domain=sys.argv[1], api_key=sys.argv[2]) as client:
    with client.create("image") as sandbox:
        assert sandbox.commands.run("x").stdout == "hi"
print(json.dumps({
    "asyncio": "asyncio" in sys.modules,
    "threads": threading.active_count(),
    "signals": handlers == [signal.getsignal(number) for number in sorted(signal.valid_signals())],
    "handlers": len(logging.getLogger("opensandbox_sync").handlers) + len(logging.getLogger().handlers),
}))
"""


def test_a_plain_script_loads_no_event_loop_and_starts_no_thread() -> None:
    with serving(RUN) as server:
        process = python(QUIET, server.address, API_KEY)
        out, err = process.communicate(timeout=60)
        assert json.loads(out) == {"asyncio": False, "threads": 1, "signals": True, "handlers": 0}
        assert err == ""


IMPORT = """
import os, socket, sys, threading
def refuse(*_, **__):
    raise AssertionError("at import")
socket.socket.connect = socket.getaddrinfo = os.open = threading.Thread.start = refuse
before = set(sys.modules)
import opensandbox_sync
print(len(set(sys.modules) - before), "requests" in sys.modules, "asyncio" in sys.modules)
"""


def test_importing_the_package_does_nothing_and_loads_next_to_nothing() -> None:
    count, has_requests, has_asyncio = finished(python(IMPORT)).split()
    assert (has_requests, has_asyncio) == ("False", "False")
    assert int(count) < 20


AT_EXIT = """
import atexit, sys
from opensandbox_sync import SandboxClient
client = SandboxClient(domain=sys.argv[1], api_key=sys.argv[2])
sandbox = client.connect(sys.argv[3])
def last():
    up, down = (sys.argv[4] + name for name in ("/up", "/down"))
    print(sandbox.files.upload_dir(up, "/t", verify=False).files, sandbox.files.download_dir("/t", down).files)
    print(sandbox.commands.run("x").stdout, list(sandbox.commands.stream("x").lines()), flush=True)
    with client.create("image") as another:
        print(another.commands.run("x", on_stdout=lambda text: None, timeout=30).exit_code, flush=True)
    client.close()
atexit.register(last)
"""


def test_calls_work_at_exit(tmp_path: Path) -> None:
    told = {"size": 3, "mode": 644, "modified_at": "2026-11-22T20:02:06Z"}
    names = [f"/t/{number}" for number in range(9)]
    trees = {
        "POST /directories": whole(),
        "POST /files/upload": whole(),
        "GET /files/info": whole(200, {"/t": {**told, "path": "/t", "type": "directory"}}),
        "GET /directories/list": whole(200, [{**told, "path": name, "type": "file"} for name in names]),
        "GET /files/download": whole(200, b"all"),
    }
    (tmp_path / "up").mkdir()
    for name in ("a", "b"):  # in two requests: threads would be of use
        (tmp_path / "up" / name).write_bytes(b"x" * 3 * 2**20)
    with serving({**RUN, **trees}) as server:
        process = python(AT_EXIT, server.address, API_KEY, SANDBOX_ID, str(tmp_path))
        files = [name[3:] for name in names]
        assert finished(process).splitlines() == [f"['a', 'b'] {files}", "hi ['hi']", "0"]
        assert len(server.asked("POST", "/files/upload")) == 2
        assert [path.read_bytes() for path in (tmp_path / "down").iterdir()] == [b"all"] * 9
        assert len(server.asked("DELETE", SANDBOX_ID)) == 1


KILLED_AT_EXIT = """
import os, sys
from opensandbox_sync import SandboxClient
client = SandboxClient(domain=sys.argv[1], api_key=sys.argv[2])
sandbox = client.create("image", kill_at_exit=True)
{}
"""


@pytest.mark.parametrize("end", ["", "1 / 0", "sandbox.detach()"])
def test_kill_at_exit_ends_a_sandbox_however_the_program_ends(end: str) -> None:
    with serving({}) as server:
        python(KILLED_AT_EXIT.format(end), server.address, API_KEY).communicate(timeout=60)
        assert len(server.asked("DELETE", SANDBOX_ID)) == (0 if "detach" in end else 1)


def test_kill_at_exit_ends_a_sandbox_whose_client_was_closed() -> None:
    with serving({}) as server:
        assert finished(python(KILLED_AT_EXIT.format("client.close()"), server.address, API_KEY)) == ""
        assert len(server.asked("DELETE", SANDBOX_ID)) == 1


def test_kill_at_exit_is_not_a_forks_business() -> None:
    end = "pid = os.fork()\nif pid: os.waitpid(pid, 0); os._exit(0)"
    with serving({}) as server:
        finished(python(KILLED_AT_EXIT.format(end), server.address, API_KEY))
        assert not server.asked("DELETE", SANDBOX_ID)


def test_a_sandbox_that_was_killed_already_is_not_killed_again_at_exit() -> None:
    with serving({}) as server:
        finished(python(KILLED_AT_EXIT.format("sandbox.kill()"), server.address, API_KEY))
        assert len(server.asked("DELETE", SANDBOX_ID)) == 1


CELL = """
import asyncio
from opensandbox_sync import SandboxClient
assert asyncio.get_running_loop() is not None
with SandboxClient(domain={!r}, api_key={!r}) as client, client.create("image") as sandbox:
    print(sandbox.commands.run("x").stdout, [event.type for event in sandbox.commands.stream("x")])
"""


def test_calls_work_in_a_cell_of_a_notebook() -> None:
    pytest.importorskip("ipykernel")
    manager = pytest.importorskip("jupyter_client.manager")
    with serving(RUN) as server:
        kernel = manager.KernelManager(kernel_name="python3")
        kernel.start_kernel()
        client = kernel.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=60)
            said: List[Any] = []
            reply = client.execute_interactive(
                CELL.format(server.address, API_KEY), timeout=60, output_hook=lambda message: said.append(message)
            )
            text = "".join(m["content"].get("text", "") for m in said if m["msg_type"] == "stream")
            assert reply["content"]["status"] == "ok", reply["content"]
            assert text == "hi ['init', 'stdout', 'execution_complete']\n"
        finally:
            client.stop_channels()
            kernel.shutdown_kernel(now=True)
            kernel.cleanup_resources()
            for context in (kernel.context, client.context):  # else the collector warns of them, on Python 3.8
                context.destroy(linger=0)


def test_the_keep_alive_thread_is_the_only_one_and_ends_with_its_block() -> None:
    with scripted({}) as (sandbox, server):
        server.table["POST /renew-expiration"] = [
            b'HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\n{"expiresAt":"2036-11-22T20:02:06Z"}'
        ]
        before = set(threading.enumerate())
        with sandbox.keep_alive():
            names = [thread.name for thread in threading.enumerate() if "opensandbox" in thread.name]
            assert names == ["opensandbox-keep-alive"]
        assert not [thread for thread in set(threading.enumerate()) - before if "opensandbox" in thread.name]


RENEWED = b'HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\n{"expiresAt":"2036-11-22T20:02:06Z"}'


def test_keep_alive_renews_for_as_long_as_create_gave() -> None:
    with scripted({"POST /renew-expiration": [RENEWED]}) as (sandbox, server):
        with sandbox._client.create("image", timeout=600) as created, created.keep_alive():
            pass
        (renewal,) = server.asked("POST", "/renew-expiration")
        expires = datetime.fromisoformat(renewal.json["expiresAt"].replace("Z", "+00:00"))
        assert 590 < (expires - datetime.now(timezone.utc)).total_seconds() < 610


def test_keep_alive_of_a_found_sandbox_keeps_the_time_that_it_has_left() -> None:
    with scripted({"POST /renew-expiration": [RENEWED]}) as (sandbox, server):
        for _ in range(2):
            with sandbox.keep_alive():
                pass
        for renewal in server.asked("POST", "/renew-expiration"):
            assert renewal.json["expiresAt"].startswith("2036-11-22T20:0")


def test_keep_alive_raises_whatever_its_renewal_ended_with() -> None:
    failed = threading.Event()

    def hook(record: Any) -> None:
        if record.method == "POST" and threading.current_thread() is not threading.main_thread():
            failed.set()
            raise ZeroDivisionError

    renewed = scripted({"POST /renew-expiration": [RENEWED]}, on_request=hook)
    with renewed as (sandbox, _), pytest.raises(ZeroDivisionError), sandbox.keep_alive(timeout=0.05):
        assert failed.wait(20)
