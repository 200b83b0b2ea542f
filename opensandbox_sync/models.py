"""What the lifecycle plane sends and returns. Sources: the lifecycle API of OpenSandbox 1.1 (``POST /sandboxes`` and
around it).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Dict, Generic, Iterable, Iterator, List, Mapping, Optional, TypeVar

from .errors import InvalidArgumentError

T = TypeVar("T")


def require_text(name: str, value: Any, example: str = "") -> str:
    """``value`` if it is text with something in it, or an error that names the argument."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        hint = f", such as {example}" if example else ""
        raise InvalidArgumentError(f"{name} must be text that is not blank and has no NUL{hint}; got {value!r}")
    return value


def check_text_map(name: str, value: Any, *, allow_none: bool = False) -> None:
    """Refuse anything but a mapping of text to text; the values are not shown, since they may be secrets."""
    if not isinstance(value, Mapping):
        raise InvalidArgumentError(f"{name} must be a mapping of text to text, not {type(value).__name__}")
    for key, item in value.items():
        if not isinstance(key, str) or not key:
            raise InvalidArgumentError(f"{name} must have text keys that are not empty, not {key!r}")
        if not isinstance(item, str) and not (allow_none and item is None):
            raise InvalidArgumentError(
                f"{name}[{key!r}] must be text, not {type(item).__name__}; use str() or json.dumps()"
            )


def one_or_more(name: str, value: Optional[Iterable[str]]) -> List[str]:
    """``value`` as a list; a bare text, whose characters would be taken one by one, is refused."""
    if value is None:
        return []
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise InvalidArgumentError(f"{name} must be a list of texts, not {value!r}")
    return list(value)


# -- what a user sends -------------------------------------------------------------------------------------------------


@dataclass
class ImageAuth:
    """A private registry's credentials."""

    username: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        require_text("username", self.username)
        if not isinstance(self.password, str) or not self.password:
            raise InvalidArgumentError("password must be text that is not empty")


@dataclass
class ImageSpec:
    """A container image, with the registry's credentials where it is private."""

    uri: str
    auth: Optional[ImageAuth] = None

    def __post_init__(self) -> None:
        require_text("image uri", self.uri, "'python:3.12'")


@dataclass
class PlatformSpec:
    """The platform to run on: ``os`` is ``linux`` or ``windows``, ``arch`` is ``amd64`` or ``arm64``."""

    os: str
    arch: str


@dataclass
class NetworkRule:
    """One egress rule: ``action`` is ``allow`` or ``deny``; ``target`` is a domain, ``*.domain``, an IP address or a
    CIDR block.
    """

    action: str
    target: str

    def validate(self, where: str) -> None:
        """Raise ``InvalidArgumentError`` where the sidecar would refuse this rule."""
        if self.action not in ("allow", "deny"):
            raise InvalidArgumentError(f"{where}: action must be 'allow' or 'deny', not {self.action!r}")
        require_text(f"{where}: target", self.target, "'pypi.org' or '*.example.com'")


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
                f"{where}: default_action must be 'allow' or 'deny', not {self.default_action!r}"
            )
        for index, rule in enumerate(self.egress):
            if not isinstance(rule, NetworkRule):
                raise InvalidArgumentError(f"{where}: egress[{index}] must be a NetworkRule, not {type(rule).__name__}")
            rule.validate(f"{where}: egress[{index}]")


@dataclass
class CredentialProxyConfig:
    """Whether the egress sidecar may put credentials into requests (needed for the credential vault)."""

    enabled: bool = False


@dataclass
class LifecycleHook:
    """A command that the server runs in the sandbox; ``timeout_seconds`` is 1 to 10800 (60 unless given)."""

    command: List[str]
    timeout_seconds: Optional[int] = None


@dataclass
class PeriodicLifecycleHook:
    """A command that the server runs on a cron ``schedule``; ``timeout_seconds`` is 1 to 300."""

    name: str
    schedule: str
    command: List[str]
    timeout_seconds: Optional[int] = None


@dataclass
class SandboxLifecycle:
    """Commands around a sandbox's life: once before it starts, and by the clock."""

    pre_start: Optional[LifecycleHook] = None
    periodic: Optional[List[PeriodicLifecycleHook]] = None


_VOLUME_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")


@dataclass
class Host:
    """A directory of the server's host; it must be under the server's ``allowed_host_paths``."""

    path: str


@dataclass
class PVC:
    """A named volume (Docker) or a persistent volume claim (Kubernetes), with what creating it needs."""

    claim_name: str
    create_if_not_exists: Optional[bool] = None
    delete_on_sandbox_termination: Optional[bool] = None
    storage_class: Optional[str] = None
    storage: Optional[str] = None
    access_modes: Optional[List[str]] = None


@dataclass
class OSSFS:
    """A bucket of an object store, mounted through ossfs; a volume's ``sub_path`` is the prefix in it."""

    bucket: str
    endpoint: str
    version: str = "2.0"
    options: Optional[List[str]] = None
    access_key_id: Optional[str] = field(default=None, repr=False)
    access_key_secret: Optional[str] = field(default=None, repr=False)


@dataclass
class Volume:
    """Storage mounted at ``mount_path``: exactly one of ``host``, ``pvc`` and ``ossfs``.

    ``sub_path`` is relative, without ``..``. Raises ``InvalidArgumentError`` naming the volume and what is wrong with
    it.
    """

    name: str
    mount_path: str
    host: Optional[Host] = None
    pvc: Optional[PVC] = None
    ossfs: Optional[OSSFS] = None
    read_only: Optional[bool] = None
    sub_path: Optional[str] = None


# -- what the server answers
# --------------------------------------------------------------------------------------------


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


@dataclass
class Endpoint:
    """How to reach a port of a sandbox: ``endpoint`` is ``host[:port][/path]`` without a scheme; send ``headers``
    along.
    """

    endpoint: str
    headers: Dict[str, str] = field(default_factory=dict, repr=False)
    #: ``http`` or ``https``, as the client that asked is configured.
    scheme: str = field(default="http", repr=False)
    #: ``template`` where the server, not a sidecar, keeps the sandbox's network policy.
    origin: Optional[str] = field(default=None, repr=False)
    #: Whether the address itself is a secret: it carries a signature.
    signed: bool = field(default=False, repr=False)

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
