"""Transfers that go wrong on the way, and daemons that lie."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, Dict, Iterable, List, Optional

import pytest
import requests

from opensandbox_sync import RetryPolicy, SandboxClient, connections
from opensandbox_sync.errors import (
    ApiError,
    BadRequestError,
    InvalidArgumentError,
    NotFoundError,
    NotSupportedError,
    ProtocolError,
    RequestTimeoutError,
    SandboxError,
    ServerError,
    TransportError,
)
from opensandbox_sync.services import transfers, trees
from opensandbox_sync.services.multipart import Source
from opensandbox_sync.transport import Plane

from .conftest import until
from .scripted import RESET, in_turn, promptly, python, scripted
from .test_interrupts import wait_until_it_waits
from .wire import HANG, Request, _read_request, refusal, whole

STAMP = "2026-11-22T20:02:06.123456789Z"


def told(path: str, kind: str = "file", size: int = 0, mode: int = 644) -> Dict[str, Any]:
    return {"path": path, "type": kind, "size": size, "mode": mode, "modified_at": STAMP, "created_at": STAMP}


def info(size: int, kind: str = "file") -> Any:
    """Answers ``/files/info`` for whatever is asked."""

    def answer(request: Request) -> Iterable[Any]:
        return whole(200, {path: told(path, kind, size) for path in [request.query["path"]]})

    return answer


def short(length: int, sent: bytes) -> List[Any]:
    """A body that ends before its promised length."""
    return [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + sent, b""]


# -- down --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [short(10, b"half"), short(10, b""), [short(300_000, b"x" * 200_000)[0], RESET]])
@pytest.mark.parametrize("session", [False, True])
def test_a_download_that_is_cut_is_an_error_and_leaves_nothing(tmp_path: Path, answer: Any, session: bool) -> None:
    options = {"session": requests.Session()} if session else {}
    with scripted({"GET /files/download": answer}, **options) as (sandbox, _):
        with pytest.raises(TransportError):
            sandbox.files.download("/a", tmp_path / "a")
        with pytest.raises(TransportError):
            for _ in sandbox.files.iter_bytes("/a"):
                pass
    assert list(tmp_path.iterdir()) == []
    if session:
        options["session"].close()


def test_a_read_that_is_cut_is_repeated(tmp_path: Path) -> None:
    with scripted({"GET /files/download": in_turn(short(10, b"half"), whole(200, b"the whole"))}) as (sandbox, server):
        assert sandbox.files.read_text("/a") == "the whole"
        assert len(server.asked("GET", "/files/download")) == 2


def test_a_download_whose_answer_never_begins_is_asked_for_again(tmp_path: Path) -> None:
    with scripted({"GET /files/download": in_turn([b""], [RESET], whole(200, b"whole"))}) as (sandbox, server):
        assert sandbox.files.download("/a", tmp_path / "a") == 5
        assert len(server.asked("GET", "/files/download")) == 3


def test_a_file_over_a_users_session_comes_in_large_pieces() -> None:
    table = {"GET /files/download": whole(200, b"x" * 200_000)}
    with requests.Session() as session, scripted(table, session=session) as (sandbox, _):
        assert max(map(len, sandbox.files.iter_bytes("/a"))) > 10_000


def test_a_download_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    answer = [short(10, b"half")[0], HANG]
    with scripted({"GET /files/download": answer}, timeout=0.3) as (sandbox, _), promptly():
        with pytest.raises(RequestTimeoutError):
            sandbox.files.download("/a", tmp_path / "a")
        with pytest.raises(RequestTimeoutError):
            sandbox.files.read_bytes("/a")
    assert list(tmp_path.iterdir()) == []


def test_a_transfer_may_take_longer_than_the_timeout_while_bytes_come(tmp_path: Path) -> None:
    def slowly(_: Request) -> Iterable[Any]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"
        for _number in range(20):
            time.sleep(0.1)  # the server's pace is what is tested
            yield b"x"

    with scripted({"GET /files/download": slowly}, timeout=1.5) as (sandbox, _), ThreadPoolExecutor() as pool:
        read = pool.submit(sandbox.files.read_bytes, "/a")
        fetched = pool.submit(sandbox.files.download, "/a", tmp_path / "a")
        pieces = pool.submit(list, sandbox.files.iter_bytes("/a"))
        assert (read.result(), fetched.result(), b"".join(pieces.result())) == (b"x" * 20, 20, b"x" * 20)


DIRECTORY = {"path": "/d", "type": "directory", "size": 4096, "mode": 755, "owner": "root", "group": "root"}


@pytest.mark.parametrize("length", [2**63 - 1, 2**62])
def test_the_length_that_a_daemon_gives_a_directory_is_not_believed(tmp_path: Path, length: int) -> None:
    table = {"GET /files/download": short(length, b""), "GET /files/info": whole(200, {"/d": DIRECTORY})}
    for options in ({}, {"session": requests.Session()}):
        with scripted(table, **options) as (sandbox, _):
            for act in (
                lambda: sandbox.files.read_text("/d"),
                lambda: next(sandbox.files.iter_bytes("/d")),
                lambda: sandbox.files.download("/d", tmp_path / "d"),
            ):
                with pytest.raises(BadRequestError, match="is a directory"):
                    act()
        for session in options.values():
            session.close()
    assert list(tmp_path.iterdir()) == []


NONSENSE: Dict[str, List[Any]] = {
    "a length without a body, as an error": [b"HTTP/1.1 500 Odd\r\nContent-Length: %d\r\n\r\n" % (2**63 - 1), b""],
    "a proxy's error": refusal(502, "", "Bad Gateway"),
    "a body cut at once": [b"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n", b""],
}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_what_comes_of_reading_a_directory_is_told_as_that(tmp_path: Path, nonsense: str) -> None:
    table = {"GET /files/download": NONSENSE[nonsense], "GET /files/info": whole(200, {"/d": DIRECTORY})}
    with scripted(table, retry=RetryPolicy(max_retries=0)) as (sandbox, _):
        for act in (lambda: sandbox.files.read_text("/d"), lambda: sandbox.files.read_bytes("/d")):
            with pytest.raises(BadRequestError, match="is a directory"):
                act()
        if "cut" not in nonsense:
            with pytest.raises(BadRequestError, match="is a directory"):
                sandbox.files.download("/d", tmp_path / "d")


def test_no_error_is_its_own_cause() -> None:
    gone = refusal(500, "X", "file not found. lstat /a: no such file or directory")
    plain = refusal(404, "FILE_NOT_FOUND", "file not found")
    for answer in (gone, plain, refusal(500, "X", "odd")):
        with scripted({"GET /files/download": answer, "GET /files/info": answer}) as (sandbox, _):
            for act in (sandbox.files.read_text, sandbox.files.info, lambda path: next(sandbox.files.iter_bytes(path))):
                with pytest.raises(ApiError) as caught:
                    act("/a")  # type: ignore[operator]
                assert caught.value.__cause__ is not caught.value


def test_a_read_that_fails_of_a_file_keeps_its_own_error() -> None:
    info = {"path": "/f", "type": "file", "size": 1, "mode": 644, "owner": "root", "group": "root"}
    table = {"GET /files/download": refusal(500, "X", "disk on fire"), "GET /files/info": whole(200, {"/f": info})}
    with scripted(table) as (sandbox, _), pytest.raises(ServerError, match="disk on fire"):
        sandbox.files.read_text("/f")


def test_a_download_without_a_length_is_measured_by_a_range(tmp_path: Path) -> None:
    chunked = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]

    def answer(request: Request, size: int) -> Any:
        part = whole(206, b"h", {"Content-Range": f"bytes 0-0/{size}"})
        return part if "range" in request.headers else chunked

    with scripted({"GET /files/download": lambda request: answer(request, 5)}) as (sandbox, _):
        assert sandbox.files.download("/a", tmp_path / "a") == 5
        assert (tmp_path / "a").read_bytes() == b"hello"
        assert sandbox.files.read_bytes("/a") == b"hello"
    table = {"GET /files/download": lambda request: answer(request, 6)}
    with scripted(table) as (sandbox, _), pytest.raises(TransportError, match="5 of 6 bytes"):
        sandbox.files.download("/a", tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


CHUNKED = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nall of it\r\n0\r\n\r\n"]


@pytest.mark.parametrize("answer", [whole(200, b"all of it"), CHUNKED])
def test_a_server_that_ignores_the_range_is_found_out(answer: Any) -> None:
    with scripted({"GET /files/download": answer}) as (sandbox, _):
        for act in (
            lambda: sandbox.files.read_bytes("/a", start=4),
            lambda: list(sandbox.files.iter_bytes("/a", start=4)),
        ):
            with pytest.raises(ProtocolError, match="the whole file came"):
                act()


@pytest.mark.parametrize(
    ("start", "end", "content", "told"),
    [
        (0, 4, b"0123", None),
        (0, 4, b"0123", "bytes */10"),
        (0, 4, b"0123", "bytes 4-1/10"),
        (0, 4, b"0123", "bytes 1-4/10"),
        (0, 4, b"01234", "bytes 0-4/10"),
        (0, 4, b"01", "bytes 0-1/10"),
        (0, 4, b"01234", "bytes 0-3/10"),
        (0, 4, b"012", "bytes 0-3/10"),
        (0, 4, b"0123", f"bytes 0-3/{'9' * 5000}"),
        (6, None, b"678", "bytes 6-8/10"),
        (6, 99, b"678", "bytes 6-8/10"),
        (-2, None, b"789", "bytes 7-9/10"),
        (-2, None, b"789", "bytes 7-9/*"),
    ],
)
def test_another_part_than_was_asked_for_is_refused(start: int, end: Any, content: bytes, told: Any) -> None:
    headers = {"Content-Range": told} if told else {}
    with scripted({"GET /files/download": whole(206, content, headers)}) as (sandbox, _):
        for act in (
            lambda: sandbox.files.read_bytes("/a", start=start, end=end),
            lambda: list(sandbox.files.iter_bytes("/a", start=start, end=end)),
        ):
            with pytest.raises(ProtocolError, match="a part was asked for"):
                act()


@pytest.mark.parametrize(("content", "kind"), [(b"0123456", ProtocolError), (b"012", TransportError)])
def test_a_part_of_another_length_than_told_is_refused(content: bytes, kind: Any) -> None:
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
    head = b"HTTP/1.1 206 Part\r\nContent-Range: bytes 0-3/10\r\nTransfer-Encoding: chunked\r\n\r\n"
    with scripted({"GET /files/download": [head + chunks]}) as (sandbox, _):
        for act in (
            lambda: sandbox.files.read_bytes("/a", end=4),
            lambda: list(sandbox.files.iter_bytes("/a", end=4)),
        ):
            with pytest.raises(kind):
                act()


@pytest.mark.parametrize(
    ("start", "end", "content", "told"),
    [
        (0, 4, b"0123", "bytes 0-3/10"),
        (0, 99, b"0123", "bytes 0-3/4"),
        (0, 4, b"0123", "bytes 0-3/*"),
        (0, 99, b"0123", "bytes 0-3/*"),
        (6, None, b"6789", "bytes 6-9/*"),
        (-99, None, b"0123", "bytes 0-3/4"),
    ],
)
def test_a_part_may_end_where_the_file_does(start: int, end: Any, content: bytes, told: str) -> None:
    with scripted({"GET /files/download": whole(206, content, {"Content-Range": told})}) as (sandbox, _):
        assert sandbox.files.read_bytes("/a", start=start, end=end) == content
        assert b"".join(sandbox.files.iter_bytes("/a", start=start, end=end)) == content


def test_a_part_is_not_the_file(tmp_path: Path) -> None:
    part = whole(206, b"0123", {"Content-Range": "bytes 0-3/10"})
    with scripted({"GET /files/download": part}) as (sandbox, _):
        for act in (
            lambda: sandbox.files.read_text("/a"),
            lambda: list(sandbox.files.iter_bytes("/a")),
            lambda: sandbox.files.download("/a", tmp_path / "a"),
        ):
            with pytest.raises(ProtocolError, match="a part came"):
                act()
    assert list(tmp_path.iterdir()) == []


def test_an_iterator_that_is_left_gives_its_connection_up() -> None:
    left = threading.Event()

    def answer(_: Request) -> Iterable[Any]:
        try:
            yield b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000
            yield HANG  # until the client leaves
        finally:
            left.set()

    with scripted({"GET /files/download": answer}) as (sandbox, _):
        pieces = sandbox.files.iter_bytes("/a")
        assert next(pieces)
        pieces.close()  # type: ignore[attr-defined]
        assert left.wait(20)


# -- up ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [0, 4, 6])
def test_an_upload_that_did_not_arrive_as_a_whole_is_an_error(tmp_path: Path, stored: int) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    table = {
        "POST /files/upload": whole(),
        "GET /files/info": info(stored),
        "GET /directories/list": whole(200, []),
        "POST /directories": whole(),
    }
    with scripted(table) as (sandbox, server):
        with pytest.raises(TransportError, match=f"5 bytes were sent, and {stored} are stored"):
            sandbox.files.upload(tmp_path / "a", "/a")
        with pytest.raises(TransportError, match=f"5 bytes were sent, and {stored} are stored"):
            sandbox.files.upload_dir(tmp_path, "/tree")
        asked = len(server.asked("GET", "/files/info"))
        sandbox.files.upload(tmp_path / "a", "/a", verify=False)
        sandbox.files.upload_dir(tmp_path, "/tree", verify=False)
        assert len(server.asked("GET", "/files/info")) == asked


def test_an_upload_that_is_lost_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    missing = refusal(404, "FILE_NOT_FOUND", "file not found. lstat /a: no such file or directory")
    table = {"POST /files/upload": whole(), "GET /files/info": missing}
    with scripted(table) as (sandbox, _), pytest.raises(NotFoundError):
        sandbox.files.upload(tmp_path / "a", "/a")


def test_an_upload_is_sent_once_and_with_its_length(tmp_path: Path) -> None:
    with scripted({"POST /files/upload": in_turn([RESET], whole())}) as (sandbox, server):
        with pytest.raises(TransportError):
            sandbox.files.write("/a", iter(["some ", b"pieces"]), mode="600")
        (sent,) = server.asked("POST", "/files/upload")
    assert int(sent.headers["content-length"]) == len(sent.body)
    assert "transfer-encoding" not in sent.headers
    assert b'{"path": "/a", "mode": 600}' in sent.body and b"some pieces" in sent.body
    boundary = sent.headers["content-type"].split("boundary=")[1].encode()
    parts = sent.body.split(b"--" + boundary)
    assert [b"filename=" in part for part in parts] == [False, True, True, False] and parts[3] == b"--\r\n"


def test_no_more_than_permission_bits_are_sent(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(0o1777)
    (tmp_path / "a").touch()
    (tmp_path / "a").chmod(0o4755)
    with scripted(
        {"POST /files/upload": whole(), "GET /directories/list": whole(200, []), "POST /directories": whole()}
    ) as (sandbox, server):
        sandbox.files.upload_dir(tmp_path, "/t", verify=False)
        assert b'{"path": "/t/a", "mode": 755}' in server.asked("POST", "/files/upload")[0].body
        assert [r.json for r in server.asked("POST", "/directories")] == [{"/t": {}}, {"/t/d": {"mode": 777}}]


def test_a_file_that_shrinks_while_it_is_sent_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)

    def shrink(done: int, total: int) -> None:
        if done == 0:
            (tmp_path / "a").write_bytes(b"x" * 1_000_000)

    table = {"POST /files/upload": whole()}
    with scripted(table) as (sandbox, _), pytest.raises(InvalidArgumentError, match="2000000 bytes shorter"):
        sandbox.files.upload(tmp_path / "a", "/a", progress=shrink)


def test_an_upload_whose_answer_does_not_come_is_given_up(tmp_path: Path) -> None:
    with scripted({"POST /files/upload": [HANG]}, timeout=0.3) as (sandbox, server), promptly():
        with pytest.raises(RequestTimeoutError):
            sandbox.files.write("/a", "a")
        assert len(server.asked("POST", "/files/upload")) == 1


def test_sending_waits_as_long_as_the_call_may_and_not_as_connecting_may() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, SandboxClient(domain="localhost:1") as client:
        plane = Plane(f"http://127.0.0.1:{listening.getsockname()[1]}", {})
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # a connection's would grow to hold it all
        listening.settimeout(20)

        def serve() -> None:
            connection = listening.accept()[0]
            with connection, connection.makefile("rb") as reader:
                time.sleep(0.8)  # meanwhile the buffers are full
                assert _read_request(reader)
                connection.sendall(whole()[0])

        with ThreadPoolExecutor() as pool:
            served = pool.submit(serve)
            data = b"x" * 30_000_000
            client._transport.request(plane, "POST", "/", action="write", data=data, connect_timeout=0.3)
            served.result()


def test_the_answer_to_a_large_upload_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon brings it to its disk first."""
    waits: List[float] = []
    with scripted({}, timeout=3) as (sandbox, _):
        transport = sandbox._client._transport
        monkeypatch.setattr(transport, "request", lambda *_, idle, **__: waits.append(idle))
        for size in (0, 80 * 2**20):
            sandbox.files._routes.upload([({"path": "/a"}, Source(size, lambda: iter([])))])
    assert [round(wait) for wait in waits] == [3, 13]


