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
        DEFAULT_ENTRYPOINT as DEFAULT_ENTRYPOINT,
        DEFAULT_EXECD_PORT as DEFAULT_EXECD_PORT,
        DEFAULT_HEALTH_CHECK_POLLING_INTERVAL_MILLIS as DEFAULT_HEALTH_CHECK_POLLING_INTERVAL_MILLIS,
        DEFAULT_READY_TIMEOUT_SECONDS as DEFAULT_READY_TIMEOUT_SECONDS,
        DEFAULT_REQUEST_TIMEOUT_SECONDS as DEFAULT_REQUEST_TIMEOUT_SECONDS,
        DEFAULT_RESOURCE_LIMITS as DEFAULT_RESOURCE_LIMITS,
        DEFAULT_TIMEOUT_SECONDS as DEFAULT_TIMEOUT_SECONDS,
        DEFAULT_USER_AGENT as DEFAULT_USER_AGENT,
        ConnectionConfig as ConnectionConfig,
    )
    from .errors import (
        ApiError as ApiError,
        AuthenticationError as AuthenticationError,
        BadRequestError as BadRequestError,
        ClosedError as ClosedError,
        CommandError as CommandError,
        CommandTimeoutError as CommandTimeoutError,
        ConflictError as ConflictError,
        ConnectError as ConnectError,
        InvalidArgumentError as InvalidArgumentError,
        NotFoundError as NotFoundError,
        NotSupportedError as NotSupportedError,
        PermissionDeniedError as PermissionDeniedError,
        ProtocolError as ProtocolError,
        RateLimitError as RateLimitError,
        RequestTimeoutError as RequestTimeoutError,
        SandboxError as SandboxError,
        SandboxFailedError as SandboxFailedError,
        SandboxReadyTimeoutError as SandboxReadyTimeoutError,
        ServerError as ServerError,
        StreamInterruptedError as StreamInterruptedError,
        TransportError as TransportError,
    )
    from .execution import (
        Execution as Execution,
        ExecutionComplete as ExecutionComplete,
        ExecutionError as ExecutionError,
        ExecutionLogs as ExecutionLogs,
        ExecutionResult as ExecutionResult,
        ExecutionStream as ExecutionStream,
        MessageLog as MessageLog,
        OutputMessage as OutputMessage,
    )
    from .models import (
        OSSFS as OSSFS,
        PVC as PVC,
        CredentialProxyConfig as CredentialProxyConfig,
        Endpoint as Endpoint,
        Host as Host,
        ImageAuth as ImageAuth,
        ImageSpec as ImageSpec,
        LifecycleHook as LifecycleHook,
        NetworkPolicy as NetworkPolicy,
        NetworkRule as NetworkRule,
        Page as Page,
        Pagination as Pagination,
        PeriodicLifecycleHook as PeriodicLifecycleHook,
        PlatformSpec as PlatformSpec,
        SandboxAllocation as SandboxAllocation,
        SandboxInfo as SandboxInfo,
        SandboxLifecycle as SandboxLifecycle,
        SandboxStatus as SandboxStatus,
        Volume as Volume,
    )
    from .retry import RetryPolicy as RetryPolicy
    from .sandbox import (
        KeepAlive as KeepAlive,
        Sandbox as Sandbox,
    )
    from .services.code import (
        CodeContext as CodeContext,
        CodeService as CodeService,
    )
    from .services.commands import (
        BackgroundCommand as BackgroundCommand,
        CommandLogs as CommandLogs,
        CommandService as CommandService,
        CommandStatus as CommandStatus,
    )
    from .services.diagnostics import (
        DiagnosticContent as DiagnosticContent,
        DiagnosticsService as DiagnosticsService,
        SandboxDiagnosticsService as SandboxDiagnosticsService,
    )
    from .services.egress import (
        EgressService as EgressService,
        EgressStatus as EgressStatus,
    )
    from .services.file_wire import (
        FileInfo as FileInfo,
        FileList as FileList,
        WriteEntry as WriteEntry,
    )
    from .services.files import FileService as FileService
    from .services.isolation import (
        EnvPassthrough as EnvPassthrough,
        HardeningLayer as HardeningLayer,
        HardeningStatus as HardeningStatus,
        IsolatedBind as IsolatedBind,
        IsolatedOverlay as IsolatedOverlay,
        IsolatedRun as IsolatedRun,
        IsolatedRunStatus as IsolatedRunStatus,
        IsolatedSession as IsolatedSession,
        IsolatedSessionInfo as IsolatedSessionInfo,
        IsolatedWorkspace as IsolatedWorkspace,
        IsolationCapabilities as IsolationCapabilities,
        IsolationService as IsolationService,
    )
    from .services.metrics import (
        Metrics as Metrics,
        MetricsService as MetricsService,
        MetricsWatch as MetricsWatch,
    )
    from .services.pools import (
        PoolCapacity as PoolCapacity,
        PoolInfo as PoolInfo,
        PoolService as PoolService,
        PoolStatus as PoolStatus,
    )
    from .services.sessions import (
        BashSession as BashSession,
        SessionService as SessionService,
    )
    from .services.snapshots import (
        SnapshotInfo as SnapshotInfo,
        SnapshotService as SnapshotService,
        SnapshotStatus as SnapshotStatus,
    )
    from .services.templates import (
        TemplateInfo as TemplateInfo,
        TemplateReadiness as TemplateReadiness,
        TemplateService as TemplateService,
        TemplateStatus as TemplateStatus,
    )
    from .services.trees import TreeTransfer as TreeTransfer
    from .services.vault import (
        Credential as Credential,
        CredentialAuth as CredentialAuth,
        CredentialAuthMetadata as CredentialAuthMetadata,
        CredentialBinding as CredentialBinding,
        CredentialBindingMetadata as CredentialBindingMetadata,
        CredentialBindingMutationSet as CredentialBindingMutationSet,
        CredentialMatch as CredentialMatch,
        CredentialMetadata as CredentialMetadata,
        CredentialMutationSet as CredentialMutationSet,
        CredentialSubstitution as CredentialSubstitution,
        CredentialVaultService as CredentialVaultService,
        CredentialVaultState as CredentialVaultState,
        CustomHeader as CustomHeader,
    )
    from .sse import (
        ServerEvent as ServerEvent,
        iter_events as iter_events,
    )
    from .transport import (
        RequestRecord as RequestRecord,
        ResponseRecord as ResponseRecord,
    )

