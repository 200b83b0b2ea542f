"""What the real daemon was asked, asked again here; the answers must agree.

The recorded daemon is the one of June: it cut line ends off and stripped the text of blank lines (1.1 keeps both),
held a stream open for a second after its end, and echoed a log cursor past the end (1.1 clamps it).
"""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any, Dict, List

import pytest

from .execd_daemon import Event, Execd, execd, read_events
from .http_api import Reply, until

__all__ = ["execd"]

RECORDINGS = Path(__file__).parent.parent / "recordings" / "execd"
COMMANDS = [
    "command-500-lines",
    "command-blank-lines",
    "command-carriage-returns",
    "command-cwd",
    "command-envs",
    "command-exit-3",
    "command-hello",
    "command-invalid-utf8",
    "command-json-looking-output",
    "command-killed-by-signal",
    "command-long-line",
    "command-no-final-newline",
    "command-not-found",
    "command-nul-and-ansi",
    "command-silent-4s",
    "command-stdin",
    "command-timeout",
    "command-unicode",
    pytest.param("command-uid-gid", marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs root")),
]
PLAIN = [
    "ping",
    "unknown-path",
    "wrong-verb",
    "code-context-unknown",
    "command-bad-cwd",
    "command-empty",
    "command-gid-without-uid",
    "command-interrupt-missing-id",
    "command-interrupt-unknown",
    "command-invalid-json",
    "command-logs-unknown",
    "command-negative-timeout",
    "command-status-unknown",
    "session-delete-unknown",
    "session-run-unknown",
]
# In the order in which they were recorded: each finds what the ones before it left.
FILES = [
    "files-upload",
    "files-upload-two",
    "files-upload-no-metadata",
    "files-info",
    "files-info-missing",
    "files-search",
    "files-search-missing-path",
    "files-download",
    "files-download-lines",
    "files-download-range",
    "files-download-range-unsatisfiable",
    "files-download-missing",
    "files-replace",
    "files-permissions",
    "files-permissions-bad-mode",
    "directories-create",
    "directories-list",
    "directories-list-missing",
    "files-mv",
    "files-mv-onto-existing",
    "files-delete-directory",
    "files-delete",
    "directories-delete",
]
SESSION = [
    "session-run-pwd",
    "session-run-cd-export",
    "session-run-state-kept",
    "session-run-exit-7",
    "session-run-stderr",
    "session-run-blank-lines",
    "session-run-cwd-override",
    "session-run-timeout",
    "session-run-bad-cwd",
    "session-run-empty-command",
    "session-delete",
]
HEADERS = ["content-type", "content-range", "content-disposition", "accept-ranges", "cache-control"]


class Recording:
    """One recorded exchange, with what was named then by what is named now."""

    def __init__(self, name: str, names: Dict[str, str]) -> None:
        text = (RECORDINGS / f"{name}.json").read_text("utf-8")
        for then, now in names.items():
            text = text.replace(then, now)
        recorded = json.loads(text)
        self.request, self.response = recorded["request"], recorded["response"]
        self.names = names
        self.headers = {key.lower(): value for key, value in self.response["headers"]}
        self.body = "".join(chunk["data"] for chunk in self.response["chunks"])

    def ask(self, daemon: Execd) -> Reply:
        """Ask again; what both say in headers and status is compared here."""
        body = self.request.get("body")
        if isinstance(body, str):
            body = body.encode()
        elif isinstance(body, dict) and "base64" in body:
            body = base64.b64decode(body["base64"])
            for then, now in self.names.items():
                body = body.replace(then.encode(), now.encode())
        reply = daemon.call(self.request["method"], self.request["path"], body, self.request.get("headers"))
        assert reply.status == self.response["status"], reply
        for name in HEADERS:
            assert reply.headers.get(name) == self.headers.get(name), name
        return reply

    @property
    def events(self) -> List[Event]:
        return read_events(self.body.encode())


def lines(events: List[Event], kind: str) -> List[str]:
    """The lines of a stream, whether it keeps line ends or sends a line without its end as a text."""
    texts = [event["text"] for event in events if event.get("type") == kind]
    if any(len(text) > 1 and text[-1] in "\r\n" for text in texts):
        return re.split("\r\n|\r|\n", re.sub("(\r\n|\r|\n)\\Z", "", "".join(texts)))
    return ["" if text == "\n" else text for text in texts]


def rest(events: List[Event]) -> List[Event]:
    """Everything but output and pings, without times."""
    told = [event for event in events if event.get("type") not in ("stdout", "stderr", "ping")]
    return [
        {key: value for key, value in event.items() if key not in ("timestamp", "execution_time")} for event in told
    ]


def same_events(ours: List[Event], theirs: List[Event]) -> None:
    assert ours[0]["type"] == "init"
    ours[0]["text"] = theirs[0]["text"]
    assert rest(ours) == rest(theirs)
    assert lines(ours, "stdout") == lines(theirs, "stdout")
    assert lines(ours, "stderr") == lines(theirs, "stderr")


def timeless(value: Any) -> Any:
    """FileInfo without what differs from machine to machine."""
    if isinstance(value, dict):
        size = value.get("size") if value.get("type") != "directory" else None
        unlike = {"modified_at": "", "created_at": "", "owner": "", "group": "", "size": size}
        return {key: unlike.get(key, timeless(item)) for key, item in value.items()}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def same_body(reply: Reply, recording: Recording) -> None:
    if "json" in recording.headers.get("content-type", ""):
        assert timeless(reply.json) == timeless(json.loads(recording.body))
    else:
        assert reply.body.decode("utf-8", "replace") == recording.body


@pytest.mark.parametrize("name", PLAIN)
def test_an_answer_without_a_stream_is_as_recorded(execd: Execd, name: str) -> None:
    recording = Recording(name, {})
    same_body(recording.ask(execd), recording)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_gives_what_was_recorded(execd: Execd, name: str) -> None:
    recording = Recording(name, {})
    same_events(read_events(recording.ask(execd).body), recording.events)


def test_a_child_that_crashes_gives_bash_s_own_code(execd: Execd) -> None:
    recording = Recording("command-segv-child", {})
    ours = read_events(recording.ask(execd).body)
    assert rest(ours)[1:] == rest(recording.events)[1:]
    assert "Segmentation fault" in "".join(lines(ours, "stderr"))


def test_a_background_command_its_status_and_its_logs_are_as_recorded(execd: Execd) -> None:
    recording = Recording("command-background", {})
    ours, theirs = read_events(recording.ask(execd).body), recording.events
    names = {theirs[0]["text"]: ours[0]["text"]}
    same_events(ours, theirs)
    running = Recording("command-status-running-or-done", names)
    expected, status = json.loads(running.body), running.ask(execd).json
    assert {**status, "started_at": ""} == {**expected, "started_at": ""}
    finished = Recording("command-status-finished", names)
    until(lambda: not finished.ask(execd).json["running"], "the command's end")
    expected, status = json.loads(finished.body), finished.ask(execd).json
    assert list(status) == list(expected)
    assert {**status, "started_at": "", "finished_at": ""} == {**expected, "started_at": "", "finished_at": ""}
    for name, cursor in [("command-logs", "8"), ("command-logs-from-cursor", "8")]:
        logs = Recording(name, names)
        reply = logs.ask(execd)
        same_body(reply, logs)
        assert reply.headers["execd-commands-tail-cursor"] == logs.headers["execd-commands-tail-cursor"] == cursor
    past_end = Recording("command-logs-cursor-past-end", names).ask(execd)
    assert (past_end.body, past_end.headers["execd-commands-tail-cursor"]) == (b"", "8")


def test_an_interrupt_and_what_it_leaves_are_as_recorded(execd: Execd) -> None:
    recording = Recording("command-interrupted", {})
    with execd.stream("/command", recording.request["body"]) as events:
        ours = [next(events)]
        while ours[-1].get("text") != "start\n":
            ours.append(next(events))
        names = {recording.events[0]["text"]: ours[0]["text"]}
        interrupt = Recording("command-interrupt", names)
        same_body(interrupt.ask(execd), interrupt)
        ours += events
    same_events(ours, recording.events)
    status = Recording("command-status-interrupted", names)
    expected, found = json.loads(status.body), status.ask(execd).json
    assert {**found, "started_at": "", "finished_at": ""} == {**expected, "started_at": "", "finished_at": ""}
    again = Recording("command-interrupt-finished", names)
    same_body(again.ask(execd), again)


def test_sessions_are_as_recorded(execd: Execd) -> None:
    for name in ["session-create-empty-body", "session-create"]:
        created = Recording(name, {})
        reply = created.ask(execd)
        assert list(reply.json) == ["session_id"]
    names = {json.loads(created.body)["session_id"]: reply.json["session_id"]}
    for name in SESSION:
        recording = Recording(name, names)
        reply = recording.ask(execd)
        if reply.headers.get("content-type") != "text/event-stream":
            same_body(reply, recording)
        else:  # texts too: sessions send lines without their ends, and no blank ones
            assert [event.get("text") for event in read_events(reply.body)] == [
                event.get("text") for event in recording.events
            ]
            same_events(read_events(reply.body), recording.events)


def test_files_and_directories_are_as_recorded(execd: Execd, tmp_path: Path) -> None:
    for name in FILES:
        recording = Recording(name, {"/tmp/osb-rec": str(tmp_path)})
        same_body(recording.ask(execd), recording)
