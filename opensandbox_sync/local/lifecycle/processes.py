"""Stops, continues and ends all processes of a sandbox, also those that left its group, session or parent."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Optional

import psutil

ID_VARIABLE = "OPENSANDBOX_ID"
_GIVE_UP_SECONDS = 10.0


def members(sandbox_id: str, root: Optional[int]) -> List[psutil.Process]:
    """The daemon and all below it (it adopts its orphans), and whatever else carries the sandbox's id."""
    found: Dict[int, psutil.Process] = {}
    if root is not None:
        try:
            daemon = psutil.Process(root)
            found = {process.pid: process for process in [daemon, *daemon.children(recursive=True)]}
        except psutil.Error:
            pass
    mark = f"{ID_VARIABLE}={sandbox_id}".encode()
    for pid in psutil.pids():
        if pid not in found and pid != os.getpid() and _carries(pid, mark):
            try:
                found[pid] = psutil.Process(pid)
            except psutil.Error:
                pass
    return [process for process in found.values() if _is_alive(process)]


def _carries(pid: int, mark: bytes) -> bool:
    """Whether the process was started with `mark` in its environment; of other users' nobody can tell."""
    try:
        if psutil.LINUX:
            return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        name, _, value = mark.decode().partition("=")
        return bool(psutil.Process(pid).environ().get(name) == value)
    except (OSError, psutil.Error):
        return False


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    except psutil.Error:
        return False


def _signal(process: psutil.Process, number: int) -> bool:
    try:
        process.send_signal(number)  # psutil looks first whether the pid still means this process
    except psutil.Error:
        return False
    return True


def stop(find: Callable[[], List[psutil.Process]]) -> List[psutil.Process]:
    """Sends SIGSTOP until no running process is found any more; returns those that it stopped.

    A process that is already stopped was stopped by the sandbox itself, and is not continued later.
    """
    stopped: Dict[int, psutil.Process] = {}
    deadline = time.monotonic() + _GIVE_UP_SECONDS
    while time.monotonic() < deadline:
        running = [process for process in find() if process.pid not in stopped and not _is_stopped(process)]
        if not running:
            break
        for process in running:
            if _signal(process, signal.SIGSTOP):
                stopped[process.pid] = process
    return list(stopped.values())


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return bool(process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP))
    except psutil.Error:
        return True


def resume(stopped: Iterable[psutil.Process]) -> None:
    for process in stopped:
        _signal(process, signal.SIGCONT)


def end(find: Callable[[], List[psutil.Process]]) -> None:
    """Kills until none is left. They are stopped first, so that none can fork away meanwhile."""
    deadline = time.monotonic() + _GIVE_UP_SECONDS
    stop(find)
    while time.monotonic() < deadline:
        left = find()
        if not left:
            return
        for process in left:
            _signal(process, signal.SIGKILL)
        time.sleep(0.005)  # not psutil's wait: it would take the daemon's exit code from whoever waits for it
