"""What a run tells when its stream is cut, falls silent, lies or goes on for too long.

Each case is read in both ways that the transport has: over its own connections, and over a user's ``Session``.
"""

# ruff: noqa: SIM117 (a server, then what is tested: nested, they read in that order)
from __future__ import annotations

import threading
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List

import pytest
import requests

from opensandbox_sync import (
    ApiError,
    ClosedError,
    CommandTimeoutError,
    ConflictError,
    Execution,
    NotFoundError,
    ProtocolError,
    ServerError,
    StreamInterruptedError,
)
from opensandbox_sync.sse import ServerEvent, iter_events

from .scripted import RESET, promptly, scripted
from .wire import (
    COMMAND_ID,
    HANG,
    LAST_CHUNK,
    STREAM_HEAD,
    Request,
    chunk,
    complete,
    cut,
    failed,
    frame,
    init,
    refusal,
    stdout,
    stream,
    whole,
)

CLOSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
PING = frame("ping", text="pong", timestamp=1002)
LATE_OBJECT = b'{"code":"RUNTIME_ERROR","message":"error running in session. the pipe broke"}'


@pytest.fixture(params=["our connections", "a user's session"])
def wire(request: pytest.FixtureRequest) -> Iterator[Dict[str, Any]]:
    """Settings of a client for each of the two ways to read."""
    if request.param == "our connections":
        yield {}
        return
    with requests.Session() as session:
        yield {"session": session}


def closing(*pieces: bytes) -> List[bytes]:
    """An answer that ends where its connection ends."""
    return [CLOSE_HEAD, *pieces, b""]


def framed(body: bytes, framing: str) -> bytes:
    if framing == "close-delimited":
        return CLOSE_HEAD + body
    return STREAM_HEAD + b"".join(chunk(part + b"\n\n") for part in body.split(b"\n\n") if part) + LAST_CHUNK


@pytest.mark.parametrize("framing", ["chunked", "close-delimited"])
def test_a_stream_cut_at_any_byte_is_a_success_only_behind_its_terminal_frame(
    wire: Dict[str, Any], framing: str
) -> None:
    body = init() + PING + stdout("eins") + frame("stderr", text="zwei", timestamp=1001) + stdout("drei") + complete()
    answer = framed(body, framing)
    perhaps_in = answer.index(b"}", answer.index(b'{"type": "execution_complete"')) + 1
    surely_in = answer.index(complete()) + len(complete() + b"\r\n")
    at = 0

    def surely(event: bytes, at: int) -> bool:
        """Whether ``event`` came, with its line ends and its chunk's: before those it may be taken, or not."""
        return event in answer[: max(0, at - 2)]

    with scripted({"POST /command": lambda request: [answer[:at], b""]}, **wire) as (sandbox, server):
        for at in range(1, len(answer), 3 if wire else 1):  # the session's reader is slow, and not ours
            try:
                execution = sandbox.commands.run("x")
            except StreamInterruptedError as error:
                assert at < surely_in, f"the result was lost at byte {at}"
                known = error.execution
                assert known is not None and known.exit_code is None and not known.ok
                assert error.command_id == known.id == (COMMAND_ID if surely(init(), at) else known.id)
                for text in ("eins", "drei"):
                    assert text in known.stdout or not surely(stdout(text), at)
            else:
                assert at >= perhaps_in, f"a stream cut at byte {at} of {len(answer)} was a success"
                assert (execution.stdout, execution.stderr) == ("eins\ndrei", "zwei")
        assert len(server.asked("POST", "/command")) >= len(body) // 3


@pytest.mark.parametrize("head", [STREAM_HEAD + LAST_CHUNK, CLOSE_HEAD, whole()[0]])
def test_an_empty_answer_is_no_success(wire: Dict[str, Any], head: bytes) -> None:
    with scripted({"POST /command": [head, b""]}, **wire) as (sandbox, _), pytest.raises(
        StreamInterruptedError, match="empty"
    ):
        sandbox.commands.run("x")


