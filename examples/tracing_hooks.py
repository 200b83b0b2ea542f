"""One span for each request, made in the ``on_response`` hook: with OpenTelemetry where it is installed, else printed.

Addresses come without their query and headers without their values where those may be secrets, so a span can hold what
the records hold. A request's id is the one that the server logs.
"""

import os
import time
from typing import Callable
from urllib.parse import urlsplit

from opensandbox_sync import ResponseRecord, SandboxClient


def traced() -> Callable[[ResponseRecord], None]:
    """A hook that makes a span of each request."""
    try:
        from opentelemetry import trace
    except ImportError:
        return printed
    tracer = trace.get_tracer("opensandbox_sync")

    def hook(record: ResponseRecord) -> None:
        # The span of the caller is current here, so this one becomes its child; it began when the request did.
        ended = time.time_ns()
        span = tracer.start_span(
            f"{record.request.method} {urlsplit(record.request.url).path}",
            kind=trace.SpanKind.CLIENT,
            start_time=ended - int(record.elapsed * 1e9),
            attributes={
                "http.request.method": record.request.method,
                "url.full": record.request.url,
                "http.request.resend_count": record.request.attempt - 1,
                "http.response.status_code": record.status_code or 0,
                "opensandbox.request_id": record.request_id or "",
            },
        )
        if record.error is not None or (record.status_code or 0) >= 400:
            span.set_status(trace.StatusCode.ERROR, record.error or "")
        span.end(ended)

    return hook


def printed(record: ResponseRecord) -> None:
    """The same for a reader."""
    path = "/" + urlsplit(record.request.url).path.rsplit("/", 1)[-1]
    print(record.request.method, path, record.status_code or record.error)


def main() -> None:
    address = os.environ.get("OPEN_SANDBOX_DOMAIN")
    if address:
        run(SandboxClient(on_response=traced()))
        return
    from opensandbox_sync.local import LocalServer

    with LocalServer() as server:
        run(SandboxClient(**server.config, on_response=traced()))


def run(client: SandboxClient) -> None:
    """The work that is traced."""
    with client, client.create("python:3.12") as sandbox:
        print("it said", sandbox.commands.run("echo hello").stdout.strip())


if __name__ == "__main__":
    main()
