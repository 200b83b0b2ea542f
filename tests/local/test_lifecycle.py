"""Sandboxes of the embedded server as processes: what their states, ends, clocks, copies and lists really do."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Dict, List, Tuple

import psutil
import pytest

from opensandbox_sync.local.directories import remove_tree
from opensandbox_sync.local.lifecycle.sandboxes import Registry

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
    execd.start("sleep 1000 & echo $PPID > daemon; echo $! > pid; wait")
    work = directory_of(execd) / "work"
    sleeper = until(lambda: pids((work / "pid").read_text()) if (work / "pid").exists() else [], "the pid")[0]
    daemon = until(lambda: pids((work / "daemon").read_text()), "the daemon's pid")[0]
    os.kill(daemon, signal.SIGKILL)
    until(lambda: api.state(sandbox_id) == "Failed", "Failed")
    until(lambda: not is_running(sleeper), "the sleeper's end")
    status = api.call("GET", f"/v1/sandboxes/{sandbox_id}").json["status"]
    assert status["message"] == "Sandbox container exited with code 137."


def test_the_daemons_end_is_seen_also_where_something_else_holds_its_output(api: Api) -> None:
    with api.sandbox() as sandbox_id:
        execd = api.execd(sandbox_id)
        with contextlib.suppress(OSError, http.client.HTTPException):
            execd.run("setsid sleep 1000 > /proc/$PPID/fd/1 & kill -9 $PPID")
        until(lambda: api.state(sandbox_id) == "Failed", "Failed")


def test_a_sandbox_that_cannot_be_ended_does_not_keep_the_others_from_their_end(tmp_path: Path) -> None:
    ended = []

    class Expired:
        expires = datetime(2020, 1, 1, tzinfo=timezone.utc)

        def __init__(self, name: str) -> None:
            self.id = name

        def kill(self) -> None:
            if self.id == "a":
                raise RecursionError
            ended.append(self.id)

    registry = Registry(tmp_path, None)
    registry._sandboxes.update({name: Expired(name) for name in "ab"})  # type: ignore[misc]
    expiring = threading.Thread(target=registry.expire_forever, args=(lambda: None,))
    expiring.start()
    until(lambda: ended == ["b"], "the end of the second one")
    assert expiring.is_alive()
    registry.close()
    expiring.join(20)


def test_what_commands_tell_in_the_daemons_name_is_not_believed_blindly(api: Api) -> None:
    with api.sandbox() as sandbox_id:
        execd = api.execd(sandbox_id)
        execd.run(
            """printf '{"entrypoint":"exited"}\\n[[1]]\\n{"entrypoint":"exited","code":[]}\\nx\\n' > /proc/$PPID/fd/1"""
        )
        execd.run("{ head -c 300000 /dev/zero; echo; } > /proc/$PPID/fd/1")
        assert execd.run("echo here") == "here\n"
        assert api.state(sandbox_id) == "Running"
        with contextlib.suppress(OSError, http.client.HTTPException):  # the answer may end with all the rest
            execd.run("pkill -P $PPID tail")  # the entrypoint
        until(lambda: api.state(sandbox_id) == "Failed", "the news of its end")


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


def test_a_tree_that_is_deeper_than_any_path_may_be_is_removed(tmp_path: Path) -> None:
    deep = tmp_path / "0"
    deep.mkdir()
    for number in range(1, 1500):
        above = tmp_path / str(number)
        above.mkdir()
        (above / "file").touch()
        deep.rename(above / "below")
        deep = above
    (deep / "link").symlink_to(tmp_path)
    (tmp_path / "besides").touch()
    remove_tree(deep)
    assert [path.name for path in tmp_path.iterdir()] == ["besides"]


def test_a_tree_is_removed_that_closed_itself(tmp_path: Path) -> None:
    for name in ("tree/a/b/c", "tree/d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "tree" / "a" / "b" / "file").touch()
    for name in ("tree/a/b/c", "tree/a/b", "tree/a", "tree/d", "tree"):
        (tmp_path / name).chmod(0)
    remove_tree(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []


# It is another process every millisecond, in a session of its own, and has no parent.
_FORKING = """
import os, sys, time
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
    open(sys.argv[2], "w").close()
    time.sleep(0.001)
