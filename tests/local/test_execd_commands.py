"""Commands: output as it comes, ends as they were, and lives of their own."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Dict, List

import psutil
import pytest

from opensandbox_sync.local.execd import commands as execd_commands
from opensandbox_sync.local.execd.commands import Command, Commands

from .execd_daemon import Execd, execd, output, read_events, without_pings
from .http_api import call, pids, until

__all__ = ["execd"]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_line_ends_are_kept_and_a_last_line_may_have_none(execd: Execd) -> None:
    events = execd.command(r"printf 'a\r\n\n\nb\rc'")
    assert output(events) == "a\r\n\n\nb\rc"
    assert [event["text"] for event in events if event["type"] == "stdout"] == ["a\r\n", "\n", "\n", "b\r", "c"]


def test_keys_come_in_the_daemon_s_order_and_zero_values_have_none(execd: Execd) -> None:
    body = execd.call("POST", "/command", {"command": "sleep 0.01; exit 4"}).body
    frames = [list(json.loads(frame)) for frame in body.split(b"\n\n") if frame]
    assert frames == [["type", "text", "timestamp"], ["type", "text", "timestamp"], ["type", "timestamp", "error"]]
    complete = execd.command("sleep 0.01")[-1]
    assert list(complete) == ["type", "execution_time", "timestamp"]


def test_output_arrives_while_the_command_runs(execd: Execd) -> None:
    with execd.stream("/command", {"command": "echo first; until [ -e go ]; do sleep 0.01; done; rm go"}) as events:
        while next(events).get("text") != "first\n":
            pass
        execd.command("touch go")
        assert [event["type"] for event in events if event["type"] != "ping"] == ["execution_complete"]


def test_a_progress_bar_is_seen_before_its_next_redraw(execd: Execd) -> None:
    with execd.stream(
        "/command", {"command": r"printf '10%%\r'; until [ -e go ]; do sleep 0.01; done; rm go"}
    ) as events:
        while next(events).get("text") != "10%\r":
            pass
        execd.command("touch go")
        assert list(events)[-1]["type"] == "execution_complete"


def test_a_command_is_complete_when_its_shell_ends_though_a_child_keeps_the_output_open(execd: Execd) -> None:
    events = execd.command("sleep 60 & echo $!")
    assert events[-1]["type"] == "execution_complete"
    child = int(output(events))
    assert psutil.pid_exists(child)
    os.kill(child, 9)


def test_a_child_that_lives_on_may_go_on_writing(execd: Execd) -> None:
    script = "(until [ -e go ]; do sleep 0.01; done; echo later; echo alive > proof; rm go) & echo now"
    assert output(execd.command(script)) == "now\n"
    execd.command("touch go")
    until(lambda: output(execd.command("cat proof")) == "alive\n", "the child's proof")


def test_a_command_outlives_its_connection(execd: Execd) -> None:
    with execd.stream("/command", {"command": "echo x; sleep 0.2; echo done > outlived"}) as events:
        command_id = next(events)["text"]
    until(lambda: not execd.call("GET", f"/command/status/{command_id}").json["running"], "its end")
    assert execd.call("GET", f"/command/status/{command_id}").json["exit_code"] == 0
    assert output(execd.command("cat outlived")) == "done\n"


def test_what_is_written_to_dev_stderr_by_name_is_seen(execd: Execd) -> None:
    events = execd.command("echo a > /dev/stderr; sleep 0.1; echo b > /dev/stderr; echo c > /dev/stdout")
    assert (output(events), output(events, "stderr")) == ("c\n", "a\nb\n")


def test_a_lot_of_output_is_whole_and_is_not_held_in_memory(execd: Execd) -> None:
    process = psutil.Process(execd.process.pid)
    before = process.memory_info().rss
    connection = http.client.HTTPConnection(execd.address, timeout=60)
    command = "seq -f '%099.0f' 1 1000000"  # 100 MB
    connection.request("POST", "/command", json.dumps({"command": command}), execd.headers)
    response = connection.getresponse()
    count, tail, most = 0, b"", 0
    for piece in iter(lambda: response.read(1 << 20), b""):
        text = tail + piece
        count += text.count(b'{"type":"stdout"')
        tail = text[-15:]
        most = max(most, process.memory_info().rss)
    connection.close()
    assert count == 1000000
    assert most - before < 50e6


def test_a_text_that_is_too_long_is_cut_between_characters(execd: Execd) -> None:
    events = execd.command("head -c 11000000 /dev/zero | tr '\\0' x | sed 's/xx/é/g' | tr -d '\\n'")
    texts = [event["text"] for event in events if event["type"] == "stdout"]
    assert len(texts) > 1
    assert "".join(texts) == "é" * 5500000


def test_a_character_that_comes_in_two_pieces_is_one_character(execd: Execd) -> None:
    assert output(execd.command(r"printf 'caf\xc3'; sleep 0.1; printf '\xa9\n'")) == "café\n"


@pytest.mark.parametrize(
    ("command", "value", "traceback"),
    [
        ("exit 3", "3", "exit status 3"),
        ("kill -TERM $$", "-1", "signal: terminated"),
        ("kill -KILL $$", "-1", "signal: killed"),
        ("kill -ABRT $$", "-1", "signal: aborted"),
        ("kill -40 $$", "-1", "signal: signal 40"),
    ],
)
def test_how_a_command_ended_is_told_in_the_words_of_go(execd: Execd, command: str, value: str, traceback: str) -> None:
    error = execd.command(command)[-1]["error"]
    assert error == {"ename": "CommandExecError", "evalue": value, "traceback": [traceback]}


def test_argv_is_run_without_a_shell(execd: Execd) -> None:
    events = execd.events("/command", {"argv": ["printf", "%s|", "a b", "$HOME", "*"]})
    assert output(events) == "a b|$HOME|*|"
    status = execd.call("GET", "/command/status/" + events[0]["text"]).json
    assert json.loads(status["content"]) == ["printf", "%s|", "a b", "$HOME", "*"]


@pytest.mark.parametrize(
    "body",
    [
        {"argv": []},
        {"argv": [""]},
        {"argv": ["a", None]},
        {"argv": ["a\0"]},
        {"argv": ["a"], "command": "b"},
        {"command": 3},
        {"command": "x", "envs": {"A": 1}},
        {"command": "x", "uid": -1},
        {"command": "x", "timeout": 1.5},
        {"command": "x", "timeout": 2**63},
        b'{"command": "x", "timeout": ' + b"9" * 5000 + b"}",
        [],
    ],
)
def test_a_body_that_makes_no_sense_is_refused(execd: Execd, body: object) -> None:
    reply = execd.call("POST", "/command", body)
    assert (reply.status, reply.json["code"]) == (400, "INVALID_REQUEST_BODY")


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/command", {"command": 5}, "number into Go struct field RunCommandRequest.command of type string"),
        ("/command", {"timeout": "5"}, "string into Go struct field RunCommandRequest.timeout of type int64"),
        ("/command", {"timeout": 1.5}, "number 1.5 into Go struct field RunCommandRequest.timeout of type int64"),
        ("/command", {"uid": -1}, "number -1 into Go struct field RunCommandRequest.uid of type uint32"),
        ("/command", {"envs": []}, "array into Go struct field RunCommandRequest.envs of type map[string]string"),
        ("/command", {"envs": {"A": 1}}, "number into Go struct field RunCommandRequest.envs.A of type string"),
        ("/command", [], "array into Go value of type model.RunCommandRequest"),
        ("/code", {"context": 5}, "number into Go struct field RunCodeRequest.context of type model.CodeContext"),
        ("/files/permissions", [], "array into Go value of type map[string]model.Permission"),
        ("/files/permissions", {"/a~": 5}, "number into Go struct field .~1a~0 of type model.Permission"),
        ("/files/permissions", {"/a": {"mode": "6"}}, "string into Go struct field .~1a.mode of type int"),
        ("/files/mv", {}, "object into Go value of type []model.RenameFileItem"),
        ("/files/mv", [{"src": 5}], "number into Go struct field .0.src of type string"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_in_the_words_of_go(execd: Execd, path: str, body: object, told: str) -> None:
    words = "error parsing request, MAYBE invalid body format. json: cannot unmarshal "
    reply = execd.call("POST", path, body)
    assert (reply.status, reply.json["message"]) == (400, words + told)


def test_names_that_no_environment_can_hold_are_dropped(execd: Execd) -> None:
    assert output(execd.command("echo $A$C", envs={"A=B": "x", "": "y", "C": "z", "D": None})) == "z\n"


def test_a_lone_surrogate_becomes_the_replacement_character(execd: Execd) -> None:
    command = r'{"command": "echo \ud800 $A \ud83d\ude00", "envs": {"A": "\udfff"}}'
    assert output(read_events(execd.call("POST", "/command", command.encode()).body)) == "\ufffd \ufffd \U0001f600\n"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"command": "echo \0"}, "fork/exec {}: invalid argument"),
        ({"command": "true", "envs": {"A": "\0"}}, "exec: environment variable contains NUL"),
    ],
)
def test_a_nul_is_an_invalid_argument(execd: Execd, body: object, reason: str) -> None:
    error = execd.events("/command", body)[-1]["error"]
    assert error["evalue"] == reason.format(shutil.which("bash"))


def test_logs_without_an_id_miss_it(execd: Execd) -> None:
    reply = execd.call("GET", "/command//logs")
    assert (reply.status, reply.json["code"]) == (400, "MISSING_QUERY")


@pytest.mark.parametrize("body", [{"argv": ["no-such-program"]}, {"command": "echo \0"}, {"argv": ["/"]}])
def test_what_cannot_be_started_is_an_error_with_words_and_is_not_remembered(execd: Execd, body: object) -> None:
    events = execd.events("/command", body)
    assert [event["type"] for event in events] == ["init", "error"]
    error = events[-1]["error"]
    assert not error["evalue"].lstrip("-").isdigit()
    assert error["traceback"] == [error["evalue"]]
    assert execd.call("GET", "/command/status/" + events[0]["text"]).status == 404
    late = execd.events("/command", {**body, "background": True})[-1]  # type: ignore[dict-item]
    assert late["code"] == "RUNTIME_ERROR"


def test_go_s_decoder_takes_keys_in_any_case_and_stops_behind_the_first_value(execd: Execd) -> None:
    reply = execd.call("POST", "/command", b' {"COMMAND": "echo a", "other": 1, "cwd": null} trailing')
    assert output(read_events(reply.body)) == "a\n"
    empty = execd.call("POST", "/command", b"")
    assert empty.json["message"] == "error parsing request, MAYBE invalid body format. EOF"


def test_the_environment_is_the_daemon_s_then_the_file_s_then_the_request_s(execd: Execd) -> None:
    entries = r"""printf '%s\n' '# comment' "A='it is '" 'B="q\n\"$HOME\""' 'C=$TERM/x' 'D=file' "E='one
