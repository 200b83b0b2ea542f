from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from opensandbox_sync.local import LocalServer

from .http_api import Api, Execd

HOST_VOLUME = "/tmp/hostvol"  # as it was on the machine of the recordings


@pytest.fixture(scope="session")
def api() -> Iterator[Api]:
    """One server for all tests that only look at what it answers."""
    Path(HOST_VOLUME).mkdir(exist_ok=True)
    with LocalServer(allow_host_path=HOST_VOLUME, isolation="none") as server:
        yield Api(server)


@pytest.fixture
def sandbox_id(api: Api) -> Iterator[str]:
    with api.sandbox() as made:
        yield made


@pytest.fixture
def execd(api: Api, sandbox_id: str) -> Execd:
    return api.execd(sandbox_id)