"""


@pytest.mark.parametrize("how", ["it killed its daemon", "it killed its daemon just now", "its daemon lives"])
def test_what_left_session_environment_and_parent_ends_with_the_sandbox(api: Api, how: str, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    with api.sandbox() as sandbox_id, api.sandbox() as other:
        execd = api.execd(sandbox_id)
        directory = directory_of(execd)
        daemon = psutil.Process(int(execd.run("echo $PPID")))
        server = daemon.parent()
        execd.run(f"cat > fork.py <<'E'\n{_FORKING}\nE")
        execd.start("env -i setsid sh -c 'echo $$ >> pids; exec sleep 6661'")
        execd.start(f"env -i setsid {sys.executable} fork.py {sandbox_id} {alive}")
        (pid,) = until(lambda: _all_of(directory / "work" / "pids", 1), "the process")
        until(alive.exists, "the other")
        if how != "its daemon lives":
            execd.start("sleep 0.1; kill -9 $PPID")
            until(lambda: not is_running(daemon.pid), "the daemon's end")
        if how == "it killed its daemon":
            until(lambda: api.state(sandbox_id) == "Failed", "Failed")
            until(lambda: not is_running(pid), "the end of what it had")
        assert api.call("DELETE", f"/v1/sandboxes/{sandbox_id}").status == 204
        assert not is_running(pid)
        last = alive.stat().st_mtime_ns
        for _ in range(20):
            assert _with_argument(sandbox_id) == []
        assert alive.stat().st_mtime_ns == last
        # Nor does it leave corpses, and it takes nobody else with it.
        assert [child for child in server.children() if child.status() == psutil.STATUS_ZOMBIE] == []
        assert api.execd(other).run("echo here") == "here\n"


def _with_argument(argument: str) -> List[int]:
    return [process.pid for process in psutil.process_iter(["cmdline"]) if argument in (process.info["cmdline"] or ())]


_WITHOUT_ITS_FIRST_THREAD = """
import ctypes, os, platform, threading, time
with open("pids", "a") as file:
    print(os.getpid(), file=file)
