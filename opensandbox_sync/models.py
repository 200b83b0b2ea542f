"""What the lifecycle plane sends and returns. Sources: the lifecycle API of OpenSandbox 1.1 (``POST /sandboxes`` and
around it).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import (
    Any,
    Dict,
    Generic,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Type,
    TypeVar,
    Union,
    overload,
)

from .errors import InvalidArgumentError

T = TypeVar("T")
RemotePath = Union[str, PurePath]


def as_text(value: Any) -> Any:
    """A path object as the text that it is in a sandbox; anything else as it is, for a check to take or refuse."""
    return value.as_posix() if isinstance(value, PurePath) else value


def is_text(value: Any) -> bool:
    """Whether ``value`` is text that can be sent: without NUL, and without half a surrogate pair, which is none."""
    return isinstance(value, str) and "\0" not in value and (value.isascii() or _has_utf8(value))


def _has_utf8(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def shown(value: Any) -> str:
    """``value`` for an error's text: never long, and never an error itself (an int of 5000 digits has no ``repr``)."""
    try:
        text = repr(value)
    except Exception:
        return f"a {type(value).__name__} without a repr"
    return text if len(text) <= 200 else text[:197] + "..."


def one_line(text: str) -> str:
    """``text`` for a repr: in one line, and never long."""
    line = " ".join(text.split())
    return line if len(line) <= 120 else line[:119] + "…"


def require_text(name: str, value: Any, example: str = "") -> str:
    """``value`` if it is text with something in it, or an error that names the argument."""
    if not is_text(value) or not value.strip():
        hint = f", such as {example}" if example else ""
        raise InvalidArgumentError(f"{name} must be text that is not blank and has no NUL{hint}; got {shown(value)}")
    text: str = value
    return text


def require_secret(name: str, value: Any) -> str:
    """``value`` if it is text that is not empty, or an error that does not show it."""
    if not is_text(value) or not value:
        raise InvalidArgumentError(f"{name} must be text that is not empty and has no NUL (what came is not shown)")
    text: str = value
    return text


def check_whole(name: str, value: Any, least: int = 0, most: Optional[int] = None) -> int:
    """``value`` if it is a whole number in these bounds; True, which is an int to Python, is none."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        bound = f"from {least} up" if most is None else f"from {least} to {most}"
        raise InvalidArgumentError(f"{name} must be a whole number {bound}, not {shown(value)}")
    return value


def check_flag(name: str, value: Any) -> Optional[bool]:
    """``value`` if it is True, False, or None, which is not set."""
    if value is not None and not isinstance(value, bool):
        raise InvalidArgumentError(f"{name} must be True or False, not {shown(value)}")
    return value


def check_models(name: str, value: Any, kind: Type[T]) -> List[T]:
    """``value`` as a list, each item of which is a ``kind``; items are not shown, since they may hold secrets."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise InvalidArgumentError(f"{name} must be a list of {kind.__name__}, not {type(value).__name__}")
    found = list(value)
    for index, item in enumerate(found):
        if not isinstance(item, kind):
            raise InvalidArgumentError(f"{name}[{index}] must be a {kind.__name__}, not {type(item).__name__}")
    return found


def check_model(name: str, value: Any, kind: Type[T]) -> T:
    """``value`` if it is a ``kind``; it is not shown, since it may hold secrets."""
    if not isinstance(value, kind):
        raise InvalidArgumentError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")
    return value


def check_text_map(name: str, value: Any, *, allow_none: bool = False) -> None:
    """Refuse anything but a mapping of text to text; the values are not shown, since they may be secrets."""
    if not isinstance(value, Mapping):
        raise InvalidArgumentError(f"{name} must be a mapping of text to text, not {type(value).__name__}")
    for key, item in value.items():
        if not is_text(key) or not key:
            kind = repr(key) if key == "" else type(key).__name__
            raise InvalidArgumentError(f"{name} must have text keys that are not empty, not {kind}")
        if isinstance(item, str):
            if not is_text(item):
                raise InvalidArgumentError(f"{name}[{key!r}] has a NUL or half a surrogate pair, which is no text")
        elif not (allow_none and item is None):
            raise InvalidArgumentError(
                f"{name}[{key!r}] must be text, not {type(item).__name__}; use str() or json.dumps()"
            )


