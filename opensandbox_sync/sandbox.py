"""``Sandbox``: one sandbox and the services inside it."""

from __future__ import annotations

import atexit
import os
import threading
import time
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Tuple, Union
from urllib.parse import quote

from .config import (
    DEFAULT_EGRESS_PORT,
    DEFAULT_EXECD_PORT,
    DEFAULT_READY_TIMEOUT_SECONDS,
    Duration,
    check_callables,
    seconds,
)
from .errors import (
    ApiError,
    CommandTimeoutError,
    ConnectError,
    InvalidArgumentError,
    NotFoundError,
    SandboxError,
    SandboxReadyTimeoutError,
    ServerError,
    TransportError,
)
from .models import Endpoint, SandboxInfo, check_whole, is_text
from .readiness import wait_until_ready
from .transport import Plane, logger

if TYPE_CHECKING:
    from .client import SandboxClient
    from .services.code import CodeService
    from .services.commands import CommandService
    from .services.diagnostics import SandboxDiagnosticsService
    from .services.egress import EgressService
    from .services.files import FileService
    from .services.isolation import IsolationService
    from .services.metrics import MetricsService
    from .services.sessions import SessionService
    from .services.snapshots import SnapshotInfo
    from .services.vault import CredentialVaultService

#: Seconds that "auto" gives a direct connection before it tries the server's proxy.
_AUTO_CONNECT_SECONDS = 1.5


class _EndpointPlane(Plane):
    """One port of a sandbox, looked up when first needed."""

    def __init__(self, sandbox: Sandbox, port: int) -> None:
        super().__init__("", {})
        self._sandbox = sandbox
        self._port = port
        self._known: Optional[Tuple[str, Dict[str, str]]] = None
        self.origin: Optional[str] = None

    def resolve(self, deadline: Optional[float]) -> Tuple[str, Dict[str, str]]:
        known = self._known
        if known is None:
            proxied = self._sandbox._proxied
            if proxied is None:
                proxied = self._sandbox._choose_route(deadline)
            known = self._known = self.look_up(proxied, deadline)
        return known

    def look_up(self, proxied: bool, deadline: Optional[float]) -> Tuple[str, Dict[str, str]]:
        client, config = self._sandbox._client, self._sandbox._client.config
        timeout = None if deadline is None else max(0.05, min(config.timeout_seconds, deadline - time.monotonic()))
        endpoint = client._endpoint(self._sandbox.id, self._port, use_server_proxy=proxied, timeout=timeout)
        self.origin = endpoint.origin
        headers = {"User-Agent": config.user_agent, **config.sandbox_headers}
        if proxied and endpoint.endpoint.partition("/")[0] == config.authority:
            # The server's own proxy checks the key, and strips it before the sandbox. No other address ever gets it.
            own = config.lifecycle_headers
            headers.update({k: v for k, v in own.items() if k in ("OPEN-SANDBOX-API-KEY", "Authorization")})
        headers.update(endpoint.headers)
        return endpoint.url, headers

    def is_kept_by_server(self) -> bool:
        """Whether the server keeps what the sidecar behind this port does elsewhere."""
        self.resolve(None)
        return self.origin == "template"

    def forget(self) -> None:
        known, self._known = self._known, None
        if known is not None:
            self._sandbox._client._transport.forget(known[0])


