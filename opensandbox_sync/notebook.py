"""Jupyter: how objects show themselves, and the magic ``%sandbox`` (``%load_ext opensandbox_sync``).

What a sandbox sends is not trusted: text is escaped, and HTML is shown in a frame without scripts, apart from the
notebook's page. IPython is not imported before the extension is loaded.
"""

from __future__ import annotations

import argparse
import base64
import inspect
import re
import shlex
import stat
import sys
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional, Sequence, Tuple

from .codec import readable_datetime
from .errors import CommandTimeoutError, InvalidArgumentError, NotFoundError, SandboxError, StreamInterruptedError

if TYPE_CHECKING:
    from .client import SandboxClient
    from .execution import Execution, ExecutionResult, ExecutionStream
    from .models import NetworkPolicy, SandboxInfo
    from .sandbox import KeepAlive, Sandbox
    from .services.code import CodeContext
    from .services.egress import EgressStatus
    from .services.file_wire import FileInfo

#: Characters of a stream, and rows of a table, that a page gets; the object has the rest.
_MOST_TEXT = 20_000
_MOST_ROWS = 500

_PRE = "margin:2px 0;padding:2px 8px;font-family:monospace;white-space:pre-wrap;text-align:left;border-left:3px solid "
_STDOUT, _STDERR = "#8a8a8a", "#d9534f"


# -- how objects show themselves -----------------------------------------------------------------------------------


def sandbox_html(sandbox: Sandbox) -> str:
    """A sandbox's id and server; nothing is asked."""
    return f"<div><b>Sandbox</b> <code>{_text(sandbox.id)}</code> at {_text(sandbox._client.config.base_url)}</div>"


def info_html(info: SandboxInfo) -> str:
    """A sandbox as the server knows it."""
    rows: List[Tuple[str, Any]] = [
        ("id", info.id),
        ("state", " ".join(filter(None, [info.state, info.status.reason, info.status.message]))),
        ("from", info.source),
        ("isolation", info.isolation),
        ("created", readable_datetime(info.created_at)),
        ("expires", readable_datetime(info.expires_at) or "when it is killed"),
        *((f"metadata {key}", value) for key, value in info.metadata.items()),
    ]
    return _table([], [row for row in rows if row[1]])


def execution_html(execution: Execution) -> str:
    """What ran, how it ended, and what it wrote."""
    parts = [f"<div><b>Execution</b> <code>{_text(execution.id or '-')}</code> {_text(_end_of(execution))}</div>"]
    parts += [_block(execution.stdout, _STDOUT), _block(execution.stderr, _STDERR)]
    parts += [_result_html(result) for result in execution.results]
    if execution.error is not None and execution.exit_code is None:
        parts.append(_block("\n".join(_traceback(execution)), _STDERR))
    return "".join(parts)


def result_bundle(result: ExecutionResult) -> Dict[str, Any]:
    """A result's MIME types that can run no script in the notebook's page; HTML and SVG come framed."""
    bundle = {kind: value for kind, value in result.data.items() if _is_harmless(kind)}
    framed = _framed(result.data)
    if framed:
        bundle["text/html"] = framed
    return bundle


def files_html(files: Sequence[FileInfo]) -> str:
    """A listing as a table."""
    kinds = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}
    rows = [
        (
            stat.filemode(kinds.get(file.type, 0) | file.mode),
            file.owner or "",
            file.group or "",
            str(file.size),
            readable_datetime(file.modified_at),
            file.path,
        )
        for file in files[:_MOST_ROWS]
    ]
    left = len(files) - len(rows)
    more = f"<div>… and {left} more</div>" if left > 0 else ""
    return _table(["mode", "owner", "group", "size", "modified", "path"], rows) + more


def policy_html(policy: NetworkPolicy) -> str:
    """A policy's rules in their order, the default last."""
    rows = [(rule.action, rule.place) for rule in policy.egress]
    return _table(["action", "target"], [*rows, (policy.default_action or "deny", "everything else")])


def egress_html(status: EgressStatus) -> str:
    """A policy, and how it is enforced."""
    facts = (("mode", status.mode), ("enforced by", status.enforcement_mode), ("note", status.reason))
    line = ", ".join(f"{_text(name)} {_text(value)}" for name, value in facts if value)
    return f"<div><b>Egress</b> {line}</div>" + (policy_html(status.policy) if status.policy else "")


