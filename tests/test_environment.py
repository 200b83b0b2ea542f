"""What the environment may change, and what it must not: proxies, ``.netrc``, CA bundles, sessions, addresses."""

# ruff: noqa: SIM117 (a server, then what is tested: nested, they read in that order)
from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
import requests
import responses

from opensandbox_sync import ApiError, ConnectError, SandboxClient, TransportError

from .scripted import API_KEY, RESET, Scripted, closed_port, promptly, scripted, serving
from .wire import COMMAND_ID, SANDBOX_ID, complete, init, stdout, stream, whole

RUN = {"POST /command": stream(init(), stdout("hi"), complete())}


@pytest.fixture(autouse=True)
def _clean(clean_environment: pytest.MonkeyPatch) -> None:
    pass


@pytest.fixture(params=["our connections", "a user's session"])
def wire(request: pytest.FixtureRequest) -> Iterator[Dict[str, Any]]:
    if request.param == "our connections":
        yield {}
        return
    with requests.Session() as session:
        yield {"session": session}


@pytest.fixture
def proxy() -> Iterator[Scripted]:
    """A proxy that answers everything itself: what it received is what was sent to it."""
    with serving({"GET /v1/sandboxes/there": whole(200, {"id": "there", "status": {"state": "Running"}})}) as server:
        yield server


# -- proxies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_never_goes_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, wire: Dict[str, Any], name: str, host: str
) -> None:
    monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    with serving(RUN) as server:
        domain = server.address.replace("127.0.0.1", host)
        with SandboxClient(domain=domain, **wire) as client:
            assert client.connect(SANDBOX_ID).commands.run("x").stdout == "hi"