class Sandbox:
    """A sandbox, and through ``commands``, ``files`` … what is inside it.

    Made by ``SandboxClient.create``, ``connect`` and ``resume``. As a context manager it kills a sandbox that this
    client created, and leaves any other running. Safe to share between threads; a pickle of it connects again, and
    never kills.
    """

    def __init__(
        self, client: SandboxClient, sandbox_id: str, *, owned: bool = False, timeout: Optional[Duration] = None
    ) -> None:
        self._client = client
        self.id = sandbox_id
        self._timeout = timeout  # that it was created with, where that is known
        self._at_exit: Optional[Callable[[], None]] = None
        # A fork's copy must not end what the parent still uses.
        self._owner_pid = os.getpid() if owned else None
        self._execd = _EndpointPlane(self, DEFAULT_EXECD_PORT)
        self._egress = _EndpointPlane(self, DEFAULT_EGRESS_PORT)
        choice = client.config.use_server_proxy
        self._proxied: Optional[bool] = None if choice == "auto" else bool(choice)

    # -- life -------------------------------------------------------------------------------------------------------

    def info(self) -> SandboxInfo:
        """What the server knows of this sandbox now: state, expiry, metadata …"""
        return self._client.info(self.id)

    def kill(self) -> None:
        """End the sandbox and everything in it; one that is already gone is fine."""
        self._client.kill(self.id)
        self.detach()
        self._forget_endpoints()

    def pause(self) -> None:
        """Stop the sandbox's processes until ``resume``; its expiry goes on. ``ConflictError`` where it is not
        running.
        """
        self._client.pause(self.id)
        self._forget_endpoints()

    def resume(
        self,
        *,
        ready_timeout: Duration = DEFAULT_READY_TIMEOUT_SECONDS,
        on_progress: Optional[Callable[[str], None]] = None,
    ) -> None:
        """Let a paused sandbox go on, and wait until it answers (seconds). ``ConflictError`` where it is not paused.
        ``on_progress`` is called with a line of text about each second of the wait.
        """
        limit = seconds("ready_timeout", ready_timeout)
        check_callables(on_progress=on_progress)
        self._client._resume(self.id)
        self._forget_endpoints()
        self.wait_until_ready(limit, on_progress=on_progress)

    def renew(self, timeout: Duration) -> datetime:
        """Let the sandbox live for ``timeout`` (seconds) from now; returns when it will expire. See
        ``SandboxClient.renew``.
        """
        return self._client.renew(self.id, timeout)

    def keep_alive(self, timeout: Optional[Duration] = None) -> KeepAlive:
        """A context that renews the sandbox while it is open, each time for ``timeout`` seconds.

        The default is what ``create`` gave it; where this handle did not create it, the time that it has left.
        """
        timeout = self._timeout if timeout is None else timeout
        return KeepAlive(self, None if timeout is None else seconds("timeout", timeout))

    def patch_metadata(self, patch: Mapping[str, Optional[str]]) -> SandboxInfo:
        """Set metadata keys, and remove those whose value is None; the others stay."""
        return self._client.patch_metadata(self.id, patch)

    def snapshot(self, name: Optional[str] = None) -> SnapshotInfo:
        """Start a snapshot of this running sandbox; ``client.snapshots.wait_ready(snapshot.id)`` waits for it."""
        return self._client.snapshots.create(self.id, name=name)

    def detach(self) -> None:
        """Leave the sandbox running when a ``with`` block on it ends, and when this program does."""
        self._owner_pid = None
        if self._at_exit is not None:
            atexit.unregister(self._at_exit)
            self._at_exit = None

    def is_healthy(self) -> bool:
        """Whether the sandbox's daemon answers now."""
        try:
            self._ping(self._client.config.timeout_seconds)
        except SandboxError:
            return False
        return True

    def wait_until_ready(
        self,
        timeout: Duration = DEFAULT_READY_TIMEOUT_SECONDS,
        *,
        health_check: Optional[Callable[[Sandbox], bool]] = None,
        on_progress: Optional[Callable[[str], None]] = None,
    ) -> None:
        """Wait until the sandbox answers; ``SandboxReadyTimeoutError`` says why it did not within ``timeout``
        seconds.
        """
        wait_until_ready(self, seconds("timeout", timeout), health_check, on_progress)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if self._owner_pid != os.getpid():
            return
        try:
            self.kill()
        except SandboxError as failure:
            if kind is None:
                raise
            logger.debug("sandbox %s was not killed: %s", self.id, failure)

    # -- ports ------------------------------------------------------------------------------------------------------

    def endpoint(
        self, port: int, *, expires: Union[int, datetime, None] = None, use_server_proxy: Optional[bool] = None
    ) -> Endpoint:
        """How to reach ``port`` of this sandbox from outside. See ``SandboxClient.endpoint``."""
        if use_server_proxy is None and expires is None:
            use_server_proxy = self._choose_route(None) if self._proxied is None else self._proxied
        return self._client.endpoint(self.id, port, expires=expires, use_server_proxy=use_server_proxy)

    def url(self, port: int) -> str:
        """The URL of ``port``, as a browser opens it.

        Where the direct address needs headers, which a browser does not send, it is the one through the server.
        """
        endpoint = self.endpoint(port)
        if endpoint.headers and not self._proxied:
            endpoint = self.endpoint(port, use_server_proxy=True)
        return endpoint.url

    def wait_for_port(self, port: int, timeout: Duration = DEFAULT_READY_TIMEOUT_SECONDS) -> None:
        """Wait until something listens on ``port``, asked from inside the sandbox: from outside, a mapped port always
        connects.

        Raises ``SandboxReadyTimeoutError`` after ``timeout`` seconds.
        """
        _check_port(port)
        limit = seconds("timeout", timeout)
        # Only bash knows /dev/tcp; for other shells, and what listens on ::1 alone, there is the kernel's own table.
        listed = f"grep -qs ':{port:04X} [0-9A-F]*:0000 0A ' /proc/net/tcp /proc/net/tcp6"
        probe = f"until (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null || {listed}; do sleep 0.05; done"
        try:
            # A text, not an argv, so that daemons before 1.1 take it too.
            execution = self.commands.run(probe, timeout=limit)
        except CommandTimeoutError as cause:
            raise SandboxReadyTimeoutError(
                f"nothing listened on port {port} of sandbox {self.id} within {limit:g} s"
            ) from cause
        execution.check()

    def wait_for_http(self, port: int, path: str = "/", timeout: Duration = DEFAULT_READY_TIMEOUT_SECONDS) -> int:
        """Wait until ``port`` answers HTTP below status 500 to a GET of ``path``, asked from inside; returns the
        status.
        """
        _check_port(port)
        if not is_text(path) or not path.startswith("/"):
            raise InvalidArgumentError(f"path must be text that starts with '/', not {path!r}")
        limit = seconds("timeout", timeout)
        deadline = time.monotonic() + limit
        wait, why = 0.02, "no answer"
        while time.monotonic() < deadline:
            # Looked up first: what the lifecycle server says of the sandbox is not what the port says.
            self._execd.resolve(deadline)
            try:
                # The daemon forwards this to 127.0.0.1 in the sandbox.
                left = max(0.05, deadline - time.monotonic())
                answer = self._client._transport.request(
                    self._execd,
                    "GET",
                    f"/proxy/{port}{quote(path, safe='/?&=%:@+,;~')}",
                    action=f"reach port {port}",
                    headers={"Accept": "*/*"},
                    timeout=left,
                    retry=False,
                )
                return answer.status
            except (ServerError, TransportError) as error:
                why = str(error)
            except ApiError as error:
                return error.status_code
            self._client._transport.sleep(min(wait, max(0.0, deadline - time.monotonic())))
            wait = min(wait * 1.5, 0.2)
        raise SandboxReadyTimeoutError(
            f"port {port} of sandbox {self.id} did not serve {path} within {limit:g} s: {why}"
        )

    # -- services ---------------------------------------------------------------------------------------------------

    @cached_property
    def commands(self) -> CommandService:
        """Run commands."""
        from .services.commands import CommandService

        return CommandService(self)

    @cached_property
    def sessions(self) -> SessionService:
        """Shell sessions that keep their directory and exported variables."""
        from .services.sessions import SessionService

        return SessionService(self)

    @cached_property
    def files(self) -> FileService:
        """Read and write files."""
        from .services.files import FileService

        return FileService(self)

    @cached_property
    def egress(self) -> EgressService:
        """What the sandbox may reach."""
        from .services.egress import EgressService

        return EgressService(self)

    @cached_property
    def vault(self) -> CredentialVaultService:
        """Credentials that the egress sidecar adds to requests."""
        from .services.vault import CredentialVaultService

        return CredentialVaultService(self)

    @cached_property
    def code(self) -> CodeService:
        """Run code in kernels."""
        from .services.code import CodeService

        return CodeService(self)

    @cached_property
    def isolation(self) -> IsolationService:
        """Isolated sessions inside the sandbox."""
        from .services.isolation import IsolationService

        return IsolationService(self)

    @cached_property
    def metrics(self) -> MetricsService:
        """CPU and memory."""
        from .services.metrics import MetricsService

        return MetricsService(self)

    @cached_property
    def diagnostics(self) -> SandboxDiagnosticsService:
        """The server's logs and events about this sandbox."""
        from .services.diagnostics import SandboxDiagnosticsService

        return SandboxDiagnosticsService(self)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _kill_at_exit(self) -> None:
        """End it when the interpreter exits, if it then still is this process's to end."""

        def end() -> None:
            if self._owner_pid == os.getpid():
                self._end()

        self._at_exit = end
        atexit.register(end)

    def _end(self) -> None:
        """Kill it, also where its client was closed meanwhile; what goes wrong is for the log alone."""
        client = self._client
        try:
            if not client._transport.closed:
                client.kill(self.id)
            elif client._server is None:  # else it went with the server
                with type(client)(client.config) as another:
                    another.kill(self.id)
        except SandboxError as failure:
            logger.debug("sandbox %s was not killed: %s", self.id, failure)

    def _ping(self, timeout: float) -> None:
        self._client._transport.request(
            self._execd, "GET", "/ping", action=f"reach sandbox {self.id}", timeout=timeout, retry=False
        )

    def _forget_endpoints(self) -> None:
        self._execd.forget()
        self._egress.forget()

    def _choose_route(self, deadline: Optional[float]) -> bool:
        """For ``use_server_proxy="auto"``: whether to go through the server. The first address that answers is kept."""
        failures: List[str] = []
        for proxied in (False, True):
            base, headers = _EndpointPlane(self, DEFAULT_EXECD_PORT).look_up(proxied, deadline)
            left = 30.0 if deadline is None else max(0.05, deadline - time.monotonic())
            try:
                self._client._transport.request(
                    Plane(base, headers),
                    "GET",
                    "/ping",
                    action=f"reach sandbox {self.id}",
                    timeout=min(left, self._client.config.timeout_seconds if proxied else 2 * _AUTO_CONNECT_SECONDS),
                    connect_timeout=_AUTO_CONNECT_SECONDS,
                    retry=False,
                )
            except (TransportError, ApiError) as error:
                failures.append(f"{'through the server' if proxied else 'directly'}: {error}")
                continue
            self._proxied = proxied
            logger.debug("sandbox %s is reached %s", self.id, "through the server's proxy" if proxied else "directly")
            return proxied
        raise ConnectError(
            f"sandbox {self.id} cannot be reached. "
            + ". ".join(failures)
            + ". use_server_proxy= (now 'auto') fixes one way"
        )

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self._client, self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sandbox) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Sandbox {self.id}>"

    def _repr_html_(self) -> str:
        from .notebook import sandbox_html

        return sandbox_html(self)


