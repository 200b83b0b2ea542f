"""``SandboxClient``: the lifecycle plane; it makes ``Sandbox`` handles."""

from __future__ import annotations

import json
import math
import time
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
    Union,
)
from urllib.parse import quote

from .codec import decode, format_datetime, parse_datetime
from .config import (
    DEFAULT_READY_TIMEOUT_SECONDS,
    DEFAULT_TIMEOUT_SECONDS,
    ConnectionConfig,
    Duration,
    check_callables,
    checked_headers,
    seconds,
)
from .connections import Opening
from .creation import create_body
from .errors import (
    ConnectError,
    InvalidArgumentError,
    NotFoundError,
    ProtocolError,
    SandboxError,
    ServerError,
    TransportError,
)
from .execution import INTERRUPT_SECONDS
from .models import (
    CredentialProxyConfig,
    Endpoint,
    ImageSpec,
    NetworkPolicy,
    Page,
    Pagination,
    PlatformSpec,
    SandboxInfo,
    SandboxLifecycle,
    Volume,
    check_flag,
    check_text_map,
    check_whole,
    one_or_more,
    require_text,
)
from .sandbox import Sandbox, _check_port
from .transport import Answer, Plane, Transport, new_request_id

if TYPE_CHECKING:
    import requests

    from .retry import RetryPolicy
    from .services.diagnostics import DiagnosticsService
    from .services.pools import PoolService
    from .services.snapshots import SnapshotService
    from .services.templates import TemplateService

T = TypeVar("T")
_UNSET: Any = object()
#: Seconds for the answer to a create: the server pulls the image inside the call.
_CREATE_TIMEOUT = 300.0
_PAGE_SIZE = 200  # the server's most
_SERVER_OPTIONS = ("port", "api_key", "allow_host_path", "isolation", "root")
#: A proxy says these; the server behind it may have acted.
_GATEWAY_ERRORS = (502, 504)


class _LifecyclePlane(Plane):
    """The lifecycle server; each call gets a request id, which its answer and its errors carry."""

    def resolve(self, deadline: Optional[float]) -> Tuple[str, Dict[str, str]]:
        if any(name.lower() == "x-request-id" for name in self._headers):
            return self._base_url, self._headers
        return self._base_url, {**self._headers, "X-Request-ID": new_request_id()}


