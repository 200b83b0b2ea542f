"""Isolation: shells in namespaces of their own inside a sandbox, which see only the files that they are given.

Facts: the daemon's ``/v1/isolated`` routes (OpenSandbox 1.1, Linux with bubblewrap). Unlike a session of
``sandbox.sessions``, an isolated one is one real bash: functions and unexported variables stay, and ``exit`` ends it.
Its runs follow one another; their error output is merged into ``stdout``, and blank lines are lost.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional, Tuple, Union
from urllib.parse import quote

from ..codec import SnakeCaseModel, encode
from ..config import Duration, seconds
from ..errors import (
    ApiError,
    InvalidArgumentError,
    NotFoundError,
    NotSupportedError,
    ProtocolError,
    SandboxError,
    as_class,
)
from ..execution import Execution, ExecutionStream, Fold, Run, open_stream
from ..models import (
    check_env,
    check_flag,
    check_model,
    check_models,
    check_whole,
    one_or_more,
    require_text,
    shown,
)
from ..readiness import wait_for_exit
from ..transport import logger
from .commands import MAX_ID, CommandLogs, OnEvent, OnText, checked_max_output, cut_at_character, watcher

if TYPE_CHECKING:
    from ..sandbox import Sandbox
    from ..transport import Answer
    from .files import FileService

_PREFIX = "/v1/isolated"
_MODES = ("rw", "overlay", "ro")
_MOST_MOUNTS = 16


@dataclass
class IsolatedWorkspace(SnakeCaseModel):
    """The directory that a session works on: ``mode`` is ``rw`` (its changes are real), ``overlay`` (a copy on write)
    or ``ro``.
    """

    path: str
    mode: Optional[str] = None


@dataclass
class IsolatedOverlay(SnakeCaseModel):
    """One more mount: ``mode`` as of a workspace (``overlay`` unless given); an overlay's changes end with the session
    where ``persist`` is false.
    """

    path: str
    mode: Optional[str] = None
    persist: Optional[bool] = None


@dataclass
class IsolatedBind(SnakeCaseModel):
    """A path of the sandbox shown at ``dest`` in the session (at the same path unless given)."""

    source: str
    dest: Optional[str] = None
    readonly: Optional[bool] = None


@dataclass
class EnvPassthrough(SnakeCaseModel):
    """Which of the daemon's variables a session gets: only ``keys`` (``allow``), or all but ``keys`` (``deny``)."""

    mode: str = "deny"
    keys: List[str] = field(default_factory=list)


@dataclass
class IsolatedSessionInfo(SnakeCaseModel):
    """A session: ``status`` is ``active``, ``dead`` or ``destroyed`` (None right after it was made).

    Daemons before the last ones tell nothing of how it was made: those fields are None then.
    """

    session_id: str = ""
    status: Optional[str] = None
    created_at: Optional[datetime] = None
    last_run_at: Optional[datetime] = None
    idle_remaining_seconds: Optional[float] = None
    profile: Optional[str] = None
    workspace: Optional[IsolatedWorkspace] = None
    overlays: Optional[List[IsolatedOverlay]] = None
    extra_writable: Optional[List[str]] = None
    binds: Optional[List[IsolatedBind]] = None
    share_net: Optional[bool] = None
    env_passthrough: Optional[EnvPassthrough] = None
    uid: Optional[int] = None
    gid: Optional[int] = None
    uid_mode: Optional[str] = None
    idle_timeout_seconds: Optional[int] = None
    raw: Dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass
class IsolatedRunStatus(SnakeCaseModel):
    """A background run: ``running``, or its ``exit_code`` and ``finished_at``; ``error`` is the daemon's text."""

    session_id: str
    run_id: str
    running: bool
    exit_code: Optional[int] = None
    error: Optional[str] = None
    started_at: Optional[datetime] = None
    finished_at: Optional[datetime] = None


@dataclass
class HardeningLayer(SnakeCaseModel):
    """``state`` is ``active``, ``disabled``, ``degraded`` or ``unsupported``; ``message`` says why."""

    state: Optional[str] = None
    message: Optional[str] = None


