"""Commands: run, streamed, in the background, stopped, and refused, against whichever server is under test."""

from __future__ import annotations

import math
import os
import pickle
import signal
import threading
import uuid
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any, Callable, Dict, List

import pytest

from opensandbox_sync import (
    BadRequestError,
    ClosedError,
    CommandError,
    CommandTimeoutError,
    Execution,
    InvalidArgumentError,
    NotFoundError,
    NotSupportedError,
    RequestTimeoutError,
    Sandbox,
    SandboxClient,
    SandboxError,
    ServerEvent,
)

from ..conftest import until


@pytest.fixture
def mark() -> str:
    """A word for a command line, by which its processes are found."""
    return "mark" + uuid.uuid4().hex


def runs(sandbox: Sandbox, mark: str) -> bool:
    """Whether a process of the sandbox has this word in its command line."""
    hidden = f"[{mark[0]}]{mark[1:]}"  # so that the question does not find itself
    search = f"cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c '{hidden}'"
    return sandbox.commands.run(search).stdout.strip() != "0"


# -- run ---------------------------------------------------------------------------------------------------------------


def test_a_run_tells_output_error_output_and_exit_code(sandbox: Sandbox) -> None:
    execution = sandbox.commands.run("echo out; echo err >&2; exit 3")
    assert (execution.stdout.strip(), execution.stderr.strip(), execution.exit_code) == ("out", "err", 3)
    assert not execution.ok and execution.error is not None and execution.error.value == "3"
    assert execution.complete is None and execution.signal is None and not execution.timed_out
    assert execution.id


def test_a_good_run_is_ok_and_complete(sandbox: Sandbox) -> None:
    execution = sandbox.commands.run("true")
    assert execution.ok and execution.exit_code == execution.exitCode == 0
    assert execution.complete is not None and execution.error is None
    assert (execution.stdout, execution.stderr, execution.text) == ("", "", "")
    assert execution.duration is not None and execution.duration >= 0
    assert execution.check() is execution


@pytest.mark.embedded
@pytest.mark.parametrize(
    "text",
    [
        "a\n",
        "a",
        "a\n\n\nb\n\n",
        "a\r\nb\r\n",
        "1%\r2%\r3%\r",
        "tab\tand \x1b[31mred\x1b[0m\n",
        "café 🚀 nel[\x85] ls[\u2028] ps[\u2029] ff[\x0c]\n",
        'data: {"type":"execution_complete"}\n\n{"type":"error"}\n',
        "  leading and trailing  \n",
        "é" * 5000,
    ],
)
def test_output_arrives_exactly_as_it_was_written(sandbox: Sandbox, text: str) -> None:
    execution = sandbox.commands.run('printf "%s" "$TEXT"; printf "%s" "$TEXT" >&2', env={"TEXT": text})
    assert (execution.stdout, execution.stderr) == (text, text)


@pytest.mark.embedded
def test_bytes_that_are_no_text_become_replacement_characters(sandbox: Sandbox) -> None:
    assert sandbox.commands.run(r"printf 'a\xff\xfeb\n'").stdout == "a\ufffd\ufffdb\n"
    assert sandbox.commands.run(r"printf 'a\0b\n'").stdout == "a\0b\n"


def test_a_lot_of_output_arrives_whole_and_in_order(sandbox: Sandbox) -> None:
    execution = sandbox.commands.run("seq 1 20000")
    assert execution.stdout.split() == [str(n) for n in range(1, 20001)]


def test_a_long_line_arrives_whole(sandbox: Sandbox) -> None:
    assert sandbox.commands.run("head -c 3000000 /dev/zero | tr '\\0' x").stdout.strip() == "x" * 3_000_000


def test_standard_input_is_empty(sandbox: Sandbox) -> None:
    assert sandbox.commands.run("cat; echo eof").stdout.strip() == "eof"


def test_cwd_and_env_hold_for_one_run(sandbox: Sandbox) -> None:
    execution = sandbox.commands.run('pwd; echo "$GREETING"', cwd="/usr", env={"GREETING": "hi 'x' \"y\" $z"})
    assert execution.stdout.split("\n")[:2] == ["/usr", "hi 'x' \"y\" $z"]
    assert sandbox.commands.run('echo "[$GREETING]"').stdout.strip() == "[]"


