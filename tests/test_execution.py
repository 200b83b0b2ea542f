"""From events to an ``Execution``, and what a stream does when the other side does not do its part."""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
import threading
from typing import Any, Dict, Iterable, List, Optional

import pytest

from opensandbox_sync import (
    ApiError,
    ClosedError,
    CommandError,
    CommandTimeoutError,
    ConflictError,
    ConnectError,
    Execution,
    NotFoundError,
    ProtocolError,
    ServerError,
    ServerEvent,
    StreamInterruptedError,
    iter_events,
)

from .conftest import until
from .wire import (
    COMMAND_ID,
    HANG,
    STREAM_HEAD,
    Peer,
    Piece,
    Request,
    always,
    chunk,
    complete,
    cut,
    failed,
    frame,
    init,
    peer_sandbox,
    refusal,
    stdout,
    stream,
    whole,
)


def fold(*frames: bytes) -> Execution:
    return Execution.from_events(iter_events(frames))


# -- the exit code, the signal, the end --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "exit_code", "ok"),
    [
        ([complete()], 0, True),
        ([failed("3")], 3, False),
        ([failed("255")], 255, False),
        ([failed("3", name="ExitError")], 3, False),
        ([failed("-1", "signal: killed")], -1, False),
        ([failed("3", name="NameError")], None, False),
        ([failed("not a number")], None, False),
        ([failed("")], None, False),
        ([failed("3.0")], None, False),
        ([failed("1_0")], None, False),
        ([failed(" 3 ")], None, False),
        ([failed("٣")], None, False),
        ([failed("9" * 40)], None, False),
        ([failed("3"), complete()], 3, False),
        ([failed("boom", name="Error"), complete()], None, False),
        ([complete(), failed("3")], 3, False),
        ([b'{"type":"error","text":"odd"}\n\n'], None, False),
        ([stdout("a")], None, False),
        ([], None, False),
    ],
)
def test_the_exit_code_is_what_the_end_says_and_none_where_it_says_nothing(
    frames: List[bytes], exit_code: Optional[int], ok: bool
) -> None:
    execution = fold(init(), *frames)
    assert (execution.exit_code, execution.exitCode, execution.ok) == (exit_code, exit_code, ok)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("signal: killed", "SIGKILL"),
        ("signal: terminated", "SIGTERM"),
        ("signal: segmentation fault (core dumped)", "SIGSEGV"),
        ("signal: aborted (core dumped)", "SIGABRT"),
        ("signal: hangup", "SIGHUP"),
        ("signal: signal 34", "SIG34"),
        ("exit status 1", None),
        ("signal: ", None),
        ("", None),
    ],
)
def test_a_signal_is_named_from_the_traceback(words: str, name: Optional[str]) -> None:
    assert fold(init(), failed("-1", words)).signal == name


def test_a_signals_words_beside_another_code_are_none() -> None:
    assert fold(init(), failed("3", "signal: killed")).signal is None


@pytest.mark.parametrize(
    "late",
    [
        {"code": "RUNTIME_ERROR", "message": "boom"},
        {"message": "boom"},
        {"error": "boom"},
        {"code": "RUNTIME_ERROR", "message": "boom", "type": ""},
    ],
)
def test_a_late_error_object_is_an_error_and_keeps_what_came(late: Dict[str, Any]) -> None:
    with pytest.raises(ServerError, match="boom") as caught:
        fold(init(), stdout("a\n"), json.dumps(late).encode() + b"\n\n")
    assert caught.value.execution is not None and caught.value.execution.stdout == "a\n"
    assert caught.value.status_code == 200


def test_a_late_objects_words_decide_its_class() -> None:
    with pytest.raises(NotFoundError):
        fold(b'{"code":"X","message":"session not found"}')
    with pytest.raises(ConflictError):
        fold(b'{"code":"X","message":"session is busy"}')


def test_an_error_object_behind_the_end_takes_nothing_away() -> None:
    assert fold(init(), stdout("a\n"), complete(), b'{"code":"RUNTIME_ERROR","message":"boom"}').ok