def _end_of(execution: Execution) -> str:
    if execution.timed_out:
        end = "timed out"
    elif execution.ok:
        end = "ended" if execution.exit_code is None else f"exit code {execution.exit_code}"
    elif execution.error is None:
        end = "has not ended"
    else:
        end = execution.signal or execution.error.name
        end = end if execution.signal or execution.exit_code is None else f"exit code {execution.exit_code}"
    taken = "" if execution.duration is None else f" after {execution.duration:.2f} s"
    return end + taken + (" (output was cut)" if execution.truncated else "")


def _traceback(execution: Execution) -> List[str]:
    error = execution.error
    return [] if error is None else error.plain_traceback or [f"{error.name}: {error.value}"]


def _result_html(result: ExecutionResult) -> str:
    for kind in ("image/png", "image/jpeg", "image/gif"):
        value = result.data.get(kind)
        if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9+/=\s]+", value):
            return f'<img src="data:{kind};base64,{value}" alt="{_text(result.text)}">'
    return _framed(result.data) or _block(result.text, _STDOUT)


def _is_harmless(kind: str) -> bool:
    # Not Markdown and LaTeX, which may hold HTML and links, and not JavaScript.
    plain = ("text/plain", "image/png", "image/jpeg", "image/gif", "application/json")
    return kind in plain or kind.startswith(("application/vnd.plotly.", "application/vnd.vega"))


def _framed(data: Dict[str, Any]) -> str:
    page, drawing = data.get("text/html"), data.get("image/svg+xml")
    if isinstance(page, str):
        height = min(30, max(6, 2 * page.count("<tr") + 3))
        style = f"width:100%;height:{height}em;border:0;background:#fff;resize:vertical"
        # The empty sandbox attribute: no scripts, no forms, an origin of its own.
        return f'<iframe sandbox="" srcdoc="{_text(page)}" style="{style}"></iframe>'
    if isinstance(drawing, str):
        encoded = base64.b64encode(drawing.encode("utf-8", "replace")).decode("ascii")
        return f'<img src="data:image/svg+xml;base64,{encoded}">'  # an image runs no scripts
    return ""


def _text(value: object) -> str:
    return escape(str(value), quote=True)


def _block(text: str, colour: str) -> str:
    if not text:
        return ""
    left = len(text) - _MOST_TEXT
    note = f"… {left} characters before this\n" if left > 0 else ""
    return f'<pre style="{_PRE}{colour}">{_text(note + text[-_MOST_TEXT:])}</pre>'


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    def line(tag: str, cells: Sequence[Any]) -> str:
        # Only the last, which may be long, is broken into lines.
        styles = ["text-align:left;white-space:nowrap"] * (len(cells) - 1) + ["text-align:left"]
        inside = "".join(f'<{tag} style="{style}">{_text(cell)}</{tag}>' for cell, style in zip(cells, styles))
        return f"<tr>{inside}</tr>"

    return f"<table>{line('th', head) if head else ''}{''.join(line('td', row) for row in rows)}</table>"


# -- the magic -----------------------------------------------------------------------------------------------------


class CellStopped(KeyboardInterrupt):
    """The stop button, while a cell ran in a sandbox. One line, and an error: a "run all" ends here."""

    def _render_traceback_(self) -> List[str]:
        return [str(self)]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise InvalidArgumentError(f"{message}; {self.format_usage().strip()}")