def test_loopback_goes_through_no_proxy_of_the_environment_though_the_session_has_one_for_another_scheme(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    with serving(RUN) as server, requests.Session() as session:
        session.proxies = {"https": "http://proxy.example.com"}
        with SandboxClient(domain=server.address, session=session) as client:
            assert client.connect(SANDBOX_ID).commands.run("x").stdout == "hi"


def test_another_host_goes_through_the_proxy_with_its_credentials(
    monkeypatch: pytest.MonkeyPatch, wire: Dict[str, Any], proxy: Scripted
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@{proxy.address}")
    with SandboxClient(domain="sandbox.example", api_key="k", **wire) as client:
        assert client.info("there").id == "there"
    (request,) = proxy.requests
    assert request.target == "http://sandbox.example/v1/sandboxes/there"
    assert request.headers["proxy-authorization"].startswith("Basic ")


@pytest.mark.parametrize("excluded", ["sandbox.example", ".example", "*"])
def test_no_proxy_is_kept(
    monkeypatch: pytest.MonkeyPatch, wire: Dict[str, Any], proxy: Scripted, excluded: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
    monkeypatch.setenv("NO_PROXY", excluded)
    with SandboxClient(domain="sandbox.example:1", timeout=5, **wire) as client, pytest.raises(TransportError):
        client.info("there")
    assert not proxy.requests


def test_a_dead_proxy_is_a_connect_error(monkeypatch: pytest.MonkeyPatch, wire: Dict[str, Any]) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://user:hidden@127.0.0.1:{closed_port()}")
    with SandboxClient(domain="sandbox.example", **wire) as client:
        with promptly(), pytest.raises(ConnectError) as caught:
            client.create("image")
    assert "hidden" not in str(caught.value)


# -- credentials -------------------------------------------------------------------------------------------------------


def test_netrc_replaces_no_credentials_of_ours(
    monkeypatch: pytest.MonkeyPatch, wire: Dict[str, Any], tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login wrong password wrong\ndefault login wrong password wrong\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with scripted(RUN, sandbox_headers={"Authorization": "Bearer mine"}, **wire) as (sandbox, server):
        sandbox.info()
        sandbox.commands.run("x")
        assert "authorization" not in server.asked("GET", SANDBOX_ID)[0].headers
        assert server.asked("GET", SANDBOX_ID)[0].headers["open-sandbox-api-key"] == API_KEY
        assert server.asked("POST", "/command")[0].headers["authorization"] == "Bearer mine"


def test_user_information_in_the_domain_becomes_basic_auth_and_is_never_shown(wire: Dict[str, Any]) -> None:
    with serving({f"GET /v1/sandboxes/{SANDBOX_ID}": whole(500)}) as server:
        with SandboxClient(domain=f"http://me:p%40ss@{server.address}", **wire) as client:
            with pytest.raises(ApiError) as caught:
                client.info(SANDBOX_ID)
            shown = repr(client) + repr(client.config) + str(caught.value)
        assert requests.auth._basic_auth_str("me", "p@ss") == server.requests[0].headers["authorization"]
    assert "p%40ss" not in shown and "p@ss" not in shown


def test_the_key_goes_to_the_server_and_to_its_proxy_and_to_no_sandbox(wire: Dict[str, Any]) -> None:
    with serving(RUN) as elsewhere, scripted(RUN, **wire) as (sandbox, server):
        direct, proxied = {"endpoint": elsewhere.address}, {"endpoint": f"{server.address}/v1/x/proxy/44772"}
        server.table["GET /endpoints/44772"] = lambda request: whole(200, proxied if request.query else direct)
        sandbox.commands.run("x")
        with SandboxClient(sandbox._client.config, use_server_proxy=True) as client:
            client.connect(SANDBOX_ID, wait_ready=False).commands.run("x")
            server.table["GET /endpoints/44772"] = whole(200, direct)  # a proxy that is not the server
            client.connect(SANDBOX_ID, wait_ready=False).commands.run("x")
        (through_server,) = server.asked("POST", "/command")
        assert through_server.headers["open-sandbox-api-key"] == API_KEY
        assert len(elsewhere.requests) == 2
        assert not any("open-sandbox-api-key" in request.headers for request in elsewhere.requests)


def test_headers_go_where_they_belong_and_an_endpoints_own_win(wire: Dict[str, Any]) -> None:
    with scripted(RUN, headers={"X-A": "life"}, sandbox_headers={"X-B": "box", "X-C": "box"}, **wire) as (box, server):
        server.table["GET /endpoints/44772"] = whole(200, {"endpoint": server.address, "headers": {"x-c": "endpoint"}})
        box.info()
        box.commands.run("x")
        life, inside = server.asked("GET", SANDBOX_ID)[0].headers, server.asked("POST", "/command")[0].headers
    assert (life["x-a"], life.get("x-b")) == ("life", None)
    assert (inside.get("x-a"), inside["x-b"], inside["x-c"]) == (None, "box", "endpoint")


# -- redirects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_says_where_it_leads(wire: Dict[str, Any], status: int) -> None:
    with serving({}) as target:
        away = whole(status, b"", {"Location": f"http://{target.address}/v1/sandboxes?token=hidden"})
        table = {"POST /v1/sandboxes": away, "POST /command": away, f"GET /v1/sandboxes/{SANDBOX_ID}": away}
        with scripted(table, **wire) as (sandbox, _):
            for call in (lambda: sandbox._client.create("i"), lambda: sandbox.commands.run("x"), sandbox.info):
                with pytest.raises(ApiError, match=f"redirect to http://{target.address}") as caught:
                    call()
                assert caught.value.status_code == status and "hidden" not in str(caught.value)
        assert not target.requests


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{}", "http://{}", "http://{}/", "http://{}/v1", "{}/v1/", " {} "])
def test_an_address_may_be_written_in_many_ways(form: str) -> None:
    with serving({}) as server:
        with SandboxClient(domain=form.format(server.address)) as client:
            client.info(SANDBOX_ID)
            client.health()
        assert [request.target for request in server.requests] == [f"/v1/sandboxes/{SANDBOX_ID}", "/health"]


def test_an_address_may_have_a_prefix() -> None:
    with serving({}) as server:
        with SandboxClient(domain=f"http://{server.address}/team/a/v1/") as client:
            client.info(SANDBOX_ID)
        assert server.requests[0].target == f"/team/a/v1/sandboxes/{SANDBOX_ID}"


def test_the_environment_names_server_and_key_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({}) as server:
        monkeypatch.setenv("OPEN_SANDBOX_DOMAIN", server.address)
        monkeypatch.setenv("OPEN_SANDBOX_API_KEY", "from the environment")
        for given, key in (({}, "from the environment"), ({"api_key": "mine"}, "mine")):
            with SandboxClient(**given) as client:
                client.info(SANDBOX_ID)
            assert server.requests[-1].headers["open-sandbox-api-key"] == key


def test_a_scheme_in_the_domain_wins_and_holds_for_every_plane() -> None:
    with serving({}) as server, SandboxClient(domain=f"http://{server.address}", protocol="https") as client:
        assert client.endpoint(SANDBOX_ID, 80).url.startswith("http://")
    assert SandboxClient(domain="https://x", protocol="http").config.base_url == "https://x/v1"


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Tuple[Path, ssl.SSLContext]:
    """A certificate authority of this test run's own, and a server's context with a certificate from it."""
    place = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=place, check=True, stdin=subprocess.DEVNULL, capture_output=True)

    new = ["-newkey", "rsa:2048", "-nodes"]
    try:
        openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Test CA",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    except FileNotFoundError:
        pytest.skip("openssl is not here")
    (place / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    openssl("req", *new, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "server.pem", "-days", "2", "-extfile", "names")  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(place / "server.pem"), str(place / "server.key"))
    return place / "ca.pem", context


@pytest.fixture
def secure(authority: Tuple[Path, ssl.SSLContext]) -> Iterator[Scripted]:
    with serving(RUN, tls=authority[1]) as server:
        yield server


@pytest.mark.parametrize("how", ["verify=", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_https_with_a_private_authority_works_on_every_plane(
    monkeypatch: pytest.MonkeyPatch,
    wire: Dict[str, Any],
    secure: Scripted,
    authority: Tuple[Path, ssl.SSLContext],
    how: str,
) -> None:
    bundle: Any = str(authority[0])
    if how != "verify=":
        monkeypatch.setenv(how, bundle)
        bundle = None
    with SandboxClient(domain=f"https://{secure.address}", verify=bundle, **wire) as client:
        with client.create("image") as sandbox:
            for _ in range(3):
                assert sandbox.commands.run("x").stdout == "hi"
            assert list(sandbox.commands.stream("x").lines()) == ["hi"]
    assert secure.asked("DELETE", SANDBOX_ID)


def test_a_secure_connection_that_was_just_made_carries_a_create(
    secure: Scripted, authority: Tuple[Path, ssl.SSLContext]
) -> None:
    """What must not be sent twice goes out on a fresh connection, and this one is."""
    with SandboxClient(domain=f"https://{secure.address}", verify=str(authority[0])) as client:
        client.create("image", wait_ready=False)
    assert secure.connection_count == 1


def test_https_over_the_users_session_takes_its_authority(
    secure: Scripted, authority: Tuple[Path, ssl.SSLContext]
) -> None:
    with requests.Session() as session:
        session.verify = str(authority[0])
        with SandboxClient(domain=f"https://{secure.address}", session=session) as client:
            assert client.connect(SANDBOX_ID).commands.run("x").stdout == "hi"


def test_an_unknown_authority_is_refused_with_the_setting_to_change(wire: Dict[str, Any], secure: Scripted) -> None:
    with SandboxClient(domain=f"https://{secure.address}", **wire) as client:
        with promptly(), pytest.raises(ConnectError, match="verify="):
            client.info(SANDBOX_ID)
    assert not secure.requests


def test_a_certificate_for_another_name_is_refused(
    wire: Dict[str, Any], secure: Scripted, authority: Tuple[Path, ssl.SSLContext]
) -> None:
    port = secure.address.rpartition(":")[2]
    with SandboxClient(domain=f"https://127.0.0.2:{port}", verify=str(authority[0]), **wire) as client:
        with promptly(), pytest.raises(TransportError):
            client.info(SANDBOX_ID)
    assert not secure.requests


def test_http_spoken_to_an_https_server_is_an_error_of_ours(wire: Dict[str, Any], secure: Scripted) -> None:
    with SandboxClient(domain=f"http://{secure.address}", **wire) as client:
        with promptly(), pytest.raises(TransportError):
            client.info(SANDBOX_ID)


# -- sessions and mocks ------------------------------------------------------------------------------------------------


def test_a_users_session_carries_every_request_and_is_not_closed() -> None:
    sent: List[str] = []

    class Counting(requests.adapters.HTTPAdapter):
        closed = False

        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            sent.append(f"{request.method} {request.url.split('//')[1].partition('/')[2]}")
            request.headers["X-Corporate"] = "yes"
            return super().send(request, *args, **kwargs)

        def close(self) -> None:
            self.closed = True
            super().close()

    adapter = Counting()
    with requests.Session() as session:
        session.mount("http://", adapter)
        session.headers["X-Team"] = "a"
        with scripted(RUN, session=session) as (sandbox, server):
            sandbox.info()
            sandbox.commands.run("x")
            asked = list(server.requests)
        assert not adapter.closed
    assert len(sent) == len(asked) == 3
    assert all(request.headers["x-corporate"] == "yes" and request.headers["x-team"] == "a" for request in asked)


@pytest.mark.parametrize("own_session", [False, True])
def test_responses_sees_and_answers_every_request(own_session: bool) -> None:
    with requests.Session() as session, responses.RequestsMock() as mock:
        base = "http://sandbox.example/v1/sandboxes"
        mock.post(base, json={"id": "one", "status": {"state": "Running"}}, status=202)
        mock.get(f"{base}/one/endpoints/44772", json={"endpoint": "10.1.2.3:4"})
        mock.get("http://10.1.2.3:4/ping")
        mock.post("http://10.1.2.3:4/command", body=init() + stdout("mocked") + complete())
        mock.delete(f"{base}/one", status=204)
        settings: Dict[str, Any] = {"session": session} if own_session else {}
        with SandboxClient(domain="sandbox.example", api_key="k", **settings) as client:
            with client.create("image") as sandbox:
                execution = sandbox.commands.run("x")
                assert (execution.stdout, execution.exit_code, execution.id) == ("mocked", 0, COMMAND_ID)
                events = sandbox.commands.stream("x")
                assert [event.type for event in events] == ["init", "stdout", "execution_complete"]
        assert mock.calls[0].request.headers["OPEN-SANDBOX-API-KEY"] == "k"


def test_errors_that_responses_makes_up_become_ours() -> None:
    with responses.RequestsMock() as mock:
        mock.get("http://sandbox.example/v1/sandboxes/a", body=requests.exceptions.ConnectionError("made up"))
        mock.get("http://sandbox.example/v1/sandboxes/b", status=404, json={"code": "X", "message": "no b"})
        with SandboxClient(domain="sandbox.example") as client:
            with pytest.raises(TransportError):
                client.info("a")
            with pytest.raises(ApiError, match="X: no b"):
                client.info("b")


def test_a_compressed_answer_is_read_and_none_is_asked_for(wire: Dict[str, Any]) -> None:
    import gzip

    packed = gzip.compress(init() + stdout("small") + complete())
    table = {"POST /command": whole(200, packed, {"Content-Encoding": "gzip"})}
    with scripted(table, **wire) as (sandbox, server):
        assert sandbox.commands.run("x").stdout == "small"
        assert server.asked("POST", "/command")[0].headers["accept-encoding"] == "identity"


def test_a_reset_handshake_is_a_connect_error(wire: Dict[str, Any]) -> None:
    class Rude(Scripted):
        def _serve(self, connection: Any) -> None:
            with connection:
                connection.recv(1)

    server = Rude({"GET /": [RESET]})
    try:
        with SandboxClient(domain=f"https://{server.address}", **wire) as client:
            with promptly(), pytest.raises(TransportError):
                client.create("image")
    finally:
        server.stop()