@pytest.mark.parametrize(
    "state, words",
    [
        ({"running": True}, "still running"),
        ({"running": False, "exit_code": 4}, "exit code 4"),
    ],
)
def test_a_cut_stream_tells_what_became_of_the_command(wire: Dict[str, Any], state: Dict[str, Any], words: str) -> None:
    table = {
        "POST /command": cut(stream(init(), stdout("half"))),
        f"GET /command/status/{COMMAND_ID}": whole(200, {"id": COMMAND_ID, **state}),
    }
    with scripted(table, **wire) as (sandbox, server):
        with pytest.raises(StreamInterruptedError, match=words):
            sandbox.commands.run("x")
        assert len(server.asked("GET", "/command/status/" + COMMAND_ID)) == 1


AFTER: Dict[str, Callable[[], Iterable[Any]]] = {
    "a reset": lambda: [RESET],
    "no last chunk": lambda: [b""],
    "a ping and silence": lambda: [chunk(PING), HANG],
    "silence": lambda: [HANG],
    "a frame that is no JSON": lambda: [chunk(b"<html>\n\n"), LAST_CHUNK],
    "a chunk that lies about its length": lambda: [b"ffff\r\nshort\r\n", b""],
    "no chunk at all": lambda: [b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b""],
}


@pytest.mark.parametrize("what", AFTER)
@pytest.mark.parametrize("exit_code", [0, 3])
def test_nothing_after_the_terminal_event_takes_the_result_away_or_delays_it(
    wire: Dict[str, Any], what: str, exit_code: int
) -> None:
    end = complete() if exit_code == 0 else failed(str(exit_code))
    pieces = [*cut(stream(init(), stdout("out"), end))[:-1], *AFTER[what]()]
    with scripted({"POST /command": pieces}, **wire) as (sandbox, _), promptly():
        execution = sandbox.commands.run("x")
    assert (execution.stdout, execution.exit_code) == ("out", exit_code)


def test_output_that_arrived_with_the_terminal_event_is_kept() -> None:
    # Only our own connections can tell what has arrived; no daemon writes this for a command.
    at_once = b"".join(map(chunk, [init(), stdout("out"), complete(), stdout("late")]))
    with scripted({"POST /command": [STREAM_HEAD + at_once, HANG]}) as (sandbox, _), promptly():
        assert sandbox.commands.run("x").stdout == "out\nlate"


@pytest.mark.parametrize("before", [[], [init(), stdout("half")]])
def test_a_late_error_object_is_raised_with_what_came_before_it(wire: Dict[str, Any], before: List[bytes]) -> None:
    with scripted({"POST /command": stream(*before, LATE_OBJECT)}, **wire) as (sandbox, _):
        with pytest.raises(ApiError, match="the pipe broke") as caught:
            sandbox.commands.run("x")
    assert caught.value.code == "RUNTIME_ERROR"
    assert caught.value.execution is not None
    assert caught.value.execution.stdout == ("half" if before else "")


@pytest.mark.parametrize(
    "message, kind", [("session not found", NotFoundError), ("session is busy", ConflictError), ("odd", ServerError)]
)
def test_the_words_of_a_late_error_object_choose_its_class(message: str, kind: type) -> None:
    late = b'{"code":"RUNTIME_ERROR","message":"%s"}' % message.encode()
    with scripted({"POST /command": stream(init(), late)}) as (sandbox, _), pytest.raises(kind):
        sandbox.commands.run("x")


@pytest.mark.parametrize("timeout, kind", [(None, ServerError), (5, CommandTimeoutError)])
def test_a_session_run_that_the_server_ended_late_is_an_error_with_what_came(
    wire: Dict[str, Any], timeout: Any, kind: type
) -> None:
    late = b'{"code":"RUNTIME_ERROR","message":"error running in session. timeout after 5s"}'
    with scripted({"POST /session/s1/run": stream(init("s1"), stdout("half"), late)}, **wire) as (sandbox, server):
        with pytest.raises(kind, match="timeout after 5s") as caught:
            sandbox.sessions.get("s1").run("x", timeout=timeout)
        assert not server.asked("DELETE", ""), "a session's id is not a command's: interrupting it would delete it"
    assert caught.value.execution.stdout == "half"  # type: ignore[attr-defined]


