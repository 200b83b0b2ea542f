"""What the real server (1.1.1 on Docker) was asked and answered is asked here again, and the answers compared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

from .http_api import Api, Reply, create_body, read_recording, until

RECORDINGS = Path(__file__).parents[1] / "recordings" / "lifecycle"
SANDBOX, RESTORED = "5e5c0f0e-6141-4418-82d1-8be1b907e7d9", "1557bb66-4cab-429e-a744-785a225ad559"
SNAPSHOT = "950c7767-ffa3-47d9-bc3a-7ed3a80aff54"
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z")


def replay(api: Api, name: str, ids: Dict[str, str]) -> Reply:
    """Asks what was asked, and checks status, content type and body but for ids and times; returns our answer."""
    recording = read_recording((RECORDINGS / f"{name}.json").read_text(), ids)
    asked, told = recording["request"], recording["response"]
    body = asked.get("body")
    raw = body.encode() if isinstance(body, str) else body
    headers = {"OPEN-SANDBOX-API-KEY": "wrong"} if name == "get-wrong-key" else {}
    ours = api.call(asked["method"], asked["path"], raw, headers, key=name != "get-without-key")
    assert ours.status == told["status"], ours
    recorded_headers = dict(told["headers"])
    assert ours.headers.get("content-type") == recorded_headers.get("content-type")
    assert re.fullmatch("[0-9a-f]{32}", ours.headers["x-request-id"])
    assert normal(ours.body.decode()) == normal(told["body"])
    return ours


def normal(text: str) -> Any:
    text = re.sub(r',?"extensions":\{"opensandbox.extensions.isolation":"none"\}', "", text)  # only ours tells that
    text = _TIME.sub("<time>", _ID.sub("<id>", text))
    return json.loads(text) if text else text


@pytest.fixture
def ids(api: Api) -> Iterator[Dict[str, str]]:
    """The recorded run's sandbox, made anew."""
    recording = read_recording((RECORDINGS / "create.json").read_text(), {})
    made = api.call("POST", "/v1/sandboxes", recording["request"]["body"]).json
    yield {SANDBOX: made["id"]}
    api.call("DELETE", f"/v1/sandboxes/{made['id']}")


@pytest.mark.parametrize(
    "name",
    [
        "create-bad-extension",
        "create-bad-metadata",
        "create-host-path-not-allowed",
        "create-invalid-json",
        "create-no-image",
        "create-short-timeout",
        "create-two-volume-backends",
        "diagnostics-bad-scope",
        "diagnostics-logs",
        "endpoint-bad-port",
        "endpoint-unknown-sandbox",
        "get",
        "get-unknown",
        "get-without-key",
        "get-wrong-key",
        "health",
        "list-bad-page",
        "list-filter",
        "metadata-patch",
        "metadata-patch-reserved",
        "pools",
        "renew-past",
        "resume-running",
        "snapshot-get-unknown",
        "templates",
        "unknown-route",
        "version",
    ],
)
def test_the_same_question_gets_the_same_answer(api: Api, ids: Dict[str, str], name: str) -> None:
    replay(api, name, ids)


@pytest.mark.parametrize("name", ["create", "create-manual-cleanup"])
def test_create_answers_as_recorded(api: Api, name: str) -> None:
    made = replay(api, name, {})
    assert api.call("DELETE", f"/v1/sandboxes/{made.json['id']}").status == 204


def test_pause_and_resume_answer_as_recorded(api: Api, ids: Dict[str, str]) -> None:
    replay(api, "metadata-patch", ids)
    for name in ("pause", "get-paused", "pause-paused", "resume", "resume-running"):
        replay(api, name, ids)


def test_kill_answers_as_recorded_the_first_and_the_second_time(api: Api, ids: Dict[str, str]) -> None:
    replay(api, "kill", ids)
    replay(api, "kill-again", ids)


