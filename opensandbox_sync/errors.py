"""Every error this package raises; ``except SandboxError`` catches them all.

::

    SandboxError
    ├─ InvalidArgumentError          also ValueError; nothing was sent
    ├─ ApiError                      the server answered
    │  ├─ BadRequestError            400, 422
    │  ├─ AuthenticationError        401
    │  ├─ PermissionDeniedError      403
    │  ├─ NotFoundError              404
    │  ├─ ConflictError              409
    │  ├─ RateLimitError             429
    │  └─ ServerError                5xx
    │     └─ NotSupportedError       501
    ├─ TransportError                no whole answer came
    │  ├─ ConnectError               nothing was sent
    │  ├─ RequestTimeoutError        also TimeoutError
    │  └─ StreamInterruptedError     a result may exist; what came is on the error
    ├─ ProtocolError                 an answer that is not the protocol
    ├─ CommandError                  a command that failed, where ``check`` asked for an error
    │  └─ CommandTimeoutError        also TimeoutError
    ├─ SandboxReadyTimeoutError      also TimeoutError
    ├─ SandboxFailedError            it reached Failed or Terminated while waited for
    └─ ClosedError                   used after close()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple, Type, TypeVar

if TYPE_CHECKING:
    from .execution import Execution


class SandboxError(Exception):
    """Base of every error of this package.

    ``code`` is the server's own code (``DOCKER::SANDBOX_NOT_FOUND``) or one of ours (``INVALID_ARGUMENT``,
    ``READY_TIMEOUT`` …); ``request_id`` is the id under which the server logged the call, where there is one.
    """

    default_code = "INTERNAL_UNKNOWN_ERROR"

    def __init__(self, message: str, *, code: Optional[str] = None, request_id: Optional[str] = None) -> None:
        super().__init__(message)
        self.code: str = code or self.default_code
        self.request_id = request_id

    def __reduce__(self) -> Tuple[Any, ...]:
        # The constructors differ, so a pickle rebuilds the object from its state. The cause is left out: it may
        # hold sockets, and request headers with keys in them.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: Type[SandboxError], args: Tuple[Any, ...], state: Dict[str, Any]) -> SandboxError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidArgumentError(SandboxError, ValueError):
    """An argument was refused before anything was sent."""

    default_code = "INVALID_ARGUMENT"


class ApiError(SandboxError):
    """The server answered with an error.

    ``status_code`` is the HTTP status (200 for an error told inside an open event stream), ``body`` the first
    64 KiB of the answer as text, ``retry_after`` the seconds that the server asked to wait, or None.
    ``execution`` is what came before, where the error ended a stream of output; else None.
    """

    default_code = "UNEXPECTED_RESPONSE"

    def __init__(
        self,
        message: str,
        *,
        code: Optional[str] = None,
        request_id: Optional[str] = None,
        status_code: int = 0,
        body: str = "",
        retry_after: Optional[float] = None,
    ) -> None:
        super().__init__(message, code=code, request_id=request_id)
        self.status_code = status_code
        self.body = body
        self.retry_after = retry_after
        self.execution: Optional[Execution] = None


class BadRequestError(ApiError):
    """400 or 422: the server refused what was asked."""


class AuthenticationError(ApiError):
    """401: the API key or the endpoint's token is missing or wrong."""


class PermissionDeniedError(ApiError):
    """403: the server knows the caller and refuses."""


class NotFoundError(ApiError):
    """404: no such sandbox, command, file, snapshot …"""


class ConflictError(ApiError):
    """409: not in the state that the call needs."""


class RateLimitError(ApiError):
    """429: too many calls, or no capacity; see ``retry_after``."""


class ServerError(ApiError):
    """5xx: the server, or a proxy on the way, failed."""


class NotSupportedError(ServerError):
    """501, or a server too old for the call."""


class TransportError(SandboxError):
    """No whole answer came. Whether the server acted is not known, unless the class says so."""

    default_code = "TRANSPORT_ERROR"


class ConnectError(TransportError):
    """No connection could be made to ``address`` (``host:port``): nothing was sent."""

    default_code = "CONNECTION"
    address: Optional[str] = None


class RequestTimeoutError(TransportError, TimeoutError):
    """The answer did not come in time. The server may have acted all the same."""

    default_code = "TIMEOUT"


class StreamInterruptedError(TransportError):
    """An event stream ended, or fell silent, before its result.

    ``execution`` holds what came until then; ``command_id`` finds the command again
    (``sandbox.commands.get(command_id)``), where the daemon had told it.
    """

    default_code = "STREAM_INTERRUPTED"

    def __init__(
        self,
        message: str,
        *,
        execution: Optional[Execution] = None,
        command_id: Optional[str] = None,
        code: Optional[str] = None,
        request_id: Optional[str] = None,
    ) -> None:
        super().__init__(message, code=code, request_id=request_id)
        self.execution = execution
        self.command_id = command_id


class ProtocolError(SandboxError):
    """An answer that is not the OpenSandbox protocol; ``execution`` is what came before it, where one was growing."""

    default_code = "UNEXPECTED_RESPONSE"

    def __init__(
        self,
        message: str,
        *,
        execution: Optional[Execution] = None,
        code: Optional[str] = None,
        request_id: Optional[str] = None,
    ) -> None:
        super().__init__(message, code=code, request_id=request_id)
        self.execution = execution


class CommandError(SandboxError):
    """A command failed and ``check`` asked for an error; ``execution`` is its whole result."""

    default_code = "COMMAND_FAILED"

    def __init__(
        self,
        message: str,
        *,
        execution: Optional[Execution] = None,
        code: Optional[str] = None,
        request_id: Optional[str] = None,
    ) -> None:
        super().__init__(message, code=code, request_id=request_id)
        self.execution = execution


class CommandTimeoutError(CommandError, TimeoutError):
    """A command ran out of the ``timeout`` it was given, and was interrupted; ``execution`` is what came until then."""

    default_code = "COMMAND_TIMEOUT"


class SandboxReadyTimeoutError(SandboxError, TimeoutError):
    """The sandbox, or what was waited for in it, did not answer in time."""

    default_code = "READY_TIMEOUT"


class SandboxFailedError(SandboxError):
    """The sandbox, snapshot or template failed while it was waited for; the message has the server's reason."""

    default_code = "SANDBOX_FAILED"


class ClosedError(SandboxError):
    """The client, or the stream, was closed."""

    default_code = "CLOSED"


_BY_STATUS: Dict[int, Type[ApiError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: BadRequestError,
    429: RateLimitError,
    501: NotSupportedError,
}


A = TypeVar("A", bound=ApiError)


def as_class(kind: Type[A], error: ApiError, message: Optional[str] = None) -> A:
    """The same answer as an error of another class, caused by it: a status may mislead."""
    made = kind(
        message or str(error),
        code=error.code,
        request_id=error.request_id,
        status_code=error.status_code,
        body=error.body,
    )
    made.__cause__ = error
    return made


def api_error_class(status_code: int) -> Type[ApiError]:
    """The class for an HTTP status that is not a success."""
    return _BY_STATUS.get(status_code) or (ServerError if status_code >= 500 else ApiError)
