"""Commands: started over HTTP, streamed while they run, remembered after they have ended.

A command's life is not tied to a connection: only its own end, its timeout or DELETE /command ends it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from flask import Response, request

from .environment import for_commands
from .events import error_frame, frame, late_failure, ping
from .output import Output
from .paths import working_directory
from .processes import Processes, StartError, User, exit_text, group_alive, signal_group, wait_until
from .web import (
    Failure,
    Route,
    answer,
    broken,
    chunks,
    dumps,
    event_stream,
    field_error,
    invalid,
    read_object,
    strings,
)

KEEP_SECONDS = 24 * 3600.0
TERM_SECONDS = 3.0

_KIND = "RunCommandRequest"
_FIELDS = {
    "command": "string",
    "argv": "[]string",
    "cwd": "string",
    "background": "bool",
    "timeout": "int64",
    "uid": "uint32",
    "gid": "uint32",
    "envs": "map[string]string",
}
_INVALID = "invalid request, validation error "


class Command:
    """One command and what became of it."""

    def __init__(self, content: str, timeout_ms: int) -> None:
        self.id = uuid.uuid4().hex
        self.content = content
        self.timeout_ms = timeout_ms
        self.log: Optional[Path] = None  # the file of a background command
        self.group = 0
        self.done = threading.Event()
        self.exit_code: Optional[int] = None  # -1 for any signal
        self.error = ""
        self.started_ns, self.finished_ns = time.time_ns(), 0
        self._clock = time.monotonic()
        self.elapsed_ms = 0
        self._timer: Optional[threading.Timer] = None

    def begin(self, group: int) -> None:
        self.group = group
        if self.timeout_ms:
            self._timer = threading.Timer(min(self.timeout_ms / 1000, threading.TIMEOUT_MAX), self._time_is_over)
            self._timer.daemon = True
            try:
                self._timer.start()
            except RuntimeError:  # no thread can be had that would end it in time
                signal_group(group, signal.SIGKILL)
            if self.done.is_set():  # it has ended already, and may not have seen the timer
                self._timer.cancel()

    def end(self, code: int) -> None:
        self.exit_code = max(code, -1)
        self.error = exit_text(code) if code else ""
        self.finished_ns = time.time_ns()
        self.elapsed_ms = int((time.monotonic() - self._clock) * 1000)
        self.done.set()
        if self._timer is not None:
            self._timer.cancel()  # or its thread would stay until the time is over

    def last_frame(self) -> bytes:
        if self.exit_code:
            return error_frame("CommandExecError", str(self.exit_code), [self.error])
        return frame("execution_complete", execution_time=self.elapsed_ms)

    def interrupt(self) -> None:
        """Ask the whole group to end, and end it after three seconds."""
        signal_group(self.group, signal.SIGTERM)
        if not wait_until(lambda: not group_alive(self.group), TERM_SECONDS):
            signal_group(self.group, signal.SIGKILL)
        self.done.wait(1.0)

    def status(self) -> Dict[str, Any]:
        status: Dict[str, Any] = {"id": self.id, "content": self.content, "running": not self.done.is_set()}
        if self.done.is_set():
            status["exit_code"] = self.exit_code
            if self.error:
                status["error"] = self.error
        status["started_at"] = rfc3339(self.started_ns)
        if self.done.is_set():
            status["finished_at"] = rfc3339(self.finished_ns)
        return status

    def _time_is_over(self) -> None:
        if not self.done.is_set():
            signal_group(self.group, signal.SIGKILL)


class Commands:
    """The routes under /command."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._commands: Dict[str, Command] = {}
        self._shell = "bash" if shutil.which("bash") else "sh"

    def routes(self) -> List[Route]:
        return [
            ("POST", "/command", self.run),
            ("GET", "/command/status/<command_id>", self.status),
            ("GET", "/command/<command_id>/logs", self.logs),
            ("GET", "/command//logs", self.logs),
        ]

    def run(self) -> Response:
        body = read_object(_KIND, _FIELDS, "error parsing request, MAYBE invalid body format. ")
        _validate(body)
        environment = for_commands(body.get("envs"))
        try:
            cwd = working_directory(body["cwd"], environment) if body.get("cwd") else None
        except ValueError as error:
            invalid(_INVALID + str(error))
        argv = body.get("argv")
        command = Command(dumps(argv) if argv else body["command"], body.get("timeout", 0))
        return self.launch(command, body, cwd, environment)

    def launch(
        self, command: Command, body: Dict[str, Any], cwd: Optional[str], environment: Dict[str, str]
    ) -> Response:
        """Start what a checked body asks for, and stream it."""
        self._forget_old()
        arguments = body.get("argv") or [self._shell, "-c", body["command"]]
        try:
            user = User(body["uid"], body.get("gid")) if "uid" in body else None
            start = self._background if body.get("background") else self._foreground
            return event_stream(start(command, arguments, cwd=cwd, environment=environment, user=user))
        except StartError as error:
            return event_stream(_not_started(command, str(error), bool(body.get("background"))))
        except OSError as error:
            broken(f"error running commands {error}")

    def _foreground(self, command: Command, arguments: List[str], **options: Any) -> Iterator[bytes]:
        output = Output()

        def ended(code: int) -> None:
            command.end(code)
            output.end()

        try:
            _give(options["user"], output.stdout, output.stderr)
            group = self._processes.start(arguments, ended, stdout=output.stdout, stderr=output.stderr, **options)
        except StartError:
            output.end()
            output.close()
            raise
        finally:
            output.given()
        self._remember(command, group)
        return _follow(command, output)

    def _background(self, command: Command, arguments: List[str], **options: Any) -> Iterator[bytes]:
        handle, name = tempfile.mkstemp(prefix="execd-", suffix=".output")
        command.log = Path(name)
        # Two writers of one file, or one that empties it, then leave no holes.
        fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) | os.O_APPEND)
        try:
            _give(options["user"], handle)
            group = self._processes.start(arguments, command.end, stdout=handle, stderr=handle, **options)
        except StartError:
            command.log.unlink()
            raise
        finally:
            os.close(handle)
        self._remember(command, group)
        return iter([frame("init", command.id), ping(), frame("execution_complete")])

    def _remember(self, command: Command, group: int) -> None:
        command.begin(group)
        self._commands[command.id] = command

    def _forget_old(self) -> None:
        oldest = time.time_ns() - int(KEEP_SECONDS * 1e9)
        for command in list(self._commands.values()):
            if command.done.is_set() and command.finished_ns < oldest:
                self._commands.pop(command.id, None)
                if command.log:
                    with contextlib.suppress(OSError):  # commands may have removed it
                        command.log.unlink()

    def find(self, command_id: str) -> Optional[Command]:
        return self._commands.get(command_id)

    def status(self, command_id: str) -> Response:
        command = self.find(command_id)
        if not command:
            raise Failure(404, "INVALID_REQUEST_BODY", f"command not found: {command_id}")
        return answer(command.status())

    def logs(self, command_id: str = "") -> Response:
        if not command_id:
            raise Failure(400, "MISSING_QUERY", "missing command execution id")
        command = self.find(command_id)
        if not command:
            invalid(f"command not found: {command_id}")
        if not command.log:
            invalid(f"command {command_id} is not running in background")
        try:
            cursor = int(request.args.get("cursor", "0"))
        except ValueError:
            cursor = 0
        if cursor < 0:
            invalid("cursor cannot be negative")
        try:
            log = command.log.open("rb")
        except OSError as error:
            invalid(f"error opening combined output file for command {command_id}: {error}")
        size = os.fstat(log.fileno()).st_size
        cursor = min(cursor, size)
        log.seek(cursor)
        headers = {"EXECD-COMMANDS-TAIL-CURSOR": str(size), "Content-Length": str(size - cursor)}
        body = chunks(log.read, size - cursor)
        response = Response(body, 200, headers, content_type="text/plain; charset=utf-8")
        response.call_on_close(log.close)
        return response


