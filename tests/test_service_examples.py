"""The examples of code, snapshots, metrics and hooks, run as a user runs them."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from .test_examples import ENVIRONMENT, EXAMPLES

OUTPUT = {
    "code_interpreter": r"""sorted: \[1, 2, 3\]
types: image/png, text/plain
output: before
error: IndexError - IndexError: list index out of range
stopped; numbers are still \[3, 1, 2\]
another context: False
""",
    "snapshots": r"""the snapshot is Ready
copy 1: prepared 1
copy 2: prepared 2
listed: True
""",
    "metrics_watch": r"(cpu \d+ % of \d+ cores, memory \d+ %\n){2}",
    "tracing_hooks": r"""POST /sandboxes 202
GET /44772 200
(GET /ping .+
)*GET /ping 200
POST /command 200
it said hello
DELETE /[-0-9a-f]+ 204
""",
}
NEEDS = {"code_interpreter": "ipykernel"}


@pytest.mark.parametrize("name", OUTPUT)
def test_an_example_does_what_it_says(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    argv = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")]
    answer = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, timeout=180)
    assert answer.stderr.decode() == ""
    assert re.fullmatch(OUTPUT[name], answer.stdout.decode()), answer.stdout.decode()
    assert answer.returncode == 0