# -- what statuses mean ------------------------------------------------------------------------------------------------


def test_an_old_daemon_does_not_support_what_it_does_not_know() -> None:
    plain = whole(404, b"404 page not found", {"Content-Type": "text/plain"})
    with scripted({"GET /files/info": plain, "POST /files/upload": plain, "GET /files/download": plain}) as (
        sandbox,
        _,
    ):
        somebody = sandbox.files.as_user(1000, 1000)
        for act in (
            lambda: somebody.exists("/a"),
            lambda: somebody.write("/a", "a"),
            lambda: somebody.read_text("/a"),
            lambda: next(somebody.iter_bytes("/a")),
        ):
            with pytest.raises(NotSupportedError, match="too old") as caught:
                act()
            assert caught.value.status_code == 404


def test_as_user_asks_below_the_users_prefix_alone() -> None:
    with scripted({"GET /files/info": info(0)}) as (sandbox, server):
        assert sandbox.files.as_user(1, 2).as_user(3, 4).exists("/a")
        assert [r.path for r in server.requests if "files" in r.path] == ["/v1/filesystem/3/4/files/info"]
        with pytest.raises(NotSupportedError, match="one user"):
            type(sandbox.files)(sandbox, prefix="/v1/isolated/session/x").as_user(1, 2)


