"""Templates, against scripted answers: no server at hand builds any."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from opensandbox_sync import (
    InvalidArgumentError,
    NotSupportedError,
    SandboxFailedError,
    SandboxReadyTimeoutError,
)
from opensandbox_sync.services.templates import TemplateReadiness

from .lists import one_after_another, pages, peer_server
from .wire import always, refusal, whole


def told(phase: str, identity: str = "tpl-1", **more: Any) -> Dict[str, Any]:
    return {
        "templateId": identity,
        "image": "python:3.12",
        "publish": "s3://bucket/path",
        "format": "overlaybd",
        "status": {"phase": phase, **more},
        "createdAt": "2026-11-22T20:02:09Z",
        "updatedAt": "2026-11-22T20:02:10Z",
    }


def test_create_sends_what_was_given_and_nothing_else() -> None:
    with peer_server(always(whole(201, told("Pending")))) as (client, peer):
        template = client.templates.create("python:3.12", publish="s3://bucket/path")
        assert (template.template_id, template.phase, template.format) == ("tpl-1", "Pending", "overlaybd")
        client.templates.create(
            "python:3.12",
            publish="s3://bucket/path",
            resource_limits={"disk": "2Gi"},
            entrypoint=["sleep", "9"],
            env={"A": "1"},
            metadata={"team": "x"},
            readiness=TemplateReadiness(probe="tcp://127.0.0.1:44772", warmup_seconds=5),
            format="native",
        )
        small, large = peer.requests
        assert small.json == {"image": "python:3.12", "publish": "s3://bucket/path"}
        assert large.json == {
            "image": "python:3.12",
            "publish": "s3://bucket/path",
            "resourceLimits": {"disk": "2Gi"},
            "entrypoint": ["sleep", "9"],
            "env": {"A": "1"},
            "metadata": {"team": "x"},
            "readiness": {"probe": "tcp://127.0.0.1:44772", "warmupSeconds": 5},
            "format": "native",
        }
        assert {(request.method, request.path) for request in peer.requests} == {("POST", "/v1/templates")}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"publish": " "}, "publish must be text"),
        ({"format": "zip"}, "format must be 'native' or 'overlaybd', not 'zip'"),
        ({"env": {"A": 1}}, r"env\['A'\] must be text"),
        ({"env": {"A=B": "c"}}, "env: a name that begins with 'A' has a '='"),
        ({"resource_limits": {"cpu": 1}}, r"resource_limits\['cpu'\]"),
        ({"metadata": ""}, "metadata must be a mapping"),
        ({"entrypoint": "sleep 9"}, "entrypoint must be a list"),
        ({"entrypoint": []}, "entrypoint must be a list of words that is not empty"),
        ({"entrypoint": ["a", "\ud800"]}, "entrypoint\\[\\d\\] must be text"),
        ({"readiness": 5}, "readiness must be a TemplateReadiness, not int"),
        ({"readiness": "x"}, "readiness must be a TemplateReadiness, not str"),
        ({"readiness": {"probe": "tcp://127.0.0.1:80"}}, "readiness must be a TemplateReadiness, not dict"),
    ],
)
def test_create_refuses_what_cannot_be(options: Dict[str, Any], words: str) -> None:
    with peer_server(always([])) as (client, peer):
        with pytest.raises(InvalidArgumentError, match=words):
            client.templates.create("python:3.12", **{"publish": "s3://b", **options})
        assert peer.requests == []


@pytest.mark.parametrize("arguments", [(5,), ("",), (None, -1), (None, True), (None, "60"), (None, 1.5)])
def test_a_readiness_that_cannot_be_is_refused(arguments: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"readiness (probe|warmup_seconds) must be"):
        TemplateReadiness(*arguments)


def test_list_takes_metadata_as_a_mapping_only() -> None:
    with peer_server(pages([])) as (client, peer):
        for metadata in ("", [], 5):
            with pytest.raises(InvalidArgumentError, match="metadata must be a mapping"):
                client.templates.list(metadata=metadata)  # type: ignore[arg-type]
        assert peer.requests == []
        assert list(client.templates.list(metadata={})) == []
        assert "metadata" not in peer.requests[0].query


def test_a_phase_and_a_format_that_are_not_known_yet_are_kept() -> None:
    answer = {**told("Publishing"), "format": "squashfs"}
    with peer_server(always(whole(200, answer))) as (client, _):
        template = client.templates.get("tpl-1")
        assert (template.phase, template.format) == ("Publishing", "squashfs")


def test_env_values_are_in_no_repr() -> None:
    with peer_server(always(whole(200, {**told("Succeeded"), "env": {"TOKEN": "hidden"}}))) as (client, _):
        template = client.templates.get("tpl-1")
        assert template.env == {"TOKEN": "hidden"}
        assert "hidden" not in repr(template)


def test_list_reads_all_pages_and_encodes_metadata_twice() -> None:
    items = [told("Succeeded", f"tpl-{number}") for number in range(3)]
    with peer_server(pages(items)) as (client, peer):
        assert [t.template_id for t in client.templates.list(metadata={"a b": "1&2"})] == ["tpl-0", "tpl-1", "tpl-2"]
        assert peer.requests[0].query["metadata"] == "a%20b=1%262"


def test_delete_names_the_template_in_the_path() -> None:
    with peer_server(always(whole(204))) as (client, peer):
        client.templates.delete("tpl-1")
        assert [(r.method, r.path) for r in peer.requests] == [("DELETE", "/v1/templates/tpl-1")]


def test_wait_built_waits_for_the_build() -> None:
    answers = [whole(200, told(phase)) for phase in ("Pending", "Building", "Succeeded")]
    with peer_server(one_after_another(*answers)) as (client, _):
        assert client.templates.wait_built("tpl-1", timeout=20).phase == "Succeeded"


def test_wait_built_tells_why_the_build_failed_or_how_far_it_came() -> None:
    failed = whole(200, told("Failed", message="no such image"))
    with peer_server(always(failed)) as (client, _), pytest.raises(SandboxFailedError, match="no such image"):
        client.templates.wait_built("tpl-1")
    building = whole(200, told("Building"))
    with peer_server(always(building)) as (client, _), pytest.raises(SandboxReadyTimeoutError, match="it is Building"):
        client.templates.wait_built("tpl-1", timeout=0.1)


def test_other_runtimes_have_no_templates() -> None:
    answer = refusal(501, "FSB::API_NOT_SUPPORTED", "Template management requires the kubernetes runtime.")
    with peer_server(always(answer)) as (client, _), pytest.raises(NotSupportedError) as raised:
        client.templates.list()
    assert raised.value.code == "FSB::API_NOT_SUPPORTED"


def test_a_sandbox_is_created_from_a_template_with_a_lifetime() -> None:
    created = whole(202, {"id": "b1", "status": {"state": "Pending"}, "createdAt": "2026-11-22T20:02:09Z"})
    with peer_server(always(created)) as (client, peer):
        assert client.create(template_id="tpl-1", timeout=60, wait_ready=False).id == "b1"
        body = peer.requests[0].json
        assert (body["templateId"], body["timeout"]) == ("tpl-1", 60)
        assert not {"image", "snapshotId", "entrypoint", "resourceLimits", "env", "platform", "volumes"} & set(body)
