"""Metrics: what a sandbox uses of CPU and memory, once or as it changes. Facts: the daemon's ``/metrics`` routes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Deque, Iterator, Optional

from ..codec import SnakeCaseModel, decode
from ..errors import ClosedError, ProtocolError, SandboxError, ServerError, StreamInterruptedError, TransportError
from ..sse import EventDecoder, RawEvent, each_event

if TYPE_CHECKING:
    from ..sandbox import Sandbox
    from ..transport import Body


@dataclass
class Metrics(SnakeCaseModel):
    """``cpu_count`` cores, of which ``cpu_used_pct`` percent (0 to 100, of all together) were used; memory in MiB.

    ``timestamp`` is in Unix milliseconds. The daemon measures what it sees, which may be the whole host.
    """

    cpu_count: float
    cpu_used_pct: float
    mem_total_mib: float
    mem_used_mib: float
    timestamp: int


class MetricsService:
    """What a sandbox uses of CPU and memory; ``sandbox.metrics``."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def get(self) -> Metrics:
        """CPU and memory now; takes about a second, over which the daemon measures the CPU."""
        answer = self._sandbox._client._transport.request(
            self._sandbox._execd, "GET", "/metrics", action="read the metrics"
        )
        return answer.decode(Metrics)

    def watch(self) -> MetricsWatch:
        """Yield ``Metrics`` every one or two seconds (the server's pace) until it is closed.

        It is a context manager, too; leaving the loop without closing it keeps a connection busy.
        """
        client = self._sandbox._client
        body = client._transport.stream(
            self._sandbox._execd,
            "GET",
            "/metrics/watch",
            action="watch the metrics",
            headers={"Accept": "text/event-stream"},
            idle=client.config.idle_seconds,
        )
        return MetricsWatch(body)


class MetricsWatch:
    """An iterator of ``Metrics`` that ends when it is closed, by any thread.

    Raises ``StreamInterruptedError`` where the connection broke, or nothing came for the client's ``idle_timeout``, and
    ``ServerError`` with the daemon's words where it could not measure; both close it.
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        self._decoder = EventDecoder()
        self._ready: Deque[RawEvent] = deque()
        self._closed = False

    def __iter__(self) -> Iterator[Metrics]:
        return self

    def __next__(self) -> Metrics:
        try:
            while True:
                if self._closed:
                    raise StopIteration
                if self._ready:
                    return self._metrics(self._ready.popleft())
                self._ready.extend(self._read())
        except TransportError as cause:
            self.close()
            raise StreamInterruptedError(
                f"could not watch the metrics any longer: {cause}", request_id=self._body.request_id
            ) from cause
        except (SandboxError, KeyboardInterrupt) as error:
            if isinstance(error, ClosedError) and self._closed:
                raise StopIteration from None
            self.close()
            raise

    def close(self) -> None:
        """End it; idempotent, and allowed from another thread."""
        self._closed = True
        self._body.end()
        self._body.close()

    def __enter__(self) -> MetricsWatch:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self.close()

    def _read(self) -> Deque[RawEvent]:
        block = self._body.read()
        if not block:
            raise TransportError("the daemon ended the stream")
        # One line is one object, with a single line end: that is as good a frame to the decoder as any.
        events = self._decoder.feed(block)
        if not events:
            self._decoder.raise_for_rest()
        return deque(event.raw for event in each_event(events))

    def _metrics(self, event: RawEvent) -> Metrics:
        problem: Optional[Any] = event.get("error")
        if problem:
            raise ServerError(f"could not watch the metrics: {problem}", status_code=200, body=str(event))
        try:
            return decode(Metrics, event)
        except ProtocolError as error:
            error.request_id = self._body.request_id
            raise
