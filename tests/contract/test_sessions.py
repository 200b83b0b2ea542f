"""Shell sessions: what is kept from run to run, how a run ends, and what an interrupt leaves."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import uuid
from typing import Any, Callable, Iterator, List

import pytest

from opensandbox_sync import (
    BadRequestError,
    CommandError,
    CommandTimeoutError,
    InvalidArgumentError,
    NotFoundError,
    Sandbox,
    SandboxClient,
    ServerEvent,
)
from opensandbox_sync.services.sessions import BashSession

from ..conftest import until


@pytest.fixture
def session(sandbox: Sandbox) -> Iterator[BashSession]:
    with sandbox.sessions.create(cwd="/tmp") as session:
        yield session


@pytest.fixture
def directory(sandbox: Sandbox) -> Iterator[str]:
    """A path under /tmp that does not exist yet."""
    path = f"/tmp/session-{uuid.uuid4().hex}"
    yield path
    sandbox.commands.run(f"rm -rf {path}")


def is_running(sandbox: Sandbox, pid: str) -> bool:
    """Whether there is such a process that has not ended."""
    state = sandbox.commands.run(f"cat /proc/{int(pid)}/stat 2>/dev/null").stdout
    return bool(state) and state.rpartition(")")[2].split()[0] != "Z"


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_directory_and_exported_variables_are_kept_from_run_to_run(session: BashSession) -> None:
    assert session.run("pwd").stdout == "/tmp"
    assert session.run("cd /usr && export COLOR='dark blue' && SHAPE=round").ok
    assert session.run('pwd; echo "$COLOR/$SHAPE"').stdout == "/usr\ndark blue/"


def test_a_function_is_not_kept(session: BashSession) -> None:
    session.run("greet() { echo hello; }")
    assert session.run("greet").exit_code == 127


def test_a_run_in_another_directory_moves_the_session_there(session: BashSession) -> None:
    assert session.run("pwd", cwd="/usr").stdout == "/usr"
    assert session.run("pwd").stdout == "/usr"


def test_a_session_makes_its_directory(sandbox: Sandbox, directory: str) -> None:
    with sandbox.sessions.create(cwd=directory) as session:
        assert session.run("pwd").stdout == directory


def test_a_run_does_not_make_its_directory(session: BashSession, directory: str) -> None:
    with pytest.raises(BadRequestError, match="does not exist"):
        session.run("pwd", cwd=directory)
    assert session.run("pwd").stdout == "/tmp"


def test_two_sessions_know_nothing_of_each_other(sandbox: Sandbox, session: BashSession) -> None:
    session.run("cd /usr; export COLOR=blue")
    with sandbox.sessions.create() as other:
        assert other.run('echo "$COLOR"').stdout == ""
        assert other.id != session.id


@pytest.mark.embedded
def test_a_variable_with_line_breaks_and_quotes_is_kept(session: BashSession) -> None:
    """Daemons before 1.1 lose these."""
    session.run("export TEXT=$'a\\n\"b\"\\t\\'c\\''")
    assert session.run("printf %s \"$TEXT\" | od -An -c | tr -d ' \\n'").stdout == "a\\n\"b\"\\t'c'"


# -- how a run ends ----------------------------------------------------------------------------------------------------


def test_an_exit_is_an_exit_code_and_no_broken_session(session: BashSession) -> None:
    session.run("export COLOR=blue")
    execution = session.run("echo x; exit 7")
    assert (execution.stdout, execution.exit_code, execution.ok) == ("x", 7, False)
    assert session.run("echo $COLOR").stdout == "blue"


def test_a_failed_command_is_an_error_where_that_is_wanted(session: BashSession) -> None:
    with pytest.raises(CommandError) as caught:
        session.run("echo why; false", check=True)
    assert caught.value.execution is not None
    assert (caught.value.execution.stdout, caught.value.execution.exit_code) == ("why", 1)
    assert session.run("true", check=True).exit_code == 0


def test_output_and_errors_are_one_stream_without_empty_lines(session: BashSession) -> None:
    execution = session.run("echo out; echo; echo err >&2")
    assert (execution.stdout, execution.stderr) == ("out\nerr", "")


def test_text_of_any_kind_arrives(session: BashSession) -> None:
    text = "café 🚀 \x85 \u2028 data: {}"
    assert session.run(f"printf '%s\\n' '{text}'").stdout == text


def test_a_timeout_is_an_error_with_what_came_and_the_session_stays(session: BashSession) -> None:
    with pytest.raises(CommandTimeoutError) as caught:
        session.run("echo before; exec sleep 60", timeout=2)
    assert isinstance(caught.value, TimeoutError)
    execution = caught.value.execution
    assert execution is not None
    assert (execution.stdout, execution.exit_code, execution.timed_out) == ("before", None, True)
    assert session.run("pwd").stdout == "/tmp"


def test_a_timeout_holds_where_a_child_keeps_the_output_open(sandbox: Sandbox, session: BashSession) -> None:
    """The daemon kills the shell alone, and may wait for the child: then the wait ends here."""
    child: List[str] = []
    with pytest.raises(CommandTimeoutError):
        session.run("sleep 300 & echo $!; wait", timeout=2, on_stdout=child.append)
    sandbox.commands.run(f"kill {int(child[0])}")


def test_a_run_within_its_timeout_is_no_timeout(session: BashSession) -> None:
    assert session.run("echo quick", timeout=30).stdout == "quick"


# -- callbacks, limits, streams ----------------------------------------------------------------------------------------


def test_callbacks_get_text_and_events_as_they_come(session: BashSession) -> None:
    texts: List[str] = []
    events: List[ServerEvent] = []
    execution = session.run("echo a; echo b", on_stdout=texts.append, on_event=events.append, capture=False)
    assert texts == ["a", "b"]
    assert [event.type for event in events if event.type != "ping"] == [
        "init",
        "stdout",
        "stdout",
        "execution_complete",
    ]
    assert (execution.stdout, execution.exit_code) == ("", 0)


def test_an_exception_of_a_callback_leaves_and_the_session_stays(session: BashSession) -> None:
    def fail(text: str) -> None:
        raise KeyError(text)

    with pytest.raises(KeyError, match="first"):
        session.run("echo first; sleep 60", on_stdout=fail)
    assert session.run("echo still").stdout == "still"


def test_output_can_be_limited(session: BashSession) -> None:
    execution = session.run("for i in $(seq 2000); do echo $i; done", max_output=100)
    assert execution.truncated
    assert execution.stdout.startswith("1\n2") and execution.stdout.endswith("2000")
    assert len(execution.stdout) < 300


def test_a_stream_gives_lines_as_they_come(session: BashSession) -> None:
    with session.stream("echo one; echo two") as stream:
        assert list(stream.lines()) == ["one", "two"]
        assert stream.execution.exit_code == 0


# -- interrupts --------------------------------------------------------------------------------------------------------


def test_an_interrupt_ends_the_shell_leaves_its_child_and_the_session(sandbox: Sandbox, session: BashSession) -> None:
    session.run("export COLOR=blue")
    with session.stream("echo $$; sleep 300 & echo $!; wait") as stream:
        lines = stream.lines()
        shell, child = next(lines), next(lines)
        assert is_running(sandbox, shell)
        stream.interrupt()
    until(lambda: not is_running(sandbox, shell), "the shell's end")
    assert is_running(sandbox, child)
    sandbox.commands.run(f"kill {int(child)}")
    assert session.run("echo $COLOR").stdout == "blue"


def test_leaving_a_streams_block_ends_the_shell(sandbox: Sandbox, session: BashSession) -> None:
    with session.stream("echo $$; exec sleep 300") as stream:
        shell = next(stream.lines())
    until(lambda: not is_running(sandbox, shell), "the shell's end")
    assert session.run("true").ok


def test_ctrl_c_ends_the_shell_and_leaves_the_session(sandbox: Sandbox, session: BashSession) -> None:
    shell: List[str] = []

    def press(text: str) -> None:
        shell.append(text)
        timer.start()

    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        session.run("echo $$; exec sleep 300", on_stdout=press)
    timer.join()
    until(lambda: not is_running(sandbox, shell[0]), "the shell's end")
    assert session.run("pwd").stdout == "/tmp"


# -- sessions come and go ----------------------------------------------------------------------------------------------


def test_leaving_the_block_ends_a_session_that_was_created(sandbox: Sandbox) -> None:
    with sandbox.sessions.create() as session:
        pass
    with pytest.raises(NotFoundError):
        session.run("true")
    session.close()  # already gone is fine


def test_an_exception_in_the_block_ends_it_too_and_is_the_one_that_leaves(sandbox: Sandbox) -> None:
    with pytest.raises(RuntimeError, match="mine"), sandbox.sessions.create() as session:
        raise RuntimeError("mine")
    with pytest.raises(NotFoundError):
        sandbox.sessions.run(session.id, "true")


def test_a_session_is_found_again_by_its_id_and_left(sandbox: Sandbox, session: BashSession) -> None:
    session.run("cd /usr")
    with sandbox.sessions.get(session.id) as again:
        assert again.run("pwd").stdout == "/usr"
    assert sandbox.sessions.run(session.id, "pwd").stdout == "/usr"


def test_a_pickled_session_works_and_does_not_own_it(settings: Any, sandbox: Sandbox, session: BashSession) -> None:
    session.run("cd /usr")
    with pickle.loads(pickle.dumps(session)) as copy:
        assert copy.run("pwd").stdout == "/usr"
        copy._sessions._sandbox._client.close()
    assert session.run("pwd").stdout == "/usr"


def test_deleting_a_session_ends_what_runs_in_it(sandbox: Sandbox) -> None:
    session = sandbox.sessions.create()
    with session.stream("echo $$; sleep 300") as stream:
        shell = next(stream.lines())
        sandbox.sessions.delete(session.id)
        for _ in stream:
            pass
        assert not stream.execution.ok
    assert not is_running(sandbox, shell)
    with pytest.raises(NotFoundError):
        sandbox.sessions.delete(session.id)


def test_an_unknown_session_is_not_found(sandbox: Sandbox) -> None:
    for act in (lambda: sandbox.sessions.run("no/such session?", "true"), lambda: sandbox.sessions.delete("no-such")):
        with pytest.raises(NotFoundError):
            act()


@pytest.mark.parametrize(
    "act",
    [
        lambda sessions: sessions.create(cwd=""),
        lambda sessions: sessions.create(cwd=7),
        lambda sessions: sessions.get(""),
        lambda sessions: sessions.delete(None),
        lambda sessions: sessions.run("", "true"),
        lambda sessions: sessions.run("s", ""),
        lambda sessions: sessions.run("s", ["true"]),
        lambda sessions: sessions.run("s", None),
        lambda sessions: sessions.run("s", "true\0"),
        lambda sessions: sessions.run("s", "true", cwd=" "),
        lambda sessions: sessions.run("s", "true", timeout=0),
        lambda sessions: sessions.run("s", "true", timeout="5"),
        lambda sessions: sessions.run("s", "true", max_output=-1),
        lambda sessions: sessions.run("s", "true", on_stdout="print"),
        lambda sessions: sessions.stream("s", "true", timeout=float("inf")),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(act: Callable[[Any], Any]) -> None:
    sent: List[Any] = []
    with SandboxClient(domain="127.0.0.1:1", on_request=sent.append) as client:
        sandbox = client.connect("x", wait_ready=False)
        with pytest.raises(InvalidArgumentError):
            act(sandbox.sessions)
        assert sent == []