def test_an_object_that_is_no_event_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="colour"):
        fold(init(), b'{"colour":"red"}')


def test_an_unknown_event_changes_nothing() -> None:
    execution = fold(init(), frame("confetti", text="!", error=None), stdout("a\n"), complete())
    assert execution.ok and execution.stdout == "a\n"


# -- output ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "out"),
    [
        (["a\n", "b\n"], "a\nb\n"),
        (["a\n", "b"], "a\nb"),
        (["a\n", "\n", "b\n"], "a\n\nb\n"),
        (["1%\r", "2%\r", "done"], "1%\r2%\rdone"),
        (["a\r\n", "b\r\n"], "a\r\nb\r\n"),
        (["a", "b"], "a\nb"),
        (["a", "\n", "b"], "a\n\nb"),
        (["a"], "a"),
        ([], ""),
        (["", ""], "\n"),
    ],
)
def test_line_ends_that_are_kept_concatenate_and_those_that_are_not_are_put_back(texts: List[str], out: str) -> None:
    execution = fold(init(), *map(stdout, texts), complete())
    assert execution.stdout == out


def test_one_stream_that_keeps_line_ends_speaks_for_both() -> None:
    execution = fold(init(), frame("stderr", text="warning\n"), stdout("a"), stdout("\n"), complete())
    assert (execution.stdout, execution.stderr) == ("a\n", "warning\n")


def test_the_main_result_is_the_text_where_there_is_one() -> None:
    result = frame("result", results={"text/plain": "42", "text/html": "<b>42</b>"}, timestamp=7)
    execution = fold(init(), stdout("out\n"), result, frame("execution_count", execution_count=3), complete())
    assert (execution.text, execution.execution_count) == ("42", 3)
    assert execution.results[0].data["text/html"] == "<b>42</b>"
    assert execution.results[0].timestamp == 7
    assert execution.results[0].raw == {"text/plain": "42", "text/html": "<b>42</b>"}


def test_messages_behave_as_a_sequence() -> None:
    log = fold(init(), *(stdout(f"{n}\n") for n in range(5000)), complete()).logs.stdout
    assert len(log) == 5000
    assert (log[0].text, log[-1].text, log[4999].text) == ("0\n", "4999\n", "4999\n")
    assert [message.text for message in log[1:3]] == ["1\n", "2\n"]
    assert [message.text for message in log][-1] == "4999\n"
    assert log[0].timestamp == 1001
    for index in (5000, -5001):
        with pytest.raises(IndexError):
            log[index]
    assert log == list(log) and log != [] and repr(log)


def test_a_missing_timestamp_is_none() -> None:
    (message,) = fold(b'{"type":"stdout","text":"a"}').logs.stdout
    assert message.timestamp is None


