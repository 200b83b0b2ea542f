"""Snapshots of real sandboxes."""

from __future__ import annotations

import uuid
from typing import Iterator

import pytest

from opensandbox_sync import ConflictError, NotFoundError, NotSupportedError, Sandbox, SandboxClient
from opensandbox_sync.services.snapshots import SnapshotInfo

from ..conftest import MakeSandbox


@pytest.fixture(scope="module")
def snapshot(client: SandboxClient, sandbox: Sandbox) -> Iterator[SnapshotInfo]:
    """A snapshot of a sandbox that holds a file; the file is changed afterwards."""
    sandbox.commands.run("echo before > snapped.txt", check=True)
    snapshot = client.snapshots.wait_ready(sandbox.snapshot(f"test-{uuid.uuid4().hex}").id)
    sandbox.commands.run("echo after > snapped.txt", check=True)
    yield snapshot
    client.snapshots.delete(snapshot.id)


def test_a_snapshot_is_started_and_becomes_ready(snapshot: SnapshotInfo, sandbox: Sandbox) -> None:
    assert snapshot.state == "Ready"
    assert snapshot.sandbox_id == sandbox.id
    assert snapshot.created_at is not None


def test_a_sandbox_created_from_a_snapshot_has_its_files(snapshot: SnapshotInfo, make_sandbox: MakeSandbox) -> None:
    with make_sandbox(snapshot_id=snapshot.id) as restored:
        assert restored.commands.run("cat snapped.txt").stdout.strip() == "before"


def test_a_snapshot_is_found_by_id_name_state_and_sandbox(
    client: SandboxClient, snapshot: SnapshotInfo, sandbox: Sandbox
) -> None:
    assert client.snapshots.get(snapshot.id) == snapshot
    for filters in ({"name": snapshot.name}, {"sandbox_id": sandbox.id}, {"states": ["ready"], "name": snapshot.name}):
        assert snapshot.id in [found.id for found in client.snapshots.list(**filters)]  # type: ignore[arg-type]
    assert list(client.snapshots.list(name=snapshot.name, states=["Failed"])) == []


def test_a_deleted_snapshot_is_gone(client: SandboxClient, sandbox: Sandbox) -> None:
    made = client.snapshots.wait_ready(client.snapshots.create(sandbox.id).id)
    client.snapshots.delete(made.id)
    with pytest.raises(NotFoundError):
        client.snapshots.get(made.id)
    with pytest.raises(NotFoundError):
        client.snapshots.wait_ready(made.id)


def test_a_snapshot_that_a_sandbox_was_made_from_can_be_deleted_after_it(
    client: SandboxClient, sandbox: Sandbox, make_sandbox: MakeSandbox
) -> None:
    made = client.snapshots.wait_ready(client.snapshots.create(sandbox.id).id)
    with make_sandbox(snapshot_id=made.id) as restored:
        for _ in range(2):
            with pytest.raises(ConflictError) as caught:
                client.snapshots.delete(made.id)
            assert caught.value.code == "SNAPSHOT::DELETE_CONFLICT"
        assert client.snapshots.get(made.id).state == "Deleting"
        assert restored.commands.run("echo here").stdout == "here\n"
    client.snapshots.delete(made.id)
    with pytest.raises(NotFoundError):
        client.snapshots.get(made.id)


def test_only_a_running_sandbox_can_be_snapped(client: SandboxClient, fresh_sandbox: Sandbox) -> None:
    fresh_sandbox.pause()
    with pytest.raises(ConflictError):
        fresh_sandbox.snapshot()
    with pytest.raises(NotFoundError):
        client.snapshots.create("no-such-sandbox")


@pytest.mark.embedded
def test_this_runtime_has_no_templates_and_no_pools(client: SandboxClient) -> None:
    for call in (client.pools.list, client.templates.list, lambda: client.pools.delete("a")):
        with pytest.raises(NotSupportedError):
            call()
