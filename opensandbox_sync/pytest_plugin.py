"""The pytest plugin: fixtures for a server, a client of it, and a sandbox for each test.

It is there once this package is installed, and imports nothing of it before a test asks for one of the fixtures. The
embedded server (extra ``local``) is the default; ``--opensandbox-domain`` names a real one, whose key is in
``$OPEN_SANDBOX_API_KEY``. A failing test's report shows what the last execution before the failure wrote. Where that
was a ``commands.start``, whose output stays in the sandbox, it shows nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Generator, Iterator, Optional

import pytest

if TYPE_CHECKING:
    from .client import SandboxClient
    from .execution import Execution
    from .sandbox import Sandbox

#: Characters of each stream that a report shows.
_SHOWN = 4000


class _Last:
    """The execution that began last in the running test."""

    execution: Optional[Execution] = None


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("opensandbox", "sandboxes of an OpenSandbox server")
    group.addoption(
        "--opensandbox-domain", metavar="DOMAIN", help="use this server instead of starting the embedded one"
    )
    group.addoption(
        "--opensandbox-image", metavar="IMAGE", default="python:3.12", help="of the sandbox fixture (%(default)s)"
    )


@pytest.fixture(scope="session")
def opensandbox_server(pytestconfig: pytest.Config) -> Iterator[Dict[str, Any]]:
    """Keywords for a ``SandboxClient`` of the server: the embedded one, or that of ``--opensandbox-domain``."""
    domain = pytestconfig.getoption("--opensandbox-domain")
    if domain:
        yield {"domain": domain}
        return
    from .local import LocalServer

    with LocalServer() as server:
        yield dict(server.config)


@pytest.fixture(scope="session")
def opensandbox_client(opensandbox_server: Dict[str, Any]) -> Iterator[SandboxClient]:
    """A ``SandboxClient`` that all tests share."""
    from .client import SandboxClient
    from .execution import observers

    def begun(execution: Execution) -> None:
        _Last.execution = execution

    observers.append(begun)
    try:
        with SandboxClient(**opensandbox_server) as client:
            yield client
    finally:
        observers.remove(begun)


@pytest.fixture
def sandbox(opensandbox_client: SandboxClient, pytestconfig: pytest.Config) -> Iterator[Sandbox]:
    """A sandbox of the test's own, killed after it."""
    image = pytestconfig.getoption("--opensandbox-image")
    with opensandbox_client.create(image) as sandbox:
        yield sandbox


def pytest_runtest_setup(item: pytest.Item) -> None:
    _Last.execution = None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    execution = _Last.execution
    if report.failed and execution is not None:
        for name in ("stdout", "stderr"):
            text = getattr(execution, name)
            if text:
                cut = "… " if len(text) > _SHOWN else ""
                report.sections.append((f"sandbox {name} of {execution!r}", cut + text[-_SHOWN:]))
