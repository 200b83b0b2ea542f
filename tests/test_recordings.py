"""What the real daemon and the real server answered, byte for byte through the real HTTP path.

The daemon is the one of June, which strips line ends and holds a response open for another second. Its answers are
sent chunk by chunk as recorded, without the recorded pauses.
"""

from __future__ import annotations

import contextlib
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import pytest

from opensandbox_sync import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    CommandTimeoutError,
    ConflictError,
    ExecutionError,
    NotFoundError,
    NotSupportedError,
    Sandbox,
    SandboxClient,
    ServerError,
)

from .wire import LAST_CHUNK, SANDBOX_ID, Peer, Piece, Request, chunk, peer_sandbox

RECORDINGS = Path(__file__).parent / "recordings"


def recording(plane: str, name: str) -> Dict[str, Any]:
    return dict(json.loads((RECORDINGS / plane / f"{name}.json").read_text("utf-8")))


def as_recorded(plane: str, name: str) -> List[Piece]:
    """The recorded answer, in the pieces in which it came, and the end of its connection."""
    answer = recording(plane, name)["response"]
    head = f"HTTP/1.1 {answer['status']} {answer['reason']}\r\n"
    head += "".join(f"{key}: {value}\r\n" for key, value in answer["headers"])
    parts = [part["data"].encode() for part in answer.get("chunks", [])] or [answer.get("body", "").encode()]
    if ["Transfer-Encoding", "chunked"] in answer["headers"]:
        parts = [*map(chunk, parts), LAST_CHUNK]
    found: List[Piece] = [(head + "\r\n").encode("latin-1"), *(part for part in parts if part)]
    if ["Connection", "close"] in answer["headers"]:
        found.append(b"")
    return found


@contextlib.contextmanager
def replayed(*names: str) -> Iterator[Tuple[Sandbox, Peer]]:
    """A sandbox whose daemon gives these recorded answers, in this order."""
    answers = [as_recorded("execd", name) for name in names]
    with peer_sandbox(lambda request: answers.pop(0)) as (sandbox, peer):
        yield sandbox, peer


class Run(NamedTuple):
    """What a recorded run of a command must become."""

    name: str
    stdout: str = ""
    stderr: str = ""
    exit_code: Optional[int] = 0
    signal: Optional[str] = None


RUNS = [
    Run("command-hello", "hello"),
    Run("command-exit-3", "out", "err", 3),
    Run("command-blank-lines", "a\n\n\nb\n"),
    Run("command-carriage-returns", "1%\n2%\n3%\ncrlf\nx\ny"),
    Run("command-no-final-newline", "a\nb"),
    Run("command-500-lines", "\n".join(map(str, range(1, 501)))),
    Run("command-long-line", "x" * 200_000),
    Run("command-unicode", "café 🚀 nel[\x85] ls[\u2028] ps[\u2029] fs[\x1c] ff[\x0c] vt[\x0b]\nsecond"),
    Run("command-invalid-utf8", "bad[\ufffd\ufffd]ok"),
    Run("command-nul-and-ansi", "a\0b \x1b[31mred\x1b[0m"),
    Run("command-json-looking-output", 'data: {"type":"execution_complete"}\n\n{"type":"error"}'),
    Run("command-cwd", "/usr"),
    Run("command-envs", "hi there"),
    Run("command-uid-gid", "65534\n65534"),
    Run("command-stdin", "eof"),
    Run("command-silent-4s", "done"),
    Run("command-not-found", "", "bash: line 1: no-such-binary-xyz: command not found", 127),
    Run(
        "command-segv-child", "", "bash: line 1: 20051 Segmentation fault      sh -c 'kill -11 $$'", 139
    ),  # the shell's own code for a child: no signal of its own
    Run("command-killed-by-signal", "", "", -1, "SIGKILL"),
    Run("command-interrupted", "start", "", -1, "SIGTERM"),
]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_recorded_run_becomes_its_output_and_exit_code(run: Run) -> None:
    asked = recording("execd", run.name)["request"]["body"]
    options = {
        ours: asked[wire]
        for ours, wire in [("cwd", "cwd"), ("env", "envs"), ("uid", "uid"), ("gid", "gid")]
        if wire in asked
    }
    with replayed(run.name) as (sandbox, peer):
        execution = sandbox.commands.run(asked["command"], **options)
    assert execution.stdout == run.stdout
    assert execution.stderr == run.stderr
    assert execution.exit_code == execution.exitCode == run.exit_code
    assert execution.signal == run.signal
    assert execution.ok == (run.exit_code == 0)
    assert not execution.timed_out
    assert execution.id == first_event(run.name)["text"]
    assert peer.asked("POST", "/command")[0].json == asked


