"""Request ids and the hooks that tell of each attempt."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest

from opensandbox_sync import (
    ConnectError,
    NotFoundError,
    ProtocolError,
    RequestRecord,
    RequestTimeoutError,
    ResponseRecord,
    RetryPolicy,
    Sandbox,
    SandboxClient,
    SandboxError,
)

from .lists import one_after_another, peer_server
from .wire import HANG, always, complete, init, peer_sandbox, refusal, stream, whole

INFO = {"id": "b1", "status": {"state": "Running"}}


def test_each_lifecycle_call_sends_an_id_of_its_own() -> None:
    with peer_server(lambda request: whole(200, {"status": "healthy"} if "health" in request.path else INFO)) as (
        client,
        peer,
    ):
        client.info("b1")
        client.info("b1")
        client.health()
        ids = [request.headers["x-request-id"] for request in peer.requests]
        assert len(set(ids)) == 3
        assert all(len(found) == 32 for found in ids)


def test_a_user_can_set_the_id() -> None:
    with peer_server(always(refusal(404, "GONE", "gone")), headers={"x-request-id": "mine"}) as (client, peer):
        with pytest.raises(NotFoundError) as raised:
            client.info("b1")
        assert raised.value.request_id == "mine"
        assert [request.headers["x-request-id"] for request in peer.requests] == ["mine"]


def test_nothing_is_sent_into_the_sandbox_that_is_the_servers() -> None:
    with peer_sandbox(always(stream(init(), complete())), headers={"X-Team": "a"}) as (sandbox, peer):
        sandbox.commands.run("true")
        (request,) = peer.asked("POST", "/command")
        assert not {"x-request-id", "x-team", "open-sandbox-api-key"} & set(request.headers)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(404, "GONE", "gone"), NotFoundError),
        (whole(200, b"<html>"), ProtocolError),
        (whole(200, {"id": "b1"}), ProtocolError),
        ([HANG], RequestTimeoutError),
        ([b""], SandboxError),
    ],
)
def test_every_error_has_the_id_that_was_sent(answer: Any, kind: Any) -> None:
    with peer_server(always(answer), timeout=1, retry=RetryPolicy(max_retries=0)) as (client, peer):
        with pytest.raises(kind) as raised:
            client.info("b1")
        assert raised.value.request_id == peer.requests[0].headers["x-request-id"]


def test_a_page_that_cannot_be_read_has_the_id_too() -> None:
    with peer_server(always(whole(200, {"items": [{"id": 7}]}))) as (client, peer):
        for read in (client.list, client.snapshots.list):
            with pytest.raises(ProtocolError) as raised:
                read()
            assert raised.value.request_id == peer.requests[-1].headers["x-request-id"]


UNREADABLE: Dict[str, Callable[[SandboxClient, Sandbox], Any]] = {
    "info": lambda client, _: client.info("b1"),
    "renew": lambda client, _: client.renew("b1", 60),
    "version": lambda client, _: client.version(),
    "a snapshot": lambda client, _: client.snapshots.get("s"),
    "a template": lambda client, _: client.templates.get("t"),
    "a pool": lambda client, _: client.pools.get("p"),
    "a command": lambda _, sandbox: sandbox.commands.status("c"),
    "a session": lambda _, sandbox: sandbox.sessions.create(),
    "files": lambda _, sandbox: sandbox.files.info("/a"),
    "a directory": lambda _, sandbox: sandbox.files.list("/"),
    "found files": lambda _, sandbox: sandbox.files.search("/"),
    "replaced text": lambda _, sandbox: sandbox.files.replace_text("/a", "b", "c"),
    "a context": lambda _, sandbox: sandbox.code.get_context("c"),
    "contexts": lambda _, sandbox: sandbox.code.list_contexts(),
    "metrics": lambda _, sandbox: sandbox.metrics.get(),
    "a policy": lambda _, sandbox: sandbox.egress.get(),
    "a vault": lambda _, sandbox: sandbox.vault.get(),
    "a credential": lambda _, sandbox: sandbox.vault.credential("c"),
    "a binding": lambda _, sandbox: sandbox.vault.binding("b"),
    "isolated sessions": lambda _, sandbox: sandbox.isolation.list(),
}


@pytest.mark.parametrize("call", UNREADABLE)
@pytest.mark.parametrize("answer", [b"<html>", b"7"])
def test_an_answer_that_cannot_be_read_is_told_with_its_id(call: str, answer: bytes) -> None:
    with peer_sandbox(always(whole(200, answer, {"X-Request-ID": "theirs"}))) as (sandbox, _):
        with pytest.raises(ProtocolError) as raised:
            UNREADABLE[call](sandbox._client, sandbox)
        assert raised.value.request_id == "theirs"


def test_the_id_that_the_server_answers_with_wins() -> None:
    answer = refusal(404, "GONE", "gone", {"X-Request-ID": "theirs"})
    with peer_server(always(answer)) as (client, _):
        with pytest.raises(NotFoundError, match="request id theirs") as raised:
            client.info("b1")
        assert raised.value.request_id == "theirs"


def test_a_connection_that_cannot_be_made_has_the_id() -> None:
    with peer_server(always([])) as (client, peer):
        peer.stop()
        with pytest.raises(ConnectError) as raised:
            client.kill("b1")
        assert raised.value.request_id is not None
        assert len(raised.value.request_id) == 32


def test_hooks_see_each_attempt_and_no_secret() -> None:
    told: List[Any] = []
    answers = (refusal(503, "BUSY", "later"), whole(200, INFO))
    with peer_server(
        one_after_another(*answers),
        headers={"X-Team-Token": "hidden-header"},
        on_request=told.append,
        on_response=told.append,
    ) as (client, peer):
        client._call("GET", "/sandboxes/b1", action="look", params={"signature": "hidden-query"})
        first, refused, second, answered = told
        assert isinstance(first, RequestRecord)
        assert isinstance(refused, ResponseRecord)
        assert [record.attempt for record in (first, second)] == [1, 2]
        assert refused.request is first
        assert [record.status_code for record in (refused, answered)] == [503, 200]
        assert answered.elapsed >= 0
        assert answered.request_id == peer.requests[1].headers["x-request-id"]
        assert first.url == f"http://{peer.address}/v1/sandboxes/b1"
        assert "hidden" not in str(told)
        assert "key-of-the-server" not in str(told)


def test_a_hook_is_told_of_an_attempt_that_got_no_answer() -> None:
    told: List[ResponseRecord] = []
    with peer_server(always([b""]), on_response=told.append, retry=RetryPolicy(max_retries=0)) as (client, _):
        with pytest.raises(SandboxError):
            client.info("b1")
        assert told[0].status_code is None
        assert told[0].error


def test_hooks_see_streams_too() -> None:
    told: List[ResponseRecord] = []
    with peer_sandbox(always(stream(init(), complete())), on_response=told.append) as (sandbox, _):
        sandbox.commands.run("true")
        assert [record.request.url.rsplit("/", 1)[-1] for record in told] == ["44772", "command"]
