"""Sandboxes: made, found, changed and ended, against whichever server is under test."""

from __future__ import annotations

import math
import os
import pickle
import shlex
import subprocess
import sys
import threading
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, List

import pytest

from opensandbox_sync import (
    AuthenticationError,
    BadRequestError,
    ClosedError,
    ConflictError,
    ImageAuth,
    ImageSpec,
    InvalidArgumentError,
    NetworkPolicy,
    NetworkRule,
    NotFoundError,
    PlatformSpec,
    Sandbox,
    SandboxClient,
    SandboxError,
    SandboxReadyTimeoutError,
    Volume,
)

from ..conftest import MakeSandbox, until


def label() -> str:
    """A metadata value that no other sandbox has."""
    return "t" + uuid.uuid4().hex


def is_gone(client: SandboxClient, sandbox_id: str) -> bool:
    """Whether it was ended; some servers show it as such for a while."""
    try:
        return client.info(sandbox_id).state in ("Stopping", "Terminated")
    except NotFoundError:
        return True


# -- create ------------------------------------------------------------------------------------------------------------


def test_a_created_sandbox_is_ready_and_known(sandbox: Sandbox, client: SandboxClient, image: str) -> None:
    info = sandbox.info()
    assert info.id == sandbox.id
    assert info.state == "Running"
    assert info.image is not None and info.image.uri == image
    assert sandbox.is_healthy()
    assert sandbox.id in repr(sandbox)
    assert info == client.info(sandbox.id)


def test_env_and_metadata_arrive(make_sandbox: MakeSandbox) -> None:
    value = label()
    with make_sandbox(env={"GREETING": "hi there; $HOME 'x'"}, metadata={"job": value, "team": "a"}) as sandbox:
        assert sandbox.commands.run('printf "%s" "$GREETING"').stdout.rstrip("\n") == "hi there; $HOME 'x'"
        assert sandbox.info().metadata == {"job": value, "team": "a"}


def test_an_image_may_be_a_spec(make_sandbox: MakeSandbox, image: str) -> None:
    with make_sandbox(image=ImageSpec(image)) as sandbox:
        assert sandbox.is_healthy()


def test_the_lifetime_counts_from_now(make_sandbox: MakeSandbox) -> None:
    with make_sandbox(timeout=timedelta(minutes=3)) as sandbox:
        info = sandbox.info()
        assert info.created_at is not None and info.expires_at is not None
        assert 150 < (info.expires_at - info.created_at).total_seconds() < 210


def test_without_a_timeout_it_lives_until_it_is_killed(make_sandbox: MakeSandbox) -> None:
    with make_sandbox(timeout=None) as sandbox:
        assert sandbox.info().expires_at is None


def test_leaving_the_block_ends_a_sandbox_that_was_created(client: SandboxClient, image: str) -> None:
    with client.create(image) as sandbox:
        assert not is_gone(client, sandbox.id)
    assert is_gone(client, sandbox.id)


def test_an_exception_in_the_block_ends_it_too_and_is_the_one_that_leaves(client: SandboxClient, image: str) -> None:
    with pytest.raises(KeyError, match="mine"), client.create(image) as sandbox:
        raise KeyError("mine")
    assert is_gone(client, sandbox.id)


def test_a_detached_sandbox_outlives_its_block(client: SandboxClient, image: str) -> None:
    with client.create(image) as sandbox:
        sandbox.detach()
    try:
        assert sandbox.is_healthy()
    finally:
        client.kill(sandbox.id)


def test_a_sandbox_that_is_killed_in_its_block_is_fine(client: SandboxClient, image: str) -> None:
    with client.create(image) as sandbox:
        sandbox.kill()
        sandbox.kill()
    assert is_gone(client, sandbox.id)


def test_a_create_that_fails_half_way_leaves_no_sandbox(client: SandboxClient, image: str) -> None:
    value = label()
    with pytest.raises(SandboxReadyTimeoutError, match="health_check returned false"):
        client.create(image, metadata={"job": value}, health_check=lambda sandbox: False, ready_timeout=0.5)
    assert [info for info in client.list(metadata={"job": value}) if not is_gone(client, info.id)] == []


