"""The rules for metadata: Kubernetes labels, and the prefix `opensandbox.io/` is the server's own."""

from __future__ import annotations

import re
from typing import Dict, Mapping, Optional

from .errors import ApiError

RESERVED = "opensandbox.io/"
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def _is_key(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    if slash and not (_PREFIX.fullmatch(prefix) and len(prefix) <= 253):
        return False
    return len(name) <= 63 and bool(_NAME.fullmatch(name))


def check_labels(metadata: Mapping[str, str]) -> None:
    """Raises 400 `SANDBOX::INVALID_METADATA_LABEL` for the first entry that cannot be a label."""
    for key, value in metadata.items():
        if key.startswith(RESERVED):
            message = (
                f"Metadata key '{key}' uses the reserved prefix '{RESERVED}'. Keys under this prefix are "
                "managed by the system and cannot be set via metadata."
            )
        elif not _is_key(key):
            message = (
                f"Metadata key '{key}' is invalid: must be either a name or a DNS-subdomain prefix and name "
                "separated by /, where the name is up to 63 characters and matches "
                "[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?, and the optional prefix is a valid DNS subdomain "
                "up to 253 characters."
            )
        elif value and not (len(value) <= 63 and _NAME.fullmatch(value)):
            message = (
                f"Metadata value '{value}' is invalid: must be 63 characters or less, start/end with an "
                "alphanumeric character, and contain only alphanumeric, '-', '_', or '.' characters."
            )
        else:
            continue
        raise ApiError(400, "SANDBOX::INVALID_METADATA_LABEL", message)


def patched(metadata: Mapping[str, str], patch: Mapping[str, Optional[str]]) -> Dict[str, str]:
    """Applies a merge patch: null deletes, what is absent stays. A key to delete need not be a label."""
    for key in patch:
        if key.startswith(RESERVED):
            # The real server's code has no SANDBOX:: here, unlike that of check_labels.
            message = f"Metadata key '{key}' is reserved ({RESERVED} prefix)."
            raise ApiError(400, "INVALID_METADATA_LABEL", message)
    check_labels({key: value for key, value in patch.items() if value is not None})
    merged = {**metadata, **patch}
    return {key: value for key, value in merged.items() if value is not None}