class SandboxClient:
    """A client of one OpenSandbox server.

    ``config`` is a ``ConnectionConfig``; every other argument is one of its fields and overrides it. Nothing is
    connected before the first call. Safe to share between threads and across a fork; ``close()``, or leaving its
    ``with`` block, ends calls that are still running. Raises ``InvalidArgumentError`` for a setting that cannot work.
    """

    def __init__(
        self,
        config: Optional[ConnectionConfig] = None,
        *,
        domain: Optional[str] = _UNSET,
        api_key: Optional[str] = _UNSET,
        protocol: str = _UNSET,
        timeout: Duration = _UNSET,
        idle_timeout: Duration = _UNSET,
        headers: Mapping[str, str] = _UNSET,
        sandbox_headers: Mapping[str, str] = _UNSET,
        use_server_proxy: Union[bool, str] = _UNSET,
        verify: Union[bool, str, None] = _UNSET,
        cert: Union[str, Tuple[str, str], None] = _UNSET,
        retry: Optional[RetryPolicy] = _UNSET,
        session: Optional[requests.Session] = _UNSET,
        user_agent: str = _UNSET,
        on_request: Optional[Callable[[Any], None]] = _UNSET,
        on_response: Optional[Callable[[Any], None]] = _UNSET,
    ) -> None:
        fields: Dict[str, Any] = {
            "domain": domain,
            "api_key": api_key,
            "protocol": protocol,
            "timeout": timeout,
            "idle_timeout": idle_timeout,
            "headers": headers,
            "sandbox_headers": sandbox_headers,
            "use_server_proxy": use_server_proxy,
            "verify": verify,
            "cert": cert,
            "retry": retry,
            "session": session,
            "user_agent": user_agent,
            "on_request": on_request,
            "on_response": on_response,
        }
        given = {name: value for name, value in fields.items() if value is not _UNSET}
        if config is None:
            config = ConnectionConfig(**given)
        elif not isinstance(config, ConnectionConfig):
            raise InvalidArgumentError(
                f"config must be a ConnectionConfig, not {type(config).__name__}; for a server's address use domain="
            )
        elif given:
            config = config.replace(**given)
        self.config = config
        self._transport = Transport(config)
        self._plane = _LifecyclePlane(config.base_url, config.lifecycle_headers)
        self._root = _LifecyclePlane(config.base_url[: -len("/v1")], config.lifecycle_headers)
        self._server: Any = None
        #: The last Date header, and when it came by our own clocks.
        self._date: Optional[Tuple[str, datetime, float]] = None

    @classmethod
    def local(cls, **options: Any) -> SandboxClient:
        """Start the embedded server (extra ``local``) and return a client of it; ``close()`` stops both.

        ``options`` are ``LocalServer``'s (``port``, ``api_key``, ``allow_host_path``, ``isolation``, ``root``), such as
        ``isolation="bubblewrap"``, and the client's: without bubblewrap the server runs commands as you, on this
        machine, and is not isolation.
        """
        from .local import LocalServer, LocalServerError

        for_server = {name: options.pop(name) for name in _SERVER_OPTIONS if name in options}
        try:
            server = LocalServer(**for_server)
            server.start()
        except ValueError as cause:
            raise InvalidArgumentError(str(cause)) from cause
        except LocalServerError as cause:
            raise SandboxError(f"the embedded server did not start: {cause}") from cause
        try:
            settings: Dict[str, Any] = {**server.config, **options}
            client = cls(**settings)
        except BaseException:
            server.stop()
            raise
        client._server = server
        return client

    # -- sandboxes --------------------------------------------------------------------------------------------------

    def create(
        self,
        image: Union[str, ImageSpec, None] = None,
        *,
        snapshot_id: Optional[str] = None,
        template_id: Optional[str] = None,
        pool: Optional[str] = None,
        timeout: Optional[Duration] = DEFAULT_TIMEOUT_SECONDS,
        ready_timeout: Duration = DEFAULT_READY_TIMEOUT_SECONDS,
        env: Optional[Mapping[str, Optional[str]]] = None,
        metadata: Optional[Mapping[str, str]] = None,
        resource_limits: Optional[Mapping[str, str]] = None,
        resource_requests: Optional[Mapping[str, str]] = None,
        platform: Optional[PlatformSpec] = None,
        network_policy: Optional[NetworkPolicy] = None,
        credential_proxy: Union[bool, CredentialProxyConfig, None] = None,
        extensions: Optional[Mapping[str, str]] = None,
        secure_access: bool = False,
        entrypoint: Optional[Sequence[str]] = None,
        volumes: Optional[Iterable[Volume]] = None,
        lifecycle: Optional[SandboxLifecycle] = None,
        health_check: Optional[Callable[[Sandbox], bool]] = None,
        wait_ready: bool = True,
        kill_at_exit: bool = False,
        on_progress: Optional[Callable[[str], None]] = None,
    ) -> Sandbox:
        """Create a sandbox and wait until it answers; exactly one of image, snapshot_id, template_id and pool says from
        what.

        ``timeout`` is the sandbox's life in seconds (the server wants 60 or more), None is until it is killed.
        ``ready_timeout`` (seconds) counts from the server's answer. ``extensions`` are passed on as they are, such as
        ``access.renew.extend.seconds`` ("300" to "86400": each access through the server's proxy renews the sandbox for
        so long, where the server's ``[renew_intent]`` is enabled; the embedded one has none). ``on_progress`` is called
        with a line of text now and then; ``kill_at_exit`` ends the sandbox when this interpreter exits, also when the
        client was closed by then.

        Raises ``InvalidArgumentError`` before anything is sent, ``ApiError`` where the server refuses, and after its
        answer ``SandboxReadyTimeoutError`` or ``SandboxFailedError``: then the sandbox is killed first, as at a Ctrl-C.
        """
        ready_seconds = seconds("ready_timeout", ready_timeout)
        check_callables(health_check=health_check, on_progress=on_progress)
        body = create_body(
            image=image,
            snapshot_id=snapshot_id,
            template_id=template_id,
            pool=pool,
            timeout=timeout,
            env=env,
            metadata=metadata,
            resource_limits=resource_limits,
            resource_requests=resource_requests,
            platform=platform,
            network_policy=network_policy,
            credential_proxy=credential_proxy,
            extensions=extensions,
            secure_access=secure_access,
            entrypoint=entrypoint,
            volumes=volumes,
            lifecycle=lifecycle,
        )
        if on_progress is not None:
            on_progress("creating a sandbox")
        opening = Opening(_created_id, INTERRUPT_SECONDS)
        try:
            sandbox = Sandbox(self, self._post_create(body, metadata, opening), owned=True, timeout=timeout)
            opening.release()
        except KeyboardInterrupt:
            sandbox_id = opening.hear_out()
            if sandbox_id is not None:
                Sandbox(self, sandbox_id, owned=True)._end()
            raise
        try:
            if kill_at_exit:
                sandbox._kill_at_exit()
            if wait_ready:
                sandbox.wait_until_ready(ready_seconds, health_check=health_check, on_progress=on_progress)
            if on_progress is not None:
                on_progress(f"sandbox {sandbox.id} {'is ready' if wait_ready else 'was created'}")
        except BaseException:
            sandbox._end()
            sandbox.detach()
            raise
        return sandbox

    def connect(
        self,
        sandbox_id: str,
        *,
        ready_timeout: Duration = DEFAULT_READY_TIMEOUT_SECONDS,
        health_check: Optional[Callable[[Sandbox], bool]] = None,
        wait_ready: bool = True,
        on_progress: Optional[Callable[[str], None]] = None,
    ) -> Sandbox:
        """Return a handle of a sandbox that exists, and wait until it answers (seconds). Its ``with`` block leaves it
        running. ``on_progress`` is called with a line of text about each second of the wait.
        """
        limit = seconds("ready_timeout", ready_timeout)
        check_callables(health_check=health_check, on_progress=on_progress)
        sandbox = Sandbox(self, require_text("sandbox_id", sandbox_id))
        if wait_ready:
            sandbox.wait_until_ready(limit, health_check=health_check, on_progress=on_progress)
        return sandbox

    def resume(
        self,
        sandbox_id: str,
        *,
        ready_timeout: Duration = DEFAULT_READY_TIMEOUT_SECONDS,
        health_check: Optional[Callable[[Sandbox], bool]] = None,
        wait_ready: bool = True,
        on_progress: Optional[Callable[[str], None]] = None,
    ) -> Sandbox:
        """Let a paused sandbox go on, and return a handle of it as ``connect`` does. ``ConflictError`` where it is not
        paused.
        """
        seconds("ready_timeout", ready_timeout)
        check_callables(health_check=health_check, on_progress=on_progress)
        self._resume(sandbox_id)
        return self.connect(
            sandbox_id,
            ready_timeout=ready_timeout,
            health_check=health_check,
            wait_ready=wait_ready,
            on_progress=on_progress,
        )

    def info(self, sandbox_id: str) -> SandboxInfo:
        """What the server knows of a sandbox; ``NotFoundError`` where it does not exist (any more)."""
        return self._info(sandbox_id)

    def list(
        self, *, states: Optional[Iterable[str]] = None, metadata: Optional[Mapping[str, str]] = None
    ) -> List[SandboxInfo]:
        """All sandboxes, newest first, in one of ``states`` and with all of ``metadata``, each once.

        All pages are read before this returns, so killing while looping over the result skips nobody.
        """
        return all_pages(
            lambda number: self.list_page(states=states, metadata=metadata, page=number, page_size=_PAGE_SIZE),
            lambda info: info.id,
        )

    def list_page(
        self,
        *,
        states: Optional[Iterable[str]] = None,
        metadata: Optional[Mapping[str, str]] = None,
        page: int = 1,
        page_size: int = 20,
    ) -> Page[SandboxInfo]:
        """One page of the sandboxes; pages count from 1, and hold up to 200."""
        params = page_params(page, page_size)
        params += [("state", require_text("state", state)) for state in one_or_more("states", states)]
        params += metadata_params(metadata)
        return decode_page(SandboxInfo, self._call("GET", "/sandboxes", action="list sandboxes", params=params))

    def kill(self, sandbox_id: str) -> None:
        """End a sandbox and everything in it; one that is already gone is fine."""
        try:
            self._call("DELETE", _path(sandbox_id), action=f"kill sandbox {sandbox_id}")
        except NotFoundError as error:
            if error.body.lstrip().startswith("<"):
                raise  # a page of something on the way, which knows no sandboxes

    def pause(self, sandbox_id: str) -> None:
        """Stop a running sandbox's processes; its expiry goes on. ``ConflictError`` where it is not running."""
        self._call("POST", _path(sandbox_id) + "/pause", action=f"pause sandbox {sandbox_id}")

    def renew(self, sandbox_id: str, timeout: Duration) -> datetime:
        """Let a sandbox live for ``timeout`` (seconds) from now, by the server's clock; may be shorter than before.

        Returns when it will expire. ``ConflictError`` under manual cleanup.
        """
        path, life = _path(sandbox_id) + "/renew-expiration", seconds("timeout", timeout)
        try:
            expires = self._server_now() + timedelta(seconds=life)
        except OverflowError:
            raise ProtocolError("the server's clock says that the year 9999 is near") from None
        answer = self._call(
            "POST",
            path,
            action=f"renew sandbox {sandbox_id}",
            json={"expiresAt": format_datetime(expires)},
        )
        return answer.read(lambda data: parse_datetime(data.get("expiresAt") if isinstance(data, dict) else None))

    def patch_metadata(self, sandbox_id: str, patch: Mapping[str, Optional[str]]) -> SandboxInfo:
        """Set metadata keys, and remove those whose value is None; the others stay. Returns the sandbox as it is
        then.
        """
        check_text_map("patch", patch, allow_none=True)
        answer = self._call(
            "PATCH",
            _path(sandbox_id) + "/metadata",
            action=f"patch metadata of sandbox {sandbox_id}",
            json=dict(patch),
        )
        return answer.decode(SandboxInfo)

    def endpoint(
        self,
        sandbox_id: str,
        port: int,
        *,
        expires: Union[int, datetime, None] = None,
        use_server_proxy: Optional[bool] = None,
    ) -> Endpoint:
        """How to reach a port of a sandbox from outside: directly, through the server, or signed until ``expires``.

        ``use_server_proxy`` is as the client is configured unless given. ``expires`` (Unix seconds, or an aware
        datetime) asks for a signed address; not every server has one, and none signs its own proxy's.
        """
        check_flag("use_server_proxy", use_server_proxy)
        if expires is not None and use_server_proxy:
            raise InvalidArgumentError(
                "expires and use_server_proxy exclude each other: the server signs direct addresses only"
            )
        if use_server_proxy is None:
            use_server_proxy = self.config.use_server_proxy is True
        if isinstance(expires, datetime):
            try:
                expires = math.ceil(expires.timestamp())
            except (OverflowError, ValueError, OSError):
                raise InvalidArgumentError(f"expires must be a time that a clock can show, not {expires}") from None
        if expires is not None:
            # More digits than these are milliseconds.
            check_whole("expires (Unix seconds, or a datetime)", expires, 1, 10**11)
        return self._endpoint(sandbox_id, port, use_server_proxy=use_server_proxy, expires=expires)

    # -- the other resources ----------------------------------------------------------------------------------------

    @cached_property
    def snapshots(self) -> SnapshotService:
        """Copies of sandboxes, to create others from."""
        from .services.snapshots import SnapshotService

        return SnapshotService(self)

    @cached_property
    def templates(self) -> TemplateService:
        """Templates of microVM sandboxes (Kubernetes only)."""
        from .services.templates import TemplateService

        return TemplateService(self)

    @cached_property
    def pools(self) -> PoolService:
        """The server's pools of warm sandboxes (Kubernetes only)."""
        from .services.pools import PoolService

        return PoolService(self)

    @cached_property
    def diagnostics(self) -> DiagnosticsService:
        """The server's logs and events about sandboxes."""
        from .services.diagnostics import DiagnosticsService

        return DiagnosticsService(self)

    def health(self) -> bool:
        """Whether the server says that it is healthy."""
        answer = self._transport.request(self._root, "GET", "/health", action="ask for the server's health")
        data = answer.json()
        return isinstance(data, dict) and data.get("status") == "healthy"

    def version(self) -> str:
        """The server's version, such as ``1.1.1``; servers before 1.1 do not say (``NotFoundError``)."""
        answer = self._transport.request(self._root, "GET", "/version", action="ask for the server's version")
        data = answer.json()
        if not isinstance(data, dict) or not isinstance(data.get("version"), str):
            raise ProtocolError("the server's version is not in its answer", request_id=answer.request_id)
        return str(data["version"])

    # -- life -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End all calls that are still running, in any thread, and free the connections. Final; sandboxes stay."""
        self._transport.close()
        if self._server is not None:
            self._server.stop()

    def __enter__(self) -> SandboxClient:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self.close()

    def __reduce__(self) -> Tuple[Any, ...]:
        if self._server is not None:
            raise TypeError(
                "a client made by SandboxClient.local() cannot be pickled: it owns the server's process. "
                "Pickle SandboxClient(**server.config) of a LocalServer instead"
            )
        return type(self), (self.config,)

    def __repr__(self) -> str:
        return f"<SandboxClient {self.config.base_url}{' closed' if self._transport.closed else ''}>"

    # -- inside -----------------------------------------------------------------------------------------------------

    def _call(self, method: str, path: str, *, action: str, plane: Optional[Plane] = None, **options: Any) -> Answer:
        answer = self._transport.request(plane or self._plane, method, path, action=action, **options)
        date = answer.headers.get("Date")
        if date:
            self._date = date, datetime.now(timezone.utc), time.monotonic()
        return answer

    def _post_create(self, body: Dict[str, Any], metadata: Optional[Mapping[str, str]], opening: Opening) -> str:
        """The new sandbox's id; nothing else of the answer is needed, so nothing else can be wrong with it."""
        try:
            answer = self._call(
                "POST", "/sandboxes", action="create a sandbox", json=body, timeout=_CREATE_TIMEOUT, opening=opening
            )
            data = answer.json()
            if not isinstance(data, dict) or not isinstance(data.get("id"), str) or not data["id"]:
                raise ProtocolError("the server's answer to a create has no id", request_id=answer.request_id)
            return str(data["id"])
        except ConnectError:
            raise
        except (TransportError, ProtocolError, ServerError) as error:
            if isinstance(error, ServerError) and error.status_code not in _GATEWAY_ERRORS:
                raise
            hint = (
                f"with metadata {dict(metadata)!r}"
                if metadata
                else "by its creation time (metadata= makes it easy to find)"
            )
            error.args = (
                f"{error}. A sandbox may have been created all the same: look for it in client.list() {hint}; "
                f"request id {error.request_id}",
            )
            raise

    def _info(self, sandbox_id: str, **options: Any) -> SandboxInfo:
        answer = self._call("GET", _path(sandbox_id), action=f"look up sandbox {sandbox_id}", **options)
        return answer.decode(SandboxInfo)

    def _resume(self, sandbox_id: str) -> None:
        self._call("POST", _path(sandbox_id) + "/resume", action=f"resume sandbox {sandbox_id}")

    def _endpoint(
        self,
        sandbox_id: str,
        port: int,
        *,
        use_server_proxy: bool,
        expires: Optional[int] = None,
        timeout: Optional[float] = None,
    ) -> Endpoint:
        _check_port(port)
        params: List[Tuple[str, Any]] = []
        if expires is not None:
            params.append(("expires", expires))
        elif use_server_proxy:
            params.append(("use_server_proxy", "true"))
        answer = self._call(
            "GET",
            f"{_path(sandbox_id)}/endpoints/{port}",
            action=f"look up port {port} of sandbox {sandbox_id}",
            params=params,
            timeout=timeout,
        )
        endpoint = answer.decode(Endpoint)
        endpoint.scheme = self.config.scheme
        try:
            self._transport.normalised(endpoint.url)
            checked_headers("headers", endpoint.headers)
        except InvalidArgumentError:
            # No cause: it may show the signature in the address.
            raise ProtocolError(
                f"the server gave an address or headers for port {port} of sandbox {sandbox_id} that cannot be used",
                request_id=answer.request_id,
            ) from None
        endpoint.signed = expires is not None
        endpoint.origin = answer.headers.get("OPEN-SANDBOX-ORIGIN")
        return endpoint

    def _server_now(self) -> datetime:
        """The time by the server's clock: an expiry that is counted from a wrong clock here kills early or late."""
        if self._date is None:
            self._call("GET", "/health", action="ask for the server's time", plane=self._root)
        text, ours, at = self._date or ("", datetime.now(timezone.utc), time.monotonic())
        from email.utils import parsedate_to_datetime

        try:
            told = parsedate_to_datetime(text).astimezone(timezone.utc) + timedelta(seconds=0.5)
        except (TypeError, ValueError):
            told = ours  # a proxy's idea of a date
        # The header has whole seconds: where our clock agrees with it, ours is the finer one.
        moment = ours if abs(told - ours) < timedelta(seconds=1.5) else told
        return moment + timedelta(seconds=time.monotonic() - at)