def test_exists_is_no_answer_where_the_session_or_the_sandbox_is_missing() -> None:
    for code in ("SESSION_NOT_FOUND", "DOCKER::SANDBOX_NOT_FOUND"):
        table = {"GET /files/info": refusal(404, code, "not found")}
        with scripted(table) as (sandbox, _), pytest.raises(NotFoundError):
            sandbox.files.exists("/a")


@pytest.mark.parametrize(
    "answer", [None, [], "text", {}, {"/a": None}, {"/a": {"path": "/a"}}, {"/a": {**told("/a"), "mode": 888}}]
)
def test_an_info_that_is_none_is_a_protocol_error(answer: Any) -> None:
    table = {"GET /files/info": whole(200, json.dumps(answer).encode())}
    with scripted(table) as (sandbox, _), pytest.raises(ProtocolError):
        sandbox.files.info("/a")


def test_a_list_of_nothing_may_come_as_null() -> None:
    with scripted({"GET /directories/list": whole(200, b"null"), "GET /files/search": whole(200, b"null")}) as (s, _):
        assert s.files.list("/a") == [] and s.files.search("/a") == []


@pytest.mark.parametrize(
    "answer",
    ["{}", '{"/a": {}}', "[]", *(f'{{"/a": {{"replacedCount": {n}}}}}' for n in ('"2"', "1e999", "-1", "1.5"))],
)
def test_a_replacement_without_a_count_is_a_protocol_error(answer: str) -> None:
    table = {"POST /files/replace": whole(200, answer.encode())}
    with scripted(table) as (sandbox, _), pytest.raises(ProtocolError):
        sandbox.files.replace_text("/a", "x", "y")


