"""What is sent, and what becomes of each kind of answer; ``responses`` stands in for the wire.

That a mock of requests sees these calls at all is itself a promise.
"""

from __future__ import annotations

import io
import json
import logging
import pickle
from datetime import datetime, timezone
from pathlib import PurePosixPath
from typing import Any, Callable, Dict, Iterator, List

import pytest
import requests
import responses
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from opensandbox_sync import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    ConnectError,
    CredentialProxyConfig,
    ImageAuth,
    ImageSpec,
    InvalidArgumentError,
    NetworkPolicy,
    NetworkRule,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    PlatformSpec,
    ProtocolError,
    RateLimitError,
    RequestRecord,
    RequestTimeoutError,
    ResponseRecord,
    RetryPolicy,
    SandboxClient,
    SandboxFailedError,
    SandboxReadyTimeoutError,
    ServerError,
    TransportError,
    Volume,
)
from opensandbox_sync.models import Host

BASE = "http://box.example.com/v1"
ROOT = "http://box.example.com"
EXECD = "http://10.0.0.7:44772"
ID = "5e5c0f0e-6141-4418-82d1-8be1b907e7d9"
RUNNING = {"id": ID, "status": {"state": "Running"}, "createdAt": "2026-11-22T20:02:06.433353Z"}
ENDPOINT = {"endpoint": "10.0.0.7:44772", "headers": {"X-EXECD-ACCESS-TOKEN": "t0ken"}}
SECRETS = ["s3cret", "t0ken"]

pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture
def wire() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.get(f"{BASE}/sandboxes/{ID}/endpoints/44772", json=ENDPOINT)
        yield mock


@pytest.fixture
def client() -> Iterator[SandboxClient]:
    with SandboxClient(domain="box.example.com", api_key="s3cret", retry=RetryPolicy(initial_backoff=0)) as client:
        yield client


def sent(wire: responses.RequestsMock) -> List[Any]:
    """The requests but for the look-ups of endpoints."""
    return [call.request for call in wire.calls if "/endpoints/" not in call.request.url]


def body_of(request: Any) -> Any:
    return json.loads(request.body)


# -- what is sent ------------------------------------------------------------------------------------------------------


def test_a_lifecycle_call_carries_the_key_the_agent_and_a_request_id(wire: Any, client: SandboxClient) -> None:
    wire.get(f"{BASE}/sandboxes/{ID}", json=RUNNING)
    client.info(ID)
    client.info(ID)
    first, second = (request.headers for request in sent(wire))
    assert first["OPEN-SANDBOX-API-KEY"] == "s3cret"
    assert first["User-Agent"].startswith("OpenSandbox-PythonSync-SDK/")
    assert first["Accept-Encoding"] == "identity"
    assert len(first["X-Request-ID"]) == 32 and first["X-Request-ID"] != second["X-Request-ID"]


def test_a_create_sends_nothing_that_was_not_asked_for(wire: Any, client: SandboxClient) -> None:
    wire.post(f"{BASE}/sandboxes", json=RUNNING, status=202)
    client.create("python:3.12", wait_ready=False)
    assert body_of(sent(wire)[0]) == {
        "image": {"uri": "python:3.12"},
        "timeout": 600,
        "resourceLimits": {"cpu": "1", "memory": "2Gi"},
        "entrypoint": ["tail", "-f", "/dev/null"],
    }


def test_a_create_with_everything_says_it_in_the_servers_words(wire: Any, client: SandboxClient) -> None:
    wire.post(f"{BASE}/sandboxes", json=RUNNING, status=202)
    client.create(
        ImageSpec("r.example.com/a:1", ImageAuth("me", "s3cret")),
        timeout=90.2,
        env={"A": "1"},
        metadata={"team": "a"},
        resource_limits={"cpu": "2"},
        resource_requests={"cpu": "1"},
        platform=PlatformSpec("linux", "arm64"),
        network_policy=NetworkPolicy("deny", [NetworkRule("allow", "*.api.test")]),
        credential_proxy=CredentialProxyConfig(True),
        extensions={"access.renew.extend.seconds": "300"},
        secure_access=True,
        entrypoint=["sleep", "60"],
        volumes=[Volume("data", "/data", host=Host("/srv/data"), read_only=True, sub_path="a/b")],
        wait_ready=False,
    )
    assert body_of(sent(wire)[0]) == {
        "image": {"uri": "r.example.com/a:1", "auth": {"username": "me", "password": "s3cret"}},
        "timeout": 91,
        "env": {"A": "1"},
        "metadata": {"team": "a"},
        "resourceLimits": {"cpu": "2"},
        "resourceRequests": {"cpu": "1"},
        "platform": {"os": "linux", "arch": "arm64"},
        "networkPolicy": {"defaultAction": "deny", "egress": [{"action": "allow", "target": "*.api.test"}]},
        "credentialProxy": {"enabled": True},
        "extensions": {"access.renew.extend.seconds": "300"},
        "secureAccess": True,
        "entrypoint": ["sleep", "60"],
        "volumes": [
            {"name": "data", "mountPath": "/data", "host": {"path": "/srv/data"}, "readOnly": True, "subPath": "a/b"}
        ],
    }


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (
            {"snapshot_id": "snap"},
            {"snapshotId": "snap", "timeout": 600, "resourceLimits": {"cpu": "1", "memory": "2Gi"}},
        ),
        ({"template_id": "tpl"}, {"templateId": "tpl", "timeout": 600}),
        ({"pool": "warm"}, {"timeout": 600, "extensions": {"poolRef": "warm"}}),
    ],
)
def test_each_source_sends_what_its_kind_takes(wire: Any, client: SandboxClient, options: Any, body: Any) -> None:
    wire.post(f"{BASE}/sandboxes", json=RUNNING, status=202)
    client.create(**options, wait_ready=False)
    assert body_of(sent(wire)[0]) == body


