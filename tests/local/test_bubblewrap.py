"""The embedded server on bubblewrap: what a sandbox cannot do to the machine, to its user, and to other sandboxes.

Where something is refused, the same thing is shown to work for somebody who may: a test that could not fail is none.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List

import psutil
import pytest

from opensandbox_sync.local import LocalServer, LocalServerError

from .http_api import Api, Execd, Reply, call, create_body, until

ROOT = Path(__file__).parents[2]
MARK = "424242"  # seconds that only our own processes sleep


@pytest.fixture(scope="module")
def allowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that volumes may come from."""
    return tmp_path_factory.mktemp("allowed")


@pytest.fixture(scope="module")
def server(allowed: Path) -> Iterator[LocalServer]:
    try:
        server = LocalServer(isolation="bubblewrap", allow_host_path=[allowed]).start()
    except LocalServerError as error:
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture(scope="module")
def api(server: LocalServer) -> Api:
    return Api(server)


@pytest.fixture(scope="module")
def execd(api: Api) -> Iterator[Execd]:
    """One sandbox for the tests that leave it as it was."""
    with api.sandbox() as sandbox_id:
        yield api.execd(sandbox_id)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("of this machine")
    return path


def at_home() -> Path:
    """An empty file in the user's real home; the caller removes it."""
    try:
        descriptor, name = tempfile.mkstemp(dir=str(Path.home()), prefix=".opensandbox-test-")
    except OSError as error:
        pytest.skip(f"the home directory cannot be written: {error}")
    os.close(descriptor)
    return Path(name)


def refused(api: Api, **fields: Any) -> Reply:
    answer = api.call("POST", "/v1/sandboxes", create_body(**fields))
    assert answer.status >= 400, answer
    return answer


def processes_of(server: LocalServer) -> List[psutil.Process]:
    assert server._process is not None
    return list(psutil.Process(server._process.pid).children(recursive=True))


def names_in(directory: Path) -> List[str]:
    return sorted(path.name for path in directory.iterdir())


def ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


# what is there


def test_the_users_home_and_the_project_are_not_there(execd: Execd, secret: Path) -> None:
    mine = at_home()
    try:
        for path in (mine, ROOT / "setup.cfg", ROOT / "tests" / "conftest.py", secret):
            assert path.exists()
            assert execd.run(f"ls -d '{path}' 2>/dev/null; true") == ""
    finally:
        mine.unlink()
    # The interpreter may live there; then it, and nothing beside it.
    for directory in (Path.home(), ROOT):
        files = execd.run(f"find '{directory}' -type f 2>/dev/null; true").split("\n")
        python = tuple({sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix)})
        assert [file for file in files if file and not file.startswith(python)] == []


def test_only_its_own_places_can_be_written(execd: Execd) -> None:
    mounts = [line.split() for line in execd.run("cat /proc/self/mounts").splitlines()]
    last = {target: options.split(",") for _, target, _, options, *_ in mounts}
    writable = {target for target, options in last.items() if "ro" not in options}
    devices = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "pts")}
    assert writable == {"/home", "/workspace", "/tmp", "/run", "/var", "/dev/shm", "/proc"} | devices
    for place in ("/", "/usr", "/etc", "/dev", "/bin", "/.opensandbox/opensandbox_sync/local", sys.prefix):
        assert execd.run(f"touch '{place}/new' 2>/dev/null || echo no") == "no\n"
    for place in ("/home/sandbox", "/workspace", "/tmp", "/run", "/var/tmp", "/dev/shm"):
        assert execd.run(f"cd {place} && touch new && rm new && echo yes") == "yes\n"


def test_what_of_proc_belongs_to_the_machine_cannot_be_written(execd: Execd) -> None:
    """Neither by a root that has lost its capabilities: the files belong to it all the same."""
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    tried = "for f in sys/kernel/core_pattern sys/vm/swappiness sysrq-trigger irq/default_smp_affinity"
    assert execd.run(f"cd /proc; {tried}; do cat $f > $f && echo $f; done 2>/dev/null; true") == ""
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_what_of_proc_tells_of_the_machine_cannot_be_read(execd: Execd) -> None:
    """Keys of the user, addresses of the kernel, and all that on this machine only root may read."""
    private = [path for path in Path("/proc").iterdir() if path.is_file() and not path.stat().st_mode & 0o004]
    names = {path.name for path in private} | {"kcore", "keys", "key-users", "kallsyms", "timer_list", "interrupts"}
    there = [name for name in sorted(names - {"sysrq-trigger"}) if Path("/proc", name).exists()]
    assert there
    assert execd.run(f"cd /proc; head -qc 64 {' '.join(there)} 2>/dev/null | wc -c") == "0\n"
    assert execd.run("cd /proc; find acpi asound scsi -type f 2>/dev/null; true") == ""
    assert int(execd.run("head -c 64 /proc/meminfo | wc -c")) == 64