def check_env(name: str, value: Any, *, allow_none: bool = False) -> None:
    """Refuse anything but names of variables to their values."""
    check_text_map(name, value, allow_none=allow_none)
    for key in value:
        if "=" in key:
            begin = key.partition("=")[0]  # what follows may be the value
            raise InvalidArgumentError(
                f"{name}: a name that begins with {begin!r} has a '=', which no environment holds"
            )


def one_or_more(name: str, value: Optional[Iterable[str]]) -> List[str]:
    """``value`` as a list; a bare text, whose characters would be taken one by one, is refused."""
    if value is None:
        return []
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise InvalidArgumentError(f"{name} must be a list of texts, not {shown(value)}")
    return list(value)


def check_argv(name: str, value: Any) -> List[str]:
    """``value`` as a list of words, the first of which is a program."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or not value:
        raise InvalidArgumentError(
            f"{name} must be a list of words that is not empty, such as ['sleep', '60'], not {shown(value)}"
        )
    words = [as_text(word) for word in value]
    for index, word in enumerate(words):
        if not is_text(word):
            raise InvalidArgumentError(f"{name}[{index}] must be text without NUL, not {shown(word)}")
    require_text(f"{name}[0]", words[0])
    return words


def check_directory(name: str, value: Any) -> str:
    """A directory in the sandbox, as text."""
    return require_text(name, as_text(value), "'/tmp'")


# -- what a user sends ---------------------------------------------------------------------------------------------


@dataclass
class ImageAuth:
    """A private registry's credentials."""

    username: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        require_text("username", self.username)
        require_secret("password", self.password)


@dataclass
class ImageSpec:
    """A container image, with the registry's credentials where it is private."""

    uri: str
    auth: Optional[ImageAuth] = None

    def __post_init__(self) -> None:
        require_text("image uri", self.uri, "'python:3.12'")
        if self.auth is not None:
            check_model("image auth", self.auth, ImageAuth)


_PLATFORM_NAMES = {"os": ("linux", "windows"), "arch": ("amd64", "arm64")}


@dataclass
class PlatformSpec:
    """The platform to run on: ``os`` is ``linux`` or ``windows``, ``arch`` is ``amd64`` or ``arm64``, in any case.

    Raises ``InvalidArgumentError`` for any other, as the server would.
    """

    os: str
    arch: str

    def __post_init__(self) -> None:
        for name, known in _PLATFORM_NAMES.items():
            value = getattr(self, name)
            normal = value.strip().lower() if isinstance(value, str) else None
            if normal not in known:
                raise InvalidArgumentError(f"platform {name} must be {known[0]!r} or {known[1]!r}, not {shown(value)}")
            setattr(self, name, normal)


@dataclass
class NetworkRule:
    """One egress rule: ``action`` is ``allow`` or ``deny``; ``target`` is a domain, ``*.domain``, an IP address or a
    CIDR block.

    The newest sidecars know ``ports`` for addresses; with them an empty target is any address.
    """

    action: str
    target: str = ""
    ports: Optional[List[int]] = None

    def validate(self, where: str) -> None:
        """Raise ``InvalidArgumentError`` where the sidecar would refuse this rule."""
        if self.action not in ("allow", "deny"):
            raise InvalidArgumentError(f"{where}: action must be 'allow' or 'deny', not {shown(self.action)}")
        if self.ports is not None:
            self.ports = check_ports(f"{where}: ports", self.ports)
        if not self.ports or self.target != "":
            require_text(f"{where}: target", self.target, "'api.test' or '*.example.com'")

    @property
    def place(self) -> str:
        """The target and the ports in words, for people to read."""
        ports = ", ".join(map(str, self.ports or ()))
        return (self.target or "any address") + (f" port {ports}" if ports else "")


