"""Snapshots, against scripted answers of the server."""

from __future__ import annotations

import json
from typing import Any, Dict, List
from urllib.parse import parse_qsl, urlsplit

import pytest

from opensandbox_sync import (
    AuthenticationError,
    InvalidArgumentError,
    NotFoundError,
    NotSupportedError,
    SandboxFailedError,
    SandboxReadyTimeoutError,
)

from .lists import one_after_another, pages, peer_server
from .wire import HANG, always, refusal, whole


def told(state: str, identity: str = "s1", **status: Any) -> Dict[str, Any]:
    return {
        "id": identity,
        "sandboxId": "b1",
        "status": {"state": state, **status},
        "createdAt": "2026-11-22T20:02:09.268789Z",
    }


def test_create_sends_a_name_only_where_there_is_one() -> None:
    with peer_server(always(whole(202, told("Creating", reason="snapshot_accepted")))) as (client, peer):
        snapshot = client.snapshots.create("b/1")
        assert (snapshot.id, snapshot.sandbox_id, snapshot.state, snapshot.name) == ("s1", "b1", "Creating", None)
        assert snapshot.created_at is not None
        client.snapshots.create("b1", name="before")
        assert [request.target for request in peer.requests] == [
            "/v1/sandboxes/b%2F1/snapshots",
            "/v1/sandboxes/b1/snapshots",
        ]
        assert [request.json for request in peer.requests] == [{}, {"name": "before"}]


def test_a_runtime_that_makes_no_snapshots_says_so() -> None:
    answer = refusal(501, "SNAPSHOT::NOT_IMPLEMENTED", "no snapshots here")
    with peer_server(always(answer)) as (client, _), pytest.raises(NotSupportedError, match="no snapshots here"):
        client.snapshots.create("b1")


def test_list_gives_the_snapshots_of_all_pages_once_each() -> None:
    items = [told("Ready", f"s{number}") for number in range(5)]
    with peer_server(pages(items)) as (client, peer):
        found = client.snapshots.list()
        assert next(found).id == "s0"
        assert [snapshot.id for snapshot in found] == ["s1", "s2", "s3", "s4"]
        assert [request.query["page"] for request in peer.requests] == ["1", "2", "3"]


def test_list_filters_by_states_however_they_are_written() -> None:
    with peer_server(pages([])) as (client, peer):
        assert list(client.snapshots.list(sandbox_id="b1", name="a&b", states=["ready", "Failed", "Odd"])) == []
        query = parse_qsl(urlsplit(peer.requests[0].target).query)
        assert query == [
            ("page", "1"),
            ("pageSize", "200"),
            ("sandboxId", "b1"),
            ("name", "a&b"),
            ("state", "Ready"),
            ("state", "Failed"),
            ("state", "Odd"),
        ]
        with pytest.raises(InvalidArgumentError, match="states must be a list"):
            client.snapshots.list(states="Ready")


def test_delete_and_get_name_the_snapshot_in_the_path() -> None:
    with peer_server(one_after_another(whole(204), whole(200, told("Ready")))) as (client, peer):
        client.snapshots.delete("a/b")
        assert client.snapshots.get("s1").state == "Ready"
        assert [(r.method, r.target) for r in peer.requests] == [
            ("DELETE", "/v1/snapshots/a%2Fb"),
            ("GET", "/v1/snapshots/s1"),
        ]


@pytest.mark.parametrize("name", ["sandbox_id", "name"])
@pytest.mark.parametrize("value", [5, "", " ", True, "a\0b", "\ud800", ["s1"]])
def test_a_filter_that_is_no_text_is_refused_before_anything_is_sent(name: str, value: Any) -> None:
    with peer_server(always([])) as (client, peer):
        with pytest.raises(InvalidArgumentError, match=f"{name} must be text"):
            client.snapshots.list(**{name: value})
        assert peer.requests == []


def test_wait_ready_waits_until_it_is_ready() -> None:
    creating, ready = whole(200, told("Creating")), whole(200, told("Ready", reason="snapshot_runtime_ready"))
    broken = [b""]
    with peer_server(one_after_another(creating, broken, creating, ready)) as (client, peer):
        lines: List[str] = []
        assert client.snapshots.wait_ready("s1", timeout=20, on_progress=lines.append).state == "Ready"
        assert len(peer.requests) == 4
    assert lines == ["waiting for snapshot s1: it is Creating"] * 2


@pytest.mark.parametrize("state", ["Failed", "Deleting"])
def test_wait_ready_tells_the_servers_reason(state: str) -> None:
    answer = whole(200, told(state, reason="snapshot_runtime_failed", message="disk is full"))
    with peer_server(always(answer)) as (client, _), pytest.raises(
        SandboxFailedError, match=f"it is {state}: snapshot_runtime_failed disk is full"
    ):
        client.snapshots.wait_ready("s1")


def test_wait_ready_has_one_deadline_for_slow_states_and_slow_servers() -> None:
    for answer, last in ((whole(200, told("Creating")), "it is Creating"), ([HANG], "no whole answer")):
        with peer_server(always(answer)) as (client, _), pytest.raises(
            SandboxReadyTimeoutError, match=f"snapshot s1 was not Ready after 0.2 s; .*{last}"
        ) as raised:
            client.snapshots.wait_ready("s1", timeout=0.2)
        assert isinstance(raised.value, TimeoutError)


def test_wait_ready_does_not_wait_for_what_waiting_cannot_mend() -> None:
    for status, kind in ((404, NotFoundError), (401, AuthenticationError), (501, NotSupportedError)):
        with peer_server(always(refusal(status, "A::CODE", "no"))) as (client, peer), pytest.raises(kind):
            client.snapshots.wait_ready("s1")
        assert len(peer.requests) == 1


def test_a_snapshot_keeps_what_it_does_not_know() -> None:
    answer = {**told("Ready"), "size": 12}
    with peer_server(always(whole(200, answer))) as (client, _):
        assert json.loads(json.dumps(client.snapshots.get("s1").raw))["size"] == 12