def test_manual_cleanup_sends_no_timeout(wire: Any, client: SandboxClient) -> None:
    wire.post(f"{BASE}/sandboxes", json=RUNNING, status=202)
    client.create("i", timeout=None, wait_ready=False)
    assert "timeout" not in body_of(sent(wire)[0])


CALLS: List[Any] = [
    (lambda c: c.info(ID), "GET", f"/sandboxes/{ID}", RUNNING),
    (lambda c: c.info("a/b ?#é"), "GET", "/sandboxes/a%2Fb%20%3F%23%C3%A9", RUNNING),
    (lambda c: c.pause(ID), "POST", f"/sandboxes/{ID}/pause", None),
    (lambda c: c.kill(ID), "DELETE", f"/sandboxes/{ID}", None),
    (lambda c: c.resume(ID, wait_ready=False), "POST", f"/sandboxes/{ID}/resume", None),
    (lambda c: c.patch_metadata(ID, {"a": "1"}), "PATCH", f"/sandboxes/{ID}/metadata", RUNNING),
    (lambda c: c.endpoint(ID, 80), "GET", f"/sandboxes/{ID}/endpoints/80", ENDPOINT),
]


@pytest.mark.parametrize(("act", "method", "path", "answer"), CALLS)
def test_each_call_is_one_request(
    wire: Any, client: SandboxClient, act: Callable[[SandboxClient], Any], method: str, path: str, answer: Any
) -> None:
    wire.add(method, BASE + path, json=answer)
    act(client)
    assert [(call.request.method, call.request.url) for call in wire.calls] == [(method, BASE + path)]


@pytest.mark.parametrize(
    ("options", "query"),
    [
        ({}, ""),
        ({"use_server_proxy": True}, "?use_server_proxy=true"),
        ({"expires": 1_900_000_000}, "?expires=1900000000"),
        ({"expires": datetime(2030, 3, 17, 17, 46, 39, 1, timezone.utc)}, "?expires=1900000000"),
    ],
)
def test_an_endpoint_is_asked_for_directly_proxied_or_signed(
    wire: Any, client: SandboxClient, options: Dict[str, Any], query: str
) -> None:
    wire.get(
        f"{BASE}/sandboxes/{ID}/endpoints/80",
        json={"endpoint": "h:1/s1gned"},
        headers={"OPEN-SANDBOX-ORIGIN": "template"},
    )
    sandbox = client.connect(ID, wait_ready=False)
    assert sandbox.endpoint(80, **options).url == "http://h:1/s1gned"
    endpoint = client.endpoint(ID, 80, **options)
    assert wire.calls[1].request.url == wire.calls[0].request.url
    assert wire.calls[0].request.url == f"{BASE}/sandboxes/{ID}/endpoints/80{query}"
    assert (endpoint.url, endpoint.origin) == ("http://h:1/s1gned", "template")
    assert ("s1gned" in repr(endpoint)) == ("expires" not in options)


def test_a_list_reads_every_page_and_each_sandbox_once(wire: Any, client: SandboxClient) -> None:
    """A sandbox that is created meanwhile moves the others down by one, so the next page repeats one."""

    def page(ids: str, more: bool) -> Dict[str, Any]:
        items = [{**RUNNING, "id": name} for name in ids]
        return {"items": items, "pagination": {"page": 1, "pageSize": 200, "hasNextPage": more}}

    for answer in (page("abc", True), page("cde", True), page("", True)):
        wire.get(f"{BASE}/sandboxes", json=answer)
    found = client.list(states=["Running", "Paused"], metadata={"a b": "c&d=é"})
    assert [info.id for info in found] == list("abcde")
    urls = [request.url for request in sent(wire)]
    assert urls[0].endswith("?page=1&pageSize=200&state=Running&state=Paused&metadata=a%2520b%3Dc%2526d%253D%25C3%25A9")
    assert [url.partition("page=")[2][:1] for url in urls] == ["1", "2", "3"]


