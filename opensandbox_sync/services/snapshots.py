"""Snapshots: copies of sandboxes, to create others from. Facts: the lifecycle API's ``/snapshots``."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple
from urllib.parse import quote

from ..client import all_pages, decode_page, page_params
from ..config import Duration, seconds
from ..models import Page, one_or_more, require_text
from ..readiness import wait_for_state

if TYPE_CHECKING:
    from ..client import SandboxClient

# The server compares states as they are written.
_STATES = {state.lower(): state for state in ("Creating", "Deleting", "Ready", "Failed")}


@dataclass
class SnapshotStatus:
    """``state`` is Creating, Ready, Failed, Deleting, or one not known yet; ``reason`` and ``message`` say why."""

    state: str
    reason: Optional[str] = None
    message: Optional[str] = None
    last_transition_at: Optional[datetime] = None


@dataclass
class SnapshotInfo:
    """A snapshot of the sandbox ``sandbox_id``; ``raw`` is the whole answer."""

    id: str
    sandbox_id: str
    status: SnapshotStatus
    name: Optional[str] = None
    created_at: Optional[datetime] = None
    raw: Dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def state(self) -> str:
        """``status.state``."""
        return self.status.state


class SnapshotService:
    """Makes and keeps snapshots; ``client.snapshots``. ``client.create(snapshot_id=…)`` restores one."""

    def __init__(self, client: SandboxClient) -> None:
        self._client = client

    def create(self, sandbox_id: str, *, name: Optional[str] = None) -> SnapshotInfo:
        """Start a snapshot of a running sandbox; it is made in the background (``wait_ready``).

        Raises ``ConflictError`` where the sandbox is not running, ``NotSupportedError`` where the runtime makes none.
        """
        body = {} if name is None else {"name": require_text("name", name)}
        path = "/sandboxes/" + quote(require_text("sandbox_id", sandbox_id), safe="") + "/snapshots"
        answer = self._client._call("POST", path, action=f"make a snapshot of sandbox {sandbox_id}", json=body)
        return answer.decode(SnapshotInfo)

    def get(self, snapshot_id: str) -> SnapshotInfo:
        """What the server knows of a snapshot; ``NotFoundError`` where there is none."""
        return self._get(snapshot_id, None)

    def list(
        self,
        *,
        sandbox_id: Optional[str] = None,
        name: Optional[str] = None,
        states: Optional[Iterable[str]] = None,
    ) -> Iterator[SnapshotInfo]:
        """All snapshots, newest first, each once: of one sandbox, of that exact name, in one of ``states``.

        All pages are read before the first is given, so deleting while looping skips nobody.
        """
        filters: List[Tuple[str, Any]] = []
        if sandbox_id is not None:
            filters.append(("sandboxId", require_text("sandbox_id", sandbox_id)))
        if name is not None:
            filters.append(("name", require_text("name", name)))
        for state in one_or_more("states", states):
            filters.append(("state", _STATES.get(require_text("state", state).lower(), state)))

        def read(number: int) -> Page[SnapshotInfo]:
            params = page_params(number, 200) + filters
            answer = self._client._call("GET", "/snapshots", action="list snapshots", params=params)
            return decode_page(SnapshotInfo, answer)

        return iter(all_pages(read, lambda snapshot: snapshot.id))

    def delete(self, snapshot_id: str) -> None:
        """Delete a snapshot. ``ConflictError`` while it is being made, or a sandbox runs from it."""
        self._client._call("DELETE", _path(snapshot_id), action=f"delete snapshot {snapshot_id}")

    def wait_ready(
        self, snapshot_id: str, timeout: Duration = 300, *, on_progress: Optional[Callable[[str], None]] = None
    ) -> SnapshotInfo:
        """Wait until a snapshot can be restored, and return it then; ``on_progress`` is called with a line of text at
        each look.

        Raises ``SandboxFailedError`` with the server's reason where it failed or is being deleted,
        ``SandboxReadyTimeoutError`` after ``timeout`` seconds, ``NotFoundError`` where there is none.
        """

        def look(left: float) -> Tuple[SnapshotInfo, str, str]:
            snapshot = self._get(snapshot_id, left)
            status = snapshot.status
            return snapshot, status.state, " ".join(filter(None, (status.reason, status.message)))

        return wait_for_state(
            self._client,
            f"snapshot {snapshot_id}",
            look,
            wanted="Ready",
            failed=("Failed", "Deleting"),
            timeout=seconds("timeout", timeout),
            on_progress=on_progress,
        )

    def _get(self, snapshot_id: str, left: Optional[float]) -> SnapshotInfo:
        limit = self._client.config.timeout_seconds
        answer = self._client._call(
            "GET",
            _path(snapshot_id),
            action=f"look up snapshot {snapshot_id}",
            timeout=limit if left is None else min(limit, left),
        )
        return answer.decode(SnapshotInfo)


def _path(snapshot_id: str) -> str:
    return "/snapshots/" + quote(require_text("snapshot_id", snapshot_id), safe="")
