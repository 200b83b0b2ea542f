"""What a create request may say, in the order in which the real server (Docker) checks it."""

from __future__ import annotations

import math
import platform
import re
from datetime import datetime, timedelta
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

from ..egress.policy import Policy, PolicyError
from .errors import ApiError, invalid_parameter
from .labels import check_labels
from .schema import (
    Invalid,
    array,
    boolean,
    defaulted,
    integer,
    mapping,
    model,
    nullable,
    optional,
    required,
    text,
)
from .volumes import VOLUME, check_volumes

ECHOED_EXTENSIONS = "opensandbox.extensions."
DEFAULT_ENTRYPOINT = ["tail", "-f", "/dev/null"]
_EGRESS_ENV = frozenset(
    "OPENSANDBOX_EGRESS_" + name
    for name in (
        "LOG_LEVEL",
        "DNS_UPSTREAM_TIMEOUT",
        "MITMPROXY_SSL_INSECURE",
        "MITMPROXY_TRANSPARENT",
        "MITMPROXY_EXTRA_PORTS",
        "DENY_WEBHOOK",
        "METRICS_EXTRA_ATTRS",
        "CREDENTIAL_VAULT_REQUIRE_TLS",
        "CREDENTIAL_VAULT_REQUIRE_SCOPED_MATCH",
        "CREDENTIAL_VAULT_TRUSTED_PROXY_CIDRS",
        "POLICY_FILE",
    )
)
_TRANSPARENT = "OPENSANDBOX_EGRESS_MITMPROXY_TRANSPARENT"
_TEMPLATE_EXCLUDES = (
    "image",
    "snapshotId",
    "entrypoint",
    "env",
    "resourceLimits",
    "resourceRequests",
    "volumes",
    "platform",
    "credentialProxy",
    "secureAccess",
    "lifecycle",
)


def pool_of(request: Mapping[str, Any]) -> str:
    return str((request.get("extensions") or {}).get("poolRef", "")).strip()


def _hook_has_a_command(hook: Dict[str, Any]) -> None:
    if not hook["command"][0].strip():
        raise Invalid("Lifecycle hook command must not be empty.")


def _hook_names_are_unique(lifecycle: Dict[str, Any]) -> None:
    names = [hook["name"] for hook in lifecycle.get("periodic") or []]
    if len(set(names)) != len(names):
        raise Invalid("Periodic lifecycle hook names must be unique.")


def _fields_go_together(request: Dict[str, Any]) -> None:
    given = {name for name, value in request.items() if value is not None}
    env = request.get("env") or {}
    if "OPENSANDBOX_LIFECYCLE" in env:
        raise Invalid(
            "Environment variable 'OPENSANDBOX_LIFECYCLE' is reserved. Use the lifecycle request field instead."
        )
    if "templateId" in given:
        _template_stands_alone(given)
        return
    if (request.get("credentialProxy") or {}).get("enabled") and "networkPolicy" not in given:
        raise Invalid("credentialProxy.enabled requires networkPolicy.")
    if pool_of(request):
        for name in ("snapshotId", "lifecycle"):
            if name in given:
                raise Invalid(f"{name} cannot be used together with poolRef.")
        return
    image = (request.get("image") or {}).get("uri", "").strip()
    snapshot = (request.get("snapshotId") or "").strip()
    if bool(image) == bool(snapshot):
        raise Invalid("Exactly one of image or snapshotId must be provided.")
    if image and "entrypoint" not in given:
        raise Invalid("Entrypoint is required when image is provided.")
    if "resourceLimits" not in given:
        raise Invalid("resourceLimits is required when poolRef is not provided.")


def _template_stands_alone(given: Any) -> None:
    clash = sorted(name for name in _TEMPLATE_EXCLUDES if name in given)
    if clash:
        raise Invalid(
            f"templateId cannot be combined with: {', '.join(clash)}; the workload shape is fixed by the "
            "template's golden image."
        )
    if "timeout" not in given:
        raise Invalid("timeout is required when templateId is provided.")


