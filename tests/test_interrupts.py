"""Ctrl-C, by a real SIGINT to a real process, and ``client.close()`` from another thread."""

# ruff: noqa: SIM117 (a server, then what is tested: nested, they read in that order)
from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Any, Callable, Dict, Iterator, List

import pytest

from opensandbox_sync import ClosedError, Sandbox, SandboxClient, client, connections
from opensandbox_sync.services import code, commands

from .conftest import until
from .scripted import API_KEY, PLAIN, Scripted, finished, promptly, python, scripted, serving
from .wire import (
    COMMAND_ID,
    HANG,
    LAST_CHUNK,
    SANDBOX_ID,
    STREAM_HEAD,
    Request,
    chunk,
    init,
    refusal,
    stdout,
    stream,
    whole,
)

CHILD = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from opensandbox_sync import SandboxClient

def say(text):
    print(text.strip(), flush=True)

domain, api_key, sandbox_id, proxied, own_session = sys.argv[1:6]
settings = {}
if own_session:
    import requests
    settings["session"] = requests.Session()
client = SandboxClient(domain=domain, api_key=api_key, use_server_proxy=bool(proxied), **settings)
sandbox = client.connect(sandbox_id, wait_ready=False)
SLEEP = "echo $$; exec sleep 1000"
caught = 0
try:
    %s
except KeyboardInterrupt:
    caught += 1
    say("interrupted")
try:
    time.sleep(0.05)  # a second one would come here
except KeyboardInterrupt:
    caught += 1
say(f"caught {caught}")
%s
client.close()
"""
AFTER = 'say(sandbox.commands.run("echo usable").stdout)'
RUN = "sandbox.commands.run(SLEEP, on_stdout=say)"
CALLS: Dict[str, str] = {
    "run": RUN,
    "run with a timeout": "sandbox.commands.run(SLEEP, on_stdout=say, timeout=500)",
    "stream": "[say(event.text) for event in sandbox.commands.stream(SLEEP) if event.type == 'stdout']",
    "lines": "[say(line) for line in sandbox.commands.stream(SLEEP).lines()]",
    "wait": "command = sandbox.commands.start(SLEEP); say(next(command.follow())); command.wait()",
    "follow": "[say(text) for text in sandbox.commands.start(SLEEP).follow()]",
    "session": "session = sandbox.sessions.create(); session.run(SLEEP, on_stdout=say)",
}


@contextlib.contextmanager
def child(
    settings: Dict[str, Any], act: str, *, after: str = AFTER, proxied: bool = False, own_session: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """A process that does ``act`` with a sandbox until it is interrupted, and ``after`` then."""
    process = python(
        CHILD % (act, after),
        settings["domain"],
        settings["api_key"],
        settings["sandbox"],
        "yes" if proxied else "",
        "yes" if own_session else "",
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def where(settings: Dict[str, Any], sandbox: Sandbox) -> Dict[str, Any]:
    return {**settings, "sandbox": sandbox.id}


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    found = b""
    while not found.endswith(b"\n"):
        letter = os.read(process.stdout.fileno(), 1)  # readline() reads ahead, and communicate() would not see that
        if not letter:
            process.kill()
            raise AssertionError(process.communicate()[1])
        found += letter
    return found.decode().strip()


def wait_until_it_waits(process: subprocess.Popen[str]) -> None:
    """Until the process is inside a call of ours: a Ctrl-C between two of them is for its own code to handle, and
    Python sees one that comes just before it waits when the wait is over.
    """
    psutil = pytest.importorskip("psutil")
    watched, calm = psutil.Process(process.pid), [0.0]

    def is_calm() -> bool:
        asleep = watched.status() == psutil.STATUS_SLEEPING
        calm[0] = calm[0] + 0.01 if asleep else 0.0
        return calm[0] > 0.05

    until(is_calm, "the process waits")


def interrupt(process: subprocess.Popen[str]) -> None:
    wait_until_it_waits(process)
    process.send_signal(signal.SIGINT)
    with promptly(8):
        assert line(process) == "interrupted"


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.embedded
@pytest.mark.parametrize(
    "call, proxied", [*((call, False) for call in CALLS), ("run", True), ("follow", True), ("session", True)]
)
def test_ctrl_c_ends_the_remote_process_and_leaves_the_sandbox_usable(
    where: Dict[str, Any], call: str, proxied: bool
) -> None:
    after = AFTER.replace("sandbox.commands", "session") if call == "session" else AFTER
    with child(where, CALLS[call], after=after, proxied=proxied) as process:
        pid = int(line(process))
        interrupt(process)
        until(lambda: is_gone(pid), "the remote process is gone")
        assert finished(process).split() == ["caught", "1", "usable"]


@pytest.mark.embedded
def test_ctrl_c_ends_the_remote_process_over_a_users_session_too(where: Dict[str, Any]) -> None:
    with child(where, RUN, own_session=True) as process:
        pid = int(line(process))
        interrupt(process)
        until(lambda: is_gone(pid), "the remote process is gone")
        assert finished(process).split() == ["caught", "1", "usable"]


@pytest.mark.embedded
def test_ctrl_c_stops_running_code_and_its_context_stays_usable(where: Dict[str, Any]) -> None:
    pytest.importorskip("ipykernel")
    act = (
        'context = sandbox.code.create_context("python"); sandbox.code.run('
        '"print(6 * 7, flush=True)\\nimport time\\ntime.sleep(1000)", context=context, on_stdout=say)'
    )
    # A kernel may take longer than the second that a Ctrl-C waits for it, and is busy until then.
    after = """