def test_a_directory_and_words_may_be_path_objects(sandbox: Sandbox) -> None:
    assert sandbox.commands.run("pwd", cwd=PurePosixPath("/usr")).stdout.strip() == "/usr"
    with sandbox.sessions.create(cwd=PurePosixPath("/usr")) as session:
        assert session.run("pwd").stdout.strip() == "/usr"
        assert session.run("pwd", cwd=PurePosixPath("/tmp")).stdout.strip() == "/tmp"


def test_a_directory_that_is_not_there_is_refused_with_the_daemons_words(sandbox: Sandbox) -> None:
    with pytest.raises(BadRequestError, match="/no/such/dir") as caught:
        sandbox.commands.run("pwd", cwd="/no/such/dir")
    assert caught.value.code == "INVALID_REQUEST_BODY"


def test_the_shell_is_bash(sandbox: Sandbox) -> None:
    assert sandbox.commands.run('[[ -n "$BASH_VERSION" ]] && a=(1 2 3) && echo ${#a[@]}').stdout.strip() == "3"


def test_argv_goes_past_the_shell(sandbox: Sandbox) -> None:
    words = ["printf", "[%s]", "a b", "$HOME", "*", "", "it's", "é"]
    try:
        execution = sandbox.commands.run(words)
    except NotSupportedError:
        pytest.skip("this server's daemon knows no argv")
    assert execution.stdout.rstrip("\n") == "[a b][$HOME][*][][it's][é]"
    assert sandbox.commands.run(("false",)).exit_code == 1


def test_a_program_that_is_not_there_is_127(sandbox: Sandbox) -> None:
    execution = sandbox.commands.run("no-such-binary-xyz")
    assert execution.exit_code == 127 and "no-such-binary-xyz" in execution.stderr


def test_an_argv_whose_program_is_not_there_fails_and_says_so(sandbox: Sandbox) -> None:
    try:
        execution = sandbox.commands.run(["no-such-binary-xyz"])
    except NotSupportedError:
        pytest.skip("this server's daemon knows no argv")
    assert not execution.ok and "no-such-binary-xyz" in f"{execution.error} {execution.stderr}"


@pytest.mark.parametrize(("name", "number"), [("SIGKILL", 9), ("SIGTERM", 15), ("SIGSEGV", 11), ("SIGABRT", 6)])
def test_a_signal_is_minus_one_and_its_name(sandbox: Sandbox, name: str, number: int) -> None:
    execution = sandbox.commands.run(f"kill -{number} $$")
    assert (execution.exit_code, execution.signal, execution.ok, execution.timed_out) == (-1, name, False, False)


def test_uid_and_gid_are_taken(sandbox: Sandbox) -> None:
    if sandbox.commands.run("id -u").stdout.strip() != "0":
        pytest.skip("only root may become another")
    assert sandbox.commands.run("id -u; id -g", uid=65534, gid=65533).stdout.split() == ["65534", "65533"]


def test_check_raises_what_failed_with_its_last_words(sandbox: Sandbox) -> None:
    with pytest.raises(CommandError, match=r"exited with 3.*went wrong") as caught:
        sandbox.commands.run("echo some; echo it went wrong >&2; exit 3", check=True)
    execution = caught.value.execution
    assert execution is not None and execution.exit_code == 3 and execution.stdout.strip() == "some"
    assert sandbox.commands.run("true", check=True).ok
    with pytest.raises(CommandError, match="SIGKILL"):
        sandbox.commands.run("kill -9 $$", check=True)


