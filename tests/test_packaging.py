"""What is installed, and what it brings along."""

from __future__ import annotations

import ast
import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import List, Set

import pytest

import opensandbox_sync

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "opensandbox_sync"
# Front ends that nothing else imports, and what each may need beyond requests.
OPTIONAL = {
    "local": {"flask", "werkzeug", "cheroot", "psutil", "jupyter_client", "ipykernel", "zmq"},
    "cli.py": {"argcomplete"},
    "notebook.py": {"IPython"},
    "pytest_plugin.py": {"pytest"},
}


def settings() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", "utf-8")
    return parser


def test_requests_is_the_only_dependency_of_an_install() -> None:
    options = settings()["options"]
    assert options["install_requires"].split() == ["requests>=2.25.1"]
    assert options["python_requires"].replace(" ", "") == ">=3.8"


def test_the_extras_are_the_ones_that_are_documented() -> None:
    extras = settings()["options.extras_require"]
    assert {"local", "code", "test", "dev"} <= set(extras)
    assert "%(local)s" in extras.get("test", raw=True)


def test_the_version_is_said_once_and_the_same_everywhere() -> None:
    version = settings()["metadata"]["version"]
    assert version in (opensandbox_sync.__version__, "attr: opensandbox_sync._version.__version__")
    assert opensandbox_sync.DEFAULT_USER_AGENT.split("/") == [
        "OpenSandbox-PythonSync-SDK",
        opensandbox_sync.__version__,
    ]


def test_warnings_are_errors() -> None:
    assert settings()["tool:pytest"]["filterwarnings"].split() == ["error"]


def imports(path: Path) -> Set[str]:
    """The top-level names of what a file imports anywhere, but for type checkers only."""
    found: Set[str] = set()
    waiting: List[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
        waiting.extend(ast.iter_child_nodes(node))
    return found


@pytest.mark.skipif(sys.version_info < (3, 10), reason="this Python does not list its own modules")
@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_no_more_than_its_extra_brings(path: Path) -> None:
    foreign = imports(path) - set(sys.stdlib_module_names) - {"opensandbox_sync"}  # type: ignore[attr-defined,unused-ignore]
    allowed = OPTIONAL.get(path.relative_to(PACKAGE).parts[0], {"requests", "urllib3"})
    assert foreign <= allowed


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "local").rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_the_embedded_server_shares_no_code_with_the_client(path: Path) -> None:
    """It must find the client's mistakes, not repeat them; only the version is the same."""
    depth = len(path.relative_to(PACKAGE).parts) - 1
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level > depth:
            assert node.level == depth + 1 and node.module in (None, "_version"), ast.dump(node)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("opensandbox_sync"):
            assert node.module.startswith("opensandbox_sync.local")


def test_a_wheel_holds_every_module_the_types_and_the_licence(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    shutil.copytree(PACKAGE, source / "opensandbox_sync", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "README.md").write_text("read me")
    argv = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), "."]
    subprocess.run(argv, cwd=source, check=True, timeout=300, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    (wheel,) = tmp_path.glob("opensandbox_sync-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.py")}
    assert modules <= names and "opensandbox_sync/py.typed" in names
    assert any(name.endswith("LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "examples/", "benchmarks/"))]
