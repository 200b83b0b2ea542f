"""Files and directories: what the recordings do not show."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple
from urllib.parse import urlencode

import pytest

from .execd_daemon import Execd, execd
from .http_api import Reply

__all__ = ["execd"]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
EDGE = b"--edge"


def multipart(*parts: Tuple[str, bytes]) -> bytes:
    """Each part is a field's name and its content; a name that ends in `-` has no file name."""
    body = b""
    for name, content in parts:
        named = "" if name.endswith("-") else '; filename="x"'
        head = f'Content-Disposition: form-data; name="{name.rstrip("-")}"{named}'
        body += EDGE + b"\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"
    return body + EDGE + b"--\r\n"


def upload(execd: Execd, *parts: Tuple[str, bytes], prefix: str = "") -> Reply:
    kind = {"Content-Type": "multipart/form-data; boundary=edge"}
    return execd.call("POST", prefix + "/files/upload", multipart(*parts), kind)


def described(path: Path, **fields: Any) -> Tuple[str, bytes]:
    return "metadata", json.dumps({"path": str(path), **fields}).encode()


def get(execd: Execd, route: str, *pairs: Tuple[str, Any], **headers: str) -> Reply:
    return execd.call("GET", f"{route}?{urlencode(pairs)}", headers=headers)


def test_the_kth_metadata_belongs_to_the_kth_file_whatever_their_order(execd: Execd, tmp_path: Path) -> None:
    first, second = tmp_path / "new" / "a", tmp_path / "b"
    reply = upload(execd, ("file", b"1"), described(first), described(second, mode=600), ("file", b"\r\n2"))
    assert (reply.status, reply.body, "content-type" in reply.headers) == (200, b"", False)
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"\r\n2")
    assert (first.stat().st_mode & 0o777, second.stat().st_mode & 0o777) == (0o755, 0o600)


def test_an_upload_overwrites_in_place(execd: Execd, tmp_path: Path) -> None:
    path, link = tmp_path / "a", tmp_path / "link"
    path.write_text("longer than what comes")
    path.chmod(0o640)
    link.symlink_to(path)
    before = path.stat()
    upload(execd, described(link), ("file", b"short"))
    assert path.read_bytes() == b"short"
    assert (path.stat().st_ino, path.stat().st_mode) == (before.st_ino, before.st_mode)
    assert link.is_symlink()


@pytest.mark.parametrize(
    ("parts", "status", "code", "message"),
    [
        ([], 400, "INVALID_FILE", "multipart form is empty"),
        ([("metadata-", b"{}"), ("file", b"")], 400, "INVALID_FILE_METADATA", "metadata file is missing"),
        ([("metadata", b"{}")], 400, "INVALID_FILE_CONTENT", "file is missing"),
        ([("metadata", b"{}"), ("file", b""), ("file", b"")], 400, "INVALID_FILE", "count mismatch: 1 vs 2"),
        ([("metadata", b"{}"), ("file", b"")], 400, "INVALID_FILE_METADATA", "metadata path is empty"),
        ([("metadata", b"[]"), ("file", b"")], 400, "INVALID_FILE_METADATA", "invalid metadata format. "),
        ([("metadata", b'{"mode":"644"}'), ("file", b"")], 400, "INVALID_FILE_METADATA", "invalid metadata format."),
        ([("metadata", b'{"path":"/"}'), ("file", b"")], 500, "RUNTIME_ERROR", "error opening destination file "),
        ([("metadata", b'{"path":"$NOPE"}'), ("file", b"")], 500, "RUNTIME_ERROR", "error resolving target path "),
    ],
)
def test_an_upload_that_makes_no_sense_is_refused(
    execd: Execd, parts: List[Tuple[str, bytes]], status: int, code: str, message: str
) -> None:
    reply = upload(execd, *parts)
    assert (reply.status, reply.json["code"]) == (status, code)
    assert message in reply.json["message"]


def test_a_body_that_is_not_multipart_is_refused(execd: Execd) -> None:
    reply = execd.call("POST", "/files/upload", b"plain", {"Content-Type": "text/plain"})
    assert (reply.status, reply.json) == (400, {"code": "INVALID_FILE", "message": "multipart form is empty"})