def test_callbacks_get_the_text_as_it_comes_and_the_result_has_it_all(sandbox: Sandbox) -> None:
    out: List[str] = []
    err: List[str] = []
    events: List[ServerEvent] = []
    execution = sandbox.commands.run(
        "echo a; echo b; echo c >&2", on_stdout=out.append, on_stderr=err.append, on_event=events.append
    )
    assert "".join(out).replace("\n", "") == "ab" and "".join(err).strip() == "c"
    assert execution.stdout.split() == ["a", "b"] and execution.stderr.strip() == "c"
    kinds = [event.type for event in events]
    assert kinds[0] == "init" and "execution_complete" in kinds
    assert events[0].text == execution.id


def test_output_arrives_live(sandbox: Sandbox) -> None:
    """The command waits for a file that only its own output's arrival makes."""
    name = f"/tmp/{uuid.uuid4().hex}"

    def answer(text: str) -> None:
        sandbox.commands.run(f"touch {name}")

    execution = sandbox.commands.run(
        f"echo ready; until [ -e {name} ]; do sleep 0.02; done; rm {name}", on_stdout=answer, timeout=60
    )
    assert execution.ok


def test_an_exception_of_a_callback_stops_the_command_and_leaves_as_it_is(sandbox: Sandbox, mark: str) -> None:
    def explode(text: str) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        sandbox.commands.run(f"echo go; exec -a {mark} sleep 100", on_stdout=explode)
    until(lambda: not runs(sandbox, mark), "the command to be stopped")


def test_without_capture_only_the_callbacks_see_the_output(sandbox: Sandbox) -> None:
    out: List[str] = []
    execution = sandbox.commands.run("seq 1 100; exit 4", on_stdout=out.append, capture=False)
    assert "".join(out).replace("\n", "") == "".join(map(str, range(1, 101)))
    assert (execution.stdout, execution.exit_code) == ("", 4)


def test_max_output_keeps_head_and_tail(sandbox: Sandbox) -> None:
    execution = sandbox.commands.run("seq 1 5000", max_output=100)
    assert execution.truncated and execution.ok
    assert execution.stdout.startswith("1\n2\n3") and execution.stdout.strip().endswith("5000")
    assert sum(len(message.text) for message in execution.logs.stdout) == 100
    assert not sandbox.commands.run("echo short", max_output=100).truncated


def test_messages_have_text_and_the_servers_time(sandbox: Sandbox) -> None:
    (message,) = sandbox.commands.run("echo one").logs.stdout
    assert message.text.strip() == "one"
    assert message.timestamp is not None and message.timestamp > 1_500_000_000_000


def test_a_result_pickles(sandbox: Sandbox) -> None:
    execution = sandbox.commands.run("echo out; echo err >&2; exit 3")
    again = pickle.loads(pickle.dumps(execution))
    assert again == execution
    assert (again.stdout, again.stderr, again.exit_code) == (execution.stdout, execution.stderr, 3)


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_command_that_runs_out_of_time_is_stopped_and_keeps_its_output(sandbox: Sandbox, mark: str) -> None:
    with pytest.raises(CommandTimeoutError, match=r"1\.5 s") as caught:
        sandbox.commands.run(f"echo before; (exec -a {mark} sleep 100); echo after", timeout=timedelta(seconds=1.5))
    execution = caught.value.execution
    assert execution is not None and execution.timed_out and execution.stdout.strip() == "before"
    assert isinstance(caught.value, TimeoutError)
    until(lambda: not runs(sandbox, mark), "the command to be stopped")


def test_a_command_that_ignores_its_end_runs_out_of_time_all_the_same(sandbox: Sandbox, mark: str) -> None:
    with pytest.raises(CommandTimeoutError):
        sandbox.commands.run(f"trap '' TERM INT; echo on; while :; do sleep 0.1; : {mark}; done", timeout=0.5)
    until(lambda: not runs(sandbox, mark), "the command to be killed")


def test_a_command_can_end_its_own_children_as_ctrl_c_would(sandbox: Sandbox) -> None:
    """What ignores SIGINT hands that on to all that it starts: then no shell could trap it, either."""
    assert sandbox.commands.run("trap 'echo caught' INT; kill -INT $$; echo on").stdout.split() == ["caught", "on"]


def test_a_command_within_its_time_is_untouched(sandbox: Sandbox) -> None:
    assert sandbox.commands.run("sleep 0.1; echo done", timeout=60).ok


