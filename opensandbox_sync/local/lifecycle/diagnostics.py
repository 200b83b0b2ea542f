"""What the server tells about a sandbox as text: its log, what happened to it, and how it stands."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from typing import Any, Dict, Optional

from .launch import LOG_NAME
from .sandboxes import Sandbox, stamp

LOG_LINES, EVENT_LINES = 100, 50
_MOST_LOG = 1 << 20
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def log_of(sandbox: Sandbox, lines: int, since: Optional[str] = None) -> str:
    """The last lines of what the entrypoint printed. They have no times: after its last one, none is newer."""
    try:
        with (sandbox.directory / LOG_NAME).open("rb") as log:
            if since and os.fstat(log.fileno()).st_mtime < time.time() - _duration(since):
                return "(no logs)"
            log.seek(max(0, log.seek(0, os.SEEK_END) - _MOST_LOG))  # a line may be as long as the disk is large
            return b"".join(deque(log, maxlen=lines)).decode("utf-8", "replace") or "(no logs)"
    except OSError:
        return "(no logs)"


def _duration(text: str) -> int:
    """`90s`, `10m`, `1h`, `2d`; ten minutes for what is none, as on the real server."""
    found = re.fullmatch(r"(\d+)\s*([smhd])", text.strip().lower())
    return int(found[1]) * _SECONDS[found[2]] if found else 600


def events_of(sandbox: Sandbox, lines: int) -> str:
    head = (
        f"Sandbox:    {sandbox.id}",
        f"Status:     {sandbox.state.lower()}",
        f"Created:    {stamp(sandbox.created)}",
        f"Isolation:  {sandbox.isolation}",
    )
    return "\n".join([*head, *sandbox.happenings[-lines:]])


def inspection(sandbox: Sandbox) -> str:
    """Variables are not told: they may be secrets."""
    status = sandbox.status()
    facts = {
        "Sandbox ID": sandbox.id,
        "Image": sandbox.image or "N/A",
        "Snapshot": sandbox.snapshot_id or "N/A",
        "Status": sandbox.state.lower(),
        "Running": sandbox.state == "Running",
        "Paused": sandbox.state == "Paused",
        "Message": status["message"],
        "Since": status["lastTransitionAt"],
        "Created": stamp(sandbox.created),
        "Expires": stamp(sandbox.expires) if sandbox.expires else "N/A",
        "Entrypoint": " ".join(sandbox.entrypoint),
        "Isolation": sandbox.isolation,
        "Directory": sandbox.directory,
    }
    lines = [f"{name + ':':<16}{value}" for name, value in facts.items()]
    lines += ["", "Network:", f"  daemon: 127.0.0.1:{sandbox.port}"]
    if sandbox.metadata:
        lines += ["", "Labels:", *(f"  {key}={value}" for key, value in sorted(sandbox.metadata.items()))]
    return "\n".join(lines)


def summary(sandbox: Sandbox, log_lines: int, event_lines: int) -> str:
    parts = [_title(f"SANDBOX DIAGNOSTICS SUMMARY\nSandbox ID: {sandbox.id}", "=" * 72)]
    for title, content in (
        ("INSPECT", inspection(sandbox)),
        ("EVENTS", events_of(sandbox, event_lines)),
        (f"LOGS (last {log_lines} lines)", log_of(sandbox, log_lines)),
    ):
        parts.append(f"\n{_title(title, '-' * 40)}\n{content}")
    return "\n".join(parts) + "\n"


def _title(text: str, line: str) -> str:
    return f"{line}\n{text}\n{line}"


def descriptor(sandbox: Sandbox, kind: str, scope: str, content: str, truncated: bool) -> Dict[str, Any]:
    told: Dict[str, Any] = {
        "sandboxId": sandbox.id,
        "kind": kind,
        "scope": scope,
        "delivery": "inline",
        "contentType": "text/plain; charset=utf-8",
        "content": content,
        "contentLength": len(content.encode("utf-8")),
        "truncated": truncated,
    }
    if scope == "all":
        what = "sandbox container logs" if kind == "logs" else "runtime events"
        told["warnings"] = [f"The current backend only contributes {what} to the all scope."]
    return told
