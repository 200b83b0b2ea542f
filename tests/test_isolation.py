"""Isolated sessions, against scripted answers of the daemon: nothing at hand isolates."""

from __future__ import annotations

import json
import pickle
from typing import Any, Callable, Dict, Iterable, List

import pytest

from opensandbox_sync import (
    BadRequestError,
    CommandError,
    CommandTimeoutError,
    InvalidArgumentError,
    NotFoundError,
    NotSupportedError,
    ProtocolError,
    RequestTimeoutError,
    Sandbox,
    ServerError,
    StreamInterruptedError,
)
from opensandbox_sync.services.isolation import (
    EnvPassthrough,
    IsolatedBind,
    IsolatedOverlay,
    IsolatedWorkspace,
)

from .lists import one_after_another
from .wire import HANG, Piece, Request, always, cut, failed, frame, peer_sandbox, refusal, stream, whole

MADE = {"session_id": "i1", "created_at": "2026-11-22T20:02:09.268789123Z"}
DONE = frame("execution_complete", timestamp=1005)


def line(text: str) -> bytes:
    return frame("stdout", text=text, timestamp=1001)


def daemon(**answers: Iterable[Piece]) -> Callable[[Request], Iterable[Piece]]:
    """Sessions can be made and deleted; a run is answered with ``run``."""

    def respond(request: Request) -> Iterable[Piece]:
        if request.path.endswith("/run"):
            return answers["run"]
        return whole(201, MADE) if request.method == "POST" else whole(200)

    return respond


def asked(peer: Any) -> List[str]:
    return [f"{r.method} {r.target}" for r in peer.requests if "/endpoints/" not in r.path]


def test_capabilities_tell_what_there_is() -> None:
    told = {
        "available": True,
        "isolator": "bubblewrap",
        "version": "0.8.0",
        "setpriv_available": True,
        "hardening": {"init_mode": "pid1", "seccomp": {"state": "active"}},
        "new_field": 1,
    }
    with peer_sandbox(always(whole(200, told))) as (sandbox, peer):
        found = sandbox.isolation.capabilities()
        assert (found.available, found.isolator, found.userns_available) == (True, "bubblewrap", False)
        assert found.hardening is not None
        assert found.hardening.seccomp is not None
        assert found.hardening.seccomp.state == "active"
        assert found.raw["new_field"] == 1
        assert asked(peer) == ["GET /v1/isolated/capabilities"]


def test_create_sends_what_was_given_and_nothing_else() -> None:
    with peer_sandbox(always(whole(201, MADE))) as (sandbox, peer):
        assert sandbox.isolation.create("/work").id == "i1"
        sandbox.isolation.create(
            IsolatedWorkspace("/work", mode="overlay"),
            overlays=[IsolatedOverlay("/data", persist=False)],
            profile="balanced",
            extra_writable=["/var/tmp"],
            binds=[IsolatedBind("/opt", dest="/tools", readonly=True)],
            share_net=False,
            env_passthrough=EnvPassthrough("allow", ["PATH"]),
            uid=1000,
            gid=0,
            uid_mode="userns",
            idle_timeout=90.2,
        )
        small, large = peer.asked("POST", "/v1/isolated/session")
        assert small.json == {"workspace": {"path": "/work"}}
        assert large.json == {
            "workspace": {"path": "/work", "mode": "overlay"},
            "overlays": [{"path": "/data", "persist": False}],
            "profile": "balanced",
            "extra_writable": ["/var/tmp"],
            "binds": [{"source": "/opt", "dest": "/tools", "readonly": True}],
            "share_net": False,
            "env_passthrough": {"mode": "allow", "keys": ["PATH"]},
            "uid": 1000,
            "gid": 0,
            "uid_mode": "userns",
            "idle_timeout_seconds": 91,
        }