def test_a_kill_within_the_time_is_no_timeout(sandbox: Sandbox) -> None:
    execution = sandbox.commands.run("kill -9 $$", timeout=60)
    assert (execution.signal, execution.timed_out) == ("SIGKILL", False)


def test_the_clients_own_timeout_does_not_shorten_a_command(settings: Dict[str, Any], sandbox: Sandbox) -> None:
    with SandboxClient(**settings, timeout=0.5) as client:
        again = client.connect(sandbox.id, wait_ready=False)
        assert again.commands.run("sleep 1; echo done").stdout.strip() == "done"


def test_silence_shorter_than_the_pings_is_fine(settings: Dict[str, Any], sandbox: Sandbox) -> None:
    """The daemon pings every 3 s, so 4 s of patience outlast 4.5 s of silence."""
    with SandboxClient(**settings, idle_timeout=4) as client:
        again = client.connect(sandbox.id, wait_ready=False)
        assert again.commands.run("sleep 4.5; echo done").stdout.strip() == "done"


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="sends itself a signal")
def test_ctrl_c_stops_the_command_and_is_raised_once(sandbox: Sandbox, mark: str) -> None:
    def press(text: str) -> None:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        sandbox.commands.run(f"echo go; exec -a {mark} sleep 100", on_stdout=press)
    until(lambda: not runs(sandbox, mark), "the command to be stopped")
    assert sandbox.commands.run("echo again").stdout.strip() == "again"


@pytest.mark.skipif(os.name != "posix", reason="sends itself a signal")
def test_ctrl_c_while_waiting_for_a_background_command_stops_it(sandbox: Sandbox, mark: str) -> None:
    command = sandbox.commands.start(f"echo go; exec -a {mark} sleep 100")
    until(lambda: command.logs().text, "its output")
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        command.wait()
    until(lambda: not runs(sandbox, mark), "the command to be stopped")


# -- stream ------------------------------------------------------------------------------------------------------------


def test_a_stream_gives_events_as_they_come_and_its_execution_grows(sandbox: Sandbox) -> None:
    with sandbox.commands.stream("echo a; sleep 0.2; echo b; exit 5") as stream:
        seen: List[str] = []
        for event in stream:
            seen.append(event.type)
            if event.type == "stdout" and event.text.strip() == "a":
                assert stream.execution.stdout.strip() == "a" and stream.execution.exit_code is None
        assert stream.execution.stdout.split() == ["a", "b"]
        assert stream.execution.exit_code == 5
    assert seen[0] == "init" and seen.count("error") == 1


def test_lines_come_without_their_ends(sandbox: Sandbox) -> None:
    with sandbox.commands.stream("printf 'a\\n\\nb'; echo err >&2") as stream:
        assert sorted(stream.lines()) == ["", "a", "b", "err"]
    assert stream.execution.ok


@pytest.mark.embedded
def test_a_line_that_comes_in_pieces_is_one_line(sandbox: Sandbox) -> None:
    command = "printf 'one '; sleep 0.1; printf 'two\\nthree'; sleep 0.1; printf ' four'"
    with sandbox.commands.stream(command) as stream:
        assert list(stream.lines()) == ["one two", "three four"]


def test_a_stream_that_was_read_gives_nothing_more(sandbox: Sandbox) -> None:
    with sandbox.commands.stream("echo a") as stream:
        assert list(stream)
        assert list(stream) == [] == list(stream.lines())
    assert list(stream) == []


def test_a_streams_interrupt_ends_the_command_and_the_rest_can_be_read(sandbox: Sandbox) -> None:
    with sandbox.commands.stream("echo go; sleep 100") as stream:
        lines = stream.lines()
        assert next(lines) == "go"
        stream.interrupt()
        assert list(lines) == []
        stream.interrupt()
    assert (stream.execution.exit_code, stream.execution.signal) == (-1, "SIGTERM")


