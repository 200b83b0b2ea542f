"""The daemon inside each sandbox of the embedded server: commands, sessions, files, code, metrics.

It speaks the execd API of OpenSandbox 1.1 for one sandbox, over a socket that its parent made. Nothing here
is imported before `main` runs, and nothing here imports the client.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Serve one sandbox until standard input ends; the settings are one line of JSON on it."""
    from .daemon import run

    run()
