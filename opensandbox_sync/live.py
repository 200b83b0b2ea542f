"""A run's output written as it comes, for the notebook and the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Dict, Optional

if TYPE_CHECKING:
    from .execution import Execution
    from .sse import ServerEvent


class LiveOutput:
    """Writes the text of ``stdout`` and ``stderr`` events, just as the execution's ``stdout`` and ``stderr`` have it.

    A daemon that strips line ends sends one line per event; which kind it is shows in the first text that has its end.
    So the end of a line without one is written only when the next text, or the end, tells.
    """

    def __init__(self, execution: Execution, stdout: Callable[[str], object], stderr: Callable[[str], object]) -> None:
        self._execution = execution
        self._write = {"stdout": stdout, "stderr": stderr}
        self._last: Dict[str, Optional[str]] = {"stdout": None, "stderr": None}
        self._lines = {"stdout": 0, "stderr": 0}  # written without their ends

    def take(self, event: ServerEvent) -> None:
        """Write what an event says; other events than output are passed over."""
        if event.type not in self._write or not event.text:
            return
        last, text = self._last[event.type], event.text
        self._last[event.type] = text
        if self._execution.keeps_line_ends:
            # A "\n" alone was taken for an empty line, whose end was left for later.
            owed = "\n" if last == "\n" and self._lines[event.type] else ""
            self._lines[event.type] = 0
            self._write[event.type](owed + text)
            return
        self._lines[event.type] += 1
        self._write[event.type](("" if last is None else "\n") + ("" if text == "\n" else text))

    def finish(self, *, end_lines: bool = False) -> None:
        """End the last lines: where a daemon stripped its end, and with ``end_lines`` where it may have none."""
        for name, lines in self._lines.items():
            if not lines:
                continue
            stripped = lines > 1 and not self._execution.keeps_line_ends
            if self._last[name] == "\n" or stripped or end_lines:
                self._write[name]("\n")
            self._lines[name] = 0
