"""Shell sessions: what they carry over, what they lose, and how a run ends."""

from __future__ import annotations

import threading

import psutil
import pytest

from .execd_daemon import Execd, execd, output, without_pings
from .http_api import pids, until

__all__ = ["execd"]


def run(execd: Execd, session: str, command: str, **fields: object) -> str:
    """The lines of one run, each with a line end again."""
    events = execd.events(f"/session/{session}/run", {"command": command, **fields})
    return "".join(event["text"] + "\n" for event in events if event.get("type") == "stdout")


def test_exported_variables_and_the_directory_are_carried_over_and_nothing_else_is(execd: Execd) -> None:
    session = execd.session()
    value = 'it\'s\n"quoted"\t$HOME \\ \x01 é'
    run(execd, session, f"export A=$(cat <<'EOF'\n{value}\nEOF\n); B=b; f() {{ echo f; }}; export -f f; cd /usr")
    assert run(execd, session, 'printf %s "$A"; echo; echo "B=$B"; pwd') == f"{value}\nB=\n/usr\n"
    assert output(execd.events(f"/session/{session}/run", {"command": "f"})).endswith("f: command not found")
    run(execd, session, "unset A")
    assert run(execd, session, 'echo "A=$A"; cd - ') == f"A=\n{execd.directory}/work\n"


def test_an_exit_ends_the_run_and_keeps_the_session_as_it_was(execd: Execd) -> None:
    session = execd.session(cwd="/usr")
    events = execd.events(f"/session/{session}/run", {"command": "export A=1; cd /; exit 7"})
    assert events[-1]["error"]["evalue"] == "7"
    assert run(execd, session, 'echo "A=$A"; pwd') == "A=\n/usr\n"


def test_a_session_s_directory_is_made_and_a_run_s_must_be_there(execd: Execd) -> None:
    session = execd.session(cwd="~/made/below")
    assert run(execd, session, "pwd") == f"{execd.directory}/home/made/below\n"
    assert run(execd, session, "pwd", cwd="/etc") == "/etc\n"
    assert run(execd, session, "pwd") == "/etc\n"
    refused = execd.call("POST", "/session", {"cwd": "/etc/passwd/x"})
    assert (refused.status, refused.json["code"]) == (500, "RUNTIME_ERROR")
    assert refused.json["message"].startswith("error creating session. ")


def test_variables_of_the_environment_file_are_there_in_a_new_session(execd: Execd) -> None:
    execd.command("echo FROM_FILE=yes >> $EXECD_ENVS")
    assert run(execd, execd.session(), "echo $FROM_FILE") == "yes\n"


def test_a_timeout_is_told_late_and_the_session_goes_on(execd: Execd) -> None:
    session = execd.session()
    body = {"command": "export A=1; sleep 60", "timeout": 200}
    events = execd.events(f"/session/{session}/run", body)
    assert events[-1] == {"code": "RUNTIME_ERROR", "message": "error running in session. timeout after 200ms"}
    assert run(execd, session, "echo A=$A") == "A=\n"


def test_a_child_that_keeps_the_output_open_keeps_the_run_open(execd: Execd) -> None:
    session = execd.session()
    path = f"/session/{session}/run"
    with execd.stream(
        path, {"command": "(until [ -e go ]; do sleep 0.01; done; rm go; echo late) & echo now"}
    ) as events:
        while next(events).get("text") != "now":
            pass
        execd.command("touch go")
        rest = list(events)
    assert [event["type"] for event in rest if event["type"] != "ping"] == ["stdout", "execution_complete"]


def test_a_closed_connection_ends_the_shell_and_leaves_its_children(execd: Execd) -> None:
    session = execd.session()
    with execd.stream(f"/session/{session}/run", {"command": "sleep 60 & echo $$ $!; wait"}) as events:
        seen = next(events)
        while seen["type"] != "stdout":
            seen = next(events)
    shell, child = pids(seen["text"])
    until(lambda: not psutil.pid_exists(shell), "the shell's end")
    assert psutil.pid_exists(child)
    psutil.Process(child).kill()


def test_deleting_a_session_kills_what_runs_in_it(execd: Execd) -> None:
    session = execd.session()
    with execd.stream(f"/session/{session}/run", {"command": "sleep 60 & echo $!; wait"}) as events:
        seen = next(events)
        while seen["type"] != "stdout":
            seen = next(events)
        assert execd.call("DELETE", f"/command?id={session}").status == 200
        last = without_pings(list(events))[-1]
    assert (last["error"]["evalue"], last["error"]["traceback"]) == ("-1", ["signal: killed"])
    until(lambda: not psutil.pid_exists(int(seen["text"])), "the child's end")
    assert execd.call("DELETE", f"/session/{session}").status == 404


def test_runs_of_one_session_may_overlap(execd: Execd) -> None:
    session = execd.session()
    waiting = threading.Thread(
        target=run, args=(execd, session, "export A=1; until [ -e go2 ]; do sleep 0.01; done; rm go2")
    )
    waiting.start()
    assert run(execd, session, "echo A=$A") == "A=\n"
    run(execd, execd.session(), "touch go2")  # only now: what a run leaves is what the last to end left
    waiting.join()
    assert run(execd, session, "echo A=$A") == "A=1\n"


def test_a_line_without_an_end_has_a_limit(execd: Execd) -> None:
    session = execd.session()
    events = execd.events(f"/session/{session}/run", {"command": "head -c 20000000 /dev/zero"})
    assert events[-1]["message"] == "error running in session. read stdout: bufio.Scanner: token too long"


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(1, "1ms"), (1500, "1.5s"), (60000, "1m0s"), (90500, "1m30.5s"), (3600000, "1h0m0s")]
)
def test_durations_are_told_as_go_tells_them(milliseconds: int, text: str) -> None:
    from opensandbox_sync.local.execd.sessions import duration

    assert duration(milliseconds) == text


def test_a_run_leaves_no_files_behind(execd: Execd) -> None:
    session = execd.session()
    run(execd, session, "true")
    assert not list((execd.directory / "tmp").glob("execd-session-*"))