NETWORK_RULE = model({"action": required(text()), "target": required(text(shortest=1))})
NETWORK_POLICY = model({"defaultAction": optional(text()), "egress": defaulted(array(NETWORK_RULE))})
_AUTH = model({"username": required(text()), "password": required(text())})
_HOOK_COMMAND = required(array(text(), shortest=1))
_PRE_START = model(
    {"command": _HOOK_COMMAND, "timeoutSeconds": optional(integer(least=1, most=10800))},
    closed=True,
    rule=_hook_has_a_command,
)
_PERIODIC = model(
    {
        "name": required(text(shortest=1)),
        "schedule": required(text(shortest=1)),
        "command": _HOOK_COMMAND,
        "timeoutSeconds": optional(integer(least=1, most=300)),
    },
    closed=True,
    rule=_hook_has_a_command,
)
_LIFECYCLE = model(
    {"preStart": optional(_PRE_START), "periodic": optional(array(_PERIODIC))},
    closed=True,
    rule=_hook_names_are_unique,
)
_STRINGS = mapping(text())
CREATE = model(
    {
        "image": optional(model({"uri": required(text()), "auth": optional(_AUTH)})),
        "snapshotId": optional(text()),
        "platform": optional(model({"os": required(text()), "arch": required(text())})),
        "timeout": optional(integer(least=60)),
        "resourceLimits": optional(_STRINGS),
        "resourceRequests": optional(_STRINGS),
        "env": optional(mapping(nullable(text()))),
        "metadata": optional(_STRINGS),
        "lifecycle": optional(_LIFECYCLE),
        "entrypoint": optional(array(text(), shortest=1)),
        "networkPolicy": optional(NETWORK_POLICY),
        "credentialProxy": optional(model({"enabled": defaulted(boolean)})),
        "secureAccess": defaulted(boolean),
        "volumes": optional(array(VOLUME)),
        "extensions": optional(_STRINGS),
        "templateId": optional(text(shortest=1)),
    },
    rule=_fields_go_together,
)


def check_extensions(extensions: Mapping[str, str]) -> None:
    name = "access.renew.extend.seconds"
    if name not in extensions:
        return
    value = extensions[name]
    prefix = f'Invalid extensions["{name}"]: '
    if not value.strip():
        raise invalid_parameter(
            prefix + "empty value; omit the key to disable renew-on-access, or use an integer between 300 and "
            "86400 seconds."
        )
    try:
        seconds = int(value.strip())
    except ValueError:
        raise invalid_parameter(
            prefix + f"must be a base-10 integer string between 300 and 86400, got {value!r}."
        ) from None
    if not 300 <= seconds <= 86400:
        raise invalid_parameter(
            prefix + f"must be between 300 and 86400 seconds (5 minutes to 24 hours inclusive), got {seconds}."
        )


def check_request(request: Mapping[str, Any], allowed_host_paths: Sequence[str], *, can_mount: bool) -> None:
    """Raises the first 400 that Docker's provider would answer. Extensions and snapshot come before."""
    if request.get("lifecycle") is not None:
        raise invalid_parameter("lifecycle hooks are not supported by the Docker provider.")
    if pool_of(request):
        raise ApiError(
            400,
            "SANDBOX::UNSUPPORTED_POOL_REF",
            "poolRef is not supported by the Docker provider. Use Kubernetes BatchSandbox provider instead.",
        )
    if not request.get("entrypoint"):
        message = "Entrypoint must contain at least one command."
        raise ApiError(400, "DOCKER::INVALID_ENTRYPOINT", message)
    check_labels(request.get("metadata") or {})
    if request.get("platform"):
        _check_platform(request["platform"]["os"], request["platform"]["arch"])
    if request.get("secureAccess"):
        raise invalid_parameter(
            "secureAccess is not supported when runtime.type='docker'. Use the Kubernetes runtime to create "
            "secured sandboxes."
        )
    _check_limits(request.get("resourceLimits") or {})
    for key in request.get("env") or {}:
        if key.startswith("OPENSANDBOX_EGRESS_") and key not in _EGRESS_ENV:
            raise invalid_parameter(
                f"Environment variable '{key}' is not allowed; permitted OPENSANDBOX_EGRESS_ keys: "
                f"{sorted(_EGRESS_ENV)}"
            )
    check_volumes(request.get("volumes") or [], allowed_host_paths, can_mount)


