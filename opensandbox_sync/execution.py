"""``ServerEvent`` -> ``Execution``: what the events of a run mean, and the exit-code rule.

The facts are the daemon's: a run ends with exactly one of ``error`` and ``execution_complete``; a non-zero exit is an
error named ``CommandExecError`` (``ExitError`` in isolated sessions) whose value is the code; a signal, and the
server's own timeout, is ``-1``.
"""

from __future__ import annotations

import re
import time
from array import array
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate, chain, islice, repeat
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Tuple,
)

from .connections import Opening
from .errors import (
    ApiError,
    ClosedError,
    CommandError,
    CommandTimeoutError,
    ConnectError,
    ProtocolError,
    SandboxError,
    StreamInterruptedError,
    TransportError,
    api_error_class,
)
from .models import one_line
from .sse import (
    Decoded,
    EventDecoder,
    EventError,
    OutputRun,
    RawEvent,
    ServerEvent,
    each_event,
)

if TYPE_CHECKING:
    from .transport import Body, Plane, Transport

ExecutionError = EventError

_NO_TIME = -(2**63)
_LINE_END = re.compile(r"\r\n|\n|\r(?!\Z)")  # a CR at the end may be half of a CRLF
_CODE = re.compile(r"-?[0-9]{1,9}\Z")
#: Seconds that are given to the end of a body whose result is in, so that its connection can be kept.
_TAIL_SECONDS = 0.002
#: Seconds beyond ``timeout`` that the server gets to end a command itself before we do.
TIMEOUT_GRACE = 1.0
#: Seconds that a Ctrl-C waits for the daemon's word, which may take 3 s to come.
INTERRUPT_SECONDS = 1.0
#: Seconds for a kernel to end what it ran, when a timeout interrupted it.
_KERNEL_SECONDS = 3.0

# Go's words for signals, where they differ from strsignal's or matter by name.
_SIGNALS = {
    "hangup": "SIGHUP",
    "interrupt": "SIGINT",
    "quit": "SIGQUIT",
    "illegal instruction": "SIGILL",
    "trace/breakpoint trap": "SIGTRAP",
    "aborted": "SIGABRT",
    "bus error": "SIGBUS",
    "floating point exception": "SIGFPE",
    "killed": "SIGKILL",
    "user defined signal 1": "SIGUSR1",
    "segmentation fault": "SIGSEGV",
    "user defined signal 2": "SIGUSR2",
    "broken pipe": "SIGPIPE",
    "alarm clock": "SIGALRM",
    "terminated": "SIGTERM",
    "stack fault": "SIGSTKFLT",
    "cpu time limit exceeded": "SIGXCPU",
    "file size limit exceeded": "SIGXFSZ",
    "virtual timer expired": "SIGVTALRM",
    "profiling timer expired": "SIGPROF",
    "i/o possible": "SIGIO",
    "power failure": "SIGPWR",
    "bad system call": "SIGSYS",
}


class OutputMessage(NamedTuple):
    """One piece of output: its ``text``, and ``timestamp`` (Unix ms, or None)."""

    text: str
    timestamp: Optional[int]