def test_an_exception_of_a_health_check_leaves_no_sandbox(client: SandboxClient, image: str) -> None:
    value = label()

    def explode(sandbox: Sandbox) -> bool:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        client.create(image, metadata={"job": value}, health_check=explode)
    assert [info for info in client.list(metadata={"job": value}) if not is_gone(client, info.id)] == []


def test_ctrl_c_while_waiting_leaves_no_sandbox(client: SandboxClient, image: str) -> None:
    value = label()

    def interrupt(sandbox: Sandbox) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.create(image, metadata={"job": value}, health_check=interrupt)
    assert [info for info in client.list(metadata={"job": value}) if not is_gone(client, info.id)] == []


def test_a_health_check_may_use_the_sandbox(make_sandbox: MakeSandbox) -> None:
    tries: List[int] = []

    def twice(sandbox: Sandbox) -> bool:
        tries.append(1)
        return sandbox.commands.run("true").ok and len(tries) > 1

    with make_sandbox(health_check=twice):
        assert len(tries) == 2


def test_progress_is_told_in_lines(client: SandboxClient, image: str) -> None:
    lines: List[str] = []
    with client.create(image, on_progress=lines.append) as sandbox:
        assert lines[0] == "creating a sandbox"
        assert lines[-1] == f"sandbox {sandbox.id} is ready"


def test_kill_at_exit_ends_it_when_the_interpreter_ends(
    client: SandboxClient, settings: Dict[str, Any], image: str
) -> None:
    program = (
        "import sys; from opensandbox_sync import SandboxClient\n"
        "client = SandboxClient(domain=sys.argv[1])\n"
        "print(client.create(sys.argv[2], kill_at_exit=True).id)"
    )
    argv = [sys.executable, "-c", program, settings["domain"], image]
    environment = {**os.environ, "OPEN_SANDBOX_API_KEY": settings["api_key"] or ""}
    answer = subprocess.run(argv, stdout=subprocess.PIPE, check=True, timeout=120, env=environment)
    assert is_gone(client, answer.stdout.decode().strip())


# -- what create refuses before anything is sent -----------------------------------------------------------------------

DURATIONS = [0, -1, -0.0, math.inf, -math.inf, math.nan, "60", True, timedelta(0), timedelta(seconds=-5), 10**400]

BAD_CREATES: List[Any] = [
    ({}, "exactly one"),
    ({"image": "i", "snapshot_id": "s"}, "image and snapshot_id were given"),
    ({"image": "i", "pool": "p"}, "exactly one"),
    ({"snapshot_id": "s", "template_id": "t", "pool": "p"}, "exactly one"),
    ({"image": ""}, "image"),
    ({"image": "  "}, "image"),
    ({"image": "a\0b"}, "image"),
    ({"image": 7}, "image"),
    ({"snapshot_id": ""}, "snapshot_id"),
    ({"template_id": " "}, "template_id"),
    ({"pool": ""}, "pool"),
    ({"template_id": "t", "timeout": None}, "timeout"),
    ({"template_id": "t", "env": {"A": "1"}}, "env cannot be given with template_id"),
    ({"pool": "p", "resource_limits": {"cpu": "1"}}, "resource_limits cannot be given with pool"),
    ({"pool": "p", "extensions": {"poolRef": "q"}}, "pool"),
    ({"image": "i", "env": {"A": 1}}, "env"),
    ({"image": "i", "env": {"": "x"}}, "env"),
    ({"image": "i", "env": "A=1"}, "env"),
    ({"image": "i", "metadata": {"a": None}}, "metadata"),
    ({"image": "i", "metadata": [("a", "b")]}, "metadata"),
    ({"image": "i", "resource_limits": {"cpu": 1}}, "resource_limits"),
    ({"image": "i", "resource_requests": {1: "1"}}, "resource_requests"),
    ({"image": "i", "extensions": {"access.renew.extend.seconds": 300}}, "extensions"),
    ({"image": "i", "entrypoint": "sleep 60"}, "entrypoint"),
    ({"image": "i", "entrypoint": []}, "entrypoint"),
    ({"image": "i", "entrypoint": ["a", 1]}, "entrypoint"),
    ({"image": "i", "entrypoint": ["a\0"]}, "entrypoint"),
    ({"image": "i", "platform": "linux/amd64"}, "platform"),
    ({"image": "i", "network_policy": {"defaultAction": "deny"}}, "network_policy"),
    ({"image": "i", "network_policy": NetworkPolicy("maybe")}, "default_action"),
    ({"image": "i", "network_policy": NetworkPolicy(egress=[NetworkRule("allow", " ")])}, "target"),
    ({"image": "i", "network_policy": NetworkPolicy(egress=[NetworkRule("permit", "a.b")])}, "action"),
    ({"image": "i", "credential_proxy": "yes"}, "credential_proxy"),
    ({"image": "i", "lifecycle": {"preStart": {}}}, "lifecycle"),
    ({"image": "i", "volumes": [{"name": "v"}]}, "volumes"),
    ({"image": "i", "health_check": True}, "health_check"),
    ({"image": "i", "on_progress": "print"}, "on_progress"),
    *[({"image": "i", "timeout": value}, "timeout") for value in DURATIONS],
    *[({"image": "i", "ready_timeout": value}, "ready_timeout") for value in [*DURATIONS, None]],
]


