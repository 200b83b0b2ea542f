"""The server's pools, against scripted answers: no server at hand keeps any."""

from __future__ import annotations

from typing import Any

import pytest

from opensandbox_sync import ConflictError, InvalidArgumentError, NotSupportedError
from opensandbox_sync.services.pools import PoolCapacity, PoolStatus

from .lists import peer_server
from .wire import always, refusal, whole

CAPACITY = PoolCapacity(buffer_min=1, buffer_max=3, pool_min=2, pool_max=10)
SENT = {"bufferMin": 1, "bufferMax": 3, "poolMin": 2, "poolMax": 10}
TOLD = {
    "name": "python",
    "capacitySpec": SENT,
    "status": {"total": 4, "allocated": 1, "available": 3, "revision": "r7"},
    "createdAt": "2026-11-22T20:02:09Z",
}


def test_a_pool_is_made_from_a_pod_template() -> None:
    with peer_server(always(whole(201, TOLD))) as (client, peer):
        template = {"spec": {"containers": [{"name": "main", "image": "python:3.12"}]}}
        pool = client.pools.create("python", template=template, capacity=CAPACITY)
        assert (pool.name, pool.capacity_spec, pool.status) == ("python", CAPACITY, PoolStatus(4, 1, 3, "r7"))
        (request,) = peer.requests
        assert (request.method, request.path) == ("POST", "/v1/pools")
        assert request.json == {"name": "python", "template": template, "capacitySpec": SENT}


def test_pools_are_found_listed_updated_and_deleted() -> None:
    with peer_server(lambda request: whole(200, {"items": [TOLD]} if request.path == "/v1/pools" else TOLD)) as (
        client,
        peer,
    ):
        assert client.pools.get("python").name == "python"
        assert [pool.name for pool in client.pools.list()] == ["python"]
        assert client.pools.update("python", CAPACITY).capacity_spec == CAPACITY
        client.pools.delete("a/b")
        assert [(r.method, r.target) for r in peer.requests] == [
            ("GET", "/v1/pools/python"),
            ("GET", "/v1/pools"),
            ("PUT", "/v1/pools/python"),
            ("DELETE", "/v1/pools/a%2Fb"),
        ]
        assert peer.requests[2].json == {"capacitySpec": SENT}


def test_a_pool_that_was_not_looked_at_yet_has_no_status() -> None:
    with peer_server(always(whole(200, {"name": "python", "capacitySpec": SENT}))) as (client, _):
        assert client.pools.get("python").status is None


@pytest.mark.parametrize("capacity", [None, SENT, PoolCapacity(-1, 1, 1, 1), PoolCapacity(1, True, 1, 1)])
def test_a_capacity_that_cannot_be_is_refused(capacity: Any) -> None:
    with peer_server(always([])) as (client, peer):
        with pytest.raises(InvalidArgumentError, match="capacity"):
            client.pools.update("python", capacity)
        assert peer.requests == []


def test_a_name_that_is_taken_is_a_conflict() -> None:
    answer = refusal(409, "KUBERNETES::POOL_ALREADY_EXISTS", "it exists")
    with peer_server(always(answer)) as (client, _), pytest.raises(ConflictError, match="it exists"):
        client.pools.create("python", template={}, capacity=CAPACITY)


def test_other_runtimes_have_no_pools() -> None:
    answer = refusal(501, "KUBERNETES::POOL_NOT_SUPPORTED", "Pool management is only available in Kubernetes")
    with peer_server(always(answer)) as (client, _), pytest.raises(NotSupportedError):
        client.pools.list()


def test_a_sandbox_is_created_from_a_pool_without_an_image() -> None:
    created = whole(202, {"id": "b1", "status": {"state": "Pending"}, "createdAt": "2026-11-22T20:02:09Z"})
    with peer_server(always(created)) as (client, peer):
        assert client.create(pool="python", wait_ready=False).id == "b1"
        body = peer.requests[0].json
        assert body["extensions"] == {"poolRef": "python"}
        assert not {"image", "snapshotId", "templateId"} & set(body)