class SandboxMagics:
    """``%sandbox`` and ``%%sandbox``: one current sandbox, and what runs in it."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self.current: Optional[Sandbox] = None
        self._made: Optional[Sandbox] = None  # the one that %sandbox create made, and ends
        self._keeper: Optional[KeepAlive] = None
        self._clients: Dict[bool, SandboxClient] = {}
        self._contexts: Dict[Tuple[str, str], CodeContext] = {}
        self._line_parser = _line_parser()
        self._cell_parser = _cell_parser()

    def sandbox(self, line: str, cell: Optional[str] = None) -> Any:
        """Keep a sandbox at hand, and run cells in it.

        %sandbox create IMAGE [--timeout S] [--local]   make one, which ends with the kernel, and S seconds (600) after
                                                        a kernel that was killed; --local: on the embedded server
        %sandbox use NAME                               take one that exists: a variable's name, or an id
        %sandbox show                                   what the server knows of it
        %sandbox kill                                   end it
        %sandbox --help                                 this

        %%sandbox [--code LANGUAGE] [--out NAME] [--timeout S] [--cwd DIR] [--no-raise-error]
            runs the cell in bash, or as code in a context that keeps its state. The Execution is put into the
            variable NAME. A run that fails is an error, with which a "run all" ends. The stop button ends the
            remote command, or interrupts the code; where that does not end, the next cell gets a new context.
        """
        try:
            if {"-h", "--help"} & set(shlex.split(line)):
                print(inspect.cleandoc(str(SandboxMagics.sandbox.__doc__)))
                return None
            if cell is not None:
                return self._run(self._cell_parser.parse_args(shlex.split(line)), cell)
            options = self._line_parser.parse_args(shlex.split(line) or ["show"])
            return getattr(self, "_" + options.do)(options)
        except SandboxError as error:
            raise _in_one_line(error) from error.__cause__

    def close(self) -> None:
        """End the sandbox that was made here, and the clients."""
        self.current = None
        try:
            self._end_made()
        finally:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _create(self, options: argparse.Namespace) -> Sandbox:
        client = self._client(local=options.local)
        made = client.create(options.image, timeout=options.timeout, kill_at_exit=True, on_progress=print)
        self._end_made()  # a cell that is run again replaces its sandbox
        self.current = self._made = made
        # People think between two cells. A kernel that dies without a word renews nothing more.
        self._keeper = made.keep_alive()
        self._keeper.__enter__()
        return made

    def _end_made(self) -> None:
        made = self._leave_made()
        if made is not None:
            made.kill()

    def _leave_made(self) -> Optional[Sandbox]:
        """The sandbox that was made here, which is no longer kept alive."""
        made, self._made = self._made, None
        keeper, self._keeper = self._keeper, None
        try:
            if keeper is not None:
                keeper.__exit__(None, None, None)
        except SandboxError:
            pass  # that it could not be renewed matters no more
        return made

    def _use(self, options: argparse.Namespace) -> Sandbox:
        from .sandbox import Sandbox

        found = self._shell.user_ns.get(options.name)
        if not isinstance(found, Sandbox):
            found = self._client(local=options.local).connect(options.name)
        self.current = found
        return found

    def _show(self, options: argparse.Namespace) -> SandboxInfo:
        return self._need().info()

    def _kill(self, options: argparse.Namespace) -> None:
        sandbox = self._need()
        if sandbox == self._made:
            self._end_made()
        else:
            sandbox.kill()
        self.current = None
        print(f"sandbox {sandbox.id} is gone")

    def _client(self, *, local: bool) -> SandboxClient:
        from .client import SandboxClient

        if local and local in self._clients and not _answers(self._clients[local]):
            # Its server has died, and its sandboxes with it.
            dead = self._clients.pop(local)
            if self._made is not None and self._made._client is dead:
                self._leave_made()
            dead.close()
        if local not in self._clients:
            self._clients[local] = SandboxClient.local() if local else SandboxClient()
        return self._clients[local]

    def _need(self) -> Sandbox:
        if self.current is None:
            raise InvalidArgumentError("there is no sandbox yet: %sandbox create IMAGE, or %sandbox use ID")
        return self.current

    def _run(self, options: argparse.Namespace, body: str) -> None:
        if options.out is not None and not options.out.isidentifier():
            raise InvalidArgumentError(f"--out must be a variable's name, not {options.out!r}")
        sandbox = self._need()
        stream: Optional[ExecutionStream] = None
        try:
            stream = self._open(sandbox, options, body)
            if options.out is not None:
                self._shell.push({options.out: stream.execution})
            self._follow(stream)
        except (KeyboardInterrupt, CommandTimeoutError, StreamInterruptedError, NotFoundError) as error:
            ended = stream is not None and (stream.execution.complete or stream.execution.error) is not None
            # A kernel that has not ended what it runs refuses other code.
            lost = not ended and self._contexts.pop((sandbox.id, options.code), None) is not None
            if not isinstance(error, KeyboardInterrupt):
                raise
            what = f"the {'code' if options.code else 'command'} in sandbox {sandbox.id}"
            how = "has ended" if ended else "was asked to end" if stream else "was being started"
            more = f"; the next --code {options.code} gets a new context" if lost else ""
            raise CellStopped(f"stopped: {what} {how}{more}") from None
        if not options.no_raise_error:
            stream.execution.check()

    def _open(self, sandbox: Sandbox, options: argparse.Namespace, body: str) -> ExecutionStream:
        if options.code is None:
            return sandbox.commands.stream(body, cwd=options.cwd, timeout=options.timeout)
        key = (sandbox.id, options.code)
        if key not in self._contexts:
            self._contexts[key] = sandbox.code.create_context(options.code, cwd=options.cwd)
        return sandbox.code.stream(body, context=self._contexts[key], timeout=options.timeout)

    def _follow(self, stream: ExecutionStream) -> None:
        from importlib import import_module

        from .live import LiveOutput

        display = import_module("IPython.display").display
        cell = _Cell()
        output = LiveOutput(stream.execution, partial(cell.write, "stdout"), partial(cell.write, "stderr"))
        try:
            with stream:
                for event in stream:
                    output.take(event)
                    if event.type == "result":
                        sys.stdout.flush()
                        display(_result_of(event))
        finally:
            output.finish(end_lines=True)


def _answers(client: SandboxClient) -> bool:
    try:
        return client.health()
    except SandboxError:
        return False


def _result_of(event: Any) -> ExecutionResult:
    from .execution import ExecutionResult

    return ExecutionResult.from_event(event)


class _Cell:
    """The cell's output. The kernel has a buffer for each stream: one is flushed before the other is written."""

    def __init__(self) -> None:
        self._last = "stdout"

    def write(self, name: str, text: str) -> None:
        if name != self._last:
            getattr(sys, self._last).flush()
            self._last = name
        getattr(sys, name).write(text)


