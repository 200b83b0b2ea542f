"""Diagnostics, against scripted answers of the server."""

from __future__ import annotations

from typing import Any, Dict, Iterable

import pytest

from opensandbox_sync import NotFoundError, ProtocolError

from .lists import peer_server
from .wire import Peer, Piece, Request, always, peer_sandbox, refusal, whole

INLINE: Dict[str, Any] = {
    "sandboxId": "b1",
    "kind": "logs",
    "scope": "container",
    "delivery": "inline",
    "contentType": "text/plain; charset=utf-8",
    "content": "started\n",
    "contentLength": 8,
    "truncated": False,
}


def elsewhere(address: str) -> Dict[str, Any]:
    told = {**INLINE, "delivery": "url", "contentUrl": address, "expiresAt": "2026-11-22T20:02:09Z"}
    del told["content"]
    return told


def test_logs_and_events_are_asked_for_by_scope() -> None:
    with peer_server(always(whole(200, INLINE))) as (client, peer):
        found = client.diagnostics.logs("b/1", "container")
        assert (found.content, found.kind, found.truncated, found.warnings) == ("started\n", "logs", False, [])
        client.diagnostics.events("b1")
        assert [request.target for request in peer.requests] == [
            "/v1/sandboxes/b%2F1/diagnostics/logs?scope=container",
            "/v1/sandboxes/b1/diagnostics/events?scope=all",
        ]


def test_a_sandbox_asks_about_itself() -> None:
    with peer_sandbox(always(whole(200, INLINE))) as (sandbox, peer):
        sandbox.diagnostics.logs("container")
        sandbox.diagnostics.events()
        assert [request.path for request in peer.requests] == [
            f"/v1/sandboxes/{sandbox.id}/diagnostics/logs",
            f"/v1/sandboxes/{sandbox.id}/diagnostics/events",
        ]


def test_an_address_is_followed_on_request_only_and_never_with_the_key() -> None:
    storage = Peer(always(whole(200, "gr\u00fc\u00dfe".encode())))
    try:
        address = f"http://{storage.address}/logs.txt?signature=hidden"
        with peer_server(always(whole(200, elsewhere(address)))) as (client, _):
            found = client.diagnostics.logs("b1")
            assert (found.content, found.content_url) == (None, address)
            assert "hidden" not in repr(found)
            assert storage.requests == []
            assert client.diagnostics.logs("b1", follow_url=True).content == "gr\u00fc\u00dfe"
        (request,) = storage.requests
        assert request.target == "/logs.txt?signature=hidden"
        assert "key-of-the-server" not in str(request.headers)
    finally:
        storage.stop()


def test_an_address_at_the_server_itself_gets_the_key() -> None:
    def respond(request: Request) -> Iterable[Piece]:
        if request.path.startswith("/v1"):
            return whole(200, elsewhere(f"http://{request.headers['host']}/files/logs.txt"))
        return whole(200, b"inside")

    with peer_server(respond) as (client, peer):
        assert client.diagnostics.logs("b1", follow_url=True).content == "inside"
        assert peer.requests[-1].headers["open-sandbox-api-key"] == "key-of-the-server"


def test_an_expired_address_is_an_error_without_its_signature() -> None:
    storage = Peer(always(refusal(404, "NoSuchKey", "expired")))
    try:
        answer = whole(200, elsewhere(f"http://{storage.address}/logs.txt?signature=hidden"))
        with peer_server(always(answer)) as (client, _), pytest.raises(NotFoundError, match="expired") as raised:
            client.diagnostics.logs("b1", follow_url=True)
        assert "hidden" not in str(raised.value)
    finally:
        storage.stop()


def test_an_address_that_is_no_url_is_not_followed() -> None:
    for address in (
        *(
            "file:///etc/passwd",
            "/logs.txt",
            "http://",
            "http://[hidden/",
            "http://h:hidden/",
            "http://h:99999/?hidden",
        ),
        *("http://h\uff03hidden/", "http://h:0/?hidden"),
    ):
        with peer_server(always(whole(200, elsewhere(address)))) as (client, _), pytest.raises(
            ProtocolError, match="no http"
        ) as raised:
            client.diagnostics.logs("b1", follow_url=True)
        assert "hidden" not in str(raised.value) + str(raised.value.__cause__)


def test_an_address_of_the_wrong_type_is_an_error_that_does_not_show_it() -> None:
    answer = {**elsewhere("x"), "contentUrl": ["https://h/?signature=hidden"]}
    with peer_server(always(whole(200, answer))) as (client, _), pytest.raises(
        ProtocolError, match="content_url: text belongs here, not a list of 1 items"
    ) as raised:
        client.diagnostics.logs("b1")
    assert "hidden" not in str(raised.value)