def test_a_session_run_that_the_server_forgets_ends_at_its_timeout_and_leaves_the_session(wire: Dict[str, Any]) -> None:
    answer = stream(init("s1"), stdout("half"), HANG)
    with scripted({"POST /session/s1/run": answer}, **wire) as (sandbox, server):
        with promptly(), pytest.raises(CommandTimeoutError, match="half"):
            sandbox.sessions.get("s1").run("x", timeout=0.1)
        assert not server.asked("DELETE", "")


def test_a_cut_session_run_has_no_commands_id(wire: Dict[str, Any]) -> None:
    with scripted({"POST /session/s1/run": cut(stream(init("s1"), stdout("half")))}, **wire) as (sandbox, server):
        with pytest.raises(StreamInterruptedError) as caught:
            sandbox.sessions.get("s1").run("x")
        assert not server.asked("GET", "s1")
    assert caught.value.command_id is None
    assert caught.value.execution is not None and caught.value.execution.stdout == "half"


def test_code_is_read_to_its_end_because_output_may_follow_its_result(wire: Dict[str, Any]) -> None:
    answer = stream(init("c1"), frame("result", results={"text/plain": "42"}), complete(), stdout("late\n"))
    with scripted({"POST /code": answer}, **wire) as (sandbox, _):
        execution = sandbox.code.run("42")
    assert (execution.text, execution.stdout, execution.exit_code) == ("42", "late\n", None)


@pytest.mark.parametrize("what", ["a reset", "no last chunk"])
def test_code_whose_stream_breaks_after_its_result_keeps_it(wire: Dict[str, Any], what: str) -> None:
    answer = [*stream(init("c1"), stdout("out\n"), complete())[:-1], *AFTER[what]()]
    with scripted({"POST /code": answer}, **wire) as (sandbox, _):
        execution = sandbox.code.run("42")
    assert execution.ok and execution.stdout == "out\n"


def test_silence_before_the_first_byte_ends_at_the_idle_timeout(wire: Dict[str, Any]) -> None:
    with scripted({"POST /command": [HANG]}, idle_timeout=0.2, **wire) as (sandbox, server):
        with promptly(), pytest.raises(StreamInterruptedError, match="may be running"):
            sandbox.commands.run("x")
        assert len(server.asked("POST", "/command")) == 1


def test_silence_after_init_ends_at_the_idle_timeout_and_keeps_what_came(wire: Dict[str, Any]) -> None:
    answer = stream(init(), stdout("half"), HANG)
    with scripted({"POST /command": answer}, idle_timeout=1, **wire) as (sandbox, _):
        with promptly(), pytest.raises(StreamInterruptedError, match="idle_timeout") as caught:
            sandbox.commands.run("x")
    assert caught.value.command_id == COMMAND_ID
    assert caught.value.execution is not None and caught.value.execution.stdout == "half"


def test_pings_keep_a_silent_command_alive_beyond_the_idle_timeout(wire: Dict[str, Any]) -> None:
    def respond(request: Request) -> Iterator[bytes]:
        yield STREAM_HEAD + chunk(init())
        for _ in range(40):  # more than twice the idle timeout
            time.sleep(0.03)
            yield chunk(PING)
        yield chunk(complete()) + LAST_CHUNK

    with scripted({"POST /command": respond}, idle_timeout=0.5, **wire) as (sandbox, _):
        assert sandbox.commands.run("x").exit_code == 0


