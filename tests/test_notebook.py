"""Jupyter: a real kernel runs the notebook of the examples and cells of ours; objects show themselves, escaped."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from opensandbox_sync import Execution, NetworkPolicy, NetworkRule, SandboxClient, ServerEvent
from opensandbox_sync.execution import ExecutionResult
from opensandbox_sync.models import ImageSpec, SandboxInfo, SandboxStatus
from opensandbox_sync.services.egress import EgressStatus
from opensandbox_sync.services.file_wire import FileInfo, FileList

from .conftest import until

pytest.importorskip("nbclient")
pytest.importorskip("jupyter_client")

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
EVIL = "<script>alert('x')</script>&\"'"

# Not ours: what Jupyter's own packages warn of, in this process.
pytestmark = pytest.mark.filterwarnings("ignore")


# -- a kernel, as a page talks to it -----------------------------------------------------------------------------------


class Cell:
    """A cell that was sent to the kernel: what it shows as it comes, and how it ended."""

    def __init__(self, client: Any, source: str) -> None:
        self._client = client
        self._id = client.execute(source, allow_stdin=False)
        self.outputs: List[Dict[str, Any]] = []
        self.over = False

    def read(self) -> None:
        """Take one message."""
        try:
            message = self._client.get_iopub_msg(timeout=60)
        except queue.Empty:
            raise AssertionError(f"the kernel fell silent after {self.outputs}") from None
        if message["parent_header"].get("msg_id") != self._id:
            return
        if message["msg_type"] == "status":
            self.over = message["content"]["execution_state"] == "idle"
        elif message["msg_type"] in ("stream", "display_data", "execute_result", "error"):
            self.outputs.append({"type": message["msg_type"], **message["content"]})

    def text(self, name: str) -> str:
        return "".join(output["text"] for output in self.outputs if output.get("name") == name)

    def read_until(self, condition: Callable[[], Any]) -> None:
        while not condition():
            assert not self.over, self.outputs
            self.read()

    def end(self) -> Dict[str, Any]:
        """Read to the end; the kernel's answer."""
        while not self.over:
            self.read()
        while True:
            reply = self._client.get_shell_msg(timeout=60)
            if reply["parent_header"].get("msg_id") == self._id:
                return dict(reply["content"])


class Kernel:
    def __init__(self, manager: Any, client: Any) -> None:
        self.manager = manager
        self.client = client

    def send(self, source: str) -> Cell:
        return Cell(self.client, source)

    def run(self, source: str) -> Cell:
        """Run a cell that must not fail."""
        cell = self.send(source)
        assert cell.end()["status"] == "ok", cell.outputs
        return cell

    def value(self, expression: str) -> Any:
        return json.loads(self.run(f"import json; print(json.dumps({expression}))").text("stdout"))


@pytest.fixture(scope="module")
def kernel_environment(settings: Dict[str, Any]) -> Dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OPEN_SANDBOX_DOMAIN": settings["domain"],
        "OPEN_SANDBOX_API_KEY": settings["api_key"] or "",
    }


@pytest.fixture(scope="module")
def kernel(kernel_environment: Dict[str, str], image: str) -> Iterator[Kernel]:
    """A kernel with the extension loaded and a sandbox at hand."""
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env=kernel_environment)
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        kernel = Kernel(manager, client)
        kernel.run("%load_ext opensandbox_sync")
        kernel.run(f"box = %sandbox create {image}")
        yield kernel
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
        manager.cleanup_resources()
        for context in (manager.context, client.context):  # else the collector warns of them, on Python 3.8
            context.destroy(linger=0)


