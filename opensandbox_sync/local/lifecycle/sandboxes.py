"""The sandboxes of this server: their states, and what is done to them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import threading
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from ..directories import remove_tree
from ..egress.sidecar import Sidecar
from . import launch, processes
from .creation import (
    DEFAULT_ENTRYPOINT,
    ECHOED_EXTENSIONS,
    expiry,
    first_policy,
    is_transparent,
    normal_platform,
    sandbox_env,
)
from .errors import ApiError, sandbox_not_found
from .isolation import Cell, Isolation

_ISOLATION = ECHOED_EXTENSIONS + "isolation"
_LONGEST_FACT = 4096

logger = logging.getLogger("opensandbox_sync.local")


def now() -> datetime:
    return datetime.now(timezone.utc)


def stamp(moment: datetime) -> str:
    """RFC 3339 with Z; microseconds only when there are any."""
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def without_none(fields: Dict[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


class Sandbox:
    """One sandbox: a daemon, what it has started, and a directory."""

    def __init__(
        self, request: Dict[str, Any], base: Path, restore_from: Optional[Path], isolation: Optional[Isolation]
    ) -> None:
        self.id = str(uuid.uuid4())
        self.created = now()
        self.expires = expiry(self.created, request.get("timeout"))
        self.metadata: Dict[str, str] = request.get("metadata") or {}
        self.entrypoint: List[str] = request.get("entrypoint") or DEFAULT_ENTRYPOINT
        self.directory = base / self.id
        self.image: Optional[str] = (request.get("image") or {}).get("uri")
        self.snapshot_id: Optional[str] = request.get("snapshotId")
        self.platform = normal_platform(request.get("platform"))
        given = request.get("extensions") or {}
        self.extensions = {key: value for key, value in given.items() if key.startswith(ECHOED_EXTENSIONS)}
        self.isolation = isolation.name if isolation else "none"
        self.extensions[_ISOLATION] = self.isolation  # whatever the client says
        policy = first_policy(request)
        self.has_network = isolation is None or policy is None or not policy.permits_nothing
        transparent = is_transparent(request)
        self.sidecar = (
            Sidecar(policy, transparent=transparent, has_network=self.has_network) if policy is not None else None
        )
        self.happenings: List[str] = []
        self._stopped: Optional[List[Any]] = None  # what pause has stopped; None while not paused
        self._exit: Optional[int] = None
        self._finished: Optional[datetime] = None
        self._lock = threading.RLock()
        self._family = processes.Family(self.id, self._daemon_pid, in_namespace=isolation is not None)
        self._cell = self._make_cell(request, isolation) if isolation else None
        self._daemon = self._start(request, restore_from)
        threading.Thread(target=self._watch, name=f"watch-{self.id}", daemon=True).start()

    def _make_cell(self, request: Dict[str, Any], isolation: Isolation) -> Cell:
        cell = Cell(isolation, self.directory, request, has_network=self.has_network)
        for text in cell.notes:
            self.note(text)
        if cell.unkept:
            logger.warning(
                "sandbox %s was made without limits that cannot be kept: %s", self.id, "; ".join(cell.unkept)
            )
        return cell

    def _start(self, request: Dict[str, Any], restore_from: Optional[Path]) -> launch.Daemon:
        try:
            launch.make_directory(self.directory, restore_from, isolated=self._cell is not None)
            daemon = launch.start(self.id, self.directory, sandbox_env(request), self.entrypoint, self._cell)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            self._clean_up()
            message = f"Failed to create or start container: {error}"
            raise ApiError(500, "DOCKER::SANDBOX_START_FAILED", message) from error
        self.note(f"started: process {daemon.process.pid}, port {daemon.port}, {self.directory}")
        return daemon

    @property
    def port(self) -> int:
        return self._daemon.port

    @property
    def token(self) -> str:
        return self._daemon.token

    @property
    def state(self) -> str:
        if self._exit is not None:
            return "Failed" if self._exit else "Terminated"
        return "Running" if self._stopped is None else "Paused"

    def note(self, text: str) -> None:
        """Keeps what happened, for the diagnostics."""
        self.happenings.append(f"{stamp(now())} {text}")

    def status(self) -> Dict[str, Any]:
        reason, message = {
            "Running": ("CONTAINER_RUNNING", "Sandbox container is running."),
            "Paused": ("CONTAINER_PAUSED", "Sandbox container is paused."),
            "Terminated": ("CONTAINER_EXITED", "Sandbox container exited successfully."),
            "Failed": ("CONTAINER_EXITED_ERROR", f"Sandbox container exited with code {self._exit}."),
        }[self.state]
        # As with Docker, the time is that of the end or of the creation: pause and resume do not move it.
        since = stamp(self._finished or self.created)
        return {"state": self.state, "reason": reason, "message": message, "lastTransitionAt": since}

    def to_json(self) -> Dict[str, Any]:
        return without_none(
            {
                "id": self.id,
                "image": {"uri": self.image} if self.image and not self.snapshot_id else None,
                "snapshotId": self.snapshot_id,
                "platform": self.platform,
                "status": self.status(),
                "metadata": self.metadata or None,
                "extensions": self.extensions or None,
                "entrypoint": self.entrypoint,
                "expiresAt": stamp(self.expires) if self.expires else None,
                "createdAt": stamp(self.created),
            }
        )

    def pause(self) -> None:
        """Stops every process of the sandbox; raises 409 when it is not running."""
        with self._lock:
            if self.state != "Running":
                message = "Sandbox is not in a running state."
                raise ApiError(409, "DOCKER::SANDBOX_NOT_RUNNING", message)
            self._stopped = self._family.stop()
            self.note(f"paused: {len(self._stopped)} processes")

    def resume(self) -> None:
        with self._lock:
            if self.state != "Paused" or self._stopped is None:
                raise ApiError(409, "DOCKER::SANDBOX_NOT_PAUSED", "Sandbox is not in a paused state.")
            processes.resume(self._stopped)
            self._stopped = None
            self.note("resumed")

    @contextlib.contextmanager
    def held_still(self) -> Iterator[None]:
        """Keeps every process stopped for a moment, as Docker does while it commits a container."""
        with self._lock:
            stopped = self._family.stop()
            try:
                yield
            finally:
                processes.resume(stopped)

    def kill(self) -> None:
        """Ends every process and removes the directory. Does not wait for `held_still`."""
        self._family.end()
        if self._daemon.process.stdin is not None:
            with contextlib.suppress(OSError):
                self._daemon.process.stdin.close()
        self._clean_up()

    def _clean_up(self) -> None:
        remove_tree(self.directory)
        if self._cell is not None:
            self._cell.remove()

    def _daemon_pid(self) -> Optional[int]:
        return self._daemon.process.pid if self._daemon.process.returncode is None else None

    def _watch(self) -> None:
        """Sees the daemon's end. Its stdout may stay open after that: what it has started may have it too."""
        following = threading.Thread(target=self._follow, name=f"follow-{self.id}", daemon=True)
        following.start()
        code = self._daemon.process.wait()
        following.join(1.0)  # its last words count first
        # A signal's number is told as a shell tells it.
        self._ended(f"daemon ended with code {code}", 128 - code if code < 0 else code or 1)

    def _follow(self) -> None:
        """Reads what the daemon says on its stdout."""
        process = self._daemon.process
        assert process.stdout is not None
        with process.stdout as facts:
            # Commands may write to it too, through /proc: nothing of this may hurt us.
            for line in iter(lambda: facts.readline(_LONGEST_FACT), b""):
                with contextlib.suppress(ValueError, RecursionError):
                    fact = json.loads(line)
                    if isinstance(fact, dict) and fact.get("entrypoint") == "exited" and type(fact.get("code")) is int:
                        self._ended(f"entrypoint exited with code {fact['code']}", fact["code"])

    def _ended(self, what: str, code: int) -> None:
        """The first end counts; what is left of the sandbox goes with it, as in a container."""
        with self._lock:
            if self._exit is not None:
                return
            self._exit, self._finished = code, now()
        self.note(what)
        self._family.end()