def test_a_list_whose_last_page_promises_another_without_end_ends(wire: Any, client: SandboxClient) -> None:
    page = {"items": [RUNNING], "pagination": {"page": 1, "pageSize": 200, "totalItems": 1, "hasNextPage": True}}
    wire.get(f"{BASE}/sandboxes", json=page)
    assert [info.id for info in client.list()] == [ID]
    assert len(sent(wire)) == 2


@pytest.mark.parametrize("sandbox_id, timeout", [("", 60), (None, 60), (ID, 1e12), (ID, 0)])
def test_a_renewal_that_cannot_be_meant_sends_nothing(
    wire: Any, client: SandboxClient, sandbox_id: Any, timeout: Any
) -> None:
    with pytest.raises(InvalidArgumentError):
        client.renew(sandbox_id, timeout)
    assert not sent(wire)


def test_a_server_at_the_end_of_time_is_not_the_callers_fault(wire: Any, client: SandboxClient) -> None:
    wire.get(f"{BASE.rsplit('/', 1)[0]}/health", headers={"Date": "Fri, 31 Dec 9999 23:59:59 GMT"}, json={})
    with pytest.raises(ProtocolError, match="clock"):
        client.renew(ID, 60)


@pytest.mark.parametrize("items", [None, []])
def test_a_list_of_nothing_is_empty(wire: Any, client: SandboxClient, items: Any) -> None:
    wire.get(f"{BASE}/sandboxes", json={"items": items, "pagination": None})
    assert client.list() == []


def test_a_command_goes_to_its_endpoint_with_the_endpoints_headers_and_without_the_key(
    wire: Any, client: SandboxClient
) -> None:
    frames = b'{"type":"init","text":"c1"}\n\n{"type":"stdout","text":"hi\\n"}\n\n{"type":"execution_complete"}\n\n'
    wire.post(f"{EXECD}/command", body=frames, content_type="text/event-stream")
    with SandboxClient(
        domain="box.example.com",
        api_key="s3cret",
        headers={"X-Lifecycle": "1"},
        sandbox_headers={"X-Inside": "1", "X-EXECD-ACCESS-TOKEN": "overruled"},
    ) as client:
        sandbox = client.connect(ID, wait_ready=False)
        execution = sandbox.commands.run("echo hi", cwd="/w", env={"A": "1"}, timeout=1.5, uid=1, gid=2)
    assert (execution.stdout, execution.exit_code, execution.id) == ("hi\n", 0, "c1")
    look_up, run = (call.request for call in wire.calls)
    assert look_up.headers["OPEN-SANDBOX-API-KEY"] == "s3cret" and look_up.headers["X-Lifecycle"] == "1"
    assert "X-Inside" not in look_up.headers
    assert run.headers["X-EXECD-ACCESS-TOKEN"] == "t0ken" and run.headers["X-Inside"] == "1"
    assert "OPEN-SANDBOX-API-KEY" not in run.headers and "X-Lifecycle" not in run.headers
    assert run.headers["Accept"] == "text/event-stream"
    assert body_of(run) == {"command": "echo hi", "cwd": "/w", "envs": {"A": "1"}, "timeout": 1500, "uid": 1, "gid": 2}


def test_the_servers_own_proxy_gets_the_key_and_another_address_does_not(wire: Any) -> None:
    proxied = f"{BASE}/sandboxes/{ID}/proxy/44772"
    for authority in ("box.example.com", "elsewhere.example.com"):
        answer = {"endpoint": f"{authority}/v1/sandboxes/{ID}/proxy/44772", "headers": {}}
        wire.replace("GET", f"{BASE}/sandboxes/{ID}/endpoints/44772", json=answer)
        wire.get(proxied.replace("box.example.com", authority) + "/ping", body=b"")
        with SandboxClient(domain="box.example.com", api_key="s3cret", use_server_proxy=True) as client:
            assert client.connect(ID, wait_ready=False).is_healthy()
        ping = wire.calls[-1].request
        assert ("OPEN-SANDBOX-API-KEY" in ping.headers) == (authority == "box.example.com")


@pytest.mark.parametrize("domain", ["Box.Example.com", "http://box.example.com:80", "http://BOX.example.com/"])
def test_the_servers_own_proxy_is_known_however_its_name_is_written(wire: Any, domain: str) -> None:
    answer = {"endpoint": f"box.example.com/v1/sandboxes/{ID}/proxy/44772", "headers": {}}
    wire.replace("GET", f"{BASE}/sandboxes/{ID}/endpoints/44772", json=answer)
    wire.get(f"{BASE}/sandboxes/{ID}/proxy/44772/ping", body=b"")
    with SandboxClient(domain=domain, api_key="s3cret", use_server_proxy=True) as client:
        assert client.connect(ID, wait_ready=False).is_healthy()
    assert wire.calls[-1].request.headers["OPEN-SANDBOX-API-KEY"] == "s3cret"


