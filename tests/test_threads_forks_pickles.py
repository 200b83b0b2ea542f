"""One client in many threads, on both sides of a fork, and as a pickle in another process."""

# ruff: noqa: SIM117 (a server, then what is tested: nested, they read in that order)
from __future__ import annotations

import copy
import inspect
import json
import multiprocessing
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Callable, Dict, Iterable, Iterator, List, Type

import pytest

from opensandbox_sync import (
    CommandTimeoutError,
    ConnectionConfig,
    Execution,
    RetryPolicy,
    Sandbox,
    SandboxClient,
    SandboxError,
    StreamInterruptedError,
    errors,
)

from .scripted import API_KEY, finished, python, scripted, serving
from .wire import (
    LAST_CHUNK,
    SANDBOX_ID,
    STREAM_HEAD,
    Request,
    chunk,
    complete,
    cut,
    failed,
    init,
    stdout,
    stream,
    whole,
)

CLASSES = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, SandboxError)]
PICKLERS: Dict[str, Callable[[Any], Any]] = {
    **{f"pickle {n}": lambda x, n=n: pickle.loads(pickle.dumps(x, n)) for n in range(2, pickle.HIGHEST_PROTOCOL + 1)},
    "deepcopy": copy.deepcopy,
}


def with_cloudpickle(value: Any) -> Any:
    cloudpickle = pytest.importorskip("cloudpickle")
    return pickle.loads(cloudpickle.dumps(value))


PICKLERS["cloudpickle"] = with_cloudpickle


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Do ``work(number)`` in so many threads at once; what one of them raises is raised."""
    problems: List[BaseException] = []
    start = threading.Barrier(count)

    def one(number: int) -> None:
        try:
            start.wait(60)
            work(number)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def echo(request: Request) -> Any:
    """A daemon that says the command back, so that an answer given to the wrong caller shows."""
    text = json.loads(request.body)["command"]
    return stream(init(text.replace(" ", "-")), stdout(text), complete())


def test_threads_share_a_client_and_each_gets_its_own_answers() -> None:
    with scripted({"POST /command": echo}) as (sandbox, server):

        def work(thread: int) -> None:
            for number in range(25):
                execution = sandbox.commands.run(f"{thread} {number}")
                assert (execution.stdout, execution.id) == (f"{thread} {number}", f"{thread}-{number}")
                if number % 8 == 0:
                    assert sandbox.info().id == SANDBOX_ID

        in_threads(16, work)
        assert len(server.asked("POST", "/command")) == 16 * 25


def test_threads_share_a_users_session_too() -> None:
    import requests

    with requests.Session() as session, scripted({"POST /command": echo}, session=session) as (sandbox, _):

        def work(thread: int) -> None:
            for number in range(10):
                assert sandbox.commands.run(f"{thread} {number}").stdout == f"{thread} {number}"

        in_threads(8, work)


def test_threads_that_meet_a_new_handle_at_once_look_its_address_up_and_work() -> None:
    with scripted({"POST /command": echo}) as (sandbox, _):
        for _ in range(10):
            fresh = sandbox._client.connect(SANDBOX_ID, wait_ready=False)
            in_threads(8, lambda n, fresh=fresh: fresh.commands.run(f"echo {n}").check())  # type: ignore[misc]


@pytest.mark.embedded
def test_threads_run_commands_of_one_real_sandbox(sandbox: Sandbox) -> None:
    def work(thread: int) -> None:
        for number in range(5):
            assert sandbox.commands.run(f"echo {thread} {number}").stdout.split() == [str(thread), str(number)]

    in_threads(8, work)


@pytest.mark.slow
@pytest.mark.embedded
def test_32_threads_run_200_commands_each(sandbox: Sandbox) -> None:
    def work(thread: int) -> None:
        for number in range(200):
            assert sandbox.commands.run(f"echo {thread} {number}").stdout.split() == [str(thread), str(number)]

    in_threads(32, work)


FORK = """
import os, sys
from opensandbox_sync import SandboxClient
client = SandboxClient(domain=sys.argv[1], api_key=sys.argv[2])
with client.create("image") as sandbox:
    def work(who):
        for number in range(20):
            assert sandbox.commands.run(f"{who} {number}").stdout == f"{who} {number}"
            assert sandbox.info().id == sandbox.id
    work("before")
    go, come = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.read(go, 1)
            work("child")
            with sandbox:
                pass        # a copy: it ends nothing
            client.close()  # nor does this touch the parent's connections
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.write(come, b"x")
    work("parent")
    assert os.waitpid(child, 0)[1] == 0
    work("after")
