"""Volumes: checked as the real server does. Without isolation nothing can be mounted, and they are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from .errors import ApiError
from .schema import Invalid, array, boolean, defaulted, model, one_of, optional, required, text

_NAME = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"


def _credentials_are_there(ossfs: Dict[str, Any]) -> None:
    if not ossfs.get("accessKeyId") or not ossfs.get("accessKeySecret"):
        raise Invalid("OSSFS inline credentials are required: accessKeyId and accessKeySecret.")


def _one_backend(volume: Dict[str, Any]) -> None:
    given = [kind for kind in ("host", "pvc", "ossfs") if volume.get(kind) is not None]
    if len(given) != 1:
        found = "multiple were provided" if given else "none was provided"
        raise Invalid(f"Exactly one backend (host, pvc, ossfs) must be specified, but {found}.")


_HOST = model({"path": required(text(pattern=r"^(/|[A-Za-z]:[\\/])"))})
_PVC = model(
    {
        "claimName": required(text(longest=253, pattern=_NAME)),
        "createIfNotExists": defaulted(boolean),
        "deleteOnSandboxTermination": defaulted(boolean),
        "storageClass": optional(text()),
        "storage": optional(text(pattern=r"^\d+(\.\d+)?(Ki|Mi|Gi|Ti|Pi|Ei)?$")),
        "accessModes": optional(array(text())),
    }
)
_OSSFS = model(
    {
        "bucket": required(text(shortest=3, longest=63)),
        "endpoint": required(text(shortest=1)),
        "version": defaulted(one_of("1.0", "2.0")),
        "options": optional(array(text())),
        "accessKeyId": optional(text(shortest=1)),
        "accessKeySecret": optional(text(shortest=1)),
    },
    rule=_credentials_are_there,
)
VOLUME = model(
    {
        "name": required(text(longest=63, pattern=_NAME)),
        "host": optional(_HOST),
        "pvc": optional(_PVC),
        "ossfs": optional(_OSSFS),
        "mountPath": required(text(pattern="^/.*")),
        "readOnly": defaulted(boolean),
        "subPath": optional(text()),
    },
    rule=_one_backend,
)


def check_volumes(volumes: Sequence[Dict[str, Any]], allowed_host_paths: Sequence[str], can_mount: bool) -> None:
    """Raises 400 for the first volume that is wrong, or cannot be mounted here."""
    seen = set()
    for volume in volumes:
        if volume["name"] in seen:
            raise refusal(
                "DUPLICATE_NAME",
                f"Duplicate volume name '{volume['name']}'. Each volume must have a unique name.",
            )
        seen.add(volume["name"])
        _check_sub_path(volume.get("subPath"))
        if volume.get("host"):
            _check_host_path(volume["host"]["path"], allowed_host_paths)
        elif volume.get("ossfs"):
            _check_ossfs(volume["ossfs"])
    for volume in volumes:
        if can_mount and volume.get("ossfs"):
            message = f"Volume '{volume['name']}' cannot be mounted: this server has no OSSFS backend."
            raise refusal("UNSUPPORTED_BACKEND", message)
        if can_mount:
            continue
        pvc = volume.get("pvc")
        if pvc and not pvc.get("createIfNotExists", True):
            raise refusal(
                "PVC_NOT_FOUND",
                f"Volume '{volume['name']}': Docker named volume '{pvc['claimName']}' does not exist. "
                "Named volumes must be created before sandbox creation.",
            )
        raise refusal(
            "UNSUPPORTED_BACKEND",
            f"Volume '{volume['name']}' cannot be mounted at '{volume['mountPath']}': this server runs "
            "sandboxes as plain processes without isolation, so there is no file system of their own to "
            "mount into. Use the paths of this machine as they are.",
        )


def refusal(code: str, message: str) -> ApiError:
    return ApiError(400, f"VOLUME::{code}", message)


def _check_sub_path(sub_path: Optional[str]) -> None:
    if sub_path and sub_path.startswith("/"):
        raise refusal("INVALID_SUB_PATH", f"SubPath '{sub_path}' must be a relative path, not absolute.")
    if sub_path and ".." in sub_path.split("/"):
        message = f"SubPath '{sub_path}' contains path traversal '..' which is not allowed."
        raise refusal("INVALID_SUB_PATH", message)


def _check_host_path(path: str, allowed: Sequence[str]) -> None:
    if ".." in re.split(r"[\\/]", path):
        raise refusal("INVALID_HOST_PATH", f"Host path '{path}' contains path traversal component '..'.")
    if "//" in path or (path.endswith("/") and path != "/"):
        raise refusal("INVALID_HOST_PATH", f"Host path '{path}' is not normalized. Remove redundant slashes.")
    if not any(is_under(path, prefix) for prefix in allowed):
        shown = [str(prefix) for prefix in allowed]
        raise refusal(
            "HOST_PATH_NOT_ALLOWED",
            f"Host path '{path}' is not under any allowed prefix. Allowed prefixes: {shown}",
        )


def is_under(path: str, prefix: str) -> bool:
    """Whether the path lies under the prefix, both as it is written and where its symlinks lead."""
    root = Path(prefix)
    try:
        return _within(Path(path), root) and _within(Path(path).resolve(), root.resolve())
    except (OSError, ValueError, RuntimeError):  # a NUL, a loop of symlinks
        return False


def _within(path: Path, root: Path) -> bool:
    return path == root or root in path.parents


def _check_ossfs(ossfs: Dict[str, Any]) -> None:
    options: List[str] = ossfs.get("options") or []
    if not ossfs["bucket"].strip():
        raise refusal("INVALID_OSSFS_BUCKET", "OSSFS bucket cannot be empty.")
    if not ossfs["endpoint"].strip():
        raise refusal("INVALID_OSSFS_ENDPOINT", "OSSFS endpoint cannot be empty.")
    for option in options:
        if not option.strip():
            raise refusal("INVALID_OSSFS_OPTION", "OSSFS options must be non-empty strings.")
        if option.strip().startswith("-"):
            raise refusal(
                "INVALID_OSSFS_OPTION",
                "OSSFS options must be raw option payloads without '-' prefix (e.g. 'allow_other', 'uid=1000').",
            )
