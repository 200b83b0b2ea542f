"""Bubblewrap: each sandbox's daemon in namespaces of its own, over a file system made of a few mounts.

The root is an empty, read-only tmpfs. On it lie the system's directories (this machine's, or those of another
root), read-only; the sandbox's own places, which are directories below its directory on this machine; and what
the daemon needs to run: the interpreter, its packages and ours. Nothing else of this machine is there.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..directories import is_directory
from . import seccomp
from .interpreter import OURS, Interpreter, UnavailableError, is_below

_INSTALL = "install the package `bubblewrap` (Debian, Ubuntu, Fedora, Arch)"
_PROBE_SECONDS = 20
_HOME, _WORK = "/home/sandbox", "/workspace"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The sandbox's own places: their names in its directory, and where commands see them. None is in memory, where
# what is written would escape every limit.
SHARED_MEMORY = "shm"
_PLACES = {"home": "/home", "work": _WORK, "tmp": "/tmp", "run": "/run", SHARED_MEMORY: "/dev/shm"}
_OWN_VAR, _VAR_OF_AN_IMAGE = {"var": "/var"}, {"var/tmp": "/var/tmp"}
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc")
_NOT_OF_AN_IMAGE = ("proc", "sys", "dev", "run", "tmp", "home", "workspace", "boot", "lost+found")
_HIDDEN = frozenset(("acpi", "asound", "interrupts", "kallsyms", "kcore", "key-users", "keys", "latency_stats")) | {
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
}
# A daemon that is root keeps what lets it act as others in its own places: Docker's set without what reaches
# devices and packets. Any other daemon has no capability at all.
_ROOT_KEEPS = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID")


class Mount(NamedTuple):
    """A directory or file of this machine, and where the sandbox sees it."""

    source: str
    target: str
    read_only: bool = True
    identity: Tuple[int, int] = (0, 0)  # a volume's device and inode, as they were checked

    def option(self) -> List[str]:
        return ["--ro-bind" if self.read_only else "--bind", self.source, self.target]


class Arguments:
    """A command line of bwrap's, and the open files that it refers to."""

    def __init__(self, program: str, options: List[str]) -> None:
        self.descriptors: List[int] = []
        forbidden = seccomp.program()
        if forbidden is not None:
            options = ["--seccomp", str(self._open(forbidden)), *options]
        listed = b"".join(os.fsencode(option) + b"\0" for option in options)
        self.bwrap = [program, "--args", str(self._open(listed))]

    def _open(self, content: bytes) -> int:
        descriptor = os.memfd_create("bwrap")
        self.descriptors.append(descriptor)
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    def __enter__(self) -> Arguments:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