@dataclass
class HardeningStatus(SnakeCaseModel):
    """How far the daemon guards itself against the code that it runs."""

    init_mode: Optional[str] = None
    signal_shield: bool = False
    cap_drop: Optional[HardeningLayer] = None
    seccomp: Optional[HardeningLayer] = None
    landlock: Optional[HardeningLayer] = None
    ebpf: Optional[HardeningLayer] = None


@dataclass
class IsolationCapabilities(SnakeCaseModel):
    """What this sandbox can isolate: nothing unless ``available``; ``message`` then says why."""

    available: bool = False
    isolator: Optional[str] = None
    version: Optional[str] = None
    message: Optional[str] = None
    setpriv_available: bool = False
    userns_available: bool = False
    commit_supported: bool = False
    diff_supported: bool = False
    hardening: Optional[HardeningStatus] = None
    raw: Dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass
class _Sessions(SnakeCaseModel):
    sessions: List[IsolatedSessionInfo] = field(default_factory=list)


@dataclass
class _Started(SnakeCaseModel):
    run_id: str


class IsolationService:
    """Isolated sessions of a sandbox; ``sandbox.isolation``.

    Each call but ``capabilities`` raises ``NotSupportedError`` where the sandbox cannot isolate.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def capabilities(self) -> IsolationCapabilities:
        """What this sandbox can isolate; also answers where it cannot (``available``)."""
        answer = self._request("GET", "/capabilities", "ask for the isolation's capabilities")
        return answer.decode(IsolationCapabilities)

    def create(
        self,
        workspace: Union[str, IsolatedWorkspace, None] = None,
        *,
        overlays: Optional[Iterable[IsolatedOverlay]] = None,
        profile: Optional[str] = None,
        extra_writable: Optional[Iterable[str]] = None,
        binds: Optional[Iterable[IsolatedBind]] = None,
        share_net: Optional[bool] = None,
        env_passthrough: Optional[EnvPassthrough] = None,
        uid: Optional[int] = None,
        gid: Optional[int] = None,
        uid_mode: Optional[str] = None,
        idle_timeout: Optional[Duration] = None,
    ) -> IsolatedSession:
        """Start a session over ``workspace`` (a directory of the sandbox) or ``overlays``; one of them must be given.

        ``profile`` is ``strict`` (unless given) or ``balanced``; ``extra_writable`` are more paths that it may write;
        ``uid_mode`` is ``setpriv`` or ``userns``; after ``idle_timeout`` (seconds) without a run it is deleted.
        """
        body: Dict[str, Any] = _mounts(workspace, overlays)
        body.update(
            profile=_one_of("profile", profile, ("strict", "balanced")),
            extra_writable=_paths("extra_writable", extra_writable),
            binds=_binds(binds),
            share_net=check_flag("share_net", share_net),
            env_passthrough=_env_passthrough(env_passthrough),
            uid=_user_id("uid", uid),
            gid=_user_id("gid", gid),
            uid_mode=_one_of("uid_mode", uid_mode, ("setpriv", "userns")),
            idle_timeout_seconds=None if idle_timeout is None else math.ceil(seconds("idle_timeout", idle_timeout)),
        )
        sent = {name: encode(value) for name, value in body.items() if value is not None}
        answer = self._request("POST", "/session", "create an isolated session", json=sent)
        made = answer.decode(IsolatedSessionInfo).session_id
        if not made.strip():
            raise ProtocolError("the daemon made an isolated session without telling its id")
        return IsolatedSession(self, made, owned=True)

    def attach(self, session_id: str) -> IsolatedSession:
        """A handle of a session that exists, also from another process; ``NotFoundError`` where it does not. Its
        ``with`` block leaves the session there.
        """
        session = IsolatedSession(self, require_text("session_id", session_id))
        session.info()
        return session

    def list(self) -> List[IsolatedSessionInfo]:
        """All isolated sessions of this sandbox."""
        return self._request("GET", "/sessions", "list isolated sessions").decode(_Sessions).sessions

    def run_once(
        self,
        code: str,
        workspace: Union[str, IsolatedWorkspace, None] = None,
        *,
        overlays: Optional[Iterable[IsolatedOverlay]] = None,
        profile: Optional[str] = None,
        binds: Optional[Iterable[IsolatedBind]] = None,
        share_net: Optional[bool] = None,
        env: Optional[Mapping[str, str]] = None,
        timeout: Optional[Duration] = None,
        check: bool = False,
        on_stdout: OnText = None,
        on_event: OnEvent = None,
        capture: bool = True,
        max_output: Optional[int] = None,
    ) -> Execution:
        """Run code in a session of its own, which is deleted afterwards. Arguments as of ``create`` and ``run``."""
        # All of them are looked at before the session is made.
        _run_body(code, env, timeout)
        checked_max_output(max_output)
        watcher(on_stdout, None, None, on_event)
        session = self.create(workspace, overlays=overlays, profile=profile, binds=binds, share_net=share_net)
        try:
            return session.run(
                code,
                env=env,
                timeout=timeout,
                check=check,
                on_stdout=on_stdout,
                on_event=on_event,
                capture=capture,
                max_output=max_output,
            )
        finally:
            try:
                session.delete()
            except SandboxError as failure:  # the run's result says more
                logger.debug("isolated session %s was not deleted: %s", session.id, failure)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _request(self, method: str, path: str, action: str, **options: Any) -> Answer:
        try:
            return self._sandbox._client._transport.request(
                self._sandbox._execd, method, _PREFIX + path, action=action, **options
            )
        except ApiError as error:
            raise _told_apart(error)


class IsolatedSession:
    """One isolated shell; ``IsolationService.create`` and ``attach`` make it.

    As a context manager it deletes a session that was created here, and leaves one that ``attach`` found.
    """

    def __init__(self, isolation: IsolationService, session_id: str, *, owned: bool = False) -> None:
        self._isolation = isolation
        self._owner_pid = os.getpid() if owned else None  # a fork's copy must not end what the parent still uses
        self.id = session_id
        self._path = "/session/" + quote(session_id, safe="")

    @cached_property
    def files(self) -> FileService:
        """The files as the session sees them; the methods of ``sandbox.files``."""
        from .files import FileService

        return FileService(self._isolation._sandbox, prefix=_PREFIX + self._path)

    def info(self) -> IsolatedSessionInfo:
        """How the session is doing; ``NotFoundError`` where it is gone."""
        answer = self._isolation._request("GET", self._path, f"look up isolated session {self.id}")
        found = answer.decode(IsolatedSessionInfo)
        found.session_id = found.session_id or self.id
        return found

    def run(
        self,
        code: str,
        *,
        env: Optional[Mapping[str, str]] = None,
        timeout: Optional[Duration] = None,
        check: bool = False,
        on_stdout: OnText = None,
        on_event: OnEvent = None,
        capture: bool = True,
        max_output: Optional[int] = None,
    ) -> Execution:
        """Run shell code in the session, wait for its end, and return what it did; ``exit`` in it ends the session.

        ``env`` is for this run alone, and makes it a subshell, whose changes are lost. The daemon sends no sign of life
        here: without ``timeout`` (seconds; sent to it in whole ones) nothing but the connection's end ends the wait.
        Ctrl-C closes the connection, which interrupts the code. Otherwise as ``commands.run``.
        """
        watch = watcher(on_stdout, None, None, on_event)
        with self.stream(code, env=env, timeout=timeout, capture=capture, max_output=max_output) as stream:
            execution = stream.read_all(watch)
        return execution.check() if check else execution

    def stream(
        self,
        code: str,
        *,
        env: Optional[Mapping[str, str]] = None,
        timeout: Optional[Duration] = None,
        capture: bool = True,
        max_output: Optional[int] = None,
    ) -> ExecutionStream:
        """Run shell code and return its stream, to be iterated as it comes. Arguments as in ``run``."""
        body = _run_body(code, env, timeout)
        limit = None if timeout is None else seconds("timeout", timeout)
        fold = Fold(capture=capture, max_output=checked_max_output(max_output), timeout=limit)
        run = Run("run code in an isolated session", fold, timeout=limit)
        sandbox = self._isolation._sandbox
        path = f"{_PREFIX}{self._path}/run"
        try:
            return open_stream(sandbox._client._transport, sandbox._execd, path, body, run, idle=None)
        except ApiError as error:
            raise _told_apart(error)

    def start(self, code: str, *, env: Optional[Mapping[str, str]] = None) -> IsolatedRun:
        """Start shell code in the background and return at once. It has no timeout.

        Raises ``BadRequestError`` where the first mount cannot keep its logs (read-only, or not persistent).
        """
        body = {**_run_body(code, env), "background": True}
        answer = self._isolation._request("POST", self._path + "/run", "start code in an isolated session", json=body)
        return IsolatedRun(self, answer.decode(_Started).run_id)

    def get_run(self, run_id: str) -> IsolatedRun:
        """Attach to a background run again, also from another process. Nothing is asked before the first use."""
        return IsolatedRun(self, require_text("run_id", run_id))

    def delete(self) -> None:
        """End the session and what runs in it; ``NotFoundError`` where it is gone."""
        self._isolation._request("DELETE", self._path, f"delete isolated session {self.id}")

    def __enter__(self) -> IsolatedSession:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if self._owner_pid != os.getpid():
            return
        try:
            self.delete()
        except NotFoundError:
            pass  # such as after an ``exit`` in it
        except SandboxError as failure:
            if kind is None:
                raise
            logger.debug("isolated session %s was not deleted: %s", self.id, failure)

    def __reduce__(self) -> Tuple[Any, ...]:
        # A copy in another process must not end what this one still uses.
        return type(self), (self._isolation, self.id)

    def __repr__(self) -> str:
        return f"<IsolatedSession {self.id}>"


class IsolatedRun:
    """Shell code in the background of an isolated session; ``IsolatedSession.start`` and ``get_run`` make it."""

    def __init__(self, session: IsolatedSession, run_id: str) -> None:
        self._session = session
        self.id = run_id
        self._path = f"{session._path}/runs/{quote(run_id, safe='')}"

    def status(self) -> IsolatedRunStatus:
        """How it is doing now; ``NotFoundError`` for a run that the daemon does not know."""
        return self._status(None)

    def _status(self, timeout: Optional[float]) -> IsolatedRunStatus:
        action = f"look up isolated run {self.id}"
        answer = self._session._isolation._request("GET", self._path, action, timeout=timeout)
        return answer.decode(IsolatedRunStatus)

    def logs(self, cursor: int = 0) -> CommandLogs:
        """Its output from the byte ``cursor`` on, at most 16 MiB at once; pass the result's ``cursor`` to go on."""
        check_whole("cursor (a byte offset)", cursor)
        answer = self._session._isolation._request(
            "GET",
            self._path + "/logs",
            f"read the logs of isolated run {self.id}",
            params={"cursor": cursor} if cursor else None,
            headers={"Accept": "*/*"},
        )
        return cut_at_character(answer.content, cursor, False)

    def wait(self, timeout: Optional[Duration] = None) -> Optional[int]:
        """Wait for its end and return the exit code.

        After ``timeout`` seconds it raises ``RequestTimeoutError``, a ``TimeoutError``, and ends nothing.
        """
        client = self._session._isolation._sandbox._client
        return wait_for_exit(client, f"isolated run {self.id}", self._status, timeout)

    def __repr__(self) -> str:
        return f"<IsolatedRun {self.id}>"


