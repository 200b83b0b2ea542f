"""The command line: ``opensandbox-sync`` and ``python -m opensandbox_sync``.

Exit codes: 0, or the remote command's own (``run`` and ``exec``); 128 + n where signal n ended it, here or there;
124 it ran out of ``--timeout``; 126 it could not be started; 125 ``run`` or ``exec`` failed in another way;
1 another command failed; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import sys
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NoReturn, Optional, Sequence, Tuple

from ._version import __version__
from .codec import readable_datetime
from .errors import CommandTimeoutError, InvalidArgumentError, NotFoundError, SandboxError

if TYPE_CHECKING:
    from .client import SandboxClient
    from .execution import Execution
    from .models import NetworkPolicy
    from .sandbox import Sandbox

_NAME = "opensandbox-sync"
#: Characters of a streamed run that are kept: the end of an error's message, no more.
_KEPT = 4096
_FAILED, _USAGE, _TIMED_OUT, _OURS, _NOT_STARTED = 1, 2, 124, 125, 126


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command line and return its exit code."""
    words = _command_first(list(sys.argv[1:] if argv is None else argv))
    command: Optional[List[str]] = None
    if words[:1] in (["run"], ["exec"]) and "--" in words:
        # By hand: how argparse treats "--" differs from Python to Python, and the command's own "--" must stay.
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks how the line may go on, by way of argcomplete
        import argcomplete

        argcomplete.autocomplete(parser)
    options, left = parser.parse_known_args(words)
    if options.name in ("run", "exec") and not command:
        what = "the command stands behind --" if left else "the command is missing"
        shown = " ".join(map(shlex.quote, left)) or "COMMAND [ARGUMENT ...]"
        place = options.image if options.name == "run" else options.id
        options.fail(f"{what}: {_NAME} {options.name} {place} -- {shown}")
    if left:
        options.fail(f"unrecognized arguments: {' '.join(left)}")
    options.command = command
    caught = [signal.SIGINT]

    def end(number: int, frame: Any) -> None:
        caught[0] = signal.Signals(number)
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, end)
    try:
        return _call(options)
    except KeyboardInterrupt:
        return 128 + caught[0]


