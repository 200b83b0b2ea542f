"""Stops, continues and ends all processes of a sandbox, also those that left its group, session or parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
import weakref
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence

import psutil

ID_VARIABLE = "OPENSANDBOX_ID"
_GIVE_UP_SECONDS = 10.0
_STOP_BEFORE_END_SECONDS = 1.0
_SETTLE_SECONDS = 0.25
_PR_SET_CHILD_SUBREAPER = 36

_adopting = threading.Event()
_starting = threading.Lock()
_started: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()


def adopt_orphans() -> None:
    """Makes what a sandbox leaves behind whose daemon is killed come to us, and not to the machine's first process.

    From then on every child of this process that `start` has not started is taken for one.
    """
    if psutil.LINUX and ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0:
        _adopting.set()


def start(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """`subprocess.Popen`, for all that this process starts once it has a sandbox: or it would be an orphan."""
    with _starting:
        process = subprocess.Popen(argv, **options)
        _started.add(process)
    return process


def _end_orphans() -> bool:
    """Kills the children that we have not started, and collects those that have ended; whether there were any.

    A living daemon adopts its sandbox's orphans itself. These are of sandboxes that have ended with their daemons,
    and whichever it was, they are to end. What is below one of them comes to us when it ends.
    """
    found = False
    if not _adopting.is_set():
        return found
    with _starting:
        ours = {process.pid for process in _started if process.returncode is None}
        for pid in _children():
            if pid not in ours:
                with contextlib.suppress(ProcessLookupError, PermissionError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)  # it is ours to collect: until then nobody else has its number
                    found = True
                    os.waitpid(pid, os.WNOHANG)
    return found


def _children() -> List[int]:
    """The fast way is needed: what forks and ends all the time is gone when psutil has looked at everything."""
    try:
        lists = [(thread / "children").read_text() for thread in Path("/proc/self/task").iterdir()]
    except OSError:  # a thread has ended just now, or this kernel has no such lists
        return [child.pid for child in psutil.Process().children()]
    return [int(pid) for text in lists for pid in text.split()]


class Family:
    """The processes of one sandbox: the daemon, all below it (it adopts its orphans), and strays with its id."""

    def __init__(self, sandbox_id: str, daemon: Callable[[], Optional[int]], *, in_namespace: bool) -> None:
        self._mark = f"{ID_VARIABLE}={sandbox_id}".encode()
        self._daemon = daemon
        self._in_namespace = in_namespace

    def tree(self, *, recursive: bool = True) -> List[psutil.Process]:
        root = self._daemon()
        if root is None:
            return []
        try:
            daemon = psutil.Process(root)
            return [process for process in [daemon, *daemon.children(recursive)] if _is_alive(process)]
        except psutil.Error:
            return []

    def _first_two(self) -> List[psutil.Process]:
        return self.tree(recursive=False)

    def everywhere(self) -> List[psutil.Process]:
        """The tree and the strays; it costs a look at every process of the machine."""
        found = self.tree()
        known = {process.pid for process in found} | {os.getpid()}
        for pid in psutil.pids():
            if pid not in known and _carries(pid, self._mark):
                try:
                    found.append(psutil.Process(pid))
                except psutil.Error:
                    pass
        return [process for process in found if _is_alive(process)]

    def stop(self) -> List[psutil.Process]:
        """Sends SIGSTOP until no running process is found any more; returns those that it stopped.

        A process that is already stopped was stopped by the sandbox itself, and is not continued later.
        """
        stopped: Dict[int, psutil.Process] = {}
        for find in (self.tree, self.everywhere):
            stopped.update(_stop_all(find))
        # The signal is sent; one that runs on another CPU, or waits for its disk, stops a little later.
        deadline = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < deadline and not all(map(_is_stopped, stopped.values())):
            time.sleep(0.001)
        return list(stopped.values())

    def end(self) -> None:
        """Kills until none is left. The tree is stopped first, so that nothing can fork away meanwhile. What forks
        faster than we look is an orphan when the daemon is dead, and then ours.

        A PID namespace ends as a whole and at once, with its first process, which is bwrap's only child. bwrap
        may be about to fork that: it is stopped first, too.
        """
        first = self._first_two if self._in_namespace else self.tree
        for process in _stop_all(first, _STOP_BEFORE_END_SECONDS).values():
            _signal(process, signal.SIGKILL)
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            # Not psutil's wait: it would take the daemon's exit code from whoever waits for it.
            time.sleep(0.002)
            left = self.everywhere()
            orphans = _end_orphans()
            if not left and not orphans:
                return
            while orphans and time.monotonic() < deadline:
                orphans = _end_orphans()
            for process in left:
                _signal(process, signal.SIGKILL)


def _stop_all(find: Callable[[], List[psutil.Process]], seconds: float = _GIVE_UP_SECONDS) -> Dict[int, psutil.Process]:
    stopped: Dict[int, psutil.Process] = {}
    deadline = time.monotonic() + seconds
    running = True
    while running and time.monotonic() < deadline:
        found = [p for p in find() if p.pid not in stopped and not _is_stopped(p)]
        running = bool(found)
        stopped.update((p.pid, p) for p in found if _signal(p, signal.SIGSTOP))
    return stopped


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
        # One whose first thread has ended looks like a zombie, and goes on with its others.
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) or bool(process.num_threads() > 1)
    except psutil.Error:
        return False


def _signal(process: psutil.Process, number: int) -> bool:
    try:
        process.send_signal(number)  # psutil looks first whether the pid still means this process
    except psutil.Error:
        return False
    return True


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return bool(process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP))
    except psutil.Error:
        return True


def resume(stopped: Iterable[psutil.Process]) -> None:
    for process in stopped:
        _signal(process, signal.SIGCONT)