@dataclass
class NetworkPolicy:
    """What a sandbox may reach: the first rule that matches a name wins, else ``default_action`` (``deny`` or
    ``allow``).
    """

    default_action: Optional[str] = "deny"
    egress: List[NetworkRule] = field(default_factory=list)

    def validate(self, where: str) -> None:
        """Raise ``InvalidArgumentError`` where the sidecar would refuse this policy."""
        if self.default_action not in (None, "allow", "deny"):
            raise InvalidArgumentError(
                f"{where}: default_action must be 'allow' or 'deny', not {shown(self.default_action)}"
            )
        self.egress = check_rules(f"{where}: egress", self.egress)

    def __repr__(self) -> str:
        rules = one_line(", ".join(f"{rule.action} {rule.place}" for rule in self.egress))
        return f"<NetworkPolicy {self.default_action}" + (f", {len(self.egress)} rules: {rules}>" if rules else ">")

    def _repr_html_(self) -> str:
        from .notebook import policy_html

        return policy_html(self)


def check_rules(where: str, rules: Any) -> List[NetworkRule]:
    """``rules`` as a list; raises ``InvalidArgumentError`` for what is no rule, or one the sidecar would refuse."""
    found = check_models(where, rules, NetworkRule)
    for index, rule in enumerate(found):
        rule.validate(f"{where}[{index}]")
    return found


def check_ports(name: str, value: Any) -> List[int]:
    """``value`` as a list of port numbers."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise InvalidArgumentError(f"{name} must be a list of port numbers, such as [443], not {shown(value)}")
    return [check_whole(f"each of {name}", port, 1, 65535) for port in value]


@dataclass
class CredentialProxyConfig:
    """Whether the egress sidecar may put credentials into requests (needed for the credential vault)."""

    enabled: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.enabled, bool):
            raise InvalidArgumentError(f"credential_proxy enabled must be True or False, not {shown(self.enabled)}")


@dataclass
class LifecycleHook:
    """A command that the server runs in the sandbox before the entrypoint; ``timeout_seconds`` is 1 to 10800 (60
    unless given).
    """

    command: List[str]
    timeout_seconds: Optional[int] = None

    def __post_init__(self) -> None:
        _check_hook("lifecycle pre_start", self.command, self.timeout_seconds, 10800)


@dataclass
class PeriodicLifecycleHook:
    """A command that the server runs on a cron ``schedule``; ``timeout_seconds`` is 1 to 300."""

    name: str
    schedule: str
    command: List[str]
    timeout_seconds: Optional[int] = None

    def __post_init__(self) -> None:
        require_text("lifecycle hook name", self.name)
        require_text(f"lifecycle hook {self.name!r}: schedule", self.schedule, "'*/5 * * * *'")
        _check_hook(f"lifecycle hook {self.name!r}", self.command, self.timeout_seconds, 300)


def _check_hook(where: str, command: Any, timeout: Any, most: int) -> None:
    check_argv(f"{where}: command", command)
    if timeout is not None:
        check_whole(f"{where}: timeout_seconds", timeout, 1, most)


@dataclass
class SandboxLifecycle:
    """Commands around a sandbox's life: once before its entrypoint, and by the clock, each with a name of its own."""

    pre_start: Optional[LifecycleHook] = None
    periodic: Optional[List[PeriodicLifecycleHook]] = None

    def __post_init__(self) -> None:
        if self.pre_start is not None:
            check_model("pre_start", self.pre_start, LifecycleHook)
        if self.periodic is None:
            return
        names = set()
        self.periodic = check_models("periodic", self.periodic, PeriodicLifecycleHook)
        for hook in self.periodic:
            if hook.name.strip() in names:
                raise InvalidArgumentError(f"periodic: two hooks are named {hook.name!r}; each needs a name of its own")
            names.add(hook.name.strip())


@dataclass
class Host:
    """A directory of the server's host, absolute or with a Windows drive; it must be under the server's
    ``allowed_host_paths``.
    """

    path: str

    def validate(self, where: str) -> None:
        """Raise ``InvalidArgumentError`` where the server would refuse this backend."""
        require_text(f"{where}: host path", self.path, "'/srv/data'")
        if not re.match(r"/|[A-Za-z]:[\\/]", self.path):
            raise InvalidArgumentError(
                f"{where}: host path must be absolute ('/srv/data', or 'C:/data' on Windows), not {self.path!r}"
            )


