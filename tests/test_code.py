"""Code, against scripted answers of the daemon: what it says when, and what a caller gets."""

from __future__ import annotations

import pickle
import signal
import threading
from typing import Any, Iterable, List

import pytest

from opensandbox_sync import (
    BadRequestError,
    CommandTimeoutError,
    ConflictError,
    Execution,
    InvalidArgumentError,
    NotFoundError,
    NotSupportedError,
    ServerError,
    StreamInterruptedError,
)
from opensandbox_sync.services.code import CodeContext

from .conftest import until
from .wire import (
    HANG,
    Piece,
    Request,
    always,
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

CONTEXT = CodeContext("0f3c", "python")
RED = "\x1b[0;31mZeroDivisionError\x1b[0m: division by zero"


def run(*pieces: Piece, **options: Any) -> Execution:
    with peer_sandbox(always(stream(*pieces))) as (sandbox, _):
        return sandbox.code.run("1 + 1", **options)


def sent_by(call: Any, answer: Iterable[Piece]) -> List[Request]:
    with peer_sandbox(always(answer)) as (sandbox, peer):
        call(sandbox.code)
        return [request for request in peer.requests if "/endpoints/" not in request.path]


def test_chunks_of_output_are_concatenated_exactly() -> None:
    execution = run(init(), stdout("a"), stdout("b\n"), stdout("\n"), stdout("c"), complete())
    assert execution.stdout == "ab\n\nc"
    assert execution.ok
    assert execution.exit_code is None


def test_output_after_the_terminal_event_is_read_too() -> None:
    execution = run(init(), complete(), stdout("late"))
    assert execution.stdout == "late"


def test_an_error_stays_when_a_completion_follows_it() -> None:
    error = failed("division by zero", RED, name="ZeroDivisionError")
    execution = run(init(), frame("status", text="error"), error, complete(3))
    assert not execution.ok
    assert execution.error is not None
    assert execution.error.name == "ZeroDivisionError"
    assert execution.complete is not None


def test_a_traceback_is_kept_with_and_without_colours() -> None:
    link = "\x1b]8;;file:///x\x1b\\x.py\x1b]8;;\x1b\\"
    execution = run(init(), failed("division by zero", RED, link, name="ZeroDivisionError"))
    assert execution.error is not None
    assert execution.error.traceback == [RED, link]
    assert execution.error.plain_traceback == ["ZeroDivisionError: division by zero", "x.py"]


def test_a_result_keeps_every_mime_type_and_shows_itself_in_a_notebook() -> None:
    bundle = {"text": "<Figure>", "image/png": "aWNvbg==", "application/json": {"a": [1]}}
    execution = run(init(), frame("execution_count", execution_count=4), frame("result", results=bundle), complete())
    result = pickle.loads(pickle.dumps(execution)).results[0]
    assert result.data == {"text/plain": "<Figure>", "image/png": "aWNvbg==", "application/json": {"a": [1]}}
    assert result._repr_mimebundle_() == result.data
    assert execution.text == "<Figure>"
    assert execution.execution_count == 4


def test_code_runs_in_the_default_context_of_its_language() -> None:
    answer = stream(init(), complete())
    assert sent_by(lambda code: code.run("1"), answer)[0].json == {"code": "1", "context": {"language": "python"}}
    assert sent_by(lambda code: code.run("1", language="java"), answer)[0].json["context"] == {"language": "java"}


def test_code_runs_in_a_context_or_in_one_known_by_its_id() -> None:
    answer = stream(init(), complete())
    wanted = {"id": "0f3c", "language": "python"}
    assert sent_by(lambda code: code.run("1", context=CONTEXT), answer)[0].json["context"] == wanted
    assert sent_by(lambda code: code.run("1", context="0f3c"), answer)[0].json["context"] == wanted


def test_a_language_that_is_not_the_contexts_is_refused() -> None:
    with peer_sandbox(always([])) as (sandbox, peer):
        with pytest.raises(InvalidArgumentError, match="language is 'java'"):
            sandbox.code.run("1", language="java", context=CONTEXT)
        with pytest.raises(InvalidArgumentError, match="code must be text"):
            sandbox.code.run("  ")
        assert peer.requests == []


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (
            "error running codes language runtime server not configured, please check your image runtime",
            NotSupportedError,
        ),
        ("error running codes no kernel found for language java", NotSupportedError),
        ("error running codes context not found", NotFoundError),
        ("error running codes unknown language: ruby", BadRequestError),
        ("error running codes the kernel died", ServerError),
    ],
)
def test_the_daemons_one_status_is_told_apart_by_its_words(message: str, kind: type) -> None:
    with peer_sandbox(always(refusal(500, "RUNTIME_ERROR", message))) as (sandbox, _):
        with pytest.raises(kind, match="could not run code") as raised:
            sandbox.code.run("1")
        assert raised.type is kind
        assert raised.value.status_code == 500
        assert raised.value.code == "RUNTIME_ERROR"