class MessageLog(Sequence):  # type: ignore[type-arg]
    """The output of one stream: a sequence of ``OutputMessage``, made when asked for; the text is stored once.

    Half a million short lines as objects would cost ten times their text.
    """

    def __init__(self, limit: Optional[int] = None) -> None:
        self._pieces: List[str] = []  # all text, in order; where one message ends is in _sizes
        self._sizes: List[int] = []
        self._times: List[int] = []
        self._fresh: List[str] = []  # what came last, not yet joined into a piece
        self._ends: Optional[array[int]] = None
        #: Characters that ``max_output`` dropped, between the head and the tail that are kept.
        self.dropped = 0
        self._limit = limit
        self._size = 0  # of all that is kept
        # Once the limit was passed: the last messages, whose first characters are dropped as more comes.
        self._tail: Deque[Tuple[str, int]] = deque()

    def extend(self, texts: List[str], times: List[int]) -> None:
        joined = "".join(texts)
        self._size += len(joined)
        if self.dropped:
            self._tail.extend(zip(texts, times))
        else:
            self._fresh.append(joined)
            self._sizes.extend(map(len, texts))
            self._times.extend(times)
            self._ends = None
            if len(self._fresh) > 1024:
                self._join_fresh()
        if self._limit is not None and self._size > self._limit:
            self._drop(self._size - self._limit)

    def _drop(self, count: int) -> None:
        """Drop the first ``count`` characters behind the head, which is the first half of what may be kept."""
        assert self._limit is not None
        if not self.dropped:
            self._part(self._limit // 2)
        self._size -= count
        self.dropped += count
        while count:
            text, moment = self._tail.popleft()
            if len(text) > count:
                self._tail.appendleft((text[count:], moment))
            count -= min(count, len(text))

    def _part(self, head: int) -> None:
        """Keep the first ``head`` characters as they are, and the rest where it can be dropped from its beginning."""
        messages = list(zip(self._lines(), self._times))
        self._pieces, self._fresh, self._sizes, self._times = [self._whole()[:head]], [], [], []
        self._ends = None
        for text, moment in messages:
            kept = text[:head]
            head -= len(kept)
            if kept:
                self._sizes.append(len(kept))
                self._times.append(moment)
            if len(text) > len(kept):
                self._tail.append((text[len(kept) :], moment))

    def settle(self) -> None:
        """Move the tail to its place; no more will come."""
        for text, moment in self._tail:
            self._fresh.append(text)
            self._sizes.append(len(text))
            self._times.append(moment)
        self._tail.clear()
        self._ends = None

    def _join_fresh(self) -> None:
        # Small ones take more room than their text. Large ones would be copied here and once more when all are joined.
        small = sum(map(len, self._fresh)) < 1024 * len(self._fresh)
        self._pieces += ["".join(self._fresh)] if small else self._fresh
        self._fresh = []

    def _whole(self) -> str:
        """All messages' text without anything between, kept as the one piece."""
        if self._tail:
            return "".join([*self._pieces, *self._fresh, *(text for text, _ in self._tail)])
        if self._fresh:
            self._join_fresh()
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def _lines(self) -> Iterator[str]:
        sizes = iter(self._sizes)
        for piece in chain(self._pieces, self._fresh):
            at = 0
            while at < len(piece):
                size = next(sizes)
                yield piece[at : at + size]
                at += size
        yield from repeat("", len(list(sizes)))
        for text, _ in self._tail:
            yield text

    def text(self, keeps_line_ends: bool) -> str:
        """The stream's output. A daemon that strips line ends sends one line per message, and ``"\\n"`` for an empty
        one.
        """
        if keeps_line_ends or not len(self):
            return self._whole()
        lines = ("" if line == "\n" else line for line in self._lines())
        # In blocks: join() makes a list of all it joins, and a list of short texts is twice their size.
        blocks = iter(lambda: list(islice(lines, 4096)), [])
        return "\n".join(map("\n".join, blocks))

    def __len__(self) -> int:
        return len(self._sizes) + len(self._tail)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError("no such message")
        if index >= len(self._sizes):
            text, moment = self._tail[index - len(self._sizes)]
        else:
            if self._ends is None:
                self._ends = array("Q", accumulate(self._sizes))
            end = self._ends[index]
            text, moment = self._whole()[end - self._sizes[index] : end], self._times[index]
        return OutputMessage(text, None if moment == _NO_TIME else moment)

    def __iter__(self) -> Iterator[OutputMessage]:
        times = [*self._times, *(moment for _, moment in self._tail)] if self._tail else self._times
        for text, moment in zip(self._lines(), times):
            yield OutputMessage(text, None if moment == _NO_TIME else moment)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (MessageLog, list, tuple)):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} messages, {self._size} characters>"