@dataclass
class PVC:
    """A named volume (Docker) or a persistent volume claim (Kubernetes), with what creating it needs.

    The server creates one that does not exist unless ``create_if_not_exists`` is False, and keeps it unless
    ``delete_on_sandbox_termination`` is True. ``storage`` is such as ``"10Gi"``, ``access_modes`` such as
    ``["ReadWriteOnce"]``; both are for Kubernetes, as is ``storage_class``.
    """

    claim_name: str
    create_if_not_exists: Optional[bool] = None
    delete_on_sandbox_termination: Optional[bool] = None
    storage_class: Optional[str] = None
    storage: Optional[str] = None
    access_modes: Optional[List[str]] = None

    def validate(self, where: str) -> None:
        """Raise ``InvalidArgumentError`` where the server would refuse this backend."""
        _check_label(f"{where}: pvc claim_name", self.claim_name, 253)
        check_flag(f"{where}: create_if_not_exists", self.create_if_not_exists)
        check_flag(f"{where}: delete_on_sandbox_termination", self.delete_on_sandbox_termination)
        if self.storage_class is not None:
            require_text(f"{where}: storage_class", self.storage_class)
        if self.storage is not None and not _fits(r"\d+(\.\d+)?(Ki|Mi|Gi|Ti|Pi|Ei)?", self.storage):
            raise InvalidArgumentError(
                f"{where}: storage must be a number with Ki, Mi, Gi, Ti, Pi, Ei or nothing behind it, such as '10Gi', "
                f"not {shown(self.storage)}"
            )
        if self.access_modes is not None:
            self.access_modes = one_or_more(f"{where}: access_modes", self.access_modes)
            for mode in self.access_modes:
                require_text(f"{where}: each of access_modes", mode, "'ReadWriteOnce'")


@dataclass
class OSSFS:
    """A bucket of an object store, mounted through ossfs; a volume's ``sub_path`` is the prefix in it.

    ``options`` are ossfs's own, without their leading ``-``. The server demands both keys.
    """

    bucket: str
    endpoint: str
    version: str = "2.0"
    options: Optional[List[str]] = None
    access_key_id: Optional[str] = field(default=None, repr=False)
    access_key_secret: Optional[str] = field(default=None, repr=False)

    def validate(self, where: str) -> None:
        """Raise ``InvalidArgumentError`` where the server would refuse this backend; the keys are never shown."""
        require_text(f"{where}: ossfs bucket", self.bucket)
        if not 3 <= len(self.bucket) <= 63:
            raise InvalidArgumentError(f"{where}: ossfs bucket must have 3 to 63 characters, not {self.bucket!r}")
        require_text(f"{where}: ossfs endpoint", self.endpoint, "'oss-cn-hangzhou.aliyuncs.com'")
        if self.version not in ("1.0", "2.0"):
            raise InvalidArgumentError(
                f"{where}: ossfs version must be '1.0' or '2.0' (text), not {shown(self.version)}"
            )
        if self.options is not None:
            self.options = one_or_more(f"{where}: ossfs options", self.options)
        for option in self.options or ():
            require_text(f"{where}: each of ossfs options", option, "'allow_other'")
            if option.strip().startswith("-"):
                raise InvalidArgumentError(f"{where}: ossfs option {option!r} must be without its leading '-'")
        for name in ("access_key_id", "access_key_secret"):
            require_secret(f"{where}: ossfs {name} (the server demands both keys)", getattr(self, name))


B = TypeVar("B")
F = TypeVar("F", bound="_Backend[Any]")


