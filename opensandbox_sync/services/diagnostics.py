"""Diagnostics: the server's own logs and events about a sandbox. Facts: the diagnostics API."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Dict, List, Optional
from urllib.parse import quote, urlsplit

from ..errors import ProtocolError
from ..models import require_text
from ..transport import Plane

if TYPE_CHECKING:
    from ..client import SandboxClient
    from ..sandbox import Sandbox


@dataclass
class DiagnosticContent:
    """Text about a sandbox, meant for people: its lines have no fixed form.

    ``kind`` is ``logs`` or ``events``. With the ``delivery`` ``inline`` the text is ``content``; with ``url`` it is at
    ``content_url`` (a secret: it is signed) until ``expires_at``, and ``content`` is None unless it was followed.
    ``content_length`` is in bytes; ``truncated`` says that the server left some out; ``warnings`` say what it could not
    tell.
    """

    sandbox_id: str
    kind: str
    scope: str
    delivery: str = "inline"
    content_type: Optional[str] = None
    content: Optional[str] = None
    content_url: Optional[str] = field(default=None, repr=False)
    content_length: Optional[int] = None
    expires_at: Optional[datetime] = None
    truncated: bool = False
    warnings: List[str] = field(default_factory=list)
    raw: Dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


class DiagnosticsService:
    """What the server has to say about any sandbox; ``client.diagnostics``."""

    def __init__(self, client: SandboxClient) -> None:
        self._client = client

    def logs(self, sandbox_id: str, scope: str = "all", *, follow_url: bool = False) -> DiagnosticContent:
        """Log text: ``scope`` is ``container``, ``all``, or what else the server knows (``lifecycle``, ``network`` …).

        ``follow_url`` fetches a text that the server only gives the address of. Raises ``BadRequestError`` for a scope
        that the server does not know (the message lists those that it does), ``NotFoundError``, ``NotSupportedError``.
        """
        return self._read("logs", sandbox_id, scope, follow_url)

    def events(self, sandbox_id: str, scope: str = "all", *, follow_url: bool = False) -> DiagnosticContent:
        """What happened to the sandbox: ``scope`` is ``runtime``, ``all``, or what else the server knows. See
        ``logs``.
        """
        return self._read("events", sandbox_id, scope, follow_url)

    def _read(self, kind: str, sandbox_id: str, scope: str, follow_url: bool) -> DiagnosticContent:
        path = f"/sandboxes/{quote(require_text('sandbox_id', sandbox_id), safe='')}/diagnostics/{kind}"
        # Without a scope the server falls back to an older, plain-text form.
        params = {"scope": require_text("scope", scope, "'all'")}
        answer = self._client._call("GET", path, action=f"read the {kind} of sandbox {sandbox_id}", params=params)
        found = answer.decode(DiagnosticContent)
        if follow_url and found.content is None and found.content_url is not None:
            found.content = self._fetch(found.content_url, f"fetch the {kind} of sandbox {sandbox_id}")
        return found

    def _fetch(self, address: str, action: str) -> str:
        config = self._client.config
        try:
            url = urlsplit(address)
            fits = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:  # its text may repeat the address, which is a secret
            fits = False
        if not fits:
            raise ProtocolError(f"could not {action}: the server gave an address that is no http(s) URL")
        # An address elsewhere carries its own signature, and must not learn the API key.
        own = (url.scheme, url.netloc) == (config.scheme, config.authority)
        headers = config.lifecycle_headers if own else {"User-Agent": config.user_agent}
        answer = self._client._transport.request(
            Plane(f"{url.scheme}://{url.netloc}", headers),
            "GET",
            (url.path or "/") + (f"?{url.query}" if url.query else ""),
            action=action,
            headers={"Accept": "*/*"},
        )
        return answer.content.decode("utf-8", "replace")


class SandboxDiagnosticsService:
    """What the server has to say about one sandbox; ``sandbox.diagnostics``."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def logs(self, scope: str = "all", *, follow_url: bool = False) -> DiagnosticContent:
        """Log text about this sandbox. See ``DiagnosticsService.logs``."""
        return self._sandbox._client.diagnostics.logs(self._sandbox.id, scope, follow_url=follow_url)

    def events(self, scope: str = "all", *, follow_url: bool = False) -> DiagnosticContent:
        """What happened to this sandbox. See ``DiagnosticsService.events``."""
        return self._sandbox._client.diagnostics.events(self._sandbox.id, scope, follow_url=follow_url)
