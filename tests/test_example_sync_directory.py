"""The example as a user runs it: a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_example_sends_a_project_and_fetches_the_report() -> None:
    argv = [sys.executable, "-W", "error", str(ROOT / "examples" / "sync_directory.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=180)
    assert (answer.stderr, answer.returncode) == ("", 0)
    assert answer.stdout.splitlines() == [
        "sent 3 files, 258 bytes",
        "exit code 0",
        "fetched ['tests.txt']",
        "OK",
    ]
