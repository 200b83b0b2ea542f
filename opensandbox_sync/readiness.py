"""Wait until a sandbox answers, within one deadline."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Callable, Container, Optional, Tuple, TypeVar

from .config import DEFAULT_HEALTH_CHECK_POLLING_INTERVAL_MILLIS, Duration, check_callables, seconds
from .errors import (
    ConnectError,
    NotFoundError,
    NotSupportedError,
    RequestTimeoutError,
    SandboxError,
    SandboxFailedError,
    SandboxReadyTimeoutError,
    ServerError,
    TransportError,
)

if TYPE_CHECKING:
    from .client import SandboxClient
    from .sandbox import Sandbox

T = TypeVar("T")

_FIRST_WAIT = 0.02
_LONGEST_WAIT = DEFAULT_HEALTH_CHECK_POLLING_INTERVAL_MILLIS / 1000.0
#: Seconds between two looks at the sandbox's state: a failed one says so there long before the deadline.
_LOOK_EVERY = 1.0
_ENDED = ("Failed", "Terminated")
#: Seconds; the longest wait between two looks at a command.
_LONGEST_LOOK_WAIT = 0.5
#: Seconds; the longest wait between two looks at something that is being built.
_LONGEST_BUILD_WAIT = 2.0


def wait_until_ready(
    sandbox: Sandbox,
    timeout: float,
    health_check: Optional[Callable[[Sandbox], bool]] = None,
    on_progress: Optional[Callable[[str], None]] = None,
) -> None:
    """Return when the sandbox's daemon answers ``/ping`` (or ``health_check`` returns true).

    Raises ``SandboxReadyTimeoutError`` with what was tried and why it failed, ``SandboxFailedError`` as soon as the
    server says that the sandbox failed, and at once what waiting cannot mend: a refused key, a sandbox that does not
    exist.
    """
    started = time.monotonic()
    deadline = started + timeout
    wait, tries, look_at = _FIRST_WAIT, 0, started + _LOOK_EVERY / 4
    while True:
        tries += 1
        why = _probe(sandbox, deadline, health_check)
        if why is None:
            return
        now = time.monotonic()
        if now >= look_at:
            look_at = now + _LOOK_EVERY
            raise_if_ended(sandbox, why, max(0.05, min(deadline - now, sandbox._client.config.timeout_seconds)))
            if on_progress is not None:
                on_progress(f"waiting for sandbox {sandbox.id}: {why}")
        if now + wait >= deadline:
            # Once more where the time allows, so that a short timeout still ends on a fresh answer.
            if now < deadline:
                sandbox._client._transport.sleep(deadline - now)
                why = _probe(sandbox, time.monotonic() + 0.5, health_check)
                if why is None:
                    return
            raise SandboxReadyTimeoutError(
                f"sandbox {sandbox.id} was not ready after {timeout:g} s and {tries} tries; the last one: {why}"
            )
        sandbox._client._transport.sleep(wait)
        wait = min(wait * 1.5, _LONGEST_WAIT)


def _probe(sandbox: Sandbox, deadline: float, health_check: Optional[Callable[[Sandbox], bool]]) -> Optional[str]:
    """None where the sandbox answers, else why it does not; raises what waiting cannot mend."""
    left = max(0.05, deadline - time.monotonic())
    try:
        if health_check is not None:
            return None if health_check(sandbox) else "health_check returned false"
        sandbox._ping(left)
        return None
    except NotFoundError as error:
        # Kubernetes publishes a pod's address some time after it made the pod.
        if error.code != "KUBERNETES::POD_IP_NOT_AVAILABLE":
            raise
        return str(error)
    except (ServerError, TransportError) as error:
        if isinstance(error, ConnectError) and error.address == sandbox._client.config.authority:
            raise  # the server itself is missing; what is waited for is the sandbox
        return str(error)


def raise_if_ended(sandbox: Sandbox, why: str, timeout: float) -> None:
    """Raise ``SandboxFailedError`` where the server says, within ``timeout`` seconds, that the sandbox ended by
    itself.
    """
    try:
        status = sandbox._client._info(sandbox.id, timeout=timeout).status
    except NotFoundError:
        raise
    except SandboxError:
        return  # the probe's own deadline decides
    if status.state in _ENDED:
        reason = " ".join(filter(None, (status.reason, status.message))) or "no reason given"
        raise SandboxFailedError(
            f"sandbox {sandbox.id} is {status.state}: {reason} (last probe: {why})", code=status.reason
        )


def wait_for_exit(
    client: SandboxClient, what: str, look: Callable[[float], Any], timeout: Optional[Duration]
) -> Optional[int]:
    """Look until the status is not ``running`` any more, and return its ``exit_code``; ``look`` takes the seconds that
    are left. Raises ``RequestTimeoutError`` after ``timeout`` seconds.
    """
    deadline = math.inf if timeout is None else time.monotonic() + seconds("timeout", timeout)
    wait = _FIRST_WAIT
    while True:
        status = look(max(0.05, min(deadline - time.monotonic(), client.config.timeout_seconds)))
        if not status.running:
            code: Optional[int] = status.exit_code
            return code
        left = deadline - time.monotonic()
        if left <= 0:
            raise RequestTimeoutError(f"{what} is still running; nothing was interrupted")
        client._transport.sleep(min(wait, left))
        wait = min(wait * 1.5, _LONGEST_LOOK_WAIT)


def wait_for_state(
    client: SandboxClient,
    what: str,
    look: Callable[[float], Tuple[T, str, str]],
    *,
    wanted: str,
    failed: Container[str],
    timeout: float,
    on_progress: Optional[Callable[[str], None]],
) -> T:
    """Look until the state is ``wanted``, and return what was seen then; ``look`` takes the seconds that are left and
    gives (thing, state, the server's reason).

    Raises ``SandboxFailedError`` with the reason once the state is one of ``failed``, ``SandboxReadyTimeoutError``
    after ``timeout`` seconds, and at once what waiting cannot mend; a server that does not answer for a while can.
    """
    check_callables(on_progress=on_progress)
    deadline = time.monotonic() + timeout
    wait, seen, failure = _FIRST_WAIT, "it was not seen", ""
    while True:
        try:
            thing, state, reason = look(max(0.05, deadline - time.monotonic()))
            if state == wanted:
                return thing
            seen, failure = f"it is {state}" + (f": {reason}" if reason else ""), ""
            if state in failed:
                raise SandboxFailedError(f"{what} will not be {wanted}; {seen}")
        except NotSupportedError:
            raise
        except (ServerError, TransportError) as error:
            failure = f"; the last look failed: {error}"
        left = deadline - time.monotonic()
        if left <= 0:
            raise SandboxReadyTimeoutError(f"{what} was not {wanted} after {timeout:g} s; {seen}{failure}")
        if on_progress is not None:
            on_progress(f"waiting for {what}: {seen}{failure}")
        client._transport.sleep(min(wait, left))
        wait = min(wait * 1.5, _LONGEST_BUILD_WAIT)