def test_an_isolated_sessions_file_has_no_owner() -> None:
    bare = {"path": "/a", "type": "file", "size": 1, "mode": 600, "modified_at": STAMP}
    with scripted({"GET /files/info": whole(200, {"/a": bare})}) as (sandbox, server):
        found = type(sandbox.files)(sandbox, prefix="/v1/isolated/session/x").info("/a")
        assert (found.mode, found.owner, found.created_at) == (0o600, None, None)
        assert server.requests[-1].path == "/v1/isolated/session/x/files/info"


# -- hostile trees -----------------------------------------------------------------------------------------------------


def listing(*entries: Dict[str, Any], content: bytes = b"theirs") -> Dict[str, Any]:
    return {
        "GET /files/info": lambda _: whole(200, {"/t": told("/t", "directory")}),
        "GET /directories/list": whole(200, list(entries)),
        "GET /files/download": whole(200, content),
    }


@pytest.mark.parametrize(
    "path",
    [
        "/t/../evil",
        "/t/sub/../../evil",
        "/t/./evil",
        "/t//etc/evil",
        "/t/",
        "/t",
        "/tevil",
        "/etc/passwd",
        "evil",
        "",
        "/t/a\0b",
        "/t/C:\\evil",
    ],
)
def test_a_path_that_leads_out_of_the_destination_is_refused(tmp_path: Path, path: str) -> None:
    for kind in ("file", "directory"):
        table = listing(told("/t/fine"), told(path, kind))
        with scripted(table) as (sandbox, _), pytest.raises(ProtocolError, match="leads out"):
            sandbox.files.download_dir("/t", tmp_path / "x" / "down")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_name_that_no_file_can_have_here_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    monkeypatch.setattr(os, "fsencode", lambda name: name.encode("ascii"))  # as where names are ASCII
    table = listing(told("/t/fine"), told("/t/\xe9", kind))
    with scripted(table) as (sandbox, _), pytest.raises(ProtocolError, match="no name here"):
        sandbox.files.download_dir("/t", tmp_path / "down")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["C:evil", "C:\\evil", "a\\..\\..\\evil", "file:stream"])