from opensandbox_sync import ConflictError
for _ in range(100):
    try:
        say(sandbox.code.run("print('usable')", context=context).stdout)
        break
    except ConflictError:
        time.sleep(0.1)
"""
    with child(where, act, after=after) as process:
        assert line(process) == "42"
        interrupt(process)
        assert finished(process).split() == ["caught", "1", "usable"]


def scripted_place(server: Scripted) -> Dict[str, Any]:
    return {"domain": server.address, "api_key": API_KEY, "sandbox": SANDBOX_ID}


@contextlib.contextmanager
def interrupted_before_its_answer(act: str, answer: List[Any]) -> Iterator[Scripted]:
    """The server of a process that was interrupted when it had sent a command, and got its answer only then."""
    pressed = threading.Event()

    def respond(request: Request) -> Iterator[Any]:
        assert pressed.wait(20)
        yield from answer

    with serving({"POST /command": respond}) as server:
        with child(scripted_place(server), act, after="") as process:
            until(lambda: server.asked("POST", "/command"), "the command was sent")
            wait_until_it_waits(process)
            process.send_signal(signal.SIGINT)
            pressed.set()
            assert line(process) == "interrupted"
            assert finished(process).split() == ["caught", "1"]
        yield server


@pytest.mark.parametrize("act", [RUN, "sandbox.commands.stream(SLEEP); say('opened')"], ids=["run", "stream"])
def test_ctrl_c_before_the_first_byte_waits_for_the_id_and_interrupts_it(act: str) -> None:
    with interrupted_before_its_answer(act, [STREAM_HEAD + chunk(init()), HANG]) as server:
        assert [request.query for request in server.asked("DELETE", "/command")] == [{"id": COMMAND_ID}]


def test_a_ctrl_c_is_not_lost_to_an_answer_that_is_a_refusal() -> None:
    with interrupted_before_its_answer(RUN, refusal(500, "RUNTIME_ERROR", "no")) as server:
        assert not server.asked("DELETE", "/command")


def test_a_ctrl_c_that_comes_together_with_the_first_bytes_loses_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python raises it behind the read then, which has taken the bytes and told nobody."""
    receive = socket.socket.recv_into
    pressed: List[bool] = []

    def interrupted(self: socket.socket, *arguments: Any) -> int:
        count = receive(self, *arguments)
        if threading.current_thread() is threading.main_thread() and pressed == [False]:
            pressed[0] = True
            raise KeyboardInterrupt
        return count

    with scripted({"POST /command": stream(init(), HANG)}) as (sandbox, server):
        sandbox.is_healthy()  # the endpoint is known then
        monkeypatch.setattr(socket.socket, "recv_into", interrupted)
        pressed.append(False)
        with promptly(), pytest.raises(KeyboardInterrupt):
            sandbox.commands.run("x")
        assert [request.query for request in server.asked("DELETE", "/command")] == [{"id": COMMAND_ID}]


class Seen(Exception):
    """Ends what would go on for ever without a Ctrl-C."""


def twice() -> Callable[[str], None]:
    """A callback that leaves a run at its second output."""
    outputs: List[str] = []

    def callback(text: str) -> None:
        outputs.append(text)
        if len(outputs) == 2:
            sys.settrace(None)
            raise Seen

    return callback