def test_a_slow_reader_is_not_taken_for_a_silent_server(wire: Dict[str, Any]) -> None:
    def respond(request: Request) -> Iterator[bytes]:
        yield STREAM_HEAD + chunk(init())
        for number in range(3):
            yield chunk(stdout(str(number)))
        yield chunk(complete()) + LAST_CHUNK

    with scripted({"POST /command": respond}, idle_timeout=0.3, **wire) as (sandbox, _):
        with sandbox.commands.stream("x") as events:
            for _ in events:
                time.sleep(0.31)
            assert events.execution.stdout == "0\n1\n2"


@pytest.mark.parametrize("pings", [False, True])
def test_a_server_that_ignores_the_timeout_is_not_waited_for(wire: Dict[str, Any], pings: bool) -> None:
    def respond(request: Request) -> Iterator[Any]:
        yield STREAM_HEAD + chunk(init()) + chunk(stdout("half"))
        while pings:
            time.sleep(0.05)
            yield chunk(PING)
        yield HANG

    with scripted({"POST /command": respond}, **wire) as (sandbox, server):
        with promptly(), pytest.raises(CommandTimeoutError, match="half") as caught:
            sandbox.commands.run("x", timeout=1)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.execution is not None
        assert (caught.value.execution.stdout, caught.value.execution.timed_out) == ("half", True)
        assert [r.query for r in server.asked("DELETE", "/command")] == [{"id": COMMAND_ID}]


def test_a_timeout_is_sent_in_whole_milliseconds_rounded_up(wire: Dict[str, Any]) -> None:
    with scripted({"POST /command": stream(init(), complete())}, **wire) as (sandbox, server):
        sandbox.commands.run("x", timeout=1.2341)
        assert server.asked("POST", "/command")[0].json["timeout"] == 1235


@pytest.mark.parametrize("timeout", [None, 60])
def test_an_early_sigkill_is_a_signal_and_no_timeout(wire: Dict[str, Any], timeout: Any) -> None:
    answer = stream(init(), stdout("half"), failed("-1", "signal: killed"))
    with scripted({"POST /command": answer}, **wire) as (sandbox, _):
        execution = sandbox.commands.run("x", timeout=timeout)
    assert (execution.exit_code, execution.signal, execution.timed_out) == (-1, "SIGKILL", False)


def test_a_sigkill_at_the_servers_timeout_is_a_timeout(wire: Dict[str, Any]) -> None:
    # By the server's own stamps: 60 s lie between init (1000) and the end.
    answer = stream(init(), stdout("half"), failed("-1", "signal: killed", timestamp=60_980))
    with scripted({"POST /command": answer}, **wire) as (sandbox, _), pytest.raises(CommandTimeoutError) as caught:
        sandbox.commands.run("x", timeout=60)
    assert caught.value.execution is not None and caught.value.execution.stdout == "half"


@pytest.mark.parametrize("bad", [b"{oops}\n\n", b"<html>\n\n", b"[1]\n\n", b'{"type":"stdout","text":5}\n\n'])
def test_a_malformed_frame_is_an_error_and_stops_the_command(wire: Dict[str, Any], bad: bytes) -> None:
    answer = stream(init(), stdout("half"), bad, stdout("more"), complete())
    with scripted({"POST /command": answer}, **wire) as (sandbox, server):
        with pytest.raises(ProtocolError) as caught:
            sandbox.commands.run("x")
        assert len(server.asked("DELETE", "/command")) == 1
    assert caught.value.execution is not None
    assert (caught.value.execution.id, caught.value.execution.stdout) == (COMMAND_ID, "half")


def test_frames_need_no_timestamp(wire: Dict[str, Any]) -> None:
    answer = stream(frame("init", text=COMMAND_ID), frame("stdout", text="a"), frame("execution_complete"))
    with scripted({"POST /command": answer}, **wire) as (sandbox, _):
        execution = sandbox.commands.run("x")
    assert (execution.stdout, execution.exit_code, execution.logs.stdout[0].timestamp) == ("a", 0, None)