def _in_one_line(error: SandboxError) -> SandboxError:
    """The same error, which IPython shows without the frames of this package."""
    execution = getattr(error, "execution", None)
    lines = [f"{type(error).__name__}: {error}"]
    if execution is not None and execution.error is not None and execution.exit_code is None:
        lines = _traceback(execution)
    elif execution is not None and execution.exit_code is not None:
        lines = [f"{type(error).__name__}: {_end_of(execution)}"]  # its output stands above
    error._render_traceback_ = partial(list, lines)  # type: ignore[attr-defined]
    return error


def _line_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="%sandbox", add_help=False)
    commands = parser.add_subparsers(dest="do", required=True)
    create = commands.add_parser("create", add_help=False)
    create.add_argument("image")
    create.add_argument("--timeout", type=float, default=600.0)
    use = commands.add_parser("use", add_help=False)
    use.add_argument("name")
    for one in (create, use):
        one.add_argument("--local", action="store_true")
    commands.add_parser("show", add_help=False)
    commands.add_parser("kill", add_help=False)
    return parser


def _cell_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="%%sandbox", add_help=False)
    parser.add_argument("--code", metavar="LANGUAGE")
    parser.add_argument("--out", metavar="NAME")
    parser.add_argument("--timeout", type=float, metavar="S")
    parser.add_argument("--cwd", metavar="DIR")
    parser.add_argument("--no-raise-error", action="store_true")
    return parser


_LOADED = "_opensandbox_sync_magics"


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext opensandbox_sync``: give the shell ``%sandbox`` and ``%%sandbox``."""
    magics = SandboxMagics(shell)
    setattr(shell, _LOADED, magics)
    shell.register_magic_function(magics.sandbox, magic_kind="line_cell", magic_name="sandbox")


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext opensandbox_sync``: end the sandbox that the magic made, and take the magic away."""
    magics: Optional[SandboxMagics] = getattr(shell, _LOADED, None)
    if magics is None:
        return
    setattr(shell, _LOADED, None)
    for known in shell.magics_manager.magics.values():
        known.pop("sandbox", None)
    magics.close()
