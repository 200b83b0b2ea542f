"""How a sandbox's daemon is started: its directories, its environment, its command line.

This is the one place where an isolation mode changes what is started.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Mapping, NamedTuple, Optional

from ..child import python_argv
from . import processes
from .bubblewrap import SHARED_MEMORY, make_places

if TYPE_CHECKING:
    from .isolation import Cell

LOG_NAME = "entrypoint.log"
_PLACES = ("home", "tmp", "work")


class Daemon(NamedTuple):
    """A running execd: it is the parent of everything in its sandbox."""

    process: subprocess.Popen[bytes]
    port: int
    token: str


def make_directory(directory: Path, copy_of: Optional[Path] = None, *, isolated: bool = False) -> None:
    """Makes the sandbox's places: empty ones, or those of a snapshot."""
    if copy_of is not None:
        copy_tree(copy_of, directory)
    directory.mkdir(exist_ok=True)
    if isolated:
        make_places(directory, restored=copy_of is not None)
        return
    for place in _PLACES:
        (directory / place).mkdir(exist_ok=True)
    if os.geteuid() == 0:  # commands may then run as other users, who must reach their own places
        directory.chmod(0o755)
        (directory / "tmp").chmod(0o1777)


def copy_tree(source: Path, target: Path) -> None:
    """Copies a sandbox's directory without its log and shared memory. `cp -a` keeps links, holes, times and modes."""
    target.mkdir(mode=0o700)
    names = sorted(path for path in source.iterdir() if path.name not in (LOG_NAME, SHARED_MEMORY))
    if names:
        argv = ["cp", "-a", "--", *map(str, names), str(target)]
        nothing = subprocess.DEVNULL
        with processes.start(argv, stdin=nothing, stdout=nothing, stderr=subprocess.PIPE) as copying:
            _, said = copying.communicate()
        if copying.returncode:
            raise subprocess.CalledProcessError(copying.returncode, argv, stderr=said)


def start(
    sandbox_id: str,
    directory: Path,
    env: Mapping[str, str],
    entrypoint: Optional[List[str]],
    cell: Optional[Cell] = None,
) -> Daemon:
    """Starts the daemon, in its cell if it has one, on a socket that already listens: it can be reached at once.

    Raises OSError, or ValueError for a variable that no environment can hold.
    """
    token = secrets.token_urlsafe(24)
    with contextlib.ExitStack() as opened:
        listening = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
        port = listening.getsockname()[1]
        # The official code interpreter is ready once something listens here; the daemon itself serves /code.
        variables = {**env, processes.ID_VARIABLE: sandbox_id, "JUPYTER_PORT": str(port)}
        passed = [listening.fileno()]
        if cell is None:
            argv, variables = python_argv("opensandbox_sync.local.execd"), _environment(directory, variables)
        else:
            arguments = opened.enter_context(cell.arguments(variables))
            passed += arguments.descriptors
            argv, variables = cell.argv(arguments), {}
        settings = {
            "fd": listening.fileno(),
            "token": token,
            "directory": str(directory),
            "sandbox_id": sandbox_id,
            "entrypoint": entrypoint,
            "confinement": cell.confinement if cell else None,
        }
        process = processes.start(
            argv,
            cwd=directory / "work",
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=opened.enter_context((directory / LOG_NAME).open("ab")),
            pass_fds=passed,
            start_new_session=True,
        )
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:  # it ended at once; whoever waits for it will see that
        pass
    return Daemon(process, port, token)


def _environment(directory: Path, env: Mapping[str, str]) -> Dict[str, str]:
    """All that commands see: nothing of the user's but PATH, LANG and TERM, and what create gave."""
    # The interpreter's own directory comes last: "python" is then there also where only python3 is installed.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    return {
        "PATH": path,
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "TERM": os.environ.get("TERM", "xterm"),
        "HOME": str(directory / "home"),
        "TMPDIR": str(directory / "tmp"),
        **env,
        "EXECD_ENVS": str(directory / ".execd-envs"),
    }
