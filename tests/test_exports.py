"""The public names, and what importing them costs."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import List, Set

import pytest

import opensandbox_sync

PACKAGE = Path(opensandbox_sync.__file__).parent


def loaded_after(program: str) -> Set[str]:
    """The modules that a fresh interpreter has loaded when ``program`` has run."""
    program += "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, timeout=60)
    return set(json.loads(answer.stdout))


def roots(modules: Set[str]) -> Set[str]:
    return {name.partition(".")[0] for name in modules}


def test_all_is_sorted_and_names_each_once() -> None:
    assert opensandbox_sync.__all__ == sorted(set(opensandbox_sync.__all__))


@pytest.mark.parametrize("name", opensandbox_sync.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(opensandbox_sync, name) is not None
    assert name in dir(opensandbox_sync)


def test_a_star_import_brings_them_all() -> None:
    space: dict[str, object] = {}
    exec("from opensandbox_sync import *", space)
    assert set(opensandbox_sync.__all__) <= set(space)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nonsense"):
        opensandbox_sync.Nonsense  # noqa: B018
    assert not hasattr(opensandbox_sync, "requests")


def public_classes_of(module: types.ModuleType) -> List[str]:
    return [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]


@pytest.mark.parametrize("home", ["errors", "models"])
def test_every_error_and_every_model_is_public(home: str) -> None:
    module = importlib.import_module(f"opensandbox_sync.{home}")
    assert set(public_classes_of(module)) <= set(opensandbox_sync.__all__)


@pytest.mark.parametrize("path", sorted((PACKAGE / "services").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_every_service_and_what_it_answers_is_public(path: Path) -> None:
    """A file without a service is the others' helper, and its classes are theirs alone."""
    found = public_classes_of(importlib.import_module(f"opensandbox_sync.services.{path.stem}"))
    if any(name.endswith("Service") for name in found):
        assert set(found) <= set(opensandbox_sync.__all__)


def test_the_type_checker_sees_every_name() -> None:
    """mypy reads the imports under TYPE_CHECKING, Python the table: they name the same."""
    source = (PACKAGE / "__init__.py").read_text("utf-8")
    block = source.partition("if TYPE_CHECKING:")[2].partition("\n_")[0]
    names = [word.rpartition(" as ")[2].strip(" ,)\n") for word in block.splitlines() if " as " in word]
    assert sorted(names) == sorted(set(opensandbox_sync.__all__) - {"__version__"})


def test_public_classes_say_what_they_are() -> None:
    silent = [name for name in opensandbox_sync.__all__ if inspect.isclass(getattr(opensandbox_sync, name))]
    assert [name for name in silent if not getattr(opensandbox_sync, name).__doc__] == []


def test_importing_the_package_loads_nothing_else() -> None:
    ours = {name for name in loaded_after("import opensandbox_sync") if name.startswith("opensandbox_sync")}
    assert ours == {"opensandbox_sync", "opensandbox_sync._version"}
    extra = roots(loaded_after("import opensandbox_sync")) - roots(loaded_after(""))
    assert extra <= {"opensandbox_sync", "typing", "re", "sre_compile", "sre_parse", "sre_constants", "enum"} | {
        "collections", "contextlib", "copyreg", "functools", "keyword", "operator", "reprlib", "types", "heapq",
        "_collections", "_functools", "_operator", "_sre", "_heapq", "itertools", "abc", "_typing", "_weakrefset",
        "__future__", "warnings", "weakref",
    }  # fmt: skip


def test_importing_the_client_loads_no_event_loop_and_no_server() -> None:
    loaded = roots(loaded_after("from opensandbox_sync import SandboxClient; SandboxClient()"))
    assert "requests" in loaded
    assert not loaded & {"asyncio", "flask", "cheroot", "psutil", "IPython", "jupyter_client", "pytest"}


def test_a_script_that_runs_commands_loads_no_other_service() -> None:
    loaded = loaded_after(
        "from opensandbox_sync import SandboxClient; c = SandboxClient(); c.connect('x', wait_ready=False).commands"
    )
    services = {name.rpartition(".")[2] for name in loaded if name.startswith("opensandbox_sync.services.")}
    assert services == {"commands"}
    assert "opensandbox_sync.local" not in loaded


def test_errors_and_the_decoder_need_no_requests() -> None:
    assert "requests" not in roots(
        loaded_after("from opensandbox_sync import SandboxError, Execution, iter_events, Volume")
    )


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("**/*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_transport_imports_requests(path: Path) -> None:
    """At run time; ``if TYPE_CHECKING`` blocks are indented."""
    at_run_time = [line for line in path.read_text("utf-8").splitlines() if line.startswith(("import ", "from "))]
    imports = [line for line in at_run_time if line.split()[1].partition(".")[0] == "requests"]
    assert not imports or path.name == "transport.py"
