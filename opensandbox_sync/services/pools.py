"""Pools: sandboxes that the server keeps warm. Facts: the lifecycle API's ``/pools`` (Kubernetes only)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional
from urllib.parse import quote

from ..codec import encode
from ..errors import InvalidArgumentError
from ..models import check_model, check_whole, require_text

if TYPE_CHECKING:
    from ..client import SandboxClient


@dataclass
class PoolCapacity:
    """How many sandboxes a pool keeps: ``buffer_min`` to ``buffer_max`` warm and free, ``pool_min`` to ``pool_max`` in
    all.
    """

    buffer_min: int
    buffer_max: int
    pool_min: int
    pool_max: int


@dataclass
class PoolStatus:
    """How many sandboxes a pool has now, and which ``revision`` of it is current."""

    total: int = 0
    allocated: int = 0
    available: int = 0
    revision: Optional[str] = None


@dataclass
class PoolInfo:
    """A pool; ``client.create(pool=name)`` takes sandboxes from it. ``status`` is None until the server has looked."""

    name: str
    capacity_spec: PoolCapacity
    status: Optional[PoolStatus] = None
    created_at: Optional[datetime] = None
    raw: Dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


class PoolService:
    """The server's pools; ``client.pools``. Each call raises ``NotSupportedError`` on other runtimes."""

    def __init__(self, client: SandboxClient) -> None:
        self._client = client

    def create(self, name: str, *, template: Mapping[str, Any], capacity: PoolCapacity) -> PoolInfo:
        """Make a pool. ``template`` is a Kubernetes PodTemplateSpec, as a Deployment's ``spec.template``.

        Raises ``ConflictError`` where the name is taken.
        """
        if not isinstance(template, Mapping):
            raise InvalidArgumentError(
                f"template must be a PodTemplateSpec as a mapping, not {type(template).__name__}"
            )
        body = {
            "name": require_text("name", name, "'python-pool'"),
            "template": dict(template),
            "capacitySpec": _encoded(capacity),
        }
        return self._client._call("POST", "/pools", action=f"create pool {name}", json=body).decode(PoolInfo)

    def get(self, name: str) -> PoolInfo:
        """What the server knows of a pool; ``NotFoundError`` where there is none."""
        return self._client._call("GET", _path(name), action=f"look up pool {name}").decode(PoolInfo)

    def list(self) -> List[PoolInfo]:
        """All pools; the server has no pages here."""
        answer = self._client._call("GET", "/pools", action="list pools")
        return answer.decode(_Pools).items

    def update(self, name: str, capacity: PoolCapacity) -> PoolInfo:
        """Change how much a pool keeps; the rest of a pool cannot be changed."""
        body = {"capacitySpec": _encoded(capacity)}
        return self._client._call("PUT", _path(name), action=f"update pool {name}", json=body).decode(PoolInfo)

    def delete(self, name: str) -> None:
        """Delete a pool; ``NotFoundError`` where there is none."""
        self._client._call("DELETE", _path(name), action=f"delete pool {name}")


@dataclass
class _Pools:
    items: List[PoolInfo] = field(default_factory=list)


def _encoded(capacity: PoolCapacity) -> Any:
    for name, value in vars(check_model("capacity", capacity, PoolCapacity)).items():
        check_whole(f"capacity.{name}", value, 0, 2**31 - 1)  # Kubernetes counts in 32 bits
    return encode(capacity)


def _path(name: str) -> str:
    return "/pools/" + quote(require_text("name", name), safe="")
