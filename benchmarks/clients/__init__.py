"""The same work, written for each client. Every module has a ``Client`` with the same methods.

``info`` ``attach`` ``ping`` ``true`` ``session`` ``run`` ``callback`` ``iterate`` ``upload_bytes`` ``upload_file``
``download_bytes`` ``download_iter`` ``download_file`` ``upload_tree`` ``download_tree`` ``lifecycle`` ``for_thread``
``close``. A method that a client has no way to do is left out, and the case shows a dash for it. A run answers
``(text, exit code)``, so that the driver can check that the work was really done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator, Tuple

if TYPE_CHECKING:
    from pathlib import Path

#: The sandbox that the benchmark's server always has.
SANDBOX_ID = "5e5c0f0e-6141-4418-82d1-8be1b907e7d9"


def files_below(local: Path) -> Iterator[Tuple[str, Path]]:
    """A tree's files, with their names in it; for clients that have no way to send a tree."""
    for path in sorted(local.rglob("*")):
        if path.is_file():
            yield path.relative_to(local).as_posix(), path


def keep(local: Path, name: str, content: bytes) -> None:
    """Writes a file of a tree; its name is whole or not there."""
    target = local / name
    target.parent.mkdir(exist_ok=True)
    part = target.with_suffix(".part")
    part.write_bytes(content)
    part.replace(target)