@pytest.mark.parametrize(
    ("mode", "why"), [(493, "invalid syntax"), (-1, "invalid syntax"), (777777777777, "value out of range")]
)
def test_a_bad_mode_is_told_after_the_data_was_written_and_changes_nothing(
    execd: Execd, tmp_path: Path, mode: int, why: str
) -> None:
    path = tmp_path / "a"
    reply = upload(execd, described(path, mode=mode), ("file", b"x"))
    reason = f'strconv.ParseUint: parsing "{mode}": {why}'
    assert (reply.status, reply.json["message"]) == (500, f"error chmoding file {path}. {reason}")
    assert path.read_bytes() == b"x"
    path.chmod(0o640)
    reply = execd.call("POST", "/files/permissions", {str(path): {"mode": mode}})
    assert (reply.status, reply.json["message"]) == (500, f"error changing permissions for {path}. {reason}")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_thousand_files_in_one_request(execd: Execd, tmp_path: Path) -> None:
    parts = [part for n in range(1000) for part in (described(tmp_path / f"{n}"), ("file", b"%d" % n))]
    assert upload(execd, *parts).status == 200
    assert {path.name for path in tmp_path.iterdir()} == {path.read_text() for path in tmp_path.iterdir()}


def test_a_large_file_goes_in_chunked_and_comes_out_whole(execd: Execd, tmp_path: Path) -> None:
    piece = os.urandom(1 << 20)
    path = tmp_path / "large"

    def body() -> Iterator[bytes]:
        start, end = multipart(described(path), ("file", b"SPLIT")).split(b"SPLIT")
        yield start
        for _ in range(40):
            yield piece
        yield end

    connection = http.client.HTTPConnection(execd.address, timeout=60)
    headers = {**execd.headers, "Content-Type": "multipart/form-data; boundary=edge"}
    connection.request("POST", "/files/upload", body(), headers, encode_chunked=True)
    assert connection.getresponse().read() == b""
    connection.close()
    whole = hashlib.sha256(piece * 40).digest()
    assert hashlib.sha256(path.read_bytes()).digest() == whole
    reply = get(execd, "/files/download", ("path", path))
    assert reply.headers["content-length"] == str(40 << 20)
    assert hashlib.sha256(reply.body).digest() == whole


@pytest.mark.parametrize(
    ("asked", "status", "content_range", "body"),
    [
        ("bytes=2-4", 206, "bytes 2-4/10", b"234"),
        ("bytes=7-", 206, "bytes 7-9/10", b"789"),
        ("bytes=-3", 206, "bytes 7-9/10", b"789"),
        ("bytes=-30", 206, "bytes 0-9/10", b"0123456789"),
        ("bytes=8-100", 206, "bytes 8-9/10", b"89"),
        ("bytes=1-1,3-4", 206, "bytes 1-1/10", b"1"),
        ("bytes=99-,0-1", 206, "bytes 0-1/10", b"01"),
        ("bytes=-0,0-1", 206, "bytes 0-1/10", b"01"),
        ("bytes= 0 - 1", 206, "bytes 0-1/10", b"01"),
        ("bytes=-0", 206, "bytes 10-9/10", b""),
        ("bytes=", 200, None, b"0123456789"),
        ("bytes=,", 200, None, b"0123456789"),
        ("", 200, None, b"0123456789"),
        ("Bytes=0-1", 416, "bytes */10", b"invalid range: failed to overlap\n"),
        ("lines=0-1", 416, "bytes */10", b"invalid range: failed to overlap\n"),
        ("bytes=1-0", 416, "bytes */10", b"invalid range: failed to overlap\n"),
        ("bytes=0-" + "9" * 5000, 416, "bytes */10", b"invalid range: failed to overlap\n"),
        ("bytes=0-1,-", 416, "bytes */10", b"invalid range: failed to overlap\n"),
        ("bytes=10-", 416, "bytes */10", b"invalid range: failed to overlap\n"),
        ("bytes=x", 416, "bytes */10", b"invalid range: failed to overlap\n"),
    ],
)
def test_ranges(execd: Execd, tmp_path: Path, asked: str, status: int, content_range: Any, body: bytes) -> None:
    (tmp_path / "ten").write_bytes(b"0123456789")
    reply = get(execd, "/files/download", ("path", tmp_path / "ten"), Range=asked)
    assert (reply.status, reply.headers.get("content-range"), reply.body) == (status, content_range, body)