class Bubblewrap:
    """What all sandboxes have in common. Raises UnavailableError where bubblewrap does not work.

    `copies` is a directory for what cannot be shown as it is, and for the probe.
    """

    def __init__(self, copies: Path, root: Optional[str] = None) -> None:
        program = shutil.which("bwrap")
        if program is None:
            raise UnavailableError(f"bwrap is not installed; {_INSTALL}")
        self.program = program
        self._root = Path(root or "/")
        self._is_image = root is not None
        self._system, self._shown = self._system_directories(copies)
        self._places = {**_PLACES, **(_VAR_OF_AN_IMAGE if "/var" in self._shown else _OWN_VAR)}
        self.python = Interpreter([] if self._is_image else self._shown, relocated=self._is_image)
        self.fixed = [Mount(*pair) for pair in self.python.mounts] + self._resolver()
        self._probe(copies)

    def _system_directories(self, copies: Path) -> Tuple[List[str], List[str]]:
        options: List[str] = []
        shown: List[str] = []
        for entry in sorted(self._root.iterdir()):
            target = f"/{entry.name}"
            if entry.name in _NOT_OF_AN_IMAGE if self._is_image else entry.name not in _SYSTEM:
                continue
            if entry.is_symlink():
                options += ["--symlink", os.readlink(entry), target]
                shown.append(target)
            elif entry.is_dir() and not _is_empty(entry) and (entry.name != "var" or is_directory(entry / "tmp")):
                shared = _public(entry, copies / "etc") if target == "/etc" and not self._is_image else entry
                options += ["--ro-bind", str(shared), target]
                shown.append(target)
        return options, shown

    def _resolver(self) -> List[Mount]:
        """The host's name servers. Where resolv.conf is a link into /run, it is what the link names."""
        source = os.path.realpath("/etc/resolv.conf")
        link = self._root / "etc/resolv.conf"
        if not Path(source).is_file() or not (link.is_symlink() or link.exists()):
            return []
        target = os.path.normpath(Path("/etc") / os.readlink(link)) if link.is_symlink() else "/etc/resolv.conf"
        if not self._is_image:
            return [] if is_below(source, self._shown) else [Mount(source, source)]
        return [Mount(source, target)]

    def _probe(self, copies: Path) -> None:
        """Runs the interpreter as a sandbox would: that bwrap is installed does not mean that it may work."""
        with tempfile.TemporaryDirectory(prefix="probe-", dir=str(copies)) as name:
            make_places(Path(name))
            try:
                with self.arguments(Path(name), {}, [], network=False) as arguments:
                    subprocess.run(
                        [*arguments.bwrap, *self.python.argv, "-I", "-c", ""],
                        check=True,
                        env={},
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.PIPE,
                        pass_fds=arguments.descriptors,
                        timeout=_PROBE_SECONDS,
                    )
            except subprocess.CalledProcessError as error:
                said = error.stderr.decode("utf-8", "replace").strip().splitlines() or [str(error)]
                raise UnavailableError(
                    f"bwrap does not work here: {said[-1]} (it needs user namespaces, which containers and some "
                    "distributions forbid)"
                ) from error
            except (OSError, subprocess.TimeoutExpired) as error:
                raise UnavailableError(f"bwrap does not work here: {error}") from error

    def arguments(
        self, directory: Path, env: Mapping[str, str], volumes: Sequence[Mount], *, network: bool
    ) -> Arguments:
        """bwrap's options, in a file: `ps` does not show that, and bwrap itself runs without the variables in `env`.
        Outside of the sandbox LD_PRELOAD and its like must not count.

        Raises ValueError for a variable that no environment can hold, and where something is to be mounted behind
        a symlink that the sandbox (before it was restored) has made.
        """
        options = [*self._namespaces(network), *self._visible()]
        for name, target in self._places.items():
            options += ["--bind", str(directory / name), target]
        for mount in (*self.fixed, *volumes):
            self._refuse_links(directory, mount.target)
            options += mount.option()
        options += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", _WORK]
        own = {"HOME": _HOME, "PATH": self._path(), "LANG": "C.UTF-8", "TERM": "xterm"}
        for name, value in {**own, **env, "EXECD_ENVS": "/run/execd.env"}.items():
            if not name or "=" in name or "\0" in name + value:
                raise ValueError(f"illegal environment variable {name!r}")
            options += ["--setenv", name, value]
        return Arguments(self.program, options)

    def _namespaces(self, network: bool) -> List[str]:
        # The daemon is the first process of its namespace: the kernel ends all others when it ends.
        options = [
            "--unshare-pid",
            "--as-pid-1",
            "--unshare-ipc",
            "--unshare-uts",
            "--unshare-cgroup-try",
            "--die-with-parent",
        ]
        options += ["--hostname", "localhost"]  # a name that resolves everywhere
        if not network:
            options.append("--unshare-net")
        if os.geteuid() == 0:
            options += ["--cap-drop", "ALL"]
            for name in _ROOT_KEEPS:
                options += ["--cap-add", f"CAP_{name}"]
        return options

    def _visible(self) -> List[str]:
        options = [*self._system, "--proc", "/proc", "--dev", "/dev"]
        for entry in os.scandir("/proc"):
            if entry.name.isdigit() or entry.is_symlink() or entry.name == "tty":
                continue
            if _is_hidden(entry):
                options += ["--tmpfs", entry.path, "--remount-ro", entry.path] if entry.is_dir() else []
                options += ["--ro-bind", "/dev/null", entry.path] if entry.is_file() else []
            elif os.geteuid() == 0 and (entry.is_dir() or entry.stat().st_mode & 0o222):
                # Of the whole machine: bwrap itself leaves /proc/sys writable for root.
                options += ["--ro-bind", entry.path, entry.path]
        return options

    def _path(self) -> str:
        # The interpreter's own directory comes last: "python" is then there also where only python3 is installed.
        return _PATH if self._is_image else f"{_PATH}:{Path(sys.executable).parent}"

    def _refuse_links(self, directory: Path, target: str) -> None:
        """bwrap follows a symlink on the way to where it mounts, and could make directories out of the sandbox."""
        for name, place in self._places.items():
            if is_below(target, [place]):
                path = directory / name
                for part in Path(target).relative_to(place).parts:
                    path /= part
                    if path.is_symlink():
                        raise ValueError(f"nothing can be mounted at {target}: it leads over a symlink")

    def why_not(self, target: str) -> Optional[str]:
        """Why nothing can be mounted at `target`, or None."""
        if target != os.path.normpath(target) or target.startswith("//"):
            return "it is not a normalized absolute path"
        taken = [*self._shown, "/proc", "/dev", OURS, *(mount.target for mount in self.fixed)]
        if is_below(target, taken) and target != "/dev/shm":
            return "that part of the file system is read-only"
        below = [place for place in (*taken, *self._places.values()) if place != target and is_below(place, [target])]
        if below:
            return f"it would hide {below[0]}"
        return None


def make_places(directory: Path, *, restored: bool = False) -> None:
    """Makes the places of a sandbox. What a restored one has is left alone: it may be full of its symlinks."""
    if not restored:
        for name in (*_PLACES, *_OWN_VAR, "home/sandbox", "var/tmp"):
            (directory / name).mkdir(mode=0o755)
        for name in ("tmp", "var/tmp"):
            (directory / name).chmod(0o1777)
    (directory / SHARED_MEMORY).mkdir(exist_ok=True)
    (directory / SHARED_MEMORY).chmod(0o1777)


def _is_empty(directory: Path) -> bool:
    """An empty directory of an image is left out: what is mounted below it needs a place that can be made."""
    try:
        return not any(directory.iterdir())
    except PermissionError:
        return False


def _private(directory: str, names: Sequence[str]) -> List[str]:
    """What of a directory not everybody may read, and what is neither a file nor a directory."""
    found = []
    for name in names:
        try:
            mode = Path(directory, name).lstat().st_mode
        except OSError:  # it has gone since it was listed
            continue
        needed = stat.S_IROTH | stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH
        known = stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISLNK(mode)
        if not known or mode & needed != needed:
            found.append(name)
    return found


def _public(directory: Path, copy: Path) -> Path:
    """The directory itself, or a copy without what not everybody may read, where that is more for us.

    To cover a private file would not do: one that is replaced comes without its cover.
    """
    for parent, directories, files in os.walk(directory):
        if any(os.access(Path(parent, name), os.R_OK) for name in _private(parent, directories + files)):
            shutil.copytree(directory, copy, symlinks=True, ignore=_private)
            return copy
    return directory


def _is_hidden(entry: os.DirEntry[str]) -> bool:
    """What of /proc tells too much of the machine: what Docker hides, and files that not everybody may read."""
    return entry.name in _HIDDEN or (entry.is_file() and not entry.stat().st_mode & stat.S_IROTH)
