"""Code on Jupyter kernels, metrics, and what the daemon says of what it does not have."""

from __future__ import annotations

import http.client
import http.server
import json
import queue
import subprocess
import sys
from typing import Any, List

import psutil
import pytest

from opensandbox_sync.local.execd.kernels import Context, Frames

from .execd_daemon import Event, Execd, execd, output, without_pings
from .http_api import until

__all__ = ["execd"]


@pytest.fixture(scope="module")
def context(execd: Execd) -> str:
    made = execd.call("POST", "/code/context", {"language": "python", "cwd": "/usr"}).json
    assert list(made) == ["id", "language", "cwd"]
    return str(made["id"])


def run(execd: Execd, code: str, context: str = "") -> List[Event]:
    return execd.events("/code", {"context": {"language": "python", "id": context}, "code": code})


def kinds(events: List[Event]) -> List[str]:
    return [event["type"] for event in without_pings(events)]


def test_output_and_a_result_and_its_count(execd: Execd, context: str) -> None:
    events = run(execd, "import os, sys\nprint(os.getcwd())\nprint('e', file=sys.stderr)\n6 * 7", context)
    assert events[0]["text"] == context
    assert output(events) == "/usr\n"
    assert output(events, "stderr") == "e\n"
    assert kinds(events)[-3:] == ["execution_count", "result", "execution_complete"]
    assert without_pings(events)[-2]["results"] == {"text": "42"}


def test_a_statement_has_neither_result_nor_count(execd: Execd, context: str) -> None:
    assert kinds(run(execd, "x = 1", context)) == ["init", "execution_complete"]
    assert output(run(execd, "print(x)", context)) == "1\n"


def test_rich_results_keep_every_type(execd: Execd, context: str) -> None:
    code = "class R:\n    def _repr_html_(self): return '<b>é</b>'\n    def __repr__(self): return 'R'\nR()"
    (result,) = [event for event in run(execd, code, context) if event["type"] == "result"]
    assert result["results"] == {"text": "R", "text/html": "<b>é</b>"}


def test_an_exception_is_an_error_and_the_end_comes_behind_it(execd: Execd, context: str) -> None:
    events = run(execd, "1 / 0", context)
    assert kinds(events) == ["init", "status", "error", "execution_complete"]
    error = without_pings(events)[2]["error"]
    assert (error["ename"], error["evalue"]) == ("ZeroDivisionError", "division by zero")
    assert error["traceback"]


def test_code_gets_no_input(execd: Execd, context: str) -> None:
    (error,) = [event["error"] for event in run(execd, "input()", context) if event["type"] == "error"]
    assert error["ename"] == "StdinNotImplementedError"


def test_a_busy_context_says_so_and_an_interrupt_frees_it(execd: Execd, context: str) -> None:
    body = {
        "context": {"language": "python", "id": context},
        "code": "print('on', flush=True)\nimport time\ntime.sleep(60)",
    }
    with execd.stream("/code", body) as events:
        while next(events)["type"] != "stdout":
            pass
        busy = run(execd, "1", context)[-1]
        assert busy == {"code": "RUNTIME_ERROR", "message": "error running codes session is busy"}
        assert execd.call("DELETE", f"/code?id={context}").status == 200
        rest = list(events)
    assert "KeyboardInterrupt" in [event.get("error", {}).get("ename") for event in rest]


def test_code_runs_on_when_its_reader_has_gone(execd: Execd, context: str) -> None:
    code = "import pathlib, time\nwhile not pathlib.Path(GO).exists(): time.sleep(0.01)\nseen = True"
    go = execd.directory / "tmp" / "go"
    body = {"context": {"language": "python", "id": context}, "code": code.replace("GO", repr(str(go)))}
    with execd.stream("/code", body) as events:
        assert next(events)["type"] == "init"
    until(lambda: "code" in run(execd, "1", context)[-1], "the code to be running")
    go.touch()
    until(lambda: output(run(execd, "print(seen)", context)) == "True\n", "its end")


def test_languages_have_a_default_context_each(execd: Execd) -> None:
    first, second = run(execd, "y = 5"), run(execd, "print(y)")
    assert first[0]["text"] == second[0]["text"]
    assert output(second) == "5\n"
    listed = execd.call("GET", "/code/contexts?language=python").json
    assert execd.call("DELETE", "/code/contexts?language=sql").status == 200  # of which there are none
    assert {"id": first[0]["text"], "language": "python"} in listed
    assert execd.call("GET", "/code/contexts?language=go").json == []


def test_a_dead_kernel_is_told_and_started_again(execd: Execd) -> None:
    context = run(execd, "z = 1")[0]["text"]
    died = run(execd, "import os; os.kill(os.getpid(), 9)")[-1]
    assert died == {"code": "RUNTIME_ERROR", "message": "error running codes kernel died"}
    events = run(execd, "'z' in globals()")
    assert events[0]["text"] == context
    assert without_pings(events)[-2]["results"] == {"text": "False"}
    daemon = psutil.Process(execd.process.pid)
    before = daemon.num_fds(), daemon.num_threads()
    run(execd, "os.kill(os.getpid(), 9)")
    assert kinds(run(execd, "import os")) == ["init", "execution_complete"]
    until(lambda: (daemon.num_fds(), daemon.num_threads()) <= before, "what the dead one held to be given back")