class Registry:
    """All sandboxes, by id. `close` ends them all; nothing can be created after it."""

    def __init__(self, base: Path, isolation: Optional[Isolation] = None) -> None:
        self._base = base
        self._isolation = isolation
        self._sandboxes: Dict[str, Sandbox] = {}
        self._changed = threading.Condition()
        self._making = 0
        self._closed = False

    @property
    def can_mount(self) -> bool:
        return self._isolation is not None

    def create(self, request: Dict[str, Any], restore_from: Optional[Path]) -> Sandbox:
        with self._changed:
            if self._closed:
                raise ApiError(503, "DOCKER::SANDBOX_START_FAILED", "The server is shutting down.")
            self._making += 1
        try:
            sandbox = Sandbox(request, self._base, restore_from, self._isolation)
            with self._changed:  # `expire_forever` looks through them
                self._sandboxes[sandbox.id] = sandbox
            return sandbox
        finally:
            with self._changed:
                self._making -= 1
                self._changed.notify_all()

    def get(self, sandbox_id: str) -> Sandbox:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            raise sandbox_not_found(sandbox_id)
        return sandbox

    def newest_first(self) -> Sequence[Sandbox]:
        return sorted(self._sandboxes.copy().values(), key=lambda sandbox: sandbox.created, reverse=True)

    def uses_snapshot(self, snapshot_id: str) -> bool:
        return any(sandbox.snapshot_id == snapshot_id for sandbox in self._sandboxes.copy().values())

    def is_daemon_of_another(self, port: int, sandbox_id: str) -> bool:
        return any(s.port == port and s.id != sandbox_id for s in self._sandboxes.copy().values())

    def kill(self, sandbox_id: str) -> None:
        """Ends a sandbox; a second call finds it gone, as on the real server."""
        with self._changed:
            sandbox = self._sandboxes.pop(sandbox_id, None)
        if sandbox is None:
            raise sandbox_not_found(sandbox_id)
        sandbox.kill()

    def renew(self, sandbox_id: str, expires: datetime) -> datetime:
        """Sets when the sandbox ends; sooner than before is fine, the past is not."""
        sandbox = self.get(sandbox_id)
        if expires <= now():
            message = "New expiration time must be in the future."
            raise ApiError(400, "DOCKER::INVALID_EXPIRATION", message)
        if sandbox.expires is None:
            message = f"Sandbox {sandbox_id} does not have automatic expiration enabled."
            raise ApiError(409, "DOCKER::INVALID_EXPIRATION", message)
        with self._changed:
            sandbox.expires = expires
            self._changed.notify_all()
        sandbox.note(f"renewed until {stamp(expires)}")
        return expires

    def expire_forever(self, parent_is_gone: Callable[[], None]) -> None:
        """Ends each sandbox when its time has come; runs in a thread of its own.

        Looks once a second: the wall clock, to which expiry times belong, may be set while we wait. It also
        sees a parent that is gone although a forked copy of it holds its end of our stdin open.
        """
        parent = os.getppid()
        while not self._closed:
            with self._changed:
                due = [s.id for s in self._sandboxes.values() if s.expires and s.expires <= now()]
                if not due:
                    self._changed.wait(self._until_next())
            for sandbox_id in due:
                try:
                    self.kill(sandbox_id)
                except ApiError:  # somebody else has killed it
                    pass
                except Exception:  # the others are to end all the same
                    logger.exception("sandbox %s could not be ended", sandbox_id)
            if os.getppid() != parent:
                parent_is_gone()
                return

    def _until_next(self) -> float:
        ends = [s.expires for s in self._sandboxes.values() if s.expires]
        return min([1.0, *(max(0.0, (end - now()).total_seconds()) for end in ends)])

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._making, timeout=10)
            sandboxes, self._sandboxes = list(self._sandboxes.values()), {}
        threads = [threading.Thread(target=sandbox.kill) for sandbox in sandboxes]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 20
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