@pytest.mark.parametrize("limit", [0, 1, 2, 5, 100])
def test_max_output_keeps_so_many_characters_of_head_and_tail(limit: int) -> None:
    text = "".join(chr(97 + n % 26) for n in range(1000))
    pieces = [stdout(text[n : n + 7] + "") for n in range(0, 1000, 7)]
    with peer_sandbox(always(stream(init(), *pieces, complete()))) as (sandbox, _):
        execution = sandbox.commands.run("x", max_output=limit)
    kept = "".join(message.text for message in execution.logs.stdout)
    assert kept == text[: limit // 2] + (text[-(limit - limit // 2) :] if limit else "")
    assert execution.truncated and execution.logs.stdout.dropped == 1000 - limit
    assert len(execution.logs.stdout) == len(list(execution.logs.stdout))


def test_output_that_just_fits_is_not_cut() -> None:
    with peer_sandbox(always(stream(init(), stdout("abcd\n"), stdout("efgh\n"), complete()))) as (sandbox, _):
        execution = sandbox.commands.run("x", max_output=10)
    assert (execution.stdout, execution.truncated) == ("abcd\nefgh\n", False)


def test_executions_compare_copy_and_pickle() -> None:
    frames = [init(), stdout("a\n"), failed("3")]
    execution = fold(*frames)
    assert execution == fold(*frames) != fold(init(), failed("3"))
    again = pickle.loads(pickle.dumps(execution))
    assert (again, again.stdout, again.exit_code) == (execution, "a\n", 3)


def test_a_repr_is_short_and_says_how_it_ended() -> None:
    assert "exit_code=3" in repr(fold(init(), stdout("x" * 10_000 + "\n"), failed("3")))
    assert len(repr(fold(init(), stdout("x" * 10_000 + "\n"), failed("3")))) < 200
    assert "SIGKILL" in repr(fold(init(), failed("-1", "signal: killed")))
    assert "unfinished" in repr(fold(init()))


def test_events_made_by_hand_fold_too() -> None:
    execution = Execution.from_events(
        [ServerEvent("init", "c1"), ServerEvent("stdout", "a\n"), ServerEvent("execution_complete")]
    )
    assert (execution.id, execution.stdout, execution.exit_code) == ("c1", "a\n", 0)


# -- a stream that ends as it should not -------------------------------------------------------------------------------

RUNNING = whole(200, {"id": COMMAND_ID, "running": True, "content": "x"})
FINISHED = whole(200, {"id": COMMAND_ID, "running": False, "exit_code": 9, "content": "x"})


def daemon(answer: Iterable[Piece], status: Iterable[Piece] = RUNNING) -> Any:
    """A daemon that answers a run with this, a look at its status with that, and an interrupt with success."""

    def respond(request: Request) -> Iterable[Piece]:
        if request.method == "DELETE":
            return whole(200)
        return status if "/status/" in request.path else answer

    return respond


WITHOUT_END = [
    pytest.param(stream(init(), stdout("part\n")), id="the body ends well, but without a result"),
    pytest.param(cut(stream(init(), stdout("part\n"))), id="no final chunk"),
    pytest.param([STREAM_HEAD, chunk(init()), chunk(stdout("part\n")), b"ff\r\nhalf", b""], id="cut in a chunk"),
    pytest.param([STREAM_HEAD, chunk(init()), chunk(stdout("part\n")), b"f", b""], id="cut in a size line"),
    pytest.param(
        [STREAM_HEAD, chunk(init()), chunk(stdout("part\n")), chunk(b'{"type":"stdout","te'), b""], id="cut in a frame"
    ),
    pytest.param(
        [b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + init() + stdout("part\n"), b""], id="short of its length"
    ),
    pytest.param([b"HTTP/1.1 200 OK\r\n\r\n" + init() + stdout("part\n"), b""], id="closed, without any framing"),
]


@pytest.mark.parametrize("answer", WITHOUT_END)
def test_a_stream_without_its_end_is_never_a_result(answer: List[Piece]) -> None:
    with peer_sandbox(daemon(answer)) as (sandbox, peer), pytest.raises(StreamInterruptedError) as caught:
        sandbox.commands.run("x")
    error = caught.value
    assert error.command_id == COMMAND_ID and "still running" in str(error)
    assert error.execution is not None and error.execution.stdout == "part\n" and error.execution.exit_code is None
    assert not error.execution.ok
    assert len(peer.asked("POST", "/command")) == 1, "a command is sent at most once"
    assert len(peer.asked("GET", f"/command/status/{COMMAND_ID}")) == 1


def test_the_one_look_tells_an_exit_code_that_the_stream_did_not() -> None:
    answer = daemon(cut(stream(init())), FINISHED)
    with peer_sandbox(answer) as (sandbox, _), pytest.raises(StreamInterruptedError, match="exit code 9"):
        sandbox.commands.run("x")


def test_a_look_that_fails_does_not_hide_the_break() -> None:
    answer = daemon(cut(stream(init())), refusal(404, "INVALID_REQUEST_BODY", "command not found"))
    with peer_sandbox(answer) as (sandbox, _), pytest.raises(StreamInterruptedError, match="could not be asked"):
        sandbox.commands.run("x")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(stream(), id="an empty stream"),
        pytest.param(whole(200), id="an empty body"),
        pytest.param(whole(204), id="no content"),
    ],
)
def test_an_empty_answer_is_never_a_result(answer: List[Piece]) -> None:
    with peer_sandbox(daemon(answer)) as (sandbox, _), pytest.raises(StreamInterruptedError, match="empty"):
        sandbox.commands.run("x")


