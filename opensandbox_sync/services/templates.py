"""Templates: golden images of microVM sandboxes. Facts: the lifecycle API's ``/templates`` (Kubernetes only)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple
from urllib.parse import quote

from ..client import all_pages, decode_page, metadata_params, page_params
from ..codec import encode
from ..config import Duration, seconds
from ..errors import InvalidArgumentError
from ..models import (
    Page,
    check_argv,
    check_env,
    check_model,
    check_text_map,
    check_whole,
    one_or_more,
    require_text,
    shown,
)
from ..readiness import wait_for_state

if TYPE_CHECKING:
    from ..client import SandboxClient


@dataclass
class TemplateReadiness:
    """When a build counts as ready: a ``probe`` (``tcp://127.0.0.1:44772``, ``cmd://<command>``) that succeeds, else
    after ``warmup_seconds`` (60 unless given).
    """

    probe: Optional[str] = None
    warmup_seconds: Optional[int] = None

    def __post_init__(self) -> None:
        if self.probe is not None:
            require_text("readiness probe", self.probe, "'tcp://127.0.0.1:44772'")
        if self.warmup_seconds is not None:
            check_whole("readiness warmup_seconds", self.warmup_seconds)


@dataclass
class TemplateStatus:
    """``phase`` is Pending, Building, Succeeded, Failed, or one not known yet; ``message`` is a failure's reason.

    ``manifest_ref`` is where the published artifacts are, once it succeeded.
    """

    phase: str
    manifest_ref: Optional[str] = None
    message: Optional[str] = None


@dataclass
class TemplateInfo:
    """A template; ``client.create(template_id=…)`` makes sandboxes of it. ``raw`` is the whole answer."""

    template_id: str
    image: str
    status: TemplateStatus
    publish: Optional[str] = None
    format: Optional[str] = None
    created_at: Optional[datetime] = None
    updated_at: Optional[datetime] = None
    resource_limits: Dict[str, str] = field(default_factory=dict)
    entrypoint: Optional[List[str]] = None
    env: Dict[str, str] = field(default_factory=dict, repr=False)
    metadata: Dict[str, str] = field(default_factory=dict)
    readiness: Optional[TemplateReadiness] = None
    raw: Dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def phase(self) -> str:
        """``status.phase``."""
        return self.status.phase


class TemplateService:
    """Builds and keeps templates; ``client.templates``. Each call raises ``NotSupportedError`` on other runtimes."""

    def __init__(self, client: SandboxClient) -> None:
        self._client = client

    def create(
        self,
        image: str,
        *,
        publish: str,
        resource_limits: Optional[Mapping[str, str]] = None,
        entrypoint: Optional[Iterable[str]] = None,
        env: Optional[Mapping[str, str]] = None,
        metadata: Optional[Mapping[str, str]] = None,
        readiness: Optional[TemplateReadiness] = None,
        format: Optional[str] = None,
    ) -> TemplateInfo:
        """Start building a template from ``image``; it goes on in the background (``wait_built``).

        ``publish`` is where the artifacts go (``s3://bucket/path``). ``resource_limits`` knows ``cpu``, ``memory`` and
        ``disk`` (1, 512Mi and 2Gi unless given), ``format`` is ``overlaybd`` (unless given) or ``native``.
        """
        body: Dict[str, Any] = {
            "image": require_text("image", image, "'python:3.12'"),
            "publish": require_text("publish", publish, "'s3://bucket/path'"),
        }
        for name, wire_name, value, check in (
            ("resource_limits", "resourceLimits", resource_limits, check_text_map),
            ("env", "env", env, check_env),
            ("metadata", "metadata", metadata, check_text_map),
        ):
            if value is not None:
                check(name, value)
                body[wire_name] = dict(value)
        if entrypoint is not None:
            body["entrypoint"] = check_argv("entrypoint", one_or_more("entrypoint", entrypoint))
        if readiness is not None:
            body["readiness"] = encode(check_model("readiness", readiness, TemplateReadiness))
        if format is not None:
            if format not in ("native", "overlaybd"):
                raise InvalidArgumentError(f"format must be 'native' or 'overlaybd', not {shown(format)}")
            body["format"] = format
        return self._client._call("POST", "/templates", action="create a template", json=body).decode(TemplateInfo)

    def get(self, template_id: str) -> TemplateInfo:
        """What the server knows of a template; ``NotFoundError`` where there is none."""
        return self._get(template_id, None)

    def list(self, *, metadata: Optional[Mapping[str, str]] = None) -> Iterator[TemplateInfo]:
        """All templates that have all of ``metadata``, each once.

        All pages are read before the first is given, so deleting while looping skips nobody.
        """
        filters = metadata_params(metadata)

        def read(number: int) -> Page[TemplateInfo]:
            params = page_params(number, 200) + filters
            answer = self._client._call("GET", "/templates", action="list templates", params=params)
            return decode_page(TemplateInfo, answer)

        return iter(all_pages(read, lambda template: template.template_id))

    def delete(self, template_id: str) -> None:
        """Delete a template; ``NotFoundError`` where there is none."""
        self._client._call("DELETE", _path(template_id), action=f"delete template {template_id}")

    def wait_built(
        self, template_id: str, timeout: Duration = 1800, *, on_progress: Optional[Callable[[str], None]] = None
    ) -> TemplateInfo:
        """Wait until a template is built, and return it then; ``on_progress`` is called with a line of text at each
        look.

        Raises ``SandboxFailedError`` with the server's reason where the build failed, ``SandboxReadyTimeoutError``
        after ``timeout`` seconds, ``NotFoundError`` where there is none.
        """

        def look(left: float) -> Tuple[TemplateInfo, str, str]:
            template = self._get(template_id, left)
            return template, template.status.phase, template.status.message or ""

        return wait_for_state(
            self._client,
            f"template {template_id}",
            look,
            wanted="Succeeded",
            failed=("Failed",),
            timeout=seconds("timeout", timeout),
            on_progress=on_progress,
        )

    def _get(self, template_id: str, left: Optional[float]) -> TemplateInfo:
        limit = self._client.config.timeout_seconds
        answer = self._client._call(
            "GET",
            _path(template_id),
            action=f"look up template {template_id}",
            timeout=limit if left is None else min(limit, left),
        )
        return answer.decode(TemplateInfo)


def _path(template_id: str) -> str:
    return "/templates/" + quote(require_text("template_id", template_id), safe="")