two'" >> $EXECD_ENVS"""
    execd.command(entries)
    shown = output(execd.command('printf \'%s|\' "$A" "$B" "$C" "$D" "$E" $TMPDIR', envs={"D": "request"}))
    directory = execd.directory
    assert shown.startswith(f'it is |q\n"{directory}/home"|')
    assert shown.endswith(f"/x|request|one\ntwo|{directory}/tmp|")
    execd.command("rm $EXECD_ENVS")


def test_a_directory_is_expanded_with_the_request_s_variables(execd: Execd) -> None:
    (execd.directory / "home" / "inside").mkdir(exist_ok=True)
    envs = {"PLACE": "inside"}
    assert output(execd.command("pwd", cwd="~/$PLACE", envs=envs)) == f"{execd.directory}/home/inside\n"
    assert output(execd.command("pwd")) == f"{execd.directory}/work\n"
    refused = execd.call("POST", "/command", {"command": "pwd", "cwd": "$NOPE/x"})
    words = 'cannot resolve working directory "$NOPE/x": path references undefined environment variables: NOPE'
    assert refused.json["message"] == f"invalid request, validation error {words}"
    refused = execd.call("POST", "/command", {"command": "pwd", "cwd": "/etc/passwd"})
    assert refused.json["message"].endswith("working directory path is not a directory: /etc/passwd")