def _command_first(words: List[str]) -> List[str]:
    """What stands before the command's name is moved behind it, so that options may stand in both places."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        if words[at] in ("-h", "--help", "--version"):
            return words
        at += 2 if words[at] in ("--domain", "--api-key") else 1
    return words[at : at + 1] + words[:at] + words[at + 1 :]


def _call(options: argparse.Namespace) -> int:
    try:
        code: int = options.call(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read has gone; the interpreter must not try to flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    except (SandboxError, OSError, RuntimeError) as error:
        if options.debug:
            import traceback

            traceback.print_exc()  # it ends with the message
        else:
            _say(_in_flags(str(error), options))
        if isinstance(error, InvalidArgumentError):
            return _USAGE
        if isinstance(error, CommandTimeoutError):  # before it began
            return _TIMED_OUT
        return _OURS if options.name in ("run", "exec") else _FAILED


# -- the commands --------------------------------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    from .local.__main__ import serve

    try:
        return serve(options)
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from error


def _run(options: argparse.Namespace) -> int:
    with ExitStack() as stack:
        client = stack.enter_context(_client(options))
        created = client.create(options.image, network_policy=_network_policy(options), on_progress=_progress())
        sandbox = stack.enter_context(created)
        stack.enter_context(sandbox.keep_alive())
        return _foreground(sandbox, options)


def _exec(options: argparse.Namespace) -> int:
    with _client(options) as client:
        sandbox = client.connect(options.id, wait_ready=False)
        if not options.detach:
            return _foreground(sandbox, options)
        started = sandbox.commands.start(
            options.command, cwd=options.cwd, env=dict(options.env), timeout=options.timeout
        )
        _show(options, {"id": started.id}, started.id)
    return 0


def _foreground(sandbox: Sandbox, options: argparse.Namespace) -> int:
    from .live import LiveOutput

    kept = None if options.json else _KEPT
    stream = sandbox.commands.stream(
        options.command, cwd=options.cwd, env=dict(options.env), timeout=options.timeout, max_output=kept
    )
    output = LiveOutput(stream.execution, _writer(sys.stdout), _writer(sys.stderr))
    try:
        with stream:
            for event in stream:
                if not options.json:
                    output.take(event)
    except CommandTimeoutError:
        _say(f"the command ran out of its {options.timeout:g} s and was ended")
    finally:
        output.finish(end_lines=sys.stdout.isatty())
    if options.json:
        _print_json(_execution(sandbox, stream.execution))
    return _exit_code(stream.execution)


def _exit_code(execution: Execution) -> int:
    if execution.timed_out:
        return _TIMED_OUT
    if execution.signal in signal.Signals.__members__:
        return 128 + signal.Signals[str(execution.signal)]
    if execution.exit_code is not None:
        return execution.exit_code & 255
    if execution.error is not None:
        _say(f"the command could not be started: {execution.error.value}")
    return _NOT_STARTED


def _execution(sandbox: Sandbox, execution: Execution) -> Dict[str, Any]:
    names = ("id", "exit_code", "signal", "timed_out", "duration", "stdout", "stderr")
    error = execution.error
    return {
        "sandbox_id": sandbox.id,
        **{name: getattr(execution, name) for name in names},
        "error": None if error is None else {"name": error.name, "value": error.value},
    }


def _create(options: argparse.Namespace) -> int:
    if sum(source is not None for source in (options.image, options.snapshot, options.template, options.pool)) != 1:
        raise InvalidArgumentError("it wants either an IMAGE, or one of --snapshot, --template and --pool")
    with _client(options) as client:
        sandbox = client.create(
            options.image,
            snapshot_id=options.snapshot,
            template_id=options.template,
            pool=options.pool,
            timeout=None if options.ttl == 0 else options.ttl,
            env=dict(options.env),
            metadata=dict(options.metadata),
            network_policy=_network_policy(options),
            ready_timeout=options.ready_timeout,
            on_progress=_progress(),
        )
        _show(options, {"id": sandbox.id}, sandbox.id)
    return 0


def _network_policy(options: argparse.Namespace) -> Optional[NetworkPolicy]:
    from .models import NetworkPolicy, NetworkRule

    if not (options.deny_all or options.allow):
        return None
    return NetworkPolicy("deny", [NetworkRule("allow", target) for target in options.allow])


def _ls(options: argparse.Namespace) -> int:
    with _client(options) as client:
        found = client.list(states=options.state, metadata=dict(options.metadata))
    rows = [
        (
            info.id,
            info.state,
            info.source or "-",
            readable_datetime(info.created_at),
            readable_datetime(info.expires_at) or "never",
        )
        for info in found
    ]
    _show(options, _encoded(found), _table(("ID", "STATE", "FROM", "CREATED", "EXPIRES"), rows))
    return 0


def _info(options: argparse.Namespace) -> int:
    with _client(options) as client:
        info = client.info(options.id)
    rows = [
        ("id", info.id),
        ("state", info.state),
        ("reason", " ".join(filter(None, [info.status.reason, info.status.message]))),
        ("from", info.source or "-"),
        ("isolation", info.isolation or ""),
        ("created", readable_datetime(info.created_at)),
        ("expires", readable_datetime(info.expires_at) or "never"),
        *((f"metadata {key}", value) for key, value in info.metadata.items()),
    ]
    _show(options, _encoded(info), _table((), [row for row in rows if row[1]]))
    return 0


def _kill(options: argparse.Namespace) -> int:
    with _client(options) as client:
        for sandbox_id in options.ids:
            client.kill(sandbox_id)
    _show(options, {"killed": options.ids}, "\n".join(options.ids))
    return 0


def _cp(options: argparse.Namespace) -> int:
    source, target = _place(options.source), _place(options.target)
    if (source[0] is None) == (target[0] is None):
        raise InvalidArgumentError("one of the two must be in a sandbox (ID:PATH), and one on this machine")
    with _client(options) as client:
        sandbox = client.connect(str(source[0] or target[0]), wait_ready=False)
        if source[0] is None:
            size, path = _upload(sandbox, Path(source[1]), target[1])
        else:
            size, path = _download(sandbox, source[1], Path(target[1]))
    _show(options, {"path": path, "size": size}, "")
    return 0


def _place(text: str) -> Tuple[Optional[str], str]:
    match = re.fullmatch(r"([^/:.][^/:]*):(.*)", text, re.DOTALL)
    if match and not match[2]:
        raise InvalidArgumentError(f"the path is missing in {text!r}: {text}PATH, or {text}. for its working directory")
    return (match[1], match[2]) if match else (None, text)


def _upload(sandbox: Sandbox, source: Path, target: str) -> Tuple[int, str]:
    if target.endswith("/") or _is_directory(sandbox, target):
        target = str(PurePosixPath(target) / source.resolve().name)
    shown = sys.stderr.isatty()
    if source.is_dir():
        return sandbox.files.upload_dir(source, target, progress=shown).size, target
    return sandbox.files.upload(source, target, progress=shown), target


def _download(sandbox: Sandbox, source: str, target: Path) -> Tuple[int, str]:
    found = sandbox.files.info(source)
    if target.is_dir():
        target /= PurePosixPath(found.path).name
    shown = sys.stderr.isatty()
    if found.type == "directory":
        return sandbox.files.download_dir(source, target, progress=shown).size, str(target)
    return sandbox.files.download(source, target, progress=shown), str(target)


def _is_directory(sandbox: Sandbox, path: str) -> bool:
    try:
        return sandbox.files.info(path).type == "directory"
    except NotFoundError:
        return False


def _logs(options: argparse.Namespace) -> int:
    with _client(options) as client:
        if options.command_id is None:
            if options.follow:
                raise InvalidArgumentError("--follow needs the id of a command")
            text = client.diagnostics.logs(options.id, options.scope, follow_url=True).content or ""
            _show(options, {"text": text}, text)
            return 0
        command = client.connect(options.id, wait_ready=False).commands.get(options.command_id)
        write = _writer(sys.stdout)
        if options.follow and options.json:
            raise InvalidArgumentError("--follow gives text as it comes, which is no JSON; leave out one of both")
        if options.follow:
            for text in command.follow():
                write(text)
        elif options.json:
            _print_json(_encoded(command.logs()))
        else:
            write(command.logs().text)
    return 0


def _endpoint(options: argparse.Namespace) -> int:
    with _client(options) as client:
        found = client.endpoint(options.id, options.port)
    if found.headers and not options.json:
        _say(f"it wants headers, which --json shows: {', '.join(sorted(found.headers))}")
    _show(options, {"url": found.url, "endpoint": found.endpoint, "headers": dict(found.headers)}, found.url)
    return 0


def _policy(options: argparse.Namespace) -> int:
    with _client(options) as client:
        egress = client.connect(options.id, wait_ready=False).egress
        if options.delete:
            egress.delete(options.delete)
        if options.allow:
            egress.allow(*options.allow)
        if options.deny:
            egress.deny(*options.deny)
        status = egress.get()
    policy = status.policy
    rules = [] if policy is None else [(rule.action, rule.place) for rule in policy.egress]
    default = [] if policy is None else [(policy.default_action or "deny", "everything else")]
    enforced = f"mode {status.mode}, enforced by {status.enforcement_mode}"
    _show(options, _encoded(status), _table(("ACTION", "TARGET"), [*rules, *default]) + "\n" + enforced)
    return 0


# -- what they share -----------------------------------------------------------------------------------------------


def _client(options: argparse.Namespace) -> SandboxClient:
    from .client import SandboxClient

    if getattr(options, "local", False):
        return SandboxClient.local()
    return SandboxClient(
        domain=options.domain, api_key=options.api_key, use_server_proxy=options.use_server_proxy or False
    )


def _writer(file: Any) -> Callable[[str], None]:
    def write(text: str) -> None:
        # Past the text layer: no encoding of the terminal's, no line ends changed, nothing held back.
        file.buffer.write(text.encode("utf-8", "replace"))
        file.buffer.flush()

    return write


def _say(text: str) -> None:
    print(f"{_NAME}: {' '.join(text.split())}", file=sys.stderr, flush=True)


#: The SDK's errors name what a Python program would change. (pattern, what the command line has for it)
_WORDS = (
    (
        r"`python -m opensandbox_sync\.local` starts the embedded one",
        f"`{_NAME} serve` starts the embedded one, and `{_NAME} run --local` needs none",
    ),
    (r"\buse_server_proxy=(True or 'auto')?", "--use-server-proxy"),
    (r"\bverify=", "$REQUESTS_CA_BUNDLE"),
    (r"\b(domain|metadata)=", r"--\1"),
    (r"\bapi_key=", "--api-key"),
    # A refused argument is the first word.
    (r"^domain\b", "--domain (or $OPEN_SANDBOX_DOMAIN)"),
    (r"^api_key\b", "--api-key (or $OPEN_SANDBOX_API_KEY)"),
    (r"^ready_timeout\b", "--ready-timeout"),
    (r"^(timeout|cwd|env|metadata|state|root)\b", r"--\1"),
)


def _in_flags(text: str, options: argparse.Namespace) -> str:
    """An error of the SDK in the words of the command line."""
    if options.name == "create":
        text = re.sub(r"^timeout\b", "--ttl", text)
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    return text


def _progress() -> Optional[Callable[[str], None]]:
    return _say if sys.stderr.isatty() else None


def _show(options: argparse.Namespace, data: Any, text: str) -> None:
    if options.json:
        _print_json(data)
    elif text:
        _writer(sys.stdout)(text if text.endswith("\n") else text + "\n")


def _print_json(data: Any) -> None:
    _writer(sys.stdout)(json.dumps(data, ensure_ascii=False, indent=2) + "\n")


def _encoded(value: Any) -> Any:
    from .codec import encode

    return encode(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns; what a terminal would obey is shown as ``?``."""
    shown = [head, *rows] if head else rows
    lines = [["".join(c if c.isprintable() else "?" for c in cell) for cell in row] for row in shown]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