threading.Thread(target=time.sleep, args=(1000,)).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)
"""


def test_kill_ends_a_process_whose_first_thread_has_ended(api: Api) -> None:
    with api.sandbox() as sandbox_id:
        execd = api.execd(sandbox_id)
        execd.start(f"{sys.executable} -c '{_WITHOUT_ITS_FIRST_THREAD}'")
        (pid,) = until(lambda: _all_of(directory_of(execd) / "work" / "pids", 1), "the process")
        until(lambda: not is_running(pid), "the end of its first thread")
        assert Path(f"/proc/{pid}/task").exists()
        assert psutil.Process(pid).num_threads() == 2
    until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the other", 5)


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
        assert renew(timed, {"expiresAt": "2127-01-01T00:00:00.1234567891Z"}).json["expiresAt"].endswith(".123456Z")
        assert renew(timed, {"expiresAt": "0001-01-01T00:00:00+10:00"}).json["code"] == "DOCKER::INVALID_EXPIRATION"


@pytest.mark.parametrize(
    ("value", "kind", "why"),
    [
        ("x", "datetime_from_date_parsing", "input is too short"),
        ("2035-13-01", "datetime_from_date_parsing", "month value is outside expected range of 1-12"),
        ("2035-02-30T00:00:00Z", "datetime_from_date_parsing", "day value is outside expected range"),
        ("2035/02/03", "datetime_from_date_parsing", "invalid date separator, expected `-`"),
        ("9" * 30, "datetime_from_date_parsing", "invalid date separator, expected `-`"),
        ("2035-01-01T24:00:00Z", "datetime_from_date_parsing", "unexpected extra characters at the end of the input"),
        ("2035-01-01T20:61:00Z", "datetime_from_date_parsing", "unexpected extra characters at the end of the input"),
        ("2035-01-01T20:01:01+99:00", "datetime_from_date_parsing", "unexpected extra characters at the end"),
        (1e30, "datetime_parsing", "dates after 9999 are not supported as unix timestamps"),
        (-(10**400), "datetime_parsing", "dates before 0000 are not supported as unix timestamps"),
    ],
)
def test_a_time_that_is_none_is_told_as_pydantic_tells_it(api: Api, value: Any, kind: str, why: str) -> None:
    answer = api.call("POST", "/v1/sandboxes/x/renew-expiration", {"expiresAt": value})
    (detail,) = answer.json["detail"]
    assert (answer.status, detail["type"], detail["loc"]) == (422, kind, ["body", "expiresAt"])
    assert why in detail["msg"]
    assert detail["ctx"]["error"] in detail["msg"]


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
    # A shell whose child was stopped between its vfork and its exec waits for it, and is told as waiting for a disk.
    still = {psutil.STATUS_STOPPED, psutil.STATUS_DISK_SLEEP}
    until(lambda: {psutil.Process(pid).status() for pid in found} <= still, "all are stopped")
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
        ("GET", "/diagnostics/inspect"),
        ("GET", "/diagnostics/summary"),
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
    assert api.call("GET", "/v1/sandboxes?page=x&page=3").json["pagination"]["page"] == 3  # the last one counts
    assert api.call("GET", "/v1/sandboxes?metadata=a%3D1&metadata=broken").status == 400
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


def test_an_inspection_and_a_summary_tell_what_is_known(api: Api) -> None:
    with api.sandbox(metadata={"job": "j1"}, entrypoint=["sh", "-c", "seq 9; sleep 60"], env={"TOKEN": "hush"}) as made:
        path = f"/v1/sandboxes/{made}/diagnostics"
        until(lambda: "9\n" in api.call("GET", path + "/logs").body.decode(), "the log")
        inspected, summary = api.call("GET", path + "/inspect"), api.call("GET", path + "/summary?tail=3&event_limit=1")
        for answer in (inspected, summary):
            assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
            for fact in (made, "python:3.12", "running", "job=j1"):
                assert fact in answer.body.decode()
            assert b"hush" not in answer.body
        assert summary.body.decode().endswith("\nLOGS (last 3 lines)\n" + "-" * 40 + "\n7\n8\n9\n\n")
        assert [api.call("GET", f"{path}/summary?{q}=0").status for q in ("tail", "event_limit")] == [422, 422]


def test_the_older_logs_and_events_are_as_long_as_asked(api: Api) -> None:
    with api.sandbox(entrypoint=["sh", "-c", "seq 200; sleep 60"]) as made:
        path = f"/v1/sandboxes/{made}/diagnostics"
        until(lambda: "200\n" in api.call("GET", path + "/logs").body.decode(), "the log")
        assert api.call("GET", path + "/logs?tail=5&tail=2&since=1h").body == b"199\n200\n"
        assert api.call("GET", path + "/logs").body.startswith(b"101\n")
        stable = api.call("GET", path + "/logs?scope=all").json
        assert (stable["truncated"], stable["content"][:4]) == (True, "101\n")
        for verb in ("pause", "resume"):
            api.call("POST", f"/v1/sandboxes/{made}/{verb}")
        assert api.call("GET", path + "/events?limit=1").body.decode().split()[-1] == "resumed"
        assert b"paused" not in api.call("GET", path + "/events?limit=1").body


def test_a_log_that_is_older_than_asked_for_is_none(api: Api, sandbox_id: str, execd: Execd) -> None:
    path = f"/v1/sandboxes/{sandbox_id}/diagnostics/logs"
    log = directory_of(execd) / "entrypoint.log"
    log.write_text("old\n")
    os.utime(log, (0, 0))
    for since in ("90s", "nonsense"):
        assert api.call("GET", f"{path}?since={since}").body == b"(no logs)"
    assert api.call("GET", path).body == b"old\n"


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ("logs?tail=0", "greater_than_equal"),
        ("logs?tail=10001", "less_than_equal"),
        ("logs?tail=x&scope=moon", "int_parsing"),
        ("events?limit=0", "greater_than_equal"),
        ("events?limit=501", "less_than_equal"),
    ],
)
def test_the_older_parameters_are_checked_first(api: Api, route: str, kind: str) -> None:
    answer = api.call("GET", f"/v1/sandboxes/nope/diagnostics/{route}")
    assert (answer.status, answer.json["detail"][0]["type"]) == (422, kind)


def test_of_several_scopes_the_last_counts(api: Api) -> None:
    answer = api.call("GET", "/v1/sandboxes/nope/diagnostics/logs?scope=all&scope=moon")
    assert answer.json["code"] == "DIAGNOSTICS_SCOPE_UNSUPPORTED"


def test_telemetry_is_taken_and_forgotten(api: Api) -> None:
    event = {"eventType": "sandbox.create", "createDurationMs": 5, "success": True}
    answer = api.call("POST", "/v1/metrics/events", event)
    assert (answer.status, answer.body) == (204, b"")
    for wrong, kind in (({"eventType": "x"}, "literal_error"), ({"createDurationMs": -1}, "greater_than_equal")):
        answer = api.call("POST", "/v1/metrics/events", {**event, **wrong})
        assert (answer.status, answer.json["detail"][0]["type"]) == (422, kind)
    assert api.call("POST", "/metrics/events", {}).status == 404


CAPACITY = {"capacitySpec": {"bufferMax": 1, "bufferMin": 0, "poolMax": 1, "poolMin": 0}}
TEMPLATE = {"image": "i", "publish": "s3://b"}


def test_what_needs_kubernetes_says_so(api: Api) -> None:
    pool = {"name": "a", "template": {"spec": {}}, **CAPACITY}
    for method, path, body in (
        ("POST", "", pool),
        ("PUT", "/a", CAPACITY),
        ("GET", "/a", None),
        ("DELETE", "/a", None),
    ):
        answer = api.call(method, "/v1/pools" + path, body)
        assert (answer.status, answer.json["code"]) == (501, "KUBERNETES::POOL_NOT_SUPPORTED")
    for method, path, body in (("POST", "", TEMPLATE), ("GET", "?page=2", None), ("DELETE", "/a", None)):
        answer = api.call(method, "/templates" + path, body)
        assert (answer.status, answer.json["code"]) == (501, "FSB::API_NOT_SUPPORTED")


@pytest.mark.parametrize(
    ("method", "path", "body", "problems"),
    [
        ("POST", "/pools", {}, [("missing", "name"), ("missing", "template"), ("missing", "capacitySpec")]),
        (
            "POST",
            "/pools",
            {"name": "A", "template": 3, **CAPACITY},
            [("string_pattern_mismatch", "name"), ("dict_type", "template")],
        ),
        ("PUT", "/pools/x", {}, [("missing", "capacitySpec")]),
        (
            "PUT",
            "/pools/x",
            {"capacitySpec": {**CAPACITY["capacitySpec"], "poolMax": -1}},
            [("greater_than_equal", "poolMax")],
        ),
        ("POST", "/templates", {}, [("missing", "image"), ("missing", "publish")]),
        ("POST", "/templates", {**TEMPLATE, "nope": 1}, [("extra_forbidden", "nope")]),
        (
            "POST",
            "/templates",
            {**TEMPLATE, "readiness": {"warmupSeconds": -1}, "format": "z"},
            [("greater_than_equal", "warmupSeconds"), ("literal_error", "format")],
        ),
        ("GET", "/templates?page=0", None, [("greater_than_equal", "page")]),
    ],
)
def test_what_needs_kubernetes_is_checked_first(
    api: Api, method: str, path: str, body: Any, problems: List[Tuple[str, str]]
) -> None:
    answer = api.call(method, "/v1" + path, body)
    assert answer.status == 422
    assert [(entry["type"], entry["loc"][-1]) for entry in answer.json["detail"]] == problems


def test_many_sandboxes_are_made_at_once(api: Api) -> None:
    with ThreadPoolExecutor(32) as pool:
        made = list(pool.map(lambda n: api.create(metadata={"many": "y"})["id"], range(32)))
        try:
            said = list(pool.map(lambda sandbox_id: api.execd(sandbox_id).run("echo $OPENSANDBOX_ID"), made))
            assert said == [f"{sandbox_id}\n" for sandbox_id in made]
        finally:
            ended = list(pool.map(lambda i: api.call("DELETE", f"/v1/sandboxes/{i}").status, made))
    assert ended == [204] * 32
