"""The directories behind volumes: paths of this machine that are allowed, and named volumes of this server."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import Any, Dict, List, Sequence, Set, Tuple

from ..directories import remove_tree
from .bubblewrap import Bubblewrap, Mount
from .errors import ApiError
from .interpreter import is_below
from .volumes import is_under, refusal

Volume = Dict[str, Any]


class VolumeStore:
    """Named volumes are directories of this server and end with it."""

    def __init__(self, base: Path, allowed_host_paths: Sequence[str]) -> None:
        self._base = base
        self._allowed = allowed_host_paths
        self._lock = threading.Lock()

    def mounts(self, volumes: Sequence[Volume], bubblewrap: Bubblewrap) -> Tuple[List[Mount], List[str]]:
        """What to mount for these (checked) volumes, and the named ones to remove with the sandbox."""
        _check_targets(volumes, bubblewrap)
        made: List[str] = []
        for volume in volumes:
            if volume.get("pvc") and self._make(volume["pvc"]) and volume["pvc"].get("deleteOnSandboxTermination"):
                made.append(volume["pvc"]["claimName"])
        return [self._mount(volume) for volume in volumes], made

    def remove(self, names: Sequence[str]) -> None:
        for name in names:
            remove_tree(self._base / name)

    def _make(self, claim: Dict[str, Any]) -> bool:
        """Whether the named volume was made just now."""
        with self._lock:
            directory = self._base / claim["claimName"]
            if directory.exists():
                return False
            if not claim.get("createIfNotExists", True):
                message = f"Docker named volume '{claim['claimName']}' does not exist and createIfNotExists is false."
                raise refusal("PVC_NOT_FOUND", message)
            directory.mkdir()
            return True

    def _mount(self, volume: Volume) -> Mount:
        if volume.get("pvc"):
            root = self._base / volume["pvc"]["claimName"]
            start = root
        else:
            start = Path(volume["host"]["path"])
            root = next(Path(prefix) for prefix in self._allowed if is_under(str(start), prefix))
        try:
            root, start = root.resolve(), start.resolve()
            full = (start / (volume.get("subPath") or "")).resolve()
            if full != start and start not in full.parents:
                message = f"SubPath '{volume['subPath']}' leads out of its volume."
                raise refusal("INVALID_SUB_PATH", message)
            root.mkdir(parents=True, exist_ok=True)
            identity = _identity(root, full.relative_to(root).parts)
        except (OSError, ValueError, RuntimeError) as error:
            message = f"Volume '{volume['name']}' cannot be had: {error}"
            raise ApiError(500, "VOLUME::HOST_PATH_CREATE_FAILED", message) from error
        return Mount(str(full), volume["mountPath"], bool(volume.get("readOnly")), identity)


def _check_targets(volumes: Sequence[Volume], bubblewrap: Bubblewrap) -> None:
    targets: Set[str] = set()
    for volume in volumes:
        target = volume["mountPath"]
        why = bubblewrap.why_not(target)
        if why is None:
            # One sandbox could make a symlink in the outer volume, and the inner one would be mounted behind it.
            clash = [other for other in targets if is_below(target, [other]) or is_below(other, [target])]
            why = f"it overlaps {clash[0]}" if clash else None
        if why is not None:
            message = f"Volume '{volume['name']}' cannot be mounted at '{target}': {why}."
            raise refusal("INVALID_MOUNT_PATH", message)
        targets.add(target)


def _identity(root: Path, parts: Sequence[str]) -> Tuple[int, int]:
    """Device and inode of what lies there; directories that are missing are made.

    No symlink is followed: the path was resolved, so one on the way has come since then.
    """
    here = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        for part in parts:
            try:
                below = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=here)
            except FileNotFoundError:
                os.mkdir(part, dir_fd=here)
                below = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        found = os.fstat(here)
    finally:
        os.close(here)
    if stat.S_ISLNK(found.st_mode):
        raise ValueError("it has become a symlink")
    return found.st_dev, found.st_ino
