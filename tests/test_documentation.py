"""Every code block of README.md and docs/ does what the page says.

What the word behind the three backticks means:

- ``python``: run; the blocks of a page in their order, in one namespace, in a directory of their own, with
  ``$OPEN_SANDBOX_DOMAIN`` and ``$OPEN_SANDBOX_API_KEY`` set.
- ``python foreign``: a program for another SDK; it must be Python, and is not run.
- ``python pytest``: a file of tests, run by pytest with the plugin.
- ``ipython``: the cells of a notebook, run in their order by IPython.
- ``sh``: run by bash in the directory of the page; a line that serves is started, asked, and ended with Ctrl-C. Lines
  that install are for ``.ci/run``.
- ``text``: what the block above it prints; ``…`` stands for anything.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import inspect
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Set

import pytest

import opensandbox_sync
from opensandbox_sync import Sandbox, SandboxClient, SandboxError, cli, notebook, pytest_plugin
from opensandbox_sync.local import LocalServer, LocalServerError

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUIDE = ROOT / "docs" / "guide.md"
REFERENCE = ROOT / "docs" / "reference.md"

_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_KINDS = {"python", "python foreign", "python pytest", "ipython", "sh", "text"}
_INSTALLS = re.compile(r"python3 -m venv |pip install |pdoc ")
_SERVES = re.compile(r"-m opensandbox_sync\.local|opensandbox-sync serve")

pytestmark = pytest.mark.embedded


class Block(NamedTuple):
    page: str
    line: int
    kind: str
    code: str
    prints: str


def blocks_of(page: Path) -> List[Block]:
    text = page.read_text("utf-8")
    found: List[Block] = []
    for match in _FENCE.finditer(text):
        kind, code = match.group(1).strip(), match.group(2)
        if kind == "text":
            assert found and not found[-1].prints, f"{page.name}: a text block belongs behind the block that prints it"
            found[-1] = found[-1]._replace(prints=code)
            continue
        found.append(Block(page.name, text.count("\n", 0, match.start()) + 1, kind, code, ""))
    return found


def of_kind(kind: str) -> List[Any]:
    return [
        pytest.param(block, id=f"{block.page}:{block.line}")
        for page in PAGES
        for block in blocks_of(page)
        if block.kind == kind
    ]


def pages_with(kind: str) -> List[Any]:
    return [pytest.param(page, id=page.name) for page in PAGES if any(b.kind == kind for b in blocks_of(page))]


def check_output(block: Block, printed: str) -> None:
    if not block.prints:
        return
    wanted = ".*".join(re.escape(piece) for piece in block.prints.strip().split("…"))
    where = f"{block.page}, line {block.line}"
    assert re.fullmatch(wanted, printed.strip(), re.DOTALL), f"{where} prints\n{printed}\nand not\n{block.prints}"


@pytest.fixture
def environment(settings: Dict[str, Any], tmp_path: Path) -> Dict[str, str]:
    """What a reader has: an address and a key in the environment, and our commands on the PATH."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, argv in {"python": [], "opensandbox-sync": ["-m", "opensandbox_sync"]}.items():
        line = " ".join(map(shlex.quote, [sys.executable, *argv]))
        (commands / name).write_text(f'#!/bin/sh\nexec {line} "$@"\n')
        (commands / name).chmod(0o755)
    found = {
        **os.environ,
        "OPEN_SANDBOX_DOMAIN": settings["domain"],
        "OPEN_SANDBOX_API_KEY": settings["api_key"],
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    found.pop("OPENSANDBOX_TEST_IMAGE", None)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "page"
    directory.mkdir()
    return directory


@pytest.fixture
def namespace(settings: Dict[str, Any], client: SandboxClient) -> Iterator[Dict[str, Any]]:
    """The namespace of a page; what a page that failed leaves behind is ended."""
    names: Dict[str, Any] = {"__name__": "page"}
    yield names
    for value in list(names.values()):
        if isinstance(value, SandboxClient):
            value.close()
        elif isinstance(value, Sandbox) and value._client.config.domain == settings["domain"]:
            client.kill(value.id)


def test_every_block_says_what_it_is() -> None:
    for page in PAGES:
        for block in blocks_of(page):
            assert block.kind in _KINDS, f"{block.page}, line {block.line}: {block.kind!r} is none of {sorted(_KINDS)}"


@pytest.mark.parametrize("page", pages_with("python"))
def test_the_programs_of_a_page_run_and_print_what_it_says(
    page: Path,
    environment: Dict[str, str],
    place: Path,
    namespace: Dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("OPEN_SANDBOX_DOMAIN", "OPEN_SANDBOX_API_KEY"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.chdir(place)
    for block in blocks_of(page):
        if block.kind == "python":
            source = "\n" * block.line + block.code  # a traceback names the page's line
            exec(compile(source, block.page, "exec"), namespace)
            check_output(block, capsys.readouterr().out)


@pytest.mark.parametrize("block", of_kind("python foreign"))
def test_a_program_for_another_sdk_is_python(block: Block) -> None:
    assert ast.parse(block.code).body


@pytest.mark.parametrize("block", of_kind("python pytest"))
def test_a_file_of_tests_passes_with_the_plugin(block: Block, environment: Dict[str, str], place: Path) -> None:
    (place / "test_page.py").write_text(block.code, "utf-8")
    # Where the package is not installed, pytest does not know of its plugins.
    loaded = "pytest11" in entry_points()
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    argv += [] if loaded else ["-p", "opensandbox_sync.pytest_plugin"]
    del environment["OPEN_SANDBOX_DOMAIN"], environment["OPEN_SANDBOX_API_KEY"]
    answer = subprocess.run([*argv, "test_page.py"], cwd=place, env=environment, stdout=subprocess.PIPE, timeout=300)
    assert answer.returncode == 0, answer.stdout.decode()


def entry_points() -> Set[str]:
    """The groups of entry points that this package is installed with here."""
    from importlib import metadata

    try:
        return {point.group for point in metadata.distribution("opensandbox-sync").entry_points}
    except metadata.PackageNotFoundError:
        return set()


_CELLS = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in json.load(sys.stdin):
    shell.run_cell(cell, store_history=False).raise_error()
    print("\\0", end="", flush=True)
"""


@pytest.mark.parametrize("page", pages_with("ipython"))
def test_the_cells_of_a_page_run_in_a_notebook(page: Path, environment: Dict[str, str], place: Path) -> None:
    pytest.importorskip("IPython")
    cells = [block for block in blocks_of(page) if block.kind == "ipython"]
    # IPython tells how it is doing with its files there, and warns where it has no home.
    argv = [sys.executable, "-c", _CELLS]
    told = json.dumps([block.code for block in cells]).encode()
    answer = subprocess.run(argv, input=told, cwd=place, env=environment, stdout=subprocess.PIPE, timeout=300)
    outputs = answer.stdout.decode().split("\0")
    assert answer.returncode == 0 and len(outputs) == len(cells) + 1, outputs
    for block, printed in zip(cells, outputs):
        check_output(block, printed)


@pytest.mark.parametrize("page", pages_with("sh"))
def test_the_command_lines_of_a_page_run_and_print_what_it_says(
    page: Path, environment: Dict[str, str], place: Path
) -> None:
    for block in blocks_of(page):
        if block.kind != "sh":
            continue
        lines = [line for line in block.code.splitlines() if not _INSTALLS.search(line)]
        script = "\n".join(line.replace(".venv/bin/", "") for line in lines)
        if _SERVES.search(script):
            if "--isolation bubblewrap" in script:
                skip_without_bubblewrap()
            check_server(block, script, environment, place)
        elif script.strip():
            argv = ["bash", "-euo", "pipefail", "-c", script]
            answer = subprocess.run(argv, cwd=place, env=environment, capture_output=True, timeout=300)
            where = f"{block.page}, line {block.line}"
            assert answer.returncode == 0, f"{where}: {answer.stdout.decode()}{answer.stderr.decode()}"
            check_output(block, answer.stdout.decode())


def skip_without_bubblewrap() -> None:
    try:
        LocalServer(isolation="bubblewrap").start().stop()
    except LocalServerError as error:
        pytest.skip(str(error))


def check_server(block: Block, script: str, environment: Dict[str, str], place: Path) -> None:
    """It tells an address that a client reaches with the key that it tells, and Ctrl-C ends it."""
    command = re.sub(r" --port \d+", "", script.partition("#")[0].strip())
    argv = ["bash", "-c", f"exec {command} --port 0"]  # the port that it names, or means, may be in use here
    own = {k: v for k, v in environment.items() if not k.startswith("OPEN_SANDBOX_")}
    with subprocess.Popen(argv, cwd=place, env=own, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            told = ""
            while "Ctrl-C" not in told:
                line = process.stdout.readline().decode()
                assert line, f"{block.page}, line {block.line}: {told}"
                told += line
            address, key = re.search(r"http://\S+", told), re.search(r"API key:\s+(\S+)", told)
            assert address and key, told
            with SandboxClient(domain=address.group(), api_key=key.group(1)) as client:
                assert client.health()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_the_readme_has_two_lines_that_install_and_run() -> None:
    """``.ci/run`` takes them from there, and runs them in a clean clone."""
    lines = re.findall(r"^python3 -m venv .*", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert len(lines) == 2
    assert "grep '^python3 -m venv' README.md" in (ROOT / ".ci" / "run").read_text("utf-8")


# -- what the pages say of names ---------------------------------------------------------------------------------------


def services(owner: type) -> Dict[str, type]:
    """The services of a client or a sandbox, by their attribute."""
    found = {}
    for name, value in vars(owner).items():
        if hasattr(value, "func") and not name.startswith("_"):
            found[name] = getattr(opensandbox_sync, str(value.func.__annotations__["return"]))
    return found


def methods(kind: type) -> Set[str]:
    return {
        name for name, value in inspect.getmembers(kind) if not name.startswith("_") and not isinstance(value, type)
    }


OWNERS: Dict[str, type] = {"client": SandboxClient, "sandbox": Sandbox}
OWNERS.update({f"client.{name}": kind for name, kind in services(SandboxClient).items()})
OWNERS.update({f"sandbox.{name}": kind for name, kind in services(Sandbox).items()})


def test_the_services_are_found() -> None:
    assert {"sandbox.commands", "sandbox.files", "sandbox.vault", "client.snapshots", "client.pools"} <= set(OWNERS)


def rows_of(page: Path) -> Dict[str, Set[str]]:
    """The table of ``| `sandbox.commands` | `run` `stream` … |``, which says for each object what it has."""
    rows = re.findall(r"^\| `([a-z.]+)` \|([^|\n]*)\|", page.read_text("utf-8"), re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", cells)) for name, cells in rows}


@pytest.mark.parametrize("name", sorted(OWNERS))
def test_the_reference_lists_every_public_method_of_a_service_and_no_other(name: str) -> None:
    own = set(services(OWNERS[name]))
    assert rows_of(REFERENCE)[name] == methods(OWNERS[name]) - own


def test_the_readme_names_every_service() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for name in OWNERS:
        word = name.rpartition(".")[2]
        assert re.search(rf"`(\w+\.)*{word}\W", text), f"README.md does not name {name}"


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in PAGES])
def test_what_a_page_calls_by_name_is_there(page: Path) -> None:
    text = re.sub(_FENCE, "", page.read_text("utf-8"))
    for word in re.findall(r"`((?:client|sandbox)\.\w+(?:\.\w+)*)", text):
        kind: Any = OWNERS[word.partition(".")[0]]
        for part in word.split(".")[1:]:
            known = services(kind)[part] if isinstance(kind, type) and part in services(kind) else None
            found = isinstance(kind, type) and (hasattr(kind, part) or part in ("id", "config"))
            assert found or not isinstance(kind, type), f"{page.name}: {word} is not there"
            kind = known


def options_of(parser: argparse.ArgumentParser) -> Set[str]:
    return {word for action in parser._actions for word in action.option_strings}


def subparsers(parser: argparse.ArgumentParser) -> Dict[str, argparse.ArgumentParser]:
    (found,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found.choices)


#: The commands of the command line and of the magic, and the options of each.
COMMANDS = {f"opensandbox-sync {name}": options_of(parser) for name, parser in subparsers(cli._parser()).items()}
COMMANDS.update(
    (f"%sandbox {name}", options_of(parser)) for name, parser in subparsers(notebook._line_parser()).items()
)
COMMANDS["%%sandbox"] = options_of(notebook._cell_parser())
COMMANDS["%sandbox --help"] = {"--help"}
COMMANDS["pytest"] = set(re.findall(r'"(--opensandbox-[a-z]+)"', inspect.getsource(pytest_plugin)))


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in PAGES])
def test_the_options_and_commands_that_a_page_names_are_there(page: Path) -> None:
    everywhere = set().union(*COMMANDS.values())
    for text in re.findall(r"`([^`\n]+)`", re.sub(_FENCE, "", page.read_text("utf-8"))):
        ours = text.partition(" -- ")[0]
        if re.match(r"(opensandbox-sync|%sandbox) ", ours):
            command = " ".join(ours.split()[:2])
            assert command in COMMANDS, f"{page.name}: {text}"
        elif ours.split()[0] in subparsers(cli._parser()):
            command = f"opensandbox-sync {ours.split()[0]}"
        elif ours.startswith("--"):
            command = ""
        else:
            continue
        unknown = set(re.findall(r"(?<!\S)--[a-z-]+", ours)) - COMMANDS.get(command, everywhere)
        assert not unknown, f"{page.name}: {text}"


def test_the_guide_needs_no_import_but_the_client_for_common_things() -> None:
    """Errors are there to be caught, and a policy to be given; nothing else has to be imported or built."""
    allowed = {"SandboxClient", "NetworkPolicy"}
    for block in blocks_of(GUIDE):
        if block.kind not in ("python", "python pytest"):
            continue
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.ImportFrom) and node.module == "opensandbox_sync":
                for name in {alias.name for alias in node.names} - allowed:
                    kind = getattr(opensandbox_sync, name)
                    assert isinstance(kind, type) and issubclass(kind, SandboxError), f"line {block.line}: {name}"
            assert not (isinstance(node, ast.Name) and node.id == "timedelta"), f"line {block.line}"


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in PAGES])
def test_the_links_of_a_page_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", page.read_text("utf-8")):
        path, _, heading = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), f"{page.name}: {target} is not there"
        if heading:
            titles = re.findall(r"^#+ (.*)$", other.read_text("utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, f"{page.name}: {other.name} has no heading for #{heading}"


# -- the reference that is generated -----------------------------------------------------------------------------------


def test_the_generated_reference_holds_every_public_name(environment: Dict[str, str], place: Path) -> None:
    """The package imports its names lazily; the tool must find them all the same."""
    if importlib.util.find_spec("pdoc") is None:
        pytest.skip("pdoc is not here: pip install -e '.[docs]'")
    (line,) = re.findall(r"^pdoc .*", REFERENCE.read_text("utf-8"), re.MULTILINE)
    argv = [sys.executable, "-m", *shlex.split(line)]
    subprocess.run(argv, cwd=place, env=environment, check=True, capture_output=True, timeout=300)
    html = (place / "build" / "api" / "opensandbox_sync.html").read_text("utf-8")
    anchors = set(re.findall(r'id="([\w.]+)"', html))
    wanted = set(opensandbox_sync.__all__) - {"__version__"}
    for kind in OWNERS.values():
        wanted |= {f"{kind.__name__}.{name}" for name in methods(kind)}
    assert not wanted - anchors
    assert "LocalServer" in (place / "build" / "api" / "opensandbox_sync" / "local.html").read_text("utf-8")
