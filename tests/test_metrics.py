"""Metrics, against scripted answers of the daemon."""

from __future__ import annotations

import json
import threading
from typing import Any, List

import pytest

from opensandbox_sync import ProtocolError, ServerError, StreamInterruptedError
from opensandbox_sync.services.metrics import Metrics

from .wire import HANG, always, cut, peer_sandbox, stream, whole

SENT = {
    "cpu_count": 2,
    "cpu_used_pct": 12.5,
    "mem_total_mib": 24576,
    "mem_used_mib": 1177.37,
    "timestamp": 1795376297972,
}
SEEN = Metrics(2.0, 12.5, 24576.0, 1177.37, 1795376297972)


def line(**changes: Any) -> bytes:
    """One measurement as the daemon writes it: a single line end, no blank line."""
    return json.dumps({**SENT, **changes}).encode() + b"\n"


def test_get_reads_numbers_of_either_kind() -> None:
    with peer_sandbox(always(whole(200, SENT))) as (sandbox, _):
        assert sandbox.metrics.get() == SEEN


def test_a_number_that_is_missing_is_no_metrics() -> None:
    with peer_sandbox(always(whole(200, {"cpu_count": 2}))) as (sandbox, _), pytest.raises(
        ProtocolError, match="cpu_used_pct"
    ):
        sandbox.metrics.get()


def test_watch_yields_each_line_however_the_bytes_are_cut() -> None:
    both = line() + line(timestamp=2)
    for pieces in ([both], [both[:40], both[40:]], [line(), line(timestamp=2)]):
        with peer_sandbox(always(stream(*pieces, HANG))) as (sandbox, _), sandbox.metrics.watch() as watch:
            assert next(watch) == SEEN
            assert next(watch).timestamp == 2


def test_watch_ends_when_it_is_closed() -> None:
    with peer_sandbox(always(stream(line(), HANG))) as (sandbox, _):
        watch = sandbox.metrics.watch()
        seen: List[Metrics] = []
        for metrics in watch:
            seen.append(metrics)
            watch.close()
        assert seen == [SEEN]
        watch.close()
        assert list(watch) == []


def test_watch_ends_when_another_thread_closes_it() -> None:
    with peer_sandbox(always(stream(line(), HANG))) as (sandbox, _):
        watch = sandbox.metrics.watch()
        assert next(watch) == SEEN
        closing = threading.Timer(0.05, watch.close)
        closing.start()
        assert list(watch) == []
        closing.join()


def test_an_error_line_is_an_error_and_ends_the_watch() -> None:
    with peer_sandbox(always(stream(line(), b'{"error":"no /proc here"}\n', HANG))) as (sandbox, _):
        watch = sandbox.metrics.watch()
        assert next(watch) == SEEN
        with pytest.raises(ServerError, match="no /proc here"):
            next(watch)
        assert list(watch) == []


def test_a_stream_that_ends_or_breaks_by_itself_is_an_error() -> None:
    for answer in (stream(line()), cut(stream(line(), line()))):
        with peer_sandbox(always(answer)) as (sandbox, _):
            watch = sandbox.metrics.watch()
            assert next(watch) == SEEN
            with pytest.raises(StreamInterruptedError, match="could not watch the metrics"):
                list(watch)
            assert list(watch) == []


def test_silence_is_noticed() -> None:
    with peer_sandbox(always(stream(line(), HANG)), idle_timeout=0.5) as (sandbox, _):
        watch = sandbox.metrics.watch()
        assert next(watch) == SEEN
        with pytest.raises(StreamInterruptedError):
            next(watch)
