"""Ports of a real sandbox, from outside and from inside."""

from __future__ import annotations

import shlex
import socket
from typing import Iterator, Tuple

import pytest
import requests

from opensandbox_sync import NotFoundError, Sandbox, SandboxClient, SandboxReadyTimeoutError

from ..conftest import MakeSandbox, until

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = self.path.encode()
        self.send_response(404 if self.path.startswith("/missing") else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture(scope="module")
def serving(make_sandbox: MakeSandbox) -> Iterator[Tuple[Sandbox, int]]:
    """A sandbox in which a web server starts, and its port."""
    with make_sandbox() as sandbox:
        port = free_port()  # now, or the sandbox's own daemon might take it
        sandbox.commands.start(f"exec python3 -c {shlex.quote(SERVER)} {port}")
        sandbox.wait_for_port(port)
        yield sandbox, port


def test_wait_for_http_gives_the_status_of_the_path(serving: Tuple[Sandbox, int]) -> None:
    sandbox, port = serving
    assert sandbox.wait_for_http(port) == 200
    assert sandbox.wait_for_http(port, "/missing?a=b") == 404


def test_a_url_is_opened_without_any_header_of_ours(serving: Tuple[Sandbox, int]) -> None:
    sandbox, port = serving
    assert requests.get(sandbox.url(port) + "/page", timeout=20).text == "/page"


def test_an_endpoint_through_the_proxy_leads_to_the_same_port(serving: Tuple[Sandbox, int]) -> None:
    sandbox, port = serving
    endpoint = sandbox.endpoint(port, use_server_proxy=True)
    assert f"/sandboxes/{sandbox.id}/proxy/{port}" in endpoint.url
    assert requests.get(endpoint.url + "/page?q=1", headers=endpoint.headers, timeout=20).text == "/page?q=1"


def test_the_waits_work_through_the_proxy_too(settings: dict, serving: Tuple[Sandbox, int]) -> None:  # type: ignore[type-arg]
    sandbox, port = serving
    with SandboxClient(**settings, use_server_proxy=True) as client:
        proxied = client.connect(sandbox.id)
        proxied.wait_for_port(port)
        assert proxied.wait_for_http(port) == 200


def test_a_port_that_opens_later_is_waited_for(fresh_sandbox: Sandbox) -> None:
    port = free_port()
    listen = f"import socket,time; time.sleep(0.2); s=socket.create_server(('127.0.0.1',{port})); time.sleep(600)"
    fresh_sandbox.commands.start(f"exec python3 -c {shlex.quote(listen)}")
    fresh_sandbox.wait_for_port(port)


def test_a_port_on_which_nothing_listens_is_told_after_the_timeout(sandbox: Sandbox) -> None:
    port = free_port()
    with pytest.raises(SandboxReadyTimeoutError, match=f"nothing listened on port {port}"):
        sandbox.wait_for_port(port, timeout=0.3)
    with pytest.raises(SandboxReadyTimeoutError, match=f"port {port} .* did not serve"):
        sandbox.wait_for_http(port, timeout=0.3)


def test_a_sandbox_that_was_killed_has_no_ports(client: SandboxClient, fresh_sandbox: Sandbox) -> None:
    fresh_sandbox.kill()
    until(lambda: fresh_sandbox.id not in [info.id for info in client.list()], "it is gone")
    with pytest.raises(NotFoundError):
        fresh_sandbox.wait_for_http(8000)
    with pytest.raises(NotFoundError):
        fresh_sandbox.endpoint(8000)


@pytest.mark.embedded
def test_nothing_here_signs_an_address(sandbox: Sandbox) -> None:
    with pytest.raises(Exception, match="SANDBOX::API_NOT_SUPPORTED"):
        sandbox.endpoint(8000, expires=2_000_000_000)
