"""``use_server_proxy="auto"``: straight to the sandbox where that works, else through the server."""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import Any, Iterator, List

import pytest

from opensandbox_sync import (
    CommandTimeoutError,
    ConnectError,
    RetryPolicy,
    SandboxClient,
    SandboxError,
    StreamInterruptedError,
    sandbox,
)

from .scripted import API_KEY, RESET, Scripted, closed_port, promptly, scripted
from .wire import HANG, SANDBOX_ID, complete, init, refusal, stdout, stream, whole

RUN = {"POST /command": stream(init(), stdout("hi"), complete())}


@pytest.fixture
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less patience than people have."""
    monkeypatch.setattr(sandbox, "_AUTO_CONNECT_SECONDS", 0.1)


def reached_directly_at(server: Scripted, address: str) -> None:
    """Let the server name ``address`` for a direct connection, and itself as the proxy."""
    prefix = f"{server.address}/v1/sandboxes/{SANDBOX_ID}/proxy/44772"
    server.table["GET /endpoints/44772"] = lambda request: whole(
        200, {"endpoint": prefix if request.query else address}
    )


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """An address that drops every attempt to connect: its queue is full, and nobody takes from it."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_sandbox_that_can_be_reached_is_reached_directly_and_without_the_key() -> None:
    with scripted(RUN, use_server_proxy="auto") as (box, server):
        assert box.commands.run("x").stdout == "hi"
        assert "use_server_proxy" not in "".join(request.target for request in server.requests)
        assert "open-sandbox-api-key" not in server.asked("POST", "/command")[0].headers


def test_a_sandbox_that_cannot_be_reached_is_reached_through_the_server_and_the_choice_is_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "opensandbox_sync")
    with scripted(RUN, use_server_proxy="auto") as (box, server):
        reached_directly_at(server, f"127.0.0.1:{closed_port()}")
        assert [box.commands.run("x").stdout for _ in range(3)] == ["hi"] * 3
        assert [request.path for request in server.asked("POST", "/command")] == [
            f"/v1/sandboxes/{SANDBOX_ID}/proxy/44772/command"
        ] * 3
        assert server.asked("POST", "/command")[0].headers["open-sandbox-api-key"] == API_KEY
        assert len(server.asked("GET", "/ping")) == 1, "the choice was made more than once"
        assert [r.query for r in server.asked("GET", "/endpoints/44772")][:2] == [{}, {"use_server_proxy": "true"}]
    told = [record for record in caplog.records if "through the server's proxy" in record.getMessage()]
    assert [record.levelno for record in told] == [logging.DEBUG]


@pytest.mark.usefixtures("_quickly")
@pytest.mark.parametrize(
    "direct", [[HANG], [RESET], [b""], refusal(502, "BAD_GATEWAY", "no route"), refusal(404, "WHO", "another program")]
)
def test_an_address_that_connects_and_does_not_answer_is_not_settled_for(direct: List[Any]) -> None:
    # As a mapped port of a container does while nothing listens inside, or a gateway in front of it.
    with scripted({"GET /ping": direct}) as (_, elsewhere), scripted(RUN, use_server_proxy="auto") as (box, server):
        reached_directly_at(server, elsewhere.address)
        with promptly():
            assert box.commands.run("x").stdout == "hi"
        assert len(elsewhere.asked("GET", "/ping")) == 1


@pytest.mark.usefixtures("_quickly")
def test_an_address_that_drops_everything_costs_a_moment_of_a_create() -> None:
    with black_hole() as address, scripted(RUN, use_server_proxy="auto") as (box, server):
        reached_directly_at(server, address)
        with promptly(), box._client.create("image") as created:
            assert created.commands.run("x").stdout == "hi"


@pytest.mark.usefixtures("_quickly")
def test_when_both_ways_fail_the_error_names_both_addresses_both_causes_and_the_setting() -> None:
    dead = f"127.0.0.1:{closed_port()}"
    broken = {"GET /ping": refusal(502, "BAD_GATEWAY", "no route to it")}
    with scripted(broken, use_server_proxy="auto") as (box, server):
        reached_directly_at(server, dead)
        with promptly(), pytest.raises(ConnectError) as caught:
            box.commands.run("x")
        assert not server.asked("POST", "/command")
    for words in (dead, "refused", server.address, "no route to it", "use_server_proxy"):
        assert words in str(caught.value)


def test_a_choice_is_each_sandboxs_own() -> None:
    with scripted(RUN, use_server_proxy="auto") as (box, server):
        reached_directly_at(server, f"127.0.0.1:{closed_port()}")
        box.commands.run("x")
        reached_directly_at(server, server.address)
        box._client.connect(SANDBOX_ID, wait_ready=False).commands.run("x")
        assert [request.path.endswith("44772/command") for request in server.asked("POST", "command")] == [True, False]


def test_without_auto_a_dead_address_names_the_setting_that_would_help() -> None:
    with scripted({}) as (box, server):
        reached_directly_at(server, f"127.0.0.1:{closed_port()}")
        with pytest.raises(ConnectError, match="use_server_proxy"):
            box.commands.run("x")
        with SandboxClient(box._client.config, use_server_proxy=True) as client:
            assert client.connect(SANDBOX_ID).is_healthy()


@pytest.mark.parametrize("look_up", [[HANG], refusal(500, "NO", "no"), [RESET]])
def test_an_address_that_could_not_be_looked_up_is_not_told_as_a_command_that_may_run(look_up: List[Any]) -> None:
    table = {**RUN, "GET /endpoints/44772": look_up}
    with scripted(table, timeout=1, retry=RetryPolicy(max_retries=1, initial_backoff=0.001)) as (box, server):
        with promptly(), pytest.raises(SandboxError, match="look up port 44772") as caught:
            box.commands.run("x")
        assert not isinstance(caught.value, StreamInterruptedError)
        assert not server.asked("POST", "/command")


def test_a_look_up_that_outlasts_the_commands_timeout_is_that_timeout() -> None:
    with scripted({**RUN, "GET /endpoints/44772": [HANG]}) as (box, server):
        with promptly(), pytest.raises(CommandTimeoutError):
            box.commands.run("x", timeout=0.1)
        assert not server.asked("POST", "/command")