@pytest.mark.parametrize(
    ("workspace", "options", "complaint"),
    [
        (None, {}, "1 to 16 directories"),
        ("work", {}, "absolute path"),
        (7, {}, "IsolatedWorkspace"),
        ("/work", {"overlays": [IsolatedOverlay("/work")]}, "mounted once"),
        ("/work", {"overlays": ["/data"]}, "IsolatedOverlay"),
        ("/work", {"overlays": [IsolatedOverlay("/data", "ro", persist=True)]}, "persist"),
        (IsolatedWorkspace("/work", "rwx"), {}, "mode of /work"),
        ("/work", {"profile": "lax"}, "profile must be one of 'strict', 'balanced'"),
        ("/work", {"uid_mode": "sudo"}, "uid_mode"),
        ("/work", {"uid": -1}, "uid"),
        ("/work", {"env_passthrough": EnvPassthrough("some")}, "env_passthrough.mode"),
        ("/work", {"extra_writable": "/tmp"}, "extra_writable must be a list"),
        ("/work", {"share_net": "yes"}, "share_net must be True or False, not 'yes'"),
        ("/work", {"uid": 2**40}, "uid must be a whole number from 0 to 4294967295"),
        ("/work", {"gid": "0"}, "gid must be a whole number"),
        ("/work", {"idle_timeout": 1e300}, "idle_timeout must be finite"),
        ("/work", {"env_passthrough": EnvPassthrough("allow", 5)}, "env_passthrough.keys must be a list"),  # type: ignore[arg-type]
        ("/work", {"env_passthrough": EnvPassthrough("allow", [None])}, "each of env_passthrough.keys must be text"),  # type: ignore[list-item]
        ("/work", {"env_passthrough": {"mode": "allow"}}, "env_passthrough must be a EnvPassthrough, not dict"),
        ("/work", {"binds": [IsolatedBind(5)]}, r"binds\[0\].source must be text"),  # type: ignore[arg-type]
        ("/work", {"binds": [IsolatedBind("opt")]}, r"binds\[0\].source must be an absolute path"),
        ("/work", {"binds": [IsolatedBind("/opt", "opt")]}, r"binds\[0\].dest must be an absolute path"),
        ("/work", {"binds": [IsolatedBind("/opt", readonly="x")]}, r"binds\[0\].readonly must be True or False"),  # type: ignore[arg-type]
        ("/work", {"binds": IsolatedBind("/opt")}, "binds must be a list of IsolatedBind"),
        ("/work", {"overlays": [IsolatedOverlay("/data", persist="x")]}, "persist of /data must be True or False"),  # type: ignore[arg-type]
    ],
)
def test_create_refuses_what_cannot_be(workspace: Any, options: Dict[str, Any], complaint: str) -> None:
    with peer_sandbox(always([])) as (sandbox, peer):
        with pytest.raises(InvalidArgumentError, match=complaint):
            sandbox.isolation.create(workspace, **options)
        assert peer.requests == []


def test_sessions_are_listed_and_attached_to() -> None:
    told = {"session_id": "i1", "status": "active", "last_run_at": None, "idle_remaining_seconds": 12.5}

    def respond(request: Request) -> Iterable[Piece]:
        return whole(200, {"sessions": [told]} if request.path.endswith("/sessions") else {"status": "active"})

    with peer_sandbox(respond) as (sandbox, peer):
        (info,) = sandbox.isolation.list()
        assert (info.session_id, info.status, info.last_run_at, info.idle_remaining_seconds) == (
            "i1",
            "active",
            None,
            12.5,
        )
        assert sandbox.isolation.attach("i/1").info().session_id == "i/1"
        assert asked(peer)[1:] == ["GET /v1/isolated/session/i%2F1"] * 2
    with peer_sandbox(always(whole(200, {"sessions": None}))) as (sandbox, _):
        assert sandbox.isolation.list() == []
    gone = always(refusal(404, "SESSION_NOT_FOUND", "session not found"))
    with peer_sandbox(gone) as (sandbox, _), pytest.raises(NotFoundError, match="session not found"):
        sandbox.isolation.attach("i1")


