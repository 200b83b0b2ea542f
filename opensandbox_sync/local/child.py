"""The bond between a process of ours and its parent: settings come on stdin, end-of-file means gone."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

_BOOT = """
import sys
root, module = sys.argv[1:3]
if root not in sys.path: sys.path.insert(0, root)
sys.path += [p for p in sys.argv[3:] if p not in sys.path]
sys.argv[:] = [module]
import importlib
importlib.import_module(module).main()
"""


def python_argv(module: str) -> List[str]:
    """Returns the command line that runs `module.main()` with the packages that this process has."""
    root = str(Path(__file__).resolve().parents[2])
    return boot_argv(module, [sys.executable], root, [str(Path(p).resolve()) for p in sys.path if p])


def boot_argv(module: str, python: Sequence[str], root: str, paths: Sequence[str]) -> List[str]:
    """The same for any Python: our package lies in `root`, others may lie in `paths`.

    Nothing for that is put into the environment, which belongs to the commands of the sandbox; -I keeps
    what is in there (PYTHONPATH, PYTHONHOME) from changing the daemon.
    """
    return [*python, "-I", "-c", _BOOT, root, module, *paths]


def read_settings() -> Dict[str, Any]:
    """Reads the one line of JSON that the parent sent on stdin."""
    settings: Dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    return settings


def on_parent_gone(callback: Callable[[], None]) -> None:
    """Calls `callback` in a thread of its own once the parent is gone (end-of-file on stdin)."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        callback()

    threading.Thread(target=wait, name="parent", daemon=True).start()