def _start(text: str) -> str:
    return repr(text[:60]) + ("…" if len(text) > 60 else "")


@dataclass
class ExecutionLogs:
    """The messages of both streams. Their order is known within a stream, not between the two."""

    stdout: MessageLog = field(default_factory=MessageLog)
    stderr: MessageLog = field(default_factory=MessageLog)


@dataclass
class ExecutionResult:
    """A rich result of code: ``data`` maps MIME types to values, ``text`` is the plain one, ``raw`` what was sent."""

    data: Dict[str, Any] = field(default_factory=dict)
    timestamp: Optional[int] = None
    raw: Dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def text(self) -> str:
        """The ``text/plain`` form, or an empty text."""
        value = self.data.get("text/plain", "")
        return value if isinstance(value, str) else str(value)

    def __repr__(self) -> str:
        return f"<ExecutionResult {one_line(', '.join(self.data))}, text={_start(self.text)}>"

    @classmethod
    def from_event(cls, event: ServerEvent) -> ExecutionResult:
        """The result that a ``result`` event carries."""
        sent = event.results or {}
        # The daemon renames text/plain to "text".
        data = {("text/plain" if key == "text" else key): value for key, value in sent.items()}
        return cls(data, event.timestamp, sent)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Dict[str, Any]:
        from .notebook import result_bundle

        return result_bundle(self)


@dataclass
class ExecutionComplete:
    """The end of a run that did not fail: ``timestamp`` (Unix ms) and ``execution_time`` (ms), as the server says."""

    timestamp: Optional[int] = None
    execution_time: int = 0


@dataclass
class Execution:
    """What a command, a session run or a piece of code did.

    ``exit_code`` is None where there is none: for code, for a background start, for a run that could not start, and for
    one whose end is not known. It is -1 for a run that a signal or the server's timeout ended; ``signal`` then names
    the signal (``"SIGKILL"``). ``duration`` is in seconds, by the server's clock where it tells, else by ours.
    """

    id: Optional[str] = None
    logs: ExecutionLogs = field(default_factory=ExecutionLogs)
    results: List[ExecutionResult] = field(default_factory=list)
    error: Optional[ExecutionError] = None
    complete: Optional[ExecutionComplete] = None
    execution_count: Optional[int] = None
    exit_code: Optional[int] = None
    signal: Optional[str] = None
    timed_out: bool = False
    truncated: bool = False
    duration: Optional[float] = None
    #: Whether this server's texts keep their line ends: then they are concatenated, else each is a line.
    keeps_line_ends: bool = field(default=False, repr=False)

    @property
    def stdout(self) -> str:
        """All standard output as text."""
        return self.logs.stdout.text(self.keeps_line_ends)

    @property
    def stderr(self) -> str:
        """All error output as text."""
        return self.logs.stderr.text(self.keeps_line_ends)

    @property
    def text(self) -> str:
        """The main result's plain text, where there is a result; else ``stdout``."""
        for result in reversed(self.results):
            if result.text:
                return result.text
        return self.stdout

    @property
    def ok(self) -> bool:
        """Whether it ended, and without an error."""
        return self.error is None and self.complete is not None

    @property
    def exitCode(self) -> Optional[int]:
        """``exit_code`` under the name that the API's documents use."""
        return self.exit_code

    def check(self) -> Execution:
        """Return this execution if it is ``ok``; raise ``CommandError``, with the end of its output, if not."""
        if self.ok:
            return self
        if self.timed_out:
            raise CommandTimeoutError("the command ran out of time" + self._last_words(), execution=self)
        raise CommandError(self._failure() + self._last_words(), execution=self)

    @classmethod
    def from_events(cls, events: Iterable[ServerEvent]) -> Execution:
        """Build what the events of a command or of code say; raises ``ApiError`` for a late error object among them.

        All of them count, as they do for code; of a command that is under way nothing changes the first result.
        """
        fold = Fold(drains=True)
        fold.feed(list(events))
        fold.raise_for_failure()
        fold.settle()
        return fold.execution

    def _failure(self) -> str:
        if self.error is None:
            return "the command's end is not known"
        if self.signal:
            return f"the command was ended by {self.signal}"
        if self.exit_code is not None:
            return f"the command exited with {self.exit_code}"
        return f"the run failed with {self.error.name}: {self.error.value}"

    def _last_words(self) -> str:
        words = self.stderr.strip() or self.stdout.strip()
        return f"; its last output: {words[-500:]!r}" if words else ""

    def __repr__(self) -> str:
        end = "timed out" if self.timed_out else self.signal or f"exit_code={self.exit_code}"
        if self.error is None and self.complete is None:
            end = "unfinished"
        return f"<Execution {self.id or '-'} {end}, stdout={_start(self.stdout)}>"

    def _repr_html_(self) -> str:
        from .notebook import execution_html

        return execution_html(self)