def test_code_ends_also_where_its_last_word_is_lost() -> None:
    """ZeroMQ's publishers drop what their subscriber does not take in time; seen with output of many megabytes."""

    output = {"parent_header": {"msg_id": "1"}, "msg_type": "stream", "content": {"name": "stdout", "text": "a"}}
    said, replies = [output], [{"parent_header": {"msg_id": number}} for number in ("0", "1")]

    def taken(waiting: List[Any]) -> Any:
        if not waiting:
            raise queue.Empty
        return waiting.pop(0)

    class Client:
        def get_iopub_msg(self, timeout: float) -> Any:
            return taken(said)

        def get_shell_msg(self, timeout: float) -> Any:
            return taken(replies)

    class Manager:
        def is_alive(self) -> bool:
            return True

    context, frames = Context.__new__(Context), Frames()
    context._client, context._manager = Client(), Manager()
    assert context._follow("1", frames)
    assert json.loads(frames.next(0) or b"")["text"] == "a"
    assert replies == []


def test_contexts_are_made_and_deleted(execd: Execd) -> None:
    made = execd.call("POST", "/code/context", {"language": "python"}).json
    path = "/code/contexts/" + made["id"]
    assert execd.call("GET", path).json == made
    pid = int(output(run(execd, "import os; print(os.getpid())", made["id"])))
    assert execd.call("DELETE", path).status == 200
    until(lambda: not psutil.pid_exists(pid), "the kernel's end")
    for method in ("GET", "DELETE"):
        reply = execd.call(method, path)
        assert (reply.status, reply.json["code"]) == (404, "CONTEXT_NOT_FOUND")
    unknown = execd.call("POST", "/code", {"context": {"language": "python", "id": made["id"]}, "code": "1"})
    assert unknown.json["message"] == "error running codes context not found"


@pytest.mark.parametrize("language", ["", "command"])
def test_no_language_is_a_shell_command(execd: Execd, language: str) -> None:
    body = {"context": {"language": language}, "code": "echo $0; exit 3"}
    events = execd.events("/code", body)
    assert output(events) == "bash\n"
    assert events[-1]["error"]["evalue"] == "3"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "message"),
    [
        (
            "POST",
            "/code",
            {"context": {"language": "ruby"}, "code": "1"},
            500,
            "RUNTIME_ERROR",
            "unknown language: ruby",
        ),
        ("POST", "/code", {"context": {"language": "python"}}, 400, "INVALID_REQUEST_BODY", "'required' tag"),
        ("POST", "/code/context", {"language": "ruby"}, 500, "RUNTIME_ERROR", "error creating code context. "),
        ("DELETE", "/code/contexts", None, 400, "MISSING_QUERY", "missing query parameter 'language'"),
        (
            "GET",
            "/code/contexts?language=sql",
            None,
            500,
            "RUNTIME_ERROR",
            "unsupported language context operation: sql",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    execd: Execd, method: str, path: str, body: Any, status: int, code: str, message: str
) -> None:
    reply = execd.call(method, path, body)
    assert (reply.status, reply.json["code"]) == (status, code)
    assert message in reply.json["message"]


def test_without_jupyter_code_says_what_is_missing() -> None:
    program = (
        "import sys; sys.modules['jupyter_client'] = None\n"
        "from opensandbox_sync.local.execd.kernels import KernelError, _kernel_for\n"
        "try: _kernel_for('python')\n"
        "except KernelError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "language runtime server not configured, please check your image runtime\n"


def test_metrics_are_this_machine_s(execd: Execd) -> None:
    found = execd.call("GET", "/metrics").json
    assert list(found) == ["cpu_count", "cpu_used_pct", "mem_total_mib", "mem_used_mib", "timestamp"]
    assert found["cpu_count"] == psutil.cpu_count()
    assert found["mem_total_mib"] == pytest.approx(psutil.virtual_memory().total / 2**20)
    assert 0 < found["mem_used_mib"] < found["mem_total_mib"]
    assert 0 <= found["cpu_used_pct"] <= 100


def test_watched_metrics_are_lines_of_json(execd: Execd) -> None:
    connection = http.client.HTTPConnection(execd.address, timeout=30)
    connection.request("GET", "/metrics/watch", headers=execd.headers)
    response = connection.getresponse()
    assert response.getheader("content-type") == "text/event-stream"
    first, second = (json.loads(response.readline()) for _ in range(2))
    connection.close()
    assert second["timestamp"] > first["timestamp"]
    assert list(first) == ["cpu_count", "cpu_used_pct", "mem_total_mib", "mem_used_mib", "timestamp"]


def test_isolation_is_not_here_and_says_so(execd: Execd) -> None:
    assert execd.call("GET", "/v1/isolated/capabilities").json["available"] is False
    for method, path in [
        ("POST", "session"),
        ("GET", "sessions"),
        ("POST", "session/x/run"),
        ("GET", "session/x/runs/y/logs"),
        ("GET", "session/x/files/info"),
    ]:
        reply = execd.call(method, "/v1/isolated/" + path)
        assert (reply.status, reply.json["code"]) == (503, "SERVICE_UNAVAILABLE")
