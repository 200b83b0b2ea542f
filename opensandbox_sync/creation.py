"""The body of a create: every argument checked, and nothing in it that the user did not set, unless the API demands
it.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, Mapping, Optional, Sequence, Union

from .codec import encode
from .config import DEFAULT_ENTRYPOINT, DEFAULT_RESOURCE_LIMITS, Duration, seconds
from .errors import InvalidArgumentError
from .models import (
    CredentialProxyConfig,
    ImageSpec,
    NetworkPolicy,
    PlatformSpec,
    SandboxLifecycle,
    Volume,
    check_text_map,
    require_text,
)


def create_body(
    *,
    image: Union[str, ImageSpec, None],
    snapshot_id: Optional[str],
    template_id: Optional[str],
    pool: Optional[str],
    timeout: Optional[Duration],
    env: Optional[Mapping[str, str]],
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
    """The JSON body of ``POST /sandboxes``; raises ``InvalidArgumentError`` naming the argument that cannot be."""
    source = _source(image=image, snapshot_id=snapshot_id, template_id=template_id, pool=pool)
    body: Dict[str, Any] = {}
    if isinstance(image, str):
        image = ImageSpec(image)
    _expect("image", image, ImageSpec)
    body["image"] = encode(image) if image is not None else None
    body["snapshotId"], body["templateId"] = snapshot_id, template_id
    if timeout is not None:
        body["timeout"] = math.ceil(seconds("timeout", timeout))
    elif template_id is not None:
        raise InvalidArgumentError(
            "timeout must be given (seconds) for a sandbox from a template: it has no manual cleanup"
        )
    maps = {
        "env": env,
        "metadata": metadata,
        "resource_limits": resource_limits,
        "resource_requests": resource_requests,
        "extensions": extensions,
    }
    for name, value in maps.items():
        if value is not None:
            check_text_map(name, value)
    body["env"], body["metadata"] = dict(env or {}) or None, dict(metadata or {}) or None
    body["resourceLimits"] = None if resource_limits is None else dict(resource_limits)
    body["resourceRequests"] = dict(resource_requests or {}) or None
    body["extensions"] = dict(extensions or {}) or None
    _expect("platform", platform, PlatformSpec)
    _expect("network_policy", network_policy, NetworkPolicy)
    _expect("lifecycle", lifecycle, SandboxLifecycle)
    body["platform"], body["lifecycle"] = encode(platform), encode(lifecycle)
    if network_policy is not None:
        network_policy.validate("network_policy")
        body["networkPolicy"] = encode(network_policy)
    if isinstance(credential_proxy, bool):
        credential_proxy = CredentialProxyConfig(credential_proxy)
    _expect("credential_proxy", credential_proxy, CredentialProxyConfig)
    body["credentialProxy"] = encode(credential_proxy)
    body["secureAccess"] = True if secure_access else None
    body["entrypoint"] = None if entrypoint is None else _argv("entrypoint", entrypoint)
    body["volumes"] = _volumes(volumes) or None
    _fit_source(body, source, pool)
    return {key: value for key, value in body.items() if value is not None}


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


# What decides these is the pool or the template; the server refuses or ignores them.
_DECIDED = {
    "pool": ("resourceLimits", "resourceRequests", "platform", "volumes", "lifecycle"),
    "template_id": (
        "entrypoint",
        "env",
        "resourceLimits",
        "resourceRequests",
        "volumes",
        "platform",
        "credentialProxy",
        "secureAccess",
        "lifecycle",
    ),
}


def _fit_source(body: Dict[str, Any], source: str, pool: Optional[str]) -> None:
    for name in _DECIDED.get(source, ()):
        if body.get(name) is not None:
            snake = "".join("_" + c.lower() if c.isupper() else c for c in name)
            raise InvalidArgumentError(f"{snake} cannot be given with {source}, which decides it")
    if source == "pool":
        extensions = body["extensions"] or {}
        if extensions.get("poolRef", pool) != pool:
            raise InvalidArgumentError(
                f"pool is {pool!r}, and extensions['poolRef'] is {extensions['poolRef']!r}: give one"
            )
        body["extensions"] = {**extensions, "poolRef": pool}
    elif source in ("image", "snapshot_id") and body["resourceLimits"] is None:
        body["resourceLimits"] = dict(DEFAULT_RESOURCE_LIMITS)  # the API demands the field
    if source == "image" and body["entrypoint"] is None:
        body["entrypoint"] = list(DEFAULT_ENTRYPOINT)  # demanded with an image


def _expect(name: str, value: Any, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        raise InvalidArgumentError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")


def _argv(name: str, value: Any) -> Any:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or not value:
        raise InvalidArgumentError(
            f"{name} must be a list of words that is not empty, such as ['sleep', '60'], not {value!r}"
        )
    for word in value:
        if not isinstance(word, str) or "\0" in word:
            raise InvalidArgumentError(f"{name} must hold texts without NUL, not {word!r}")
    require_text(f"{name}[0]", value[0])
    return list(value)


def _volumes(volumes: Optional[Iterable[Volume]]) -> Any:
    if volumes is None:
        return []
    found, names = [], set()
    for volume in volumes:
        _expect("each of volumes", volume, Volume)
        if volume.name in names:
            raise InvalidArgumentError(f"volumes: two are named {volume.name!r}; each needs a name of its own")
        names.add(volume.name)
        found.append(encode(volume))
    return found