def test_an_argv_is_sent_as_one(wire: Any, client: SandboxClient) -> None:
    wire.post(f"{EXECD}/command", body=b'{"type":"init","text":"c1"}\n\n{"type":"execution_complete"}\n\n')
    sandbox = client.connect(ID, wait_ready=False)
    sandbox.commands.run((PurePosixPath("/bin/echo"), "a b"))
    sandbox.commands.start(["sleep", "60"], timeout=60)
    assert [body_of(request) for request in sent(wire)] == [
        {"argv": ["/bin/echo", "a b"]},
        {"argv": ["sleep", "60"], "timeout": 60000, "background": True},
    ]


def test_an_endpoint_is_looked_up_once(wire: Any, client: SandboxClient) -> None:
    wire.get(f"{EXECD}/ping", body=b"")
    sandbox = client.connect(ID)
    for _ in range(3):
        assert sandbox.is_healthy()
    assert len([call for call in wire.calls if "/endpoints/" in call.request.url]) == 1


def test_health_and_version_are_asked_beside_the_versioned_api(wire: Any, client: SandboxClient) -> None:
    wire.get(f"{ROOT}/health", json={"status": "sick"})
    wire.get(f"{ROOT}/version", json={"version": "1.1.1"})
    assert client.health() is False
    assert client.version() == "1.1.1"


# -- answers -----------------------------------------------------------------------------------------------------------

REFUSALS: List[Any] = [
    (400, BadRequestError),
    (401, AuthenticationError),
    (403, PermissionDeniedError),
    (404, NotFoundError),
    (409, ConflictError),
    (418, ApiError),
    (422, BadRequestError),
    (429, RateLimitError),
    (500, ServerError),
    (501, NotSupportedError),
    (503, ServerError),
]


@pytest.mark.parametrize(("status", "kind"), REFUSALS)
def test_a_refusal_says_what_failed_and_all_that_the_server_said(
    wire: Any, client: SandboxClient, status: int, kind: Any
) -> None:
    headers = {"X-Request-ID": "r-1", "Retry-After": "999"}
    wire.post(
        f"{BASE}/sandboxes/{ID}/pause", status=status, json={"code": "A::B", "message": "because"}, headers=headers
    )
    with pytest.raises(kind) as caught:
        client.pause(ID)
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.status_code, error.request_id, error.retry_after) == ("A::B", status, "r-1", 999.0)
    for words in (f"pause sandbox {ID}", "A::B", "because", str(status), "r-1", f"POST {BASE}/sandboxes/{ID}/pause"):
        assert words in str(error)
    assert pickle.loads(pickle.dumps(error)).__dict__ == error.__dict__
    assert not [secret for secret in SECRETS if secret in str(error)]


def test_without_the_servers_id_ours_is_told(wire: Any, client: SandboxClient) -> None:
    wire.get(f"{BASE}/sandboxes/{ID}", status=404, body="gone")
    with pytest.raises(NotFoundError, match="gone") as caught:
        client.info(ID)
    assert caught.value.request_id == sent(wire)[0].headers["X-Request-ID"]


def test_a_long_error_body_is_cut(wire: Any, client: SandboxClient) -> None:
    wire.get(f"{BASE}/sandboxes/{ID}", status=400, body="x" * 1_000_000)
    with pytest.raises(BadRequestError) as caught:
        client.info(ID)
    assert len(str(caught.value)) < 5000 and len(caught.value.body) <= 64 * 1024


@pytest.mark.parametrize(
    "value", ["soon", "-5", "1e9", "", "99999999999999999999", "Wed, 99 Foo 2026 00:00:00 GMT", "²"]
)
def test_a_retry_after_that_makes_no_sense_is_none(wire: Any, client: SandboxClient, value: str) -> None:
    wire.post(f"{BASE}/sandboxes/{ID}/pause", status=429, headers={"Retry-After": value.encode().decode("latin-1")})
    with pytest.raises(RateLimitError) as caught:
        client.pause(ID)
    assert caught.value.retry_after is None


def test_a_retry_after_may_be_a_date(wire: Any, client: SandboxClient) -> None:
    wire.post(f"{BASE}/sandboxes/{ID}/pause", status=429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})
    with pytest.raises(RateLimitError) as caught:
        client.pause(ID)
    assert caught.value.retry_after == 0.0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b"<html>",
        b"{}",
        b'{"id":"x"}',
        b'{"id":7,"status":{"state":"R"}}',
        b"\xff",
        b"[" * 10**5,
    ],
)
def test_an_answer_that_is_no_sandbox_is_a_protocol_error(wire: Any, client: SandboxClient, body: bytes) -> None:
    wire.get(f"{BASE}/sandboxes/{ID}", body=body)
    with pytest.raises(ProtocolError) as caught:
        client.info(ID)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("body", [b"[]", b'{"items":7}', b'{"items":[7]}', b'{"items":[],"pagination":7}', b"oops"])