def test_a_timeout_ends_the_whole_group(execd: Execd) -> None:
    events = execd.command("sleep 60 & echo $!; wait", timeout=2000)
    assert events[-1]["error"]["traceback"] == ["signal: killed"]
    (child,) = pids(output(events))
    until(lambda: not psutil.pid_exists(child), "the child's end")


def test_a_command_that_has_ended_leaves_no_thread_that_waits_for_its_timeout(execd: Execd) -> None:
    def threads() -> int:
        return psutil.Process(execd.process.pid).num_threads()

    execd.command("true", timeout=600_000)
    before = threads()
    for _ in range(30):
        execd.command("true", timeout=600_000)
    until(lambda: threads() < before + 10, "the end of the threads")


def test_a_timeout_beyond_all_clocks_is_none(execd: Execd) -> None:
    assert output(execd.command("echo here", timeout=2**62)) == "here\n"


def test_where_no_thread_can_be_had_for_its_timeout_a_command_is_killed_at_once() -> None:
    program = """
import sys, threading
from opensandbox_sync.local.execd.commands import Command, Commands
from opensandbox_sync.local.execd.processes import Processes

def start(self):
    raise RuntimeError("can't start new thread")

commands = Commands(Processes())
threading.Timer.start = start
for run in (commands._foreground, commands._background):
    command = Command("sleep 60", 60_000)
    frames = run(command, ["sleep", "60"], cwd=None, environment={"PATH": "/usr/bin:/bin"}, user=None)
    assert command.done.wait(20)
    print(command.exit_code, commands.find(command.id) is command, len(list(frames)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout.splitlines(), done.stderr) == (["-1 True 3"] * 2, "")


def test_an_old_command_whose_log_was_removed_is_forgotten_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands = Commands.__new__(Commands)
    old = Command("x", 0)
    old.log = tmp_path / "gone"
    old.end(0)
    commands._commands = {old.id: old}
    monkeypatch.setattr(execd_commands, "KEEP_SECONDS", -1)
    commands._forget_old()
    assert commands.find(old.id) is None


def test_an_interrupt_ends_the_whole_group_and_kills_what_ignores_it(execd: Execd) -> None:
    with execd.stream("/command", {"command": "trap '' TERM; sleep 60 & echo $!; wait; wait"}) as events:
        seen = [next(events)]
        while seen[-1]["type"] != "stdout":
            seen.append(next(events))
        assert execd.call("DELETE", "/command?id=" + seen[0]["text"]).status == 200
        assert list(events)[-1]["error"]["traceback"] == ["signal: killed"]
    until(lambda: not psutil.pid_exists(int(seen[-1]["text"])), "the child's end")


def test_an_interrupt_works_while_output_is_pouring(execd: Execd) -> None:
    with execd.stream("/command", {"command": "yes"}) as events:
        command_id = next(events)["text"]
        interrupt = threading.Thread(target=execd.call, args=("DELETE", "/command?id=" + command_id))
        interrupt.start()
        assert [event for event in events if event["type"] == "error"][-1]["error"]["evalue"] == "-1"
        interrupt.join()


def test_an_orphan_leaves_no_zombie(execd: Execd) -> None:
    orphan = int(output(execd.command("(setsid sleep 0.1 & echo $!) ")))
    until(lambda: not psutil.pid_exists(orphan), "the orphan to be collected")


def test_background_logs_interleave_both_streams_and_go_on_from_a_cursor(execd: Execd) -> None:
    started = execd.command(
        "echo a; echo b >&2; echo c; until [ -e go ]; do sleep 0.01; done; rm go; echo d", background=True
    )
    assert [event["type"] for event in without_pings(started)] == ["init", "execution_complete"]
    path = f"/command/{started[0]['text']}/logs"
    first = until(lambda: _logs_of(execd, path, 6), "three lines")
    assert first == b"a\nb\nc\n"
    execd.command("touch go")
    assert until(lambda: execd.call("GET", path + "?cursor=6").body, "the last line") == b"d\n"
    assert execd.call("GET", path + "?cursor=x").body == b"a\nb\nc\nd\n"
    negative = execd.call("GET", path + "?cursor=-1")
    assert (negative.status, negative.json["message"]) == (400, "cursor cannot be negative")


def _logs_of(execd: Execd, path: str, size: int) -> bytes:
    body = execd.call("GET", path).body
    return body if len(body) >= size else b""


def test_logs_of_a_foreground_command_are_refused(execd: Execd) -> None:
    command_id = execd.command("true")[0]["text"]
    reply = execd.call("GET", f"/command/{command_id}/logs")
    assert (reply.status, reply.json["message"]) == (400, f"command {command_id} is not running in background")


@as_root
def test_a_command_runs_as_another_user_with_that_user_s_groups(execd: Execd) -> None:
    assert output(execd.command("id -u; id -g", uid=65534)) in ("65534\n65534\n", "65534\n65533\n")
    assert output(execd.command("id -u; id -g; pwd", uid=4242, gid=4343)) == f"4242\n4343\n{execd.directory}/work\n"
    unknown = execd.command("id", uid=4242)
    assert unknown[-1]["error"]["evalue"] == "user: unknown userid 4242"
    assert output(execd.command("echo x > /dev/stderr", uid=65534, gid=65534), "stderr") == "x\n"


def test_commands_leave_no_files_and_no_open_files_behind(execd: Execd) -> None:
    process = psutil.Process(execd.process.pid)
    execd.command("true")
    before = process.num_fds()
    files = sorted((execd.directory / "tmp").iterdir())
    for _ in range(5):
        execd.command("echo x; echo y >&2; false")
        execd.events("/command", {"argv": ["no-such-program"]})
    until(lambda: process.num_fds() <= before, "files to be closed")
    assert sorted((execd.directory / "tmp").iterdir()) == files


def test_many_commands_run_at_once(execd: Execd) -> None:
    go = execd.directory / "work" / "go-all"
    results: List[str] = []

    def run(number: int) -> None:
        results.append(output(execd.command(f"echo {number}; until [ -e go-all ]; do sleep 0.05; done")))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    go.touch()
    for thread in threads:
        thread.join()
    assert sorted(results, key=int) == [f"{number}\n" for number in range(30)]
    go.unlink()


def test_one_connection_serves_many_requests_also_after_a_refused_body(execd: Execd) -> None:
    connection = http.client.HTTPConnection(execd.address, timeout=30)
    connection.request("GET", "/ping")
    connection.getresponse().read()
    sock = connection.sock
    for headers, status in [({}, 401), (execd.headers, 200), ({}, 401), (execd.headers, 200)]:
        body = iter([b'{"command":', b'"echo x"}'])  # chunked
        connection.request("POST", "/command", body, headers, encode_chunked=True)
        response = connection.getresponse()
        response.read()
        assert response.status == status
        assert connection.sock is sock
    connection.close()


def test_a_reader_that_leaves_does_not_stop_the_command(execd: Execd) -> None:
    script = "head -c 30000000 /dev/zero | tr '\\0' '\\n'; sleep 0.1; echo x; echo end > unread"
    with execd.stream("/command", {"command": script}) as events:
        while next(events)["type"] != "stdout":
            pass
    until(lambda: output(execd.command("cat unread 2> /dev/null")) == "end\n", "the command's end")


def test_a_ping_comes_at_once_and_then_every_three_seconds(execd: Execd) -> None:
    events = execd.command("sleep 3.2")
    pings = [event["timestamp"] for event in events if event["type"] == "ping"]
    assert events[1]["type"] == "ping"
    assert len(pings) == 2
    assert pings[1] - pings[0] >= 2900


def test_timestamps_are_milliseconds_of_now(execd: Execd) -> None:
    before = time.time() * 1000
    init = execd.command("true")[0]["timestamp"]
    assert int(before) <= init <= time.time() * 1000


def test_without_the_token_only_ping_is_answered(execd: Execd) -> None:
    assert call(execd.address, "GET", "/ping").status == 200
    for path in ("/command/status/x", "/nope"):
        reply = call(execd.address, "GET", path)
        assert reply.status == 401
        assert reply.json == {"error": "Unauthorized: invalid or missing header X-EXECD-ACCESS-TOKEN"}
    assert call(execd.address, "GET", "/metrics", headers={"X-EXECD-ACCESS-TOKEN": "wrong"}).status == 401


@pytest.mark.parametrize(
    "headers", [{"Host": "example.com"}, {"Origin": "http://localhost"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_web_pages_are_refused(execd: Execd, headers: Dict[str, str]) -> None:
    reply = execd.call("GET", "/metrics", headers=headers)
    assert (reply.status, reply.json["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nope"), ("POST", "/ping"), ("OPTIONS", "/ping"), ("HEAD", "/ping"), ("GET", "/command")],
)
def test_an_unknown_route_and_a_wrong_verb_are_the_same_plain_404(execd: Execd, method: str, path: str) -> None:
    reply = execd.call(method, path)
    assert (reply.status, reply.headers["content-type"]) == (404, "text/plain")
    assert reply.body == (b"" if method == "HEAD" else b"404 page not found")


def test_a_slash_too_many_leads_back_to_the_path(execd: Execd) -> None:
    for method, path, status in [("GET", "/metrics/?x=1", 301), ("POST", "/command/", 307)]:
        reply = execd.call(method, path)
        assert (reply.status, reply.headers["location"]) == (status, path.replace("/?", "?").rstrip("/"))
    assert execd.call("GET", "/nope/").status == 404
