"""The requests of what needs Kubernetes, pools and templates: they are checked, and then refused."""

from __future__ import annotations

from typing import Any

from .errors import ApiError
from .schema import Problems, Where, array, defaulted, integer, mapping, model, one_of, optional, required, text

NO_POOLS = ApiError(
    501,
    "KUBERNETES::POOL_NOT_SUPPORTED",
    "Pool management is only available when runtime.type is 'kubernetes'.",
)
NO_TEMPLATES = ApiError(501, "FSB::API_NOT_SUPPORTED", "Template management requires the kubernetes runtime.")


def _anything(value: Any, where: Where, problems: Problems) -> Any:
    return value


_COUNT = required(integer(least=0))
_CAPACITY = required(model({"bufferMax": _COUNT, "bufferMin": _COUNT, "poolMax": _COUNT, "poolMin": _COUNT}))
_STRINGS = optional(mapping(text()))
NEW_POOL = model(
    {
        "name": required(text(longest=253, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")),
        "template": required(mapping(_anything)),
        "capacitySpec": _CAPACITY,
    }
)
POOL_UPDATE = model({"capacitySpec": _CAPACITY})
NEW_TEMPLATE = model(
    {
        "image": required(text(shortest=1)),
        "resourceLimits": _STRINGS,
        "entrypoint": optional(array(text(), shortest=1)),
        "env": _STRINGS,
        "metadata": _STRINGS,
        "readiness": optional(model({"probe": optional(text()), "warmupSeconds": optional(integer(least=0))})),
        "publish": required(text(shortest=1)),
        "format": defaulted(one_of("native", "overlaybd")),
    },
    closed=True,
)