def test_no_variable_of_the_users_is_there(monkeypatch: pytest.MonkeyPatch, server: LocalServer) -> None:
    monkeypatch.setenv("SECRET_OF_THE_USER", "hush")
    with LocalServer(isolation="bubblewrap") as own:
        own_api = Api(own)
        with own_api.sandbox(env={"GIVEN": "yes"}) as sandbox_id:
            told = own_api.execd(sandbox_id).run("cat /proc/[0-9]*/environ | tr '\\0' '\\n' | sort -u")
    names = {line.partition("=")[0] for line in told.splitlines() if line}
    shell = {"PWD", "SHLVL", "_", "OLDPWD"}
    ours = {"HOME", "PATH", "LANG", "TERM", "OPENSANDBOX_ID", "EXECD_ENVS", "JUPYTER_PORT", "GIVEN"}
    assert names - shell == ours
    assert "GIVEN=yes" in told.splitlines()


def test_what_create_gives_never_touches_a_process_outside(api: Api, server: LocalServer) -> None:
    """LD_PRELOAD in bwrap's own environment would run code outside; and `ps` must not show what may be a secret."""
    with api.sandbox(env={"LD_PRELOAD": "/tmp/evil.so", "TOKEN": "hush-hush"}) as sandbox_id:
        assert api.execd(sandbox_id).run("echo $TOKEN") == "hush-hush\n"
        outer = [process for process in processes_of(server) if process.name() == "bwrap"]
        assert outer  # inside, it is no bwrap any more: it has become the daemon
        assert all(set(process.environ()) <= {"PWD"} for process in outer)
        assert not any("hush-hush" in word for process in processes_of(server) for word in process.cmdline())


def test_nothing_can_gain_privileges(execd: Execd) -> None:
    status = dict(line.split(":\t") for line in execd.run("cat /proc/self/status").splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    capabilities = int(status["CapEff"], 16)
    # chown, dac_override, fowner, fsetid, kill, setgid, setuid, net_bind_service, where it is root at all
    allowed = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7, 10)) if os.geteuid() == 0 else 0
    assert capabilities == allowed


_CALLS = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
key = {"x86_64": 248, "aarch64": 217}.get(os.uname().machine)
for call in (
    lambda: libc.unshare(0x10000000),
    lambda: libc.syscall(key, b"user", b"k", b"v", 1, -4),
    lambda: libc.syscall(438, libc.syscall(434, os.getpid(), 0), 0, 0),
):
    print("made" if call() >= 0 else errno.errorcode[ctypes.get_errno()])
"""


def test_neither_user_namespaces_nor_keys_can_be_made_nor_descriptors_taken(execd: Execd) -> None:
    """Root with all capabilities inside a namespace of its own could mount control groups and raise its limits."""
    if os.uname().machine not in ("x86_64", "aarch64"):
        pytest.skip("there is no filter for this machine")
    assert execd.run(f"python3 -c '{_CALLS}'").split() == ["EPERM"] * 3
    assert execd.run("echo | xargs -n1 -P2 echo still; (echo here)") == "still\nhere\n"


# Each way leads to the daemon's sockets, which belong to the machine's network: {port} listens there.
_TAKE_A_SOCKET = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
pidfd = libc.syscall(434, 1, 0)
assert pidfd >= 0
for number in range(40):
    taken = libc.syscall(438, pidfd, number, 0)
    if taken >= 0:
        print("taken", number)
        try:
            found = socket.socket(fileno=taken)
            found.shutdown(socket.SHUT_RDWR)
            found.connect(("127.0.0.1", {port}))
            print(found.recv(100))
        except OSError:
            pass
"""
_TRACE = """
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
threads = [number for number in range(1, 60) if os.path.exists(f"/proc/1/task/{number}")]
assert len(threads) > 1
for number in threads:
    for request in (PTRACE_SEIZE, PTRACE_ATTACH):
        if libc.ptrace(request, number, None, None) == 0:
            print("traced", number)
for name in ("mem", "fd/0", "root/etc/passwd", "cwd/x", "environ", "maps"):
    try:
        with open("/proc/1/" + name, "rb"):
            print("opened", name)
    except OSError:
        pass
child = os.fork()
if child == 0:
    signal.pause()
print("and a child of its own:", libc.ptrace(PTRACE_SEIZE, child, None, None))
os.kill(child, 9)
"""


