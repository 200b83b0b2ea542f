"""Nothing is left over: descriptors, threads, memory, warnings."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import weakref
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from opensandbox_sync import Sandbox, SandboxClient, SandboxError

from .conftest import until
from .scripted import API_KEY, RESET, Scripted, python, scripted, serving
from .wire import HANG, complete, cut, failed, init, refusal, stdout, stream, whole

DESCRIPTORS = Path("/proc/self/fd")
pytestmark = pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="counts descriptors in /proc")


def sockets() -> int:
    """How many sockets this process holds open."""
    count = 0
    for entry in DESCRIPTORS.iterdir():
        with contextlib.suppress(OSError):
            count += os.readlink(entry).startswith("socket:")  # type: ignore[arg-type]
    return count


def held() -> Tuple[int, int]:
    gc.collect()
    return len(list(DESCRIPTORS.iterdir())), threading.active_count()


def ignoring_errors(act: Callable[[Sandbox], Any]) -> Callable[[Sandbox], None]:
    def do(sandbox: Sandbox) -> None:
        with contextlib.suppress(SandboxError, ZeroDivisionError):
            act(sandbox)

    return do


def read_one_event(sandbox: Sandbox) -> None:
    with sandbox.commands.stream("x") as events:
        next(events)


def raise_in_a_callback(sandbox: Sandbox) -> None:
    sandbox.commands.run("x", on_stdout=lambda text: 1 / 0)


def run(sandbox: Sandbox) -> None:
    sandbox.commands.run("x", timeout=0.05)


GOOD = stream(init(), stdout("a"), complete())
CASES: Dict[str, Tuple[List[Any], Callable[[Sandbox], Any]]] = {
    "a run": (GOOD, run),
    "a run whose response is held open": ([*cut(GOOD)[:-1], HANG], run),
    "a failed run": (stream(init(), failed("3")), run),
    "a cut stream": ([*cut(GOOD)[:-2], b""], run),
    "a reset stream": ([*GOOD[:2], RESET], run),
    "silence": (stream(init(), HANG), run),
    "a refusal": (refusal(500, "NO", "no"), run),
    "a refusal that never ends": ([b"HTTP/1.1 500 No\r\nContent-Length: 99999\r\n\r\nno", b""], run),
    "a malformed frame": (stream(init(), b"<html>\n\n", stdout("a")), run),
    "a stream left early": (stream(init(), stdout("a"), HANG), read_one_event),
    "a callback that raises": (stream(init(), stdout("a"), HANG), raise_in_a_callback),
    "a page": (whole(200, b"<html>"), run),
}


@pytest.mark.parametrize("case", CASES)
def test_a_call_leaves_no_socket_and_no_thread_behind_however_it_ends(case: str) -> None:
    answer, act = CASES[case]
    act = ignoring_errors(act)
    table = {"POST /command": answer, "GET /command/status/a2cd6cba21ee4b69840a994e51cbf965": whole(404)}
    threads = threading.active_count
    others = threads()  # of tests before this one, in the same process
    with scripted(table, idle_timeout=0.1) as (sandbox, server):
        for _ in range(3):
            act(sandbox)
        until(lambda: server.connection_count - server.ended <= 2, "the first connections are over")
        before = server.connection_count - server.ended
        for _ in range(10 if "timeout" in case or case == "silence" else 25):
            act(sandbox)
        gc.collect()
        until(lambda: server.connection_count - server.ended <= before + 1, "the connections are over, but kept ones")
        assert threads() <= others + 3 + server.connection_count - server.ended + 2


def test_a_stream_that_is_dropped_unread_is_closed_without_a_warning() -> None:
    with scripted({"POST /command": stream(init(), stdout("a"), HANG)}) as (sandbox, server):
        for _ in range(5):
            next(sandbox.commands.stream("x"))
            gc.collect()
        until(lambda: server.connection_count - server.ended <= 2, "the connections are over")


@pytest.mark.parametrize("answer", [[RESET], refusal(500, "NO", "no")], ids=["reset", "refusal"])
def test_a_failed_call_holds_nothing_of_its_callers(answer: List[Any]) -> None:
    """An error whose traceback leads to itself would keep a stream that was dropped until the next collection."""
    table = {"POST /command": stream(init(), HANG), "DELETE /command": answer}
    with scripted(table) as (sandbox, _):
        gc.disable()
        try:
            dropped = sandbox.commands.stream("x")
            with contextlib.suppress(SandboxError):
                dropped.interrupt()
            there = weakref.ref(dropped)
            del dropped
            assert there() is None
        finally:
            gc.enable()


def test_clients_that_come_and_go_leave_nothing_behind() -> None:
    with serving({"POST /command": GOOD}) as server:
        for close in (True, False):
            before = sockets()
            for _ in range(20):
                client = SandboxClient(domain=server.address)
                with client.create("image") as sandbox:
                    sandbox.commands.run("x")
                if close:
                    client.close()
                del client, sandbox
            gc.collect()
            until(lambda: sockets() <= before, "the sockets of both ends are closed")  # noqa: B023


def test_creating_running_and_killing_again_and_again_holds_nothing() -> None:
    with serving({"POST /command": GOOD}) as server, SandboxClient(domain=server.address) as client:
        cycle(client)
        before = held()
        for _ in range(50):
            cycle(client)
        until(lambda: held() <= before, "nothing is held")


WARNINGS = """
import gc, sys
from opensandbox_sync import SandboxClient, SandboxError
client = SandboxClient(domain=sys.argv[1], api_key=sys.argv[2], idle_timeout=5)
for number in range(3):
    with client.create("image") as sandbox:
        sandbox.commands.run("x")
        with sandbox.commands.stream("x") as events:
            next(events)
        sandbox.commands.stream("x")
        try:
            sandbox.commands.run("x", on_stdout=lambda text: 1 / 0)
        except ZeroDivisionError:
            pass
        try:
            client.info("other")
        except SandboxError:
            pass
    gc.collect()
del client, sandbox, events
gc.collect()
"""


def test_no_resource_warning_is_given(tmp_path: Path) -> None:
    with serving({"POST /command": GOOD}) as server:
        flags = ["-X", "dev", "-W", "error::ResourceWarning", "-W", "error::DeprecationWarning:opensandbox_sync"]
        process = python(WARNINGS, server.address, API_KEY, flags=flags)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, "ResourceWarning" in err, "opensandbox_sync" in err) == (0, False, False), err


def cycle(client: SandboxClient) -> None:
    with client.create("image") as sandbox:
        assert sandbox.commands.run("echo hello", timeout=60).exit_code == 0


@pytest.mark.slow
@pytest.mark.embedded
def test_500_sandboxes_leave_descriptors_threads_and_memory_flat(settings: Dict[str, Any]) -> None:
    psutil = pytest.importorskip("psutil")
    process = psutil.Process()
    with SandboxClient(**settings) as client:
        for _ in range(50):
            cycle(client)
        before, memory = held(), process.memory_info().rss
        for _ in range(450):
            cycle(client)
        after, grown = held(), process.memory_info().rss - memory
    assert after <= before
    assert grown < 8 * 2**20, f"{grown / 2**20:.1f} MiB"


def test_a_scripted_server_ends_what_it_began() -> None:
    before = held()
    server = Scripted({})
    with SandboxClient(domain=server.address) as client:
        client.health()
    server.stop()
    assert held() <= before