def first_event(name: str) -> Dict[str, Any]:
    return dict(json.loads(recording("execd", name)["response"]["chunks"][0]["data"]))


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_recorded_run_streams_the_recorded_events(run: Run) -> None:
    """Every frame of the recording is an event, in its order, with nothing of it lost."""
    frames = "".join(part["data"] for part in recording("execd", run.name)["response"]["chunks"])
    expected = [json.loads(part) for part in frames.split("\n\n") if part]
    # A ping behind the terminal event may or may not be taken.
    expected = [event for event in expected if event["type"] != "ping"]
    with replayed(run.name) as (sandbox, _), sandbox.commands.stream("true") as stream:
        events = [event for event in stream if event.type != "ping"]
    assert [event.raw for event in events] == expected


def test_the_recorded_duration_is_the_servers() -> None:
    with replayed("command-silent-4s") as (sandbox, _):
        execution = sandbox.commands.run("sleep 4; echo done")
    assert execution.duration == 4.005
    assert execution.complete is not None and execution.complete.execution_time == 4005


def test_a_recorded_timeout_is_told_from_a_kill_by_the_servers_own_times() -> None:
    """The stream says "signal: killed" in both cases; the server's stamps are 692 ms apart, asked was 0.7 s."""
    with replayed("command-timeout") as (sandbox, peer), pytest.raises(CommandTimeoutError) as caught:
        sandbox.commands.run("echo before; sleep 5; echo after", timeout=0.7)
    execution = caught.value.execution
    assert execution is not None
    assert (execution.stdout, execution.exit_code, execution.signal) == ("before", -1, "SIGKILL")
    assert execution.timed_out and isinstance(caught.value, TimeoutError)
    assert peer.asked("POST", "/command")[0].json == recording("execd", "command-timeout")["request"]["body"]


def test_the_same_recording_without_a_timeout_of_ours_is_a_kill() -> None:
    with replayed("command-timeout") as (sandbox, _):
        execution = sandbox.commands.run("echo before; sleep 5; echo after")
    assert (execution.signal, execution.timed_out) == ("SIGKILL", False)


def test_a_recorded_error_event_keeps_its_name_value_and_traceback() -> None:
    with replayed("command-exit-3") as (sandbox, _):
        execution = sandbox.commands.run("exit 3")
    assert execution.error == ExecutionError("CommandExecError", "3", ["exit status 3"])


def test_a_recorded_background_command_is_started_looked_at_and_read() -> None:
    """Its ping comes behind the terminal event."""
    names = ["command-background", "command-status-running-or-done", "command-status-finished", "command-logs"]
    with replayed(*names, "command-logs-from-cursor", "command-logs-cursor-past-end") as (sandbox, peer):
        command = sandbox.commands.start("echo one; sleep 1; echo two; exit 4")
        running, finished = command.status(), command.status()
        logs, rest, beyond = command.logs(), command.logs(4), command.logs(4000)
    assert command.id == "9c61ff583f3743be9c4391c9a7da5c67"
    assert running.running and running.exit_code is None and running.finished_at is None
    assert (finished.running, finished.exit_code, finished.error) == (False, 4, "exit status 4")
    assert finished.content == "echo one; sleep 1; echo two; exit 4"
    assert finished.started_at == datetime(2026, 11, 22, 19, 57, 29, 6178, timezone.utc)
    assert finished.finished_at == datetime(2026, 11, 22, 19, 57, 30, 18156, timezone.utc)
    assert (logs.text, logs.cursor) == ("one\ntwo\n", 8)
    assert (rest.text, rest.cursor) == ("two\n", 8)
    assert (beyond.text, beyond.cursor) == ("", 4000)
    asked = [recording("execd", name)["request"] for name in [*names, "command-logs-from-cursor"]]
    targets = [(r.method, r.target) for r in peer.requests if "/endpoints/" not in r.target]
    wanted = [(r["method"], r["path"]) for r in asked]
    assert targets == [
        wanted[0],
        wanted[1],
        wanted[2],
        wanted[3],
        wanted[4],
        (wanted[4][0], wanted[3][1] + "?cursor=4000"),
    ]
    assert peer.asked("POST", "/command")[0].json == asked[0]["body"]


def test_a_recorded_interrupt_is_the_recorded_request() -> None:
    asked = recording("execd", "command-interrupt")["request"]
    with replayed("command-interrupt") as (sandbox, peer):
        sandbox.commands.interrupt("e8bb1bc577484a7a90caf761b1433a2c")
    assert (peer.requests[-1].method, peer.requests[-1].target) == (asked["method"], asked["path"])


def test_interrupting_what_has_ended_is_fine_though_the_daemon_says_500() -> None:
    with replayed("command-interrupt-finished") as (sandbox, peer):
        sandbox.commands.interrupt("e8bb1bc577484a7a90caf761b1433a2c")
    assert len(peer.asked("DELETE", "/command")) == 1