def test_the_daemon_can_neither_be_traced_nor_robbed_of_its_sockets(api: Api) -> None:
    with Listener() as listener, api.sandbox(networkPolicy=DENY_ALL) as sealed:
        execd = api.execd(sealed)
        assert execd.run(f"python3 -c '{_TAKE_A_SOCKET.format(port=listener.port)}' 2>&1") == ""
        assert execd.run(f"python3 -c '{_TRACE}' 2>&1") == "and a child of its own: 0\n"


def test_passwords_are_not_there_even_for_root(execd: Execd) -> None:
    if not os.access("/etc/shadow", os.R_OK):
        pytest.skip("this user cannot read them anyway")
    assert execd.run("ls /etc/shadow* /etc/ssl/private 2>/dev/null; true") == ""
    assert execd.run("head -c 4 /etc/passwd") == "root"


def test_its_host_name_and_its_control_groups_are_its_own(execd: Execd) -> None:
    assert execd.run("uname -n") == "localhost\n"
    groups = execd.run("cat /proc/self/cgroup").splitlines()
    assert [line for line in groups if not line.endswith(":/")] == []


def test_names_are_resolved_as_on_the_machine(execd: Execd) -> None:
    assert execd.run("cat /etc/resolv.conf") == Path("/etc/resolv.conf").read_text()


# processes


def test_no_process_of_the_machine_or_of_another_sandbox_is_seen_or_reached(api: Api) -> None:
    host = subprocess.Popen(["sleep", MARK])
    try:
        with api.sandbox() as one, api.sandbox() as other:
            first, second = api.execd(one), api.execd(other)
            second.start(f"sleep {MARK}")
            seen = "pgrep -cx sleep || true"
            until(lambda: second.run(seen) == "1\n", "its own process is seen")
            assert first.run(seen) == "0\n"
            assert first.run(f"kill -0 {host.pid} 2>/dev/null && echo reached; true") == ""
            with contextlib.suppress(OSError, http.client.HTTPException):  # its daemon is killed too
                first.start("kill -9 -1")
            until(lambda: api.state(one) == "Failed", "the end of the sandbox that killed all it could")
            assert second.run(seen) == "1\n"
            assert host.poll() is None
    finally:
        host.kill()
        host.wait()


def test_shared_memory_and_queues_are_its_own(api: Api) -> None:
    make = 'python3 -c "import ctypes; print(ctypes.CDLL(None).shmget(4242, 4096, 0o1666))"'
    find = 'python3 -c "import ctypes; print(ctypes.CDLL(None).shmget(4242, 0, 0))"'
    with api.sandbox() as one, api.sandbox() as other:
        assert int(api.execd(one).run(make)) >= 0
        assert int(api.execd(one).run(find)) >= 0
        assert api.execd(other).run(find) == "-1\n"


def test_kill_leaves_no_process_no_mount_no_group_and_no_directory(api: Api, server: LocalServer) -> None:
    before = {process.pid for process in processes_of(server)}
    sandbox_id = api.create(resourceLimits={"memory": "512Mi", "cpu": "1"})["id"]
    execd = api.execd(sandbox_id)
    execd.run("(setsid sh -c 'trap \"\" TERM HUP; sleep 1000' & ) ; (nohup setsid setsid sleep 1000 &) ; true")
    until(lambda: execd.run("pgrep -c sleep || true").strip() >= "2", "its processes")
    mine = [process for process in processes_of(server) if process.pid not in before]
    assert len(mine) > 4
    assert api.call("DELETE", f"/v1/sandboxes/{sandbox_id}").status == 204
    until(lambda: all(map(ended, mine)), "the end of all of them", 5)
    assert sandbox_id not in Path("/proc/self/mountinfo").read_text()
    assert list(Path("/sys/fs/cgroup").glob(f"**/opensandbox-{sandbox_id}")) == []
    assert list(Path(tempfile.gettempdir()).glob(f"opensandbox-*/sandboxes/{sandbox_id}")) == []


def test_a_sandbox_that_is_killed_while_it_starts_leaves_nothing(api: Api, server: LocalServer) -> None:
    before = {process.pid for process in processes_of(server)}
    ids = []
    for _ in range(10):
        sandbox_id = api.create()["id"]
        ids.append(sandbox_id)
        assert api.call("DELETE", f"/v1/sandboxes/{sandbox_id}").status == 204
        mark = f"OPENSANDBOX_ID={sandbox_id}".encode()
        assert [pid for pid in psutil.pids() if mark in environment(pid)] == []
    assert {process.pid for process in processes_of(server)} <= before
    # Not even bwrap's own, which carries no mark: a group with a process in it could not be removed.
    groups = {path.name for path in Path("/sys/fs/cgroup").glob("**/opensandbox-*")}
    assert groups & {f"opensandbox-{sandbox_id}" for sandbox_id in ids} == set()


def environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("paused", [False, True])
def test_a_killed_server_takes_its_sandboxes_with_it(paused: bool) -> None:
    try:
        server = LocalServer(isolation="bubblewrap").start()
    except LocalServerError as error:
        pytest.skip(str(error))
    try:
        api = Api(server)
        sandbox_id = api.create()["id"]
        api.execd(sandbox_id).start("sleep 1000")
        if paused:
            assert api.call("POST", f"/v1/sandboxes/{sandbox_id}/pause").status == 202
        mine = processes_of(server)
        assert len(mine) > 3
        assert server._process is not None
        server._process.kill()
        until(lambda: all(map(ended, mine)), "the end of all of them")
    finally:
        server.stop()
    assert not Path(server._directory or "/").exists()


def test_pause_stops_and_resume_continues_what_is_inside(api: Api) -> None:
    with api.sandbox() as sandbox_id:
        execd = api.execd(sandbox_id)
        execd.start("while :; do date +%s%N > /tmp/tick; sleep 0.01; done")
        until(lambda: execd.run("cat /tmp/tick 2>/dev/null; true"), "the first tick")
        pid = int(execd.run("pgrep -f 'while :' | head -1"))
        assert api.call("POST", f"/v1/sandboxes/{sandbox_id}/pause").status == 202
        inside = [p for p in psutil.process_iter() if _pid_inside(p.pid) == pid and "while :" in " ".join(p.cmdline())]
        until(lambda: [process.status() for process in inside] == [psutil.STATUS_STOPPED], "it is stopped")
        assert api.call("POST", f"/v1/sandboxes/{sandbox_id}/resume").status == 202
        last = execd.run("cat /tmp/tick")
        until(lambda: execd.run("cat /tmp/tick") not in ("", last), "the next tick")


