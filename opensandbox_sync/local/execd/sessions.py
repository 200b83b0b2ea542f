"""Shell sessions: no shell lives between two runs; its exported variables and its directory are carried over.

So functions, aliases, options and unexported variables are lost, as they are with the real daemon.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import signal
import socket
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Set

from flask import Response, request

from ..serving import CLIENT_SOCKET
from .environment import for_commands
from .events import PING_SECONDS, error_frame, frame, late_failure, output_frames, ping
from .paths import UndefinedVariable, expand, make_directories, working_directory
from .processes import Processes, StartError, exit_text, signal_group
from .web import (
    Failure,
    Route,
    answer,
    broken,
    empty,
    event_stream,
    field_error,
    invalid,
    read_object,
    require,
)

READ_SIZE = 32768
LONGEST_LINE = 16 * 1024 * 1024
LONGEST_VALUE = 8 * 1024
NOT_KEPT = {"PS1", "PS2", "PS3", "PS4", "PROMPT_COMMAND", "SHLVL", "_"}

_KIND = "RunInSessionRequest"
_FIELDS = {"command": "string", "cwd": "string", "timeout": "int64"}
_PARSING, _INVALID, _RUNNING = "error parsing request. ", "invalid request. ", "error running in session. "


class Session:
    def __init__(self, cwd: str) -> None:
        self.id = str(uuid.uuid4())
        self.cwd = cwd
        self.environment = for_commands()
        self.groups: Set[int] = set()  # of the runs that are going on; there may be several

    def close(self) -> None:
        for group in list(self.groups):
            signal_group(group, signal.SIGKILL)


class Run:
    """One command in a session: a script, its process, and the pipe that its output comes through."""

    def __init__(self, session: Session, command: str, cwd: str, processes: Processes) -> None:
        self._session = session
        self._clock = time.monotonic()
        self._done = threading.Event()
        self._code = 0
        self._failure = ""
        self._files = Path(tempfile.mkdtemp(prefix="execd-session-"))
        self._state = self._files / "state"
        script = self._files / "execd_bash.sh"
        script.write_text(command + _saving(str(self._state)), "utf-8", "replace")
        self._output, into = os.pipe()
        try:
            self._group = processes.start(
                ["bash", "--noprofile", "--norc", str(script)],
                self._ended,
                cwd=cwd,
                environment=session.environment,
                stdout=into,
                stderr=into,
            )
        except StartError:
            self._clean_up()
            raise
        finally:
            os.close(into)
        session.groups.add(self._group)

    def _ended(self, code: int) -> None:
        self._code = code
        self._done.set()

    def frames(self, timeout_ms: int, client: socket.socket) -> Iterator[bytes]:
        """The stream of this run. Where it ends early, the shell is killed and its children are not."""
        try:
            yield frame("init", self._session.id)
            yield ping()
            yield from self._output_frames(client, self._clock + timeout_ms / 1000 if timeout_ms else None)
            if self._failure == "timeout":
                self._failure += f" after {duration(timeout_ms)}"
            if self._failure:  # told by a late object without a type and without its empty line
                yield late_failure(_RUNNING + self._failure)
            else:
                self._keep_state()
                yield self._last_frame()
        finally:
            self._session.groups.discard(self._group)
            if not self._done.is_set():
                with contextlib.suppress(ProcessLookupError, PermissionError):  # it may just have been collected
                    os.kill(self._group, signal.SIGKILL)
            self._clean_up()

    def _output_frames(self, client: socket.socket, end: Optional[float]) -> Iterator[bytes]:
        """Output until everybody who has the pipe has closed it: a child left running keeps the run open."""
        poll = select.poll()
        poll.register(self._output, select.POLLIN)
        poll.register(client, select.POLLIN)
        lines = _Lines()
        next_ping = time.monotonic() + PING_SECONDS
        while not self._failure:
            wake = min(next_ping, end or next_ping)
            ready = [handle for handle, _ in poll.poll(max(0.0, wake - time.monotonic()) * 1000)]
            if self._output in ready:
                data = os.read(self._output, READ_SIZE)
                frames = output_frames("stdout", lines.feed(data))
                if frames:
                    yield frames
                if not data:
                    break
                if lines.waiting > LONGEST_LINE:
                    self._failure = "read stdout: bufio.Scanner: token too long"
            elif client.fileno() in ready:
                if _is_gone(client):
                    self._failure = "context canceled"
                poll.unregister(client)
            if end and time.monotonic() >= end:
                self._failure = "timeout"
            if time.monotonic() >= next_ping:
                next_ping += PING_SECONDS
                yield ping()
        yield from self._wait_for_end(end)

    def _wait_for_end(self, end: Optional[float]) -> Iterator[bytes]:
        """A shell may close its output long before it ends."""
        while not self._failure:
            if self._done.wait(min(PING_SECONDS, end - time.monotonic()) if end else PING_SECONDS):
                return
            if end and time.monotonic() >= end:
                self._failure = "timeout"
            else:
                yield ping()

    def _last_frame(self) -> bytes:
        if self._code:
            return error_frame("CommandExecError", str(max(self._code, -1)), [exit_text(self._code)])
        return frame("execution_complete", execution_time=int((time.monotonic() - self._clock) * 1000))

    def _keep_state(self) -> None:
        """Take over directory and variables, if the script came to its end: an `exit` in it keeps neither."""
        try:
            cwd, *entries = self._state.read_bytes().split(b"\0")[:-1]
        except (OSError, ValueError):
            return
        environment: Dict[str, str] = {}
        for entry in entries:
            name, _, value = os.fsdecode(entry).partition("=")
            if len(entry) <= LONGEST_VALUE and name not in NOT_KEPT and not name.startswith("BASH_FUNC_"):
                environment[name] = value
        self._session.cwd, self._session.environment = os.fsdecode(cwd[:-1]), environment

    def _clean_up(self) -> None:
        os.close(self._output)
        shutil.rmtree(self._files, ignore_errors=True)


class _Lines:
    """Lines as sessions send them: without their ends, and without the empty ones."""

    def __init__(self) -> None:
        self._pending = bytearray()

    @property
    def waiting(self) -> int:
        return len(self._pending)

    def feed(self, data: bytes) -> List[bytes]:
        """The lines that `data` completes; no data means the end."""
        if b"\n" not in data and data:
            self._pending += data
            return []
        lines = (bytes(self._pending) + data).split(b"\n")
        self._pending = bytearray(lines.pop() if data else b"")
        lines = [line[:-1] if line.endswith(b"\r") else line for line in lines]
        return [line for line in lines if line]


class Sessions:
    """The routes under /session."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._sessions: Dict[str, Session] = {}

    def routes(self) -> List[Route]:
        return [
            ("POST", "/session", self.create),
            ("POST", "/session/<session_id>/run", self.run),
            ("DELETE", "/session/<session_id>", self.delete),
        ]

    def create(self) -> Response:
        body = read_object("CreateSessionRequest", {"cwd": "string"}, _PARSING) if request.get_data() else {}
        try:
            path = Path(expand(body.get("cwd") or ".", os.environ))
            make_directories(path)
        except UndefinedVariable as error:
            broken(f"error creating session. resolve request cwd {body['cwd']}: {error}")
        except ValueError as error:
            broken(f"error creating session. {error}")
        session = Session(str(path))
        self._sessions[session.id] = session
        return answer({"session_id": session.id})

    def run(self, session_id: str) -> Response:
        body = read_object(_KIND, _FIELDS, _PARSING)
        require(body, _KIND, "command", _INVALID)
        if body.get("timeout", 0) < 0:
            field_error(_KIND, "Timeout", "gte", _INVALID)
        try:
            cwd = working_directory(body["cwd"], os.environ) if body.get("cwd") else None
        except ValueError as error:
            invalid(_INVALID + str(error))
        session = self._sessions.get(session_id)
        if not session:
            broken(_RUNNING + "context not found")
        try:
            run = Run(session, body["command"], cwd or session.cwd, self._processes)
        except StartError as error:
            return event_stream(iter([frame("init", session_id), ping(), late_failure(f"{_RUNNING}{error}")]))
        except OSError as error:
            broken(_RUNNING + str(error))
        return event_stream(run.frames(body.get("timeout", 0), request.environ[CLIENT_SOCKET]))

    def close(self, session_id: str) -> bool:
        """End a session and what runs in it; False if there is none of this id."""
        session = self._sessions.pop(session_id, None)
        if session:
            session.close()
        return session is not None

    def delete(self, session_id: str) -> Response:
        if not self.close(session_id):
            raise Failure(404, "CONTEXT_NOT_FOUND", f"session {session_id} not found")
        return empty()


def duration(milliseconds: int) -> str:
    """As Go prints it: 400ms, 1.5s, 2m0s."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s"
    if milliseconds >= 60000:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _saving(state: str) -> str:
    """The script's last lines: they save directory and variables, NUL between them; the exit code stays."""
    env = shutil.which("env")
    return f"""
{{ __execd_status=$?
{{ builtin pwd; builtin printf '\\0'; {env} -0; }} >{shlex.quote(state)}
builtin exit $__execd_status; }} 2>/dev/null
"""


def _is_gone(client: socket.socket) -> bool:
    try:
        return not client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