# -- arguments -----------------------------------------------------------------------------------------------------


def _mounts(
    workspace: Union[str, IsolatedWorkspace, None], overlays: Optional[Iterable[IsolatedOverlay]]
) -> Dict[str, Any]:
    if isinstance(workspace, str):
        workspace = IsolatedWorkspace(workspace)
    if workspace is not None and not isinstance(workspace, IsolatedWorkspace):
        raise InvalidArgumentError(f"workspace must be a path or an IsolatedWorkspace, not {shown(workspace)}")
    more = None if overlays is None else check_models("overlays", overlays, IsolatedOverlay)
    mounts: List[Any] = ([workspace] if workspace is not None else []) + (more or [])
    if not 1 <= len(mounts) <= _MOST_MOUNTS:
        raise InvalidArgumentError(
            f"workspace and overlays must be 1 to {_MOST_MOUNTS} directories in all, not {len(mounts)}"
        )
    paths = [_absolute("workspace or overlay", mount.path) for mount in mounts]
    if len(set(paths)) < len(paths):
        raise InvalidArgumentError(f"each directory may be mounted once; got {paths}")
    for mount in mounts:
        _one_of(f"mode of {mount.path}", mount.mode, _MODES)
        check_flag(f"persist of {mount.path}", getattr(mount, "persist", None))
        if getattr(mount, "persist", None) is not None and mount.mode not in (None, "overlay"):
            raise InvalidArgumentError(f"persist of {mount.path} belongs to mode 'overlay', not {mount.mode!r}")
    return {"workspace": workspace, "overlays": more}