def test_a_range_of_an_empty_file_is_the_empty_file(execd: Execd, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    reply = get(execd, "/files/download", ("path", tmp_path / "empty"), Range="bytes=0-1")
    assert (reply.status, reply.body) == (200, b"")


@pytest.mark.parametrize(
    ("pairs", "status", "body"),
    [
        ([("offset", 1)], 200, b"a\n\nb\nc"),
        ([("offset", 2), ("limit", 2)], 200, b"\nb"),
        ([("limit", 1)], 200, b"a"),
        ([("offset", 9)], 200, b""),
        ([("offset", 2**62), ("limit", 2**62)], 200, b""),
        ([("offset", ""), ("limit", 1)], 200, b"a"),
        ([("offset", 0)], 400, None),
        ([("limit", "x")], 400, None),
        ([("limit", 2**63)], 400, None),
        ([("limit", "9" * 5000)], 400, None),
    ],
)
def test_lines(execd: Execd, tmp_path: Path, pairs: List[Tuple[str, Any]], status: int, body: bytes) -> None:
    (tmp_path / "lines").write_bytes(b"a\r\n\nb\r\r\nc\n")
    reply = get(execd, "/files/download", ("path", tmp_path / "lines"), *pairs)
    assert reply.status == status
    if status == 200:
        assert (reply.body, reply.headers["content-type"]) == (body, "text/plain; charset=utf-8")
        assert reply.headers["content-length"] == str(len(body))
    else:
        (name, value), *_ = pairs
        assert reply.json["message"] == f"invalid query parameter '{name}': {value}"


def test_many_lines_are_streamed(execd: Execd, tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"line\n" * 100000)
    reply = get(execd, "/files/download", ("path", tmp_path / "lines"), ("offset", 2))
    assert (reply.body, reply.headers.get("content-length")) == (b"\n".join([b"line"] * 99999), None)


def test_empty_line_numbers_are_as_good_as_none(execd: Execd, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x\r\n")
    reply = get(execd, "/files/download", ("path", tmp_path / "a"), ("offset", ""), ("limit", ""))
    assert (reply.body, reply.headers["content-type"]) == (b"x\r\n", "application/octet-stream")


def test_the_lines_of_a_directory_are_none(execd: Execd, tmp_path: Path) -> None:
    reply = get(execd, "/files/download", ("path", tmp_path), ("offset", 1))
    assert (reply.status, reply.body) == (200, b"")
    assert (reply.headers["content-type"], reply.headers["content-length"]) == ("text/plain; charset=utf-8", "0")
    assert get(execd, "/files/download", ("path", tmp_path), ("offset", 0)).status == 400


def test_lines_and_a_range_exclude_each_other(execd: Execd, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    reply = get(execd, "/files/download", ("path", tmp_path / "a"), ("offset", 1), Range="bytes=0-")
    assert (reply.status, "mutually exclusive" in reply.json["message"]) == (400, True)


def test_the_name_in_a_download_is_escaped_only_where_it_is_not_ascii(execd: Execd, tmp_path: Path) -> None:
    for name, told in [("a b", 'filename="a b"'), ("é", "filename=\"%C3%A9\"; filename*=UTF-8''%C3%A9")]:
        (tmp_path / name).write_text(name)
        reply = get(execd, "/files/download", ("path", tmp_path / name))
        assert reply.headers["content-disposition"] == "attachment; " + told
        assert reply.body.decode() == name


def test_a_download_that_is_not_newer_is_not_sent(execd: Execd, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    first = get(execd, "/files/download", ("path", tmp_path / "a"))
    same = {"If-Modified-Since": first.headers["last-modified"]}
    for headers, status in [
        (same, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"tag"', **same}, 200),
        ({"Range": "bytes=0-", **same}, 206),  # a range is given whatever the conditions say
        ({"Range": "bytes=9-", **same}, 304),
        ({"Range": "bytes=-0", **same}, 304),
    ]:
        assert get(execd, "/files/download", ("path", tmp_path / "a"), **headers).status == status, headers


def test_a_directory_s_download_is_as_absurd_as_the_real_one(execd: Execd, tmp_path: Path) -> None:
    connection = http.client.HTTPConnection(execd.address, timeout=30)
    connection.request("GET", f"/files/download?path={tmp_path}", headers=execd.headers)
    response = connection.getresponse()
    assert (response.status, response.length, response.read(1)) == (200, 2**63 - 1, b"")
    connection.close()


def test_paths_are_expanded_and_an_unknown_variable_is_an_error(execd: Execd) -> None:
    (execd.directory / "home" / "x").write_text("x")
    for path in ("~/x", "$HOME/x", "${HOME}/x", "../home/x"):
        assert list(get(execd, "/files/info", ("path", path)).json) == [path]
    reply = get(execd, "/files/info", ("path", "$NOPE/x"))
    message = "error accessing file: invalid path $NOPE/x: path references undefined environment variables: NOPE"
    assert (reply.status, reply.json["message"]) == (500, message)


def test_info_of_nothing_is_empty_and_below_a_file_it_is_an_error(execd: Execd) -> None:
    assert get(execd, "/files/info").json == {}
    reply = get(execd, "/files/info", ("path", "/etc/passwd/x"))
    assert (reply.status, reply.json["code"]) == (500, "RUNTIME_ERROR")


def test_info_tells_a_link_as_a_link_and_modes_as_octal_digits(execd: Execd, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("abc")
    (tmp_path / "f").chmod(0o4750)
    (tmp_path / "l").symlink_to("nowhere")
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "p")
    paths = [("path", str(tmp_path / name)) for name in "fldp"]
    found = get(execd, "/files/info", *paths).json
    assert [found[path]["type"] for _, path in paths] == ["file", "symlink", "directory", "other"]
    told = found[str(tmp_path / "f")]
    assert (told["mode"], told["size"]) == (750, 3)
    assert list(told) == ["path", "type", "size", "modified_at", "created_at", "owner", "group", "mode"]


def test_removing_a_missing_file_is_fine_and_a_directory_is_refused(execd: Execd, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "l").symlink_to("nowhere")
    query = urlencode([("path", tmp_path / "a"), ("path", tmp_path / "nope"), ("path", tmp_path / "l")])
    assert execd.call("DELETE", "/files?" + query).status == 200
    assert [path.name for path in tmp_path.iterdir()] == ["l"]
    assert execd.call("DELETE", "/files").status == 200
    assert execd.call("DELETE", f"/files?path={tmp_path}").status == 500


def test_permissions_of_a_missing_file_are_a_500(execd: Execd, tmp_path: Path) -> None:
    path = str(tmp_path / "nope")
    reply = execd.call("POST", "/files/permissions", {path: {"mode": 600}})
    assert reply.status == 500
    assert reply.json["message"].startswith(f"error changing permissions for {path}. ")


@as_root
def test_owners_are_names(execd: Execd, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    path = str(tmp_path / "a")
    assert execd.call("POST", "/files/permissions", {path: {"owner": "nobody"}}).status == 200
    assert get(execd, "/files/info", ("path", path)).json[path]["owner"] == "nobody"
    reply = execd.call("POST", "/files/permissions", {path: {"owner": "65534"}})
    words = f"error changing permissions for {path}. failed to lookup user 65534: user: unknown user 65534"
    assert (reply.status, reply.json["message"]) == (500, words)
    reply = execd.call("POST", "/files/permissions", {path: {"group": "nosuch"}})
    assert reply.json["message"].endswith(" failed to lookup group nosuch: group: unknown group nosuch")


def test_a_move_makes_parents_and_takes_directories(execd: Execd, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("x")
    body = [{"src": str(tmp_path / "d"), "dest": str(tmp_path / "new" / "e")}]
    assert execd.call("POST", "/files/mv", body).status == 200
    assert (tmp_path / "new" / "e" / "f").read_text() == "x"
    again = execd.call("POST", "/files/mv", body)
    assert (again.status, again.json["code"]) == (404, "FILE_NOT_FOUND")
    assert execd.call("POST", "/files/mv", b"null").status == 200
    (tmp_path / "f").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    body = [{"src": str(tmp_path / "f"), "dest": str(tmp_path / "dangling")}]
    assert execd.call("POST", "/files/mv", body).status == 200  # where a link leads nowhere there is nothing
    assert not (tmp_path / "dangling").is_symlink()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        (
            "POST",
            "/files/mv",
            [{"src": "{}/nope", "dest": "{}/x"}],
            404,
            "file not found. source path not found: {}/nope: stat {}/nope: no such file or directory",
        ),
        (
            "POST",
            "/files/mv",
            [{"src": "{}/d", "dest": "{}/d/in"}],
            500,
            "error accessing file: failed to rename file: rename {}/d {}/d/in: invalid argument",
        ),
        (
            "POST",
            "/files/mv",
            [{"src": "{}/f", "dest": "{}/f/x"}],
            500,
            "error accessing file: failed to create destination directory: mkdir {}/f: not a directory",
        ),
        (
            "POST",
            "/files/mv",
            [{"src": "{}/f", "dest": "{}/d"}],
            500,
            "error accessing file: destination path already exists: {}/d",
        ),
        (
            "POST",
            "/files/mv",
            [{"src": "{}/f", "dest": "$NOPE"}],
            500,
            "error accessing file: invalid destination path: path references undefined environment variables: NOPE",
        ),
        (
            "POST",
            "/files/replace",
            {"{}/nope": {"old": "a"}},
            404,
            "file not found. stat {}/nope: no such file or directory",
        ),
        ("POST", "/files/replace", {"{}/d": {"old": "a"}}, 500, "error accessing file: read {}/d: is a directory"),
        ("POST", "/directories", {"{}/f": {}}, 500, "error accessing file: mkdir {}/f: not a directory"),
        ("POST", "/directories", {"{}/f/x/y": {}}, 500, "error accessing file: mkdir {}/f: not a directory"),
        ("POST", "/session", {"cwd": "{}/f"}, 500, "error creating session. mkdir {}/f: not a directory"),
        (
            "GET",
            "/files/info?path={}/f/x",
            None,
            500,
            "error accessing file: error accessing file {}/f/x: lstat {}/f/x: not a directory",
        ),
        ("GET", "/files/search?path={}/nope", None, 404, "file not found. stat {}/nope: no such file or directory"),
        (
            "GET",
            "/files/search?path={}&pattern=%5B",
            None,
            500,
            "error searching files. invalid pattern [: syntax error in pattern",
        ),
        (
            "GET",
            "/files/download?path=$NOPE",
            None,
            500,
            "error resolving file path: $NOPE. path references undefined environment variables: NOPE",
        ),
        ("DELETE", "/files?path={}/f/x", None, 500, "error removing file {}/f/x. stat {}/f/x: not a directory"),
        ("DELETE", "/files?path={}/d", None, 500, "error removing file {}/d. path is a directory: {}/d"),
    ],
)
def test_what_failed_is_told_in_the_daemon_s_words(
    execd: Execd, tmp_path: Path, method: str, path: str, body: Any, status: int, message: str
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f").touch()
    here = str(tmp_path)
    raw = None if body is None else json.dumps(body).replace("{}/", here + "/").encode()
    reply = execd.call(method, path.replace("{}", here), raw)
    assert (reply.status, reply.json["message"]) == (status, message.replace("{}", here))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("**", [".h", "a.py", "b.txt", "deep/c.py", "l"]),
        ("*.py", ["a.py", "deep/c.py"]),
        ("**/*.py", ["a.py", "deep/c.py"]),
        ("deep/*", []),
        ("?.{py,txt}", ["a.py", "b.txt", "deep/c.py"]),
        ("[a-b].*", ["a.py", "b.txt"]),
        ("[!a].*", ["b.txt", "deep/c.py"]),
        ("!(*.py)", [".h", "b.txt", "l"]),
        ("A.py", []),
        ("deep", []),
    ],
)
def test_search_matches_names_below_a_path(execd: Execd, tmp_path: Path, pattern: str, names: List[str]) -> None:
    (tmp_path / "deep").mkdir()
    for name in [".h", "a.py", "b.txt", "deep/c.py"]:
        (tmp_path / name).touch()
    (tmp_path / "l").symlink_to("deep")
    found = get(execd, "/files/search", ("path", tmp_path), ("pattern", pattern)).json
    assert [entry["path"] for entry in found] == [str(tmp_path / name) for name in names]


def test_search_of_a_file_of_nothing_and_with_a_bad_pattern(execd: Execd, tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    found = get(execd, "/files/search", ("path", tmp_path / "a.py"), ("pattern", "*.py")).json
    assert [entry["path"] for entry in found] == [str(tmp_path / "a.py")]
    assert get(execd, "/files/search", ("path", tmp_path / "nope"), ("pattern", "*")).status == 404
    for pattern in ("[", "{a", "!(a", "[z-a]", "a}", "a\\", "!(a})"):
        assert get(execd, "/files/search", ("path", tmp_path), ("pattern", pattern)).status == 500


def test_replace_works_on_bytes_and_counts(execd: Execd, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\xff one one")
    path.chmod(0o640)
    body: Dict[str, Any] = {str(path): {"old": "one", "new": "é"}}
    assert execd.call("POST", "/files/replace", body).body == b""
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"\xff \xc3\xa9 \xc3\xa9", 0o640)
    again = execd.call("POST", "/files/replace?verbose=true", body)
    assert again.json == {str(path): {"replacedCount": 0}}
    assert execd.call("POST", "/files/replace", {str(path): {"old": ""}}).status == 400
    assert execd.call("POST", "/files/replace", {str(tmp_path): {"old": "x"}}).status == 500
    assert execd.call("POST", "/files/replace", {str(tmp_path / "nope"): {"old": "x"}}).status == 404


def test_a_listing_goes_as_deep_as_asked_and_enters_no_links(execd: Execd, tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "f").touch()
    (tmp_path / "B").touch()
    (tmp_path / "l").symlink_to("d")

    def names(depth: int) -> List[str]:
        found = get(execd, "/directories/list", ("path", tmp_path), ("depth", depth)).json
        return [entry["path"][len(str(tmp_path)) + 1 :] for entry in found]

    assert names(0) == []
    assert names(1) == ["B", "d", "l"]
    assert names(9) == ["B", "d", "d/e", "d/e/f", "l"]
    for path, status, words in [
        (tmp_path / "l", 400, "path is a symbolic link, refusing to traverse: "),
        (tmp_path / "B", 400, "path is not a directory: "),
    ]:
        reply = get(execd, "/directories/list", ("path", path))
        assert (reply.status, reply.json["message"]) == (status, f"{words}{path}")
    bad = get(execd, "/directories/list", ("path", tmp_path), ("depth", -1))
    assert (bad.status, bad.json["message"]) == (400, "invalid query parameter 'depth': -1")


def test_making_a_directory_that_is_there_changes_nothing(execd: Execd, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    assert execd.call("POST", "/directories", {str(path): {"mode": 700}}).status == 200
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o700, 0o755)
    assert execd.call("POST", "/directories", {str(path): {"mode": 755}}).status == 200
    assert path.stat().st_mode & 0o777 == 0o700
    (tmp_path / "f").touch()
    assert execd.call("POST", "/directories", {str(tmp_path / "f"): {}}).status == 500


def test_removing_directories_takes_files_and_links_too(execd: Execd, tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "f").touch()
    (tmp_path / "l").symlink_to("/etc")
    paths = [("path", tmp_path / name) for name in ["d", "f", "l", "nope"]]
    assert execd.call("DELETE", "/directories?" + urlencode([*paths, ("path", "")])).status == 200
    assert list(tmp_path.iterdir()) == []


@as_root
def test_the_mirror_acts_as_another_user(execd: Execd) -> None:
    prefix, places = "/v1/filesystem/4242/4343", execd.directory / "tmp"
    mine = places / "mine"
    assert upload(execd, described(mine), ("file", b"x"), prefix=prefix).status == 200
    assert (mine.stat().st_uid, mine.stat().st_gid) == (4242, 4343)
    secret = places / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    assert get(execd, prefix + "/files/download", ("path", secret)).status == 500
    assert get(execd, "/files/download", ("path", secret)).body == b"root's"
    assert get(execd, prefix + "/files/download", ("path", mine)).body == b"x"
    assert execd.call("POST", prefix + "/directories", {str(execd.directory / "x"): {}}).status == 500
    denied = upload(execd, described(execd.directory / "x"), ("file", b"x"), prefix=prefix)
    assert (denied.status, "permission denied" in denied.json["message"]) == (500, True)


@pytest.mark.parametrize("identity", ["x/0", "-1/0", "4294967295/0", "0/4294967295"])
def test_an_identity_that_is_none_is_refused(execd: Execd, identity: str) -> None:
    reply = get(execd, f"/v1/filesystem/{identity}/files/info")
    assert (reply.status, reply.json["code"]) == (400, "INVALID_REQUEST_BODY")
    assert reply.json["message"].startswith("invalid ")