class Fold:
    """Builds an ``Execution`` from events; keeps no event.

    ``drains`` says that events which follow the terminal one count too, as those of ``/code`` do; elsewhere only output
    does then, and nothing changes the result.
    """

    def __init__(
        self,
        *,
        has_exit_code: bool = True,
        concatenates: bool = False,
        drains: bool = False,
        capture: bool = True,
        max_output: Optional[int] = None,
        timeout: Optional[float] = None,
    ) -> None:
        self.execution = Execution(keeps_line_ends=concatenates)
        if max_output is not None:
            self.execution.logs = ExecutionLogs(MessageLog(max_output), MessageLog(max_output))
        #: A late {"code","message"} object: the run failed, and this is all the server says.
        self.failure: Optional[Tuple[Optional[str], str]] = None
        self.saw_event = False
        self.drains = drains
        self._has_exit_code = has_exit_code
        self._capture = capture
        self._timeout = timeout
        #: Monotonic time from before the request; None where nobody timed it.
        self.started: Optional[float] = None
        self._init_at: Optional[int] = None

    @property
    def ended(self) -> bool:
        """Whether a terminal event came; nothing takes the result away after that."""
        return self.execution.error is not None or self.execution.complete is not None

    def feed(self, decoded: Sequence[Decoded]) -> None:
        """Take decoded events, in order; none behind a late error object."""
        if decoded:
            self.saw_event = True
        for item in decoded:
            if self.failure is not None:
                return
            if isinstance(item, OutputRun):
                self._output(item.type, item.texts, item.times)
            elif item.type == "stdout" or item.type == "stderr":
                self._output(item.type, [item.text], [_NO_TIME if item.timestamp is None else item.timestamp])
            elif self.drains or not self.ended:
                self._take(item)

    def _output(self, kind: str, texts: List[str], times: List[int]) -> None:
        logs, execution = self.execution.logs, self.execution
        if not execution.keeps_line_ends:
            execution.keeps_line_ends = any(text[-1:] in ("\n", "\r") and len(text) > 1 for text in texts)
        if self._capture:
            log = logs.stdout if kind == "stdout" else logs.stderr
            log.extend(texts, times)
            if log.dropped:
                execution.truncated = True

    def _take(self, event: ServerEvent) -> None:
        execution, kind = self.execution, event.type
        if kind == "init":
            execution.id = event.text or None
            self._init_at = event.timestamp
        elif kind == "error":
            execution.error = event.error or ExecutionError("", event.text)
            self._exit(execution.error, event.timestamp)
        elif kind == "execution_complete":
            spent = event.execution_time or 0
            execution.complete = ExecutionComplete(event.timestamp, spent)
            if execution.error is None:
                execution.duration = spent / 1000.0
                if self._has_exit_code:
                    execution.exit_code = 0
        elif kind == "result":
            execution.results.append(ExecutionResult.from_event(event))
        elif kind == "execution_count":
            execution.execution_count = event.execution_count
        elif not kind and not self.ended:
            self._late_object(event.raw)

    def _exit(self, error: ExecutionError, stamp: Optional[int]) -> None:
        execution = self.execution
        elapsed = None if self.started is None else time.monotonic() - self.started
        by_server = None if stamp is None or self._init_at is None else (stamp - self._init_at) / 1000.0
        execution.duration = by_server if by_server is not None else elapsed
        execution.exit_code = None
        if self._has_exit_code and self._timeout is not None and error.name == "RuntimeError":
            # How an isolated run says that its timeout fired.
            execution.timed_out = "deadline exceeded" in error.value
        if (
            not self._has_exit_code
            or error.name not in ("CommandExecError", "ExitError")
            or not _CODE.match(error.value)
        ):
            return
        execution.exit_code = int(error.value)
        if execution.exit_code == -1:
            execution.signal = _signal(error.traceback)
        if execution.signal == "SIGKILL" and self._timeout is not None:
            execution.timed_out = (elapsed is not None and elapsed >= self._timeout) or (
                by_server is not None and by_server >= self._timeout - 0.05
            )

    def _late_object(self, raw: RawEvent) -> None:
        if "code" not in raw and "message" not in raw and not isinstance(raw.get("error"), str):
            raise ProtocolError(f"the event stream holds an object that is no event: keys {sorted(map(str, raw))[:8]}")
        code, message = raw.get("code"), raw.get("message") or raw.get("error") or ""
        self.failure = (code if isinstance(code, str) and code else None, str(message))

    def raise_for_failure(self, action: str = "run", request_id: Optional[str] = None) -> None:
        """Raise what a late error object says; nothing where there was none."""
        if self.failure is None:
            return
        code, message = self.failure
        self.settle()
        if self._timeout is not None and re.search(r"timeout after|deadline exceeded", message):
            self.execution.timed_out = True
            raise CommandTimeoutError(
                f"could not {action}: the server ended it at its timeout: {message}",
                execution=self.execution,
                code=code,
            )
        # The stream's status was 200: the error itself has none, so its words decide.
        status = 404 if "not found" in message else 409 if "is busy" in message else 500
        error: ApiError = api_error_class(status)(
            f"could not {action}: {code or 'error'}: {message}",
            code=code,
            request_id=request_id,
            status_code=200,
        )
        error.execution = self.execution
        raise error

    def settle(self) -> None:
        """No more events will come."""
        self.execution.logs.stdout.settle()
        self.execution.logs.stderr.settle()


