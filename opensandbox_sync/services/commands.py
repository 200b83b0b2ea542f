"""Commands: run one and wait, stream one, start one in the background and come back to it."""

from __future__ import annotations

import codecs
import math
import re
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Union
from urllib.parse import quote

from ..codec import SnakeCaseModel
from ..config import Duration, check_callables, seconds
from ..errors import (
    ApiError,
    BadRequestError,
    InvalidArgumentError,
    NotFoundError,
    NotSupportedError,
    RequestTimeoutError,
    SandboxError,
    StreamInterruptedError,
    as_class,
)
from ..execution import INTERRUPT_SECONDS, Execution, ExecutionResult, ExecutionStream, Fold, Run, open_stream
from ..models import RemotePath, as_text, check_argv, check_directory, check_env, check_whole, require_text, shown
from ..readiness import wait_for_exit
from ..sse import Decoded, OutputRun, ServerEvent, each_event

if TYPE_CHECKING:
    from ..sandbox import Sandbox

Command = Union[str, Sequence[RemotePath]]
OnText = Optional[Callable[[str], Any]]
OnResult = Optional[Callable[[ExecutionResult], Any]]
OnEvent = Optional[Callable[[ServerEvent], Any]]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
MAX_ID = 2**32 - 1


@dataclass
class CommandStatus(SnakeCaseModel):
    """A command's state: ``running``, or its ``exit_code`` (-1: a signal) and ``finished_at``; ``error`` is the
    daemon's text.
    """

    id: str
    running: bool
    content: Optional[str] = None
    exit_code: Optional[int] = None
    error: Optional[str] = None
    started_at: Optional[datetime] = None
    finished_at: Optional[datetime] = None


@dataclass
class CommandLogs:
    """Output of a background command, and ``cursor``, the byte offset to go on reading from."""

    text: str
    cursor: int