def test_output_arrives_before_the_cell_ends_and_errors_stand_apart(kernel: Kernel, client: SandboxClient) -> None:
    box = client.connect(kernel.value("box.id"))
    cell = kernel.send("%%sandbox\necho first; echo wrong >&2; until [ -e go ]; do sleep 0.02; done; echo last")
    cell.read_until(lambda: "first" in cell.text("stdout") and "wrong" in cell.text("stderr"))
    assert not cell.over
    assert "last" not in cell.text("stdout")
    box.files.write("go", "")
    assert cell.end()["status"] == "ok"
    assert cell.text("stdout") == "first\nlast\n"
    assert cell.text("stderr") == "wrong\n"
    box.files.remove("go")


def test_the_execution_is_in_the_variable_that_was_named(kernel: Kernel) -> None:
    kernel.run("%%sandbox --out found\necho kept")
    assert kernel.value("[found.stdout, found.exit_code]") == ["kept\n", 0]


def test_a_run_that_fails_is_an_error_of_one_line(kernel: Kernel) -> None:
    cell = kernel.send("%%sandbox --out found\necho said; exit 3")
    reply = cell.end()
    assert (reply["status"], reply["ename"]) == ("error", "CommandError")
    assert cell.text("stdout") == "said\n"
    (error,) = [output for output in cell.outputs if output["type"] == "error"]
    (line,) = error["traceback"]
    assert line.startswith("CommandError: exit code 3")
    assert kernel.value("found.exit_code") == 3


def test_a_failure_may_be_left_to_the_exit_code(kernel: Kernel) -> None:
    kernel.run("%%sandbox --out found --no-raise-error\nexit 4")
    assert kernel.value("found.exit_code") == 4


def test_the_stop_button_ends_the_command_and_the_cells_after_it(kernel: Kernel, client: SandboxClient) -> None:
    box = client.connect(kernel.value("box.id"))
    cell = kernel.send("%%sandbox --out found\necho $$; sleep 600")
    after = kernel.send("ran_on = True")
    cell.read_until(lambda: cell.text("stdout").endswith("\n"))
    pid = int(cell.text("stdout"))
    kernel.manager.interrupt_kernel()
    reply = cell.end()
    assert (reply["status"], reply["ename"]) == ("error", "CellStopped")
    (error,) = [output for output in cell.outputs if output["type"] == "error"]
    assert error["traceback"] == [f"stopped: the command in sandbox {box.id} was asked to end"]
    until(lambda: not box.commands.run(f"kill -0 {pid}").ok, "the remote process is gone")
    assert after.end()["status"] in ("aborted", "error")
    assert kernel.value("['ran_on' in globals(), found.stdout]") == [False, f"{pid}\n"]
    assert kernel.run("%%sandbox\necho usable").text("stdout") == "usable\n"


def test_code_runs_in_a_context_that_keeps_its_state(kernel: Kernel) -> None:
    kernel.run("%%sandbox --code python\nkept = 20")
    cell = kernel.run("%%sandbox --code python --out found\nprint('said')\nkept + 1")
    assert cell.text("stdout") == "said\n"
    assert [output["data"]["text/plain"] for output in cell.outputs if output["type"] == "display_data"] == ["21"]
    assert kernel.value("found.text") == "21"
    failed = kernel.send("%%sandbox --code python\nkept / 0")
    assert failed.end()["status"] == "error"
    (error,) = [output for output in failed.outputs if output["type"] == "error"]
    assert "ZeroDivisionError" in "".join(error["traceback"])
    assert not any("opensandbox_sync" in line for line in error["traceback"])


def test_code_that_is_stopped_keeps_its_context_if_it_ends(kernel: Kernel) -> None:
    kernel.run("%%sandbox --code python\nstate = 'kept'")
    for source, says in [
        ("import time\nprint('on')\ntime.sleep(600)", "has ended"),
        (
            "import time\nprint('on')\nwhile True:\n    try:\n        time.sleep(600)\n    except BaseException: pass",
            "was asked to end; the next --code python gets a new context",
        ),
    ]:
        cell = kernel.send(f"%%sandbox --code python\n{source}")
        cell.read_until(lambda cell=cell: cell.text("stdout") == "on\n")
        kernel.manager.interrupt_kernel()
        assert cell.end()["ename"] == "CellStopped"
        (error,) = [output for output in cell.outputs if output["type"] == "error"]
        assert error["traceback"] == [f"stopped: the code in sandbox {kernel.value('box.id')} {says}"]
        kernel.run("%%sandbox --code python --out found\n'state' in globals()")
        assert kernel.value("found.text") == str(says == "has ended")


