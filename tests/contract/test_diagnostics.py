"""What the server says of a sandbox."""

from __future__ import annotations

import pytest

from opensandbox_sync import BadRequestError, NotFoundError, Sandbox, SandboxClient

from ..conftest import MakeSandbox, until


def test_events_tell_of_the_sandbox(sandbox: Sandbox) -> None:
    found = sandbox.diagnostics.events("runtime")
    assert (found.sandbox_id, found.kind, found.scope, found.delivery) == (sandbox.id, "events", "runtime", "inline")
    assert found.content
    assert found.content_length == len(found.content.encode())


def test_logs_hold_what_the_entrypoint_printed(make_sandbox: MakeSandbox) -> None:
    with make_sandbox(entrypoint=["sh", "-c", "echo said at start; sleep 600"]) as sandbox:
        until(lambda: "said at start" in (sandbox.diagnostics.logs("container").content or ""), "the log")


def test_all_is_the_scope_unless_given(client: SandboxClient, sandbox: Sandbox) -> None:
    assert sandbox.diagnostics.logs().scope == "all"
    assert client.diagnostics.events(sandbox.id).scope == "all"


def test_an_unknown_scope_is_refused_with_those_that_there_are(sandbox: Sandbox) -> None:
    with pytest.raises(BadRequestError, match="container") as raised:
        sandbox.diagnostics.logs("moon")
    assert raised.value.code == "DIAGNOSTICS_SCOPE_UNSUPPORTED"


def test_a_sandbox_that_does_not_exist_has_no_diagnostics(client: SandboxClient) -> None:
    with pytest.raises(NotFoundError):
        client.diagnostics.logs("no-such-sandbox")
