"""Each example as a user runs it: a program of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

OUTPUT = {
    "quickstart": r"""creating a sandbox
(waiting for .*
)*sandbox \S+ is ready
  \| step 1
  \| step 2
  \| step 3
  \| done
exit code 7
the sandbox is (gone|Stopping|Terminated)
""",
    "stream_output": r"""line 1
line 2
line 3
(line \d+
)*ended by SIGTERM
""",
    "background_job": r"""started
running: True
part 1 of 3
part 2 of 3
part 3 of 3
exit code 4
""",
}


@pytest.mark.parametrize("name", OUTPUT)
def test_an_example_does_what_it_says(name: str) -> None:
    argv = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")]
    answer = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, timeout=180)
    assert answer.stderr.decode() == ""
    assert re.fullmatch(OUTPUT[name], answer.stdout.decode()), answer.stdout.decode()
    assert answer.returncode == 0


def test_the_quickstart_shows_the_output_while_the_command_runs() -> None:
    argv = [sys.executable, str(EXAMPLES / "quickstart.py")]
    with subprocess.Popen(argv, env=ENVIRONMENT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        seen: List[str] = []
        while not seen or "step 1" not in seen[-1]:
            line = process.stdout.readline().decode()
            assert line, seen
            seen.append(line)
        assert process.poll() is None, "two more steps and the end are still to come"
        rest = process.stdout.read().decode()
    assert "step 3" in rest and process.returncode == 0


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_is_run_by_a_test(path: Path) -> None:
    """Here or beside the tests of what it shows; the name in quotes is how they call it."""
    tests = [other.read_text("utf-8") for other in (ROOT / "tests").rglob("test_*.py")]
    assert any(f'"{path.stem}"' in text or f"{path.name}" in text for text in tests)