def test_a_stream_can_be_interrupted_from_another_thread(sandbox: Sandbox) -> None:
    with sandbox.commands.stream("echo go; sleep 100") as stream:
        for event in stream:
            if event.type == "stdout":
                threading.Thread(target=stream.interrupt).start()
    assert stream.execution.signal == "SIGTERM"


def test_leaving_a_stream_early_leaves_the_command_running(sandbox: Sandbox, mark: str) -> None:
    with sandbox.commands.stream(f"echo go; exec -a {mark} sleep 100") as stream:
        assert next(stream.lines()) == "go"
    assert runs(sandbox, mark)
    assert stream.execution.id is not None
    sandbox.commands.interrupt(stream.execution.id)
    until(lambda: not runs(sandbox, mark), "the command to be stopped")


def test_an_exception_that_leaves_the_block_stops_the_command(sandbox: Sandbox, mark: str) -> None:
    with pytest.raises(KeyError), sandbox.commands.stream(f"echo go; exec -a {mark} sleep 100") as stream:
        assert next(stream.lines()) == "go"
        raise KeyError
    until(lambda: not runs(sandbox, mark), "the command to be stopped")


def test_closing_a_stream_in_another_thread_ends_its_reading(sandbox: Sandbox) -> None:
    with sandbox.commands.stream("echo go; sleep 100") as stream:
        timer = threading.Timer(0.1, stream.close)
        timer.start()
        with pytest.raises(ClosedError):
            list(stream)
        timer.join()
    assert stream.execution.id is not None
    sandbox.commands.interrupt(stream.execution.id)


def test_a_stream_that_runs_out_of_time_raises_as_a_run_does(sandbox: Sandbox) -> None:
    with sandbox.commands.stream("echo before; sleep 100", timeout=2) as stream:
        with pytest.raises(CommandTimeoutError):
            list(stream)
        assert stream.execution.timed_out and stream.execution.stdout.strip() == "before"


def test_the_events_of_a_run_fold_to_its_execution(sandbox: Sandbox) -> None:
    with sandbox.commands.stream("echo a; echo b >&2; exit 7") as stream:
        again = Execution.from_events(stream)
    assert (again.stdout, again.stderr, again.exit_code, again.id) == (
        stream.execution.stdout,
        stream.execution.stderr,
        7,
        stream.execution.id,
    )


# -- background --------------------------------------------------------------------------------------------------------


def test_a_background_command_is_started_followed_and_waited_for(sandbox: Sandbox) -> None:
    command = sandbox.commands.start("echo one; sleep 0.3; echo two; exit 4", env={"A": "b"}, cwd="/")
    assert command.id and command.id in repr(command)
    assert command.status().running
    assert "".join(command.follow()) == "one\ntwo\n"
    assert command.wait() == 4
    status = command.status()
    assert (status.id, status.running, status.exit_code) == (command.id, False, 4)
    assert status.content is not None and "sleep 0.3" in status.content
    assert status.started_at is not None and status.finished_at is not None
    assert status.started_at <= status.finished_at


def test_a_command_is_found_again_by_its_id(settings: Dict[str, Any], sandbox: Sandbox) -> None:
    command = sandbox.commands.start("echo here; exit 2")
    with SandboxClient(**settings) as client:
        again = client.connect(sandbox.id).commands.get(command.id)
        assert again.wait(30) == 2
        assert again.logs().text == "here\n"


def test_a_foreground_command_can_be_looked_at_too(sandbox: Sandbox) -> None:
    execution = sandbox.commands.run("exit 6")
    assert execution.id is not None
    status = sandbox.commands.status(execution.id)
    assert (status.running, status.exit_code) == (False, 6)


def test_logs_go_on_from_a_cursor_of_bytes_and_cut_no_character(sandbox: Sandbox) -> None:
    command = sandbox.commands.start("printf 'é🚀'; sleep 0.2; printf 'z'")
    command.wait(30)
    whole = command.logs()
    assert (whole.text, whole.cursor) == ("é🚀z", 7)
    assert (command.logs(2).text, command.logs(2).cursor) == ("🚀z", 7)
    assert (command.logs(7).text, command.logs(7).cursor) == ("", 7)
    assert (command.logs(999).text, command.logs(999).cursor) == ("", 999)
    assert "".join(command.follow(2)) == "🚀z"


