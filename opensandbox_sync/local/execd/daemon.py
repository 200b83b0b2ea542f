"""One sandbox's daemon, from its line of settings to its end."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import traceback
from typing import List, Optional

from ..child import on_parent_gone, read_settings
from .processes import Processes, StartError, end_everything

_PR_SET_PDEATHSIG = 1


def run() -> None:
    settings = read_settings()
    if settings.get("confinement"):
        from .confinement import confine

        confine(settings["confinement"])
    else:
        _wake_without_a_parent()
    on_parent_gone(_end)
    signal.signal(signal.SIGTERM, lambda *_: _end())
    signal.signal(signal.SIGINT, lambda *_: None)  # not for us; but commands get it as usual
    if os.geteuid() == 0:
        os.setgroups([])  # or those who act through /v1/filesystem would have root's groups
    processes = Processes()
    _run_entrypoint(processes, settings.get("entrypoint"))
    from ..serving import Server
    from .app import create_app

    listener = socket.socket(fileno=settings["fd"])
    Server(listener, create_app(settings.get("token"), processes)).start()


def _wake_without_a_parent() -> None:
    """If the server is killed while the sandbox is paused, nobody else would ever continue us, to end everything."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)


def _run_entrypoint(processes: Processes, entrypoint: Optional[List[str]]) -> None:
    """Start what would be the container's main process; its output goes to the sandbox's log, our stderr.

    Images are ignored here, so a program that is not on this machine is told in that log and is no failure.
    """
    if not entrypoint:
        return
    log = sys.stderr.buffer
    try:
        processes.start(entrypoint, _report, cwd=None, environment=os.environ, stdout=log, stderr=log)
    except StartError as error:
        print(f"the entrypoint was not run: {error}", file=sys.stderr, flush=True)


def _report(code: int) -> None:
    """Tell the control plane how the entrypoint ended: 128 + N for signal N, as a container does."""
    print(json.dumps({"entrypoint": "exited", "code": code if code >= 0 else 128 - code}), flush=True)


def _end() -> None:
    try:
        end_everything()
    except Exception:
        traceback.print_exc()  # into the sandbox's log
    finally:
        os._exit(0)
