"""The command line as a shell meets it: real processes, their descriptors, signals and exit codes. What does not depend
on the process is run in this one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from opensandbox_sync import (
    NetworkPolicy,
    NetworkRule,
    NotFoundError,
    Sandbox,
    SandboxClient,
    SandboxError,
    ServerEvent,
)
from opensandbox_sync.cli import main
from opensandbox_sync.execution import Fold
from opensandbox_sync.live import LiveOutput

from .conftest import until

ROOT = Path(__file__).parents[1]
#: A port that nothing listens on: the kernel gives it to nobody.
NOBODY = "127.0.0.1:1"


@pytest.fixture
def environment(settings: Dict[str, Any]) -> Dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error",
        "OPEN_SANDBOX_DOMAIN": settings["domain"],
        "OPEN_SANDBOX_API_KEY": settings["api_key"] or "",
    }


class Shell:
    """Runs ``opensandbox-sync`` with words."""

    def __init__(self, environment: Dict[str, str], directory: Path) -> None:
        self.options: Dict[str, Any] = {"env": environment, "cwd": directory}
        self.prefix = [sys.executable, "-m", "opensandbox_sync"]

    def __call__(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*self.prefix, *words], capture_output=True, timeout=120, **self.options)

    @contextlib.contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        with subprocess.Popen(
            [*self.prefix, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **self.options
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def shell(environment: Dict[str, str], tmp_path: Path) -> Shell:
    return Shell(environment, tmp_path)


class Inside:
    """Runs words in this process, where that is enough: no interpreter has to start."""

    def __init__(self, capture: pytest.CaptureFixture[bytes]) -> None:
        self._capture = capture

    def __call__(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        try:
            code = main(words)
        except SystemExit as ended:
            code = int(str(ended.code))
        out, err = self._capture.readouterr()
        return subprocess.CompletedProcess(words, code, out, err)


@pytest.fixture
def inside(
    environment: Dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> Inside:
    for name in ("OPEN_SANDBOX_DOMAIN", "OPEN_SANDBOX_API_KEY"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the tests' own handlers stay
    return Inside(capsysbinary)


def made_by(shell: Shell, client: SandboxClient, before: List[str]) -> List[str]:
    return [info.id for info in client.list() if info.id not in before]


# -- run and exec ------------------------------------------------------------------------------------------------------


def test_run_gives_the_output_and_the_exit_code_and_leaves_no_sandbox(shell: Shell, client: SandboxClient) -> None:
    before = [info.id for info in client.list()]
    answer = shell("run", "python:3.12", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (answer.stdout, answer.stderr, answer.returncode) == (b"out\n", b"err\n", 7)
    assert made_by(shell, client, before) == []


def test_exec_gives_the_bytes_of_the_output_as_they_are(inside: Inside, sandbox: Sandbox) -> None:
    text = "tab\t, \N{SNOWMAN}, \r\n, no end"
    sandbox.files.write("exact.txt", text)
    answer = inside("exec", sandbox.id, "--", "cat", "exact.txt")
    assert (answer.stdout, answer.stderr, answer.returncode) == (text.encode(), b"", 0)


def test_exec_passes_the_words_of_the_command_on_as_they_are(inside: Inside, sandbox: Sandbox) -> None:
    answer = inside("exec", sandbox.id, "--", "printf", "<%s>\n", "a b", "--", "$HOME", "--json", "")
    assert answer.stdout == b"<a b>\n<-->\n<$HOME>\n<--json>\n<>\n"


def test_exec_takes_a_directory_and_variables(inside: Inside, sandbox: Sandbox) -> None:
    answer = inside(
        "exec", sandbox.id, "--cwd", "/", "--env", "A=1=2", "--env", "B=", "--", "sh", "-c", "pwd; echo $A-$B"
    )
    assert answer.stdout == b"/\n1=2-\n"


def test_output_arrives_while_the_command_runs(shell: Shell, sandbox: Sandbox) -> None:
    script = "echo first; echo trouble >&2; until [ -e go ]; do sleep 0.02; done; echo last"
    with shell.started("exec", sandbox.id, "--", "sh", "-c", script) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"first\n"
        assert process.stderr.readline() == b"trouble\n"
        assert process.poll() is None
        sandbox.files.write("go", "")
        assert process.communicate(timeout=60) == (b"last\n", b"")
    sandbox.files.remove("go")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "command", "code", "says"),
    [
        ([], ["sh", "-c", "kill -9 $$"], 128 + 9, ""),
        (["--timeout", "0.3"], ["sleep", "60"], 124, "ran out of its 0.3 s"),
        ([], ["no-such-program"], 126, "could not be started"),
        (["--cwd", "/no/such/directory"], ["true"], 125, "/no/such/directory"),
        (["--domain", NOBODY], ["true"], 125, NOBODY),
        (["--timeout", "-1"], ["true"], 2, "timeout"),
    ],
)
def test_the_exit_code_says_how_it_ended(
    inside: Inside, sandbox: Sandbox, words: List[str], command: List[str], code: int, says: str
) -> None:
    answer = inside("exec", sandbox.id, *words, "--", *command)
    assert answer.returncode == code, answer.stderr.decode()
    assert says in answer.stderr.decode()
    assert answer.stderr.count(b"\n") == bool(says)


def test_json_is_the_whole_execution(inside: Inside, sandbox: Sandbox) -> None:
    answer = inside("exec", "--json", sandbox.id, "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    found = json.loads(answer.stdout)
    assert answer.returncode == 3
    assert found["sandbox_id"] == sandbox.id
    assert (found["exit_code"], found["stdout"], found["stderr"]) == (3, "out\n", "err\n")
    assert (found["timed_out"], found["signal"], found["error"]["name"]) == (False, None, "CommandExecError")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_and_its_sandbox(shell: Shell, client: SandboxClient, number: signal.Signals) -> None:
    before = [info.id for info in client.list()]
    with shell.started("run", "python:3.12", "--", "sh", "-c", "echo on; sleep 600") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        process.send_signal(number)
        assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 128 + number
    assert made_by(shell, client, before) == []


def test_ctrl_c_ends_what_exec_runs_and_leaves_the_sandbox(shell: Shell, sandbox: Sandbox) -> None:
    with shell.started("exec", sandbox.id, "--", "sh", "-c", "echo $$; exec sleep 600") as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    until(lambda: not sandbox.commands.run(f"kill -0 {pid}").ok, "the remote process is gone")


def test_a_reader_that_goes_ends_the_command(shell: Shell, sandbox: Sandbox) -> None:
    with shell.started(
        "exec", sandbox.id, "--", "sh", "-c", "echo $$; while :; do echo y; sleep 0.01; done"
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        pid = int(process.stdout.readline())
        process.stdout.close()
        assert process.wait(60) == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""
    until(lambda: not sandbox.commands.run(f"kill -0 {pid}").ok, "the remote process is gone")


@pytest.mark.embedded
def test_run_local_needs_no_server(shell: Shell) -> None:
    del shell.options["env"]["OPEN_SANDBOX_DOMAIN"]
    answer = shell("run", "--local", "python:3.12", "--", "echo", "hello")
    assert (answer.stdout, answer.stderr, answer.returncode) == (b"hello\n", b"", 0)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "python:3.12"], "the command is missing: opensandbox-sync run python:3.12 -- COMMAND"),
        (["run", "python:3.12", "echo", "a b"], "behind --: opensandbox-sync run python:3.12 -- echo 'a b'\n"),
        (["exec", "x", "--"], "the command is missing: opensandbox-sync exec x -- COMMAND"),
        (["exec", "x", "ls"], "behind --: opensandbox-sync exec x -- ls\n"),
        (["exec", "x", "y", "--", "ls"], "unrecognized arguments: y\n"),
        (["ls", "--fly"], "unrecognized arguments: --fly\n"),
        ([], "required: COMMAND"),
        (["--json"], "required: COMMAND"),
        (["--json", "serve"], "unrecognized arguments: --json\n"),
        (["fly"], "'fly'"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_asked(inside: Inside, words: List[str], says: str) -> None:
    answer = inside(*words)
    told = answer.stderr.decode()
    assert answer.returncode == 2
    assert re.match(r"opensandbox-sync( \w+)? \(see --help\): ", told) and says in told
    assert told.count("\n") == 1


def test_a_shell_that_knows_argcomplete_completes_commands_and_options(shell: Shell, tmp_path: Path) -> None:
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": " ", "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "said")}
    for line, wanted in (("opensandbox-sync e", {"exec", "endpoint"}), ("opensandbox-sync ls --js", {"--json"})):
        shell.options["env"] = {**shell.options["env"], **asked, "COMP_LINE": line, "COMP_POINT": str(len(line))}
        assert shell().returncode == 0
        assert set((tmp_path / "said").read_text().split()) == wanted


def test_options_may_stand_before_the_command(shell: Shell, sandbox: Sandbox) -> None:
    answer = shell(
        "--json", "--domain", shell.options["env"].pop("OPEN_SANDBOX_DOMAIN"), "exec", sandbox.id, "--", "ls"
    )
    assert json.loads(answer.stdout)["exit_code"] == 0
    failed = shell("--debug", "--domain", NOBODY, "ls")
    assert failed.stderr.startswith(b"Traceback"), failed.stderr


# -- sandboxes ---------------------------------------------------------------------------------------------------------


def test_create_ls_info_and_kill(inside: Inside, client: SandboxClient) -> None:
    answer = inside("create", "python:3.12", "--ttl", "120", "--metadata", "made-by=cli", "--env", "GREETING=hello")
    sandbox_id = answer.stdout.decode().strip()
    assert answer.returncode == 0, answer.stderr.decode()
    try:
        assert client.connect(sandbox_id).commands.run("echo $GREETING").stdout == "hello\n"
        head, row = inside("ls", "--metadata", "made-by=cli").stdout.decode().splitlines()
        assert head.split() == ["ID", "STATE", "FROM", "CREATED", "EXPIRES"]
        assert row.split()[:3] == [sandbox_id, "Running", "python:3.12"]
        assert row.index("Running") == head.index("STATE")
        (listed,) = json.loads(inside("ls", "--json", "--metadata", "made-by=cli").stdout)
        assert (listed["id"], listed["status"]["state"]) == (sandbox_id, "Running")
        assert re.search(r"^metadata made-by\s+cli$", inside("info", sandbox_id).stdout.decode(), re.MULTILINE)
        extensions = client.info(sandbox_id).extensions
        shown = re.findall(r"^isolation +(\S+)$", inside("info", sandbox_id).stdout.decode(), re.MULTILINE)
        assert shown == [value for key, value in extensions.items() if key.endswith(".isolation")]
        assert json.loads(inside("info", "--json", sandbox_id).stdout)["metadata"] == {"made-by": "cli"}
    finally:
        killed = inside("kill", sandbox_id, sandbox_id)
    assert (killed.returncode, killed.stdout.decode().split()) == (0, [sandbox_id, sandbox_id])
    with pytest.raises(NotFoundError):
        client.info(sandbox_id)
    gone = inside("info", sandbox_id)
    assert gone.returncode == 1
    assert gone.stderr.decode().startswith("opensandbox-sync: could not look up sandbox " + sandbox_id)


@pytest.mark.embedded
def test_a_sandbox_that_lives_until_it_is_killed(inside: Inside, client: SandboxClient) -> None:
    sandbox_id = json.loads(inside("create", "--json", "python:3.12", "--ttl", "0").stdout)["id"]
    try:
        assert client.info(sandbox_id).expires_at is None
    finally:
        client.kill(sandbox_id)


def test_an_error_is_one_line_and_its_traceback_is_for_debug(inside: Inside) -> None:
    short = inside("ls", "--domain", NOBODY)
    assert (short.returncode, short.stdout, short.stderr.count(b"\n")) == (1, b"", 1)
    assert short.stderr.startswith(b"opensandbox-sync: could not list sandboxes: ")
    long = inside("ls", "--domain", NOBODY, "--debug")
    assert long.returncode == 1
    assert long.stderr.startswith(b"Traceback (most recent call last):")
    assert long.stderr.count(NOBODY.encode()) == short.stderr.count(NOBODY.encode()), "the message is there once"
    assert long.stderr.splitlines()[-1].startswith(b"opensandbox_sync.errors.ConnectError: ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ls", "--domain", NOBODY], "is --domain (or $OPEN_SANDBOX_DOMAIN) right? `opensandbox-sync serve` starts"),
        (["ls", "--domain", NOBODY], "`opensandbox-sync run --local` needs none"),
        (["ls", "--api-key", "wrong"], "(--api-key, or $OPEN_SANDBOX_API_KEY, is what the server checks)"),
        (["ls", "--domain", "a b"], "--domain (or $OPEN_SANDBOX_DOMAIN) must be a host"),
        (["ls", "--state", ""], "--state must be text"),
        (["create", "x", "--ttl", "-1"], "--ttl must be"),
        (["create", "x", "--ready-timeout", "-1"], "--ready-timeout must be"),
        (["create"], "it wants either an IMAGE, or one of --snapshot, --template and --pool"),
        (["create", "x", "--pool", "y"], "it wants either an IMAGE, or one of --snapshot, --template and --pool"),
        (["exec", "x", "--cwd", "", "--", "ls"], "--cwd must be"),
        (["cp", "here", "x:"], "the path is missing in 'x:': x:PATH, or x:. for its working directory"),
    ],
)
def test_an_error_names_flags_and_variables(inside: Inside, words: List[str], says: str) -> None:
    answer = inside(*words)
    assert answer.returncode in (1, 2, 125)
    told = answer.stderr.decode()
    assert says in told
    assert not re.search(r"\b[a-z_]+=", told), "a name of Python's"


def test_endpoint_is_an_address_and_json_has_its_headers(inside: Inside, sandbox: Sandbox) -> None:
    found = json.loads(inside("endpoint", "--json", sandbox.id, "8000").stdout)
    assert found["url"] == sandbox.endpoint(8000).url
    assert found["headers"] == sandbox.endpoint(8000).headers
    plain = inside("endpoint", sandbox.id, "8000")
    assert plain.stdout.decode() == found["url"] + "\n"
    assert not any(value in plain.stderr.decode() for value in found["headers"].values())
    with_headers = inside("endpoint", sandbox.id, "44772").stderr.decode()
    assert re.fullmatch(r"opensandbox-sync: it wants headers, which --json shows: [A-Za-z, -]+\n", with_headers)


def test_policy_is_shown_and_changed(inside: Inside, client: SandboxClient) -> None:
    with client.connect(inside("create", "python:3.12", "--deny-all").stdout.decode().strip()) as sandbox:
        assert sandbox.egress.get().policy == NetworkPolicy("deny")
        answer = inside("policy", sandbox.id, "--allow", "api.test", "--deny", "example.com")
        assert answer.returncode == 0, answer.stderr.decode()
        rows = [line.split() for line in answer.stdout.decode().splitlines()]
        assert rows[0] == ["ACTION", "TARGET"]
        assert ["allow", "api.test"] in rows and ["deny", "example.com"] in rows
        assert rows[-2] == ["deny", "everything", "else"]
        found = json.loads(inside("policy", "--json", sandbox.id, "--delete", "example.com").stdout)
        assert [rule["target"] for rule in found["policy"]["egress"]] == ["api.test"]
        sandbox.kill()


def test_run_and_create_take_what_a_sandbox_may_reach(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: List[Any] = []

    def create(self: SandboxClient, *images: Any, **options: Any) -> Any:
        asked.append(options["network_policy"])
        raise SandboxError("enough")

    monkeypatch.setattr(SandboxClient, "create", create)
    for words in (["create", "x"], ["run", "x"]):
        for policy in ([], ["--deny-all"], ["--allow", "api.test", "--allow", "10.0.0.0/8"]):
            inside(*words, *policy, *(["--", "true"] if words[0] == "run" else []))
    rules = [NetworkRule("allow", "api.test"), NetworkRule("allow", "10.0.0.0/8")]
    assert asked == [None, NetworkPolicy("deny"), NetworkPolicy("deny", rules)] * 2


# -- files and logs ----------------------------------------------------------------------------------------------------


def test_cp_takes_a_file_there_and_back(inside: Inside, sandbox: Sandbox, tmp_path: Path) -> None:
    content = bytes(range(256)) * 40
    (tmp_path / "a.bin").write_bytes(content)
    sandbox.files.make_dirs("into")
    assert inside("cp", "a.bin", f"{sandbox.id}:into").returncode == 0
    assert sandbox.files.read_bytes("into/a.bin") == content
    assert inside("cp", f"{sandbox.id}:into/a.bin", "back.bin").returncode == 0
    assert (tmp_path / "back.bin").read_bytes() == content
    found = json.loads(inside("cp", "--json", "a.bin", f"{sandbox.id}:into/other").stdout)
    assert found == {"path": "into/other", "size": len(content)}


def test_cp_takes_a_directory_there_and_back(inside: Inside, sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "a.txt").write_text("a")
    assert inside("cp", "tree", f"{sandbox.id}:copied").returncode == 0
    assert sandbox.files.read_text("copied/deep/a.txt") == "a"
    assert inside("cp", f"{sandbox.id}:copied", ".").returncode == 0
    assert (tmp_path / "copied" / "deep" / "a.txt").read_text() == "a"


@pytest.mark.parametrize("words", [["a", "b"], ["x:a", "y:b"]])
def test_cp_needs_one_side_in_a_sandbox(inside: Inside, words: List[str]) -> None:
    answer = inside("cp", *words)
    assert answer.returncode == 2
    assert b"ID:PATH" in answer.stderr


def test_cp_says_what_is_missing(inside: Inside, sandbox: Sandbox) -> None:
    answer = inside("cp", f"{sandbox.id}:no-such-file", "here")
    assert answer.returncode == 1
    assert b"no-such-file" in answer.stderr


def test_logs_that_are_followed_are_no_json(inside: Inside) -> None:
    answer = inside("logs", "--follow", "--json", "x", "c")
    assert (answer.returncode, answer.stdout) == (2, b"") and b"leave out" in answer.stderr


def test_logs_follow_a_command_that_was_detached(shell: Shell, sandbox: Sandbox) -> None:
    script = "echo first; until [ -e on ]; do sleep 0.02; done; echo last"
    command_id = shell("exec", "--detach", sandbox.id, "--", "sh", "-c", script).stdout.decode().strip()
    with shell.started("logs", "--follow", sandbox.id, command_id) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        sandbox.files.write("on", "")
        assert process.communicate(timeout=60) == (b"last\n", b"")
    sandbox.files.remove("on")
    assert shell("logs", sandbox.id, command_id).stdout == b"first\nlast\n"
    assert json.loads(shell("logs", "--json", sandbox.id, command_id).stdout)["text"] == "first\nlast\n"


@pytest.mark.embedded
def test_logs_without_a_command_are_the_sandboxs_own(inside: Inside, sandbox: Sandbox) -> None:
    answer = inside("logs", sandbox.id)
    assert answer.returncode == 0, answer.stderr.decode()
    assert answer.stdout.decode().strip() == (sandbox.diagnostics.logs().content or "").strip()


# -- serve, and the console script -------------------------------------------------------------------------------------


@pytest.mark.embedded
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_serves_until_it_is_ended(shell: Shell, number: signal.Signals) -> None:
    with shell.started("serve", "--port", "0", "--api-key", "of-this-test") as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1].decode()
        with SandboxClient(domain=url, api_key="of-this-test") as client:
            assert client.health()
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.embedded
def test_serve_takes_all_that_the_embedded_server_does_and_tells_no_key_of_the_environment(shell: Shell) -> None:
    with shell.started("serve", "--port", "0", "--isolation", "none", "--allow-host-path", ".") as process:
        assert process.stdout is not None
        told = "".join(process.stdout.readline().decode() for _ in range(3))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert re.search(r"^Isolation: +none$", told, re.MULTILINE)
    assert re.search(r"^API key: +that of \$OPEN_SANDBOX_API_KEY$", told, re.MULTILINE)
    assert shell.options["env"]["OPEN_SANDBOX_API_KEY"] not in told
    refused = shell("serve", "--port", "0", "--isolation", "none", "--root", "/")
    assert (refused.returncode, refused.stderr.count(b"\n")) == (2, 1)
    assert refused.stderr.startswith(b"opensandbox-sync: --root needs isolation")


def test_the_console_script_and_the_module_are_one(shell: Shell) -> None:
    from opensandbox_sync import cli

    assert f"console_scripts =\n    opensandbox-sync = {cli.__name__}:{cli.main.__name__}\n" in (
        ROOT / "setup.cfg"
    ).read_text("utf-8")
    assert shell("--version").stdout.decode().startswith("opensandbox-sync ")


# -- output as it comes, from daemons old and new ----------------------------------------------------------------------


def written(batches: List[List[str]], *, end_lines: bool = False) -> str:
    """What stdout events, arriving in batches, are written as."""
    fold, seen = Fold(), []  # type: ignore[var-annotated]
    output = LiveOutput(fold.execution, seen.append, seen.append)
    for texts in batches:
        events = [ServerEvent("stdout", text, 1) for text in texts]
        fold.feed(events)
        for event in events:
            output.take(event)
    fold.settle()
    output.finish(end_lines=end_lines)
    return "".join(seen)


@pytest.mark.parametrize(
    ("batches", "text"),
    [
        ([["a\n", "b\n"]], "a\nb\n"),
        ([["a\n"], ["b"]], "a\nb"),
        ([["no end"]], "no end"),
        ([["prompt: "], ["answer\n"]], "prompt: answer\n"),
        ([["\n"], ["b\n"]], "\nb\n"),
        ([["a", "b"]], "a\nb\n"),
        ([["a"], ["\n"], ["b"]], "a\n\nb\n"),
        ([["\n"]], "\n"),
        ([], ""),
    ],
)
def test_live_output_is_that_of_the_daemon_with_line_ends_or_without(batches: List[List[str]], text: str) -> None:
    assert written(batches) == text


def test_a_terminal_gets_the_end_of_the_last_line() -> None:
    assert written([["no end"]], end_lines=True) == "no end\n"
    assert written([["a\n"]], end_lines=True) == "a\n"