def test_an_answer_that_is_no_list_is_a_protocol_error(wire: Any, client: SandboxClient, body: bytes) -> None:
    wire.get(f"{BASE}/sandboxes", body=body)
    with pytest.raises(ProtocolError):
        client.list()


@pytest.mark.parametrize("body", [b"{}", b'{"version":1}', b"[]", b"1.1.1"])
def test_a_version_that_is_none_is_a_protocol_error(wire: Any, client: SandboxClient, body: bytes) -> None:
    wire.get(f"{ROOT}/version", body=body)
    with pytest.raises(ProtocolError):
        client.version()


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"expiresAt":"soon"}', b'{"expiresAt":"2026-02-30T00:00:00Z"}'])
def test_a_renewal_without_a_time_is_a_protocol_error(wire: Any, client: SandboxClient, body: bytes) -> None:
    wire.get(f"{ROOT}/health", json={"status": "healthy"})
    wire.post(f"{BASE}/sandboxes/{ID}/renew-expiration", body=body)
    with pytest.raises(ProtocolError):
        client.renew(ID, 300)


def test_what_a_newer_server_adds_is_kept_and_an_unknown_state_is_text(wire: Any, client: SandboxClient) -> None:
    wire.get(
        f"{BASE}/sandboxes/{ID}", json={**RUNNING, "status": {"state": "Dreaming"}, "mood": "good", "metadata": None}
    )
    info = client.info(ID)
    assert (info.state, info.raw["mood"], info.metadata) == ("Dreaming", "good", {})


def test_a_state_that_failed_is_told_long_before_the_deadline(wire: Any, client: SandboxClient) -> None:
    wire.get(f"{EXECD}/ping", status=503, body="starting")
    status = {"state": "Failed", "reason": "OOM", "message": "out of memory"}
    wire.get(f"{BASE}/sandboxes/{ID}", json={**RUNNING, "status": status})
    with pytest.raises(SandboxFailedError, match="OOM out of memory"):
        client.connect(ID, ready_timeout=600)


def test_a_sandbox_that_is_not_ready_in_time_says_what_was_tried(wire: Any, client: SandboxClient) -> None:
    wire.get(f"{EXECD}/ping", status=503, body="starting")
    wire.get(f"{BASE}/sandboxes/{ID}", json=RUNNING)
    with pytest.raises(SandboxReadyTimeoutError, match="starting") as caught:
        client.connect(ID, ready_timeout=0.3)
    assert isinstance(caught.value, TimeoutError) and "0.3 s" in str(caught.value)


def test_a_create_that_does_not_get_ready_is_killed_before_the_error_leaves(wire: Any, client: SandboxClient) -> None:
    wire.post(f"{BASE}/sandboxes", json=RUNNING, status=202)
    wire.get(f"{EXECD}/ping", status=503, body="starting")
    wire.get(f"{BASE}/sandboxes/{ID}", json=RUNNING)
    wire.delete(f"{BASE}/sandboxes/{ID}", status=204)
    with pytest.raises(SandboxReadyTimeoutError):
        client.create("i", ready_timeout=0.2)
    assert (wire.calls[-1].request.method, wire.calls[-1].request.url) == ("DELETE", f"{BASE}/sandboxes/{ID}")


@pytest.mark.parametrize("told", ["creating a sandbox", "is ready"])
def test_a_create_whose_progress_cannot_be_told_leaves_no_sandbox(wire: Any, client: SandboxClient, told: str) -> None:
    def tell(line: str) -> None:
        if told in line:
            raise ZeroDivisionError

    wire.assert_all_requests_are_fired = False
    wire.post(f"{BASE}/sandboxes", json=RUNNING, status=202)
    wire.get(f"{EXECD}/ping")
    wire.delete(f"{BASE}/sandboxes/{ID}", status=204)
    with pytest.raises(ZeroDivisionError):
        client.create("i", on_progress=tell)
    made = [method for method in (call.request.method for call in wire.calls) if method in ("POST", "DELETE")]
    assert made == ([] if told == "creating a sandbox" else ["POST", "DELETE"])


def test_a_create_that_fails_because_its_client_was_closed_leaves_no_sandbox(wire: Any, client: SandboxClient) -> None:
    def tell(line: str) -> None:
        if "is ready" in line:
            client.close()
            raise ZeroDivisionError

    wire.post(f"{BASE}/sandboxes", json=RUNNING, status=202)
    wire.get(f"{EXECD}/ping")
    wire.delete(f"{BASE}/sandboxes/{ID}", status=204)
    with pytest.raises(ZeroDivisionError):
        client.create("i", on_progress=tell)
    assert wire.calls[-1].request.method == "DELETE"