def test_a_connection_that_closes_before_the_answer_says_that_it_may_run() -> None:
    with peer_sandbox(always([b""])) as (sandbox, peer), pytest.raises(StreamInterruptedError, match="may be running"):
        sandbox.commands.run("x")
    assert len(peer.asked("POST", "/command")) == 1


@pytest.mark.parametrize(
    "pieces", [[HANG], [STREAM_HEAD, HANG], stream(init(), HANG), stream(init(), stdout("a\n"), HANG)]
)
def test_a_peer_that_falls_silent_is_noticed(pieces: List[Piece]) -> None:
    with peer_sandbox(daemon(pieces), idle_timeout=0.2) as (sandbox, peer), pytest.raises(StreamInterruptedError):
        sandbox.commands.run("x")
    assert len(peer.asked("POST", "/command")) == 1


def test_pings_count_as_life() -> None:
    def slowly(request: Request) -> Iterable[Piece]:
        yield STREAM_HEAD + chunk(init())
        for _ in range(6):
            threading.Event().wait(0.25)
            yield chunk(frame("ping", text="pong"))
        yield chunk(complete()) + b"0\r\n\r\n"

    with peer_sandbox(slowly, idle_timeout=1) as (sandbox, _):
        assert sandbox.commands.run("x").ok


def test_a_slow_consumer_is_no_silence() -> None:
    frames = [init(), *(stdout(f"{n}\n") for n in range(5)), complete()]
    with peer_sandbox(always(stream(*frames)), idle_timeout=0.5) as (sandbox, _):
        execution = sandbox.commands.run("x", on_stdout=lambda text: threading.Event().wait(0.15))
    assert execution.stdout == "0\n1\n2\n3\n4\n"


def test_a_timeout_of_ours_interrupts_and_carries_what_came() -> None:
    with peer_sandbox(daemon(stream(init(), stdout("part\n"), HANG))) as (sandbox, peer):
        with pytest.raises(CommandTimeoutError) as caught:
            sandbox.commands.run("x", timeout=1)
        until(lambda: peer.asked("DELETE", "/command"), "the interrupt")
    assert caught.value.execution is not None
    assert caught.value.execution.timed_out and caught.value.execution.stdout == "part\n"
    assert peer.asked("DELETE", "/command")[0].query == {"id": COMMAND_ID}
    assert peer.asked("POST", "/command")[0].json["timeout"] == 1000


def test_a_peer_that_talks_without_end_does_not_outrun_the_timeout() -> None:
    def forever(request: Request) -> Iterable[Piece]:
        if request.method == "DELETE":
            yield from whole(200)
            return
        yield STREAM_HEAD + chunk(init())
        while True:
            threading.Event().wait(0.01)
            yield chunk(stdout("more\n"))

    with peer_sandbox(forever) as (sandbox, _), pytest.raises(CommandTimeoutError):
        sandbox.commands.run("x", timeout=0.2)


def test_a_timeout_before_the_answers_first_byte_is_a_timeout_too() -> None:
    with peer_sandbox(always([HANG])) as (sandbox, _), pytest.raises(CommandTimeoutError) as caught:
        sandbox.commands.run("x", timeout=0.2)
    assert caught.value.execution is not None and caught.value.execution.timed_out


def test_part_of_a_millisecond_is_a_whole_one() -> None:
    with peer_sandbox(always(stream(init(), complete()))) as (sandbox, peer):
        for timeout in (0.0001, 0.7, 1.0005, 2):
            sandbox.commands.run("x", timeout=timeout)
    assert [request.json["timeout"] for request in peer.asked("POST", "/command")] == [1, 700, 1001, 2000]


# -- the end and what comes behind it ----------------------------------------------------------------------------------


