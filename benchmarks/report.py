"""Samples -> a table in Markdown, JSON and a plot."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, List, Optional, Tuple

from cases import CASES, Case, size_mib, work_of

NAMES = {"sync": "this SDK", "official": "official", "plain_requests": "requests", "bare": "bare socket"}
PACKAGES = ["opensandbox-sync", "requests", "urllib3", "opensandbox", "httpx", "pydantic"]

Sample = Dict[str, float]
Taken = Dict[str, List[Sample]]


def values(taken: Taken, client: str, key: str) -> List[float]:
    return [sample[key] for sample in taken.get(client, ()) if key in sample]


def ratios(taken: Taken, over: str, key: str, speed: bool = False) -> List[float]:
    """Round by round, this SDK's value over the other's, or the other way round where speed is meant."""
    pairs = zip(taken.get("sync", ()), taken.get(over, ()))
    found = [(ours[key], other[key]) for ours, other in pairs if key in ours and key in other]
    return [b / max(a, 1e-9) if speed else a / max(b, 1e-9) for a, b in found]


def spread(numbers: List[float], show: Callable[[float], str]) -> str:
    if not numbers:
        return "—"
    middle = show(median(numbers))
    return middle if len(numbers) == 1 else f"{middle} ({show(min(numbers))} … {show(max(numbers))})"


def duration(seconds: float) -> str:
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def figure(number: float) -> str:
    return f"{number:.3g}" if number < 100 else f"{number:.0f}"


def times(case: Case, taken: Taken, client: str, quick: bool) -> str:
    """One client's cell: seconds, or for a stream or a file what it brings in one of them."""
    seconds = values(taken, client, "seconds")
    work, unit = work_of(case, quick)
    if not work:
        return spread(seconds, duration)
    if unit == "events":
        return spread([work / one / 1000 for one in seconds], lambda number: f"{number:.4g} k/s")
    return spread([work / one for one in seconds], lambda number: f"{number:.4g} {unit}/s")


def reached(goal: str, numbers: List[float]) -> str:
    """The goal, and whether the median reaches it."""
    limit = float(goal[2:])
    fits = median(numbers) >= limit if goal.startswith(">=") else median(numbers) <= limit
    return f"{goal[:2].replace('>=', '≥').replace('<=', '≤')} {limit:g} {'✓' if fits else '**missed**'}"


def compared(case: Case, taken: Taken, over: str) -> str:
    """The cell for one comparison: how many times the speed, or what share of the time, as its goal says it."""
    goal = case.goals.get(over, "")
    speed = goal.startswith(">=") or (not goal and case.group != "Start-up" and case.group != "Calls")
    numbers = ratios(taken, over, "seconds", speed)
    if not numbers:
        return "—"
    text = spread(numbers, figure) + (" x" if speed else "")
    return f"{text}, {reached(goal, numbers)}" if goal else text


def memory_goals(case: Case, taken: Taken, quick: bool) -> str:
    ours = values(taken, "sync", "peak_mib")
    found = []
    for against, goal in case.memory.items():
        if against == "flat":
            numbers, label = ours, "MiB"
        elif against == "work":
            numbers, label = [peak / size_mib(case, quick) for peak in ours], "x its size"
        else:
            numbers, label = ratios(taken, against, "peak_mib"), f"of {NAMES[against]}"
        if numbers:
            found.append(f"{figure(median(numbers))} {label}, {reached(goal, numbers)}")
    return "; ".join(found) or "—"


def progress(case: Case, taken: Taken, quick: bool) -> str:
    cells = [f"{NAMES[client]} {times(case, taken, client, quick)}" for client in taken]
    return f"{case.name:16} " + " | ".join(cells)