def test_a_windows_machine_refuses_drives_streams_and_backslashes(name: str) -> None:
    with pytest.raises(ProtocolError, match="leads out"):
        trees._relative(f"/t/{name}", "/t/", windows=True)


def test_names_that_differ_only_in_case_are_refused_where_they_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(listing(told("/t/Makefile"), told("/t/makefile"))) as (sandbox, _):
        monkeypatch.setattr(trees, "_ignores_case", lambda directory: True)
        with pytest.raises(InvalidArgumentError, match="same file"):
            sandbox.files.download_dir("/t", tmp_path / "down")
        assert list((tmp_path / "down").iterdir()) == []


def test_the_probe_for_case_leaves_nothing_behind(tmp_path: Path) -> None:
    probe = tmp_path / "Probe"
    probe.touch()
    expected = (tmp_path / "pROBE").exists()
    probe.unlink()
    assert trees._ignores_case(tmp_path) is expected
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_listed_does_not_hide_a_local_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "down").mkdir()
    (tmp_path / "down" / "sub").symlink_to("../outside")
    with scripted(listing(told("/t/sub/evil"))) as (sandbox, _):
        with pytest.raises(InvalidArgumentError, match="link"):
            sandbox.files.download_dir("/t", tmp_path / "down")
        sandbox.files.download_dir("/t", tmp_path / "new")
    assert list((tmp_path / "outside").iterdir()) == []
    assert (tmp_path / "new" / "sub" / "evil").read_bytes() == b"theirs"


