"""The daemon's children: started here, collected here, ended here."""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import IO, Any, Callable, Dict, Mapping, Optional, Sequence, Union

_PR_SET_CHILD_SUBREAPER = 36

# What Go calls the signals, for `signal: killed`.
_SIGNALS: Dict[int, str] = {
    signal.SIGHUP: "hangup",
    signal.SIGINT: "interrupt",
    signal.SIGQUIT: "quit",
    signal.SIGILL: "illegal instruction",
    signal.SIGTRAP: "trace/breakpoint trap",
    signal.SIGABRT: "aborted",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "floating point exception",
    signal.SIGKILL: "killed",
    signal.SIGUSR1: "user defined signal 1",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGUSR2: "user defined signal 2",
    signal.SIGPIPE: "broken pipe",
    signal.SIGALRM: "alarm clock",
    signal.SIGTERM: "terminated",
    signal.SIGXCPU: "CPU time limit exceeded",
    signal.SIGXFSZ: "file size limit exceeded",
}


class StartError(Exception):
    """The program could not be started; the text says why."""


class User:
    """Who a command runs as: the groups of a known user are looked up, as a login would."""

    def __init__(self, uid: int, gid: Optional[int]) -> None:
        self.uid = uid
        try:
            known = pwd.getpwuid(uid)
        except (KeyError, OverflowError) as error:
            if gid is None:
                raise StartError(f"user: unknown userid {uid}") from error
            self.gid, self.groups = gid, []
        else:
            self.gid = known.pw_gid if gid is None else gid
            self.groups = os.getgrouplist(known.pw_name, self.gid)

    def is_us(self) -> bool:
        return (self.uid, self.gid) == (os.geteuid(), os.getegid())

    def options(self) -> Dict[str, Any]:
        if self.is_us():
            return {}
        if sys.version_info >= (3, 9):
            return {"user": self.uid, "group": self.gid, "extra_groups": self.groups}
        return {"preexec_fn": self._become}

    def _become(self) -> None:  # system calls only: this runs between fork and exec of a process with threads
        os.setgroups(self.groups)
        os.setgid(self.gid)
        os.setuid(self.uid)


class Processes:
    """Starts programs and tells when each has ended.

    One thread waits for every child, so nobody polls. It also collects the orphans that come here because the
    daemon is a subreaper: whatever a command leaves behind stays in this process's tree until it ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = threading.Event()
        self._waiting: Dict[int, Callable[[int], None]] = {}
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        threading.Thread(target=self._collect, name="collect", daemon=True).start()

    def start(
        self,
        arguments: Sequence[str],
        on_exit: Callable[[int], None],
        *,
        cwd: Optional[str],
        environment: Mapping[str, str],
        stdout: Union[int, IO[bytes]],
        stderr: Union[int, IO[bytes]],
        user: Optional[User] = None,
    ) -> int:
        """Start a program as the leader of its own group and return its id.

        `on_exit` gets the exit code, -N where signal N ended it. `StartError` if it cannot be started.
        """
        program = arguments[0]
        executable = program if "/" in program else shutil.which(program)  # by our PATH, not by the command's
        if not executable:
            raise StartError(f'exec: "{program}": executable file not found in $PATH')
        if any("\0" in text for entry in environment.items() for text in entry):
            raise StartError("exec: environment variable contains NUL")
        with self._lock:  # the collector must not meet the child before it is registered
            try:
                process = subprocess.Popen(
                    arguments,
                    executable=executable,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    cwd=cwd,
                    env=dict(environment),
                    start_new_session=True,
                    **(user.options() if user else {}),
                )
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                raise StartError(_start_failure(executable, error)) from error

            def ended(code: int) -> None:
                process.returncode = code  # it was collected for it
                on_exit(code)

            self._waiting[process.pid] = ended
        self.notice()
        return process.pid

    def notice(self) -> None:
        """There may be a child to wait for, started here or by a library."""
        self._started.set()

    def _collect(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                self._started.wait()
                self._started.clear()
                continue
            with self._lock:
                ended = self._waiting.pop(pid, None)
            if ended:
                ended(-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


def _start_failure(program: str, error: Exception) -> str:
    if isinstance(error, subprocess.SubprocessError):
        return f"fork/exec {program}: {error}"
    number = error.errno if isinstance(error, OSError) else None  # a ValueError: there is a NUL in it
    return f"fork/exec {program}: {os.strerror(number or errno.EINVAL).lower()}"


def exit_text(code: int) -> str:
    """`exit status 3`, or `signal: killed` for a negative code."""
    if code >= 0:
        return f"exit status {code}"
    return f"signal: {_SIGNALS.get(-code, f'signal {-code}')}"


def group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is there, and somebody else's
        return True
    return True


def signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Look again and again, less and less often, until it is so or the time is over."""
    end, pause = time.monotonic() + seconds, 0.002
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    return True


def end_everything() -> None:
    """Kill this process's whole tree. What is being killed may fork: stop it all first, and look again."""
    import psutil

    own = psutil.Process()

    def lives(child: psutil.Process) -> bool:
        try:
            return bool(child.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:  # it was collected after it was listed
            return False

    def none_left() -> bool:
        try:
            living = [child for child in own.children(recursive=True) if lives(child)]
        except psutil.Error:
            return False
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for child in living:
                try:
                    child.send_signal(number)
                except psutil.Error:
                    pass
        return not living

    wait_until(none_left, 5.0)
