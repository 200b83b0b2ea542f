"""The body of a create: every argument checked, and nothing in it that the user did not set, unless the API demands
it.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Union

from .codec import camel_case, encode
from .config import DEFAULT_ENTRYPOINT, DEFAULT_RESOURCE_LIMITS, Duration, seconds
from .errors import InvalidArgumentError
from .models import (
    CredentialProxyConfig,
    ImageSpec,
    NetworkPolicy,
    PlatformSpec,
    SandboxLifecycle,
    Volume,
    check_argv,
    check_env,
    check_model,
    check_models,
    check_text_map,
    require_text,
    shown,
)

# What decides these is the pool or the template; the server refuses them, or ignores them in silence.
_DECIDED = {
    "pool": (
        "resource_limits",
        "resource_requests",
        "platform",
        "network_policy",
        "credential_proxy",
        "volumes",
        "lifecycle",
    ),
    "template_id": (
        "entrypoint",
        "env",
        "resource_limits",
        "resource_requests",
        "volumes",
        "platform",
        "credential_proxy",
        "secure_access",
        "lifecycle",
    ),
}


def create_body(
    *,
    image: Union[str, ImageSpec, None],
    snapshot_id: Optional[str],
    template_id: Optional[str],
    pool: Optional[str],
    timeout: Optional[Duration],
    env: Optional[Mapping[str, Optional[str]]],
    metadata: Optional[Mapping[str, str]],
    resource_limits: Optional[Mapping[str, str]],
    resource_requests: Optional[Mapping[str, str]],
    platform: Optional[PlatformSpec],
    network_policy: Optional[NetworkPolicy],
    credential_proxy: Union[bool, CredentialProxyConfig, None],
    extensions: Optional[Mapping[str, str]],
    secure_access: bool,
    entrypoint: Optional[Sequence[str]],
    volumes: Optional[Iterable[Volume]],
    lifecycle: Optional[SandboxLifecycle],
) -> Dict[str, Any]:
    """The JSON body of ``POST /sandboxes``; raises ``InvalidArgumentError`` naming the argument that cannot be.

    What only the server can judge (label rules, the shortest timeout, names of resources) is left to it.
    """
    source = _source(image=image, snapshot_id=snapshot_id, template_id=template_id, pool=pool)
    if not isinstance(secure_access, bool):
        raise InvalidArgumentError(f"secure_access must be True or False, not {shown(secure_access)}")
    wanted: Dict[str, Any] = {
        "image": _model("image", ImageSpec(image) if isinstance(image, str) else image, ImageSpec),
        "snapshot_id": snapshot_id,
        "template_id": template_id,
        "timeout": _life(timeout, source),
        "env": _env(env) or None,
        "metadata": _text_map("metadata", metadata) or None,
        "resource_limits": _text_map("resource_limits", resource_limits),
        "resource_requests": _text_map("resource_requests", resource_requests) or None,
        "platform": _model("platform", platform, PlatformSpec),
        "network_policy": _policy(network_policy),
        "credential_proxy": _proxy(credential_proxy),
        "extensions": _text_map("extensions", extensions) or None,
        "secure_access": secure_access or None,
        "entrypoint": None if entrypoint is None else check_argv("entrypoint", entrypoint),
        "volumes": _volumes(volumes) or None,
        "lifecycle": _model("lifecycle", lifecycle, SandboxLifecycle) or None,
    }
    _fit_source(wanted, source, pool)
    return {camel_case(name): value for name, value in wanted.items() if value is not None}


def _source(**given: Any) -> str:
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        have = f"{' and '.join(named)} were given" if named else "none was given"
        raise InvalidArgumentError(
            f"exactly one of image, snapshot_id, template_id and pool says what to create from; {have}"
        )
    if named[0] != "image" or isinstance(given["image"], str):
        require_text(named[0], given[named[0]])
    return named[0]


def _fit_source(wanted: Dict[str, Any], source: str, pool: Optional[str]) -> None:
    """Refuse what ``source`` decides, and add what the API demands with it."""
    for name in _DECIDED.get(source, ()):
        if wanted[name] is not None:
            raise InvalidArgumentError(f"{name} cannot be given with {source}, which decides it")
    if source == "pool":
        extensions = wanted["extensions"] or {}
        if extensions.get("poolRef", pool) != pool:
            raise InvalidArgumentError(
                f"pool is {pool!r}, and extensions['poolRef'] is {extensions['poolRef']!r}: give one"
            )
        wanted["extensions"] = {**extensions, "poolRef": pool}
        return
    if source == "template_id":
        return
    if (wanted["credential_proxy"] or {}).get("enabled") and wanted["network_policy"] is None:
        raise InvalidArgumentError("credential_proxy needs network_policy: the egress sidecar does both")
    if wanted["resource_limits"] is None:
        wanted["resource_limits"] = dict(DEFAULT_RESOURCE_LIMITS)  # the field must be there
    if source == "image" and wanted["entrypoint"] is None:
        wanted["entrypoint"] = list(DEFAULT_ENTRYPOINT)  # demanded with an image


def _life(timeout: Optional[Duration], source: str) -> Optional[int]:
    if timeout is not None:
        return math.ceil(seconds("timeout", timeout))
    if source == "template_id":
        raise InvalidArgumentError(
            "timeout must be given (seconds) for a sandbox from a template: it has no manual cleanup"
        )
    return None


def _env(value: Any) -> Optional[Dict[str, Any]]:
    if value is None:
        return None
    check_env("env", value, allow_none=True)
    return dict(value)


def _text_map(name: str, value: Any) -> Optional[Dict[str, Any]]:
    if value is None:
        return None
    check_text_map(name, value)
    return dict(value)


def _model(name: str, value: Any, kind: type) -> Any:
    return None if value is None else encode(check_model(name, value, kind))


def _policy(policy: Any) -> Any:
    if isinstance(policy, NetworkPolicy):
        policy.validate("network_policy")
    return _model("network_policy", policy, NetworkPolicy)


def _proxy(proxy: Any) -> Any:
    config = CredentialProxyConfig(proxy) if isinstance(proxy, bool) else proxy
    return _model("credential_proxy", config, CredentialProxyConfig)


def _volumes(volumes: Any) -> List[Any]:
    if volumes is None:
        return []
    names = set()
    found = check_models("volumes", volumes, Volume)
    for volume in found:
        volume.validate()  # again: it may have been changed since it was made
        if volume.name in names:
            raise InvalidArgumentError(f"volumes: two are named {volume.name!r}; each needs a name of its own")
        names.add(volume.name)
    return [encode(volume) for volume in found]