_HOME = {
    name: home
    for home, names in {
        "client": "SandboxClient",
        "config": """
            ConnectionConfig DEFAULT_EGRESS_PORT DEFAULT_ENTRYPOINT DEFAULT_EXECD_PORT
            DEFAULT_HEALTH_CHECK_POLLING_INTERVAL_MILLIS DEFAULT_READY_TIMEOUT_SECONDS
            DEFAULT_REQUEST_TIMEOUT_SECONDS DEFAULT_RESOURCE_LIMITS DEFAULT_TIMEOUT_SECONDS DEFAULT_USER_AGENT
        """,
        "errors": """
            ApiError AuthenticationError BadRequestError ClosedError CommandError CommandTimeoutError ConflictError
            ConnectError InvalidArgumentError NotFoundError NotSupportedError PermissionDeniedError ProtocolError
            RateLimitError RequestTimeoutError SandboxError SandboxFailedError SandboxReadyTimeoutError ServerError
            StreamInterruptedError TransportError
        """,
        "execution": """
            Execution ExecutionComplete ExecutionError ExecutionLogs ExecutionResult ExecutionStream MessageLog
            OutputMessage
        """,
        "models": """
            CredentialProxyConfig Endpoint Host ImageAuth ImageSpec LifecycleHook NetworkPolicy NetworkRule OSSFS
            PVC Page Pagination PeriodicLifecycleHook PlatformSpec SandboxAllocation SandboxInfo SandboxLifecycle
            SandboxStatus Volume
        """,
        "notebook": "load_ipython_extension unload_ipython_extension",
        "retry": "RetryPolicy",
        "sandbox": "KeepAlive Sandbox",
        "services.code": "CodeContext CodeService",
        "services.commands": "BackgroundCommand CommandLogs CommandService CommandStatus",
        "services.diagnostics": "DiagnosticContent DiagnosticsService SandboxDiagnosticsService",
        "services.egress": "EgressService EgressStatus",
        "services.file_wire": "FileInfo FileList WriteEntry",
        "services.files": "FileService",
        "services.isolation": """
            EnvPassthrough HardeningLayer HardeningStatus IsolatedBind IsolatedOverlay IsolatedRun IsolatedRunStatus
            IsolatedSession IsolatedSessionInfo IsolatedWorkspace IsolationCapabilities IsolationService
        """,
        "services.metrics": "Metrics MetricsService MetricsWatch",
        "services.pools": "PoolCapacity PoolInfo PoolService PoolStatus",
        "services.sessions": "BashSession SessionService",
        "services.snapshots": "SnapshotInfo SnapshotService SnapshotStatus",
        "services.templates": "TemplateInfo TemplateReadiness TemplateService TemplateStatus",
        "services.trees": "TreeTransfer",
        "services.vault": """
            Credential CredentialAuth CredentialAuthMetadata CredentialBinding CredentialBindingMetadata
            CredentialBindingMutationSet CredentialMatch CredentialMetadata CredentialMutationSet
            CredentialSubstitution CredentialVaultService CredentialVaultState CustomHeader
        """,
        "sse": "ServerEvent iter_events",
        "transport": "RequestRecord ResponseRecord",
    }.items()
    for name in names.split()
}

__all__ = [
    "ApiError",
    "AuthenticationError",
    "BackgroundCommand",
    "BadRequestError",
    "BashSession",
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
    "FileService",
    "HardeningLayer",
    "HardeningStatus",
    "Host",
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