def test_a_run_gives_lines_and_an_exit_code_without_init_or_ping() -> None:
    with peer_sandbox(daemon(run=stream(line("a"), line("b"), DONE))) as (sandbox, peer):
        seen: List[str] = []
        execution = sandbox.isolation.create("/work").run("ls", env={"A": "1"}, timeout=2.5, on_stdout=seen.append)
        assert (execution.stdout, execution.exit_code, execution.ok, seen) == ("a\nb", 0, True, ["a", "b"])
        (request,) = peer.asked("POST", "/run")
        assert request.target == "/v1/isolated/session/i1/run"
        assert request.json == {"code": "ls", "envs": {"A": "1"}, "timeout_seconds": 3}


def test_a_run_that_fails_has_its_exit_code() -> None:
    error = {"ename": "ExitError", "evalue": "3", "traceback": None}
    answer = stream(line("oh"), frame("error", text="exit 3", timestamp=1005, error=error))
    with peer_sandbox(daemon(run=answer)) as (sandbox, _):
        session = sandbox.isolation.create("/work")
        assert session.run("exit 3").exit_code == 3
        with pytest.raises(CommandError, match="exited with 3"):
            session.run("exit 3", check=True)


def test_the_servers_timeout_is_a_timeout() -> None:
    answer = stream(line("so far"), failed("context deadline exceeded", name="RuntimeError"))
    with peer_sandbox(daemon(run=answer)) as (sandbox, _):
        with pytest.raises(CommandTimeoutError) as raised:
            sandbox.isolation.create("/work").run("sleep 9", timeout=1)
        assert raised.value.execution is not None
        assert raised.value.execution.stdout == "so far"


def test_our_timeout_closes_the_connection_which_interrupts_the_code() -> None:
    with peer_sandbox(daemon(run=stream(line("so far"), HANG))) as (sandbox, peer):
        session = sandbox.isolation.create("/work")
        with pytest.raises(CommandTimeoutError) as raised:
            session.run("sleep 9", timeout=0.5)
        assert raised.value.execution is not None
        assert raised.value.execution.stdout == "so far"
        assert peer.asked("DELETE", "") == []


def test_silence_is_no_failure_where_no_pings_are_sent() -> None:
    def respond(request: Request) -> Iterable[Piece]:
        if not request.path.endswith("/run"):
            return whole(201, MADE)
        return slowly()

    def slowly() -> Iterable[Piece]:
        import time

        head, first, *rest = stream(line("a"), DONE)
        yield head
        yield first
        time.sleep(0.3)  # three times the idle timeout
        yield from rest

    with peer_sandbox(respond, idle_timeout=0.1) as (sandbox, _):
        assert sandbox.isolation.create("/work").run("sleep 1; echo a").stdout == "a"


def test_a_run_that_breaks_keeps_what_came() -> None:
    with peer_sandbox(daemon(run=cut(stream(line("so far"))))) as (sandbox, _):
        with pytest.raises(StreamInterruptedError) as raised:
            sandbox.isolation.create("/work").run("ls")
        assert raised.value.execution is not None
        assert raised.value.execution.stdout == "so far"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"code": ""}, "code must be text"),
        ({"code": ["ls"]}, "code must be text"),
        ({"env": {"A=B": "c"}}, "env: a name that begins with 'A' has a '='"),
        ({"env": {"A": 1}}, "env"),
        ({"timeout": 1e300}, "timeout must be finite"),
        ({"timeout": 0}, "timeout must be finite"),
        ({"max_output": -1}, "max_output"),
        ({"on_stdout": "print"}, "on_stdout must be a function"),
        ({"on_event": 5}, "on_event must be a function"),
    ],
)
def test_a_run_refuses_what_cannot_be_before_anything_is_sent(options: Dict[str, Any], words: str) -> None:
    options = {"code": "ls", **options}
    with peer_sandbox(always(whole(200, {"status": "active"}))) as (sandbox, peer):
        session = sandbox.isolation.attach("i1")
        asked_before = len(peer.requests)
        for run in (session.run, lambda **given: sandbox.isolation.run_once(workspace="/work", **given)):
            with pytest.raises(InvalidArgumentError, match=words):
                run(**options)
        assert len(peer.requests) == asked_before