_RUN = [STREAM_HEAD + chunk(init() + stdout("a")), chunk(stdout("b")), HANG]
_IN_PIECES = [STREAM_HEAD, chunk(init()), chunk(stdout("a")), chunk(stdout("b")), HANG]
_CREATED = b"".join(PLAIN["POST /v1/sandboxes"])  # type: ignore[arg-type]
_KILLED = f"DELETE /v1/sandboxes/{SANDBOX_ID}"
# What is done, what is asked for that, the answer, and what ends what it has begun.
_BEGINNINGS: Dict[str, Any] = {
    "run": (lambda s: s.commands.run("x", on_stdout=twice()), "POST /command", _RUN, "DELETE /command"),
    "run in pieces": (lambda s: s.commands.run("x", on_stdout=twice()), "POST /command", _IN_PIECES, "DELETE /command"),
    "code": (lambda s: s.code.run("x", language="python", on_stdout=twice()), "POST /code", _IN_PIECES, "DELETE /code"),
    "create": (lambda s: s._client.create("x", wait_ready=False), "POST /v1/sandboxes", [_CREATED], _KILLED),
    "create in pieces": (
        lambda s: s._client.create("x", wait_ready=False),
        "POST /v1/sandboxes",
        [_CREATED[:-20], _CREATED[-20:]],
        _KILLED,
    ),
}


@pytest.mark.parametrize("short_way", [True, False])
@pytest.mark.parametrize("beginning", _BEGINNINGS)
def test_a_ctrl_c_at_any_step_leaves_nothing_behind(beginning: str, short_way: bool) -> None:
    """In a process of its own: there are connections among what is lost, and a warning for each of them."""
    script = "import sys, tests.test_interrupts as t; t.interrupt_at_every_step(sys.argv[1], sys.argv[2] == 'True')"
    finished(python(script, beginning, str(short_way)))


def interrupt_at_every_step(beginning: str, short_way: bool) -> None:
    """Python raises it between any two steps of whatever code is at work, ours or a library's."""
    connections.SHORT_WAY = short_way
    act, path, answer, ended = _BEGINNINGS[beginning]
    over = threading.Event()

    def reply(request: Request) -> Iterator[Any]:
        for piece in answer:
            if piece is HANG:
                over.wait(20)
            yield LAST_CHUNK if piece is HANG else piece

    def end(request: Request) -> Any:
        over.set()
        return whole()

    def interrupted_at(step: int) -> int:
        """Press Ctrl-C after so many steps; how many there were."""
        steps = 0

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal steps
            # Between two of our calls it is the caller's: with a stream that is open, and no block around it yet.
            if frame.f_code.co_filename in (__file__, commands.__file__, code.__file__, client.__file__):
                return trace
            if frame.f_code.co_name == "__enter__":
                return trace
            # Not by opcodes: a lock of the standard library may be held then, for ever.
            steps += event == "line"
            if steps > step:
                sys.settrace(None)
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            act(sandbox)
        except KeyboardInterrupt:
            begun = [request for request in server.asked(*path.split()) if request.body]  # whole, that is
            assert len(server.asked(*ended.split())) == len(begun), f"step {step}"
        except Seen:
            pass
        finally:
            sys.settrace(before)
        return steps

    with scripted({path: reply, ended: end}) as (sandbox, server):
        interrupted_at(sys.maxsize)  # the endpoint is known then
        for step in range(0, interrupted_at(sys.maxsize), 11):
            server.requests.clear()
            over.clear()
            with promptly():
                interrupted_at(step)


@pytest.mark.parametrize("head", [[], [STREAM_HEAD]], ids=["no headers", "headers"])
def test_ctrl_c_is_not_held_up_by_a_server_that_says_nothing(head: List[bytes]) -> None:
    with serving({"POST /command": [*head, HANG]}) as server:
        with child(scripted_place(server), RUN, after="") as process:
            until(lambda: server.asked("POST", "/command"), "the command was sent")
            interrupt(process)
            assert finished(process).split() == ["caught", "1"]


def test_ctrl_c_is_not_held_up_by_an_interrupt_that_takes_its_time() -> None:
    table = {"POST /command": stream(init(), stdout("go"), HANG), "DELETE /command": [HANG]}
    with serving(table) as server:
        with child(scripted_place(server), RUN, after="") as process:
            assert line(process) == "go"
            interrupt(process)
            assert finished(process).split() == ["caught", "1"]
        assert len(server.asked("DELETE", "/command")) == 1


def test_a_second_ctrl_c_ends_the_wait_for_the_first() -> None:
    table = {"POST /command": stream(init(), stdout("go"), HANG), "DELETE /command": [HANG]}
    with serving(table) as server, child(scripted_place(server), RUN, after="") as process:
        assert line(process) == "go"
        wait_until_it_waits(process)
        process.send_signal(signal.SIGINT)
        until(lambda: server.asked("DELETE", "/command"), "the interrupt was sent")
        interrupt(process)
        assert finished(process).split() == ["caught", "1"]


