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
    from .services.code import (
        CodeContext as CodeContext,
    )
    from .services.code import (
        CodeService as CodeService,
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
    from .services.diagnostics import (
        DiagnosticContent as DiagnosticContent,
    )
    from .services.diagnostics import (
        DiagnosticsService as DiagnosticsService,
    )
    from .services.diagnostics import (
        SandboxDiagnosticsService as SandboxDiagnosticsService,
    )
    from .services.egress import (
        EgressService as EgressService,
    )
    from .services.egress import (
        EgressStatus as EgressStatus,
    )
    from .services.file_routes import FileRoutes as FileRoutes
    from .services.file_wire import (
        FileInfo as FileInfo,
    )
    from .services.file_wire import (
        FileList as FileList,
    )
    from .services.file_wire import (
        WriteEntry as WriteEntry,
    )
    from .services.files import FileService as FileService
    from .services.ignore import Ignore as Ignore
    from .services.isolation import (
        EnvPassthrough as EnvPassthrough,
    )
    from .services.isolation import (
        HardeningLayer as HardeningLayer,
    )
    from .services.isolation import (
        HardeningStatus as HardeningStatus,
    )
    from .services.isolation import (
        IsolatedBind as IsolatedBind,
    )
    from .services.isolation import (
        IsolatedOverlay as IsolatedOverlay,
    )
    from .services.isolation import (
        IsolatedRun as IsolatedRun,
    )
    from .services.isolation import (
        IsolatedRunStatus as IsolatedRunStatus,
    )
    from .services.isolation import (
        IsolatedSession as IsolatedSession,
    )
    from .services.isolation import (
        IsolatedSessionInfo as IsolatedSessionInfo,
    )
    from .services.isolation import (
        IsolatedWorkspace as IsolatedWorkspace,
    )
    from .services.isolation import (
        IsolationCapabilities as IsolationCapabilities,
    )
    from .services.isolation import (
        IsolationService as IsolationService,
    )
    from .services.metrics import (
        Metrics as Metrics,
    )
    from .services.metrics import (
        MetricsService as MetricsService,
    )
    from .services.metrics import (
        MetricsWatch as MetricsWatch,
    )
    from .services.multipart import (
        BodyFailed as BodyFailed,
    )
    from .services.multipart import (
        Multipart as Multipart,
    )
    from .services.multipart import (
        Source as Source,
    )
    from .services.pools import (
        PoolCapacity as PoolCapacity,
    )
    from .services.pools import (
        PoolInfo as PoolInfo,
    )
    from .services.pools import (
        PoolService as PoolService,
    )
    from .services.pools import (
        PoolStatus as PoolStatus,
    )
    from .services.sessions import (
        BashSession as BashSession,
    )
    from .services.sessions import (
        SessionService as SessionService,
    )
    from .services.snapshots import (
        SnapshotInfo as SnapshotInfo,
    )
    from .services.snapshots import (
        SnapshotService as SnapshotService,
    )
    from .services.snapshots import (
        SnapshotStatus as SnapshotStatus,
    )
    from .services.templates import (
        TemplateInfo as TemplateInfo,
    )
    from .services.templates import (
        TemplateReadiness as TemplateReadiness,
    )
    from .services.templates import (
        TemplateService as TemplateService,
    )
    from .services.templates import (
        TemplateStatus as TemplateStatus,
    )
    from .services.transfers import Progress as Progress
    from .services.trees import TreeTransfer as TreeTransfer
    from .services.vault import (
        Credential as Credential,
    )
    from .services.vault import (
        CredentialAuth as CredentialAuth,
    )
    from .services.vault import (
        CredentialAuthMetadata as CredentialAuthMetadata,
    )
    from .services.vault import (
        CredentialBinding as CredentialBinding,
    )
    from .services.vault import (
        CredentialBindingMetadata as CredentialBindingMetadata,
    )
    from .services.vault import (
        CredentialBindingMutationSet as CredentialBindingMutationSet,
    )
    from .services.vault import (
        CredentialMatch as CredentialMatch,
    )
    from .services.vault import (
        CredentialMetadata as CredentialMetadata,
    )
    from .services.vault import (
        CredentialMutationSet as CredentialMutationSet,
    )
    from .services.vault import (
        CredentialSubstitution as CredentialSubstitution,
    )
    from .services.vault import (
        CredentialVaultService as CredentialVaultService,
    )
    from .services.vault import (
        CredentialVaultState as CredentialVaultState,
    )
    from .services.vault import (
        CustomHeader as CustomHeader,
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
    "BashSession": "services.sessions",
    "BodyFailed": "services.multipart",
    "ClosedError": "errors",
    "CodeContext": "services.code",
    "CodeService": "services.code",
    "CommandError": "errors",
    "CommandLogs": "services.commands",
    "CommandService": "services.commands",
    "CommandStatus": "services.commands",
    "CommandTimeoutError": "errors",
    "ConflictError": "errors",
    "ConnectError": "errors",
    "ConnectionConfig": "config",
    "Credential": "services.vault",
    "CredentialAuth": "services.vault",
    "CredentialAuthMetadata": "services.vault",
    "CredentialBinding": "services.vault",
    "CredentialBindingMetadata": "services.vault",
    "CredentialBindingMutationSet": "services.vault",
    "CredentialMatch": "services.vault",
    "CredentialMetadata": "services.vault",
    "CredentialMutationSet": "services.vault",
    "CredentialProxyConfig": "models",
    "CredentialSubstitution": "services.vault",
    "CredentialVaultService": "services.vault",
    "CredentialVaultState": "services.vault",
    "CustomHeader": "services.vault",
    "DEFAULT_EGRESS_PORT": "config",
    "DEFAULT_ENTRYPOINT": "config",
    "DEFAULT_EXECD_PORT": "config",
    "DEFAULT_HEALTH_CHECK_POLLING_INTERVAL_MILLIS": "config",
    "DEFAULT_READY_TIMEOUT_SECONDS": "config",
    "DEFAULT_REQUEST_TIMEOUT_SECONDS": "config",
    "DEFAULT_RESOURCE_LIMITS": "config",
    "DEFAULT_TIMEOUT_SECONDS": "config",
    "DEFAULT_USER_AGENT": "config",
    "DiagnosticContent": "services.diagnostics",
    "DiagnosticsService": "services.diagnostics",
    "EgressService": "services.egress",
    "EgressStatus": "services.egress",
    "Endpoint": "models",
    "EnvPassthrough": "services.isolation",
    "Execution": "execution",
    "ExecutionComplete": "execution",
    "ExecutionError": "execution",
    "ExecutionLogs": "execution",
    "ExecutionResult": "execution",
    "ExecutionStream": "execution",
    "FileInfo": "services.file_wire",
    "FileList": "services.file_wire",
    "FileRoutes": "services.file_routes",
    "FileService": "services.files",
    "HardeningLayer": "services.isolation",
    "HardeningStatus": "services.isolation",
    "Host": "models",
    "Ignore": "services.ignore",
    "ImageAuth": "models",
    "ImageSpec": "models",
    "InvalidArgumentError": "errors",
    "IsolatedBind": "services.isolation",
    "IsolatedOverlay": "services.isolation",
    "IsolatedRun": "services.isolation",
    "IsolatedRunStatus": "services.isolation",
    "IsolatedSession": "services.isolation",
    "IsolatedSessionInfo": "services.isolation",
    "IsolatedWorkspace": "services.isolation",
    "IsolationCapabilities": "services.isolation",
    "IsolationService": "services.isolation",
    "KeepAlive": "sandbox",
    "LifecycleHook": "models",
    "MessageLog": "execution",
    "Metrics": "services.metrics",
    "MetricsService": "services.metrics",
    "MetricsWatch": "services.metrics",
    "Multipart": "services.multipart",
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
    "PoolCapacity": "services.pools",
    "PoolInfo": "services.pools",
    "PoolService": "services.pools",
    "PoolStatus": "services.pools",
    "Progress": "services.transfers",
    "ProtocolError": "errors",
    "RateLimitError": "errors",
    "RequestRecord": "transport",
    "RequestTimeoutError": "errors",
    "ResponseRecord": "transport",
    "RetryPolicy": "retry",
    "Sandbox": "sandbox",
    "SandboxAllocation": "models",
    "SandboxClient": "client",
    "SandboxDiagnosticsService": "services.diagnostics",
    "SandboxError": "errors",
    "SandboxFailedError": "errors",
    "SandboxInfo": "models",
    "SandboxLifecycle": "models",
    "SandboxReadyTimeoutError": "errors",
    "SandboxStatus": "models",
    "ServerError": "errors",
    "ServerEvent": "sse",
    "SessionService": "services.sessions",
    "SnapshotInfo": "services.snapshots",
    "SnapshotService": "services.snapshots",
    "SnapshotStatus": "services.snapshots",
    "Source": "services.multipart",
    "StreamInterruptedError": "errors",
    "TemplateInfo": "services.templates",
    "TemplateReadiness": "services.templates",
    "TemplateService": "services.templates",
    "TemplateStatus": "services.templates",
    "TransportError": "errors",
    "TreeTransfer": "services.trees",
    "Volume": "models",
    "WriteEntry": "services.file_wire",
    "iter_events": "sse",
    # For %load_ext opensandbox_sync, which asks the package itself for them.
    "load_ipython_extension": "notebook",
    "unload_ipython_extension": "notebook",
}

__all__ = [
    "ApiError",
    "AuthenticationError",
    "BackgroundCommand",
    "BadRequestError",
    "BashSession",
    "BodyFailed",
    "ClosedError",
    "CodeContext",
    "CodeService",
    "CommandError",
    "CommandLogs",
    "CommandService",
    "CommandStatus",
    "CommandTimeoutError",
    "ConflictError",
    "ConnectError",
    "ConnectionConfig",
    "Credential",
    "CredentialAuth",
    "CredentialAuthMetadata",
    "CredentialBinding",
    "CredentialBindingMetadata",
    "CredentialBindingMutationSet",
    "CredentialMatch",
    "CredentialMetadata",
    "CredentialMutationSet",
    "CredentialProxyConfig",
    "CredentialSubstitution",
    "CredentialVaultService",
    "CredentialVaultState",
    "CustomHeader",
    "DEFAULT_EGRESS_PORT",
    "DEFAULT_ENTRYPOINT",
    "DEFAULT_EXECD_PORT",
    "DEFAULT_HEALTH_CHECK_POLLING_INTERVAL_MILLIS",
    "DEFAULT_READY_TIMEOUT_SECONDS",
    "DEFAULT_REQUEST_TIMEOUT_SECONDS",
    "DEFAULT_RESOURCE_LIMITS",
    "DEFAULT_TIMEOUT_SECONDS",
    "DEFAULT_USER_AGENT",
    "DiagnosticContent",
    "DiagnosticsService",
    "EgressService",
    "EgressStatus",
    "Endpoint",
    "EnvPassthrough",
    "Execution",
    "ExecutionComplete",
    "ExecutionError",
    "ExecutionLogs",
    "ExecutionResult",
    "ExecutionStream",
    "FileInfo",
    "FileList",
    "FileRoutes",
    "FileService",
    "HardeningLayer",
    "HardeningStatus",
    "Host",
    "Ignore",
    "ImageAuth",
    "ImageSpec",
    "InvalidArgumentError",
    "IsolatedBind",
    "IsolatedOverlay",
    "IsolatedRun",
    "IsolatedRunStatus",
    "IsolatedSession",
    "IsolatedSessionInfo",
    "IsolatedWorkspace",
    "IsolationCapabilities",
    "IsolationService",
    "KeepAlive",
    "LifecycleHook",
    "MessageLog",
    "Metrics",
    "MetricsService",
    "MetricsWatch",
    "Multipart",
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
    "PoolCapacity",
    "PoolInfo",
    "PoolService",
    "PoolStatus",
    "Progress",
    "ProtocolError",
    "RateLimitError",
    "RequestRecord",
    "RequestTimeoutError",
    "ResponseRecord",
    "RetryPolicy",
    "Sandbox",
    "SandboxAllocation",
    "SandboxClient",
    "SandboxDiagnosticsService",
    "SandboxError",
    "SandboxFailedError",
    "SandboxInfo",
    "SandboxLifecycle",
    "SandboxReadyTimeoutError",
    "SandboxStatus",
    "ServerError",
    "ServerEvent",
    "SessionService",
    "SnapshotInfo",
    "SnapshotService",
    "SnapshotStatus",
    "Source",
    "StreamInterruptedError",
    "TemplateInfo",
    "TemplateReadiness",
    "TemplateService",
    "TemplateStatus",
    "TransportError",
    "TreeTransfer",
    "Volume",
    "WriteEntry",
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