def test_a_block_over_a_session_that_was_found_leaves_it_there() -> None:
    with peer_sandbox(lambda request: whole(201 if request.method == "POST" else 200, MADE)) as (sandbox, peer):
        with sandbox.isolation.attach("i1") as session:
            assert session.id == "i1"
        made = sandbox.isolation.create("/work")
        with pickle.loads(pickle.dumps(made)) as copy:
            assert (type(copy), copy.id) == (type(made), "i1")
        assert peer.asked("DELETE", "") == []
        with made:
            pass
        assert len(peer.asked("DELETE", "")) == 1


def test_the_with_block_deletes_the_session() -> None:
    with peer_sandbox(daemon(run=stream(DONE))) as (sandbox, peer):
        with sandbox.isolation.create("/work") as session:
            session.run("true")
        assert asked(peer)[-1] == "DELETE /v1/isolated/session/i1"


@pytest.mark.parametrize("answer", [refusal(404, "SESSION_NOT_FOUND", "session not found"), refusal(500, "X", "no")])
def test_a_deletion_that_fails_hides_no_exception_of_the_block(answer: Iterable[Piece]) -> None:
    refusing = peer_sandbox(lambda request: whole(201, MADE) if request.method == "POST" else answer)
    with refusing as (sandbox, _), pytest.raises(KeyError), sandbox.isolation.create("/work"):
        raise KeyError("of the block")


def test_a_block_may_end_when_its_session_is_gone_and_no_sooner() -> None:
    answers = [refusal(404, "SESSION_NOT_FOUND", "session not found"), refusal(500, "X", "not now")]
    with peer_sandbox(lambda request: whole(201, MADE) if request.method == "POST" else answers.pop(0)) as (sandbox, _):
        with sandbox.isolation.create("/work"):
            pass
        with pytest.raises(ServerError, match="not now"), sandbox.isolation.create("/work"):
            pass


def test_a_session_without_an_id_is_no_session() -> None:
    with peer_sandbox(always(whole(201, {}))) as (sandbox, _), pytest.raises(ProtocolError, match="its id"):
        sandbox.isolation.create("/work")


def test_run_once_makes_a_session_for_one_run() -> None:
    with peer_sandbox(daemon(run=stream(line("a"), DONE))) as (sandbox, peer):
        seen: List[Any] = []
        execution = sandbox.isolation.run_once(
            "ls", "/work", profile="strict", on_stdout=seen.append, on_event=lambda event: seen.append(event.type)
        )
        assert (execution.stdout, seen) == ("a", ["a", "stdout", "execution_complete"])
        assert asked(peer) == [
            "POST /v1/isolated/session",
            "POST /v1/isolated/session/i1/run",
            "DELETE /v1/isolated/session/i1",
        ]


def test_run_once_keeps_as_much_output_as_it_is_told_to() -> None:
    with peer_sandbox(daemon(run=stream(line("a" * 100), DONE))) as (sandbox, _):
        assert sandbox.isolation.run_once("ls", "/work", capture=False).stdout == ""
        assert sandbox.isolation.run_once("ls", "/work", max_output=10).truncated


def test_run_once_keeps_its_result_when_the_session_cannot_be_deleted() -> None:
    def respond(request: Request) -> Iterable[Piece]:
        if request.method == "DELETE":
            return refusal(404, "SESSION_NOT_FOUND", "session not found")
        return daemon(run=stream(line("a"), DONE))(request)

    with peer_sandbox(respond) as (sandbox, _):
        assert sandbox.isolation.run_once("ls", "/work").stdout == "a"