class CommandService:
    """Runs commands in a sandbox; ``sandbox.commands``."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def run(
        self,
        command: Command,
        *,
        cwd: Optional[RemotePath] = None,
        env: Optional[Mapping[str, str]] = None,
        timeout: Optional[Duration] = None,
        uid: Optional[int] = None,
        gid: Optional[int] = None,
        check: bool = False,
        on_stdout: OnText = None,
        on_stderr: OnText = None,
        on_result: OnResult = None,
        on_event: OnEvent = None,
        capture: bool = True,
        max_output: Optional[int] = None,
    ) -> Execution:
        """Run a command, wait for its end, and return what it did.

        A text goes to the shell (``bash -c``); a list is an argv that no shell sees. ``cwd`` and a list's words may be
        path objects. The standard input is empty.
        ``timeout`` (seconds) is a promise on the wall clock: the command is killed, and ``CommandTimeoutError`` carries
        what came. Without it only the silence of the connection ends the wait (``idle_timeout`` of the client); an exit
        code that is not 0 is returned, or with ``check`` raised as ``CommandError``.

        ``on_stdout`` and ``on_stderr`` get text as it comes, ``on_event`` each ``ServerEvent``; an exception of theirs
        stops the command. ``capture=False`` keeps no output; ``max_output`` keeps at most so many characters of each
        stream, from its head and its tail, and sets ``truncated``. Ctrl-C stops the command, then raises
        ``KeyboardInterrupt``.

        Raises ``StreamInterruptedError`` (with what came and the command's id) where the connection broke before the
        result, ``BadRequestError`` where the daemon refuses, such as for a ``cwd`` that does not exist.
        """
        watch = watcher(on_stdout, on_stderr, on_result, on_event)
        with self.stream(
            command, cwd=cwd, env=env, timeout=timeout, uid=uid, gid=gid, capture=capture, max_output=max_output
        ) as stream:
            execution = stream.read_all(watch)
        return execution.check() if check else execution

    def stream(
        self,
        command: Command,
        *,
        cwd: Optional[RemotePath] = None,
        env: Optional[Mapping[str, str]] = None,
        timeout: Optional[Duration] = None,
        uid: Optional[int] = None,
        gid: Optional[int] = None,
        capture: bool = True,
        max_output: Optional[int] = None,
    ) -> ExecutionStream:
        """Run a command and return its stream, to be iterated for events (or ``.lines()``) as they come. Arguments as
        in ``run``.
        """
        body = command_body(command, cwd=cwd, env=env, timeout=timeout, uid=uid, gid=gid)
        limit = None if timeout is None else seconds("timeout", timeout)
        fold = Fold(capture=capture, max_output=checked_max_output(max_output), timeout=limit)
        run = Run("run a command", fold, interrupt=self._interrupt, look=self._look, timeout=limit)
        return self._open(command, body, run)

    def start(
        self,
        command: Command,
        *,
        cwd: Optional[RemotePath] = None,
        env: Optional[Mapping[str, str]] = None,
        timeout: Optional[Duration] = None,
        uid: Optional[int] = None,
        gid: Optional[int] = None,
    ) -> BackgroundCommand:
        """Start a command in the background and return at once; it goes on when this program ends. Arguments as in
        ``run``.
        """
        body = command_body(command, cwd=cwd, env=env, timeout=timeout, uid=uid, gid=gid)
        body["background"] = True
        # The timeout is the background command's; the start itself is over at once.
        run = Run("start a command", Fold(has_exit_code=False), interrupt=self._interrupt, look=self._look)
        with self._open(command, body, run) as stream:
            execution = stream.read_all()
        if execution.error is not None or execution.id is None:
            execution.check()
            raise StreamInterruptedError("the daemon started a command without telling its id", execution=execution)
        return BackgroundCommand(self, execution.id)

    def get(self, command_id: str) -> BackgroundCommand:
        """Attach to a command again, also from another process. Nothing is asked before the first use."""
        return BackgroundCommand(self, require_text("command_id", command_id))

    def status(self, command_id: str) -> CommandStatus:
        """How a command, in the foreground or background, is doing; ``NotFoundError`` for an id that the daemon does
        not know.
        """
        return self._status(command_id, None)

    def logs(self, command_id: str, cursor: int = 0) -> CommandLogs:
        """A background command's output (both streams, in order) from the byte ``cursor`` on.

        A character that is not all there yet is left for the next call. Raises ``NotFoundError`` for an unknown id.
        """
        return self._read_logs(command_id, cursor)

    def interrupt(self, command_id: str) -> None:
        """Stop a command: SIGTERM to all its processes, SIGKILL after 3 s. One that has ended already is fine.

        Returns when it is gone; ``NotFoundError`` for an unknown id.
        """
        self._interrupt(require_text("command_id", command_id), 10.0)

    def set_env(self, key: str, value: str) -> None:
        """Set a variable for all commands that are run from now on, by appending to the daemon's ``$EXECD_ENVS``
        file.
        """
        if not isinstance(key, str) or not _NAME.match(key):
            begin = shown(key.partition("=")[0]) if isinstance(key, str) else type(key).__name__
            raise InvalidArgumentError(f"key must be a variable's name (letters, digits, _), not {begin}")
        if not isinstance(value, str) or any(c in "\0\r\n" for c in value):
            raise InvalidArgumentError(
                "value must be text without NUL and line breaks: the file has one variable a line"
            )
        if "'" in value and any(c in value for c in '"$`\\'):
            raise InvalidArgumentError(
                "value cannot hold ' together with one of \" $ ` \\: the file has no way to write it"
            )
        quoted = f'"{value}"' if "'" in value else f"'{value}'"
        script = (
            'if [ -z "$EXECD_ENVS" ]; then echo "EXECD_ENVS is not set in this sandbox" >&2; exit 78; fi; '
            'mkdir -p "$(dirname "$EXECD_ENVS")" && printf "%s\\n" "$OPENSANDBOX_SET_ENV_LINE" >> "$EXECD_ENVS"'
        )
        execution = self.run(script, env={"OPENSANDBOX_SET_ENV_LINE": f"{key}={quoted}"}, timeout=30)
        if execution.exit_code == 78:
            raise NotSupportedError(
                "this sandbox has no file for variables ($EXECD_ENVS is not set)", code="NOT_SUPPORTED"
            )
        execution.check()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _open(self, command: Command, body: Dict[str, Any], run: Run) -> ExecutionStream:
        client = self._sandbox._client
        try:
            return open_stream(
                client._transport, self._sandbox._execd, "/command", body, run, idle=client.config.idle_seconds
            )
        except BadRequestError as error:
            # Daemons before 1.1 do not know argv, and then miss the command.
            if "argv" in body and "'Command' failed on the 'required' tag" in error.body:
                raise _no_argv(command) from error
            raise

    def _status(self, command_id: str, timeout: Optional[float]) -> CommandStatus:
        path = "/command/status/" + quote(require_text("command_id", command_id), safe="")
        answer = self._sandbox._client._transport.request(
            self._sandbox._execd, "GET", path, action=f"look up command {command_id}", timeout=timeout
        )
        return answer.decode(CommandStatus)

    def _look(self, command_id: str) -> str:
        """One look at a command whose stream broke, in words."""
        try:
            status = self._status(command_id, 5.0)
        except SandboxError as error:
            return f"its state could not be asked: {error}"
        if status.running:
            return f"the command is still running (commands.get({command_id!r}) attaches to it)"
        return f"the command has finished with exit code {status.exit_code}, and its output may be incomplete"

    def _interrupt(self, command_id: str, wait: float) -> None:
        try:
            self._sandbox._client._transport.request(
                self._sandbox._execd,
                "DELETE",
                "/command",
                action=f"interrupt command {command_id}",
                params={"id": command_id},
                timeout=wait,
            )
        except RequestTimeoutError:
            # The daemon gives a command 3 s before it kills it, and answers then: it goes on without us.
            if wait > INTERRUPT_SECONDS:
                raise
        except ApiError as error:
            # The daemon says 500 for both of these.
            if "is not running" in error.body:
                return
            if "no such session" in error.body:
                raise as_class(NotFoundError, error)
            raise

    def _read_logs(self, command_id: str, cursor: int, *, whole: bool = False) -> CommandLogs:
        """``whole`` decodes a character that is cut at the end, too: no more will come."""
        check_whole("cursor (a byte offset)", cursor)
        path = "/command/" + quote(require_text("command_id", command_id), safe="") + "/logs"
        try:
            answer = self._sandbox._client._transport.request(
                self._sandbox._execd,
                "GET",
                path,
                action=f"read the logs of command {command_id}",
                params={"cursor": cursor} if cursor else None,
                headers={"Accept": "*/*"},
            )
        except BadRequestError as error:
            if "command not found" in error.body:  # the daemon says 400
                raise as_class(NotFoundError, error)
            raise
        return cut_at_character(answer.content, cursor, whole)


class BackgroundCommand:
    """A command in the background; ``CommandService.start`` and ``get`` make it. It needs no connection between two
    calls.
    """

    def __init__(self, commands: CommandService, command_id: str) -> None:
        self._commands = commands
        self.id = command_id

    def status(self) -> CommandStatus:
        """How it is doing now."""
        return self._commands.status(self.id)

    def logs(self, cursor: int = 0) -> CommandLogs:
        """Its output from the byte ``cursor`` on; pass the result's ``cursor`` to go on."""
        return self._commands.logs(self.id, cursor)

    def interrupt(self) -> None:
        """Stop it; one that has ended already is fine."""
        self._commands.interrupt(self.id)

    def follow(self, cursor: int = 0) -> Iterator[str]:
        """Yield its output as it is written, until it has ended and all was read. Ctrl-C stops the command, then is
        raised.
        """
        pause = 0.02
        try:
            while True:
                running = self.status().running
                logs = self._commands._read_logs(self.id, cursor, whole=not running)
                cursor = logs.cursor
                if logs.text:
                    pause = 0.02
                    yield logs.text
                elif not running:
                    return
                if running:
                    self._commands._sandbox._client._transport.sleep(pause)
                    pause = min(pause * 1.5, 0.5)
        except KeyboardInterrupt:
            self._stop()
            raise

    def wait(self, timeout: Optional[Duration] = None) -> Optional[int]:
        """Wait for its end and return the exit code (-1: a signal). Ctrl-C stops the command, then is raised.

        After ``timeout`` seconds it raises ``RequestTimeoutError``, a ``TimeoutError``, and interrupts nothing.
        """
        client = self._commands._sandbox._client
        try:
            return wait_for_exit(client, f"command {self.id}", partial(self._commands._status, self.id), timeout)
        except KeyboardInterrupt:
            self._stop()
            raise

    def _stop(self) -> None:
        try:
            self._commands._interrupt(self.id, INTERRUPT_SECONDS)
        except SandboxError:
            pass  # the KeyboardInterrupt says more

    def __repr__(self) -> str:
        return f"<BackgroundCommand {self.id}>"


def command_body(
    command: Command,
    *,
    cwd: Optional[RemotePath],
    env: Optional[Mapping[str, str]],
    timeout: Optional[Duration],
    uid: Optional[int],
    gid: Optional[int],
) -> Dict[str, Any]:
    """The body of ``POST /command``."""
    body: Dict[str, Any] = {}
    if isinstance(command, str):
        body["command"] = require_text("command", command, "'echo hello'")
    elif isinstance(command, Sequence) and not isinstance(command, (bytes, bytearray)):
        body["argv"] = check_argv("command", command)
    else:
        raise InvalidArgumentError(f"command must be a text or a list of words, not {type(command).__name__}")
    if cwd is not None:
        body["cwd"] = check_directory("cwd", cwd)
    if env is not None:
        check_env("env", env)
        body["envs"] = dict(env)
    if timeout is not None:
        body["timeout"] = milliseconds("timeout", timeout)
    for name, number in (("uid", uid), ("gid", gid)):
        if number is not None:
            body[name] = check_whole(name, number, 0, MAX_ID)
    if gid is not None and uid is None:
        raise InvalidArgumentError("gid needs uid: the daemon sets both or neither")
    return body


def milliseconds(name: str, value: Duration) -> int:
    """A duration as the whole milliseconds that the daemon takes, rounded up: 0 would mean no limit at all."""
    return max(1, math.ceil(round(seconds(name, value) * 1000, 3)))


def checked_max_output(value: Optional[int]) -> Optional[int]:
    return None if value is None else check_whole("max_output (characters)", value)


def watcher(
    on_stdout: OnText, on_stderr: OnText, on_result: OnResult, on_event: OnEvent
) -> Optional[Callable[[List[Decoded]], None]]:
    """One function that tells decoded events to the callbacks; None where there are none."""
    check_callables(on_stdout=on_stdout, on_stderr=on_stderr, on_result=on_result, on_event=on_event)
    if on_stdout is None and on_stderr is None and on_result is None and on_event is None:
        return None
    on_text = {"stdout": on_stdout, "stderr": on_stderr}

    def watch(decoded: List[Decoded]) -> None:
        for item in decoded:
            if isinstance(item, OutputRun) and on_event is None:
                tell = on_text[item.type]
                if tell is not None:
                    for text in item.texts:
                        tell(text)
                continue
            for event in each_event([item]):
                if event.type == "stdout" or event.type == "stderr":
                    tell = on_text[event.type]
                    if tell is not None:
                        tell(event.text)
                elif event.type == "result" and on_result is not None:
                    on_result(ExecutionResult.from_event(event))
                if on_event is not None:
                    on_event(event)

    return watch


def cut_at_character(content: bytes, cursor: int, whole: bool) -> CommandLogs:
    """Logs read from ``cursor`` on; a character that is cut at the end is left for later, unless this is the ``whole``.

    The daemon's own cursor is not used: with a cursor past the end it would skip what is written later.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(content, whole)
    rest = b"" if whole else decoder.getstate()[0]
    return CommandLogs(text, cursor + len(content) - len(rest))


def _no_argv(command: Command) -> NotSupportedError:
    import shlex

    joined = " ".join(shlex.quote(as_text(word)) for word in command)
    return NotSupportedError(
        f"this sandbox's daemon takes no argv lists (1.1 does); pass the text shlex.join(command) instead: {joined!r}",
        code="NOT_SUPPORTED",
        status_code=400,
    )