def test_a_create_needs_nothing_but_the_id_of_its_answer(wire: Any, client: SandboxClient) -> None:
    wire.post(f"{BASE}/sandboxes", json={"id": ID, "createdAt": "soon", "status": 5}, status=202)
    assert client.create("i", wait_ready=False).id == ID


def test_a_gateway_that_gave_a_create_up_says_that_a_sandbox_may_exist(wire: Any, client: SandboxClient) -> None:
    wire.post(f"{BASE}/sandboxes", status=504, body="<html>")
    with pytest.raises(ServerError, match="may have been created"):
        client.create("i")


def test_a_daemons_401_is_not_explained_with_the_servers_key(wire: Any, client: SandboxClient) -> None:
    wire.get(f"{EXECD}/ping", status=401, json={"error": "Unauthorized: missing header X-EXECD-ACCESS-TOKEN"})
    with pytest.raises(AuthenticationError, match="missing header") as caught:
        client.connect(ID)
    assert "api_key=" not in str(caught.value)


def test_connecting_and_resuming_tell_how_they_wait(wire: Any, client: SandboxClient) -> None:
    lines: List[str] = []
    wire.post(f"{BASE}/sandboxes/{ID}/resume", status=202)
    for _ in range(2):
        for _ in range(12):
            wire.get(f"{EXECD}/ping", status=503, body="starting")
        wire.get(f"{EXECD}/ping")
    wire.get(f"{BASE}/sandboxes/{ID}", json=RUNNING)
    sandbox = client.connect(ID, on_progress=lines.append)
    told = len(lines)
    sandbox.resume(on_progress=lines.append)
    assert 0 < told < len(lines)
    assert all(line.startswith(f"waiting for sandbox {ID}: ") and "starting" in line for line in lines)
    for refused in (lambda: client.connect(ID, on_progress=7), lambda: sandbox.resume(on_progress=7)):  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match="on_progress"):
            refused()


def test_a_kill_that_fails_too_does_not_hide_why(wire: Any, client: SandboxClient) -> None:
    wire.post(f"{BASE}/sandboxes", json=RUNNING, status=202)
    wire.get(f"{EXECD}/ping", status=401, json={"error": "bad token"})
    wire.delete(f"{BASE}/sandboxes/{ID}", status=500, body="no")
    with pytest.raises(AuthenticationError, match="bad token"):
        client.create("i")


def test_a_kill_that_fails_does_not_hide_the_blocks_exception(wire: Any, client: SandboxClient) -> None:
    wire.post(f"{BASE}/sandboxes", json=RUNNING, status=202)
    wire.delete(f"{BASE}/sandboxes/{ID}", status=500, body="no")
    with pytest.raises(KeyError), client.create("i", wait_ready=False):
        raise KeyError
    with pytest.raises(ServerError, match="kill"), client.create("i", wait_ready=False):
        pass


def test_a_create_without_an_answer_says_that_a_sandbox_may_exist(wire: Any, client: SandboxClient) -> None:
    wire.post(f"{BASE}/sandboxes", body=requests.exceptions.ReadTimeout("too late"))
    with pytest.raises(RequestTimeoutError, match="may have been created") as caught:
        client.create("i", metadata={"job": "j-7"})
    assert "j-7" in str(caught.value) and str(caught.value.request_id) in str(caught.value)
    assert len(sent(wire)) == 1


# -- repeating ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_get_is_repeated_until_it_succeeds(wire: Any, client: SandboxClient, status: int) -> None:
    wire.get(f"{BASE}/sandboxes/{ID}", status=status)
    wire.get(f"{BASE}/sandboxes/{ID}", status=status)
    wire.get(f"{BASE}/sandboxes/{ID}", json=RUNNING)
    assert client.info(ID).id == ID
    assert len(sent(wire)) == 3


def test_a_get_is_given_up_after_its_retries(wire: Any, client: SandboxClient) -> None:
    wire.get(f"{BASE}/sandboxes/{ID}", status=503)
    with pytest.raises(ServerError):
        client.info(ID)
    assert len(sent(wire)) == 4


@pytest.mark.parametrize(
    "act",
    [
        lambda client: client.create("i"),
        lambda client: client.pause(ID),
        lambda client: client.patch_metadata(ID, {"a": "b"}),
    ],
)
@pytest.mark.parametrize("status", [429, 502, 503])
def test_what_may_have_been_done_is_not_repeated(wire: Any, client: SandboxClient, act: Any, status: int) -> None:
    for method, path in (("POST", ""), ("POST", f"/{ID}/pause"), ("PATCH", f"/{ID}/metadata")):
        wire.add(method, f"{BASE}/sandboxes{path}", status=status)
    with pytest.raises(ApiError):
        act(client)
    assert len(sent(wire)) == 1