def test_a_character_that_is_half_there_waits_for_its_rest(sandbox: Sandbox) -> None:
    name = f"/tmp/{uuid.uuid4().hex}"
    command = sandbox.commands.start(rf"printf 'a\xc3'; until [ -e {name} ]; do sleep 0.02; done; printf '\xa9b'")
    first = until(lambda: command.logs() if command.logs().text else None, "the first bytes")
    assert (first.text, first.cursor) == ("a", 1)
    sandbox.commands.run(f"touch {name}")
    command.wait(30)
    rest = command.logs(first.cursor)
    assert (rest.text, rest.cursor) == ("éb", 4)


def test_both_streams_are_in_the_logs(sandbox: Sandbox) -> None:
    command = sandbox.commands.start("echo out; echo err >&2")
    command.wait(30)
    assert sorted(command.logs().text.split()) == ["err", "out"]


def test_waiting_too_long_raises_and_interrupts_nothing(sandbox: Sandbox) -> None:
    command = sandbox.commands.start("sleep 100")
    with pytest.raises(RequestTimeoutError, match="nothing was interrupted") as caught:
        command.wait(0.2)
    assert isinstance(caught.value, TimeoutError)
    assert command.status().running
    command.interrupt()
    assert command.wait(30) == -1
    command.interrupt()


def test_an_interrupt_reaches_the_whole_group_and_what_ignores_it(sandbox: Sandbox, mark: str) -> None:
    command = sandbox.commands.start(f"trap '' TERM; (exec -a {mark} sleep 100) & echo go; while :; do sleep 0.1; done")
    until(lambda: command.logs().text, "its output")
    command.interrupt()
    assert not command.status().running
    until(lambda: not runs(sandbox, mark), "the child to be stopped")


def test_a_background_commands_timeout_is_the_commands(sandbox: Sandbox) -> None:
    command = sandbox.commands.start("sleep 100", timeout=0.3)
    assert command.wait(30) == -1


def test_a_background_command_outlives_its_client(settings: Dict[str, Any], sandbox: Sandbox) -> None:
    with SandboxClient(**settings) as client:
        command_id = client.connect(sandbox.id).commands.start("sleep 0.3; echo late").id
    command = sandbox.commands.get(command_id)
    assert command.wait(30) == 0 and command.logs().text == "late\n"


@pytest.mark.parametrize("act", ["status", "logs", "interrupt"])
def test_an_unknown_command_is_not_found(sandbox: Sandbox, act: str) -> None:
    with pytest.raises(NotFoundError):
        getattr(sandbox.commands, act)("no-such-command")
    with pytest.raises(NotFoundError):
        getattr(sandbox.commands.get("no/such?command#"), act)()


def test_waiting_for_an_unknown_command_is_not_found(sandbox: Sandbox) -> None:
    with pytest.raises(NotFoundError):
        sandbox.commands.get("no-such-command").wait(5)


# -- variables for all later commands ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["plain", "", "two words", "$HOME", 'say "hi"', "it's", "a#b", "back\\slash", "é=x", "`id`"]
)
def test_a_variable_that_is_set_holds_for_later_commands(sandbox: Sandbox, value: str) -> None:
    try:
        sandbox.commands.set_env("LATER", value)
    except NotSupportedError:
        pytest.skip("this sandbox keeps no file for variables")
    assert sandbox.commands.run('printf "%s" "$LATER"').stdout.rstrip("\n") == value
    assert sandbox.commands.run('printf "%s" "$LATER"', env={"LATER": "own"}).stdout.rstrip("\n") == "own"


# -- what is refused before anything is sent ---------------------------------------------------------------------------

DURATIONS = [0, -1, math.inf, -math.inf, math.nan, "5", True, timedelta(0), timedelta(seconds=-1), 10**400, 10**11]