def test_renew_answers_as_recorded_with_the_time_that_was_asked_for(api: Api, ids: Dict[str, str]) -> None:
    recorded = read_recording((RECORDINGS / "renew.json").read_text(), ids)["request"]
    answer = api.call("POST", recorded["path"], {"expiresAt": "2127-11-22T20:22:09.106862+00:00"})
    assert (answer.status, answer.json) == (200, {"expiresAt": "2127-11-22T20:22:09.106862Z"})


def test_snapshots_answer_as_recorded_but_for_docker_in_the_message(api: Api, ids: Dict[str, str]) -> None:
    made = replay(api, "snapshot-create", ids)
    ids[SNAPSHOT] = made.json["id"]
    assert made.headers["location"] == f"/v1/snapshots/{made.json['id']}"
    until(lambda: api.call("GET", made.headers["location"]).json["status"]["state"] == "Ready", "the copy")
    for name in ("snapshot-get", "snapshot-list"):
        recording = read_recording((RECORDINGS / f"{name}.json").read_text(), ids)
        ours = api.call("GET", recording["request"]["path"])
        told = recording["response"]["body"].replace(
            "Docker snapshot image created successfully.", "The sandbox's directory was copied."
        )
        assert normal(ours.body.decode()) == normal(told)
    restored = replay(api, "create-from-snapshot", ids)
    replay(api, "kill-restored", {RESTORED: restored.json["id"]})
    replay(api, "snapshot-delete", ids)


def test_lists_are_paged_as_recorded(api: Api) -> None:
    recorded = [create_body(metadata={"list": "recorded"}) for _ in range(3)]
    made = [api.call("POST", "/v1/sandboxes", body).json["id"] for body in recorded]
    try:
        page = api.call("GET", "/v1/sandboxes?page=1&pageSize=1&metadata=list%3Drecorded").json
        told = read_recording((RECORDINGS / "list-page.json").read_text(), {})["response"]["body"]
        assert page["pagination"] == json.loads(told)["pagination"]
        assert [item["id"] for item in page["items"]] == made[-1:]
    finally:
        for sandbox_id in made:
            api.call("DELETE", f"/v1/sandboxes/{sandbox_id}")


def test_the_proxy_answers_ping_as_recorded(api: Api, ids: Dict[str, str]) -> None:
    recording = read_recording((RECORDINGS / "proxy-ping.json").read_text(), ids)
    endpoint = api.call("GET", f"/v1/sandboxes/{ids[SANDBOX]}/endpoints/44772").json
    answer = api.call("GET", recording["request"]["path"], headers=endpoint["headers"], key=False)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == "0"


def test_the_proxied_endpoint_has_the_recorded_form(api: Api, ids: Dict[str, str]) -> None:
    recording = read_recording((RECORDINGS / "endpoint-execd-proxy.json").read_text(), ids)
    answer = api.call("GET", recording["request"]["path"]).json
    told = json.loads(recording["response"]["body"])["endpoint"]
    assert answer["endpoint"] == told.replace("127.0.0.1:18990", api.address)


def test_a_sandbox_without_a_policy_has_no_sidecar_to_reach(api: Api, ids: Dict[str, str]) -> None:
    recording = read_recording((RECORDINGS / "networkpolicy-without-sidecar.json").read_text(), ids)
    answer = api.call("GET", recording["request"]["path"])
    told = json.loads(recording["response"]["body"])
    assert (answer.status, answer.json["code"]) == (recording["response"]["status"], told["code"])


def test_diagnostic_events_have_the_recorded_shape(api: Api, ids: Dict[str, str]) -> None:
    recording = read_recording((RECORDINGS / "diagnostics-events.json").read_text(), ids)
    ours, told = api.call("GET", recording["request"]["path"]).json, json.loads(recording["response"]["body"])
    assert list(ours) == list(told)
    assert {**ours, "content": "", "contentLength": 0} == {**told, "content": "", "contentLength": 0}
    assert ours["contentLength"] == len(ours["content"].encode())