def test_an_unknown_event_type_is_seen_and_changes_nothing(wire: Dict[str, Any]) -> None:
    seen: List[ServerEvent] = []
    answer = stream(init(), frame("weather", text="rain", wind=3), stdout("a"), complete())
    with scripted({"POST /command": answer}, **wire) as (sandbox, _):
        execution = sandbox.commands.run("x", on_event=seen.append)
    assert (execution.stdout, execution.exit_code) == ("a", 0)
    assert [(e.type, e.text, e.raw.get("wind")) for e in seen][1] == ("weather", "rain", 3)


@pytest.mark.parametrize(
    "answer, words",
    [
        (refusal(500, "RUNTIME_ERROR", "no shell here"), "RUNTIME_ERROR: no shell here"),
        (whole(502, b"<html><h1>Bad Gateway", {"Content-Type": "text/html"}), "HTML page"),
        (whole(503, b""), "answered 503"),
    ],
)
def test_a_refusal_is_told_in_the_servers_words_and_sent_once(wire: Dict[str, Any], answer: Any, words: str) -> None:
    with scripted({"POST /command": answer}, **wire) as (sandbox, server):
        with pytest.raises(ServerError, match=words):
            sandbox.commands.run("x")
        assert len(server.asked("POST", "/command")) == 1


def test_a_page_with_status_200_is_a_protocol_error(wire: Dict[str, Any]) -> None:
    with scripted({"POST /command": whole(200, b"<html>hello</html>")}, **wire) as (sandbox, _):
        with pytest.raises(ProtocolError, match="html"):
            sandbox.commands.run("x")


STANDARD = (
    b"\xef\xbb\xbf: a comment\r\n\r\n"
    + b"id: 1\r\nretry: 5\r\ndata: " + init().strip() + b"\r\n\r\n"
    + b"data: " + stdout("nel \x85 ls \u2028 ps \u2029").strip() + b"\r\n\r\n"
    + b'event: stdout\r\ndata: {"text":\r\ndata: "two lines"}\r\n\r\n'
    + b"data:" + complete().strip() + b"\r\n\r\n"
)  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_standard_framing_is_read_however_it_is_cut(wire: Dict[str, Any], size: int) -> None:
    pieces = [STANDARD[at : at + size] for at in range(0, len(STANDARD), size)]
    with scripted({"POST /command": stream(*pieces)}, **wire) as (sandbox, _):
        execution = sandbox.commands.run("x")
    assert execution.stdout == "nel \x85 ls \u2028 ps \u2029\ntwo lines"


@pytest.mark.parametrize("framing", ["chunked", "close-delimited", "bytewise"])
def test_both_ways_to_read_give_the_same_events(wire: Dict[str, Any], framing: str) -> None:
    body = init() + PING + b"".join(stdout(f"{n} é\u2028 {'x' * (n * 37 % 501)}") for n in range(200)) + complete()
    seen: List[ServerEvent] = []
    if framing == "bytewise":
        answer = [
            STREAM_HEAD,
            *(chunk(body[at : at + 1]) for at in range(len(body[:9000]))),
            chunk(body[9000:]),
            LAST_CHUNK,
        ]
    else:
        answer = [framed(body, framing), b""]
    with scripted({"POST /command": answer}, **wire) as (sandbox, _):
        execution = sandbox.commands.run("x", on_event=seen.append)
    expected = list(iter_events([body]))
    assert seen == expected
    assert execution.stdout == Execution.from_events(expected).stdout


def test_twenty_thousand_events_and_a_large_one_are_read_in_linear_time(wire: Dict[str, Any]) -> None:
    large = stdout("y" * 4 * 2**20)
    pieces = [large[at : at + 4096] for at in range(0, len(large), 4096)]
    answer = stream(init(), *map(stdout, map(str, range(20_000))), *pieces, complete())
    with scripted({"POST /command": answer}, **wire) as (sandbox, _), promptly(30):
        execution = sandbox.commands.run("x")
    assert execution.stdout == "\n".join([*map(str, range(20_000)), "y" * 4 * 2**20])