def _absolute(name: str, path: Any) -> str:
    if not require_text(name, path, "'/workspace'").startswith("/"):
        raise InvalidArgumentError(f"{name} must be an absolute path, not {shown(path)}")
    return str(path)


def _paths(name: str, values: Optional[Iterable[str]]) -> Optional[List[str]]:
    return None if values is None else [_absolute(name, value) for value in one_or_more(name, values)]


def _binds(values: Optional[Iterable[IsolatedBind]]) -> Optional[List[IsolatedBind]]:
    if values is None:
        return None
    found = check_models("binds", values, IsolatedBind)
    for index, bind in enumerate(found):
        _absolute(f"binds[{index}].source", bind.source)
        if bind.dest is not None:
            _absolute(f"binds[{index}].dest", bind.dest)
        check_flag(f"binds[{index}].readonly", bind.readonly)
    return found


def _one_of(name: str, value: Optional[str], known: Iterable[str]) -> Optional[str]:
    if value is not None and value not in known:
        raise InvalidArgumentError(f"{name} must be one of {', '.join(map(repr, known))}, not {shown(value)}")
    return value


def _env_passthrough(value: Optional[EnvPassthrough]) -> Optional[EnvPassthrough]:
    if value is not None:
        check_model("env_passthrough", value, EnvPassthrough)
        if value.mode not in ("allow", "deny"):
            raise InvalidArgumentError(f"env_passthrough.mode must be 'allow' or 'deny', not {shown(value.mode)}")
        value.keys = one_or_more("env_passthrough.keys", value.keys)
        for key in value.keys:
            require_text("each of env_passthrough.keys", key, "'PATH'")
    return value


def _user_id(name: str, value: Optional[int]) -> Optional[int]:
    return None if value is None else check_whole(name, value, 0, MAX_ID)


def _run_body(code: str, env: Optional[Mapping[str, str]], timeout: Optional[Duration] = None) -> Dict[str, Any]:
    body: Dict[str, Any] = {"code": require_text("code", code, "'ls'")}
    if env is not None:
        check_env("env", env)
        body["envs"] = dict(env)
    if timeout is not None:
        body["timeout_seconds"] = math.ceil(seconds("timeout", timeout))
    return body


def _told_apart(error: ApiError) -> ApiError:
    """A daemon without these routes says 404 in plain text; one that cannot isolate says 503."""
    if error.body.strip() == "404 page not found":
        why = "this sandbox's daemon has no isolation (1.1 has)"
    elif error.status_code == 503 and error.code in ("SERVICE_UNAVAILABLE", "NOT_SUPPORTED"):
        why = "isolation.capabilities() says what is missing"
    else:
        return error
    return as_class(NotSupportedError, error, f"{error} ({why})")