def test_a_result_is_returned_while_the_server_holds_the_response_open() -> None:
    with peer_sandbox(daemon(stream(init(), stdout("a\n"), complete(), HANG)), idle_timeout=30) as (sandbox, _):
        assert sandbox.commands.run("x").stdout == "a\n"


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param([b""], id="a cut"),
        pytest.param([b"nonsense that is no chunk\r\n\r\n", b""], id="no chunk"),
        pytest.param([chunk(b"this is no event\n\n"), b"0\r\n\r\n"], id="no event"),
        pytest.param([chunk(b'{"code":"RUNTIME_ERROR","message":"boom"}\n\n'), b"0\r\n\r\n"], id="an error object"),
        pytest.param([chunk(frame("ping")), b"0\r\n\r\n"], id="a ping"),
        pytest.param([b"0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], id="another answer"),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["in one write", "in writes of their own"])
def test_nothing_behind_the_end_takes_the_result_away(behind: List[Any], together: bool) -> None:
    first: List[Any] = [STREAM_HEAD, chunk(init()), chunk(stdout("a\n")), chunk(complete())]
    pieces = [*first, *behind]
    if together:
        pieces = [b"".join(pieces), *([b""] if b"" in behind else [])]
    with peer_sandbox(daemon(pieces)) as (sandbox, _):
        for _ in range(3):
            execution = sandbox.commands.run("x")
            assert (execution.stdout, execution.exit_code) == ("a\n", 0)


def test_output_in_the_same_read_behind_the_end_is_kept() -> None:
    with peer_sandbox(always([b"".join(stream(init(), complete(), stdout("late\n")))])) as (sandbox, _):  # type: ignore[arg-type]
        assert sandbox.commands.run("x").stdout == "late\n"


def test_a_connection_whose_answer_is_whole_is_kept() -> None:
    with peer_sandbox(always(stream(init(), stdout("a\n"), complete()))) as (sandbox, peer):
        for _ in range(20):
            assert sandbox.commands.run("x").ok
        before = peer.connection_count
    assert before <= 5, "one for the look-up, and as many as a slow final chunk costs"


def test_a_malformed_frame_is_a_protocol_error_with_what_came_and_the_command_is_stopped() -> None:
    answer = stream(init(), stdout("a\n"), b"<html>gateway</html>\n\n", HANG)
    with peer_sandbox(daemon(answer)) as (sandbox, peer), pytest.raises(ProtocolError, match="gateway") as caught:
        sandbox.commands.run("x")
    assert caught.value.execution is not None and caught.value.execution.stdout == "a\n"
    assert [request.query for request in peer.asked("DELETE", "/command")] == [{"id": COMMAND_ID}]


def test_iterating_a_stream_gives_all_events_before_the_error() -> None:
    answer = [b"".join([STREAM_HEAD, chunk(init() + stdout("a\n") + b"nonsense\n\n")]), HANG]
    with peer_sandbox(daemon(answer)) as (sandbox, _), sandbox.commands.stream("x") as events:
        assert [next(events).type, next(events).type] == ["init", "stdout"]
        with pytest.raises(ProtocolError, match="nonsense"):
            next(events)
        with pytest.raises(StopIteration):
            next(events)


def test_a_late_error_object_of_a_daemon_is_raised_with_its_code() -> None:
    answer = stream(init(), stdout("a\n"), b'{"code":"RUNTIME_ERROR","message":"fork failed"}\n\n')
    with peer_sandbox(daemon(answer)) as (sandbox, _), pytest.raises(ApiError, match="fork failed") as caught:
        sandbox.commands.run("x")
    assert caught.value.code == "RUNTIME_ERROR"
    assert caught.value.execution is not None and caught.value.execution.stdout == "a\n"


@pytest.mark.parametrize("status", [400, 401, 404, 409, 429, 500, 502, 503])
def test_a_refused_command_is_refused_once(status: int) -> None:
    answer = always(refusal(status, "X::Y", "because"))
    with peer_sandbox(answer) as (sandbox, peer), pytest.raises(ApiError, match="because") as caught:
        sandbox.commands.run("x")
    assert (caught.value.status_code, caught.value.code) == (status, "X::Y")
    assert len(peer.asked("POST", "/command")) == 1


def test_a_redirect_is_not_followed() -> None:
    answer = whole(302, b"", {"Location": "http://user:pass@elsewhere.example/x?signature=s3cret"})
    with peer_sandbox(always(answer)) as (sandbox, peer), pytest.raises(ApiError, match="elsewhere") as caught:
        sandbox.commands.run("x")
    assert "s3cret" not in str(caught.value) and "pass" not in str(caught.value)
    assert len(peer.asked("POST", "/command")) == 1


# -- ended from here ---------------------------------------------------------------------------------------------------


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.skipif(os.name != "posix", reason="sends itself a signal")
@pytest.mark.parametrize(
    "before", [[STREAM_HEAD, chunk(init())], [STREAM_HEAD], []], ids=["init", "headers", "nothing"]
)
def test_ctrl_c_interrupts_the_remote_command_whenever_its_id_comes(before: List[bytes]) -> None:
    """Where no id is known yet, up to a second is given to it: else the command would run on without a name."""
    pressed = threading.Event()

    def respond(request: Request) -> Iterable[Piece]:
        if request.method == "DELETE":
            yield from whole(200)
            return
        yield from before
        threading.Event().wait(0.1)
        pressed.set()
        press_ctrl_c()
        threading.Event().wait(0.2)
        yield b"".join([STREAM_HEAD, chunk(init())][len(before) :]) or chunk(frame("ping"))
        yield HANG

    with peer_sandbox(respond) as (sandbox, peer):
        with pytest.raises(KeyboardInterrupt):
            sandbox.commands.run("x")
        assert pressed.is_set()
        assert [request.query for request in peer.asked("DELETE", "/command")] == [{"id": COMMAND_ID}]


@pytest.mark.skipif(os.name != "posix", reason="sends itself a signal")
def test_ctrl_c_at_a_daemon_that_is_dead_is_raised_all_the_same() -> None:
    def respond(request: Request) -> Iterable[Piece]:
        if request.method == "POST":
            yield STREAM_HEAD + chunk(init())
            threading.Event().wait(0.1)
            press_ctrl_c()
        yield HANG

    with peer_sandbox(respond) as (sandbox, _), pytest.raises(KeyboardInterrupt):
        sandbox.commands.run("x")


def test_closing_the_client_ends_a_stream_that_waits() -> None:
    with peer_sandbox(daemon(stream(init(), HANG))) as (sandbox, _):
        events = sandbox.commands.stream("x")
        assert next(events).type == "init"
        threading.Timer(0.1, sandbox._client.close).start()
        with pytest.raises(ClosedError):
            next(events)


def test_a_stream_that_is_dropped_leaks_no_socket() -> None:
    """A socket that is left open warns when it is collected, and a warning is an error here."""
    with peer_sandbox(daemon(stream(init(), stdout("a\n"), HANG))) as (sandbox, _):
        for _ in range(3):
            with sandbox.commands.stream("x") as events:
                next(events)
        gc.collect()


def test_a_connection_that_is_refused_is_a_connect_error_that_says_what_to_try() -> None:
    with peer_sandbox(daemon([])) as (sandbox, peer):
        dead = Peer(always([]))
        dead.stop()
        peer.respond = always(whole(200, {"endpoint": dead.address, "headers": {}}))
        with pytest.raises(ConnectError, match="use_server_proxy") as caught:
            sandbox.commands.run("x")
    assert dead.address in str(caught.value)


def test_an_endpoint_is_looked_up_again_after_it_did_not_answer() -> None:
    """A sandbox that was resumed elsewhere has another address; nothing was sent, so the command may be."""
    with peer_sandbox(always(stream(init(), complete()))) as (sandbox, peer):
        dead = Peer(always([]))
        dead.stop()
        answers = [whole(200, {"endpoint": dead.address, "headers": {}})]
        first = peer.respond
        peer.respond = lambda request: answers.pop() if answers and "/endpoints/" in request.path else first(request)
        assert sandbox.commands.run("x").ok
    assert len(peer.asked("GET", "/endpoints/44772")) == 2
    assert len(peer.asked("POST", "/command")) == 1


# -- background commands -----------------------------------------------------------------------------------------------


def test_a_start_without_an_id_is_no_start() -> None:
    with peer_sandbox(always(stream(complete()))) as (sandbox, _), pytest.raises(StreamInterruptedError, match="id"):
        sandbox.commands.start("x")


def test_a_start_that_fails_says_so() -> None:
    answer = always(stream(init(), failed("no such program", name="StartError")))
    with peer_sandbox(answer) as (sandbox, _), pytest.raises(CommandError, match="StartError: no such program"):
        sandbox.commands.start("x")


def test_logs_of_half_a_character_are_read_again_from_its_start() -> None:
    answers = [whole(200, b"a\xf0\x9f"), whole(200, b"\xf0\x9f\x9a\x80b")]
    with peer_sandbox(lambda request: answers.pop(0)) as (sandbox, peer):
        first = sandbox.commands.logs("c")
        second = sandbox.commands.logs("c", first.cursor)
    assert (first.text, first.cursor, second.text, second.cursor) == ("a", 1, "🚀b", 6)
    assert peer.asked("GET", "/logs")[1].query == {"cursor": "1"}


def test_following_ends_with_the_bytes_that_make_no_character() -> None:
    written = b"a\xf0\x9f"

    def respond(request: Request) -> Iterable[Piece]:
        return FINISHED if "/status/" in request.path else whole(200, written[int(request.query.get("cursor", 0)) :])

    with peer_sandbox(respond) as (sandbox, _):
        assert "".join(sandbox.commands.get(COMMAND_ID).follow()) == "a\ufffd"


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b'{"id":"c"}', b'{"id":1,"running":true}', b'{"id":"c","running":"yes"}', b"<html>",
     b'{"id":"c","running":true,"started_at":"yesterday"}', b"[" * 100_000],
)  # fmt: skip
def test_a_status_that_is_none_is_a_protocol_error(body: bytes) -> None:
    with peer_sandbox(always(whole(200, body))) as (sandbox, _), pytest.raises(ProtocolError):
        sandbox.commands.status("c")