def _pid_inside(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return int(next(line for line in lines if line.startswith("NSpid")).split()[-1])


# ways out


def test_no_link_and_no_dots_lead_out_by_the_file_routes(api: Api, secret: Path) -> None:
    with api.sandbox() as sandbox_id:
        execd = api.execd(sandbox_id)
        execd.run(f"ln -s '{secret}' link; ln -s '{secret.parent}' dir; ln -s /proc/1/root root; echo ok > mine")

        def download(path: str) -> Reply:
            return call(execd.address, "GET", f"/files/download?path={path}", headers=execd.headers)

        assert download("/workspace/mine").body == b"ok\n"
        up = "/workspace" + "/.." * 12
        for path in (
            "link",
            "dir/secret",
            f"root{secret}",
            f"{up}{secret}",
            f"/proc/self/cwd/../..{secret}",
            str(secret),
        ):
            answer = download(path)
            assert (answer.status, b"machine" in answer.body) == (404, False), path
        for path in (f"dir/{'new'}", f"{up}{secret.parent}/new", f"root{secret.parent}/new"):
            upload(execd, path)
        assert names_in(secret.parent) == ["secret"]
        assert secret.read_text() == "of this machine"


def upload(execd: Execd, path: str) -> Reply:
    meta = json.dumps({"path": path})
    parts = [("metadata", "application/json", meta), ("file", "application/octet-stream", "evil")]
    lines = [
        f'--xx\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
        f"Content-Type: {kind}\r\n\r\n{text}\r\n"
        for name, kind, text in parts
    ]
    headers = {**execd.headers, "Content-Type": "multipart/form-data; boundary=xx"}
    return call(execd.address, "POST", "/files/upload", ("".join(lines) + "--xx--\r\n").encode(), headers)


def test_proc_shows_no_way_to_the_machines_files(execd: Execd, secret: Path) -> None:
    assert execd.run(f"cat /proc/[0-9]*/root{secret} /proc/[0-9]*/cwd/../{secret} 2>/dev/null; true") == ""
    # No descriptor of a directory outside came along.
    links = execd.run("for l in /proc/[0-9]*/fd/*; do [ -d $l ] && readlink $l; done 2>/dev/null; true").split()
    assert [link for link in links if not link.startswith("/proc")] == []


def test_a_restored_sandbox_cannot_have_planted_links_for_us_to_follow(api: Api, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    with api.sandbox() as sandbox_id:
        plant = (
            "rm -rf /var/tmp /home/sandbox; ln -s {0} /var/tmp; ln -s {0} /home/sandbox; ln -s /oldroot{0} /workspace/v"
        )
        api.execd(sandbox_id).run(plant.format(outside))
        made = api.call("POST", f"/v1/sandboxes/{sandbox_id}/snapshots").json["id"]
        snapshot = f"/v1/snapshots/{made}"
        until(lambda: api.call("GET", snapshot).json["status"]["state"] == "Ready", "the snapshot")
    restore: Dict[str, Any] = {"image": None, "snapshotId": made}
    with api.sandbox(**restore) as restored:
        assert api.execd(restored).run("readlink /var/tmp") == f"{outside}\n"
    volume = {"name": "v", "mountPath": "/workspace/v/new", "pvc": {"claimName": "planted"}}
    answer = refused(api, **restore, volumes=[volume])
    assert answer.status == 500 and "symlink" in answer.json["message"]
    assert (outside.stat().st_mode & 0o7777, names_in(outside)) == (0o700, [])


def test_a_snapshot_holds_what_was_written(api: Api) -> None:
    with api.sandbox() as sandbox_id:
        api.execd(sandbox_id).run("for d in ~ /workspace /tmp /run /var/tmp; do echo kept > $d/f; done")
        made = api.call("POST", f"/v1/sandboxes/{sandbox_id}/snapshots").json["id"]
        until(lambda: api.call("GET", f"/v1/snapshots/{made}").json["status"]["state"] == "Ready", "the snapshot")
    with api.sandbox(image=None, snapshotId=made) as restored:
        assert api.execd(restored).run("cat ~/f /workspace/f /tmp/f /run/f /var/tmp/f") == "kept\n" * 5


# volumes


def host_volume(path: Path, target: str = "/data", **more: Any) -> Dict[str, Any]:
    return {"name": f"v{abs(hash(target)) % 10000}", "mountPath": target, "host": {"path": str(path)}, **more}


def test_a_host_path_is_mounted_and_read_only_where_asked(api: Api, allowed: Path) -> None:
    (allowed / "rw").mkdir()
    (allowed / "file").write_text("one file")
    volumes = [
        host_volume(allowed / "rw"),
        host_volume(allowed / "rw", "/workspace/deep/ro", readOnly=True),
        host_volume(allowed / "missing" / "too", "/made"),
        host_volume(allowed / "file", "/workspace/file", readOnly=True),
    ]
    with api.sandbox(volumes=volumes) as sandbox_id:
        execd = api.execd(sandbox_id)
        execd.run("echo from inside > /data/f; echo made > /made/f")
        assert execd.run("cat /workspace/deep/ro/f") == "from inside\n"
        assert execd.run("touch /workspace/deep/ro/g 2>/dev/null || echo no") == "no\n"
        assert execd.run("cat file") == "one file"
    assert (allowed / "rw" / "f").read_text() == "from inside\n"
    assert (allowed / "missing" / "too" / "f").read_text() == "made\n"


def test_a_sub_path_is_mounted_and_cannot_lead_out(api: Api, allowed: Path, secret: Path) -> None:
    top = allowed / "sub"
    (top / "in" / "side").mkdir(parents=True)
    (top / "in" / "side" / "f").write_text("below")
    (top / "within").symlink_to("in/side")
    (top / "out").symlink_to(secret.parent)
    (top / "up").symlink_to("../../..")
    for good in ("in/side", "within"):
        with api.sandbox(volumes=[host_volume(top, subPath=good)]) as sandbox_id:
            assert api.execd(sandbox_id).run("cat /data/f") == "below"
    for bad in ("out", "up", "in/../../..", "out/new", "/etc"):
        answer = refused(api, volumes=[host_volume(top, subPath=bad)])
        assert (answer.status, answer.json["code"]) == (400, "VOLUME::INVALID_SUB_PATH")
    assert names_in(secret.parent) == ["secret"]


def test_a_host_path_that_a_sandbox_made_a_link_cannot_lead_out(api: Api, allowed: Path, secret: Path) -> None:
    (allowed / "shared").mkdir()
    with api.sandbox(volumes=[host_volume(allowed / "shared")]) as sandbox_id:
        api.execd(sandbox_id).run(f"ln -s '{secret.parent}' /data/link; ln -s / /data/all")
    for name in ("link", "all"):
        answer = refused(api, volumes=[host_volume(allowed / "shared" / name)])
        assert answer.json["code"] == "VOLUME::HOST_PATH_NOT_ALLOWED"


def test_a_directory_exchanged_between_check_and_mount_ends_the_daemon(tmp_path: Path) -> None:
    from opensandbox_sync.local.execd.confinement import confine

    (tmp_path / "other").mkdir()
    checked = (tmp_path / "other").stat()
    with pytest.raises(SystemExit, match="is not the directory that was asked for"):
        confine({"volumes": [[str(tmp_path), checked.st_dev, checked.st_ino]]})


def test_a_link_on_a_resolved_path_is_not_followed(tmp_path: Path) -> None:
    from opensandbox_sync.local.lifecycle.mounts import _identity

    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    assert _identity(tmp_path, ["real", "below"])[1] == (tmp_path / "real" / "below").stat().st_ino
    for parts in (["link", "below"], ["link", "new"], ["link"]):
        with pytest.raises((OSError, ValueError)):
            _identity(tmp_path, parts)
    assert names_in(tmp_path / "real") == ["below"]


def named(claim: str, **more: Any) -> Dict[str, Any]:
    return {"name": "v", "mountPath": "/data", "pvc": {"claimName": claim, **more}}


def test_a_named_volume_outlives_its_sandbox_unless_it_shall_not(api: Api) -> None:
    for claim, more, kept in (("stays", {}, "here\n"), ("goes", {"deleteOnSandboxTermination": True}, "")):
        with api.sandbox(volumes=[named(claim, **more)]) as sandbox_id:
            api.execd(sandbox_id).run("echo here > /data/f")
        with api.sandbox(volumes=[named(claim)]) as sandbox_id:
            assert api.execd(sandbox_id).run("cat /data/f 2>/dev/null; true") == kept


def test_a_named_volume_that_is_not_there_may_be_refused(api: Api) -> None:
    answer = refused(api, volumes=[named("nowhere", createIfNotExists=False)])
    assert (answer.status, answer.json["code"]) == (400, "VOLUME::PVC_NOT_FOUND")


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/usr/local/x",
        "/etc",
        "/proc/x",
        "/dev",
        "/bin",
        "/.opensandbox/x",
        "/a/../etc",
        "/a/",
        "/home/..",
        sys.prefix,
    ],
)
def test_no_volume_covers_what_the_daemon_stands_on(api: Api, allowed: Path, target: str) -> None:
    answer = refused(api, volumes=[host_volume(allowed, target)])
    assert (answer.status, answer.json["code"]) == (400, "VOLUME::INVALID_MOUNT_PATH")


