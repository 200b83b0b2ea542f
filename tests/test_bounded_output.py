"""Output that is larger than anybody wants to keep, and callbacks that fail."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List

import pytest
import requests

from opensandbox_sync import Execution, InvalidArgumentError

from .scripted import API_KEY, finished, promptly, python, scripted, serving
from .wire import (
    COMMAND_ID,
    HANG,
    LAST_CHUNK,
    SANDBOX_ID,
    STREAM_HEAD,
    Request,
    chunk,
    complete,
    failed,
    frame,
    init,
    stdout,
    stream,
)


def run(events: List[bytes], **options: Any) -> Execution:
    with scripted({"POST /command": stream(init(), *events)}) as (sandbox, _):
        return sandbox.commands.run("x", **options)


LINES = [stdout(f"{number:04}") for number in range(1000)]


def test_max_output_keeps_the_head_and_the_tail_counts_the_rest_and_the_exit_code() -> None:
    execution = run([*LINES, failed("3")], max_output=80)
    lines = execution.stdout.split("\n")
    assert lines == [f"{n:04}" for n in [*range(10), *range(990, 1000)]]
    assert execution.logs.stdout.dropped == 4000 - 80
    assert (execution.truncated, execution.exit_code) == (True, 3)


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 41, 3999])
def test_max_output_is_exact_to_the_character(limit: int) -> None:
    execution = run([*LINES, complete()], max_output=limit)
    whole = "".join(f"{number:04}" for number in range(1000))
    kept = "".join(message.text for message in execution.logs.stdout)
    assert kept == whole[: limit // 2] + whole[len(whole) - (limit - limit // 2) :]
    assert execution.logs.stdout.dropped == len(whole) - limit and execution.truncated


@pytest.mark.parametrize("limit", [4000, 4001, 10**9])
def test_max_output_that_is_not_reached_changes_nothing(limit: int) -> None:
    execution = run([*LINES, complete()], max_output=limit)
    assert execution == run([*LINES, complete()])
    assert (execution.truncated, execution.logs.stdout.dropped) == (False, 0)


@pytest.mark.parametrize("limit", [4, 5, 6, 100])
def test_max_output_takes_no_text_apart_that_fits(limit: int) -> None:
    execution = run([stdout("abcd"), complete()], max_output=limit)
    assert (execution.stdout, len(execution.logs.stdout)) == ("abcd", 1)


def test_max_output_holds_for_each_stream() -> None:
    execution = run([*LINES, frame("stderr", text="small", timestamp=1), complete()], max_output=10)
    assert (execution.stderr, execution.logs.stderr.dropped, execution.logs.stdout.dropped) == ("small", 0, 3990)


def test_max_output_cuts_one_large_text_too() -> None:
    execution = run([stdout("a" * 100_000 + "b" * 100_000), complete()], max_output=10)
    assert [message.text for message in execution.logs.stdout] == ["aaaaa", "bbbbb"]


@pytest.mark.parametrize("limit", [-1, 1.5, True, "10"])
def test_a_max_output_that_cannot_be_meant_is_refused_before_anything_is_sent(limit: Any) -> None:
    with scripted({}) as (sandbox, server):
        with pytest.raises(InvalidArgumentError, match="max_output"):
            sandbox.commands.run("x", max_output=limit)
        assert not server.requests


def test_capture_false_keeps_nothing_and_shows_everything() -> None:
    seen: List[str] = []
    with scripted({"POST /command": stream(init(), *LINES, failed("3"))}) as (sandbox, _):
        execution = sandbox.commands.run("x", capture=False, on_stdout=seen.append)
    assert (execution.stdout, len(execution.logs.stdout), execution.exit_code) == ("", 0, 3)
    assert len(seen) == 1000


# -- callbacks ---------------------------------------------------------------------------------------------------------


class Unusual(BaseException):
    """Not even an Exception."""


@pytest.mark.parametrize("own_session", [False, True])
@pytest.mark.parametrize("callback", ["on_stdout", "on_stderr", "on_event", "on_result"])
@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), Unusual("mine"), KeyboardInterrupt(), SystemExit(4)])
def test_a_callback_that_raises_stops_the_command_and_its_exception_leaves_unchanged(
    callback: str, error: BaseException, own_session: bool
) -> None:
    def fail(value: Any) -> None:
        raise error

    events = [init(), stdout("a"), frame("stderr", text="b"), frame("result", results={"text/plain": "1"}), HANG]
    with requests.Session() as session:
        settings: Dict[str, Any] = {"session": session} if own_session else {}
        with scripted({"POST /command": stream(*events)}, **settings) as (sandbox, server):
            with promptly(), pytest.raises(type(error)) as caught:
                sandbox.commands.run("x", **{callback: fail})
            assert caught.value is error and error.__cause__ is None
            assert [request.query for request in server.asked("DELETE", "/command")] == [{"id": COMMAND_ID}]


def test_a_callback_that_raises_for_a_finished_command_interrupts_nothing() -> None:
    with scripted({"POST /command": stream(init() + stdout("a") + complete())}) as (sandbox, server):
        with pytest.raises(ZeroDivisionError):
            sandbox.commands.run("x", on_stdout=lambda text: 1 / 0)
        assert not server.asked("DELETE", "/command")


# -- memory ------------------------------------------------------------------------------------------------------------

CHILD = """
import gc, resource, sys
from opensandbox_sync import SandboxClient
with SandboxClient(domain=sys.argv[1], api_key=sys.argv[2]) as client:
    sandbox = client.connect(sys.argv[3], wait_ready=False)
    options = eval(sys.argv[4])
    def peak():
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    sandbox.commands.run("small")
    gc.collect()
    before = peak()
    execution = sandbox.commands.run("large", **options)
    assert execution.exit_code == 0
    print(peak() - before, len(execution.stdout))
"""


def growth(text: str, count: int, options: str) -> List[int]:
    """(bytes by which a process's memory grew at most, characters that it kept) for so many events of ``text``."""

    def respond(request: Request) -> Iterator[bytes]:
        yield STREAM_HEAD + chunk(init())
        events = chunk(stdout(text)) * max(1, 65536 // len(text))
        for _ in range(1 if b"small" in request.body else count // max(1, 65536 // len(text))):
            yield events
        yield chunk(complete()) + LAST_CHUNK

    with serving({"POST /command": respond}) as server:
        out = finished(python(CHILD, server.address, API_KEY, SANDBOX_ID, options), 300)
    return [int(number) for number in out.split()]


@pytest.mark.parametrize("options", ["dict(capture=False)", "dict(max_output=100_000)"])
def test_32_mib_of_output_that_is_not_kept_cost_little(options: str) -> None:
    grown, _ = growth("x" * 65536, 512, options)
    assert grown < 12 * 2**20, f"{grown / 2**20:.1f} MiB"


@pytest.mark.slow
@pytest.mark.parametrize("options", ["dict(capture=False)", "dict(max_output=1_000_000)"])
def test_1_gib_of_output_that_is_not_kept_costs_less_than_32_mib(options: str) -> None:
    grown, _ = growth("x" * 65536, 16 * 1024, options)
    assert grown < 32 * 2**20, f"{grown / 2**20:.1f} MiB"


@pytest.mark.parametrize("text", ["x" * 65536, "a line of output of an ordinary length, more or less, as they come"])
def test_output_that_is_kept_costs_at_most_two_and_a_half_times_its_text(text: str) -> None:
    size = 8 * 2**20
    grown, kept = growth(text, size // len(text), "{}")
    assert kept >= size * 0.99
    assert grown <= 2.5 * kept, f"{grown / kept:.2f} times"
