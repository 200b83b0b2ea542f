"""The examples of shell sessions and of egress, as a user runs them: programs of their own."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from .test_examples import ENVIRONMENT, EXAMPLES

OUTPUT = {
    "shell_session": r"""/usr
blue
exit code 7
out of time after: working
line 1
line 2
line 3
still in /usr
the session has ended
""",
    "egress_policy": r"""enforced by (none|dns|dns\+nft)
created: allow api\.test; allow files\.test; else deny
patched: deny api\.test; allow \*\.example\.com; allow files\.test; else deny
deleted: allow \*\.example\.com; allow files\.test; else deny
replaced: deny 10\.0\.0\.0/8; else allow
""",
}


@pytest.mark.parametrize("name", OUTPUT)
def test_an_example_does_what_it_says(name: str) -> None:
    argv = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")]
    answer = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, timeout=180)
    assert answer.stderr.decode() == ""
    assert re.fullmatch(OUTPUT[name], answer.stdout.decode()), answer.stdout.decode()
    assert answer.returncode == 0