def _signal(traceback: List[str]) -> Optional[str]:
    for line in traceback:
        if line.startswith("signal: "):
            words = line[len("signal: ") :].replace(" (core dumped)", "").strip().lower()
            return _SIGNALS.get(words) or ("SIG" + words.split()[-1].upper() if words else None)
    return None


class Run:
    """What a service tells a stream of its run: how it is called, ended and looked up."""

    def __init__(
        self,
        action: str,
        fold: Fold,
        *,
        interrupt: Optional[Callable[[str, float], None]] = None,
        look: Optional[Callable[[str], str]] = None,
        timeout: Optional[float] = None,
        grace: float = TIMEOUT_GRACE,
    ) -> None:
        self.action = action
        self.fold = fold
        #: Ends the remote run by its id, waiting at most so many seconds; None where only the connection can.
        self.interrupt = interrupt
        #: One look at the state of a command, as words for an error; None where the run has no command's id.
        self.look = look
        self.timeout = timeout
        #: Seconds beyond ``timeout`` before we end it; 0 where the server knows of no timeout.
        self.grace = grace

    def interrupt_quietly(self, run_id: Optional[str]) -> None:
        """Interrupt it, if its id is known; what goes wrong here hides nothing."""
        if self.interrupt is not None and run_id is not None:
            with suppress(SandboxError):
                self.interrupt(run_id, INTERRUPT_SECONDS)


