"""What the real daemon answered to shell sessions, and the real server to creates and about egress, replayed."""

from __future__ import annotations

import json
from typing import Any, Dict, NamedTuple, Optional

import pytest

from opensandbox_sync import (
    PVC,
    BadRequestError,
    CommandTimeoutError,
    Host,
    ImageSpec,
    NetworkPolicy,
    NotFoundError,
    ServerError,
    StreamInterruptedError,
    Volume,
)
from opensandbox_sync.services.sessions import BashSession

from .test_recordings import as_recorded, lifecycle, recording, replayed
from .wire import LAST_CHUNK, SANDBOX_ID, always, peer_sandbox

SESSION_ID = "8cb432f6-6c77-4add-a2ef-e8f6259e2ee2"


def told(name: str) -> Dict[str, Any]:
    return dict(json.loads(recording("execd", name)["response"]["chunks"][0]["data"]))


class Run(NamedTuple):
    name: str
    stdout: str
    exit_code: Optional[int] = 0


RUNS = [
    Run("session-run-pwd", "/tmp"),
    Run("session-run-cd-export", "ok"),
    Run("session-run-state-kept", "/usr\nblue"),
    Run("session-run-cwd-override", "/etc"),
    Run("session-run-blank-lines", "a\nb"),
    Run("session-run-exit-7", "x", 7),
    Run("session-run-stderr", "out\nerr", 1),
]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_recorded_session_run_is_asked_as_recorded_and_read(run: Run) -> None:
    asked = recording("execd", run.name)["request"]
    with replayed(run.name) as (sandbox, peer):
        execution = sandbox.sessions.run(SESSION_ID, asked["body"]["command"], cwd=asked["body"].get("cwd"))
    assert (execution.stdout, execution.stderr, execution.exit_code) == (run.stdout, "", run.exit_code)
    assert execution.ok == (run.exit_code == 0)
    request = peer.requests[-1]
    assert (request.method, request.target, request.json) == (asked["method"], asked["path"], asked["body"])


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_recorded_session_run_cut_before_its_end_is_never_a_result(run: Run) -> None:
    *head, terminal, last_chunk, end = as_recorded("execd", run.name)
    assert b"execution_complete" in terminal or b"evalue" in terminal
    assert (last_chunk, end) == (LAST_CHUNK, b"")
    with peer_sandbox(always([*head, end])) as (sandbox, _), pytest.raises(StreamInterruptedError) as caught:
        sandbox.sessions.run(SESSION_ID, "pwd")
    assert caught.value.execution is not None and caught.value.execution.stdout == run.stdout
    assert caught.value.command_id is None  # the id of init is the session's


def test_a_recorded_timeout_is_a_late_object_and_no_empty_success() -> None:
    asked = recording("execd", "session-run-timeout")["request"]
    with replayed("session-run-timeout") as (sandbox, peer), pytest.raises(CommandTimeoutError) as caught:
        sandbox.sessions.run(SESSION_ID, asked["body"]["command"], timeout=0.5)
    assert "timeout after 500ms" in str(caught.value)
    execution = caught.value.execution
    assert execution is not None
    assert (execution.stdout, execution.exit_code, execution.timed_out) == ("before", None, True)
    assert peer.requests[-1].json == asked["body"]


def test_the_recorded_late_object_without_a_timeout_of_ours_is_the_servers_error() -> None:
    with replayed("session-run-timeout") as (sandbox, _), pytest.raises(ServerError) as caught:
        sandbox.sessions.run(SESSION_ID, "echo before; exec sleep 5")
    assert caught.value.code == "RUNTIME_ERROR"
    assert caught.value.execution is not None and caught.value.execution.stdout == "before"


def test_a_recorded_session_is_created_and_deleted() -> None:
    with replayed("session-create", "session-delete") as (sandbox, peer), sandbox.sessions.create(cwd="/tmp") as made:
        assert made.id == SESSION_ID
    create, delete = (recording("execd", name)["request"] for name in ("session-create", "session-delete"))
    sent = peer.requests[1:]  # the first looks the endpoint up
    assert [(r.method, r.target) for r in sent] == [(r["method"], r["path"]) for r in (create, delete)]
    assert sent[0].json == create["body"]


def test_a_session_in_the_daemons_own_directory_sends_no_body() -> None:
    with replayed("session-create-empty-body") as (sandbox, peer):
        session = sandbox.sessions.create()
    assert session.id == told("session-create-empty-body")["session_id"]
    assert peer.requests[-1].body == b""


def test_an_unknown_session_is_not_found_though_the_daemon_says_500() -> None:
    with replayed("session-run-unknown") as (sandbox, peer), pytest.raises(NotFoundError) as caught:
        sandbox.sessions.run("nope", "pwd")
    assert (caught.value.status_code, caught.value.code) == (500, "RUNTIME_ERROR")
    assert peer.requests[-1].target == recording("execd", "session-run-unknown")["request"]["path"]