def _created_id(content: bytes) -> Optional[str]:
    """The new sandbox's id; None while the answer to a create is not whole."""
    try:
        found = json.loads(content.decode("utf-8")).get("id")
    except (ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) and found else None


def _path(sandbox_id: str) -> str:
    return "/sandboxes/" + quote(require_text("sandbox_id", sandbox_id), safe="")


def page_params(page: int, page_size: int) -> List[Tuple[str, Any]]:
    """The query of one page of any list; the server takes 1 to 200 items."""
    for name, value, most in (("page", page, None), ("page_size", page_size, _PAGE_SIZE)):
        check_whole(name, value, 1, most)
    return [("page", page), ("pageSize", page_size)]


def decode_page(model: Any, answer: Answer) -> Page[Any]:
    """A page of ``model`` from ``{items, pagination}``; servers send null for no items."""

    def read(data: Any) -> Page[Any]:
        if not isinstance(data, dict) or not isinstance(data.get("items") or [], list):
            raise ProtocolError("the server's list has no items")
        items = [decode(model, item) for item in data.get("items") or []]
        return Page(items, decode(Pagination, data.get("pagination") or {}))

    return answer.read(read)


def all_pages(read: Callable[[int], Page[T]], key: Callable[[T], str]) -> List[T]:
    """Every item of a list, once each; all pages are read before this returns, so deleting while looping skips
    nobody.
    """
    found: Dict[str, T] = {}
    number = 1
    while True:
        page, known = read(number), len(found)
        for item in page:
            found.setdefault(key(item), item)
        # A page that brings nothing new is the last one, whatever it says: there may be such without end.
        if not page.pagination.has_next_page or len(found) == known:
            return [*found.values()]
        number += 1


def metadata_params(metadata: Optional[Mapping[str, str]]) -> List[Tuple[str, Any]]:
    """The query that asks for items with all of ``metadata``."""
    if metadata is None:
        return []
    check_text_map("metadata", metadata)
    if not metadata:
        return []
    # The server decodes this once more than the rest of the query.
    return [("metadata", "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in metadata.items()))]