class _Backend(Generic[B]):
    """A field of ``Volume`` which on the class itself makes a volume of this kind: ``Volume.host(…)``."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self: F, volume: None, owner: type) -> F: ...

    @overload
    def __get__(self, volume: Volume, owner: type) -> Optional[B]: ...

    def __get__(self, volume: Optional[Volume], owner: type) -> Any:
        return self if volume is None else volume.__dict__.get(self._name)

    def __set__(self, volume: Volume, value: Optional[B]) -> None:
        # The dataclass takes what the class gives, this descriptor, for the field's default.
        volume.__dict__[self._name] = None if value is self else value

    def __repr__(self) -> str:
        return "None"


class _HostBackend(_Backend[Host]):
    def __call__(
        self,
        name: str,
        path: str,
        *,
        mount_path: str,
        read_only: Optional[bool] = None,
        sub_path: Optional[str] = None,
    ) -> Volume:
        """A directory of the server's host, mounted at ``mount_path``."""
        return Volume(name, mount_path, host=Host(path), read_only=read_only, sub_path=sub_path)


class _PVCBackend(_Backend[PVC]):
    def __call__(
        self,
        name: str,
        claim_name: str,
        *,
        mount_path: str,
        read_only: Optional[bool] = None,
        sub_path: Optional[str] = None,
        create_if_not_exists: Optional[bool] = None,
        delete_on_sandbox_termination: Optional[bool] = None,
        storage_class: Optional[str] = None,
        storage: Optional[str] = None,
        access_modes: Optional[List[str]] = None,
    ) -> Volume:
        """A named volume or claim, mounted at ``mount_path``; see ``PVC``."""
        pvc = PVC(claim_name, create_if_not_exists, delete_on_sandbox_termination, storage_class, storage, access_modes)
        return Volume(name, mount_path, pvc=pvc, read_only=read_only, sub_path=sub_path)


class _OSSFSBackend(_Backend[OSSFS]):
    def __call__(
        self,
        name: str,
        bucket: str,
        *,
        mount_path: str,
        endpoint: str,
        access_key_id: str,
        access_key_secret: str,
        version: str = "2.0",
        options: Optional[List[str]] = None,
        read_only: Optional[bool] = None,
        sub_path: Optional[str] = None,
    ) -> Volume:
        """A bucket, or the prefix ``sub_path`` of it, mounted at ``mount_path``; see ``OSSFS``."""
        ossfs = OSSFS(bucket, endpoint, version, options, access_key_id, access_key_secret)
        return Volume(name, mount_path, ossfs=ossfs, read_only=read_only, sub_path=sub_path)