def test_help_is_shown(kernel: Kernel) -> None:
    for source in ("%sandbox --help", "%sandbox create --help", "%%sandbox -h\nexit 1"):
        told = kernel.run(source).text("stdout")
        assert "%sandbox create IMAGE [--timeout S] [--local]" in told and "--no-raise-error" in told


@pytest.mark.embedded
def test_a_local_server_that_died_is_replaced(kernel: Kernel, image: str) -> None:
    kernel.run(f"mine = %sandbox create {image} --local")
    kernel.run("mine._client._server._process.kill(); mine._client._server._process.wait()")
    kernel.run(f"again = %sandbox create {image} --local")
    assert kernel.value("again._client.config.base_url != mine._client.config.base_url")
    assert kernel.run("%%sandbox\necho usable").text("stdout") == "usable\n"
    kernel.run("%sandbox kill")
    kernel.run(f"box = %sandbox create {image}")


def test_show_use_and_kill_the_current_sandbox(kernel: Kernel, client: SandboxClient, image: str) -> None:
    cell = kernel.run("%sandbox show")
    (shown,) = [output["data"] for output in cell.outputs if output["type"] == "execute_result"]
    assert kernel.value("box.id") in shown["text/html"] and "Running" in shown["text/html"]
    with client.create(image) as other:
        kernel.run(f"%sandbox use {other.id}")
        kernel.run("%%sandbox\ntouch here")
        assert other.files.exists("here")
        kernel.run("%sandbox use box")
        assert kernel.run("%%sandbox\nls").text("stdout") == ""
        kernel.run(f"%sandbox use {other.id}")
        kernel.run("%sandbox kill")
        assert other.id not in [info.id for info in client.list()]
    for source, says in [
        ("%%sandbox\necho", "no sandbox yet"),
        ("%sandbox fly", "usage: %sandbox"),
        ("%%sandbox --out 1x\n:", "--out must be a variable's name"),
        ("%%sandbox --fly\n:", "usage: %%sandbox"),
    ]:
        cell = kernel.send(source)
        assert cell.end()["status"] == "error"
        assert [len(output["traceback"]) for output in cell.outputs] == [1]
        assert says in cell.outputs[0]["traceback"][0]
    kernel.run("%sandbox use box")


def test_a_sandbox_lives_on_while_its_kernel_does(kernel: Kernel, client: SandboxClient) -> None:
    renewing = "'opensandbox-keep-alive' in [t.name for t in __import__('threading').enumerate()]"
    assert kernel.value(renewing)
    assert client.info(kernel.value("box.id")).expires_at is not None, "and is gone when it cannot be renewed"


def test_a_restart_and_an_unload_leave_no_sandbox(kernel: Kernel, client: SandboxClient, image: str) -> None:
    """Last in this file: the kernel is a new one then."""
    first = kernel.value("box.id")
    other = kernel.value(f"__import__('opensandbox_sync').SandboxClient().create({image!r}, kill_at_exit=True).id")
    assert {first, other} <= {info.id for info in client.list()}
    kernel.manager.restart_kernel()
    kernel.client.wait_for_ready(timeout=60)
    assert not {first, other} & {info.id for info in client.list()}
    kernel.run("%load_ext opensandbox_sync")
    kernel.run(f"box = %sandbox create {image}")
    second = kernel.value("box.id")
    kernel.run(f"box = %sandbox create {image}")
    third = kernel.value("box.id")
    assert second not in [info.id for info in client.list()], "run again, the cell replaces its sandbox"
    kernel.run("%unload_ext opensandbox_sync")
    assert not kernel.value("[t.name for t in __import__('threading').enumerate() if 'opensandbox' in t.name]")
    assert third not in [info.id for info in client.list()]


EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


@pytest.mark.embedded
def test_the_notebook_of_the_examples_runs_from_top_to_bottom(tmp_path: Path) -> None:
    import nbformat

    notebook = nbformat.read(str(NOTEBOOK), as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without its outputs"
    done = tmp_path / "done.ipynb"
    subprocess.run(
        [sys.executable, "-c", EXECUTE, str(NOTEBOOK), str(done)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=240,
    )
    notebook = nbformat.read(str(done), as_version=4)
    shown: Dict[str, List[Any]] = {
        cell.source.splitlines()[0]: cell.outputs for cell in notebook.cells if cell.cell_type == "code"
    }
    streams = shown["%%sandbox --out listing"]
    assert "".join(output.text for output in streams if output.name == "stdout") == "step 1\nstep 2\nstep 3\n"
    assert "".join(output.text for output in streams if output.name == "stderr") == "this is an error line\n"
    assert "step 3" in shown["listing"][0].data["text/html"]
    assert shown["failed.exit_code"][0].data["text/plain"] == "3"
    assert "table.csv" in shown["box.files.list('.')"][0].data["text/html"]
    assert "is gone" in shown["%sandbox kill"][0].text


# -- how objects show themselves ---------------------------------------------------------------------------------------


def execution_of(*events: ServerEvent) -> Execution:
    return Execution.from_events([ServerEvent("init", "id-1", 1), *events])


def error_event(name: str, value: str, *traceback: str) -> ServerEvent:
    return ServerEvent.from_raw(
        {"type": "error", "error": {"ename": name, "evalue": value, "traceback": list(traceback)}, "timestamp": 2}
    )


SHOWN = {
    "execution": execution_of(
        ServerEvent("stdout", EVIL, 1), ServerEvent("stderr", EVIL, 1), error_event(EVIL, EVIL, EVIL)
    ),
    "result": execution_of(
        ServerEvent.from_raw({"type": "result", "results": {"text": EVIL}}), ServerEvent("execution_complete")
    ),
    "page": execution_of(
        ServerEvent.from_raw({"type": "result", "results": {"text/html": EVIL}}), ServerEvent("execution_complete")
    ),
    "files": FileList([FileInfo(EVIL, "file", 1, 0o644, owner=EVIL, group=EVIL)]),
    "policy": NetworkPolicy(EVIL, [NetworkRule(EVIL, EVIL)]),
    "egress": EgressStatus(NetworkPolicy(EVIL), EVIL, EVIL, EVIL),
    "info": SandboxInfo(EVIL, SandboxStatus(EVIL, EVIL, EVIL), image=ImageSpec(EVIL), metadata={EVIL: EVIL}),
    "sandbox": SandboxClient(domain="h.invalid", api_key="topsecret").connect(EVIL, wait_ready=False),
}


@pytest.mark.parametrize("name", SHOWN)
def test_what_came_from_a_sandbox_is_escaped(name: str) -> None:
    page = SHOWN[name]._repr_html_()  # type: ignore[attr-defined]
    assert "&lt;script&gt;" in page
    assert "<script" not in page and "\"'" not in page
    assert "topsecret" not in page


def test_a_sandbox_shows_how_it_is_isolated_where_its_server_says_so() -> None:
    extensions = {"opensandbox.extensions.isolation": "bubblewrap"}
    assert "bubblewrap" in SandboxInfo("s", SandboxStatus("Running"), extensions=extensions)._repr_html_()
    assert "isolation" not in SandboxInfo("s", SandboxStatus("Running"))._repr_html_()


def test_an_execution_shows_how_it_ended_and_what_it_wrote() -> None:
    ended = execution_of(
        ServerEvent("stdout", "out\n", 1), ServerEvent("stderr", "err\n", 1), error_event("CommandExecError", "3")
    )
    page = ended._repr_html_()
    assert "exit code 3" in page and "out\n</pre>" in page and "err\n</pre>" in page
    assert "#d9534f" in page, "the error output stands apart"
    assert "id-1" in page


def test_a_long_output_is_cut_on_the_page_only() -> None:
    execution = execution_of(ServerEvent("stdout", "x" * 100_000 + "\n", 1), ServerEvent("execution_complete"))
    assert len(execution._repr_html_()) < 30_000
    assert "80001 characters before this" in execution._repr_html_()
    assert len(repr(execution)) < 200


def test_the_plain_form_of_what_the_server_tells_is_one_short_line() -> None:
    assert repr(FileInfo("/a", "file", 3, 0o644, owner="root")) == "<FileInfo '/a' file, 3 bytes, 0o644>"
    info = SandboxInfo("s", SandboxStatus("Running"), image=ImageSpec("python:3.12"), metadata={"a": "b" * 500})
    assert repr(info) == "<SandboxInfo s Running, python:3.12>"
    listing = FileList([FileInfo("/a", "file", 3, 0o644), FileInfo("/b\nc", "directory", 4096, 0o755)])
    assert repr(listing) == "<FileList of 2: /a, /b c>"
    policy = NetworkPolicy("deny", [NetworkRule("allow", "api.test", [443]), NetworkRule("deny", "*.test")])
    assert repr(policy) == "<NetworkPolicy deny, 2 rules: allow api.test port 443, deny *.test>"
    assert repr(NetworkPolicy()) == "<NetworkPolicy deny>"
    result = ExecutionResult({"text/plain": "<Figure>", "image/png": "x" * 100_000})
    assert repr(result) == "<ExecutionResult text/plain, image/png, text='<Figure>'>"
    for much in (FileList(listing * 500), NetworkPolicy("deny", policy.egress * 500), ExecutionResult({"a" * 500: 1})):
        assert len(repr(much)) < 200 and "…" in repr(much)


def test_a_listing_is_a_list_and_a_table() -> None:
    files = FileList([FileInfo("/a", "directory", 4096, 0o755, owner="root", group="root")])
    assert files == [files[0]]
    assert "drwxr-xr-x" in files._repr_html_() and "/a" in files._repr_html_()


def test_a_result_gives_a_page_nothing_that_runs_in_it() -> None:
    data = {
        "text/plain": "t",
        "text/html": "<b>bold</b><script>alert(1)</script>",
        "text/markdown": "<img src=x onerror=alert(1)>",
        "application/javascript": "alert(1)",
        "image/svg+xml": "<svg onload='alert(1)'/>",
        "image/png": "aWNvbg==",
        "application/json": {"a": 1},
    }
    result = ExecutionResult(data)
    bundle = result._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "image/png", "application/json"}
    assert bundle["text/html"].startswith('<iframe sandbox="" srcdoc="&lt;b&gt;bold')
    assert "<script" not in bundle["text/html"]
    assert result.data == data, "all of it is there for who trusts it"
    drawing = ExecutionResult({"image/svg+xml": data["image/svg+xml"]})._repr_mimebundle_()
    assert drawing["text/html"].startswith('<img src="data:image/svg+xml;base64,')


def test_an_image_shows_itself_in_its_execution() -> None:
    picture = ServerEvent.from_raw({"type": "result", "results": {"image/png": "aWNvbg==", "text": "<Figure>"}})
    page = execution_of(picture, ServerEvent("execution_complete"))._repr_html_()
    assert '<img src="data:image/png;base64,aWNvbg==" alt="&lt;Figure&gt;">' in page
    broken = ServerEvent.from_raw({"type": "result", "results": {"image/png": '"><script>', "text": "t"}})
    assert "<script" not in execution_of(broken, ServerEvent("execution_complete"))._repr_html_()