def _validate(body: Dict[str, Any]) -> None:
    argv = body.get("argv")
    if argv is None and not body.get("command"):
        field_error(_KIND, "Command", "required", _INVALID)
    if argv is not None and body.get("command"):
        invalid(_INVALID + "command and argv are mutually exclusive")
    if argv is not None and not (argv and strings(argv) and argv[0]):
        invalid(_INVALID + "argv must be strings, and the first must not be empty")
    if argv is not None and any("\0" in item for item in argv):
        invalid(_INVALID + "argv must not contain NUL bytes")
    if body.get("timeout", 0) < 0:
        field_error(_KIND, "TimeoutMs", "gte", _INVALID)
    if "gid" in body and "uid" not in body:
        invalid(_INVALID + "uid is required when gid is provided")


def _follow(command: Command, output: Output) -> Iterator[bytes]:
    """The stream of a foreground command; closing it ends nothing but the reading."""
    try:
        yield frame("init", command.id)
        yield ping()
        yield from output.frames()
        yield command.last_frame()
    finally:
        output.close()


def _not_started(command: Command, reason: str, background: bool) -> Iterator[bytes]:
    yield frame("init", command.id)
    if background:
        yield late_failure(f"error running commands failed to start commands: {reason}")
    else:
        yield error_frame("CommandExecError", reason, [reason])


def _give(user: Optional[User], *handles: int) -> None:
    """Let the command open its own output again: `> /dev/stderr`."""
    if user and not user.is_us():
        for handle in handles:
            try:
                os.fchown(handle, user.uid, user.gid)
            except PermissionError:  # then the start fails too, with better words
                pass


def rfc3339(nanoseconds: int) -> str:
    """As Go prints a time: nanoseconds, their trailing zeros trimmed."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}{fraction}Z"