BAD_RUNS: List[Any] = [
    ("", {}, "command"),
    ("   ", {}, "command"),
    ("\n\t", {}, "command"),
    ("echo a\0b", {}, "command"),
    ([], {}, "empty"),
    ((), {}, "empty"),
    ([""], {}, r"command\[0\]"),
    ([" "], {}, r"command\[0\]"),
    (["echo", 7], {}, r"command\[1\]"),
    (["echo", None], {}, r"command\[1\]"),
    (["echo", "a\0b"], {}, r"command\[1\]"),
    (None, {}, "command"),
    (7, {}, "command"),
    (b"echo", {}, "command"),
    ({"echo": "a"}, {}, "command"),
    ("echo", {"cwd": ""}, "cwd"),
    ("echo", {"cwd": "a\0"}, "cwd"),
    ("echo", {"cwd": 7}, "cwd"),
    ("echo", {"env": {"A": 1}}, "env"),
    ("echo", {"env": {"A": None}}, "env"),
    ("echo", {"env": {"": "x"}}, "env"),
    ("echo", {"env": {"A=B": "x"}}, "env"),
    ("echo", {"env": {"A": "x\0"}}, "env"),
    ("echo", {"env": ["A=1"]}, "env"),
    ("echo", {"gid": 1000}, "gid needs uid"),
    ("echo", {"uid": -1}, "uid"),
    ("echo", {"uid": 2**32}, "uid"),
    ("echo", {"uid": "root"}, "uid"),
    ("echo", {"uid": True}, "uid"),
    ("echo", {"uid": 1, "gid": -1}, "gid"),
    *[("echo", {"timeout": value}, "timeout") for value in DURATIONS],
]


@pytest.mark.parametrize("way", ["run", "stream", "start"])
@pytest.mark.parametrize(("command", "options", "words"), BAD_RUNS)
def test_bad_arguments_are_refused_before_anything_is_sent(
    way: str, command: Any, options: Dict[str, Any], words: str
) -> None:
    sent: List[Any] = []
    with SandboxClient(domain="127.0.0.1:1", on_request=sent.append) as client:
        commands = client.connect("x", wait_ready=False).commands
        with pytest.raises(InvalidArgumentError, match=words):
            getattr(commands, way)(command, **options)
        assert sent == []


@pytest.mark.parametrize(
    "act",
    [
        lambda commands: commands.run("a", max_output=-1),
        lambda commands: commands.run("a", max_output="1"),
        lambda commands: commands.stream("a", max_output=True),
        lambda commands: commands.get(""),
        lambda commands: commands.get(None),
        lambda commands: commands.status(" "),
        lambda commands: commands.interrupt(""),
        lambda commands: commands.logs(""),
        lambda commands: commands.logs("x", -1),
        lambda commands: commands.logs("x", "0"),
        lambda commands: commands.logs("x", 1.5),
        lambda commands: commands.get("x").wait(0),
        lambda commands: commands.get("x").wait(math.nan),
        lambda commands: commands.get("x").wait("5"),
        lambda commands: commands.set_env("", "x"),
        lambda commands: commands.set_env("A-B", "x"),
        lambda commands: commands.set_env("1A", "x"),
        lambda commands: commands.set_env("A", "two\nlines"),
        lambda commands: commands.set_env("A", "nul\0"),
        lambda commands: commands.set_env("A", 7),
        lambda commands: commands.set_env("A", "both ' and \""),
        lambda commands: commands.run("a", on_stdout="print"),
    ],
)
def test_other_bad_arguments_are_refused_before_anything_is_sent(act: Callable[[Any], Any]) -> None:
    sent: List[Any] = []
    with SandboxClient(domain="127.0.0.1:1", on_request=sent.append) as client:
        with pytest.raises(InvalidArgumentError):
            act(client.connect("x", wait_ready=False).commands)
        assert sent == []


def test_a_sandbox_that_is_gone_says_so(client: SandboxClient, image: str) -> None:
    with client.create(image) as sandbox:
        assert sandbox.commands.run("true").ok
        client.kill(sandbox.id)
        with pytest.raises(SandboxError) as caught:
            sandbox.commands.run("true")
    assert sandbox.id in str(caught.value) or "connection" in str(caught.value)