# -- the words of the command line ---------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """In one line, without the usage: that is what --help is for."""
        self.exit(_USAGE, f"{self.prog} (see --help): {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=_NAME,
        description="Sandboxes of an OpenSandbox server, which $OPEN_SANDBOX_DOMAIN and $OPEN_SANDBOX_API_KEY name.",
        epilog="Exit codes: the remote command's own with run and exec (128 + n: signal n ended it, 124: it ran out of "
        "--timeout, 126: it could not be started, 125: anything else), 1: failed, 2: wrong usage. --domain, --api-key, "
        "--use-server-proxy, --json and --debug may also stand before the command.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="name", metavar="COMMAND", required=True)
    _add_serve(commands)
    _add_running(commands)
    _add_lifecycle(commands)
    _add_inside(commands)
    return parser


def _add(commands: Any, name: str, call: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    parser.set_defaults(call=call, fail=parser.error)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if call is not _serve:
        parser.add_argument("--api-key", metavar="KEY", help="default: $OPEN_SANDBOX_API_KEY, which `ps` does not show")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument("--domain", help="the server (default: $OPEN_SANDBOX_DOMAIN, else localhost:8080)")
        parser.add_argument("--use-server-proxy", action="store_true", help="reach sandboxes through the server")
    return parser


def _add_serve(commands: Any) -> None:
    from .local.__main__ import add_arguments

    add_arguments(_add(commands, "serve", _serve, "serve the OpenSandbox API from this machine"))


def _add_running(commands: Any) -> None:
    run = _add(commands, "run", _run, "create a sandbox, run a command in it, kill it")
    run.add_argument("image")
    run.add_argument("--local", action="store_true", help="on the embedded server, started for this command alone")
    execute = _add(commands, "exec", _exec, "run a command in a sandbox that exists")
    execute.add_argument("id")
    execute.add_argument("-d", "--detach", action="store_true", help="start it in the background, and print its id")
    for parser in (run, execute):
        parser.usage = f"{parser.prog} [options] {'IMAGE' if parser is run else 'ID'} -- COMMAND [ARGUMENT ...]"
        parser.add_argument("--cwd", metavar="DIR")
        parser.add_argument("--timeout", type=float, metavar="SECONDS", help="the command is ended then")
        _add_pairs(parser, "env", "a variable of the command")
    _add_policy(run)


def _add_lifecycle(commands: Any) -> None:
    create = _add(commands, "create", _create, "create a sandbox and print its id")
    create.add_argument("image", nargs="?")
    for source in ("snapshot", "template", "pool"):
        create.add_argument(f"--{source}", help=f"create from a {source}, not from an image")
    create.add_argument(
        "--ttl",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="its life: 60 or more (default: 600); 0: until it is killed",
    )
    create.add_argument("--ready-timeout", type=float, default=30.0, metavar="SECONDS")
    _add_pairs(create, "env", "a variable of the sandbox")
    _add_policy(create)
    ls = _add(commands, "ls", _ls, "list sandboxes")
    ls.add_argument("--state", action="append", help="only those in this state; repeatable")
    for parser in (create, ls):
        _add_pairs(parser, "metadata", "metadata of the sandbox")
    _add(commands, "info", _info, "what the server knows of a sandbox").add_argument("id")
    kill = _add(commands, "kill", _kill, "end sandboxes; one that is gone already is fine")
    kill.add_argument("ids", nargs="+", metavar="id")
    endpoint = _add(commands, "endpoint", _endpoint, "how to reach a port of a sandbox")
    endpoint.add_argument("id")
    endpoint.add_argument("port", type=int)


def _add_inside(commands: Any) -> None:
    cp = _add(commands, "cp", _cp, "copy a file or a directory; ID:PATH is a place in a sandbox")
    cp.add_argument("source")
    cp.add_argument("target")
    logs = _add(commands, "logs", _logs, "the sandbox's log, or the output of a command that exec --detach started")
    logs.add_argument("id")
    logs.add_argument("command_id", nargs="?")
    logs.add_argument("-f", "--follow", action="store_true", help="until the command has ended")
    logs.add_argument("--scope", default="all", help="of the sandbox's log (default: all)")
    policy = _add(
        commands,
        "policy",
        _policy,
        "show, and first change, what a sandbox may reach that was made with --deny-all or --allow",
    )
    policy.add_argument("id")
    for change in ("allow", "deny", "delete"):
        policy.add_argument(f"--{change}", action="append", metavar="TARGET", help="a domain, address or block")


def _add_policy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--deny-all", action="store_true", help="it may reach nothing, but for what --allow names")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="TARGET", help="it may reach this, and nothing else; repeatable"
    )


def _add_pairs(parser: argparse.ArgumentParser, name: str, about: str) -> None:
    parser.add_argument(
        f"--{name}", action="append", type=_pair, default=[], metavar="NAME=VALUE", help=f"{about}; repeatable"
    )


def _pair(text: str) -> Tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, not {text!r}")
    return name, value