@pytest.mark.parametrize(
    ("name", "act", "status"),
    [
        ("command-interrupt-unknown", lambda sandbox: sandbox.commands.interrupt("nope"), 500),
        ("command-status-unknown", lambda sandbox: sandbox.commands.status("nope"), 404),
        ("command-logs-unknown", lambda sandbox: sandbox.commands.logs("nope"), 400),
    ],
)
def test_an_unknown_command_is_not_found_whatever_status_the_daemon_says(name: str, act: Any, status: int) -> None:
    with replayed(name) as (sandbox, _), pytest.raises(NotFoundError) as caught:
        act(sandbox)
    told = json.loads(recording("execd", name)["response"]["chunks"][0]["data"])
    assert caught.value.status_code == status
    assert caught.value.code == told["code"]
    assert told["message"] in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["command-bad-cwd", "command-empty", "command-gid-without-uid", "command-invalid-json", "command-negative-timeout"],
)
def test_a_recorded_refusal_keeps_the_daemons_code_and_words(name: str) -> None:
    with replayed(name) as (sandbox, _), pytest.raises(BadRequestError) as caught:
        sandbox.commands.run("true")
    told = json.loads(recording("execd", name)["response"]["chunks"][0]["data"])
    assert caught.value.code == told["code"] == "INVALID_REQUEST_BODY"
    assert told["message"] in str(caught.value)
    assert caught.value.status_code == 400


def test_an_old_daemon_that_knows_no_argv_is_said_to_be_old() -> None:
    """It misses the command then, and the answer to that is recorded."""
    with replayed("command-empty") as (sandbox, _), pytest.raises(NotSupportedError, match=r"echo 'a b'"):
        sandbox.commands.run(["echo", "a b"])


def test_the_recorded_ping_is_health() -> None:
    with replayed("ping") as (sandbox, _):
        assert sandbox.is_healthy()


# -- the lifecycle server ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def lifecycle(name: str) -> Iterator[Tuple[SandboxClient, Peer]]:
    """A client whose server gives this recorded answer to everything but a question for its health."""

    def respond(request: Request) -> Iterable[Piece]:
        return as_recorded("lifecycle", "health" if request.path == "/health" else name)

    peer = Peer(respond)
    try:
        with SandboxClient(domain=peer.address, api_key="key") as client:
            yield client, peer
    finally:
        peer.stop()


def test_a_recorded_create_is_asked_as_recorded_and_read() -> None:
    asked = recording("lifecycle", "create")["request"]
    with lifecycle("create") as (client, peer):
        sandbox = client.create(
            "base:bookworm",
            timeout=300,
            resource_limits={"cpu": "500m", "memory": "256Mi"},
            metadata={"team": "a", "job": "rec"},
            env={"A": "1"},
            wait_ready=False,
        )
    assert sandbox.id == SANDBOX_ID
    assert (peer.requests[0].method, peer.requests[0].target) == (asked["method"], asked["path"])
    assert peer.requests[0].json == asked["body"]


def test_a_recorded_sandbox_is_read_whole() -> None:
    with lifecycle("get") as (client, _):
        info = client.info(SANDBOX_ID)
    assert (info.id, info.state, info.status.reason) == (SANDBOX_ID, "Running", "CONTAINER_RUNNING")
    assert info.image is not None and info.image.uri == "base:bookworm"
    assert info.metadata == {"job": "rec", "team": "a"}
    assert info.entrypoint == ["tail", "-f", "/dev/null"]
    assert info.created_at == datetime(2026, 11, 22, 20, 2, 6, 433353, timezone.utc)
    assert info.expires_at == datetime(2026, 11, 22, 20, 7, 6, 425903, timezone.utc)
    assert info.raw == json.loads(recording("lifecycle", "get")["response"]["body"])


def test_a_recorded_list_is_read_whole_and_manual_cleanup_has_no_expiry() -> None:
    with lifecycle("list") as (client, _):
        found = client.list()
    assert [info.id[:8] for info in found] == ["2079f867", "2bbc86ae", "5e5c0f0e"]
    assert found[1].expires_at is None


def test_a_recorded_page_tells_where_it_stands() -> None:
    asked = recording("lifecycle", "list-page")["request"]
    with lifecycle("list-page") as (client, peer):
        page = client.list_page(page=1, page_size=1)
    assert peer.requests[0].target == asked["path"]
    assert (page.pagination.total_items, page.pagination.total_pages, page.pagination.has_next_page) == (3, 3, True)


def test_a_recorded_filter_asks_what_was_recorded() -> None:
    with lifecycle("list-filter") as (client, peer):
        found = client.list(states=["Running"], metadata={"team": "a", "job": "rec"})
    assert [info.id for info in found] == [SANDBOX_ID]
    assert peer.requests[0].query["metadata"] == "team=a&job=rec"