def test_an_uncaught_ctrl_c_shows_one_traceback() -> None:
    script = CHILD.replace("except KeyboardInterrupt:\n    caught += 1\n    say", "finally:\n    say", 1)
    with serving({"POST /command": stream(init(), stdout("go"), HANG)}) as server:
        process = python(script % (RUN, ""), server.address, API_KEY, SANDBOX_ID, "", "")
        assert line(process) == "go"
        interrupt(process)
        _, err = process.communicate(timeout=20)
    assert err.count("Traceback") == 1 and err.rstrip().endswith("KeyboardInterrupt")


def test_a_block_left_by_an_exception_interrupts_its_command_and_one_left_in_peace_does_not() -> None:
    with scripted({"POST /command": stream(init(), stdout("go"), HANG)}) as (sandbox, server):
        with sandbox.commands.stream("x") as events:
            next(events)
        assert not server.asked("DELETE", "/command")
        with pytest.raises(ZeroDivisionError), sandbox.commands.stream("x") as events:
            next(events)
            raise ZeroDivisionError
        assert [request.query for request in server.asked("DELETE", "/command")] == [{"id": COMMAND_ID}]


WAITING: Dict[str, Callable[[Sandbox], Any]] = {
    "run": lambda sandbox: sandbox.commands.run("x"),
    "wait": lambda sandbox: sandbox.commands.get(COMMAND_ID).wait(),
    "follow": lambda sandbox: list(sandbox.commands.get(COMMAND_ID).follow()),
    "info": lambda sandbox: sandbox.info(),
    "wait_until_ready": lambda sandbox: sandbox.wait_until_ready(300),
}


@pytest.mark.parametrize("call", WAITING)
@pytest.mark.parametrize("answered", [False, True], ids=["before the answer", "inside the answer"])
def test_closing_the_client_ends_the_calls_of_other_threads(call: str, answered: bool) -> None:
    silent: List[Any] = [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", HANG] if answered else [HANG]
    table: Dict[str, Any] = {
        "POST /command": stream(init(), stdout("go"), HANG) if answered else [HANG],
        f"GET /v1/sandboxes/{SANDBOX_ID}": silent,
        "GET /ping": silent,
        f"GET /command/{COMMAND_ID}/logs": [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
    }
    ends: List[BaseException] = []
    with scripted(table, timeout=300, idle_timeout=300) as (sandbox, server):

        def work() -> None:
            try:
                WAITING[call](sandbox)
            except ClosedError as error:
                ends.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: len([r for r in server.requests if "/endpoints/" not in r.path]) >= 4, "all have asked")
        with promptly():
            sandbox._client.close()
            for thread in threads:
                thread.join(20)
    assert len(ends) == 4


def test_closing_a_stream_in_another_thread_ends_its_reading() -> None:
    with scripted({"POST /command": stream(init(), HANG)}, idle_timeout=300) as (sandbox, _):
        events = sandbox.commands.stream("x")
        assert next(events).type == "init"
        closer = threading.Timer(0.05, events.close)
        closer.start()
        with promptly(), pytest.raises(ClosedError):
            list(events)
        closer.join()


def test_a_closed_client_says_so_and_its_sandboxes_stay() -> None:
    with serving({}) as server:
        client = SandboxClient(domain=server.address)
        sandbox = client.connect(SANDBOX_ID)
        client.close()
        client.close()
        for call in (sandbox.info, lambda: sandbox.commands.run("x"), lambda: client.create("i"), sandbox.kill):
            with pytest.raises(ClosedError, match="new SandboxClient"):
                call()
        assert not server.asked("DELETE", SANDBOX_ID)


def test_no_call_is_left_over_after_a_close_while_many_run() -> None:
    def respond(request: Request) -> Iterator[bytes]:
        yield STREAM_HEAD + chunk(init())
        with contextlib.suppress(OSError):
            for number in range(100_000):
                yield chunk(stdout(str(number)))
                if number % 50 == 0:
                    time.sleep(0.001)
        yield LAST_CHUNK

    ends: List[BaseException] = []
    with scripted({"POST /command": respond}) as (sandbox, server):

        def work() -> None:
            try:
                sandbox.commands.run("x", capture=False)
            except Exception as error:
                ends.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        until(lambda: len(server.asked("POST", "/command")) == 6, "all run")
        with promptly(20):
            sandbox._client.close()
            for thread in threads:
                thread.join(20)
    assert [type(error) for error in ends] == [ClosedError] * 6