@dataclass
class Results:
    samples: Dict[str, Taken]
    clients: List[str]
    quick: bool
    rounds: int
    seconds: float

    def cases(self) -> List[Case]:
        return [case for case in CASES if case.name in self.samples]

    def machine(self) -> List[Tuple[str, str]]:
        facts = [
            ("mode", f"{'quick' if self.quick else 'full'}, {self.rounds} rounds, {self.seconds / 60:.1f} minutes"),
            ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
            ("system", f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"),
        ]
        model = cpu_model()
        if model:
            facts.append(("CPU", model))
        return facts + [(name, version) for name in PACKAGES if (version := version_of(name))]

    def markdown(self) -> str:
        lines = ["# Results", "", *(f"- {name}: {fact}" for name, fact in self.machine()), ""]
        lines += [
            "Median (minimum … maximum). A ratio is taken between two runs of one round: `x` is how many times our "
            "speed is the other's, without it our time over the other's.",
            "",
        ]
        lines += self._table("Time", self._time_header(), self._time_row)
        header = ["peak memory above what the process had before, MiB", *map(NAMES.__getitem__, self.clients), "goal"]
        lines += self._table("Memory", header, self._memory_row)
        return "\n".join([*lines, *self._notes(), ""])

    def _time_header(self) -> List[str]:
        others = [NAMES[client] for client in ("official", "plain_requests", "bare") if client in self.clients]
        return ["case", *map(NAMES.__getitem__, self.clients), *(f"against {name}" for name in others)]

    def _time_row(self, case: Case) -> List[str]:
        taken = self.samples[case.name]
        others = [client for client in ("official", "plain_requests", "bare") if client in self.clients]
        cells = [times(case, taken, client, self.quick) for client in self.clients]
        return [case.title, *cells, *(compared(case, taken, other) for other in others)]

    def _memory_row(self, case: Case) -> List[str]:
        taken = self.samples[case.name]
        cells = [spread(values(taken, client, "peak_mib"), figure) for client in self.clients]
        return [case.title, *cells, memory_goals(case, taken, self.quick)]

    def _table(self, title: str, header: List[str], row: Callable[[Case], List[str]]) -> List[str]:
        lines = [f"## {title}", "", "| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
        group = ""
        for case in self.cases():
            if case.group != group:
                group = case.group
                lines.append(f"| **{group}** " + "| " * (len(header) - 1) + "|")
            lines.append("| " + " | ".join(row(case)) + " |")
        return [*lines, ""]

    def _notes(self) -> List[str]:
        """Requests per create → run → kill, the flatness over a stream's length, and the server's idle share."""
        lines = ["## Notes", ""]
        if "lifecycle" in self.samples:
            counts = [
                f"{NAMES[client]} {figure(median(values(taken, client, 'requests')))}"
                for taken in [self.samples["lifecycle"]]
                for client in self.clients
                if values(taken, client, "requests")
            ]
            lines.append(
                "- Requests of one create → run → kill (goal: 2 fewer than official): " + ", ".join(counts) + "."
            )
        if {"10k", "1m"} <= set(self.samples):
            short, long = (values(self.samples[name], "sync", "seconds") for name in ("10k", "1m"))
            growth = median(long) / 100 / median(short)
            lines.append(f"- Cost of an event, a million over ten thousand: {growth:.2f} of this SDK.")
        return [*lines, *self._server_notes()]

    def _server_notes(self) -> List[str]:
        least = []
        for client in self.clients:
            idle = []
            for case in self.cases():
                samples = [sample for sample in self.samples[case.name].get(client, ()) if "server_cpu" in sample]
                if samples and case.group not in ("Start-up", "Calls"):
                    idle.append((median(1 - one["server_cpu"] / one["seconds"] for one in samples), case.title))
            if idle:
                least.append(f"{NAMES[client]} {min(idle)[0]:.0%} ({min(idle)[1]})")
        lines = [f"- The server's least idle share, over streams and files: {', '.join(least)}."] if least else []
        pings = values(self.samples.get("ping", {}), "bare", "server_cpu")
        if pings:
            lines.append(
                f"- Calls: {duration(median(pings))} of one `ping` is the server's own work, for every client."
            )
        return lines

    def as_json(self) -> Dict[str, Any]:
        return {"machine": dict(self.machine()), "samples": self.samples}

    def plot(self, path: Path) -> Optional[Path]:
        """Speed beside the official SDK's, for each case; None without matplotlib."""
        try:
            import matplotlib
        except ImportError:
            return None
        matplotlib.use("Agg")
        from matplotlib import pyplot

        cases = [case for case in self.cases() if values(self.samples[case.name], "official", "seconds")]
        if not cases:
            return None
        figure_, axes = pyplot.subplots(figsize=(10, 1 + 0.42 * len(cases)))
        shown_clients = [client for client in self.clients if client != "official"]
        for offset, client in enumerate(shown_clients):
            speeds = [self._speed(case, client) for case in cases]
            rows = [row + (offset - 1) * 0.26 for row in range(len(cases))]
            axes.barh(rows, [speed - 1 for speed in speeds], 0.26, left=1, label=NAMES[client])
        axes.axvline(1, color="black", linewidth=1)
        axes.set_xscale("log")
        axes.set_yticks(range(len(cases)), [case.title.replace("`", "") for case in cases])
        axes.invert_yaxis()
        axes.set_xlabel("times the speed of the official SDK (log scale)")
        axes.legend()
        figure_.tight_layout()
        figure_.savefig(path, dpi=110)
        return path

    def _speed(self, case: Case, client: str) -> float:
        taken = self.samples[case.name]
        mine, official = values(taken, client, "seconds"), values(taken, "official", "seconds")
        return median(official) / median(mine) if mine else 1.0


def version_of(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def cpu_model() -> str:
    if sys.platform.startswith("linux"):
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return platform.processor()