def test_a_recorded_renewal_is_the_servers_time() -> None:
    with lifecycle("renew") as (client, peer):
        expires = client.renew(SANDBOX_ID, 1200)
    assert expires == datetime(2026, 11, 22, 20, 22, 9, 106862, timezone.utc)
    # Counted from the Date of the server's answer, not from the clock of this machine.
    asked = datetime.strptime(peer.requests[-1].json["expiresAt"][:19], "%Y-%m-%dT%H:%M:%S")
    assert asked.strftime("%Y-%m-%d %H:%M") == "2026-11-22 20:22"


def test_a_recorded_metadata_patch_gives_the_sandbox_as_it_is_then() -> None:
    asked = recording("lifecycle", "metadata-patch")["request"]
    with lifecycle("metadata-patch") as (client, peer):
        info = client.patch_metadata(SANDBOX_ID, asked["body"])
    assert info.metadata == {"job": "rec", "owner": "me"}
    assert peer.requests[0].json == asked["body"]


def test_killing_a_sandbox_that_is_gone_is_fine() -> None:
    with lifecycle("kill-again") as (client, peer):
        client.kill(SANDBOX_ID)
    assert len(peer.asked("DELETE", SANDBOX_ID)) == 1


def test_the_recorded_endpoint_is_read() -> None:
    with lifecycle("endpoint-execd") as (client, _):
        endpoint = client.endpoint(SANDBOX_ID, 44772)
    assert endpoint.url == "http://127.0.0.1:44996/proxy/44772"


def test_recorded_health_and_version() -> None:
    with lifecycle("version") as (client, _):
        assert client.health()
        assert client.version() == "1.1.1"


@pytest.mark.parametrize(
    ("name", "kind", "act"),
    [
        ("get-unknown", NotFoundError, lambda client: client.info("nope")),
        ("get-without-key", AuthenticationError, lambda client: client.info(SANDBOX_ID)),
        ("get-wrong-key", AuthenticationError, lambda client: client.info(SANDBOX_ID)),
        ("pause-paused", ConflictError, lambda client: client.pause(SANDBOX_ID)),
        ("resume-running", ConflictError, lambda client: client.resume(SANDBOX_ID)),
        ("renew-past", BadRequestError, lambda client: client.renew(SANDBOX_ID, 1)),
        ("endpoint-unknown-sandbox", NotFoundError, lambda client: client.endpoint("nope", 44772)),
        (
            "metadata-patch-reserved",
            BadRequestError,
            lambda client: client.patch_metadata("x", {"opensandbox.io/x": "1"}),
        ),
        ("create-bad-metadata", BadRequestError, lambda client: client.create("i", metadata={"bad key!": "v"})),
        ("create-bad-extension", BadRequestError, lambda client: client.create("i")),
        ("create-host-path-not-allowed", BadRequestError, lambda client: client.create("i")),
    ],
)
def test_a_recorded_refusal_of_the_server_keeps_code_message_and_request_id(name: str, kind: Any, act: Any) -> None:
    answer = recording("lifecycle", name)["response"]
    told = json.loads(answer["body"])
    with lifecycle(name) as (client, _), pytest.raises(kind) as caught:
        act(client)
    error = caught.value
    assert isinstance(error, ApiError)
    assert (error.code, error.status_code) == (told["code"], answer["status"])
    assert error.request_id == dict(answer["headers"])["x-request-id"]
    assert told["message"] in str(error) and str(error.request_id) in str(error)
    assert error.body == answer["body"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("create-short-timeout", "body.timeout: Input should be greater than or equal to 60"),
        ("create-no-image", "Exactly one of image or snapshotId must be provided."),
        ("create-two-volume-backends", "body.volumes.0: Value error, Exactly one backend"),
        ("list-bad-page", "query.page: Input should be greater than or equal to 1"),
    ],
)
def test_a_recorded_validation_error_says_which_field_and_repeats_no_input(name: str, words: str) -> None:
    with lifecycle(name) as (client, _), pytest.raises(BadRequestError) as caught:
        client.create("i")
    assert caught.value.status_code == 422
    assert words in str(caught.value)
    assert "input" not in str(caught.value)


def test_an_unknown_route_is_not_found() -> None:
    with lifecycle("unknown-route") as (client, _), pytest.raises(NotFoundError, match="Not Found"):
        client.version()


def test_a_backend_that_does_not_answer_is_a_server_error() -> None:
    with lifecycle("networkpolicy-without-sidecar") as (client, _), pytest.raises(ServerError) as caught:
        client.create("i")
    assert caught.value.code == "BACKEND_CONNECTION_FAILED"