STATUS = {"session_id": "i1", "run_id": "r1", "running": True, "started_at": "2026-11-22T20:02:09Z"}
ENDED = {**STATUS, "running": False, "exit_code": 4, "finished_at": "2026-11-22T20:02:10Z"}


def test_a_background_run_has_a_status_and_an_end() -> None:
    started = whole(202, {"session_id": "i1", "run_id": "r1", "started_at": "2026-11-22T20:02:09Z"})
    answers = (whole(201, MADE), started, whole(200, STATUS), whole(200, STATUS), whole(200, ENDED))
    with peer_sandbox(one_after_another(*answers)) as (sandbox, peer):
        run = sandbox.isolation.create("/work").start("make")
        assert run.id == "r1"
        assert run.status().running
        assert run.wait(timeout=20) == 4
        assert peer.asked("POST", "/run")[0].json == {"code": "make", "background": True}
        assert asked(peer)[-1] == "GET /v1/isolated/session/i1/runs/r1"


def test_waiting_for_a_background_run_ends_at_its_timeout_and_leaves_it() -> None:
    with peer_sandbox(lambda request: whole(201, MADE) if request.method == "POST" else whole(200, STATUS)) as (
        sandbox,
        peer,
    ):
        with pytest.raises(RequestTimeoutError, match="still running"):
            sandbox.isolation.create("/work").get_run("r1").wait(timeout=0.05)
        assert peer.asked("DELETE", "") == []


def test_logs_are_read_by_bytes_and_cut_at_a_character() -> None:
    text = "a\u00e9".encode()

    def respond(request: Request) -> Iterable[Piece]:
        if request.method == "POST":
            return whole(201, MADE)
        start = int(request.query.get("cursor", "0"))
        return whole(200, text[start : start + 2], {"EXECD-ISOLATED-TAIL-CURSOR": "2"})

    with peer_sandbox(respond) as (sandbox, peer):
        run = sandbox.isolation.create("/work").get_run("r1")
        first = run.logs()
        assert (first.text, first.cursor) == ("a", 1)
        second = run.logs(first.cursor)
        assert (second.text, second.cursor) == ("\u00e9", 3)
        assert peer.requests[-1].target == "/v1/isolated/session/i1/runs/r1/logs?cursor=1"
        with pytest.raises(InvalidArgumentError, match="cursor"):
            run.logs(-1)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(503, "SERVICE_UNAVAILABLE", "isolation unavailable"), NotSupportedError),
        (refusal(503, "NOT_SUPPORTED", "uid mode is not supported"), NotSupportedError),
        (whole(404, b"404 page not found"), NotSupportedError),
        (refusal(400, "INVALID_REQUEST_BODY", "path is not allowed"), BadRequestError),
    ],
)
def test_what_cannot_isolate_says_so(answer: Iterable[Piece], kind: type) -> None:
    calls: List[Callable[[Sandbox], Any]] = [
        lambda sandbox: sandbox.isolation.create("/work"),
        lambda sandbox: sandbox.isolation.run_once("ls", "/work"),
    ]
    for call in calls:
        with peer_sandbox(always(answer)) as (sandbox, _), pytest.raises(kind) as raised:
            call(sandbox)
        assert raised.type is kind


def test_files_of_a_session_are_asked_for_under_its_own_path() -> None:
    pytest.importorskip("opensandbox_sync.services.files")

    def respond(request: Request) -> Iterable[Piece]:
        return whole(201, MADE) if request.method == "POST" else whole(200, b"inside")

    with peer_sandbox(respond) as (sandbox, peer):
        session = sandbox.isolation.create("/work")
        assert session.files.read_bytes("/work/a.txt") == b"inside"
        (request,) = peer.asked("GET", "/files/download")
        assert request.path == "/v1/isolated/session/i1/files/download"
        assert json.loads(json.dumps(request.query)) == {"path": "/work/a.txt"}
