"""What the daemon of an isolated sandbox does to itself before it starts anything."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import threading
from pathlib import Path
from typing import Any, Dict, List

_PR_SET_DUMPABLE = 4


def confine(wanted: Dict[str, Any]) -> None:
    """Ends the daemon if a volume is not what was checked: a directory may have been exchanged before the mount."""
    forbid_tracing()
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


def forbid_tracing() -> None:
    """Commands have our uid, and we have sockets of the machine's network, which a sandbox may not have.

    What is not dumpable can neither be traced nor written to, nor can its descriptors be taken, by anybody without
    the capability for it. A program that is started is dumpable again.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_DUMPABLE")


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    least = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (least, least))
