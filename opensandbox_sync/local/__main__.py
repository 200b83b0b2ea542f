"""`python -m opensandbox_sync.local`: serves any OpenSandbox client from this machine, in the foreground."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import List, Optional

from . import ISOLATIONS, NOT_ISOLATED, LocalServer, LocalServerError


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m opensandbox_sync.local",
        description="An OpenSandbox server over processes of this machine, on 127.0.0.1 only. Without bubblewrap it is "
        + NOT_ISOLATED
        + ".",
    )
    add_arguments(parser)
    try:
        return serve(parser.parse_args(argv))
    except LocalServerError as error:
        print(f"opensandbox_sync.local: {error}", file=sys.stderr)
        return 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `serve` reads; `opensandbox-sync serve` has the same."""
    parser.add_argument("--port", type=int, default=8080, help="port (default: 8080; 0 takes a free one)")
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        help="key of the clients (default: $OPEN_SANDBOX_API_KEY, which `ps` does not show, or random)",
    )
    parser.add_argument(
        "--allow-host-path",
        metavar="DIR",
        action="append",
        default=[],
        help="directory that volumes may come from (may be given several times)",
    )
    parser.add_argument(
        "--isolation",
        choices=ISOLATIONS,
        default="auto",
        help="what keeps sandboxes from this machine (default: bubblewrap where it works, else none)",
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        help="with bubblewrap: a directory whose system sandboxes see instead of this machine's",
    )


def serve(given: argparse.Namespace) -> int:
    """Serves until it is ended. Raises LocalServerError."""
    from_environment = not given.api_key and os.environ.get("OPEN_SANDBOX_API_KEY")
    server = LocalServer(
        given.port,
        given.api_key or from_environment or None,
        allow_host_path=[Path(path).absolute() for path in given.allow_host_path],
        isolation=given.isolation,
        root=given.root,
    )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with server:
            print(f"OpenSandbox API: {server.url}")
            # Who set the variable knows it; logs that others read need not.
            print(f"API key:         {'that of $OPEN_SANDBOX_API_KEY' if from_environment else server.api_key}")
            why = f": {server.why_not_isolated}" if server.why_not_isolated else ""
            print(f"Isolation:       {server.isolation}{why}")
            if server.isolation == "none":
                print(f"Warning:         {NOT_ISOLATED}.")
            print("Ctrl-C ends it and every sandbox.", flush=True)
            code = server.wait()
            raise LocalServerError(f"the server's process ended (exit code {code})")
    except KeyboardInterrupt:
        return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
