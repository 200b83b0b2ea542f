"""Whole directories, up and down."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from opensandbox_sync import Sandbox, SandboxClient
from opensandbox_sync.errors import BadRequestError, InvalidArgumentError, ServerError

from ..conftest import is_file_name, where_supported

Tree = Dict[str, Any]  # name -> bytes of a file, int mode of an empty directory, or text: where a link leads


@pytest.fixture
def folder(sandbox: Sandbox) -> Iterator[str]:
    """A path in the sandbox at which nothing is yet, in an empty directory."""
    made = sandbox.commands.run("mktemp -d").stdout.strip()
    yield f"{made}/tree"
    sandbox.files.remove_dirs(made)


def grow(root: Path, tree: Tree) -> Path:
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.mkdir(exist_ok=True)
            path.chmod(content)
    return root


def files_of(root: Path) -> Dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_tree_goes_up_and_comes_down_again(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    tree = {
        "a.txt": b"a",
        "sub/deep/b.bin": bytes(range(256)),
        "sub/empty": 0o755,
        "é ü.txt": b"",
        "big": b"x" * 5_000_000,
    }
    up = sandbox.files.upload_dir(grow(tmp_path / "up", tree), folder)
    down = sandbox.files.download_dir(folder, tmp_path / "down")
    assert files_of(tmp_path / "down") == files_of(tmp_path / "up")
    assert (tmp_path / "down" / "sub" / "empty").is_dir()
    for told in (up, down):
        assert sorted(told.files) == ["a.txt", "big", "sub/deep/b.bin", "é ü.txt"]
        assert sorted(told.directories) == ["sub", "sub/deep", "sub/empty"]
        assert (told.size, told.skipped) == (5_000_257, {})


def test_an_empty_tree_is_an_empty_directory(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    assert sandbox.files.upload_dir(grow(tmp_path / "up", {".": 0o755}), folder).files == []
    assert sandbox.files.list(folder) == []
    assert sandbox.files.download_dir(folder, tmp_path / "new" / "down").files == []
    assert list((tmp_path / "new" / "down").iterdir()) == []


def test_modes_are_kept_both_ways(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    root = grow(
        tmp_path / "up", {"d/script": b"#!/bin/sh", "d/secret": b"", "d/plain": b"", "closed/in": b"", "e": 0o700}
    )
    modes = {
        "d/script": 0o755,
        "d/secret": 0o600,
        "d/plain": 0o644,
        "closed/in": 0o620,
        "d": 0o750,
        "closed": 0o500,
        "e": 0o700,
    }
    for name, mode in modes.items():
        (root / name).chmod(mode)
    sandbox.files.upload_dir(root, folder)
    sandbox.files.download_dir(folder, tmp_path / "down")
    assert {name: sandbox.files.info(f"{folder}/{name}").mode for name in modes} == modes
    assert {name: (tmp_path / "down" / name).stat().st_mode & 0o7777 for name in modes} == modes
    for made in (root, tmp_path / "down"):
        (made / "closed").chmod(0o700)


def test_a_file_that_nobody_may_read_does_not_become_executable(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    root = grow(tmp_path / "up", {"a": b"a"})
    (root / "a").chmod(0)
    if os.geteuid() == 0:
        sandbox.files.upload_dir(root, folder)
        assert sandbox.files.info(f"{folder}/a").mode == 0o600
    else:
        with pytest.raises(PermissionError):
            sandbox.files.upload_dir(root, folder)


def test_the_set_id_bits_are_not_carried_over(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    root = grow(tmp_path / "up", {"a": b"a", "b": b"b"})
    (root / "a").chmod(0o4755)
    sandbox.files.upload_dir(root, folder)
    sandbox.commands.run(f"chmod 6755 {folder}/b; chmod 1777 {folder}").check()
    sandbox.files.download_dir(folder, tmp_path / "down")
    assert {path.name: path.stat().st_mode & 0o7777 for path in (tmp_path / "down").iterdir()} == {
        "a": 0o755,
        "b": 0o755,
    }
    assert sandbox.commands.run(f"stat -c %a {folder}/a").stdout.strip() == "755"


def test_ignored_names_stay_where_they_are(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    tree = {
        ".git/config": b"",
        "a.py": b"",
        "a.pyc": b"",
        "build/x": b"",
        "src/build/y": b"",
        "src/keep.pyc": b"",
        "docs/b.md": b"",
    }
    patterns = ["# not these", "", ".git/", "*.pyc", "/build", "!keep.pyc"]
    up = sandbox.files.upload_dir(grow(tmp_path / "up", tree), folder, ignore=patterns)
    assert sorted(up.files) == ["a.py", "docs/b.md", "src/build/y", "src/keep.pyc"]
    assert sorted(up.directories) == ["docs", "src", "src/build"]
    down = sandbox.files.download_dir(folder, tmp_path / "down", ignore=["src/**/y", "docs"])
    assert sorted(down.files) == ["a.py", "src/keep.pyc"]
    assert sorted(files_of(tmp_path / "down")) == ["a.py", "src/keep.pyc"]


def test_what_is_there_already_and_not_sent_stays(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    sandbox.files.write_many({f"{folder}/theirs": "theirs", f"{folder}/both": "a longer old text"})
    sandbox.files.upload_dir(grow(tmp_path / "up", {"mine": b"mine", "both": b"new"}), folder)
    grow(tmp_path / "down", {"local": b"local", "both": b"old"})
    sandbox.files.download_dir(folder, tmp_path / "down")
    assert files_of(tmp_path / "down") == {"local": b"local", "theirs": b"theirs", "mine": b"mine", "both": b"new"}


def test_links_and_sockets_are_told_and_not_sent(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    tree = {
        "a": b"a",
        "file": "../outside/secret",
        "dir": "../outside",
        "inside": "a",
        "loop": ".",
        "dangling": "nowhere",
    }
    root = grow(tmp_path / "up", tree)
    os.mkfifo(root / "pipe")
    up = sandbox.files.upload_dir(root, folder)
    assert up.files == ["a"] and up.directories == []
    assert {name for name, why in up.skipped.items() if why == "a link"} == {
        "file",
        "dir",
        "inside",
        "loop",
        "dangling",
    }
    assert up.skipped["pipe"] == "not a regular file"
    assert [info.path for info in sandbox.files.list(folder, depth=9)] == [f"{folder}/a"]


def test_links_in_the_sandbox_are_not_followed(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    sandbox.files.write(f"{folder}/a", "a")
    sandbox.commands.run(f"cd {folder}; ln -s /etc/passwd file; ln -s / root; ln -s . loop; mkfifo pipe").check()
    down = sandbox.files.download_dir(folder, tmp_path / "down")
    assert down.files == ["a"] and set(down.skipped) == {"file", "root", "loop", "pipe"}
    assert [path.name for path in (tmp_path / "down").iterdir()] == ["a"]


def test_nothing_is_written_through_a_link_in_the_sandbox(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    sandbox.files.write_many({f"{folder}/real/secret": "theirs", f"{folder}/besides": ""})
    make = (
        "ln -s real dir && ln -s real/secret file && ln -s nowhere dangling && ln -s besides unconcerned && mkdir sub"
    )
    sandbox.commands.run(f"cd {folder} && {make} && ln -s ../real sub/deep", cwd="/").check()
    for number, name in enumerate(("dir/new", "dir", "file", "dangling", "sub/deep/new")):
        tree = {"sub/a": b"mine", name: b"mine" if name != "dir" else 0o755}
        with pytest.raises(InvalidArgumentError, match="is a link"):
            sandbox.files.upload_dir(grow(tmp_path / str(number), tree), folder)
    sandbox.commands.run(f"ln -s real {folder}/../way").check()
    with pytest.raises(BadRequestError, match="link"):
        sandbox.files.upload_dir(grow(tmp_path / "way", {"a": b""}), f"{folder}/../way")
    assert not sandbox.files.exists(f"{folder}/sub/a"), "nothing was sent"
    sandbox.files.upload_dir(grow(tmp_path / "up", {"sub/a": b"mine", "new/b": b"", "besides": b"mine"}), folder)
    assert [info.path.rpartition("/")[2] for info in sandbox.files.list(f"{folder}/real")] == ["secret"]
    assert sandbox.files.read_text(f"{folder}/real/secret") == "theirs"
    assert sandbox.files.read_text(f"{folder}/besides") == "mine"


def test_nothing_is_written_through_a_local_link(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    sandbox.files.write_many({f"{folder}/sub/a": "theirs", f"{folder}/b": "theirs"})
    outside = grow(tmp_path / "outside", {"a": b"mine", "b": b"mine"})
    grow(tmp_path / "down", {"sub": "../outside"})
    with pytest.raises(InvalidArgumentError, match="link"):
        sandbox.files.download_dir(folder, tmp_path / "down")
    assert [path.name for path in (tmp_path / "down").iterdir()] == ["sub"]
    grow(tmp_path / "other", {"b": "../outside/b"})
    sandbox.files.download_dir(folder, tmp_path / "other")
    assert files_of(outside) == {"a": b"mine", "b": b"mine"}
    assert not (tmp_path / "other" / "b").is_symlink() and (tmp_path / "other" / "b").read_text() == "theirs"


def test_a_file_and_a_directory_do_not_take_each_others_place(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    sandbox.files.write_many({f"{folder}/name/a": "", f"{folder}/other": ""})
    for tree in ({"name": b"mine"}, {"other/mine": b"mine"}):
        local = grow(tmp_path / "down", tree)
        with pytest.raises(InvalidArgumentError, match="is a"):
            sandbox.files.download_dir(folder, local)
        assert list(files_of(local).values()) == [b"mine"] and len(list(local.iterdir())) == 1
        shutil.rmtree(local)
    with pytest.raises(ServerError):
        sandbox.files.upload_dir(grow(tmp_path / "up", {"other/b": b""}), folder)


def test_names_that_the_daemon_would_expand_are_refused_before_anything_is_sent(
    sandbox: Sandbox, folder: str, tmp_path: Path
) -> None:
    root = grow(tmp_path / "up", {"a": b"a", "sub/Outer$Inner.class": b"", "price in $.txt": b"", "~": b""})
    with pytest.raises(InvalidArgumentError, match=r"Outer\$Inner.*ignore="):
        sandbox.files.upload_dir(root, folder)
    assert not sandbox.files.exists(folder)
    sandbox.files.upload_dir(root, folder, ignore=["*$Inner*"])
    assert sandbox.files.download_dir(folder, tmp_path / "down").files == ["a", "price in $.txt", "~"]
    sandbox.commands.run(f"touch '{folder}/a$1'").check()
    with pytest.raises(InvalidArgumentError, match="ignore="):
        sandbox.files.download_dir(folder, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_name_that_is_not_unicode_is_refused(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    root = os.fsencode(grow(tmp_path / "up", {".": 0o755}))
    try:
        os.close(os.open(root + b"/\xff", os.O_CREAT))
    except OSError:
        pytest.skip("this file system takes only Unicode names")
    with pytest.raises(InvalidArgumentError, match="not Unicode"):
        sandbox.files.upload_dir(tmp_path / "up", folder)
    assert not sandbox.files.exists(folder)


def test_local_paths_that_cannot_be_used_are_refused(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for local in (tmp_path / "missing", tmp_path / "file", "", None, "\ud800", "a\0"):
        with pytest.raises(InvalidArgumentError, match="local"):
            sandbox.files.upload_dir(local, folder)  # type: ignore[arg-type]
    assert not sandbox.files.exists(folder)
    sandbox.files.make_dirs(folder)
    for local in (tmp_path / "file", tmp_path / "file" / "below", "", None, "\ud800", "a\0"):
        with pytest.raises(InvalidArgumentError, match="local"):
            sandbox.files.download_dir(folder, local)  # type: ignore[arg-type]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_remote_path_that_is_no_directory_is_refused(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    sandbox.files.write(folder, "a file")
    with pytest.raises(BadRequestError, match="not a directory"):
        sandbox.files.download_dir(folder, tmp_path / "down")
    assert not (tmp_path / "down").exists()
    with pytest.raises(BadRequestError, match="not a directory"):
        sandbox.files.upload_dir(grow(tmp_path / "up", {"a": b""}), folder)


@pytest.mark.parametrize("ignore", ["*.pyc", None, [5], b"x"])
def test_patterns_that_are_none_are_refused(sandbox: Sandbox, tmp_path: Path, ignore: Any) -> None:
    for act in (sandbox.files.upload_dir, sandbox.files.download_dir):
        with pytest.raises(InvalidArgumentError, match="ignore"):
            act(str(tmp_path), str(tmp_path / "x"), ignore=ignore)


def test_progress_goes_up_to_the_whole_tree(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    root = grow(tmp_path / "up", {f"{number}": b"x" * 50_000 for number in range(40)})
    for act, source, target in (
        (sandbox.files.upload_dir, root, folder),
        (sandbox.files.download_dir, folder, tmp_path / "down"),
    ):
        told: List[Tuple[int, int]] = []
        act(source, target, progress=lambda done, total, told=told: told.append((done, total)))  # type: ignore[operator]
        assert told == sorted(told) and told[-1] == (2_000_000, 2_000_000) and len(told) > 3


@pytest.mark.parametrize("error", [OSError("mine"), KeyboardInterrupt()])
def test_an_interrupted_tree_leaves_whole_files_and_no_others(
    sandbox: Sandbox, folder: str, tmp_path: Path, error: BaseException
) -> None:
    root = grow(tmp_path / "up", {f"{number}": b"x" * 300_000 for number in range(60)})

    def fail(done: int, total: int) -> None:
        if done > 5_000_000:
            raise error

    with pytest.raises(type(error)) as caught:
        sandbox.files.upload_dir(root, folder, progress=fail)
    assert caught.value is error
    sandbox.files.upload_dir(root, folder)
    with pytest.raises(type(error)) as caught:
        sandbox.files.download_dir(folder, tmp_path / "down", progress=fail)
    assert caught.value is error
    found = files_of(tmp_path / "down")
    assert 0 < len(found) < 60
    assert {(name.isdigit(), len(content)) for name, content in found.items()} == {(True, 300_000)}


def test_small_files_share_requests(settings: Dict[str, Any], sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    root = grow(tmp_path / "up", {f"d{number % 7}/{number}": b"%d" % number for number in range(450)})
    asked: List[Tuple[str, str]] = []
    watch: Callable[[Any], None] = lambda record: asked.append((record.method, record.url.rsplit("/", 1)[1]))  # noqa: E731
    with SandboxClient(**settings, on_request=watch) as client:
        client.connect(sandbox.id).files.upload_dir(root, folder)
    assert asked.count(("POST", "upload")) == 3
    assert len(asked) <= 20
    assert len(sandbox.files.search(folder)) == 450


def test_a_tree_of_one_user_goes_up_as_that_user(sandbox: Sandbox, tmp_path: Path) -> None:
    if sandbox.files.info("/").owner != "root" or sandbox.commands.run("id -u").stdout.strip() != "0":
        pytest.skip("the daemon cannot change users")
    shared = sandbox.commands.run("d=$(mktemp -d /tmp/shared.XXXXXX); chmod 777 $d; echo $d").stdout.strip()
    try:
        root = grow(tmp_path / "up", {"closed/inner/a": b"a", "open/b": b"b"})
        (root / "closed" / "inner").chmod(0o500)  # to the user, unlike to root, that says something
        (root / "closed").chmod(0o600)
        somebody = sandbox.files.as_user(12345, 12345)
        with where_supported():
            somebody.list(shared)
        somebody.upload_dir(root, f"{shared}/tree")
        found = {info.path[len(shared) + 6 :]: (info.owner, info.mode) for info in sandbox.files.list(shared, depth=9)}
        assert {owner for owner, _ in found.values()} == {"12345"}
        assert (found["closed"][1], found["closed/inner"][1]) == (0o600, 0o500)
        assert somebody.download_dir(f"{shared}/tree/open", tmp_path / "down").files == ["b"]
    finally:
        sandbox.files.remove_dirs(shared)


trees = st.dictionaries(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(is_file_name),
        min_size=1,
        max_size=3,
    ).map("/".join),
    st.binary(max_size=200),
    max_size=6,
).filter(lambda tree: not any(other.startswith(name + "/") for name in tree for other in tree))


@given(tree=trees)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tree_comes_back_equal(sandbox: Sandbox, folder: str, tmp_path: Path, tree: Dict[str, bytes]) -> None:
    up, down = tmp_path / "up", tmp_path / "down"
    grow(up, {".": 0o755, **tree})
    try:
        sandbox.files.upload_dir(up, folder)
        sandbox.files.download_dir(folder, down)
        assert files_of(down) == tree
    finally:
        sandbox.files.remove_dirs(folder)
        shutil.rmtree(up)
        shutil.rmtree(down, ignore_errors=True)


def test_a_socket_in_a_tree_is_no_file(sandbox: Sandbox, folder: str, tmp_path: Path) -> None:
    root = grow(tmp_path / "up", {"a": b"a"})
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root)  # the address of a Unix socket is short
        try:
            server.bind("sock")
        finally:
            os.chdir(here)
        assert sandbox.files.upload_dir(root, folder).skipped == {"sock": "not a regular file"}
