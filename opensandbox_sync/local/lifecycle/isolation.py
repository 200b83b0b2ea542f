"""What isolates sandboxes, where anything does: bubblewrap, and each sandbox's volumes and limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..child import boot_argv
from .bubblewrap import Arguments, Bubblewrap
from .interpreter import OURS
from .limits import Limits, remove_abandoned
from .mounts import VolumeStore


class Isolation:
    """Makes a cell for each sandbox. Raises UnavailableError where bubblewrap does not work."""

    name = "bubblewrap"

    def __init__(self, root: Optional[str], base: Path, allowed_host_paths: Sequence[str]) -> None:
        self.bubblewrap = Bubblewrap(base, root)
        remove_abandoned()
        self.volumes = VolumeStore(base / "volumes", allowed_host_paths)


class Cell:
    """What is around one sandbox's daemon. Raises ApiError for a volume that cannot be had."""

    def __init__(self, isolation: Isolation, directory: Path, request: Mapping[str, Any], *, has_network: bool) -> None:
        self._bubblewrap = isolation.bubblewrap
        self._store = isolation.volumes
        self._directory = directory
        self._has_network = has_network
        self._volumes, self._made = self._store.mounts(request.get("volumes") or [], isolation.bubblewrap)
        self._limits = Limits(directory.name, request.get("resourceLimits") or {})
        self.unkept = self._limits.unkept
        self.notes = [f"isolation: {isolation.name}", f"limits: {'; '.join(self._limits.notes)}"]

    @property
    def confinement(self) -> Dict[str, Any]:
        """What the daemon does to itself before it starts anything."""
        volumes = [[mount.target, *mount.identity] for mount in self._volumes]
        return {"volumes": volumes, **self._limits.left_to_the_daemon}

    def arguments(self, env: Mapping[str, str]) -> Arguments:
        """Raises ValueError as `Bubblewrap.arguments` does."""
        return self._bubblewrap.arguments(self._directory, env, self._volumes, network=self._has_network)

    def argv(self, arguments: Arguments) -> List[str]:
        python = self._bubblewrap.python
        daemon = boot_argv("opensandbox_sync.local.execd", python.argv, OURS, python.path)
        return self._limits.joining([*arguments.bwrap, *daemon])

    def remove(self) -> None:
        """Removes what is left when all processes have ended. The mounts went with the last of them."""
        self._store.remove(self._made)
        self._limits.remove()
