"""Sends a project's directory into a sandbox, runs its tests there, and fetches the report."""

from __future__ import annotations

import tempfile
from pathlib import Path

from opensandbox_sync import SandboxClient

PROJECT = {
    "adder/__init__.py": "def add(a, b):\n    return a + b\n",
    "tests/test_adder.py": (
        "import unittest\nfrom adder import add\n\n\n"
        "class AdderTest(unittest.TestCase):\n    def test_add(self):\n        self.assertEqual(add(2, 3), 5)\n"
    ),
    "run-tests": "#!/bin/sh\nmkdir -p report && python3 -m unittest discover -s tests 2> report/tests.txt\n",
    ".git/config": "this stays at home\n",
}

with tempfile.TemporaryDirectory() as folder, SandboxClient.local() as client:
    project = Path(folder, "project")
    for name, text in PROJECT.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (project / "run-tests").chmod(0o755)

    with client.create("python:3.12") as sandbox:
        sent = sandbox.files.upload_dir(project, "work", ignore=[".git/", "*.pyc"])
        print(f"sent {len(sent.files)} files, {sent.size} bytes")

        # Modes came along, so the script can be run.
        where = sandbox.files.info("work").path
        print("exit code", sandbox.commands.run(["./run-tests"], cwd=where).exit_code)

        fetched = sandbox.files.download_dir("work/report", project / "report")
        print("fetched", fetched.files)

    print((project / "report" / "tests.txt").read_text().splitlines()[-1])
