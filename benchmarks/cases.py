"""What is measured, in one table: each case, how it is run, and what this SDK must reach.

A goal is a ratio of medians' pairs in one run. ``<=0.4`` is about cost: our time (or memory) over the other's.
``>=17`` is about speed: the other's time over ours, which for streams is our rate over its rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Tuple

MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    name: str
    group: str
    title: str
    #: A function of ``child.py``, and what it is given: in a full run, and in a quick one ("" leaves the case out).
    measure: str
    full: str
    quick: str
    #: Goals for time: client -> "<=x" or ">=x".
    goals: Dict[str, str] = field(default_factory=dict)
    #: Goals for peak memory: client -> "<=x"; "work" is the size of the text or file; "flat" is MiB at most.
    memory: Dict[str, str] = field(default_factory=dict)
    latency: bool = False

    def argument(self, quick: bool) -> str:
        return self.quick if quick else self.full


def _stream(name: str, title: str, measure: str, full: str, quick: str, official: str, bare: str) -> Case:
    """A stream's case; the captured ones also have the goal for memory."""
    memory = {"official": "<=0.4", "work": "<=2.5"} if measure == "captured" and "80 plain" in full else {}
    goals = {client: goal for client, goal in (("official", official), ("bare", bare)) if goal}
    return Case(name, "Streams", title, measure, f"events {full}", quick and f"events {quick}", goals, memory)


def _files(name: str, title: str, official: str, bare: str, memory: Dict[str, str]) -> Case:
    goals = {client: goal for client, goal in (("official", official), ("bare", bare)) if goal}
    full = f"/bench/{256 * MIB}"
    quick = "" if name.endswith("_file") else f"/bench/{64 * MIB}"
    return Case(name, "Files, 256 MiB (quick: 64)", title, name, full, quick, goals, memory)


_FLAT = {"flat": "<=16"}
_ONE_COPY = {"work": "<=1.1"}
_TREES = "Trees, 2,000 small files (quick: 300)"

CASES: List[Case] = [
    Case("import", "Start-up", "cold import", "imported", "1", "", {}),
    Case("construct", "Start-up", "cold import + client", "constructed", "1", "1", {"official": "<=0.4"}),
    Case("first-call", "Start-up", "import, client and first call", "first_call", "1", "1", {"official": "<=0.5"}),
    Case("client", "Start-up", "one more client", "another_client", "50", "", {}),
    Case("info", "Calls", "one `info`", "call", "info 300", "info 100", {"official": "<=0.6", "bare": "<=3"}),
    Case("ping", "Calls", "one `ping`", "call", "ping 300", "", {"official": "<=0.6", "bare": "<=3"}),
    Case("true", "Calls", "one `true`", "call", "true 300", "true 100", {"official": "<=0.55", "bare": "<=2.5"}),
    Case("session", "Calls", "one session run", "session", "300", "", {"official": "<=0.55", "bare": "<=2.5"}),
    Case("tail", "Calls", "`true`, 1 s tail", "run", "tail 5", "tail 1", {"official": "<=0.005"}),
    Case("first-event", "Calls", "time to the first event", "first_event", "30", "", {"official": "<=0.5"}),
    Case("threads", "Calls", "64 threads, 50 `true` each", "threads", "64 50", "64 10", {"official": "<=0.3"}),
    Case("lifecycle", "Calls", "create → run → kill", "call", "lifecycle 50", "", {}),
    Case(
        "lifecycle-20ms",
        "Calls",
        "create → run → kill, 20 ms a request",
        "call",
        "lifecycle 10",
        "lifecycle 3",
        {},
        latency=True,
    ),
    _stream("captured", "80 B, captured", "captured", "500000 80 plain one", "20000 80 plain one", ">=17", ">=1.4"),
    _stream("callback", "80 B, callbacks", "callback", "500000 80 plain one", "20000 80 plain one", ">=22", ">=1.8"),
    _stream("iterated", "80 B, iterated", "iterated", "500000 80 plain one", "", "", ""),
    _stream("many", "80 B, many per chunk", "captured", "200000 80 plain many", "20000 80 plain many", ">=7", ">=1.2"),
    _stream("cut", "80 B, line ends cut (execd 1.0)", "captured", "100000 80 plain cut", "", ">=17", ">=1.4"),
    _stream("10k", "10 thousand of 80 B", "captured", "10000 80 plain one", "", "", ""),
    _stream("100k", "100 thousand of 80 B", "captured", "100000 80 plain one", "", "", ""),
    _stream("1m", "1 million of 80 B", "captured", "1000000 80 plain one", "", "", ""),
    _stream("escapes", "80 B, full of escapes", "captured", "100000 80 escapes one", "", "", ""),
    _stream("utf8", "80 B, full of UTF-8", "captured", "100000 80 utf8 one", "", "", ""),
    _stream("64k", "64 KiB, captured", "captured", "2000 65536 plain one", "500 65536 plain one", ">=1.3", ">=0.9"),
    _stream("64k-callback", "64 KiB, callbacks", "callback", "2000 65536 plain one", "", ">=1.3", ">=0.9"),
    _stream("64k-iterated", "64 KiB, iterated", "iterated", "2000 65536 plain one", "", "", ">=0.9"),
    _stream("1mib", "one event of 1 MiB", "captured", f"1 {MIB} plain one", "", "", "<=1.3"),
    _stream(
        "8mib", "one event of 8 MiB", "captured", f"1 {8 * MIB} plain one", f"1 {8 * MIB} plain one", ">=7", "<=1.3"
    ),
    _stream("32mib", "one event of 32 MiB", "captured", f"1 {32 * MIB} plain one", "", ">=50", "<=1.3"),
    _files("upload_bytes", "up, from bytes", ">=10", ">=0.8", _FLAT),
    _files("upload_file", "up, from a file", ">=1.1", ">=0.7", _FLAT),
    _files("download_bytes", "down, to bytes", ">=2", ">=0.8", _ONE_COPY),
    _files("download_iter", "down, iterated", ">=4", ">=1.0", _FLAT),
    _files("download_file", "down, to a verified file", ">=2", "", _FLAT),
    Case("upload_tree", _TREES, "up", "upload_tree", "2000", "300", {"official": ">=3"}),
    Case("download_tree", _TREES, "down", "download_tree", "2000", "300", {}),
]


def work_of(case: Case, quick: bool) -> Tuple[float, str]:
    """How much one measured call does, and its unit: events, MiB or files; (0, "") where only time is of interest."""
    words = case.argument(quick).split()
    if case.group == "Streams" and int(words[1]) > 1:
        return float(words[1]), "events"
    if case.group.startswith("Files"):
        return int(words[0].rsplit("/", 1)[1]) / MIB, "MiB"
    if case.group == _TREES:
        return float(words[0]), "files"
    return 0.0, ""


def size_mib(case: Case, quick: bool) -> float:
    """The MiB of text or file that one measured call carries."""
    words = case.argument(quick).split()
    if case.group == "Streams":
        return int(words[1]) * int(words[2]) / MIB
    return work_of(case, quick)[0] if case.group.startswith("Files") else 0.0