def test_volumes_do_not_lie_in_one_another(api: Api, allowed: Path) -> None:
    answer = refused(api, volumes=[host_volume(allowed, "/data"), host_volume(allowed, "/data/in/it")])
    assert answer.json["code"] == "VOLUME::INVALID_MOUNT_PATH"


def test_there_is_no_ossfs(api: Api) -> None:
    ossfs = {"bucket": "bucket", "endpoint": "e", "accessKeyId": "i", "accessKeySecret": "s"}
    answer = refused(api, volumes=[{"name": "v", "mountPath": "/data", "ossfs": ossfs}])
    assert answer.json["code"] == "VOLUME::UNSUPPORTED_BACKEND"


# network


class Listener:
    """A server on this machine's loopback that greets whoever comes."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._greet, daemon=True).start()

    def _greet(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.sendall(b"hello\n")

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def network_policy(api: Api, sandbox_id: str, method: str = "GET", body: Any = None) -> Dict[str, Any]:
    answer = api.call(method, f"/v1/sandboxes/{sandbox_id}/networkpolicy", body)
    assert answer.status == 200, answer
    return dict(answer.json)


DENY_ALL: Dict[str, Any] = {"defaultAction": "deny", "egress": [{"action": "deny", "target": "example.com"}]}
ALLOW_ONE = [{"action": "allow", "target": "example.org"}]


def test_under_deny_all_there_is_no_network_and_the_policy_says_so(api: Api) -> None:
    with Listener() as listener, api.sandbox() as open_one, api.sandbox(networkPolicy=DENY_ALL) as sealed:
        ask = f"timeout 5 bash -c 'head -1 < /dev/tcp/127.0.0.1/{listener.port}' 2>/dev/null; true"
        assert api.execd(open_one).run(ask) == "hello\n"
        execd = api.execd(sealed)
        assert execd.run(ask) == ""
        assert execd.run("tail -n +3 /proc/net/dev | cut -d: -f1").split() == ["lo"]
        assert network_policy(api, sealed)["enforcementMode"] == "no-network"


def test_a_later_policy_gives_no_network_back_and_says_that_too(api: Api) -> None:
    with api.sandbox(networkPolicy={}) as sandbox_id:
        assert network_policy(api, sandbox_id)["enforcementMode"] == "no-network"
        for told in (network_policy(api, sandbox_id, "PATCH", ALLOW_ONE), network_policy(api, sandbox_id)):
            assert told["enforcementMode"] == "none"
            assert "without any network" in told["reason"]
        assert network_policy(api, sandbox_id, "DELETE", ["example.org"])["enforcementMode"] == "no-network"


def test_a_policy_with_rules_is_reported_as_not_enforced(api: Api) -> None:
    for policy in ({"defaultAction": "deny", "egress": ALLOW_ONE}, {"defaultAction": "allow"}):
        with api.sandbox(networkPolicy=policy) as sandbox_id:
            assert network_policy(api, sandbox_id)["enforcementMode"] == "none"
            # Nor does it become so: the network cannot be taken away any more.
            told = network_policy(api, sandbox_id, "PUT", {"defaultAction": "deny"})
            assert told["enforcementMode"] == "none"


def test_a_server_in_a_sandbox_without_network_is_reached_through_the_daemon(api: Api) -> None:
    with api.sandbox(networkPolicy={}) as sandbox_id:
        execd = api.execd(sandbox_id)
        execd.run("echo page > index.html")
        execd.start("python3 -m http.server 8123 --bind 127.0.0.1")
        direct = api.call("GET", f"/v1/sandboxes/{sandbox_id}/endpoints/8123").json
        address, _, path = direct["endpoint"].partition("/")

        def get() -> Reply:
            return call(address, "GET", f"/{path}/index.html")  # as a browser: with no header of ours

        until(lambda: get().status == 200, "the server inside")
        assert get().body == b"page\n"
        assert "headers" not in direct
        proxied = call(api.address, "GET", f"/v1/sandboxes/{sandbox_id}/proxy/8123/index.html")
        assert (proxied.status, proxied.body) == (200, b"page\n")


# limits


def limits_of(api: Api, sandbox_id: str) -> str:
    told = api.call("GET", f"/v1/sandboxes/{sandbox_id}/diagnostics/events?scope=runtime").json["content"]
    return next(line.partition(" limits: ")[2] for line in told.splitlines() if " limits: " in line)


def test_what_is_kept_of_the_limits_is_told(api: Api) -> None:
    limits = {"memory": "300Mi", "cpu": "500m", "gpu": "1", "ephemeral-storage": "1Gi"}
    with api.sandbox(resourceLimits=limits) as sandbox_id:
        told = limits_of(api, sandbox_id).split("; ")
    assert {"gpu 1: not kept", "ephemeral-storage 1Gi: not kept"} < set(told)
    assert [note.partition(":")[0] for note in told if note.startswith(("memory", "cpu"))] == [
        "cpu 500m",
        "memory 300Mi",
    ]


def test_a_limit_that_is_not_kept_is_told_in_a_line_of_the_servers_log(
    server: LocalServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with LocalServer(isolation="bubblewrap") as another:
        with Api(another).sandbox(resourceLimits={"memory": "300Mi"}):
            assert "cannot be kept" not in capfd.readouterr().err
        with Api(another).sandbox(resourceLimits={"gpu": "1", "memory": "300Mi"}) as sandbox_id:
            told = capfd.readouterr().err
    assert f"sandbox {sandbox_id} was made without limits that cannot be kept: gpu 1\n" in told


# It stops by itself at twice the limit, so that a limit that is not kept harms nobody.
_BOMB = r"""
import os, signal
n = 0
try:
    while n < 4096:
        if os.fork() == 0:
            signal.pause()
        n += 1
