"""Endpoints and the waits for ports, against scripted answers."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Iterable

import pytest

from opensandbox_sync import (
    InvalidArgumentError,
    NotFoundError,
    ProtocolError,
    SandboxReadyTimeoutError,
)

from .lists import one_after_another, peer_server
from .wire import SANDBOX_ID, Piece, Request, always, failed, init, peer_sandbox, refusal, stream, whole

EXPIRES = 1_900_000_000


def test_a_signed_endpoint_is_asked_for_with_its_expiry_alone() -> None:
    signed = whole(200, {"endpoint": "b1-8000-vn5r-secret.sandboxes.example.com"})
    with peer_server(always(signed), use_server_proxy=True) as (client, peer):
        sandbox = client.connect("b1", wait_ready=False)
        for expires in (EXPIRES, datetime.fromtimestamp(EXPIRES, timezone.utc)):
            endpoint = client.endpoint("b1", 8000, expires=expires, use_server_proxy=False)
            assert endpoint.url == "http://b1-8000-vn5r-secret.sandboxes.example.com"
            assert "secret" not in repr(endpoint)
        sandbox.endpoint(8000, expires=EXPIRES)
        assert [request.target for request in peer.requests] == [
            f"/v1/sandboxes/b1/endpoints/8000?expires={EXPIRES}"
        ] * 3


def test_an_endpoint_through_the_proxy_and_a_direct_one() -> None:
    with peer_server(always(whole(200, {"endpoint": "h:1/x", "headers": {"X-Token": "hidden"}}))) as (client, peer):
        endpoint = client.endpoint("b1", 8000, use_server_proxy=True)
        assert (endpoint.url, endpoint.headers) == ("http://h:1/x", {"X-Token": "hidden"})
        assert "hidden" not in repr(endpoint)
        client.endpoint("b1", 8000)
        assert [request.query for request in peer.requests] == [{"use_server_proxy": "true"}, {}]


def test_what_no_server_signs_is_refused_here() -> None:
    with peer_server(always([])) as (client, peer):
        with pytest.raises(InvalidArgumentError, match="exclude each other"):
            client.endpoint("b1", 8000, expires=EXPIRES, use_server_proxy=True)
        for port in (0, 65536, "8000", True):
            with pytest.raises(InvalidArgumentError, match="port"):
                client.endpoint("b1", port)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match="expires"):
            client.endpoint("b1", 8000, expires=0)
        assert peer.requests == []


def test_wait_for_http_waits_until_the_port_answers_and_gives_its_status() -> None:
    refused = whole(502, b"Bad Gateway\n")
    with peer_sandbox(one_after_another(refused, refused, whole(403, b"no"))) as (sandbox, peer):
        assert sandbox.wait_for_http(8000, "/a b?c=d", timeout=20) == 403
        assert [request.target for request in peer.requests[1:]] == ["/proxy/8000/a%20b?c=d"] * 3


def test_wait_for_http_says_what_it_saw_last() -> None:
    with peer_sandbox(always(whole(502, b"Bad Gateway\n"))) as (sandbox, _), pytest.raises(
        SandboxReadyTimeoutError, match=r"port 8000 .* did not serve / within 0.1 s: .*502"
    ):
        sandbox.wait_for_http(8000, timeout=0.1)


def test_a_sandbox_that_is_gone_is_no_status_of_its_port() -> None:
    gone = refusal(404, "DOCKER::SANDBOX_NOT_FOUND", "Sandbox b1 not found.")
    with peer_server(always(gone)) as (client, _), pytest.raises(NotFoundError, match="not found"):
        client.connect("b1", wait_ready=False).wait_for_http(8000)


def test_wait_for_port_asks_inside_the_sandbox() -> None:
    with peer_sandbox(always(stream(init(), b'{"type":"execution_complete"}\n\n'))) as (sandbox, peer):
        sandbox.wait_for_port(8000, timeout=7)
        (request,) = peer.asked("POST", "/command")
        assert "/dev/tcp/127.0.0.1/8000" in request.json["command"]
        assert ":1F40 " in request.json["command"]  # 8000 as the kernel's table writes it
        assert request.json["timeout"] == 7000


def test_wait_for_port_ends_at_its_timeout() -> None:
    killed = stream(init(), failed("-1", "signal: killed", timestamp=8000))
    with peer_sandbox(always(killed)) as (sandbox, _), pytest.raises(
        SandboxReadyTimeoutError, match="nothing listened on port 8000"
    ):
        sandbox.wait_for_port(8000, timeout=7)


def test_a_name_that_is_looked_up_is_not_taken_for_a_port_that_is_silent() -> None:
    def respond(request: Request) -> Iterable[Piece]:
        return refusal(401, "INVALID_API_KEY", "no")

    with peer_server(respond) as (client, _), pytest.raises(Exception, match="api_key=") as raised:
        client.connect(SANDBOX_ID, wait_ready=False).wait_for_port(8000)
    assert not isinstance(raised.value, TimeoutError)


def test_an_automatic_route_is_chosen_before_an_address_is_given() -> None:
    def respond(request: Request) -> Iterable[Piece]:
        if request.path.endswith("/ping"):
            return whole(200)
        proxied = "use_server_proxy" in request.query
        return whole(200, {"endpoint": f"{peer.address}/through-the-server" if proxied else "127.0.0.1:1"})

    with peer_server(respond, use_server_proxy="auto") as (client, peer):
        url = client.connect("b1", wait_ready=False).url(8000)
        assert url == f"http://{peer.address}/through-the-server"


def test_a_url_that_a_browser_opens_goes_through_the_server_where_the_direct_one_needs_headers() -> None:
    def respond(request: Request) -> Iterable[Piece]:
        if "use_server_proxy" in request.query:
            return whole(200, {"endpoint": "server/proxy/8000"})
        return whole(200, {"endpoint": "direct:1/proxy/8000", "headers": {"X-EXECD-ACCESS-TOKEN": "t"}})

    with peer_server(respond) as (client, _):
        sandbox = client.connect("b1", wait_ready=False)
        assert sandbox.url(8000) == "http://server/proxy/8000"
        assert sandbox.endpoint(8000).url == "http://direct:1/proxy/8000"


@pytest.mark.parametrize("path", ["", "x", "/\ud800", "/\0", None, b"/"])
def test_a_path_that_is_none_is_refused_before_anything_is_sent(path: Any) -> None:
    with peer_server(always([])) as (client, peer):
        with pytest.raises(InvalidArgumentError, match="path"):
            client.connect("b1", wait_ready=False).wait_for_http(8000, path)
        assert peer.requests == []


def test_what_a_newer_server_adds_to_an_endpoint_is_not_taken_for_ours() -> None:
    newer = whole(200, {"endpoint": "h:1", "origin": {"a": 1}, "scheme": 5, "signed": "no"})
    with peer_server(always(newer)) as (client, _):
        endpoint = client.endpoint("b1", 8000)
        assert (endpoint.url, endpoint.origin, endpoint.signed) == ("http://h:1", None, False)


BAD_ENDPOINTS = [
    {"endpoint": "host:99999"},
    {"endpoint": ""},
    {"endpoint": "[bad"},
    {"endpoint": "h:1", "headers": {"X-Token": "s3cret\n"}},
    {"endpoint": "h:1", "headers": {"X-Token": "s3cret\u2028"}},
    {"endpoint": "h:1", "headers": {"X Token": "s3cret"}},
    {"endpoint": "h:1/?sign=s3cret\0 [", "headers": {"X-Token": 5}},
]


@pytest.mark.parametrize("answer", BAD_ENDPOINTS)
def test_an_endpoint_that_cannot_be_used_is_the_servers_fault_and_shows_no_secret(answer: Any) -> None:
    with peer_server(always(whole(200, answer))) as (client, _):
        for call in (lambda: client.endpoint("b1", 8000), lambda: client.connect("b1", wait_ready=False).url(8000)):
            with pytest.raises(ProtocolError) as caught:
                call()
            assert "s3cret" not in str(caught.value)
