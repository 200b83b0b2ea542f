"""Shell sessions: runs that share a working directory and exported variables."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple
from urllib.parse import quote

from ..codec import SnakeCaseModel
from ..config import Duration, seconds
from ..errors import InvalidArgumentError, NotFoundError, SandboxError, ServerError, as_class
from ..execution import Execution, ExecutionStream, Fold, Run, open_stream
from ..models import RemotePath, check_directory, require_text
from ..transport import logger
from .commands import OnEvent, OnResult, OnText, checked_max_output, milliseconds, watcher

if TYPE_CHECKING:
    from ..sandbox import Sandbox


@dataclass
class _Created(SnakeCaseModel):
    session_id: str


class SessionService:
    """Makes shell sessions in a sandbox; ``sandbox.sessions``.

    The daemon keeps no shell: each run is a new ``bash`` that starts with the session's directory and exported
    variables, and hands them back when it ends. Functions, aliases, ``set -o``, traps and jobs are not kept. Output and
    errors come as one stream, ``stdout``, without empty lines.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def create(self, *, cwd: Optional[RemotePath] = None) -> BashSession:
        """Make a session, in the directory ``cwd`` (created where it does not exist) or in the daemon's own."""
        body = None if cwd is None else {"cwd": check_directory("cwd", cwd)}
        answer = self._sandbox._client._transport.request(
            self._sandbox._execd, "POST", "/session", action="create a session", json=body
        )
        return BashSession(self, answer.decode(_Created).session_id, owned=True)

    def get(self, session_id: str) -> BashSession:
        """A handle of a session that exists, also from another process; its ``with`` block leaves it there.

        Nothing is asked before the first use.
        """
        return BashSession(self, require_text("session_id", session_id))

    def run(
        self,
        session_id: str,
        command: str,
        *,
        cwd: Optional[RemotePath] = None,
        timeout: Optional[Duration] = None,
        check: bool = False,
        on_stdout: OnText = None,
        on_stderr: OnText = None,
        on_result: OnResult = None,
        on_event: OnEvent = None,
        capture: bool = True,
        max_output: Optional[int] = None,
    ) -> Execution:
        """Run a command for the session's shell, wait for its end, and return what it did.

        ``cwd``, which must exist, is the directory of this run and of those after it. An ``exit 7`` ends this run with
        that exit code, and the session goes on; what the run had exported is lost then. The other arguments are as in
        ``commands.run``.

        A run has no id of its own, and the daemon deletes a session that is interrupted by its id: so ``timeout``,
        Ctrl-C and an exception of a callback close the connection. That ends the run's shell; the children that it
        started go on, and the session stays. Raises ``CommandTimeoutError`` at the ``timeout``, ``NotFoundError`` for
        an unknown session, ``StreamInterruptedError`` where the connection broke first.
        """
        watch = watcher(on_stdout, on_stderr, on_result, on_event)
        with self.stream(
            session_id, command, cwd=cwd, timeout=timeout, capture=capture, max_output=max_output
        ) as stream:
            execution = stream.read_all(watch)
        return execution.check() if check else execution

    def stream(
        self,
        session_id: str,
        command: str,
        *,
        cwd: Optional[RemotePath] = None,
        timeout: Optional[Duration] = None,
        capture: bool = True,
        max_output: Optional[int] = None,
    ) -> ExecutionStream:
        """Run a command and return its stream, to be iterated for events (or ``.lines()``) as they come.

        Arguments as in ``run``. Its ``interrupt()`` and ``close()`` close the connection, with what ``run`` tells of
        that.
        """
        path = f"{_path(session_id)}/run"
        body: Dict[str, Any] = {"command": _text(command)}
        if cwd is not None:
            body["cwd"] = check_directory("cwd", cwd)
        if timeout is not None:
            body["timeout"] = milliseconds("timeout", timeout)
        limit = None if timeout is None else seconds("timeout", timeout)
        fold = Fold(capture=capture, max_output=checked_max_output(max_output), timeout=limit)
        run = Run(f"run a command in session {session_id}", fold, timeout=limit)
        client = self._sandbox._client
        try:
            return open_stream(
                client._transport, self._sandbox._execd, path, body, run, idle=client.config.idle_seconds
            )
        except ServerError as error:
            if "context not found" in error.body:  # the daemon says 500
                raise as_class(NotFoundError, error)
            raise

    def delete(self, session_id: str) -> None:
        """End a session, and kill what runs in it; ``NotFoundError`` for one that the daemon does not know."""
        self._sandbox._client._transport.request(
            self._sandbox._execd, "DELETE", _path(session_id), action=f"delete session {session_id}"
        )


class BashSession:
    """A shell session; ``SessionService.create`` and ``get`` make it. It needs no connection between two runs.

    As a context manager it ends a session that was created here, and leaves one that ``get`` found.
    """

    def __init__(self, sessions: SessionService, session_id: str, *, owned: bool = False) -> None:
        self._sessions = sessions
        self._owner_pid = os.getpid() if owned else None  # a fork's copy must not end what the parent still uses
        self.id = session_id

    def run(
        self,
        command: str,
        *,
        cwd: Optional[RemotePath] = None,
        timeout: Optional[Duration] = None,
        check: bool = False,
        on_stdout: OnText = None,
        on_stderr: OnText = None,
        on_result: OnResult = None,
        on_event: OnEvent = None,
        capture: bool = True,
        max_output: Optional[int] = None,
    ) -> Execution:
        """Run a command in this session; see ``SessionService.run``."""
        return self._sessions.run(
            self.id,
            command,
            cwd=cwd,
            timeout=timeout,
            check=check,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            on_result=on_result,
            on_event=on_event,
            capture=capture,
            max_output=max_output,
        )

    def stream(
        self,
        command: str,
        *,
        cwd: Optional[RemotePath] = None,
        timeout: Optional[Duration] = None,
        capture: bool = True,
        max_output: Optional[int] = None,
    ) -> ExecutionStream:
        """Run a command in this session and return its stream; see ``SessionService.stream``."""
        return self._sessions.stream(self.id, command, cwd=cwd, timeout=timeout, capture=capture, max_output=max_output)

    def close(self) -> None:
        """End the session, and kill what runs in it; one that is already gone is fine."""
        try:
            self._sessions.delete(self.id)
        except NotFoundError:
            pass

    def __enter__(self) -> BashSession:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if self._owner_pid != os.getpid():
            return
        try:
            self.close()
        except SandboxError as failure:
            if kind is None:
                raise
            logger.debug("session %s was not closed: %s", self.id, failure)

    def __reduce__(self) -> Tuple[Any, ...]:
        # A copy in another process must not end what this one still uses.
        return type(self), (self._sessions, self.id)

    def __repr__(self) -> str:
        return f"<BashSession {self.id}>"


def _path(session_id: str) -> str:
    return "/session/" + quote(require_text("session_id", session_id), safe="")


def _text(command: Any) -> str:
    if isinstance(command, (list, tuple)):
        raise InvalidArgumentError(
            "a session takes the text of a command, not a list of words; use shlex.join(command)"
        )
    return require_text("command", command, "'cd /tmp'")
