"""What the daemon of an isolated sandbox does to itself before it starts anything."""

from __future__ import annotations

import os
import random
import resource
import threading
from pathlib import Path
from typing import Any, Dict, List


def confine(wanted: Dict[str, Any]) -> None:
    """Ends the daemon if a volume is not what was checked: a directory may have been exchanged before the mount."""
    for path, device, inode in wanted["volumes"]:
        found = Path(path).stat()
        if (found.st_dev, found.st_ino) != (device, inode):
            raise SystemExit(f"the volume at {path} is not the directory that was asked for")
    if "memory" in wanted:
        threading.stack_size(1 << 20)  # of which each thread's counts as a whole
        _limit(resource.RLIMIT_DATA, wanted["memory"])
    if "processes" in wanted:
        _limit(resource.RLIMIT_NPROC, wanted["processes"])
    if "cpus" in wanted:
        cpus: List[int] = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, random.sample(cpus, min(wanted["cpus"], len(cpus))))


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    least = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (least, least))