except OSError:
    print("stopped", n, flush=True)
"""


def test_a_fork_bomb_ends_with_the_sandbox(api: Api, server: LocalServer) -> None:
    with api.sandbox(resourceLimits={"memory": "2Gi"}) as sandbox_id:
        if "number of processes: not kept" in limits_of(api, sandbox_id):
            pytest.skip("root, and no control group may be made here")
        before = {process.pid for process in processes_of(server)}
        api.execd(sandbox_id).start(f"python3 -c '{_BOMB}' > /tmp/told")
        # Nothing can be run inside any more; the file is read from outside.
        told = Path(server._directory or "", "sandboxes", sandbox_id, "tmp", "told")
        until(lambda: told.exists() and told.read_text(), "the end of what can be forked")
        assert 1000 < int(told.read_text().split()[1]) <= 2048
        mine = [process for process in processes_of(server) if process.pid not in before]
        assert len(mine) > 1000
    until(lambda: all(map(ended, mine)), "the end of all of them")


# It touches one GiB at most.
_HOG = 'kept = []; [kept.append(bytearray(b"x" * (16 << 20))) for _ in range(64)]; print("had it all")'


def test_a_memory_hog_ends_and_the_sandbox_goes_on(api: Api) -> None:
    with api.sandbox(resourceLimits={"memory": "256Mi"}) as sandbox_id:
        execd = api.execd(sandbox_id)
        assert execd.run(f"python3 -c '{_HOG}' 2>/dev/null; echo $?").strip() in ("1", "137")
        assert execd.run("echo here") == "here\n"
    with api.sandbox(resourceLimits={"memory": "1500Mi"}) as sandbox_id:
        assert api.execd(sandbox_id).run(f"python3 -c '{_HOG}'") == "had it all\n"


# which isolation


def test_a_client_sees_which_isolation_a_sandbox_has(api: Api) -> None:
    key = "opensandbox.extensions.isolation"
    with api.sandbox(extensions={key: "none"}) as sandbox_id:
        assert api.call("GET", f"/v1/sandboxes/{sandbox_id}").json["extensions"] == {key: "bubblewrap"}
        events = api.call("GET", f"/v1/sandboxes/{sandbox_id}/diagnostics/events?scope=runtime").json["content"]
        assert "Isolation:  bubblewrap" in events
    with LocalServer(isolation="none") as server:
        open_api = Api(server)
        assert server.isolation == "none"
        # No client can claim what is not.
        assert open_api.create(extensions={key: "bubblewrap"})["extensions"] == {key: "none"}


def test_auto_takes_bubblewrap_where_it_works(server: LocalServer) -> None:
    with LocalServer() as automatic:
        assert automatic.isolation == server.isolation == "bubblewrap"


def without_bwrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setenv("PATH", str(tmp_path))
    return "bwrap is not installed; install the package `bubblewrap`"


def with_a_bwrap_that_may_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return "bwrap does not work here: bwrap: No permissions to create new namespace"


@pytest.mark.parametrize("prepare", [without_bwrap, with_a_bwrap_that_may_not])
def test_where_it_does_not_work_auto_says_why_and_bubblewrap_is_an_error(
    prepare: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    why = prepare(monkeypatch, tmp_path)
    with LocalServer() as server:
        assert server.isolation == "none"
        assert server.why_not_isolated.startswith(why)
    (tmp_path / "usr").mkdir()
    for options in ({"isolation": "bubblewrap"}, {"root": tmp_path}):
        with pytest.raises(LocalServerError, match=why):
            LocalServer(**options).start()  # type: ignore[arg-type]


def test_the_command_line_says_which(server: LocalServer, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "opensandbox_sync.local", "--port", "0", "--isolation"]
    for name, line in (("bubblewrap", "Isolation:       bubblewrap\n"), ("none", "Isolation:       none\n")):
        process = subprocess.Popen([*command, name], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process.stdout:
            said = [process.stdout.readline() for _ in range(4)]
            process.send_signal(signal.SIGINT)
            process.wait(30)
        assert said[2] == line
        assert ("not isolated" in said[3]) == (name == "none")


# another root


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small system: a shell, three programs, their libraries, and no Python."""
    root = tmp_path_factory.mktemp("image")
    for name in ("etc", "usr/bin", "var/tmp", "opt", "mnt"):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "etc" / "marker").write_text("of the image\n")
    for program in ("bash", "cat", "tail", "ls"):
        found = shutil.which(program)
        ldd = shutil.which("ldd")
        if found is None or ldd is None:
            pytest.skip("a system cannot be made without ldd")
        shutil.copy(found, root / "usr/bin" / program)
        listed = subprocess.run([ldd, found], check=True, stdout=subprocess.PIPE, text=True).stdout
        for library in {word for word in listed.split() if word.startswith("/")}:
            target = root / library.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(os.path.realpath(library), target)
    return root


