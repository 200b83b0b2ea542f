"""How often a call reaches the server: a command and a create at most once, what is harmless to repeat until one
deadline.
"""

# ruff: noqa: SIM117 (a server, then what is tested: nested, they read in that order)
from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Dict, Iterator, List

import pytest
import requests
import responses
import urllib3

from opensandbox_sync import (
    ApiError,
    BadRequestError,
    ClosedError,
    ConnectError,
    NotFoundError,
    ProtocolError,
    RateLimitError,
    RequestTimeoutError,
    RetryPolicy,
    SandboxClient,
    SandboxError,
    ServerError,
    StreamInterruptedError,
    TransportError,
    connections,
    transport,
)

from .conftest import until
from .scripted import API_KEY, RESET, closed_port, in_turn, promptly, scripted, serving
from .wire import (
    HANG,
    SANDBOX_ID,
    Request,
    complete,
    init,
    refusal,
    stdout,
    stream,
    whole,
)

QUICK = RetryPolicy(initial_backoff=0.001, max_backoff=0.01)
DEATHS: Dict[str, List[Any]] = {
    "closed without an answer": [b""],
    "reset without an answer": [RESET],
    "closed inside the headers": [b"HTTP/1.1 200 OK\r\nContent-", b""],
    "reset inside the headers": [b"HTTP/1.1 200 OK\r\nContent-", RESET],
    "closed inside the body": [b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{", b""],
    "no HTTP": [b"220 mail.example.com ESMTP\r\n", b""],
}
INFO = f"/v1/sandboxes/{SANDBOX_ID}"


@pytest.fixture(params=["our connections", "a user's session"])
def wire(request: pytest.FixtureRequest) -> Iterator[Dict[str, Any]]:
    if request.param == "our connections":
        yield {}
        return
    with requests.Session() as session:
        yield {"session": session}


@pytest.mark.parametrize("death", DEATHS)
def test_a_command_whose_connection_dies_is_sent_once(wire: Dict[str, Any], death: str) -> None:
    with scripted({"POST /command": DEATHS[death]}, retry=QUICK, **wire) as (sandbox, server):
        with promptly(), pytest.raises(StreamInterruptedError):
            sandbox.commands.run("x")
        assert len(server.asked("POST", "/command")) == 1


@pytest.mark.parametrize("death", DEATHS)
def test_a_create_whose_connection_dies_is_sent_once_and_tells_how_to_find_the_sandbox(
    wire: Dict[str, Any], death: str
) -> None:
    with serving({"POST /v1/sandboxes": DEATHS[death]}) as server:
        with SandboxClient(domain=server.address, api_key=API_KEY, retry=QUICK, **wire) as client:
            with promptly(), pytest.raises((TransportError, ProtocolError), match="may have been created") as caught:
                client.create("python:3.12", metadata={"job": "seven"})
        (sent,) = server.asked("POST", "/v1/sandboxes")
    assert caught.value.request_id == sent.headers["x-request-id"]
    assert "seven" in str(caught.value) and sent.headers["x-request-id"] in str(caught.value)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_command_and_a_create_that_were_refused_are_not_sent_again(wire: Dict[str, Any], status: int) -> None:
    answer = refusal(status, "BUSY", "later", {"Retry-After": "0"})
    table = {"POST /command": answer, "POST /v1/sandboxes": answer}
    with scripted(table, retry=QUICK, **wire) as (sandbox, server):
        for call in (lambda: sandbox.commands.run("x"), lambda: sandbox._client.create("i")):
            with pytest.raises((ServerError, RateLimitError)):
                call()
        assert len(server.asked("POST", "/command")) == len(server.asked("POST", "/v1/sandboxes")) == 1


def test_a_command_that_found_no_connection_is_sent_when_there_is_one(wire: Dict[str, Any]) -> None:
    # The first look-up names a port where nobody listens, the second one the daemon's.
    with scripted({"POST /command": stream(init(), complete())}, retry=QUICK, **wire) as (sandbox, server):
        server.table["GET /endpoints/44772"] = in_turn(
            whole(200, {"endpoint": f"127.0.0.1:{closed_port()}"}), whole(200, {"endpoint": server.address})
        )
        assert sandbox.commands.run("x").exit_code == 0
        assert len(server.asked("POST", "/command")) == 1


def test_a_command_with_no_server_at_all_is_a_connect_error_that_names_the_address(wire: Dict[str, Any]) -> None:
    with scripted({}, retry=QUICK, **wire) as (sandbox, server):
        address = f"127.0.0.1:{closed_port()}"
        server.table["GET /endpoints/44772"] = whole(200, {"endpoint": address})
        with promptly(), pytest.raises(ConnectError, match=address):
            sandbox.commands.run("x")


def test_an_idle_connection_that_the_server_closed_neither_fails_nor_repeats_a_command(wire: Dict[str, Any]) -> None:
    # The answer does not announce the close, so the connection is kept.
    with scripted({"POST /command": [*stream(init(), complete()), b""]}, **wire) as (sandbox, server):
        for number in range(1, 11):
            assert sandbox.commands.run("x").exit_code == 0
            until(lambda: server.ended == number, "the server closed the connection")  # noqa: B023
        assert len(server.asked("POST", "/command")) == 10


def test_a_command_does_not_go_out_on_a_connection_that_was_idle_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    # A server that has given an idle connection up may not have said so yet.
    monkeypatch.setattr(connections, "_FRESH_SECONDS", 0.0)
    with scripted({"POST /command": stream(init(), complete())}) as (sandbox, server):
        server.posts_per_connection = 1
        assert [sandbox.commands.run("x").exit_code for _ in range(5)] == [0] * 5
        assert len(server.asked("POST", "/command")) == 5


def test_commands_in_quick_succession_share_one_connection() -> None:
    with scripted({"POST /command": stream(init(), complete())}) as (sandbox, server):
        for _ in range(20):
            sandbox.commands.run("x")
        assert server.connection_count <= 3  # a machine that stalls for a second may cost one


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_is_harmless_to_repeat_is_repeated_when_a_connection_dies(
    wire: Dict[str, Any], method: str, death: str
) -> None:
    if wire and death == "closed inside the headers":
        pytest.skip("http.client takes this for a whole answer, and another's connections are not ours to mend")
    with scripted({}, retry=QUICK, **wire) as (sandbox, server):
        good = server.table[f"{method} {INFO}"]
        assert not callable(good)
        server.table[f"{method} {INFO}"] = in_turn(DEATHS[death], DEATHS[death], good)
        sandbox.info() if method == "GET" else sandbox.kill()
        assert len(server.asked(method, INFO)) == 3


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again(wire: Dict[str, Any], status: int) -> None:
    busy = refusal(status, "BUSY", "later", {"Retry-After": "0"})
    with scripted({}, retry=QUICK, **wire) as (sandbox, server):
        server.table[f"GET {INFO}"] = in_turn(busy, busy, server.table[f"GET {INFO}"])
        assert sandbox.info().id == SANDBOX_ID
        assert len(server.asked("GET", INFO)) == 3


@pytest.mark.parametrize("status, kind", [(500, ServerError), (404, NotFoundError), (501, ServerError)])
def test_an_answer_that_will_not_change_is_not_asked_for_again(status: int, kind: type) -> None:
    with scripted({f"GET {INFO}": refusal(status, "NO", "no")}, retry=QUICK) as (sandbox, server):
        with pytest.raises(kind):
            sandbox.info()
        assert len(server.asked("GET", INFO)) == 1


def test_attempts_end_at_the_number_that_was_asked_for() -> None:
    policy = RetryPolicy(max_retries=2, initial_backoff=0.001)
    with scripted({f"GET {INFO}": refusal(503, "BUSY", "later")}, retry=policy) as (sandbox, server):
        with pytest.raises(ServerError, match="later"):
            sandbox.info()
        assert len(server.asked("GET", INFO)) == 3


def test_all_attempts_share_one_deadline(wire: Dict[str, Any]) -> None:
    policy = RetryPolicy(max_retries=10_000, initial_backoff=0.01, max_backoff=0.02)
    with scripted({f"GET {INFO}": refusal(503, "BUSY", "later")}, retry=policy, timeout=1, **wire) as (
        sandbox,
        server,
    ):
        with promptly(), pytest.raises((ServerError, TransportError)):  # the last one may run into the deadline
            sandbox.info()
        assert len(server.asked("GET", INFO)) > 3


@pytest.mark.parametrize("after", ["30", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_retry_after_beyond_the_deadline_is_not_waited_for(after: str) -> None:
    busy = refusal(503, "BUSY", "later", {"Retry-After": after})
    with scripted({f"GET {INFO}": busy}, timeout=5) as (sandbox, server):
        with promptly(4), pytest.raises(ServerError) as caught:
            sandbox.info()
        assert len(server.asked("GET", INFO)) == 1
    assert caught.value.retry_after is not None and caught.value.retry_after >= 30


def test_a_retry_after_is_waited_for_even_where_the_back_off_would_be_long() -> None:
    policy = RetryPolicy(initial_backoff=60, max_backoff=60)
    with scripted({}, retry=policy) as (sandbox, server):
        plain = server.table[f"GET {INFO}"]
        server.table[f"GET {INFO}"] = in_turn(refusal(503, "BUSY", "later", {"Retry-After": "0"}), plain)
        with promptly():
            sandbox.info()


@pytest.mark.parametrize("nonsense", ["soon", "-1", "1e9", "9" * 400, "²", ""])
def test_a_retry_after_that_makes_no_sense_is_ignored(nonsense: str) -> None:
    busy = refusal(503, "BUSY", "later", {"Retry-After": nonsense} if nonsense.isascii() else {})
    with scripted({}, retry=QUICK) as (sandbox, server):
        server.table[f"GET {INFO}"] = in_turn(busy, server.table[f"GET {INFO}"])
        with promptly():
            assert sandbox.info().id == SANDBOX_ID


def test_an_answer_that_trickles_ends_at_the_deadline() -> None:
    def trickle(request: Request) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
        while True:
            time.sleep(0.02)
            yield b" "

    with scripted({f"GET {INFO}": trickle}, timeout=0.3) as (sandbox, _):
        with promptly(), pytest.raises(RequestTimeoutError):
            sandbox.info()


def test_headers_that_trickle_end_at_the_deadline() -> None:
    def trickle(request: Request) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nX-Slow: "
        while True:
            time.sleep(0.02)
            yield b"x"

    with scripted({f"GET {INFO}": trickle}, timeout=0.3) as (sandbox, _):
        with promptly(), pytest.raises(RequestTimeoutError):
            sandbox.info()


def test_a_silent_server_is_waited_for_once(wire: Dict[str, Any]) -> None:
    with scripted({f"GET {INFO}": [HANG]}, timeout=0.3, retry=QUICK, **wire) as (sandbox, server):
        with promptly(), pytest.raises(RequestTimeoutError):
            sandbox.info()
        assert len(server.asked("GET", INFO)) == 1


@pytest.mark.parametrize("length", [b"Content-Length: 999", b"Transfer-Encoding: chunked"])
def test_an_answer_shorter_than_it_says_is_an_error_and_no_shorter_answer(wire: Dict[str, Any], length: bytes) -> None:
    body = b"3e7\r\n[]" if b"chunked" in length else b"[]"
    with scripted({f"GET {INFO}": [b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\n" + body, b""]}, **wire) as (sandbox, _):
        with promptly(), pytest.raises(TransportError):
            sandbox.info()


def test_a_connection_with_an_answer_that_came_only_in_part_is_closed(wire: Dict[str, Any]) -> None:
    """The rest of it would be taken for the next answer."""
    part = [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345", HANG]
    with scripted({f"GET {INFO}": part}, timeout=0.3, **wire) as (sandbox, server):
        with pytest.raises(RequestTimeoutError):
            sandbox.info()
        until(lambda: server.ended == 1, "the connection was closed")


def test_closing_the_client_ends_a_wait_between_two_attempts() -> None:
    policy = RetryPolicy(initial_backoff=60, max_backoff=60)
    with scripted({f"GET {INFO}": refusal(503, "BUSY", "later")}, retry=policy, timeout=100) as (sandbox, server):
        seen: List[BaseException] = []

        def call() -> None:
            try:
                sandbox.info()
            except SandboxError as error:
                seen.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        until(lambda: server.asked("GET", INFO), "the server was asked")
        sandbox._client.close()
        thread.join(20)
    assert [error.code for error in seen if isinstance(error, SandboxError)] == ["CLOSED"]


def test_a_stream_that_was_only_partly_read_gives_its_connection_up() -> None:
    answer = stream(init(), *(stdout(str(n)) for n in range(50)), HANG)
    with scripted({"POST /command": answer}) as (sandbox, _), promptly(), sandbox.commands.stream("x") as events:
        assert next(events).type == "init"


# -- what is provably unsent, and what only looks so -------------------------------------------------------------------


@pytest.mark.parametrize("call", ["command", "create"])
def test_a_post_that_died_behind_a_proxy_is_sent_once(call: str) -> None:
    """requests calls a connection that broke after the request a ``ProxyError`` there."""
    with serving({"POST /command": [RESET], "POST /v1/sandboxes": [RESET]}) as server, requests.Session() as session:
        session.proxies = {"http": f"http://{server.address}"}
        with SandboxClient(domain="box.example.com", api_key=API_KEY, session=session, retry=QUICK) as client:
            sandbox = client.connect(SANDBOX_ID, wait_ready=False)
            with promptly(), pytest.raises(TransportError):
                sandbox.commands.run("x") if call == "command" else client.create("image")
        assert len([r for r in server.requests if r.method == "POST"]) == 1


@pytest.mark.parametrize("cause", [requests.ConnectionError("broke"), requests.exceptions.ChunkedEncodingError("cut")])
def test_a_post_that_a_mock_breaks_is_not_sent_again(cause: Exception) -> None:
    with responses.RequestsMock() as mock, SandboxClient(domain="box.example.com", retry=QUICK) as client:
        mock.post("http://box.example.com/v1/sandboxes", body=cause)
        with pytest.raises(TransportError, match="may have been created"):
            client.create("image")
        assert len(mock.calls) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_call_that_still_connects_when_the_client_is_closed_sends_nothing(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    connects, closed, ends = threading.Event(), threading.Event(), []
    connect = urllib3.util.connection.create_connection

    def slow(*arguments: Any, **options: Any) -> Any:
        connects.set()
        assert closed.wait(20)
        return connect(*arguments, **options)

    monkeypatch.setattr(urllib3.util.connection, "create_connection", slow)
    with serving({}) as server:
        client = SandboxClient(domain=f"{scheme}://{server.address}", timeout=5)

        def work() -> None:
            try:
                client.create("image")
            except SandboxError as error:
                ends.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        assert connects.wait(20)
        client.close()
        closed.set()
        with promptly():
            thread.join(20)
        assert [type(error) for error in ends] == [ClosedError]
        assert not server.requests


# -- a delete whose answer was lost ------------------------------------------------------------------------------------

DELETES: Dict[str, Any] = {
    "snapshot": lambda sandbox: sandbox._client.snapshots.delete("s"),
    "session": lambda sandbox: sandbox.sessions.delete("s"),
    "sandbox": lambda sandbox: sandbox.kill(),
}


@pytest.mark.parametrize("what", DELETES)
def test_a_delete_whose_answer_was_lost_is_done_when_nothing_is_there_any_more(wire: Dict[str, Any], what: str) -> None:
    paths = {"snapshot": "/v1/snapshots/s", "session": "/session/s", "sandbox": INFO}
    gone = refusal(404, "NOT_FOUND", "no such thing")
    with scripted({f"DELETE {paths[what]}": in_turn([b""], gone)}, retry=QUICK, **wire) as (sandbox, server):
        DELETES[what](sandbox)
        assert len(server.asked("DELETE", paths[what])) == 2


@pytest.mark.parametrize("before", [refusal(429, "BUSY", "wait"), None], ids=["refused before", "at once"])
def test_a_delete_of_nothing_is_not_found(wire: Dict[str, Any], before: Any) -> None:
    gone = refusal(404, "NOT_FOUND", "no such thing")
    answers = [before, gone] if before else [gone]
    with scripted({"DELETE /v1/snapshots/s": in_turn(*answers)}, retry=QUICK, **wire) as (sandbox, _):
        with pytest.raises(NotFoundError):
            sandbox._client.snapshots.delete("s")


# -- a refusal's body --------------------------------------------------------------------------------------------------

REFUSAL = b'{"code":"NO","message":"because"}'
SHORT: Dict[str, List[Any]] = {
    "cut": [b"HTTP/1.1 400 Bad\r\nContent-Length: 500\r\n\r\n" + REFUSAL, b""],
    "reset": [b"HTTP/1.1 400 Bad\r\nContent-Length: 500\r\n\r\n" + REFUSAL, RESET],
    "endless": [b"HTTP/1.1 400 Bad\r\nContent-Length: 99999999999\r\n\r\n" + b" " * 200_000, HANG],
    "cut chunks": [b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n" + b"21\r\n" + REFUSAL, b""],
}


@pytest.mark.parametrize("body", SHORT)
def test_a_refusal_is_one_also_where_its_body_does_not_come_whole(wire: Dict[str, Any], body: str) -> None:
    table = {"POST /command": SHORT[body], f"GET {INFO}": SHORT[body]}
    with scripted(table, retry=QUICK, **wire) as (sandbox, server):
        for call in (sandbox.info, lambda: sandbox.commands.run("x")):
            with promptly(), pytest.raises(BadRequestError) as caught:
                call()
            assert len(caught.value.body) <= 64 * 1024
        assert len(server.asked("POST", "/command")) == 1


@pytest.mark.parametrize("length", [50 * 10**9, 2**58, 2**62])
def test_a_length_that_no_memory_has_is_an_error_of_ours(wire: Dict[str, Any], length: int) -> None:
    answer = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n{}" % length, b""]
    with scripted({f"GET {INFO}": answer}, retry=RetryPolicy(max_retries=0), **wire) as (sandbox, _):
        with promptly(), pytest.raises(SandboxError):
            sandbox.info()


@pytest.mark.parametrize("location", ["http://[", "http://[::1", "\\", "http://user:s3cret@[::1"])
def test_a_redirect_to_no_address_is_an_error_of_ours(wire: Dict[str, Any], location: str) -> None:
    answer = whole(302, b"", {"Location": location})
    with scripted({f"GET {INFO}": answer}, **wire) as (sandbox, _):
        # requests fails at it too, before we see the answer.
        with pytest.raises(SandboxError if wire else ApiError) as caught:
            sandbox.info()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("detail", [[{"loc": 5, "msg": "odd"}], [{"loc": None}], ["text"], [[1]], [{"loc": ["a", 1]}]])
def test_a_refusal_of_an_odd_shape_is_an_error_of_ours(detail: Any) -> None:
    with scripted({f"GET {INFO}": whole(422, {"detail": detail})}) as (sandbox, _), pytest.raises(BadRequestError):
        sandbox.info()


# -- hooks -------------------------------------------------------------------------------------------------------------


def test_a_hook_that_fails_behind_an_answer_hides_nothing_and_loses_nothing(
    wire: Dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    def hook(record: Any) -> None:
        raise ZeroDivisionError

    caplog.set_level("DEBUG", "opensandbox_sync")
    table = {"POST /command": stream(init(), complete())}
    with scripted(table, on_response=hook, **wire) as (sandbox, _):
        assert sandbox.commands.run("x").exit_code == 0
    assert "on_response raised" in caplog.text and "ZeroDivisionError" in caplog.text


def test_a_hook_that_fails_before_a_request_stops_it() -> None:
    def hook(record: Any) -> None:
        if record.method == "POST":
            raise ZeroDivisionError

    with scripted({}, on_request=hook) as (sandbox, server):
        with pytest.raises(ZeroDivisionError):
            sandbox.commands.run("x")
        assert not server.asked("POST", "/command")


# -- waits that end when they say --------------------------------------------------------------------------------------

WAITS: Dict[str, Any] = {
    "readiness": lambda sandbox: sandbox.wait_until_ready(0.5),
    "a background command": lambda sandbox: sandbox.commands.get("c").wait(0.3),
    "a port's HTTP": lambda sandbox: sandbox.wait_for_http(8000, timeout=0.3),
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_wait_is_not_made_longer_by_a_server_that_hangs(wire: Dict[str, Any], wait: str) -> None:
    silent: Dict[str, Any] = {
        "GET /ping": whole(503),
        "GET /proxy/8000/": [HANG],
        f"GET {INFO}": [HANG],
        "GET /command/status/c": [HANG],
    }
    with scripted(silent, timeout=300, **wire) as (sandbox, _), promptly(5), pytest.raises(TimeoutError):
        WAITS[wait](sandbox)


# -- a look-up is a call of its own ------------------------------------------------------------------------------------


def test_a_look_up_that_failed_is_no_attempt_of_the_call_that_needed_it() -> None:
    busy = refusal(503, "BUSY", "wait")
    with serving({"DELETE /session/s": refusal(404, "NOT_FOUND", "no such thing")}) as server:
        there = whole(200, {"endpoint": server.address})
        server.table[f"GET {INFO}/endpoints/44772"] = in_turn(busy, there)
        with SandboxClient(domain=server.address, retry=QUICK) as client, pytest.raises(NotFoundError):
            client.connect(SANDBOX_ID, wait_ready=False).sessions.delete("s")
        server.table[f"GET {INFO}/endpoints/44772"] = busy
        with SandboxClient(domain=server.address, retry=QUICK) as client, pytest.raises(ServerError):
            client.connect(SANDBOX_ID, wait_ready=False).metrics.get()
        assert len(server.asked("GET", "/endpoints/44772")) == 2 + 1 + QUICK.max_retries


# -- connections that are shared ---------------------------------------------------------------------------------------


def test_the_end_of_one_sandbox_closes_no_connection_to_the_servers_proxy() -> None:
    with scripted({"POST /command": stream(init(), complete())}, use_server_proxy=True) as (sandbox, server):
        sandbox.commands.run("x")
        sandbox.kill()
        sandbox._client.info(SANDBOX_ID)
        assert server.connection_count == 1


def test_connections_to_many_sandboxes_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_POOLS", 3)
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(serving({})) for _ in range(6)]
        client = stack.enter_context(SandboxClient(domain=servers[0].address))
        for server in servers:
            servers[0].table[f"GET {INFO}/endpoints/44772"] = whole(200, {"endpoint": server.address})
            assert client.connect(SANDBOX_ID, wait_ready=False).is_healthy()
        until(lambda: sum(server.ended for server in servers[1:]) >= 2, "the oldest are closed")
        assert client.info(SANDBOX_ID).id == SANDBOX_ID


# -- answers before the answer -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [100, 102, 103])
def test_hints_before_an_answer_are_not_taken_for_it(wire: Dict[str, Any], status: int) -> None:
    right = whole(200, {"id": SANDBOX_ID, "status": {"state": "Running"}})
    hint = b"HTTP/1.1 %d Early\r\nLink: </a>\r\n\r\n" % status
    if "session" in wire and status != 100:
        pytest.skip("http.client takes this for the answer, and another's connections are not ours to mend")
    for answer in ([hint, *right], [hint + hint + right[0]]):
        table = {f"GET {INFO}": answer, "POST /command": [hint, *stream(init(), complete())]}
        with scripted(table, **wire) as (sandbox, _):
            for _ in range(2):
                assert sandbox.info().id == SANDBOX_ID
            assert sandbox.commands.run("x").ok


def test_a_page_that_knows_no_sandboxes_does_not_say_that_one_is_gone() -> None:
    page = whole(404, b"<html>nginx</html>", {"Content-Type": "text/html"})
    with scripted({f"DELETE {INFO}": page}) as (sandbox, _), pytest.raises(NotFoundError):
        sandbox.kill()


def test_a_delete_that_a_busy_server_put_off_is_not_taken_for_done(wire: Dict[str, Any]) -> None:
    answers = in_turn(refusal(503, "BUSY", "wait"), refusal(404, "NOT_FOUND", "no such thing"))
    with scripted({"DELETE /v1/snapshots/s": answers}, retry=QUICK, **wire) as (sandbox, _):
        with pytest.raises(NotFoundError):
            sandbox._client.snapshots.delete("s")