print("left")
"""


def test_a_fork_and_its_parent_both_use_the_client_and_only_the_parent_kills() -> None:
    with serving({"POST /command": echo}) as server:
        assert finished(python(FORK, server.address, API_KEY)).split() == ["left"]
        texts = [json.loads(request.body)["command"] for request in server.asked("POST", "/command")]
        assert len(texts) == len(set(texts)) == 80, "a command was sent twice"
        assert len(server.asked("DELETE", SANDBOX_ID)) == 1


FORK_IN_BLOCKS = """
import os, sys
from opensandbox_sync import SandboxClient
client = SandboxClient(domain=sys.argv[1], api_key=sys.argv[2])
sandbox = client.connect(sys.argv[3], wait_ready=False)
child = 0
try:
    with sandbox.sessions.create(), sandbox.commands.stream("x") as events:
        print(next(events).type, flush=True)
        child = os.fork()
        if not child:
            sys.exit()  # leaves both blocks with an exception
        assert os.waitpid(child, 0)[1] == 0
        print(client.health(), *[event.type for event in events])
finally:
    if not child:
        os._exit(0)
"""


def test_a_fork_that_leaves_a_block_ends_no_run_and_no_session_of_its_parent() -> None:
    asked = threading.Event()

    def run(request: Request) -> Iterator[bytes]:
        yield STREAM_HEAD + chunk(init())
        assert asked.wait(20)
        yield chunk(complete()) + LAST_CHUNK

    def health(request: Request) -> Iterable[Any]:
        asked.set()
        return whole(200, {"status": "healthy"})

    table = {"POST /command": run, "GET /health": health, "POST /session": whole(200, {"session_id": "s"})}
    with serving({**table, "DELETE /session/s": whole()}) as server:
        told = finished(python(FORK_IN_BLOCKS, server.address, API_KEY, SANDBOX_ID)).split()
        assert told == ["init", "True", "execution_complete"]
        assert (len(server.asked("DELETE", "/session/s")), server.asked("DELETE", "/command")) == (1, [])


@pytest.mark.parametrize("how", PICKLERS)
def test_a_handle_comes_back_working_and_its_block_kills_nothing(how: str) -> None:
    with scripted({"POST /command": echo}) as (sandbox, server):
        owned = sandbox._client.create("image", wait_ready=False)
        with PICKLERS[how](owned) as again:
            assert again == owned and again._client is not owned._client
            assert again.commands.run("echo hi").stdout == "echo hi"
        assert not server.asked("DELETE", SANDBOX_ID)
        again._client.close()
        assert owned.info().id == SANDBOX_ID


@pytest.mark.parametrize("how", PICKLERS)
def test_a_client_and_its_config_come_back_with_their_settings(how: str) -> None:
    config = ConnectionConfig(
        domain="https://example.com/prefix",
        api_key="k",
        timeout=7,
        idle_timeout=8,
        headers={"A": "b"},
        sandbox_headers={"C": "d"},
        use_server_proxy="auto",
        retry=RetryPolicy(max_retries=9),
    )
    with SandboxClient(config) as client, PICKLERS[how](client) as again:
        assert again.config == PICKLERS[how](config) == config
        assert (again.config.base_url, again.config.api_key) == ("https://example.com/prefix/v1", "k")


@pytest.mark.parametrize("how", PICKLERS)
def test_a_service_and_a_background_command_come_back_working(how: str) -> None:
    with scripted({"POST /command": echo}) as (sandbox, _):
        again = PICKLERS[how](sandbox.commands)
        assert again.run("a").stdout == "a"
        again._sandbox._client.close()
        command = PICKLERS[how](sandbox.commands.get("a2cd6cba21ee4b69840a994e51cbf965"))
        assert command.status().running
        command._commands._sandbox._client.close()


@pytest.mark.parametrize("how", PICKLERS)
def test_an_execution_comes_back_equal(how: str) -> None:
    with scripted({"POST /command": stream(init(), stdout("a"), stdout("é\u2028"), failed("3"))}) as (sandbox, _):
        for options in ({}, {"max_output": 2}, {"capture": False}):
            execution: Execution = sandbox.commands.run("x", **options)  # type: ignore[arg-type]
            again = PICKLERS[how](execution)
            assert again == execution
            assert (again.stdout, again.exit_code, again.error) == (execution.stdout, 3, execution.error)
            assert list(again.logs.stdout) == list(execution.logs.stdout)


@pytest.mark.parametrize("how", PICKLERS)
@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_comes_back_whole(kind: Type[SandboxError], how: str) -> None:
    names = inspect.signature(kind.__init__).parameters
    filled = {
        "code": "CODE",
        "request_id": "id",
        "status_code": 418,
        "body": "body",
        "retry_after": 2.0,
        "execution": Execution(id="e"),
        "command_id": "c",
    }
    error = kind("what failed", **{name: value for name, value in filled.items() if name in names})
    error.__cause__ = OSError(threading.Lock())  # a cause may hold anything; it stays behind
    again = PICKLERS[how](error)
    assert type(again) is kind and str(again) == "what failed" and again.__dict__ == error.__dict__


def test_an_error_that_a_call_raised_comes_back_from_a_pickle() -> None:
    with scripted({"POST /command": cut(stream(init(), stdout("half")))}) as (sandbox, _):
        with pytest.raises(StreamInterruptedError) as caught:
            sandbox.commands.run("x")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.command_id) == (str(caught.value), caught.value.command_id)
    assert again.execution.stdout == "half"


def test_the_key_is_pickled_with_the_config_that_holds_it_and_with_nothing_else() -> None:
    table = {"POST /command": stream(init(), stdout("half"), failed("-1", "signal: killed", timestamp=99_000))}
    with scripted(table) as (sandbox, _):
        with pytest.raises(CommandTimeoutError) as caught:
            sandbox.commands.run("x", timeout=60)
        plain = sandbox.commands.run("x")
        assert API_KEY.encode() in pickle.dumps(sandbox)
        for value in (caught.value, plain, sandbox.info(), sandbox.endpoint(80)):
            assert API_KEY.encode() not in pickle.dumps(value)


def run_in_another_process(sandbox: Sandbox) -> Any:
    with sandbox:
        execution = sandbox.commands.run("echo there")
    sandbox._client.close()
    return execution


def fail_in_another_process(sandbox: Sandbox) -> Any:
    try:
        return sandbox.commands.run("x")
    finally:
        sandbox._client.close()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_process_pool_takes_handles_and_gives_executions_back(method: str) -> None:
    with scripted({"POST /command": echo}) as (sandbox, server):
        owned = sandbox._client.create("image", wait_ready=False)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
            results = list(pool.map(run_in_another_process, [owned] * 2, timeout=60))
        assert [result.stdout for result in results] == ["echo there"] * 2
        assert not server.asked("DELETE", SANDBOX_ID)


def test_a_process_pool_gives_errors_back_as_they_are() -> None:
    with scripted({"POST /command": cut(stream(init(), stdout("half")))}) as (sandbox, _):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            with pytest.raises(StreamInterruptedError) as caught:
                pool.submit(fail_in_another_process, sandbox).result(60)
    assert caught.value.execution is not None and caught.value.execution.stdout == "half"


@pytest.mark.embedded
def test_a_client_of_its_own_server_refuses_to_be_pickled_with_the_reason() -> None:
    with SandboxClient.local() as client, pytest.raises(TypeError, match=r"server\.config"):
        pickle.dumps(client)