def test_with_a_root_of_its_own_a_sandbox_sees_that_system(server: LocalServer, image: Path) -> None:
    with LocalServer(isolation="bubblewrap", root=image) as own:
        api = Api(own)
        with api.sandbox(volumes=[named("for-mnt", createIfNotExists=True)]) as sandbox_id:
            execd = api.execd(sandbox_id)
            assert execd.run("cat /etc/marker; cat /etc/passwd 2>/dev/null; true") == "of the image\n"
            assert execd.run("ls /usr/bin").split() == ["bash", "cat", "ls", "tail"]
            assert execd.run("echo new > /var/tmp/f && cat /var/tmp/f; echo x 2>/dev/null > /etc/x; true") == "new\n"
            assert execd.run("cd /data && echo kept > f && cat f") == "kept\n"
            assert execd.run("echo $PATH") == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
    assert not (image / "etc" / "x").exists()


def test_of_control_groups_of_version_2_the_nearest_that_may_be_divided_is_taken(tmp_path: Path) -> None:
    """Version 2 lets no group have both processes and groups below it with limits: our own is never the one."""
    from opensandbox_sync.local.lifecycle.limits import _second

    for path, controllers in (
        ("", "cpu memory pids"),
        ("user", "memory pids"),
        ("user/app", "pids"),
        ("user/app/own", ""),
    ):
        (tmp_path / path).mkdir(exist_ok=True)
        (tmp_path / path / "cgroup.subtree_control").write_text(controllers + "\n")
        (tmp_path / path / "cgroup.procs").touch()
    found = _second(tmp_path, "/user/app/own")
    assert {name: (parent.directory, parent.file) for name, parent in found.items()} == {
        "memory": (tmp_path / "user", "memory.max"),
        "pids": (tmp_path / "user", "pids.max"),
    }
    assert _second(tmp_path, "/") == {}