@pytest.mark.parametrize(("options", "words"), BAD_CREATES)
def test_create_refuses_bad_arguments_before_anything_is_sent(options: Dict[str, Any], words: str) -> None:
    sent: List[Any] = []
    with SandboxClient(domain="127.0.0.1:1", on_request=sent.append) as client:
        with pytest.raises(InvalidArgumentError, match=words):
            client.create(**options)
        assert sent == []


def test_a_registrys_password_shows_nowhere() -> None:
    spec = ImageSpec("registry.example.com/a:1", ImageAuth("me", "s3cret"))
    assert "s3cret" not in repr(spec)


@pytest.mark.parametrize(
    "act",
    [
        lambda client: client.info(""),
        lambda client: client.kill(" "),
        lambda client: client.connect("a\0b"),
        lambda client: client.connect("x", ready_timeout=0),
        lambda client: client.connect("x", health_check=True),
        lambda client: client.resume(None),
        lambda client: client.resume("x", health_check="yes"),
        lambda client: client.resume("x", ready_timeout=math.nan),
        lambda client: client.pause(7),
        lambda client: client.renew("x", 0),
        lambda client: client.renew("x", -3),
        lambda client: client.renew("x", math.inf),
        lambda client: client.renew("x", None),
        lambda client: client.patch_metadata("x", {"a": 1}),
        lambda client: client.patch_metadata("x", "a=b"),
        lambda client: client.patch_metadata("x", {"": "b"}),
        lambda client: client.endpoint("x", 0),
        lambda client: client.endpoint("x", 65536),
        lambda client: client.endpoint("x", "80"),
        lambda client: client.endpoint("x", True),
        lambda client: client.endpoint("x", 80, expires=0),
        lambda client: client.endpoint("x", 80, expires="tomorrow"),
        lambda client: client.endpoint("x", 80, expires=1_900_000_000_000),  # milliseconds
        lambda client: client.endpoint("x", 80, use_server_proxy="no"),
        lambda client: client.endpoint("x", 80, use_server_proxy=1),
        lambda client: client.endpoint("x", 80, expires=10**10, use_server_proxy=True),
        lambda client: client.list(states="Running"),
        lambda client: client.list(states=[""]),
        lambda client: client.list(states=[None]),
        lambda client: client.list(metadata={"a": 1}),
        lambda client: client.list(metadata="a=b"),
        lambda client: client.list(metadata=""),
        lambda client: client.list(metadata=[]),
        lambda client: client.connect("x", ready_timeout=1e300),
        lambda client: client.renew("x", 1e300),
        lambda client: client.list_page(page=0),
        lambda client: client.list_page(page_size=0),
        lambda client: client.list_page(page_size=201),
        lambda client: client.list_page(page=True),
        lambda client: client.list_page(page=1.5),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(act: Callable[[SandboxClient], Any]) -> None:
    sent: List[Any] = []
    with SandboxClient(domain="127.0.0.1:1", on_request=sent.append) as client:
        with pytest.raises(InvalidArgumentError):
            act(client)
        assert sent == []


def test_a_platform_that_is_no_platform_is_the_servers_to_refuse_or_take(client: SandboxClient, image: str) -> None:
    value = label()
    try:
        client.create(image, platform=PlatformSpec("plan9", "mips"), metadata={"job": value}, ready_timeout=2).kill()
    except SandboxError:
        pass
    assert [info for info in client.list(metadata={"job": value}) if not is_gone(client, info.id)] == []


# -- what the server refuses -------------------------------------------------------------------------------------------


def test_a_refusal_keeps_the_servers_code_words_and_request_id(client: SandboxClient) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.info("no-such-sandbox")
    error = caught.value
    assert error.status_code == 404
    assert "SANDBOX_NOT_FOUND" in error.code and error.code in str(error)
    assert "no-such-sandbox not found" in str(error)
    assert error.request_id and error.request_id in str(error)


def test_a_lifetime_that_is_too_short_is_refused_by_the_server(client: SandboxClient, image: str) -> None:
    with pytest.raises(BadRequestError, match="greater than or equal to 60"):
        client.create(image, timeout=5)


def test_a_label_that_is_none_is_refused_by_the_server(client: SandboxClient, image: str) -> None:
    with pytest.raises(BadRequestError, match="bad key!"):
        client.create(image, metadata={"bad key!": "v"})


@pytest.mark.embedded
def test_a_wrong_key_is_an_authentication_error_that_shows_no_key(settings: Dict[str, Any]) -> None:
    with SandboxClient(domain=settings["domain"], api_key="s3cret") as client:
        with pytest.raises(AuthenticationError, match="api_key=") as caught:
            client.list()
        assert caught.value.code == "INVALID_API_KEY"
        assert "s3cret" not in str(caught.value)


def test_a_sandbox_id_with_a_slash_stays_one_id(client: SandboxClient) -> None:
    with pytest.raises(NotFoundError):
        client.info("../sandboxes")
    with pytest.raises(NotFoundError):
        client.info("a/b?c#d")


# -- find --------------------------------------------------------------------------------------------------------------


def test_the_list_filters_by_metadata_and_state(client: SandboxClient, make_sandbox: MakeSandbox) -> None:
    value = label()
    with make_sandbox(metadata={"job": value, "n": "1"}) as first, make_sandbox(
        metadata={"job": value, "n": "2"}
    ) as second:
        assert {info.id for info in client.list(metadata={"job": value})} == {first.id, second.id}
        assert [info.id for info in client.list(metadata={"job": value, "n": "2"})] == [second.id]
        assert client.list(metadata={"job": label()}) == []
        assert client.list(states=["Paused"], metadata={"job": value}) == []
        both = client.list(states=("Paused", "Running"), metadata={"job": value})
        assert {info.id for info in both} == {first.id, second.id}


def test_pages_tell_where_they_stand_and_the_list_reads_them_all(
    client: SandboxClient, make_sandbox: MakeSandbox
) -> None:
    value = {"job": label()}
    with make_sandbox(metadata=value) as a, make_sandbox(metadata=value) as b, make_sandbox(metadata=value) as c:
        page = client.list_page(metadata=value, page_size=2)
        assert len(page) == 2 and page.pagination.has_next_page
        assert (page.pagination.page, page.pagination.page_size, page.pagination.total_items) == (1, 2, 3)
        last = client.list_page(metadata=value, page=2, page_size=2)
        assert len(last) == 1 and not last.pagination.has_next_page
        assert {info.id for info in [*page, *last]} == {a.id, b.id, c.id}
        assert len(client.list_page(metadata=value, page=9)) == 0
        for info in client.list(metadata=value):
            client.kill(info.id)
        assert all(is_gone(client, sandbox.id) for sandbox in (a, b, c))


def test_connect_gives_a_handle_that_does_not_own_it(client: SandboxClient, fresh_sandbox: Sandbox) -> None:
    with client.connect(fresh_sandbox.id) as again:
        assert again == fresh_sandbox and hash(again) == hash(fresh_sandbox)
        assert again.commands.run("echo here").stdout.strip() == "here"
    assert fresh_sandbox.is_healthy()


def test_connecting_to_nothing_is_not_found_at_once(client: SandboxClient) -> None:
    with pytest.raises(NotFoundError):
        client.connect("no-such-sandbox", ready_timeout=60)


def test_a_pickled_sandbox_works_and_does_not_own_it(settings: Dict[str, Any], fresh_sandbox: Sandbox) -> None:
    with pickle.loads(pickle.dumps(fresh_sandbox)) as again:
        assert again == fresh_sandbox
        assert again.commands.run("echo here").stdout.strip() == "here"
        again._client.close()
    assert fresh_sandbox.is_healthy()


def test_a_dead_sandbox_is_not_found(client: SandboxClient, make_sandbox: MakeSandbox) -> None:
    with make_sandbox() as sandbox:
        sandbox.kill()
        until(lambda: is_gone(client, sandbox.id), "the sandbox to be gone")
        assert not sandbox.is_healthy()
        with pytest.raises(SandboxError):
            sandbox.commands.run("true")


# -- change ------------------------------------------------------------------------------------------------------------


def test_pause_and_resume(client: SandboxClient, fresh_sandbox: Sandbox) -> None:
    fresh_sandbox.commands.run("echo kept > ~/kept")
    fresh_sandbox.pause()
    assert until(lambda: fresh_sandbox.info().state == "Paused", "the sandbox to be paused")
    with pytest.raises(ConflictError):
        fresh_sandbox.pause()
    fresh_sandbox.resume()
    assert fresh_sandbox.info().state == "Running"
    assert fresh_sandbox.commands.run("cat ~/kept").stdout.strip() == "kept"
    with pytest.raises(ConflictError):
        fresh_sandbox.resume()
    fresh_sandbox.pause()
    with client.resume(fresh_sandbox.id) as again:
        assert again.commands.run("cat ~/kept").stdout.strip() == "kept"
    assert fresh_sandbox.is_healthy()


def test_renewing_moves_the_expiry_both_ways(fresh_sandbox: Sandbox) -> None:
    now = datetime.now(timezone.utc)
    later = fresh_sandbox.renew(timedelta(hours=2))
    assert fresh_sandbox.info().expires_at == later
    assert 7000 < (later - now).total_seconds() < 7400
    sooner = fresh_sandbox.renew(300)
    assert sooner < later and fresh_sandbox.info().expires_at == sooner


def test_a_renewal_beyond_the_calendar_is_refused(fresh_sandbox: Sandbox) -> None:
    with pytest.raises(InvalidArgumentError, match=r"timeout must be finite .* at most 1000000000"):
        fresh_sandbox.renew(1e15)


def test_manual_cleanup_cannot_be_renewed(make_sandbox: MakeSandbox) -> None:
    with make_sandbox(timeout=None) as sandbox:
        with pytest.raises(ConflictError):
            sandbox.renew(300)
        with sandbox.keep_alive():
            assert sandbox.info().expires_at is None


def test_keep_alive_renews_at_once_and_while_it_is_open(fresh_sandbox: Sandbox) -> None:
    before = fresh_sandbox.info().expires_at
    assert before is not None
    with fresh_sandbox.keep_alive(timeout=3600):
        renewed = fresh_sandbox.info().expires_at
        assert renewed is not None and renewed > before + timedelta(minutes=20)


def test_keep_alive_raises_when_its_renewals_failed(make_sandbox: MakeSandbox) -> None:
    with make_sandbox() as sandbox, pytest.raises(NotFoundError), sandbox.keep_alive(timeout=0.3) as alive:
        sandbox.kill()
        assert alive._thread is not None
        until(lambda: not alive._thread.is_alive(), "the renewals to give up")  # type: ignore[union-attr]


def test_metadata_is_patched_key_by_key(fresh_sandbox: Sandbox) -> None:
    fresh_sandbox.patch_metadata({"a": "1", "b": "2"})
    info = fresh_sandbox.patch_metadata({"a": None, "c": "3", "never-there": None})
    assert info.metadata == fresh_sandbox.info().metadata == {"b": "2", "c": "3"}
    with pytest.raises(BadRequestError, match="reserved"):
        fresh_sandbox.patch_metadata({"opensandbox.io/x": "1"})
    assert fresh_sandbox.patch_metadata({}).metadata == {"b": "2", "c": "3"}


# -- ports -------------------------------------------------------------------------------------------------------------

SERVE = """import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204 if self.path == "/ready?a=b" else 503)
        self.end_headers()
    def log_message(self, *args): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def serve(sandbox: Sandbox) -> int:
    """Starts a small web server in the sandbox; returns its port."""
    command = sandbox.commands.start(f"exec python3 -c {shlex.quote(SERVE)}")
    return int(until(lambda: command.logs().text.strip(), "the web server's port"))


def test_waiting_for_a_port_and_for_its_http(fresh_sandbox: Sandbox) -> None:
    port = serve(fresh_sandbox)
    fresh_sandbox.wait_for_port(port, timeout=20)
    assert fresh_sandbox.wait_for_http(port, "/ready?a=b", timeout=20) == 204
    with pytest.raises(SandboxReadyTimeoutError, match="503"):
        fresh_sandbox.wait_for_http(port, "/never", timeout=0.3)
    endpoint = fresh_sandbox.endpoint(port)
    assert fresh_sandbox.url(port) == endpoint.url and "://" in endpoint.url


def test_waiting_for_a_port_that_stays_closed_ends(fresh_sandbox: Sandbox) -> None:
    with pytest.raises(SandboxReadyTimeoutError, match="port 9 "):
        fresh_sandbox.wait_for_port(9, timeout=0.3)
    with pytest.raises(TimeoutError, match="port 9 "):
        fresh_sandbox.wait_for_http(9, timeout=0.3)


@pytest.mark.parametrize(
    "act",
    [
        lambda sandbox: sandbox.wait_for_port(0),
        lambda sandbox: sandbox.wait_for_port(80, timeout=0),
        lambda sandbox: sandbox.wait_for_http(80, "no-slash"),
        lambda sandbox: sandbox.wait_for_http(80, 7),
        lambda sandbox: sandbox.wait_for_http(80, timeout=math.nan),
        lambda sandbox: sandbox.wait_for_http("80"),
        lambda sandbox: sandbox.endpoint(-1),
        lambda sandbox: sandbox.renew("1h"),
        lambda sandbox: sandbox.keep_alive(0),
        lambda sandbox: sandbox.resume(ready_timeout=-1),
        lambda sandbox: sandbox.wait_until_ready(0),
    ],
)
def test_a_handle_refuses_bad_arguments_before_anything_is_sent(act: Callable[[Sandbox], Any]) -> None:
    sent: List[Any] = []
    with SandboxClient(domain="127.0.0.1:1", on_request=sent.append) as client:
        with pytest.raises(InvalidArgumentError):
            act(client.connect("x", wait_ready=False))
        assert sent == []


# -- the client --------------------------------------------------------------------------------------------------------


def test_health_and_version(client: SandboxClient) -> None:
    assert client.health() is True
    assert client.version().count(".") >= 1


def test_through_the_servers_proxy_all_is_the_same(settings: Dict[str, Any], fresh_sandbox: Sandbox) -> None:
    with SandboxClient(**settings, use_server_proxy=True) as client:
        sandbox = client.connect(fresh_sandbox.id)
        assert settings["domain"].rpartition("/")[2] in sandbox.endpoint(44772).endpoint
        execution = sandbox.commands.run("echo out; echo err >&2; exit 3")
        assert (execution.stdout.strip(), execution.stderr.strip(), execution.exit_code) == ("out", "err", 3)


def test_auto_takes_the_way_that_works(settings: Dict[str, Any], fresh_sandbox: Sandbox) -> None:
    with SandboxClient(**settings, use_server_proxy="auto") as client:
        assert client.connect(fresh_sandbox.id).commands.run("echo here").stdout.strip() == "here"


def test_a_closed_client_says_so(settings: Dict[str, Any]) -> None:
    client = SandboxClient(**settings)
    client.close()
    client.close()
    with pytest.raises(ClosedError, match="SandboxClient"):
        client.list()
    assert "closed" in repr(client)


def test_a_pickled_client_works(settings: Dict[str, Any]) -> None:
    with SandboxClient(**settings) as client, pickle.loads(pickle.dumps(client)) as again:
        assert again.health()


def test_closing_in_one_thread_ends_the_calls_of_the_others(settings: Dict[str, Any], sandbox: Sandbox) -> None:
    client = SandboxClient(**settings)
    ended: List[BaseException] = []
    seen = threading.Event()

    def run() -> None:
        try:
            client.connect(sandbox.id).commands.run("echo on; sleep 100", on_stdout=lambda text: seen.set())
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert seen.wait(30)
    client.close()
    thread.join(30)
    assert not thread.is_alive()
    assert [type(error) for error in ended] == [ClosedError]


@pytest.mark.embedded
def test_many_threads_share_one_client(client: SandboxClient, sandbox: Sandbox) -> None:
    found: List[str] = []

    def work(number: int) -> None:
        for _ in range(5):
            found.append(sandbox.commands.run(f"echo {number}").stdout.strip())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == sorted(str(number) for number in range(12) for _ in range(5))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_uses_the_client_and_does_not_end_the_sandbox(settings: Dict[str, Any], image: str) -> None:
    with SandboxClient(**settings) as client, client.create(image) as sandbox:
        assert sandbox.commands.run("true").ok
        child = os.fork()
        if not child:
            code = 1
            try:
                with sandbox:
                    code = 0 if sandbox.commands.run("echo child").stdout.strip() == "child" else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert sandbox.commands.run("echo parent").stdout.strip() == "parent"


@pytest.mark.embedded
def test_a_local_client_owns_its_server_and_refuses_to_be_pickled() -> None:
    with SandboxClient.local() as client:
        assert client.health()
        with pytest.raises(TypeError, match="local"):
            pickle.dumps(client)
        with client.create("python:3.12") as sandbox:
            assert sandbox.commands.run("echo local").stdout == "local\n"
            domain = client.config.domain
    with SandboxClient(domain=domain, retry=None) as other, pytest.raises(SandboxError, match="connection"):
        other.health()


def test_a_missing_server_says_what_was_tried_and_how_to_start_one() -> None:
    with SandboxClient(domain="127.0.0.1:1", timeout=5) as client, pytest.raises(SandboxError) as caught:
        client.create("python:3.12")
    words = str(caught.value)
    assert "127.0.0.1:1" in words and "python -m opensandbox_sync.local" in words
    assert "domain" in words and "refused" in words


def test_volumes_that_cannot_be_mounted_are_refused() -> None:
    for volume in (
        lambda: Volume("v", "/data"),
        lambda: Volume("Bad Name", "/data"),
        lambda: Volume("v", "relative"),
        lambda: Volume("v", ""),
    ):
        with pytest.raises(InvalidArgumentError, match="volume"), SandboxClient(domain="127.0.0.1:1") as client:
            client.create("i", volumes=[volume()])


@pytest.mark.embedded
def test_a_local_client_takes_the_servers_options_and_its_own() -> None:
    with SandboxClient.local(isolation="none", idle_timeout=7) as client:
        assert client.config.idle_seconds == 7 and client.health()
    for options in ({"isolation": "docker"}, {"port": "8080"}, {"idle_timeout": -1}):
        with pytest.raises(InvalidArgumentError):
            SandboxClient.local(**options)
