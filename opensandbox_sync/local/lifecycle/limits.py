"""Resource limits of a sandbox: by control groups where they can be made, else by what any process may set."""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple

PROCESSES = 2048
# With less the daemon itself, which must keep the limit too, could not live.
_LEAST_MEMORY = 192 << 20
_PERIOD_MICROSECONDS = 100_000
_REMOVE_SECONDS = 5.0
_PREFIX = "opensandbox-"
_YOUNG_SECONDS = 60.0
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
# Its arguments: how many groups, their directories, the program. What joins before it forks takes all with it.
_JOIN = 'n=$1; shift; while [ $n -gt 0 ]; do echo $$ >"$1/cgroup.procs" || exit 1; shift; n=$((n-1)); done; exec "$@"'


class Limits:
    """The limits of one sandbox. `notes` says of each how it is kept, or that it is not; `unkept` are those that were
    asked for and are not.

    A control group holds for the sandbox as a whole. What is left is the daemon's to set, for each process alone.
    """

    def __init__(self, sandbox_id: str, resources: Mapping[str, str]) -> None:
        self.notes: List[str] = []
        self.unkept: List[str] = []
        self.left_to_the_daemon: Dict[str, int] = {}
        self._groups: List[Path] = []
        self._name = _PREFIX + sandbox_id
        self._parents = _parents()
        for name, value in sorted(resources.items()):
            if name == "memory":
                self._memory(value)
            elif name == "cpu":
                self._cpu(value)
            else:
                self.unkept.append(f"{name} {value}")
                self.notes.append(f"{name} {value}: not kept")
        self._processes()

    def _memory(self, value: str) -> None:
        wanted = memory_bytes(value)
        least = max(wanted, _LEAST_MEMORY)
        what = f"memory {value}" if wanted == least else f"memory {value} (raised to {least >> 20}Mi for the daemon)"
        if self._set("memory", least):
            self.notes.append(f"{what}: control group")
        else:
            # Not RLIMIT_AS: Node, Java and Go reserve far more addresses than they ever use.
            self.left_to_the_daemon["memory"] = least
            self.notes.append(f"{what}: RLIMIT_DATA, for each process alone")

    def _cpu(self, value: str) -> None:
        cpus = cpu_count(value)
        if self._set("cpu", max(1000, int(cpus * _PERIOD_MICROSECONDS))):
            self.notes.append(f"cpu {value}: control group")
        elif cpus < len(os.sched_getaffinity(0)):
            self.left_to_the_daemon["cpus"] = math.ceil(cpus)
            self.notes.append(f"cpu {value}: {math.ceil(cpus)} whole, by an affinity that a process may change")
        else:
            self.notes.append(f"cpu {value}: this machine has no more")

    def _processes(self) -> None:
        if self._set("pids", PROCESSES):
            self.notes.append(f"{PROCESSES} processes: control group")
        elif os.geteuid() == 0:
            self.notes.append("number of processes: not kept (no control group here, and root is exempt from the rest)")
        else:
            self.left_to_the_daemon["processes"] = PROCESSES
            self.notes.append(f"{PROCESSES} processes: RLIMIT_NPROC")

    def _set(self, controller: str, value: int) -> bool:
        parent = self._parents.get(controller)
        if parent is None:
            return False
        group = parent.directory / self._name
        try:
            group.mkdir(exist_ok=True)
            if group not in self._groups:
                self._groups.append(group)
            (group / parent.file).write_text(parent.form.format(value))
        except OSError:
            return False
        return True

    def joining(self, argv: List[str]) -> List[str]:
        """The command line that joins the control groups and becomes `argv`."""
        if not self._groups:
            return argv
        return ["/bin/sh", "-c", _JOIN, "sh", str(len(self._groups)), *map(str, self._groups), *argv]

    def remove(self) -> None:
        """Removes the groups. The kernel needs a moment to see that the last process has gone."""
        deadline = time.monotonic() + _REMOVE_SECONDS
        while self._groups and time.monotonic() < deadline:
            for group in list(self._groups):
                with contextlib.suppress(OSError):
                    group.rmdir()
                if not group.exists():
                    self._groups.remove(group)
            if self._groups:
                time.sleep(0.002)


def remove_abandoned() -> None:
    """Removes the groups of servers that were killed. One with a process in it cannot be removed."""
    for parent in _parents().values():
        for group in parent.directory.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                if time.time() - group.stat().st_mtime > _YOUNG_SECONDS:  # a young one may wait for its first
                    group.rmdir()


class _Parent(NamedTuple):
    directory: Path  # where a group may be made
    file: str
    form: str = "{}"


_FIRST = {
    "memory": _Parent(Path(), "memory.limit_in_bytes"),
    "cpu": _Parent(Path(), "cpu.cfs_quota_us"),
    "pids": _Parent(Path(), "pids.max"),
}
_SECOND = {
    "memory": _Parent(Path(), "memory.max"),
    "cpu": _Parent(Path(), "cpu.max", f"{{}} {_PERIOD_MICROSECONDS}"),
    "pids": _Parent(Path(), "pids.max"),
}


def _parents() -> Dict[str, _Parent]:
    """Where groups may be made, by controller; of both versions of control groups, which a machine may mix."""
    found: Dict[str, _Parent] = {}
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        mounts = _mounts()
    except OSError:  # not Linux, or no /proc
        return found
    for line in lines:
        _, names, path = line.split(":", 2)
        if not names and "" in mounts:
            found.update(_second(mounts[""], path))
        for name in set(names.split(",")) & set(_FIRST) & set(mounts):
            own = mounts[name] / path.lstrip("/")
            if os.access(own, os.W_OK):
                found[name] = _FIRST[name]._replace(directory=own)
    return found


def _second(top: Path, path: str) -> Dict[str, _Parent]:
    """The nearest group above us that is ours to divide. Our own is not: in version 2 it holds processes."""
    own = top / path.lstrip("/")
    for group in [above for above in own.parents if above == top or top in above.parents]:
        try:
            controllers = (group / "cgroup.subtree_control").read_text().split()
        except OSError:
            continue
        if {"memory", "pids"} <= set(controllers) and os.access(group, os.W_OK) and _may_move(group):
            return {name: _SECOND[name]._replace(directory=group) for name in controllers if name in _SECOND}
    return {}


def _may_move(group: Path) -> bool:
    return os.access(group / "cgroup.procs", os.W_OK)


def _mounts() -> Dict[str, Path]:
    """Where control groups are mounted: by controller those of version 1, as "" those of version 2."""
    found: Dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2":
            found[""] = Path(before.split()[4])
        elif kind == "cgroup":
            found.update((name, Path(before.split()[4])) for name in options.split(","))
    return found


def memory_bytes(value: str) -> int:
    """`512Mi`, `2G`, `1gb`, or plain bytes: with an i by 1024, else by 1000."""
    found = re.match(r"\s*(\d+)([kmgtpe]?)(i?)", value, re.IGNORECASE)
    assert found is not None, "it was checked when the request came"
    return int(found[1]) * int((1024 if found[3] else 1000) ** _UNITS[found[2].lower()])


def cpu_count(value: str) -> float:
    """`0.5`, `2` or `1500m`."""
    number = value.strip()
    return float(number[:-1]) / 1000 if number.endswith("m") else float(number)