class KeepAlive:
    """Renews a sandbox while the block is open; a renewal that failed to the end is raised when it closes."""

    def __init__(self, sandbox: Sandbox, timeout: Optional[float]) -> None:
        self._sandbox = sandbox
        self._timeout = timeout
        self._stop = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self._failure: Optional[Exception] = None

    def __enter__(self) -> KeepAlive:
        self._stop.clear()
        self._failure = None
        info = self._sandbox.info()
        if info.expires_at is None:
            return self  # manual cleanup: there is nothing to renew, and the server would refuse it
        if self._timeout is None:
            left = info.expires_at - self._sandbox._client._server_now()
            self._timeout = max(60.0, left.total_seconds())  # the server wants 60 or more
        self._sandbox.renew(self._timeout)
        self._thread = threading.Thread(target=self._renew, name="opensandbox-keep-alive", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._failure is not None and kind is None:
            raise self._failure

    def _renew(self) -> None:
        assert self._timeout is not None
        # At a third of the time, so that two renewals may fail before the sandbox is lost.
        while not self._stop.wait(self._timeout / 3):
            try:
                self._sandbox.renew(self._timeout)
                self._failure = None
            except NotFoundError as error:
                self._failure = error
                return
            except Exception as error:  # a hook of the user's may raise anything, and the next renewal is still due
                self._failure = error


def _check_port(port: Any) -> None:
    check_whole("port", port, 1, 65535)