def test_the_servers_wait_is_kept_within_the_calls_own_time(wire: Any) -> None:
    wire.get(f"{BASE}/sandboxes/{ID}", status=429, headers={"Retry-After": "30"})
    with SandboxClient(domain="box.example.com", timeout=5) as client, pytest.raises(RateLimitError):
        client.info(ID)
    assert len(sent(wire)) == 1


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (requests.exceptions.ConnectTimeout("late"), ConnectError),
        (requests.exceptions.ReadTimeout("late"), RequestTimeoutError),
        (requests.exceptions.ChunkedEncodingError("cut"), TransportError),
        (requests.exceptions.ContentDecodingError("odd"), TransportError),
        (requests.exceptions.SSLError("bad certificate"), TransportError),
        (requests.exceptions.ProxyError("no proxy"), TransportError),
        (ConnectionResetError(104, "reset"), TransportError),
        (ValueError("odd"), TransportError),
    ],
)
def test_no_error_of_another_library_gets_out(wire: Any, cause: Exception, kind: Any) -> None:
    wire.post(f"{BASE}/sandboxes/{ID}/pause", body=cause)
    once = RetryPolicy(max_retries=0)
    with SandboxClient(domain="box.example.com", retry=once) as client, pytest.raises(kind) as caught:
        client.pause(ID)
    assert caught.value.__cause__ is not None
    assert f"pause sandbox {ID}" in str(caught.value)


# -- what can be watched, and what never shows -------------------------------------------------------------------------


def test_hooks_see_each_attempt_without_secrets(wire: Any) -> None:
    asked: List[RequestRecord] = []
    told: List[ResponseRecord] = []
    wire.get(f"{BASE}/sandboxes/{ID}", status=503)
    wire.get(f"{BASE}/sandboxes/{ID}", json=RUNNING, headers={"X-Request-ID": "r-2"})
    wire.get(f"{EXECD}/ping", body=b"")
    with SandboxClient(
        domain="http://me:s3cret@box.example.com",
        api_key="s3cret",
        headers={"X-Mine": "s3cret"},
        retry=RetryPolicy(initial_backoff=0),
        on_request=asked.append,
        on_response=told.append,
    ) as client:
        client.info(ID)
        assert client.connect(ID, wait_ready=False).is_healthy()
    assert [(record.method, record.attempt) for record in asked] == [("GET", 1), ("GET", 2), ("GET", 1), ("GET", 1)]
    assert [record.status_code for record in told] == [503, 200, 200, 200]
    assert told[1].request_id == "r-2" and told[0].request is asked[0] and told[0].elapsed >= 0
    assert asked[0].url == f"{BASE}/sandboxes/{ID}"
    for shown in map(repr, [*asked, *told]):
        assert not [secret for secret in SECRETS if secret in shown]


def test_the_log_is_silent_above_debug_and_has_no_secret(wire: Any, client: SandboxClient, caplog: Any) -> None:
    wire.get(f"{BASE}/sandboxes/{ID}", status=503)
    wire.get(f"{BASE}/sandboxes/{ID}", status=404, json={"code": "X", "message": "gone"})
    with caplog.at_level(logging.DEBUG, "opensandbox_sync"), pytest.raises(NotFoundError):
        client.info(ID)
    lines = [record for record in caplog.records if record.name.startswith("opensandbox_sync")]
    assert lines and all(record.levelno == logging.DEBUG for record in lines)
    assert not [secret for secret in SECRETS if secret in caplog.text]


def test_no_repr_shows_a_secret(wire: Any, client: SandboxClient) -> None:
    wire.get(f"{BASE}/sandboxes/{ID}", json=RUNNING)
    sandbox = client.connect(ID, wait_ready=False)
    endpoint = client.endpoint(ID, 44772)
    shown = [client, client.config, sandbox, endpoint, sandbox.commands, sandbox.commands.get("c"), client.info(ID)]
    assert endpoint.headers["X-EXECD-ACCESS-TOKEN"] == "t0ken"
    assert not [text for text in map(repr, shown) for secret in SECRETS if secret in text]


# -- a session of the user's own ---------------------------------------------------------------------------------------


class Recording(HTTPAdapter):
    """An adapter that answers by itself, as a mock or a corporate gateway does."""

    def __init__(self, answer: Callable[[], requests.Response]) -> None:
        super().__init__()
        self.answer = answer
        self.seen: List[Any] = []
        self.closed = False

    def send(self, request: Any, **settings: Any) -> requests.Response:  # type: ignore[override]
        self.seen.append((request, settings))
        response = self.answer()
        response.request, response.url = request, request.url
        return response

    def close(self) -> None:
        self.closed = True


