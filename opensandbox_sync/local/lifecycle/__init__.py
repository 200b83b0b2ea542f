"""The control plane of the embedded server: one process, gone when its parent is gone."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from ..child import on_parent_gone, read_settings
from ..directories import make, remove_abandoned, remove_tree

if TYPE_CHECKING:
    from .isolation import Isolation


def main() -> None:
    """Serves until told to stop (SIGTERM, or end-of-file on stdin); leaves no process, no directory."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    settings = read_settings()
    ended = threading.Event()
    on_parent_gone(ended.set)
    # In a thread: the handler may come while this one is inside ended.wait(), and has the lock that set() takes.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=ended.set).start())
    # The parent's to handle. Not SIG_IGN, which every command of every sandbox would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    from .interpreter import UnavailableError

    base = make()
    try:
        isolation, name, why = _isolate(settings, base)
        if isolation is None and os.geteuid() == 0:
            base.chmod(0o711)  # for commands that run as other users
        close = _serve(settings, base, isolation, ended)
    except Exception as error:
        remove_tree(base)
        expected = isinstance(error, UnavailableError)
        _tell({"error": str(error) if expected else f"{type(error).__name__}: {error}"})
        if expected:
            raise SystemExit(1) from None
        raise
    _tell({"directory": str(base), "isolation": name, "why": why})
    threading.Thread(target=remove_abandoned, name="abandoned", daemon=True).start()  # nobody waits for it
    ended.wait()
    close()
    remove_tree(base)
    os._exit(0)  # open streams and their threads are not waited for


def _isolate(settings: Dict[str, Any], base: Path) -> Tuple[Optional[Isolation], str, str]:
    """What isolates, or None; its name; and why it is none, where nobody asked for that."""
    from .interpreter import UnavailableError
    from .isolation import Isolation

    if settings["isolation"] == "none":
        return None, "none", ""
    try:
        return Isolation(settings["root"], base, settings["allow_host_path"]), Isolation.name, ""
    except UnavailableError as error:
        if settings["isolation"] != "auto" or settings["root"] is not None:
            raise
        return None, "none", str(error)


def _serve(settings: Dict[str, Any], base: Path, isolation: Optional[Isolation], ended: threading.Event) -> Any:
    from ..serving import Server
    from .app import ControlPlane
    from .processes import adopt_orphans
    from .sandboxes import Registry
    from .snapshots import SnapshotStore

    sandboxes, snapshots, volumes = base / "sandboxes", base / "snapshots", base / "volumes"
    for directory in (sandboxes, snapshots, volumes):
        directory.mkdir()
    adopt_orphans()
    registry = Registry(sandboxes, isolation)
    listening = socket.socket(fileno=settings["fd"])
    app = ControlPlane(
        registry,
        SnapshotStore(snapshots),
        port=listening.getsockname()[1],
        api_key=settings["api_key"],
        allowed_host_paths=settings["allow_host_path"],
    )
    server = Server(listening, app)
    threading.Thread(target=server.start, name="serve", daemon=True).start()
    threading.Thread(target=registry.expire_forever, args=(ended.set,), name="expiry", daemon=True).start()
    return registry.close


def _tell(fact: Dict[str, Any]) -> None:
    """Writes the one line that the parent waits for."""
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()
