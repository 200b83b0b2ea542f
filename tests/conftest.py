"""What the tests share: one server, one client, and sandboxes on it.

By default that is the embedded server without isolation; ``OPENSANDBOX_TEST_ISOLATION=bubblewrap`` has it isolate.
With ``OPEN_SANDBOX_DOMAIN`` set (and ``OPEN_SANDBOX_API_KEY``, and the image in ``OPENSANDBOX_TEST_IMAGE``) the tests
of ``tests/contract`` run against that server; those marked ``embedded`` are skipped then, because they rely on what
only the embedded server promises.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any, Callable, ContextManager, Dict, Iterator, List

import pytest

from opensandbox_sync import NotSupportedError, Sandbox, SandboxClient

REAL_DOMAIN = os.environ.get("OPEN_SANDBOX_DOMAIN")
IMAGE = os.environ.get("OPENSANDBOX_TEST_IMAGE", "python:3.12")

MakeSandbox = Callable[..., ContextManager[Sandbox]]


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job of a script
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "embedded: relies on the embedded server; skipped against a real one")


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    if REAL_DOMAIN:
        reason = pytest.mark.skip(reason="only the embedded server promises this")
        for item in items:
            if item.get_closest_marker("embedded"):
                item.add_marker(reason)


@pytest.fixture(scope="session")
def settings() -> Iterator[Dict[str, Any]]:
    """Keywords for a ``SandboxClient`` of the server under test: ``domain`` and ``api_key``."""
    if REAL_DOMAIN:
        yield {"domain": REAL_DOMAIN, "api_key": os.environ.get("OPEN_SANDBOX_API_KEY")}
        return
    from opensandbox_sync.local import LocalServer

    with LocalServer(isolation=os.environ.get("OPENSANDBOX_TEST_ISOLATION", "none")) as server:
        yield dict(server.config)


@pytest.fixture(scope="session")
def client(settings: Dict[str, Any]) -> Iterator[SandboxClient]:
    """One client for all tests; a test that closes or configures its own makes it from ``settings``."""
    with SandboxClient(**settings) as client:
        yield client


@pytest.fixture(scope="session")
def image() -> str:
    return IMAGE


@pytest.fixture(scope="session")
def make_sandbox(client: SandboxClient) -> MakeSandbox:
    """``with make_sandbox(**options) as sandbox``: a sandbox of the test's own; gone when the block ends."""

    @contextlib.contextmanager
    def make(**options: Any) -> Iterator[Sandbox]:
        if not {"image", "snapshot_id", "template_id", "pool"} & set(options):
            options["image"] = IMAGE
        if REAL_DOMAIN:
            options.setdefault("ready_timeout", 120)
        sandbox = client.create(**options)
        try:
            yield sandbox
        finally:
            client.kill(sandbox.id)

    return make


@pytest.fixture(scope="module")
def sandbox(make_sandbox: MakeSandbox) -> Iterator[Sandbox]:
    """A sandbox that the tests of one module share; they leave it as they found it."""
    with make_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def fresh_sandbox(make_sandbox: MakeSandbox) -> Iterator[Sandbox]:
    """A sandbox for one test, which may do to it what it likes."""
    with make_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without the variables that a client reads; the test may set them."""
    for name in (
        "OPEN_SANDBOX_DOMAIN",
        "OPEN_SANDBOX_API_KEY",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@contextlib.contextmanager
def where_supported() -> Iterator[None]:
    """Skip the test where the daemon is older than what is asked of it here."""
    try:
        yield
    except NotSupportedError as error:
        pytest.skip(str(error))


def is_file_name(text: str) -> bool:
    """Whether a file of the sandbox can have this name, and be told under it."""
    if text in (".", "..") or len(text.encode()) > 255 or set("/\0$") & set(text):  # the daemon expands "$"
        return False
    # A download's header has the name; a real daemon's proxy answers 502 where that is no header.
    return not REAL_DOMAIN or not any((char < " " and char not in "\t\r\n") or char == "\x7f" for char in text)


def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """Poll until the condition holds, and return what it gave; a test's way to wait."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.01)