def expiry(created: datetime, timeout: Optional[int]) -> Optional[datetime]:
    """When a sandbox ends by itself; None is manual cleanup."""
    if timeout is None:
        return None
    try:
        return created + timedelta(seconds=timeout)
    except OverflowError:
        message = f"Sandbox timeout {timeout}s is too large to represent safely."
        raise invalid_parameter(message) from None


def normal_platform(wanted: Optional[Mapping[str, str]]) -> Optional[Dict[str, str]]:
    return {key: value.strip().lower() for key, value in wanted.items()} if wanted else None


def _check_platform(os_name: str, arch: str) -> None:
    for name, value, allowed in (("os", os_name, ["linux", "windows"]), ("arch", arch, ["amd64", "arm64"])):
        if value.strip().lower() not in allowed:
            raise invalid_parameter(f"Unsupported platform.{name} '{value}'. Supported values: {allowed}.")
    machine = platform.machine().lower()
    here = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    if os_name.strip().lower() != "linux" or arch.strip().lower() != here:
        raise invalid_parameter(
            f"platform {os_name}/{arch} cannot be had: commands run on this machine, which is linux/{here}."
        )


def _check_limits(limits: Mapping[str, str]) -> None:
    kinds: Tuple[Tuple[str, Callable[[str], bool], str], ...] = (
        ("memory", _is_memory, "resource limit."),
        ("cpu", _is_cpu, "resource limit."),
        ("gpu", _is_gpu, "device count or 'all'."),
    )
    for key, is_valid, what in kinds:
        if key in limits and not is_valid(limits[key]):
            value = limits[key]
            shown = repr(value[:80]) + (f"... ({len(value)} characters)" if len(value) > 80 else "")
            raise invalid_parameter(f"Invalid resourceLimits.{key}: {shown}; must resolve to a positive {what}")


def _is_memory(value: str) -> bool:
    found = re.fullmatch(r"\s*(\d+)([kmgti]i?|[kmgti]?b)?\s*", value, re.IGNORECASE | re.ASCII)
    return bool(found) and int(value.strip().rstrip("kmgtibKMGTIB")) > 0


def _is_cpu(value: str) -> bool:
    number = value.strip()
    try:
        cpus = float(number[:-1]) / 1000 if number.endswith("m") else float(number)
    except ValueError:
        return False
    return math.isfinite(cpus) and cpus > 0


def _is_gpu(value: str) -> bool:
    word = value.strip().lower()
    return word == "all" or (word.isascii() and word.isdigit() and int(word) > 0)


def is_transparent(request: Mapping[str, Any]) -> bool:
    """Whether the request switches on what the credential vault needs."""
    switch = (request.get("env") or {}).get(_TRANSPARENT) or ""
    enabled = bool((request.get("credentialProxy") or {}).get("enabled"))
    return enabled or switch.strip().lower() in {"1", "true", "yes", "y", "on"}


def sandbox_env(request: Mapping[str, Any]) -> Dict[str, str]:
    """The variables for the commands: those of the egress sidecar kept from them, null entries dropped.

    And names that no environment can hold: they are no reason to make no sandbox.
    """
    given = (request.get("env") or {}).items()
    env = {key: value for key, value in given if value is not None and key and "=" not in key}
    return {key: value for key, value in env.items() if key not in _EGRESS_ENV or key == _TRANSPARENT}


def first_policy(request: Mapping[str, Any]) -> Optional[Policy]:
    """The policy to begin with, or None. The real sidecar dies of a bad rule, and so does create."""
    wanted = request.get("networkPolicy")
    if wanted is None:
        return None
    try:
        return Policy.parse(wanted)
    except PolicyError as error:
        message = f"Egress sidecar did not become ready: {error}"
        raise ApiError(500, "DOCKER::SANDBOX_START_FAILED", message) from None
