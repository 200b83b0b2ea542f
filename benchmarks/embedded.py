"""The embedded server's own figures, and what a clean install brings.

    python benchmarks/embedded.py            # needs the extra `local`
    python benchmarks/embedded.py --install  # also installs this project into a new environment and counts

Nothing is compared here: each figure stands beside the goal of its own.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Callable, List

from report import duration

from opensandbox_sync import Sandbox, SandboxClient

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = 32
IMAGE = "python:3.12"  # the embedded server has no images, but a create names one


def clocked(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def told(what: str, seconds: List[float], goal: str = "") -> None:
    shown = duration(median(seconds))
    if len(seconds) > 1:
        shown += f" ({duration(min(seconds))} … {duration(max(seconds))})"
    print(f"{what:44} {shown}{'   goal: ' + goal if goal else ''}", flush=True)


def check(sandbox: Sandbox) -> None:
    assert sandbox.commands.run("true").check().exit_code == 0


def server_figures() -> None:
    began = time.perf_counter()
    with SandboxClient.local() as client:
        told("server, start", [time.perf_counter() - began])
        created: List[Sandbox] = []
        told("create → ready", [clocked(lambda: created.append(client.create(IMAGE))) for _ in range(5)], "under 1 s")
        check(created[0])
        told("one `true`", [clocked(lambda: check(created[0])) for _ in range(50)], "under 30 ms")
        told("kill", [clocked(sandbox.kill) for sandbox in created])
        with ThreadPoolExecutor(AT_ONCE) as pool:
            many: List[Sandbox] = []
            taken = clocked(
                lambda: many.extend(pool.map(lambda _: client.create(IMAGE, ready_timeout=120), range(AT_ONCE)))
            )
            told(f"{AT_ONCE} sandboxes, created at once, all ready", [taken], "they work")
            assert len(client.list()) == AT_ONCE
            told(f"a `true` in each of {AT_ONCE}, at once", [clocked(lambda: list(pool.map(check, many)))])
            told(f"{AT_ONCE} kills at once", [clocked(lambda: list(pool.map(Sandbox.kill, many)))])


def distributions() -> List[str]:
    """What a clean install of this project brings, without pip itself."""
    with tempfile.TemporaryDirectory() as directory:
        source, there = Path(directory, "source"), Path(directory, "venv")
        # A copy: a build leaves its traces where the sources are.
        shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "tests", "benchmarks"))
        venv.create(there, with_pip=True)
        python = str(there / ("Scripts" if sys.platform == "win32" else "bin") / "python")
        subprocess.run([python, "-m", "pip", "install", "-q", str(source)], check=True)
        names = "import importlib.metadata as m; print(*sorted(d.metadata['Name'] for d in m.distributions()))"
        found = subprocess.run([python, "-I", "-c", names], check=True, capture_output=True, text=True).stdout.split()
    return [name for name in found if name not in ("pip", "setuptools", "wheel")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", action="store_true", help="also count what a clean install brings")
    options = parser.parse_args()
    server_figures()
    if options.install:
        found = distributions()
        print(f"a clean install brings {len(found)}: {', '.join(found)}   goal: 6 at most")


if __name__ == "__main__":
    main()