def test_deleting_an_unknown_session_is_not_found_and_closing_one_is_fine() -> None:
    with replayed("session-delete-unknown", "session-delete-unknown") as (sandbox, _):
        with pytest.raises(NotFoundError, match="session nope not found"):
            sandbox.sessions.delete("nope")
        sandbox.sessions.get("nope").close()


@pytest.mark.parametrize("name", ["session-run-bad-cwd", "session-run-empty-command"])
def test_a_recorded_refusal_of_a_session_run_keeps_its_code_and_words(name: str) -> None:
    with replayed(name) as (sandbox, _), pytest.raises(BadRequestError) as caught:
        sandbox.sessions.run(SESSION_ID, "pwd", cwd="/no/such")
    assert caught.value.code == told(name)["code"]
    assert told(name)["message"] in str(caught.value)


def test_a_handle_of_a_recorded_session_is_not_asked_for_before_its_use() -> None:
    with replayed() as (sandbox, peer):
        session = sandbox.sessions.get(SESSION_ID)
        assert isinstance(session, BashSession)
        assert peer.requests == []


# -- the lifecycle server ----------------------------------------------------------------------------------------------

LIMITS = {"cpu": "500m", "memory": "256Mi"}


@pytest.mark.parametrize(
    ("name", "options", "differs"),
    [
        ("create-manual-cleanup", {"timeout": None, "resource_limits": LIMITS}, {"timeout"}),
        ("create-from-snapshot", {"timeout": 120, "resource_limits": {}}, set()),
        (
            "create-host-volume",
            {
                "timeout": 300,
                "resource_limits": LIMITS,
                "volumes": [Volume("data", "/data", host=Host("/tmp/hostvol"), read_only=False)],
            },
            set(),
        ),
    ],
)
def test_a_recorded_create_is_asked_as_recorded(name: str, options: Dict[str, Any], differs: Any) -> None:
    asked, answer = (recording("lifecycle", name)[part] for part in ("request", "response"))
    source: Dict[str, Any] = {"image": "base:bookworm"}
    if "snapshotId" in asked["body"]:
        source = {"snapshot_id": asked["body"]["snapshotId"]}
    with lifecycle(name) as (client, peer):
        sandbox = client.create(**source, **options, wait_ready=False)
    sent = peer.requests[0].json
    assert sandbox.id == json.loads(answer["body"])["id"]
    # Manual cleanup was recorded as "timeout": null, which says what its absence does.
    assert {key: value for key, value in asked["body"].items() if key not in differs} == sent


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("create-host-path-not-allowed", BadRequestError),
        ("create-network-policy-without-egress-image", BadRequestError),
        ("create-image-not-found", ServerError),
    ],
)
def test_a_recorded_refusal_of_a_create_keeps_code_and_message(name: str, kind: Any) -> None:
    body = json.loads(recording("lifecycle", name)["response"]["body"])
    with lifecycle(name) as (client, peer), pytest.raises(kind) as caught:
        client.create(ImageSpec("i"), network_policy=NetworkPolicy(), volumes=[Volume("v", "/d", pvc=PVC("c"))])
    assert caught.value.code == body["code"]
    assert body["message"] in str(caught.value)
    assert len(peer.requests) == 1  # a create is never repeated


def test_a_recorded_body_that_is_no_json_is_a_bad_request() -> None:
    with lifecycle("create-invalid-json") as (client, _), pytest.raises(BadRequestError, match="JSON decode error"):
        client.create("i")


def test_the_recorded_endpoint_of_the_sidecar_is_read() -> None:
    with lifecycle("endpoint-egress") as (client, peer):
        endpoint = client.endpoint(SANDBOX_ID, 18080)
    assert (endpoint.endpoint, endpoint.headers, endpoint.origin) == ("127.0.0.1:44996/proxy/18080", {}, None)
    assert peer.requests[0].target == recording("lifecycle", "endpoint-egress")["request"]["path"]


def test_the_recorded_answer_where_there_is_no_sidecar_keeps_its_words() -> None:
    """Asked at the sidecar's address first, and then of the server, which is asked as recorded."""
    name = "networkpolicy-without-sidecar"
    answer = as_recorded("lifecycle", name)
    with peer_sandbox(always(answer)) as (sandbox, peer), pytest.raises(ServerError) as caught:
        sandbox.egress.get()
    assert caught.value.code == "BACKEND_CONNECTION_FAILED"
    assert json.loads(recording("lifecycle", name)["response"]["body"])["message"] in str(caught.value)
    asked = recording("lifecycle", name)["request"]
    assert (peer.requests[-1].method, peer.requests[-1].target) == (asked["method"], asked["path"])