def test_a_name_that_is_a_file_and_a_directory_is_refused(tmp_path: Path) -> None:
    for entries in ([told("/t/a"), told("/t/a/b")], [told("/t/a"), told("/t/a", "directory")]):
        table = listing(*entries)
        with scripted(table) as (sandbox, _), pytest.raises(ProtocolError, match="as a file and as a directory"):
            sandbox.files.download_dir("/t", tmp_path / "down")
    assert list(tmp_path.iterdir()) == []


def test_a_mode_from_the_sandbox_is_masked(tmp_path: Path) -> None:
    with scripted(listing(told("/t/a", mode=4755), told("/t/d", "directory", mode=1777))) as (sandbox, _):
        sandbox.files.download_dir("/t", tmp_path / "down")
    assert (tmp_path / "down" / "a").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "down" / "d").stat().st_mode & 0o7777 == 0o777


def test_a_file_that_fails_ends_the_others_and_is_what_is_raised(tmp_path: Path) -> None:
    def answer(request: Request) -> Any:
        if request.query["path"] == "/t/7":
            return refusal(500, "RUNTIME_ERROR", "error accessing file: open /t/7: permission denied")
        return [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf", HANG]

    table = {**listing(*(told(f"/t/{n}", size=99) for n in range(5, 25))), "GET /files/download": answer}
    with scripted(table) as (sandbox, server), promptly():
        with pytest.raises(ServerError, match="permission denied"):
            sandbox.files.download_dir("/t", tmp_path / "down")
        assert len(server.asked("GET", "/files/download")) <= 8
    assert list((tmp_path / "down").iterdir()) == []


_HALF = "half of what was promised"


@pytest.mark.parametrize("short_way", [True, False])
@pytest.mark.parametrize(
    "framing, body",
    [
        ("Content-Length: 100", _HALF),
        ("Content-Length: 100, 100", _HALF),
        ("Content-Length: 100\r\nContent-Length: 100", _HALF),
        ("Content-Length: 100, 101", _HALF),
        ("Content-Length: 100\r\nContent-Length: 101", _HALF),
        ("Content-Length: " + "1" * 30, _HALF),
        ("Transfer-Encoding: chunked", "ffffffffffffffff\r\n" + _HALF),
        ("Transfer-Encoding: chunked", "64\r\n" + _HALF),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a socket that urllib3 leaves open
def test_a_body_that_is_not_whole_is_no_content_however_its_length_is_told(
    framing: str, body: str, short_way: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "100, 100" in framing and not short_way:
        pytest.skip("http.client takes this for an answer that ends with its connection")
    monkeypatch.setattr(connections, "SHORT_WAY", short_way)
    answer = [f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}".encode(), b""]
    with scripted({"GET /files/download": answer}, retry=RetryPolicy(max_retries=0)) as (sandbox, _), promptly():
        for read in (sandbox.files.read_bytes, lambda path: list(sandbox.files.iter_bytes(path))):
            with pytest.raises((TransportError, ProtocolError)):
                read("/a")
    gc.collect()


def test_where_no_thread_can_be_started_a_tree_comes_anyway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trees, "Thread", Refused)
    with scripted(listing(*(told(f"/t/{n}", size=6) for n in range(9)))) as (sandbox, _):
        sandbox.files.download_dir("/t", tmp_path / "down")
    assert len(list((tmp_path / "down").iterdir())) == 9


_INTERRUPTED = """
import signal, sys
from opensandbox_sync import RetryPolicy, SandboxClient, connections
signal.signal(signal.SIGINT, signal.default_int_handler)
with SandboxClient(domain=sys.argv[1]) as client:
    sandbox = client.connect(sys.argv[2], wait_ready=False)
    try:
        sandbox.files.download_dir("/t", sys.argv[3])
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_ctrl_c_ends_a_stalled_tree_at_once_and_leaves_no_half_file(tmp_path: Path) -> None:
    stalled = [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf", HANG]
    table = {**listing(*(told(f"/t/{n}", size=99) for n in range(9))), "GET /files/download": stalled}
    with scripted(table) as (sandbox, server):
        process = python(_INTERRUPTED, server.address, sandbox.id, str(tmp_path / "down"), flags=("-W", "error"))
        until(lambda: len(server.asked("GET", "/files/download")) >= 8, "eight downloads at once")
        wait_until_it_waits(process)
        with promptly():
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == ("interrupted\n", "", 0)
    assert list((tmp_path / "down").iterdir()) == []


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("mode", [0o644, None])
def test_ctrl_c_at_any_step_of_a_replacement_leaves_no_half_file(tmp_path: Path, mode: Optional[int]) -> None:
    def interrupted_at(step: int) -> bool:
        left = step

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal left
            if frame.f_code.co_filename != transfers.__file__:
                return None
            frame.f_trace_opcodes = True
            left -= event == "opcode"
            if event == "opcode" and left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            with transfers.replacing(tmp_path / "a", mode) as write:
                write(b"whole")
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    step = 0
    while interrupted_at(step):
        assert [path.name for path in tmp_path.iterdir() if path.name != "a" or path.read_bytes() != b"whole"] == []
        step += 1
    assert step > 40


def test_closing_the_client_ends_a_transfer(tmp_path: Path) -> None:
    def hang(request: Request) -> Iterable[Any]:
        sandbox._client.close()
        return [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf", HANG]

    with scripted({"GET /files/download": hang}) as (sandbox, _), promptly(), pytest.raises(SandboxError):
        sandbox.files.download("/a", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
