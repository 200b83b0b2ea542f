"""A blocking client for OpenSandbox: run untrusted code in a sandbox from a plain Python program.

::

    from opensandbox_sync import SandboxClient

    with SandboxClient() as client, client.create("python:3.12") as sandbox:
        execution = sandbox.commands.run("echo hello")
        print(execution.stdout, execution.exit_code)

The names below are imported when they are first used: importing this package loads nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

from ._version import __version__

if TYPE_CHECKING:
    from .client import SandboxClient as SandboxClient
    from .config import (
        DEFAULT_EGRESS_PORT as DEFAULT_EGRESS_PORT,
    )
    from .config import (
        DEFAULT_ENTRYPOINT as DEFAULT_ENTRYPOINT,
    )
    from .config import (
        DEFAULT_EXECD_PORT as DEFAULT_EXECD_PORT,
    )
    from .config import (
        DEFAULT_HEALTH_CHECK_POLLING_INTERVAL_MILLIS as DEFAULT_HEALTH_CHECK_POLLING_INTERVAL_MILLIS,
    )
    from .config import (
        DEFAULT_READY_TIMEOUT_SECONDS as DEFAULT_READY_TIMEOUT_SECONDS,
    )
    from .config import (
        DEFAULT_REQUEST_TIMEOUT_SECONDS as DEFAULT_REQUEST_TIMEOUT_SECONDS,
    )
    from .config import (
        DEFAULT_RESOURCE_LIMITS as DEFAULT_RESOURCE_LIMITS,
    )
    from .config import (
        DEFAULT_TIMEOUT_SECONDS as DEFAULT_TIMEOUT_SECONDS,
    )
    from .config import (
        DEFAULT_USER_AGENT as DEFAULT_USER_AGENT,
    )
    from .config import (
        ConnectionConfig as ConnectionConfig,
    )
    from .errors import (
        ApiError as ApiError,
    )
    from .errors import (
        AuthenticationError as AuthenticationError,
    )
    from .errors import (
        BadRequestError as BadRequestError,
    )
    from .errors import (
        ClosedError as ClosedError,
    )
    from .errors import (
        CommandError as CommandError,
    )
    from .errors import (
        CommandTimeoutError as CommandTimeoutError,
    )
    from .errors import (
        ConflictError as ConflictError,
    )
    from .errors import (
        ConnectError as ConnectError,
    )
    from .errors import (
        InvalidArgumentError as InvalidArgumentError,
    )
    from .errors import (
        NotFoundError as NotFoundError,
    )
    from .errors import (
        NotSupportedError as NotSupportedError,
    )
    from .errors import (
        PermissionDeniedError as PermissionDeniedError,
    )
    from .errors import (
        ProtocolError as ProtocolError,
    )
    from .errors import (
        RateLimitError as RateLimitError,
    )
    from .errors import (
        RequestTimeoutError as RequestTimeoutError,
    )
    from .errors import (
        SandboxError as SandboxError,
    )
    from .errors import (
        SandboxFailedError as SandboxFailedError,
    )
    from .errors import (
        SandboxReadyTimeoutError as SandboxReadyTimeoutError,
    )
    from .errors import (
        ServerError as ServerError,
    )
    from .errors import (
        StreamInterruptedError as StreamInterruptedError,
    )
    from .errors import (
        TransportError as TransportError,
    )
    from .execution import (
        Execution as Execution,
    )
    from .execution import (
        ExecutionComplete as ExecutionComplete,
    )
    from .execution import (
        ExecutionError as ExecutionError,
    )
    from .execution import (
        ExecutionLogs as ExecutionLogs,
    )
    from .execution import (
        ExecutionResult as ExecutionResult,
    )
    from .execution import (
        ExecutionStream as ExecutionStream,
    )
    from .execution import (
        MessageLog as MessageLog,
    )
    from .execution import (
        OutputMessage as OutputMessage,
    )
    from .models import (
        OSSFS as OSSFS,
    )
    from .models import (
        PVC as PVC,
    )
    from .models import (
        CredentialProxyConfig as CredentialProxyConfig,
    )
    from .models import (
        Endpoint as Endpoint,
    )
    from .models import (
        Host as Host,
    )
    from .models import (
        ImageAuth as ImageAuth,
    )
    from .models import (
        ImageSpec as ImageSpec,
    )
    from .models import (
        LifecycleHook as LifecycleHook,
    )
    from .models import (
        NetworkPolicy as NetworkPolicy,
    )
    from .models import (
        NetworkRule as NetworkRule,
    )
    from .models import (
        Page as Page,
    )
    from .models import (
        Pagination as Pagination,
    )
    from .models import (
        PeriodicLifecycleHook as PeriodicLifecycleHook,
    )
    from .models import (
        PlatformSpec as PlatformSpec,
    )
    from .models import (
        SandboxAllocation as SandboxAllocation,
    )
    from .models import (
        SandboxInfo as SandboxInfo,
    )
    from .models import (
        SandboxLifecycle as SandboxLifecycle,
    )
    from .models import (
        SandboxStatus as SandboxStatus,
    )
    from .models import (
        Volume as Volume,
    )
    from .retry import RetryPolicy as RetryPolicy
    from .sandbox import (
        KeepAlive as KeepAlive,
    )
    from .sandbox import (
        Sandbox as Sandbox,
    )
    from .services.commands import (
        BackgroundCommand as BackgroundCommand,
    )
    from .services.commands import (
        CommandLogs as CommandLogs,
    )
    from .services.commands import (
        CommandService as CommandService,
    )
    from .services.commands import (
        CommandStatus as CommandStatus,
    )
    from .sse import (
        ServerEvent as ServerEvent,
    )
    from .sse import (
        iter_events as iter_events,
    )
    from .transport import (
        RequestRecord as RequestRecord,
    )
    from .transport import (
        ResponseRecord as ResponseRecord,
    )

_HOME = {
    "ApiError": "errors",
    "AuthenticationError": "errors",
    "BackgroundCommand": "services.commands",
    "BadRequestError": "errors",
    "ClosedError": "errors",
    "CommandError": "errors",
    "CommandLogs": "services.commands",
    "CommandService": "services.commands",
    "CommandStatus": "services.commands",
    "CommandTimeoutError": "errors",
    "ConflictError": "errors",
    "ConnectError": "errors",
    "ConnectionConfig": "config",
    "CredentialProxyConfig": "models",
    "DEFAULT_EGRESS_PORT": "config",
    "DEFAULT_ENTRYPOINT": "config",
    "DEFAULT_EXECD_PORT": "config",
    "DEFAULT_HEALTH_CHECK_POLLING_INTERVAL_MILLIS": "config",
    "DEFAULT_READY_TIMEOUT_SECONDS": "config",
    "DEFAULT_REQUEST_TIMEOUT_SECONDS": "config",
    "DEFAULT_RESOURCE_LIMITS": "config",
    "DEFAULT_TIMEOUT_SECONDS": "config",
    "DEFAULT_USER_AGENT": "config",
    "Endpoint": "models",
    "Execution": "execution",
    "ExecutionComplete": "execution",
    "ExecutionError": "execution",
    "ExecutionLogs": "execution",
    "ExecutionResult": "execution",
    "ExecutionStream": "execution",
    "Host": "models",
    "ImageAuth": "models",
    "ImageSpec": "models",
    "InvalidArgumentError": "errors",
    "KeepAlive": "sandbox",
    "LifecycleHook": "models",
    "MessageLog": "execution",
    "NetworkPolicy": "models",
    "NetworkRule": "models",
    "NotFoundError": "errors",
    "NotSupportedError": "errors",
    "OSSFS": "models",
    "OutputMessage": "execution",
    "PVC": "models",
    "Page": "models",
    "Pagination": "models",
    "PeriodicLifecycleHook": "models",
    "PermissionDeniedError": "errors",
    "PlatformSpec": "models",
    "ProtocolError": "errors",
    "RateLimitError": "errors",
    "RequestRecord": "transport",
    "RequestTimeoutError": "errors",
    "ResponseRecord": "transport",
    "RetryPolicy": "retry",
    "Sandbox": "sandbox",
    "SandboxAllocation": "models",
    "SandboxClient": "client",
    "SandboxError": "errors",
    "SandboxFailedError": "errors",
    "SandboxInfo": "models",
    "SandboxLifecycle": "models",
    "SandboxReadyTimeoutError": "errors",
    "SandboxStatus": "models",
    "ServerError": "errors",
    "ServerEvent": "sse",
    "StreamInterruptedError": "errors",
    "TransportError": "errors",
    "Volume": "models",
    "iter_events": "sse",
}

__all__ = [
    "ApiError",
    "AuthenticationError",
    "BackgroundCommand",
    "BadRequestError",
    "ClosedError",
    "CommandError",
    "CommandLogs",
    "CommandService",
    "CommandStatus",
    "CommandTimeoutError",
    "ConflictError",
    "ConnectError",
    "ConnectionConfig",
    "CredentialProxyConfig",
    "DEFAULT_EGRESS_PORT",
    "DEFAULT_ENTRYPOINT",
    "DEFAULT_EXECD_PORT",
    "DEFAULT_HEALTH_CHECK_POLLING_INTERVAL_MILLIS",
    "DEFAULT_READY_TIMEOUT_SECONDS",
    "DEFAULT_REQUEST_TIMEOUT_SECONDS",
    "DEFAULT_RESOURCE_LIMITS",
    "DEFAULT_TIMEOUT_SECONDS",
    "DEFAULT_USER_AGENT",
    "Endpoint",
    "Execution",
    "ExecutionComplete",
    "ExecutionError",
    "ExecutionLogs",
    "ExecutionResult",
    "ExecutionStream",
    "Host",
    "ImageAuth",
    "ImageSpec",
    "InvalidArgumentError",
    "KeepAlive",
    "LifecycleHook",
    "MessageLog",
    "NetworkPolicy",
    "NetworkRule",
    "NotFoundError",
    "NotSupportedError",
    "OSSFS",
    "OutputMessage",
    "PVC",
    "Page",
    "Pagination",
    "PeriodicLifecycleHook",
    "PermissionDeniedError",
    "PlatformSpec",
    "ProtocolError",
    "RateLimitError",
    "RequestRecord",
    "RequestTimeoutError",
    "ResponseRecord",
    "RetryPolicy",
    "Sandbox",
    "SandboxAllocation",
    "SandboxClient",
    "SandboxError",
    "SandboxFailedError",
    "SandboxInfo",
    "SandboxLifecycle",
    "SandboxReadyTimeoutError",
    "SandboxStatus",
    "ServerError",
    "ServerEvent",
    "StreamInterruptedError",
    "TransportError",
    "Volume",
    "__version__",
    "iter_events",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module("." + home, __name__), name)
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