# -- a result is final, and a late error is one, however the bytes are cut ---------------------------------------------


@pytest.mark.parametrize("together", [True, False], ids=["in one chunk", "in chunks of their own"])
def test_a_late_error_object_is_raised_whatever_follows_it(wire: Dict[str, Any], together: bool) -> None:
    events = [init(), stdout("some"), LATE_OBJECT + b"\n\n", stdout("more"), complete()]
    answer = stream(b"".join(events)) if together else stream(*events)
    with scripted({"POST /command": answer}, **wire) as (sandbox, _), pytest.raises(ServerError) as caught:
        sandbox.commands.run("x")
    assert caught.value.execution is not None
    assert (caught.value.execution.stdout, caught.value.execution.exit_code) == ("some", None)


BEHIND = {
    "another end": failed("3"),
    "an odd ping": frame("ping", timestamp="x"),
    "an output that is no text": frame("stdout", text=5),
    "no event": b"nonsense\n\n",
    "a late error object": LATE_OBJECT + b"\n\n",
}


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("watched", [True, False], ids=["watched", "not watched"])
def test_nothing_behind_the_terminal_event_changes_the_result(wire: Dict[str, Any], behind: str, watched: bool) -> None:
    seen: List[ServerEvent] = []
    answer = stream(init() + stdout("out") + complete() + BEHIND[behind])
    with scripted({"POST /command": answer}, **wire) as (sandbox, _):
        execution = sandbox.commands.run("x", on_event=seen.append if watched else None)
    assert (execution.exit_code, execution.ok, execution.stdout) == (0, True, "out")
    assert [event.type for event in seen][:3] == (["init", "stdout", "execution_complete"] if watched else [])


def test_codes_result_stands_when_its_stream_breaks_behind_it(wire: Dict[str, Any]) -> None:
    answer = [STREAM_HEAD, chunk(init() + stdout("42") + complete()), b"no size\r\n", b""]
    with scripted({"POST /code": answer}, **wire) as (sandbox, _):
        assert sandbox.code.run("6 * 7").ok