#: Told of each execution that begins; the pytest plugin's reports show the last one.
observers: List[Callable[[Execution], None]] = []


def open_stream(
    transport: Transport,
    plane: Plane,
    path: str,
    body: Dict[str, Any],
    run: Run,
    *,
    idle: Optional[float],
    first_byte: Optional[float] = None,
) -> ExecutionStream:
    """POST ``body`` and return the stream of its run. ``idle`` and ``first_byte`` are the longest silences, in
    seconds.
    """
    started = time.monotonic()
    deadline = None if run.timeout is None else started + run.timeout + run.grace
    run.fold.started = started
    for observe in observers:
        observe(run.fold.execution)
    opening = None if run.interrupt is None else Opening(_run_id, INTERRUPT_SECONDS)
    sent = False
    try:
        plane.resolve(deadline)  # looks the address up: what fails here has sent nothing
        sent = True
        answer = transport.stream(
            plane,
            "POST",
            path,
            action=run.action,
            json=body,
            headers={"Accept": "text/event-stream", "Cache-Control": "no-cache"},
            idle=first_byte or idle,
            deadline=deadline,
            opening=opening,
        )
        answer.limit.idle = idle
        return ExecutionStream(answer, run, idle)
    except KeyboardInterrupt:
        if opening is not None:
            run.interrupt_quietly(opening.hear_out())
        raise
    except ConnectError:
        raise
    except TransportError as cause:
        # The request left, so the run may be under way.
        if deadline is not None and time.monotonic() >= deadline:
            run.fold.execution.timed_out = True
            late = "It had not begun by then; it may yet, and could not be interrupted (is the sandbox paused?)"
            raise CommandTimeoutError(
                f"{cause} ({run.timeout:g} s). {late if sent else 'It was not sent'}", execution=run.fold.execution
            ) from cause
        if not sent:
            raise
        raise StreamInterruptedError(
            f"{cause}; it may be running all the same",
            execution=run.fold.execution,
            request_id=cause.request_id,
        ) from cause


def _run_id(content: bytes) -> Optional[str]:
    """The id that the first events tell; None where it is not among them."""
    events = each_event(EventDecoder().feed(content))
    return next((event.text for event in events if event.type == "init"), None) or None


