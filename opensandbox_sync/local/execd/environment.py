"""The environment of a command: the daemon's own, then the file named by $EXECD_ENVS, then the request's."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Dict, Mapping, Optional

VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")
# KEY=value, KEY='literally, also over several lines' or KEY="with \n escapes".
_ENTRY = re.compile(r"""^[ \t]*([A-Za-z_]\w*)=(?:'([^']*)'[ \t]*$|"((?:\\.|[^"\\])*)"[ \t]*$|([^\n]*)$)""", re.M | re.S)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def for_commands(extra: Optional[Mapping[str, str]] = None) -> Dict[str, str]:
    """A fresh environment; the file is read each time, so what one command sets is there for the next.

    A name that no environment can hold is dropped: it is no reason not to run the command.
    """
    asked = {name: value for name, value in (extra or {}).items() if name and "=" not in name}
    return {**os.environ, **_from_file(os.environ.get("EXECD_ENVS", "")), **asked}


def _from_file(name: str) -> Dict[str, str]:
    try:
        content = Path(name).read_text("utf-8", "replace") if name else ""
    except OSError:  # nobody has set anything yet
        return {}
    return {entry.group(1): _value(entry) for entry in _ENTRY.finditer(content)}


def _value(entry: re.Match[str]) -> str:
    literal, quoted, bare = entry.group(2), entry.group(3), entry.group(4)
    if literal is not None:
        return literal
    if quoted is not None:
        bare = _ESCAPE.sub(lambda found: _ESCAPES.get(found.group(1), found.group(1)), quoted)
    else:
        bare = bare.strip()
    return VARIABLE.sub(lambda found: os.environ.get(found.group(1) or found.group(2), ""), bare)