def answered(body: bytes, status: int = 200) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response.headers["Content-Type"] = "application/json"
    response.raw = HTTPResponse(io.BytesIO(body), headers=response.headers, status=status, preload_content=False)
    return response


def test_a_users_session_is_used_with_its_adapters_and_not_closed() -> None:
    adapter = Recording(lambda: answered(json.dumps(RUNNING).encode()))
    session = requests.Session()
    session.mount("http://box.example.com", adapter)
    session.headers["X-Corporate"] = "1"
    with SandboxClient(domain="box.example.com", api_key="s3cret", session=session, timeout=7) as client:
        assert client.info(ID).id == ID
    request, settings = adapter.seen[0]
    assert request.headers["OPEN-SANDBOX-API-KEY"] == "s3cret" and request.headers["X-Corporate"] == "1"
    assert all(value is None or value <= 10 for value in settings["timeout"])
    assert not adapter.closed
    session.close()
    assert adapter.closed


def test_a_users_session_streams_events_too() -> None:
    frames = b'{"type":"init","text":"c1"}\n\n{"type":"stdout","text":"hi\\n"}\n\n{"type":"execution_complete"}\n\n'
    answers = [json.dumps(ENDPOINT).encode(), frames]
    adapter = Recording(lambda: answered(answers.pop(0)))
    with requests.Session() as session:
        session.mount("http://", adapter)
        with SandboxClient(domain="box.example.com", session=session) as client:
            assert client.connect(ID, wait_ready=False).commands.run("echo hi").stdout == "hi\n"


def test_a_users_netrc_does_not_replace_our_credentials(
    wire: Any, tmp_path: Any, clean_environment: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine box.example.com login other password wrong\n")
    netrc.chmod(0o600)
    clean_environment.setenv("NETRC", str(netrc))
    wire.get(f"{BASE}/sandboxes/{ID}", json=RUNNING)
    with requests.Session() as session:
        for options in ({}, {"session": session}):
            with SandboxClient(domain="http://me:right@box.example.com", **options) as client:  # type: ignore[arg-type]
                client.info(ID)
    values = [request.headers["Authorization"] for request in sent(wire)]
    assert values == ["Basic bWU6cmlnaHQ="] * 2


def test_a_proxy_of_the_environment_is_never_used_for_loopback(
    clean_environment: pytest.MonkeyPatch, settings: Dict[str, Any]
) -> None:
    clean_environment.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    clean_environment.setenv("http_proxy", "http://127.0.0.1:1")
    with requests.Session() as session:
        for options in ({}, {"session": session}):
            with SandboxClient(**settings, **options) as client:
                assert client.health()


def test_a_proxy_of_the_environment_is_used_for_other_hosts(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    clean_environment.setenv("http_proxy", "http://127.0.0.1:1")
    client = SandboxClient(domain="box.example.invalid", retry=RetryPolicy(max_retries=0))
    with client, pytest.raises(TransportError, match="refused"):
        client.info(ID)


@pytest.mark.parametrize(
    "act",
    [
        lambda client: client.info("\ud800"),
        lambda client: client.create("i", env={"A": "\ud800"}),
        lambda client: client.create("i", metadata={"\udcff": "a"}),
        lambda client: client.create("i", entrypoint=["\ud800"]),
        lambda client: client.list(metadata={"a": "\ud800"}),
        lambda client: client.list(states=["\ud800"]),
        lambda client: client.snapshots.list(sandbox_id="\ud800"),
        lambda client: client.snapshots.list(name="\ud800"),
        lambda client: client.connect(ID, wait_ready=False).commands.run("echo \ud800"),
        lambda client: client.connect(ID, wait_ready=False).commands.run(["echo", "\ud800"]),
        lambda client: client.connect(ID, wait_ready=False).commands.run("echo", cwd="\ud800"),
        lambda client: client.connect(ID, wait_ready=False).commands.start("echo", env={"A": "\udcff"}),
        lambda client: client.connect(ID, wait_ready=False).commands.status("\ud800"),
    ],
)
def test_what_is_no_text_is_refused_before_anything_is_sent(
    wire: Any, client: SandboxClient, act: Callable[[SandboxClient], Any]
) -> None:
    """Half of a surrogate pair (``os.fsdecode`` makes them) would arrive as another character."""
    with pytest.raises(InvalidArgumentError) as caught:
        act(client)
    assert len(wire.calls) == 0
    str(caught.value).encode("utf-8")


def test_a_message_of_the_server_can_always_be_printed(wire: Any, client: SandboxClient) -> None:
    wire.get(f"{BASE}/sandboxes/{ID}", status=400, body=b'{"code":"X","message":"half a \\ud800 pair"}')
    with pytest.raises(BadRequestError, match=r"half a \\ud800 pair") as caught:
        client.info(ID)
    str(caught.value).encode("utf-8")