@dataclass
class Volume:
    """Storage mounted at ``mount_path``: exactly one of ``host``, ``pvc`` and ``ossfs``.

    ``Volume("data", "/data", host=Host("/srv/data"))`` is ``Volume.host("data", "/srv/data", mount_path="/data")``, and
    so with ``Volume.pvc`` and ``Volume.ossfs``. ``sub_path`` is relative, without ``..``. Raises
    ``InvalidArgumentError`` naming the volume and what is wrong with it.
    """

    name: str
    mount_path: str
    host: _HostBackend = _HostBackend()  # noqa: RUF009 - a descriptor, not a default that instances would share
    pvc: _PVCBackend = _PVCBackend()  # noqa: RUF009
    ossfs: _OSSFSBackend = _OSSFSBackend()  # noqa: RUF009
    read_only: Optional[bool] = None
    sub_path: Optional[str] = None

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise ``InvalidArgumentError`` where the server would refuse this volume, whatever its settings."""
        _check_label("volume name", self.name, 63)
        where = f"volume {self.name!r}"
        require_text(f"{where}: mount_path", self.mount_path, "'/data'")
        if not self.mount_path.startswith("/"):
            raise InvalidArgumentError(f"{where}: mount_path must be absolute, not {self.mount_path!r}")
        check_flag(f"{where}: read_only", self.read_only)
        self._check_sub_path(where)
        kinds: Dict[str, Any] = {"host": Host, "pvc": PVC, "ossfs": OSSFS}
        given = {name: getattr(self, name) for name in kinds if getattr(self, name) is not None}
        if len(given) != 1:
            have = f"{' and '.join(given)} were given" if given else "none was given"
            raise InvalidArgumentError(f"{where}: exactly one of host, pvc and ossfs says what it is; {have}")
        for name, backend in given.items():
            if not isinstance(backend, kinds[name]):
                raise InvalidArgumentError(
                    f"{where}: {name} must be {kinds[name].__name__}(…), not {type(backend).__name__}"
                )
            backend.validate(where)

    def _check_sub_path(self, where: str) -> None:
        path = self.sub_path
        if path is None:
            return
        if not is_text(path) or path.startswith("/") or ".." in path.split("/"):
            raise InvalidArgumentError(f"{where}: sub_path must be a relative path without '..', not {shown(path)}")


def _fits(pattern: str, value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def _check_label(name: str, value: Any, longest: int) -> None:
    if not _fits(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", value) or len(value) > longest:
        raise InvalidArgumentError(
            f"{name} must be of at most {longest} lower-case letters, digits and inner hyphens, not {shown(value)}"
        )


# -- what the server answers ---------------------------------------------------------------------------------------


@dataclass
class SandboxStatus:
    """``state`` is Pending, Running, Pausing, Paused, Resuming, Stopping, Terminated, Failed, or one not known yet."""

    state: str
    reason: Optional[str] = None
    message: Optional[str] = None
    last_transition_at: Optional[datetime] = None


@dataclass
class SandboxAllocation:
    """Where a sandbox that came from a server pool was taken from."""

    mode: Optional[str] = None
    pool_ref: Optional[str] = None
    state: Optional[str] = None


@dataclass
class SandboxInfo:
    """A sandbox as the server knows it. ``expires_at`` is None under manual cleanup; ``raw`` is the whole answer."""

    id: str
    status: SandboxStatus
    created_at: Optional[datetime] = None
    expires_at: Optional[datetime] = None
    image: Optional[ImageSpec] = None
    snapshot_id: Optional[str] = None
    template_id: Optional[str] = None
    platform: Optional[PlatformSpec] = None
    entrypoint: Optional[List[str]] = None
    metadata: Dict[str, str] = field(default_factory=dict)
    extensions: Dict[str, str] = field(default_factory=dict)
    allocation: Optional[SandboxAllocation] = None
    raw: Dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def state(self) -> str:
        """``status.state``."""
        return self.status.state

    @property
    def source(self) -> Optional[str]:
        """What it was made from: its image, snapshot or template."""
        return self.image.uri if self.image else self.snapshot_id or self.template_id

    @property
    def isolation(self) -> Optional[str]:
        """What the embedded server says keeps the sandbox from its machine (``none``, ``bubblewrap``); other servers
        say nothing.
        """
        return self.extensions.get("opensandbox.extensions.isolation")

    def __repr__(self) -> str:
        return f"<SandboxInfo {self.id} {self.state}" + (f", {self.source}>" if self.source else ">")

    def _repr_html_(self) -> str:
        from .notebook import info_html

        return info_html(self)


@dataclass
class Endpoint:
    """How to reach a port of a sandbox: ``endpoint`` is ``host[:port][/path]`` without a scheme; send ``headers``
    along.
    """

    endpoint: str
    headers: Dict[str, str] = field(default_factory=dict, repr=False)
    #: ``http`` or ``https``, as the client that asked is configured.
    scheme: str = field(default="http", init=False, repr=False)
    #: ``template`` where the server, not a sidecar, keeps the sandbox's network policy.
    origin: Optional[str] = field(default=None, init=False, repr=False)
    #: Whether the address itself is a secret: it carries a signature.
    signed: bool = field(default=False, init=False, repr=False)

    @property
    def url(self) -> str:
        """The address with its scheme."""
        return f"{self.scheme}://{self.endpoint}"

    def __repr__(self) -> str:
        return f"Endpoint({'<signed>' if self.signed else self.endpoint!r}, {len(self.headers)} headers)"


@dataclass
class Pagination:
    """Where a page stands; pages count from 1."""

    page: int = 1
    page_size: int = 20
    total_items: int = 0
    total_pages: int = 0
    has_next_page: bool = False


@dataclass
class Page(Generic[T]):
    """One page of a list."""

    items: List[T]
    pagination: Pagination

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)
