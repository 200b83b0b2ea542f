"""Processor and memory as they are on this machine: a sandbox has no share of its own, so its view is the host's."""

from __future__ import annotations

import os
from typing import Dict, Iterator, List, Union

from flask import Response

from .events import now_ms
from .web import Route, answer, dumps, event_stream

# The real daemon measures for a second; a tenth gives a number as true, and spares every caller the wait.
SAMPLE_SECONDS = 0.1
WATCH_SECONDS = 1.0

_MIB = 1024 * 1024


def routes() -> List[Route]:
    return [("GET", "/metrics", once), ("GET", "/metrics/watch", watch)]


def once() -> Response:
    return answer(_sample(SAMPLE_SECONDS))


def watch() -> Response:
    return event_stream(_samples())


def _samples() -> Iterator[bytes]:
    while True:
        yield dumps(_sample(WATCH_SECONDS)).encode() + b"\n"  # one line end here, not two


def _sample(seconds: float) -> Dict[str, Union[int, float]]:
    import psutil  # when first asked: not every sandbox is

    used = psutil.cpu_percent(interval=seconds)
    memory = psutil.virtual_memory()
    return {
        "cpu_count": float(os.cpu_count() or 1),
        "cpu_used_pct": used,
        "mem_total_mib": memory.total / _MIB,
        "mem_used_mib": (memory.total - memory.available) / _MIB,
        "timestamp": now_ms(),
    }