# -- answers that are no HTTP ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b""], "may be running"),
        ([b"hello there\r\n\r\n", b""], "may be running"),
        ([b"HTTP/1.1 200 OK\r\nContent-Le", b""], "may be running"),
        ([b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 300 + b"\r\n"], "may be running"),
        ([b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"], "may be running"),
        ([b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nhalf"], "not known"),
    ],
)
def test_an_answer_that_is_no_http_is_never_a_refused_argument(answer: List[Piece], words: str) -> None:
    with peer_sandbox(daemon(answer)) as (sandbox, peer), pytest.raises(StreamInterruptedError, match=words) as caught:
        sandbox.commands.run("x")
    assert str(caught.value).count("could not run a command") == 1 and str(caught.value).isprintable()
    assert len(peer.asked("POST", "/command")) == 1
    del sandbox, peer, caught
    gc.collect()  # a socket that was left open is told of here


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_two_lengths_in_an_answer_are_never_a_refused_argument() -> None:
    answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"]
    with peer_sandbox(daemon(answer)) as (sandbox, _), pytest.raises(StreamInterruptedError, match="may be running"):
        sandbox.commands.run("x")
    del sandbox
    gc.collect()  # urllib3 leaves the socket of an answer whose headers it refuses to the collector, which warns


def test_a_protocol_error_says_what_could_not_be_done_and_under_which_request() -> None:
    head = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nX-Request-ID: r-9\r\n\r\n")
    for answer in ([head, chunk(init()), chunk(b"nonsense\n\n")], [head, chunk(init()), b"zz\r\n"]):
        with peer_sandbox(daemon([*answer, HANG])) as (sandbox, _), pytest.raises(ProtocolError) as caught:
            sandbox.commands.run("x")
        assert str(caught.value).startswith("could not run a command: ")
        assert caught.value.request_id == "r-9"
