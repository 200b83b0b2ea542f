"""Metrics of a real machine."""

from __future__ import annotations

import threading

from opensandbox_sync import Sandbox
from opensandbox_sync.services.metrics import Metrics


def looks_real(metrics: Metrics) -> bool:
    return (
        metrics.cpu_count >= 1
        and 0 <= metrics.cpu_used_pct <= 100
        and 0 < metrics.mem_used_mib <= metrics.mem_total_mib
        and metrics.timestamp > 1_600_000_000_000
    )


def test_get_tells_what_is_used_now(sandbox: Sandbox) -> None:
    assert looks_real(sandbox.metrics.get())


def test_watch_goes_on_until_it_is_closed(sandbox: Sandbox) -> None:
    seen = []
    with sandbox.metrics.watch() as watch:
        for metrics in watch:
            seen.append(metrics)
            if len(seen) == 2:
                watch.close()
    assert len(seen) == 2
    assert all(map(looks_real, seen))
    assert seen[0].timestamp < seen[1].timestamp


def test_another_thread_can_end_a_watch(sandbox: Sandbox) -> None:
    watch = sandbox.metrics.watch()
    next(watch)
    closing = threading.Thread(target=watch.close)
    closing.start()
    for _ in watch:
        pass
    closing.join()