@pytest.fixture
def skip_ahead(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets the monotonic clock jump, so that nothing has to wait for a deadline."""
    real, ahead = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + ahead[0])

    def skip(seconds: float) -> None:
        ahead[0] += seconds

    return skip


def test_a_result_that_came_in_time_stands_however_slow_its_reader_is(skip_ahead: Callable[[float], None]) -> None:
    sent = threading.Event()

    def respond(request: Request) -> Iterator[Any]:
        yield STREAM_HEAD + chunk(init() + stdout("a\n"))
        yield chunk(stdout("b" * 300_000 + "\n") + complete()) + LAST_CHUNK
        sent.set()

    def busy(_: str) -> None:
        assert sent.wait(20)
        skip_ahead(100)

    with scripted({"POST /command": respond}) as (sandbox, server):
        execution = sandbox.commands.run("x", timeout=5, on_stdout=busy)
        assert (execution.exit_code, len(execution.stdout)) == (0, 300_003)
        assert not server.asked("DELETE", "/command")


def test_output_without_end_does_not_put_off_the_deadline() -> None:
    def respond(request: Request) -> Iterator[Any]:
        yield STREAM_HEAD + chunk(init())
        block = chunk(stdout("y" * 1000) * 100)
        while True:
            yield block

    with scripted({"POST /command": respond}) as (sandbox, server):
        with promptly(), pytest.raises(CommandTimeoutError):
            sandbox.commands.run("yes", timeout=0.01, capture=False)
        assert len(server.asked("DELETE", "/command")) == 1


def test_an_interrupt_before_the_first_event_leaves_the_stream_to_be_read_to_its_end(
    skip_ahead: Callable[[float], None],
) -> None:
    stopped = threading.Event()

    def respond(request: Request) -> Iterator[Any]:
        yield STREAM_HEAD + chunk(init())
        assert stopped.wait(20)
        yield chunk(failed("-1", "signal: terminated")) + LAST_CHUNK

    def stop(request: Request) -> Iterable[Any]:
        stopped.set()
        return whole()

    with scripted({"POST /command": respond, "DELETE /command": stop}) as (sandbox, _):
        with sandbox.commands.stream("x") as events:
            events.interrupt()
            skip_ahead(5)
            assert [event.type for event in events] == ["init", "error"]
        assert events.execution.signal == "SIGTERM"


# -- what those who watch are told -------------------------------------------------------------------------------------


def test_odd_fields_of_what_tells_nothing_disturb_nobody(wire: Dict[str, Any]) -> None:
    odd = [frame("new", error="s", results=[1], timestamp="x", text="kept"), frame("ping", timestamp=1.5)]
    seen: List[ServerEvent] = []
    with scripted({"POST /command": stream(init(), *odd, complete())}, **wire) as (sandbox, _):
        assert sandbox.commands.run("x", on_event=seen.append).ok
    new, ping = seen[1:3]
    assert (new.text, new.error, new.results, new.timestamp, new.raw["error"]) == ("kept", None, None, None, "s")
    assert (ping.type, ping.timestamp) == ("ping", None)


@pytest.mark.parametrize("watched", [True, False], ids=["watched", "not watched"])
def test_an_event_that_cannot_be_meant_is_a_protocol_error_with_what_came_before(
    wire: Dict[str, Any], watched: bool
) -> None:
    answer = stream(init() + stdout("some") + frame("stdout", text=5) + complete())
    texts: List[str] = []
    with scripted({"POST /command": answer}, **wire) as (sandbox, _):
        with pytest.raises(ProtocolError, match="text") as caught:
            sandbox.commands.run("x", on_stdout=texts.append if watched else None)
    assert caught.value.execution is not None and caught.value.execution.stdout == "some"
    assert texts == (["some"] if watched else [])


@pytest.mark.parametrize("capture", [True, False])
def test_lines_are_without_their_ends_also_where_nothing_is_kept(wire: Dict[str, Any], capture: bool) -> None:
    texts = ["one\ntwo\r", "\nthree\r", "four\r\n", "five"]
    answer = stream(init(), *map(stdout, texts), complete())
    with scripted({"POST /command": answer}, **wire) as (sandbox, _):
        with sandbox.commands.stream("x", capture=capture) as events:
            assert list(events.lines()) == ["one", "two", "three", "four", "five"]


def test_a_line_in_many_pieces_is_one_line(wire: Dict[str, Any]) -> None:
    pieces = ["first\n", *["x" * 1000] * 200, "\r", "\nlast\r", "\r", "end"]
    with scripted({"POST /command": stream(init(), *map(stdout, pieces), complete())}, **wire) as (sandbox, _):
        lines = list(sandbox.commands.stream("x").lines())
    assert lines == ["first", "x" * 200_000, "last", "", "end"]


def test_a_stream_that_was_closed_before_its_end_does_not_end_in_peace(wire: Dict[str, Any]) -> None:
    with scripted({"POST /command": stream(init(), stdout("a"), HANG)}, **wire) as (sandbox, _):
        events = sandbox.commands.stream("x")
        next(events)
        events.close()
        with pytest.raises(ClosedError, match="its end was not seen"):
            list(events)


def test_an_error_of_another_call_in_the_block_interrupts_its_command(wire: Dict[str, Any]) -> None:
    table = {"POST /command": stream(init(), HANG), "GET /files/download": refusal(404, "FILE_NOT_FOUND", "no file")}
    with scripted(table, **wire) as (sandbox, server):
        with pytest.raises(NotFoundError), sandbox.commands.stream("x") as events:
            next(events)
            sandbox.files.read_text("/nope")
        assert len(server.asked("DELETE", "/command")) == 1
