"""Sandboxes of the embedded server as processes: what their states, ends, clocks, copies and lists really do."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Dict

import psutil
import pytest

from .http_api import Api, Execd, call, pids, until


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def directory_of(execd: Execd) -> Path:
    return Path(execd.run("dirname $HOME").strip())


# what a sandbox is


def test_commands_see_only_what_create_gave(api: Api) -> None:
    with api.sandbox(env={"A": "1", "NOTHING": None}) as sandbox_id:
        execd = api.execd(sandbox_id)
        seen = dict(line.split("=", 1) for line in execd.run("env").splitlines())
        directory = directory_of(execd)
    assert seen.pop("A") == "1"
    assert seen["OPENSANDBOX_ID"] == sandbox_id
    assert (seen["HOME"], seen["TMPDIR"]) == (str(directory / "home"), str(directory / "tmp"))
    assert seen["PWD"] == str(directory / "work")
    known = {"PATH", "LANG", "TERM", "HOME", "TMPDIR", "OPENSANDBOX_ID", "EXECD_ENVS", "JUPYTER_PORT"}
    assert set(seen) <= known | {"PWD", "SHLVL", "_", "OLDPWD"}


def test_the_port_named_for_jupyter_answers(api: Api, execd: Execd) -> None:
    assert execd.run("echo > /dev/tcp/127.0.0.1/$JUPYTER_PORT && echo listens") == "listens\n"


def test_an_entrypoint_that_is_not_on_this_machine_leaves_the_sandbox_running_and_a_line_in_its_log(
    api: Api,
) -> None:
    with api.sandbox(entrypoint=["/opt/code-interpreter/code-interpreter.sh"]) as sandbox_id:
        assert api.execd(sandbox_id).run("echo hi") == "hi\n"
        assert api.state(sandbox_id) == "Running"
        logs = api.call("GET", f"/v1/sandboxes/{sandbox_id}/diagnostics/logs?scope=container").json
        assert "/opt/code-interpreter/code-interpreter.sh" in logs["content"]


@pytest.mark.parametrize(
    ("script", "state", "reason", "message"),
    [
        ("echo bye", "Terminated", "CONTAINER_EXITED", "Sandbox container exited successfully."),
        ("echo bye; exit 3", "Failed", "CONTAINER_EXITED_ERROR", "Sandbox container exited with code 3."),
    ],
)
def test_the_entrypoints_end_is_the_sandboxs_end(api: Api, script: str, state: str, reason: str, message: str) -> None:
    with api.sandbox(entrypoint=["sh", "-c", script]) as sandbox_id:
        until(lambda: api.state(sandbox_id) == state, state)
        status = api.call("GET", f"/v1/sandboxes/{sandbox_id}").json["status"]
        assert (status["reason"], status["message"]) == (reason, message)
        logs = api.call("GET", f"/v1/sandboxes/{sandbox_id}/diagnostics/logs?scope=all").json
        assert logs["content"] == "bye\n"
        assert logs["warnings"]
        assert api.call("POST", f"/v1/sandboxes/{sandbox_id}/pause").status == 409
        assert api.call("GET", f"/v1/sandboxes/{sandbox_id}/endpoints/44772").status == 200
        proxied = api.call("GET", f"/v1/sandboxes/{sandbox_id}/proxy/44772/ping")
        assert (proxied.status, proxied.json["code"]) == (500, "DOCKER::NETWORK_MODE_ENDPOINT_UNAVAILABLE")


def test_a_daemon_that_dies_takes_its_sandbox_with_it(api: Api, sandbox_id: str, execd: Execd) -> None:
    execd.start("sleep 1000 & echo $! > pid; echo $PPID > daemon; wait")
    work = directory_of(execd) / "work"
    sleeper = until(lambda: pids((work / "pid").read_text()) if (work / "pid").exists() else [], "the pid")[0]
    daemon = until(lambda: pids((work / "daemon").read_text()), "the daemon's pid")[0]
    os.kill(daemon, signal.SIGKILL)
    until(lambda: api.state(sandbox_id) == "Failed", "Failed")
    until(lambda: not is_running(sleeper), "the sleeper's end")
    status = api.call("GET", f"/v1/sandboxes/{sandbox_id}").json["status"]
    assert status["message"] == "Sandbox container exited with code 137."


# ends


def test_kill_ends_every_process_of_the_sandbox_and_removes_its_directory(api: Api) -> None:
    with api.sandbox() as sandbox_id:
        execd = api.execd(sandbox_id)
        directory = directory_of(execd)
        execd.start("echo $$ >> pids; sleep 1000")
        execd.run("(setsid sh -c 'echo $$ >> pids; exec sleep 1000' &) ; true")  # left its group and session
        execd.run("(env -i setsid sh -c 'echo $$ >> pids; exec sleep 1000' &) ; true")  # and its environment
        execd.run("(trap '' TERM HUP INT; echo $BASHPID >> pids; while :; do sleep 0.1; done) & true")
        execd.run("mkdir locked && touch locked/x && chmod 0 locked")
        found = until(lambda: _all_of(directory / "work" / "pids", 4), "four processes")
        assert all(is_running(pid) for pid in found)
        assert api.call("DELETE", f"/v1/sandboxes/{sandbox_id}").status == 204
        assert not any(is_running(pid) for pid in found)
        assert not directory.exists()
        assert api.state(sandbox_id) == "gone"


def _all_of(file: Path, count: int) -> Any:
    found = pids(file.read_text()) if file.exists() else []
    return found if len(found) == count else None


def test_kill_ends_a_paused_sandbox(api: Api, sandbox_id: str, execd: Execd) -> None:
    directory = directory_of(execd)
    execd.start("echo $$ > pids; sleep 1000")
    (pid,) = until(lambda: _all_of(directory / "work" / "pids", 1), "the process")
    assert api.call("POST", f"/v1/sandboxes/{sandbox_id}/pause").status == 202
    assert api.call("DELETE", f"/v1/sandboxes/{sandbox_id}").status == 204
    assert not is_running(pid)


def test_a_sandbox_ends_when_its_time_has_come_also_while_it_is_paused(api: Api, sandbox_id: str) -> None:
    execd = api.execd(sandbox_id)
    directory = directory_of(execd)
    execd.start("echo $$ > pids; sleep 1000")
    (pid,) = until(lambda: _all_of(directory / "work" / "pids", 1), "the process")
    assert api.call("POST", f"/v1/sandboxes/{sandbox_id}/pause").status == 202
    soon = datetime.now(timezone.utc) + timedelta(seconds=0.5)
    renewed = api.call("POST", f"/v1/sandboxes/{sandbox_id}/renew-expiration", {"expiresAt": soon.isoformat()})
    assert renewed.status == 200
    until(lambda: api.state(sandbox_id) == "gone", "the end")
    until(lambda: not is_running(pid) and not directory.exists(), "the end of what it had")


def test_renew_speaks_as_the_real_server(api: Api) -> None:
    def renew(sandbox_id: str, body: Any) -> Any:
        return api.call("POST", f"/v1/sandboxes/{sandbox_id}/renew-expiration", body)

    with api.sandbox(timeout=None) as manual, api.sandbox() as timed:
        assert "expiresAt" not in api.call("GET", f"/v1/sandboxes/{manual}").json
        answer = renew(manual, {"expiresAt": "2127-01-01T00:00:00Z"})
        assert (answer.status, answer.json["code"]) == (409, "DOCKER::INVALID_EXPIRATION")
        assert "does not have automatic expiration enabled" in answer.json["message"]
        assert renew("nope", {"expiresAt": "2020-01-01T00:00:00Z"}).status == 404
        assert renew(timed, {"expiresAt": 4954435200}).json == {"expiresAt": "2127-01-01T00:00:00Z"}
        assert renew(timed, {"expiresAt": "2127-01-01T02:00:00+02:00"}).json["expiresAt"] == "2127-01-01T00:00:00Z"
        assert renew(timed, {"expiresAt": "2127-01-01T00:00:00"}).json["expiresAt"] == "2127-01-01T00:00:00Z"
        wrong = renew(timed, {"expiresAt": "x"}).json["detail"][0]
        assert wrong["type"] == "datetime_from_date_parsing"
        assert wrong["loc"] == ["body", "expiresAt"]


# pause and resume


def test_pause_stops_every_process_and_resume_continues_only_those(api: Api, sandbox_id: str) -> None:
    execd = api.execd(sandbox_id)
    directory = directory_of(execd)
    execd.start("echo $$ >> pids; while :; do sleep 0.01; done")
    execd.run("(setsid sh -c 'echo $$ >> pids; while :; do sleep 0.01; done' &) ; true")
    execd.run("(setsid sh -c 'echo $$ > self; kill -STOP $$' &) ; true")
    found = until(lambda: _all_of(directory / "work" / "pids", 2), "two processes")
    (self_stopped,) = until(lambda: _all_of(directory / "work" / "self", 1), "the third")
    until(lambda: psutil.Process(self_stopped).status() == psutil.STATUS_STOPPED, "its own stop")
    assert api.call("POST", f"/v1/sandboxes/{sandbox_id}/pause").status == 202
    assert {psutil.Process(pid).status() for pid in found} == {psutil.STATUS_STOPPED}
    assert api.state(sandbox_id) == "Paused"
    assert api.call("POST", f"/v1/sandboxes/{sandbox_id}/resume").status == 202
    until(lambda: psutil.STATUS_STOPPED not in {psutil.Process(pid).status() for pid in found}, "the resume")
    assert psutil.Process(self_stopped).status() == psutil.STATUS_STOPPED
    assert execd.run("echo back") == "back\n"


def test_unknown_sandboxes_are_not_found_by_any_route(api: Api) -> None:
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("GET", "/endpoints/80"),
        ("GET", "/networkpolicy"),
        ("POST", "/snapshots"),
        ("GET", "/diagnostics/logs?scope=all"),
        ("GET", "/proxy/80/x"),
    ):
        for prefix in ("", "/v1"):
            answer = api.call(method, f"{prefix}/sandboxes/nope{path}")
            assert (answer.status, answer.json["code"]) == (404, "DOCKER::SANDBOX_NOT_FOUND"), (method, path)


# endpoints


def test_endpoints_say_where_each_port_is(api: Api) -> None:
    with api.sandbox(networkPolicy={}) as sandbox_id:

        def endpoint(port: Any, query: str = "") -> Dict[str, Any]:
            return dict(api.call("GET", f"/v1/sandboxes/{sandbox_id}/endpoints/{port}{query}").json)

        execd = endpoint(44772)
        assert set(execd["headers"]) == {"X-EXECD-ACCESS-TOKEN"}
        assert execd["endpoint"].endswith("/proxy/44772")
        assert call(execd["endpoint"], "GET", "/ping", headers=execd["headers"]).status == 200
        assert call(execd["endpoint"], "POST", "/command", {"command": "true"}).status == 401
        egress = endpoint(18080)
        assert set(egress["headers"]) == {"OPENSANDBOX-EGRESS-AUTH"}
        assert endpoint(8000) == {"endpoint": "127.0.0.1:8000"}
        proxied = f"{api.address}/v1/sandboxes/{sandbox_id}/proxy/"
        assert endpoint(8000, "?use_server_proxy=true") == {"endpoint": proxied + "8000"}
        assert endpoint(18080, "?use_server_proxy=1") == {**egress, "endpoint": proxied + "18080"}
        bare = api.call("GET", f"/sandboxes/{sandbox_id}/endpoints/80?use_server_proxy=true").json["endpoint"]
        assert bare == f"{api.address}/sandboxes/{sandbox_id}/proxy/80"


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("0", 400, "DOCKER::INVALID_PORT"),
        ("65536", 400, "DOCKER::INVALID_PORT"),
        ("x", 422, "int_parsing"),
        ("80?use_server_proxy=maybe", 422, "bool_parsing"),
        ("80?expires=x", 422, "int_parsing"),
        ("80?expires=5", 400, "SANDBOX::API_NOT_SUPPORTED"),
        ("80?expires=5&use_server_proxy=true", 400, "SANDBOX::INVALID_PARAMETER"),
    ],
)
def test_endpoints_refuse_before_they_look_for_the_sandbox(api: Api, path: str, status: int, told: str) -> None:
    answer = api.call("GET", f"/v1/sandboxes/nope/endpoints/{path}")
    body = answer.json
    assert (answer.status, body.get("code") or body["detail"][0]["type"]) == (status, told)


# lists and metadata


def test_a_list_is_filtered_by_state_whatever_its_case_and_by_metadata(api: Api) -> None:
    with api.sandbox(metadata={"t": "list", "n": "1"}) as one, api.sandbox(metadata={"t": "list", "n": "2"}) as two:
        api.call("POST", f"/v1/sandboxes/{two}/pause")

        def ids(query: str) -> Any:
            return [item["id"] for item in api.call("GET", f"/v1/sandboxes?{query}").json["items"]]

        assert ids("metadata=t%3Dlist") == [two, one]
        assert ids("metadata=t%3Dlist&state=running") == [one]
        assert ids("metadata=t%3Dlist&state=PAUSED&state=running") == [two, one]
        assert ids("metadata=t%3Dlist%26n%3D1") == [one]
        assert ids("metadata=%2574%3Dlist") == [two, one]  # clients encode a key, and then the whole again
        assert ids("metadata=t%3Dlist&state=moon") == []
        past = api.call("GET", "/v1/sandboxes?metadata=t%3Dlist&page=3&pageSize=1").json
        assert past["items"] == []
        assert past["pagination"] == {
            "page": 3,
            "pageSize": 1,
            "totalItems": 2,
            "totalPages": 2,
            "hasNextPage": False,
        }


def test_a_list_refuses_bad_pages_and_bad_filters(api: Api) -> None:
    answer = api.call("GET", "/v1/sandboxes?page=x&pageSize=201")
    assert [entry["type"] for entry in answer.json["detail"]] == ["int_parsing", "less_than_equal"]
    answer = api.call("GET", "/v1/sandboxes?metadata=a%3D1%26broken")
    assert (answer.status, answer.json["code"]) == (400, "INVALID_METADATA_FORMAT")


def test_metadata_is_merged_and_refused_with_two_different_codes(api: Api) -> None:
    with api.sandbox(metadata={"a": "1", "b": "2"}) as sandbox_id:

        def patch(body: Any) -> Any:
            return api.call("PATCH", f"/v1/sandboxes/{sandbox_id}/metadata", body)

        assert patch({"a": None, "c": "3", "not a label!": None}).json["metadata"] == {"b": "2", "c": "3"}
        assert patch({}).json["metadata"] == {"b": "2", "c": "3"}
        assert patch({"opensandbox.io/x": None}).json["code"] == "INVALID_METADATA_LABEL"
        assert patch({"x": "not a label!"}).json["code"] == "SANDBOX::INVALID_METADATA_LABEL"
        assert patch({"x": 5}).json["detail"][0]["type"] == "string_type"
        assert patch([]).json["detail"][0]["type"] == "dict_type"
        assert "metadata" not in patch({"b": None, "c": None}).json


# snapshots


def test_a_snapshot_is_restored_with_its_files_and_without_the_log(api: Api, sandbox_id: str) -> None:
    execd = api.execd(sandbox_id)
    execd.run("echo kept > file; ln -s file link; chmod 741 file; echo home > ~/h; echo tmp > $TMPDIR/t; mkfifo p")
    made = api.call("POST", f"/v1/sandboxes/{sandbox_id}/snapshots", {"name": "s1"}).json
    path = f"/v1/snapshots/{made['id']}"
    until(lambda: api.call("GET", path).json["status"]["state"] == "Ready", "the copy")
    execd.run("echo changed > file")
    with api.sandbox(image=None, entrypoint=None, snapshotId=made["id"]) as restored:
        copy = api.execd(restored)
        assert copy.run("cat link ~/h $TMPDIR/t; stat -c %a file; test -p p && ls") == (
            "kept\nhome\ntmp\n741\nfile\nlink\np\n"
        )
        shown = api.call("GET", f"/v1/sandboxes/{restored}").json
        assert shown["snapshotId"] == made["id"]
        assert "image" not in shown
        assert shown["entrypoint"] == ["tail", "-f", "/dev/null"]
    for query, found in ((f"sandboxId={sandbox_id}", 1), ("name=s1", 1), ("name=s", 0), ("state=ready", 0)):
        items = api.call("GET", f"/v1/snapshots?{query}&pageSize=200").json["items"]
        assert len([item for item in items if item["id"] == made["id"]]) == found, query
    assert api.call("DELETE", path).status == 204
    assert api.call("DELETE", path).json["code"] == "SNAPSHOT::NOT_FOUND"


def test_a_snapshot_is_refused_for_a_paused_sandbox_and_for_an_empty_name(api: Api, sandbox_id: str) -> None:
    path = f"/v1/sandboxes/{sandbox_id}/snapshots"
    assert api.call("POST", path, {"name": ""}).json["detail"][0]["loc"] == ["body", "name"]
    api.call("POST", f"/v1/sandboxes/{sandbox_id}/pause")
    answer = api.call("POST", path)
    assert (answer.status, answer.json["code"]) == (409, "SNAPSHOT::INVALID_SOURCE_STATE")


def test_a_sandbox_runs_on_after_its_snapshot(api: Api, sandbox_id: str) -> None:
    execd = api.execd(sandbox_id)
    made = api.call("POST", f"/v1/sandboxes/{sandbox_id}/snapshots").json
    assert "name" not in made
    until(lambda: api.call("GET", f"/v1/snapshots/{made['id']}").json["status"]["state"] == "Ready", "the copy")
    assert execd.run("echo on") == "on\n"
    assert api.call("DELETE", f"/v1/snapshots/{made['id']}").status == 204


# the rest


def test_events_tell_what_has_happened(api: Api, sandbox_id: str) -> None:
    for verb in ("pause", "resume"):
        api.call("POST", f"/v1/sandboxes/{sandbox_id}/{verb}")
    path = f"/v1/sandboxes/{sandbox_id}/diagnostics/events"
    content = api.call("GET", f"{path}?scope=ALL").json["content"]
    assert [line.split()[1].rstrip(":") for line in content.splitlines()[4:]] == ["started", "paused", "resumed"]
    old = api.call("GET", path)
    assert old.headers["deprecation"] == "true"
    assert old.headers["content-type"] == "text/plain; charset=utf-8"


def test_telemetry_is_taken_and_forgotten(api: Api) -> None:
    answer = api.call("POST", "/v1/metrics/events", {"eventType": "sandbox.create"})
    assert (answer.status, answer.body) == (204, b"")
    assert api.call("POST", "/metrics/events", {}).status == 404


def test_what_needs_kubernetes_says_so(api: Api) -> None:
    for method, path in (("POST", "/pools"), ("PUT", "/pools/a"), ("DELETE", "/pools/a")):
        assert api.call(method, f"/v1{path}", {}).json["code"] == "KUBERNETES::POOL_NOT_SUPPORTED"
    for method, path in (("POST", "/templates"), ("DELETE", "/templates/a")):
        answer = api.call(method, path, {})
        assert (answer.status, answer.json["code"]) == (501, "FSB::API_NOT_SUPPORTED")


def test_many_sandboxes_are_made_at_once(api: Api) -> None:
    with ThreadPoolExecutor(32) as pool:
        made = list(pool.map(lambda n: api.create(metadata={"many": "y"})["id"], range(32)))
        try:
            said = list(pool.map(lambda sandbox_id: api.execd(sandbox_id).run("echo $OPENSANDBOX_ID"), made))
            assert said == [f"{sandbox_id}\n" for sandbox_id in made]
        finally:
            ended = list(pool.map(lambda i: api.call("DELETE", f"/v1/sandboxes/{i}").status, made))
    assert ended == [204] * 32