def test_a_busy_context_is_a_conflict_though_the_status_was_200() -> None:
    late = b'{"code":"RUNTIME_ERROR","message":"error running codes session is busy"}'
    with pytest.raises(ConflictError, match="session is busy"):
        run(init(), late)


def test_a_cut_stream_keeps_what_came() -> None:
    with peer_sandbox(always(cut(stream(init(), stdout("so far"))))) as (sandbox, _):
        with pytest.raises(StreamInterruptedError) as raised:
            sandbox.code.run("1")
        assert raised.value.execution is not None
        assert raised.value.execution.stdout == "so far"


def test_a_result_outlives_a_cut_behind_it() -> None:
    with peer_sandbox(always(cut(stream(init(), stdout("all"), complete())))) as (sandbox, _):
        assert sandbox.code.run("1").stdout == "all"


def interrupted_peer(request: Request) -> Iterable[Piece]:
    return whole(200) if request.method == "DELETE" else stream(init("0f3c"), stdout("so far"), HANG)


def test_a_timeout_interrupts_the_kernel_and_keeps_what_came() -> None:
    with peer_sandbox(interrupted_peer) as (sandbox, peer):
        with pytest.raises(CommandTimeoutError) as raised:
            sandbox.code.run("while True: pass", timeout=1)
        assert raised.value.execution is not None
        assert raised.value.execution.stdout == "so far"
        assert [request.query for request in peer.asked("DELETE", "/code")] == [{"id": "0f3c"}]
        assert "timeout" not in peer.asked("POST", "/code")[0].json


def test_after_a_timeout_the_kernels_last_words_are_waited_for_so_that_it_is_free() -> None:
    interrupted = threading.Event()

    def respond(request: Request) -> Iterable[Piece]:
        if request.method == "DELETE":
            interrupted.set()
            return whole(200)
        return last_words()

    def last_words() -> Iterable[Piece]:
        *first, end = stream(init("0f3c"), stdout("so far"))
        yield from first
        interrupted.wait(20)
        yield from stream(failed("", name="KeyboardInterrupt"), complete())[1:-1]
        yield end

    with peer_sandbox(respond) as (sandbox, _):
        with pytest.raises(CommandTimeoutError) as raised:
            sandbox.code.run("while True: pass", timeout=1)
        execution = raised.value.execution
        assert execution is not None
        assert execution.error is not None
        assert (execution.timed_out, execution.error.name) == (True, "KeyboardInterrupt")


def test_ctrl_c_interrupts_the_kernel() -> None:
    with peer_sandbox(interrupted_peer) as (sandbox, peer):

        def press() -> None:
            until(lambda: peer.asked("POST", "/code"), "the run")
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # which wakes the wait, too

        presser = threading.Thread(target=press)
        presser.start()
        with pytest.raises(KeyboardInterrupt):
            sandbox.code.run("while True: pass", on_stdout=lambda text: threading.Event().wait(20))
        presser.join()
        assert [request.query for request in peer.asked("DELETE", "/code")] == [{"id": "0f3c"}]


def test_a_stream_gives_events_and_lines_as_they_come() -> None:
    with peer_sandbox(always(stream(init(), stdout("a\nb"), stdout("c\n"), complete()))) as (sandbox, _):
        with sandbox.code.stream("1") as events:
            assert [event.type for event in events] == ["init", "stdout", "stdout", "execution_complete"]
        with sandbox.code.stream("1") as events:
            assert list(events.lines()) == ["a", "bc"]


def test_contexts_are_made_found_listed_and_deleted() -> None:
    made = whole(200, {"id": "0f3c", "language": "python", "cwd": "/tmp"})
    (request,) = sent_by(lambda code: code.create_context("python", cwd="/tmp"), made)
    assert (request.method, request.path, request.json) == (
        "POST",
        "/code/context",
        {"language": "python", "cwd": "/tmp"},
    )
    (request,) = sent_by(lambda code: code.get_context("a/b"), made)
    assert request.target == "/code/contexts/a%2Fb"
    (request,) = sent_by(lambda code: code.list_contexts("python"), whole(200, []))
    assert (request.path, request.query) == ("/code/contexts", {"language": "python"})
    (request,) = sent_by(lambda code: code.delete_context(CONTEXT), whole(200))
    assert (request.method, request.path) == ("DELETE", "/code/contexts/0f3c")
    (request,) = sent_by(lambda code: code.delete_contexts("python"), whole(200))
    assert (request.method, request.path, request.query) == ("DELETE", "/code/contexts", {"language": "python"})


def test_a_null_list_of_contexts_is_empty() -> None:
    with peer_sandbox(always(whole(200, b"null"))) as (sandbox, _):
        assert sandbox.code.list_contexts() == []


def test_interrupting_what_is_not_running_is_fine_and_what_is_unknown_is_not() -> None:
    idle = refusal(500, "RUNTIME_ERROR", "error interruptting code context. command session 1 is not running")
    sent_by(lambda code: code.interrupt(CONTEXT), idle)
    unknown = refusal(500, "RUNTIME_ERROR", "error interruptting code context. no such session")
    with pytest.raises(NotFoundError):
        sent_by(lambda code: code.interrupt("nope"), unknown)
