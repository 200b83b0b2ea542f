"""Snapshots: copies of a sandbox's directory, made while its processes stand still."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from ..directories import remove_tree
from . import launch
from .errors import ApiError
from .sandboxes import Sandbox, now, stamp, without_none


class Snapshot:
    def __init__(self, sandbox_id: str, name: Optional[str], base: Path) -> None:
        self.id = str(uuid.uuid4())
        self.sandbox_id = sandbox_id
        self.name = name
        self.created = now()
        self.directory = base / self.id
        self.readers = 0
        self.become("Creating", "snapshot_accepted", "Snapshot creation accepted.")

    def become(self, state: str, reason: str, message: str) -> None:
        self.state = state
        since = stamp(self.created if state == "Creating" else now())
        self._status = {"state": state, "reason": reason, "message": message, "lastTransitionAt": since}

    def to_json(self) -> Dict[str, Any]:
        return without_none(
            {
                "id": self.id,
                "sandboxId": self.sandbox_id,
                "name": self.name,
                "status": self._status,
                "createdAt": stamp(self.created),
            }
        )


class SnapshotStore:
    def __init__(self, base: Path) -> None:
        self._base = base
        self._snapshots: Dict[str, Snapshot] = {}
        self._lock = threading.Lock()

    def create(self, sandbox: Sandbox, name: Optional[str]) -> Dict[str, Any]:
        """Accepts a snapshot and makes it in the background; returns it as it was accepted."""
        if sandbox.state != "Running":
            message = "Snapshot can only be created from a Running sandbox."
            raise ApiError(409, "SNAPSHOT::INVALID_SOURCE_STATE", message)
        snapshot = Snapshot(sandbox.id, name, self._base)
        accepted = snapshot.to_json()
        with self._lock:
            self._snapshots[snapshot.id] = snapshot
        threading.Thread(target=self._copy, args=(snapshot, sandbox), daemon=True).start()
        return accepted

    def _copy(self, snapshot: Snapshot, sandbox: Sandbox) -> None:
        try:
            with sandbox.held_still():
                launch.copy_tree(sandbox.directory, snapshot.directory)
        except Exception as error:  # or it would be told as being made for ever
            remove_tree(snapshot.directory)
            said = getattr(error, "stderr", None) or b""
            message = said.decode("utf-8", "replace").strip()[:500] or str(error)
            snapshot.become("Failed", "snapshot_runtime_failed", message)
        else:
            message = "The sandbox's directory was copied."
            snapshot.become("Ready", "snapshot_runtime_ready", message)
        sandbox.note(f"snapshot {snapshot.id}: {snapshot.state}")

    def get(self, snapshot_id: str) -> Snapshot:
        snapshot = self._snapshots.get(snapshot_id)
        if snapshot is None:
            raise ApiError(404, "SNAPSHOT::NOT_FOUND", f"Snapshot {snapshot_id} not found")
        return snapshot

    def newest_first(self) -> List[Snapshot]:
        return sorted(self._snapshots.copy().values(), key=lambda s: (s.created, s.id), reverse=True)

    def acquire(self, snapshot_id: str) -> Path:
        """The directory to restore from. It is not deleted before `release`."""
        with self._lock:
            snapshot = self.get(snapshot_id)
            if snapshot.state != "Ready":
                message = f"Snapshot {snapshot_id} is not ready for restore."
                raise ApiError(409, "SNAPSHOT::NOT_READY", message)
            snapshot.readers += 1
        return snapshot.directory

    def release(self, snapshot_id: str) -> None:
        with self._lock:
            self._snapshots[snapshot_id].readers -= 1

    def delete(self, snapshot_id: str, in_use: Callable[[str], bool]) -> None:
        """As on the real server, one that a sandbox was made from stays `Deleting` until a later call."""
        with self._lock:
            snapshot = self.get(snapshot_id)
            if snapshot.state == "Creating":
                message = f"Snapshot {snapshot_id} is still being created and cannot be deleted"
                raise ApiError(409, "SNAPSHOT::INVALID_STATE", message)
            if snapshot.readers:
                message = f"Snapshot {snapshot_id} is being restored and cannot be deleted"
                raise ApiError(409, "SNAPSHOT::DELETE_CONFLICT", message)
            if in_use(snapshot_id):
                message = f"Snapshot {snapshot_id} is in use by a sandbox and cannot be deleted"
                snapshot.become("Deleting", "snapshot_in_use", message)
                raise ApiError(409, "SNAPSHOT::DELETE_CONFLICT", message)
            del self._snapshots[snapshot_id]
        remove_tree(snapshot.directory)