class ExecutionStream:
    """A run that is under way: iterate it for its events as they come.

    ``execution`` grows as you read, and is whole when the iteration ends. An iteration that ends without an exception
    has seen the run's end. It raises ``StreamInterruptedError`` where the connection broke first,
    ``CommandTimeoutError`` where the run ran out of time (both carry the execution so far), ``ApiError`` where the
    server said so.

    As a context manager it gives the connection back; an exception that leaves the block interrupts the remote run.
    Closing early otherwise leaves a command running (its id finds it again); a session run ends with its connection.
    """

    def __init__(self, body: Body, run: Run, idle: Optional[float]) -> None:
        self._body = body
        self._run = run
        self._idle = idle
        self._decoder = EventDecoder()
        self._ready: Deque[Decoded] = deque()  # read, and not yet iterated over
        self._events: Iterator[ServerEvent] = iter(())  # the first of them, one by one
        self._failure: Optional[SandboxError] = None  # what came behind events that are still to be seen
        self._over = False  # nothing more is read
        self._told = False  # the run's end, or why it is not known

    @property
    def execution(self) -> Execution:
        """What the events read so far say."""
        return self._run.fold.execution

    def __iter__(self) -> Iterator[ServerEvent]:
        return self

    def __next__(self) -> ServerEvent:
        while True:
            for event in self._events:
                return event
            while not self._ready:
                batch = self.next_batch()
                if batch is None:
                    raise StopIteration
                self._ready.extend(batch)
            self._events = each_event([self._ready.popleft()])

    def lines(self) -> Iterator[str]:
        """Yield the text of both streams, line by line as it comes, without line ends."""
        pending: Dict[str, List[str]] = {"stdout": [], "stderr": []}  # the pieces of a line whose end has not come
        for event in self:
            if event.type not in pending or not event.text:
                continue
            text, pieces = event.text, pending[event.type]
            if not self.execution.keeps_line_ends:
                yield "" if text == "\n" else text
                continue
            half_an_end = bool(pieces) and pieces[-1].endswith("\r")  # or a whole one: the next character tells
            if half_an_end or "\n" in text or "\r" in text:
                *whole, text = _LINE_END.split("".join([*pieces, text]))
                yield from whole
                pieces.clear()
            if text:
                pieces.append(text)
        for pieces in pending.values():
            if pieces:
                rest = "".join(pieces)
                yield rest[:-1] if rest.endswith("\r") else rest

    def interrupt(self) -> None:
        """Stop the remote run (SIGTERM, and SIGKILL 3 s later); go on reading to see how it ended.

        A session run has no id of its own: there this closes the connection, which ends the shell and leaves its
        children.
        """
        if self._run.interrupt is None:
            self.close()
            return
        if self.execution.id is None:
            self._read_init()
        if self.execution.id is not None and not self._run.fold.ended:
            self._run.interrupt(self.execution.id, 10.0)

    def close(self) -> None:
        """Give the connection up; idempotent, and allowed from another thread. It does not stop the remote command."""
        self._over = True
        self._body.end()
        self._body.close()

    def __enter__(self) -> ExecutionStream:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None and not self._over:
            self._stop()
        self.close()

    def __del__(self) -> None:
        body = getattr(self, "_body", None)  # a Ctrl-C may come before it has one
        if body is not None:
            body.limit.forget_opening()  # it holds the socket of a stream that was dropped unread

    # -- inside -----------------------------------------------------------------------------------------------------

    def read_all(self, watch: Optional[Callable[[List[Decoded]], None]] = None) -> Execution:
        """Read to the end; ``watch`` sees all events. What it raises stops the remote run and leaves as it is."""
        while True:
            batch = self.next_batch()
            if batch is None:
                return self.execution
            if watch is not None:
                try:
                    watch(batch)
                except BaseException:
                    self._stop()
                    self.close()
                    raise

    def _give_up(self) -> None:
        """At a Ctrl-C: stop the remote run, and read no more. What was being read is in no state to be read on."""
        self._told = True
        opening = self._body.limit.opening
        if opening is not None and self._body.is_ours:
            self.execution.id = opening.hear_out()
            self._run.interrupt_quietly(self.execution.id)
        else:
            self._stop()
        self.close()

    def next_batch(self) -> Optional[List[Decoded]]:
        """The events that came together; None when the run is over."""
        if self._told:
            return None
        if self._over:
            raise ClosedError(f"could not {self._run.action}: its stream is closed, and its end was not seen")
        try:
            return self._read_batch()
        except KeyboardInterrupt:
            self._give_up()
            raise
        except TransportError as cause:
            if self._run.fold.ended:
                return self._end()
            self._told = True
            raise self._broken(cause) from cause
        except (ProtocolError, ApiError, CommandError) as error:
            if isinstance(error, ProtocolError) and self._run.fold.ended:
                return self._end()
            self._told = True
            error.execution = self.execution
            if isinstance(error, ProtocolError):
                error.args = (f"could not {self._run.action}: {error}",)
                error.request_id = error.request_id or self._body.request_id
                self._stop()
            self._run.fold.settle()
            self.close()
            raise

    def _read_batch(self) -> Optional[List[Decoded]]:
        fold, decoder = self._run.fold, self._decoder
        if self._failure is not None:
            raise self._failure
        if fold.ended and not fold.drains:
            return self._end()
        block = self._body.read()
        events = decoder.feed(block) if block else decoder.finish()
        try:
            fold.feed(events)
            if self._body.limit.opening is not None and (self.execution.id is not None or fold.ended):
                self._body.limit.forget_opening()
            if not decoder.cut:
                decoder.raise_for_rest()
            fold.raise_for_failure(self._run.action, self._body.request_id)
            if not block and not fold.ended:
                raise TransportError("the stream ended without a result" if fold.saw_event else "the answer was empty")
        except SandboxError as error:
            if not fold.ended:
                if not events:
                    raise
                self._failure = error
        if fold.ended and not fold.drains:
            self._take_tail(events)
        return events if block or events else self._end()

    def _take_tail(self, events: List[Decoded]) -> None:
        """The result is in. What has already arrived is taken; nothing is waited for, and nothing can go wrong any
        more.
        """
        try:
            more = self._decoder.feed(self._body.finish_within(_TAIL_SECONDS))
            self._run.fold.feed(more)
            events.extend(more)
        except SandboxError:
            pass

    def _end(self) -> Optional[List[Decoded]]:
        self._over = self._told = True
        self._body.close()
        self._run.fold.settle()
        if self.execution.timed_out:
            raise CommandTimeoutError(
                f"could not {self._run.action}: it ran out of its {self._run.timeout:g} s and was killed"
                + self.execution._last_words(),
                execution=self.execution,
            )
        return None

    def _broken(self, cause: TransportError) -> SandboxError:
        """The error for a stream that ended, or fell silent, before its result."""
        fold, run = self._run.fold, self._run
        deadline = self._body.limit.deadline
        late = run.timeout is not None and deadline is not None and time.monotonic() >= deadline
        if late:
            self._stop(_KERNEL_SECONDS)
        fold.settle()
        self.close()
        if late:
            self.execution.timed_out = True
            return CommandTimeoutError(
                f"could not {run.action}: it did not end within its {run.timeout:g} s, and was interrupted"
                + self.execution._last_words(),
                execution=self.execution,
            )
        # Only commands can be looked up: a session's run tells the session's id, a kernel's that of its context.
        command_id = self.execution.id if run.look is not None else None
        state = ""
        if run.look is not None and command_id is not None:
            state = "; " + run.look(command_id)
        why = str(cause).replace(f"could not {run.action}: ", "", 1)
        if isinstance(cause, TimeoutError) and self._idle is not None:
            why = f"nothing came for {self._idle:g} s (idle_timeout=; the daemon pings every 3 s)"
        return StreamInterruptedError(
            f"could not {run.action}: {why}; its result is not known{state}",
            execution=self.execution,
            command_id=command_id,
            request_id=self._body.request_id,
        )

    def _stop(self, kernel_seconds: float = INTERRUPT_SECONDS) -> None:
        """End the remote run as well as that can be done within a second; what goes wrong here hides nothing.

        A kernel that was interrupted gets ``kernel_seconds`` to come to its end.
        """
        if self._over or self._run.fold.ended or self._run.interrupt is None or not self._body.is_ours:
            return
        try:
            if self.execution.id is None:
                self._read_init()
            if self.execution.id is not None:
                self._run.interrupt(self.execution.id, INTERRUPT_SECONDS)
                if self._run.fold.drains:
                    self._read_rest(kernel_seconds)
        except SandboxError:
            pass

    def _read_rest(self, seconds: float) -> None:
        """Read to the end: until then a kernel is busy, and refuses other code."""
        self._body.limit.deadline = time.monotonic() + seconds
        block = self._body.read()
        while block:
            self._run.fold.feed(self._decoder.feed(block))
            block = self._body.read()

    def _read_init(self) -> None:
        """Read on for up to a second until the run's id is known."""
        limit = self._body.limit
        deadline, limit.deadline = limit.deadline, time.monotonic() + INTERRUPT_SECONDS
        try:
            while self.execution.id is None and not self._over:
                block = self._body.read()
                if not block:
                    return
                events = self._decoder.feed(block)
                self._run.fold.feed(events)
                self._ready.extend(events)
        finally:
            limit.deadline = deadline
