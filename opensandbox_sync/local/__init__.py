"""The embedded server: OpenSandbox's lifecycle, execd and egress APIs over processes of this machine.

Where bubblewrap works, each sandbox has namespaces and a file system of its own; the README's table says what that
protects from. Without it there is no isolation: commands run as the user who started the server, on this machine,
with its files and its network. Needs the extra `local`; importing this module does not load it.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import secrets
import select
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Optional, Sequence, Type, Union

from .child import python_argv
from .options import (
    ISOLATIONS,
    InvalidOptionError,
    LocalServerError,
    checked_host_paths,
    checked_isolation,
    checked_key,
    checked_port,
    checked_root,
)

__all__ = ["ISOLATIONS", "NOT_ISOLATED", "InvalidOptionError", "LocalServer", "LocalServerError"]

NOT_ISOLATED = "not isolated: images are ignored, and commands run as you, on this machine, with your files and network"
_START_SECONDS = 30.0
_STOP_SECONDS = 30.0
_REMOVE_SECONDS = 10.0
_NEEDED = ("flask", "cheroot", "psutil")

logger = logging.getLogger("opensandbox_sync.local")


class LocalServer:
    """Serves the OpenSandbox APIs from a process of its own on 127.0.0.1, for any client in any language.

    `port` 0 takes a free one; without `api_key` a random one is made. `allow_host_path` names the directory or
    directories that volumes may come from. `isolation` is "bubblewrap", "none", or "auto": bubblewrap where it
    works. With bubblewrap, `root` is a directory with the system that sandboxes see instead of this machine's
    (made by debootstrap, say). Raises InvalidOptionError for what cannot be. It is a context manager, and
    `SandboxClient(**server.config)` its client.
    """

    def __init__(
        self,
        port: int = 0,
        api_key: Optional[str] = None,
        *,
        allow_host_path: Union[str, Path, Sequence[Union[str, Path]]] = (),
        isolation: str = "auto",
        root: Union[str, Path, None] = None,
    ) -> None:
        self._port = checked_port(port)
        self.api_key = checked_key(api_key) or secrets.token_urlsafe(24)
        self._allow_host_path = checked_host_paths(allow_host_path)
        self._isolation = checked_isolation(isolation)
        self._root = checked_root(root, isolation)
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._directory: Optional[str] = None
        self._isolated = self._why = ""
        self._owner = 0

    @property
    def url(self) -> str:
        """`http://127.0.0.1:<port>`, without the `/v1` that clients add."""
        self._running()
        return f"http://127.0.0.1:{self._port}"

    @property
    def isolation(self) -> str:
        """`bubblewrap` or `none`: what keeps the sandboxes from this machine."""
        self._running()
        return self._isolated

    @property
    def why_not_isolated(self) -> str:
        """Why `auto` found that nothing can isolate here; empty otherwise."""
        return self._why

    @property
    def config(self) -> Dict[str, str]:
        """What a client needs, as keywords of `SandboxClient`: `domain` and `api_key`."""
        return {"domain": self.url, "api_key": self.api_key}

    def start(self) -> LocalServer:
        """Starts the server and returns when it answers; raises LocalServerError with the reason if not."""
        if self._process is not None:
            return self
        _check_machine()
        try:
            listening = socket.create_server(("127.0.0.1", self._port), backlog=128)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise LocalServerError(f"cannot listen on 127.0.0.1:{self._port}: {why}") from error
        with listening:
            settings = {
                "fd": listening.fileno(),
                "api_key": self.api_key,
                "allow_host_path": self._allow_host_path,
                "isolation": self._isolation,
                "root": self._root,
            }
            process = subprocess.Popen(
                python_argv("opensandbox_sync.local.lifecycle"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[listening.fileno()],
                start_new_session=True,
            )
            port = listening.getsockname()[1]
        try:
            fact = _handshake(process, settings)
        except BaseException:
            _finish(process)
            raise
        self._process, self._port, self._owner = process, port, os.getpid()
        self._directory, self._isolated, self._why = fact["directory"], fact["isolation"], fact["why"]
        if self._why:
            logger.warning("embedded server on 127.0.0.1:%d, %s (%s)", port, NOT_ISOLATED, self._why)
        else:
            logger.info("embedded server on 127.0.0.1:%d, isolation: %s", port, self._isolated)
        return self

    def stop(self) -> None:
        """Ends every sandbox and the server. May be called again; in a fork it ends nothing."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        _finish(process)
        if self._directory is not None:
            _remove(Path(self._directory))

    def wait(self) -> int:
        """Waits until the server's process ends by itself; returns its exit code."""
        return self._running().wait()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise LocalServerError("the embedded server is not running; call start()")
        return self._process

    def __enter__(self) -> LocalServer:
        return self.start()

    def __exit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.stop()

    def __reduce__(self) -> Any:
        raise TypeError(
            "a LocalServer cannot be pickled: it owns a process of this machine, which ends with it. "
            "Send its `config` instead."
        )

    def __repr__(self) -> str:
        where = f"127.0.0.1:{self._port}" if self._process is not None else "not running"
        return f"<LocalServer {where}>"


def _check_machine() -> None:
    if os.name != "posix":
        raise LocalServerError("the embedded server needs Linux or macOS: it works with signals")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise LocalServerError(
            f"the embedded server needs {', '.join(missing)}, which is not installed: "
            'pip install "opensandbox-sync[local]"'
        )


def _handshake(process: subprocess.Popen[bytes], settings: Dict[str, Any]) -> Dict[str, str]:
    """Sends the settings, waits for the line that says how it went, and returns what it says."""
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it has ended; the exit code says more
    if not select.select([process.stdout], [], [], _START_SECONDS)[0]:
        raise LocalServerError(f"the embedded server did not start within {_START_SECONDS:.0f} s")
    line = process.stdout.readline()
    process.stdout.close()
    if not line:
        raise LocalServerError(f"the embedded server ended while it started (exit code {process.wait()})")
    fact: Dict[str, str] = json.loads(line)
    if "error" in fact:
        raise LocalServerError(f"the embedded server did not start: {fact['error']}")
    return fact


def _remove(directory: Path) -> None:
    """Removes what a server left that was killed. Its sandboxes' processes may take a moment to end, and write."""
    from .directories import remove_tree

    deadline = time.monotonic() + _REMOVE_SECONDS
    while directory.exists() and time.monotonic() < deadline:
        remove_tree(directory)
        time.sleep(0.01)


def _finish(process: subprocess.Popen[bytes]) -> None:
    """Lets the server end by closing its stdin, and kills it if it does not."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                pass  # what was still to be written finds nobody
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
