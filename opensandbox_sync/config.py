"""How to reach the server: ``ConnectionConfig`` and the default constants."""

from __future__ import annotations

import base64
import math
import os
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Optional, Tuple, Union
from urllib.parse import unquote, urlsplit

from ._version import __version__
from .errors import InvalidArgumentError

if TYPE_CHECKING:
    import requests

    from .retry import RetryPolicy

DEFAULT_EXECD_PORT = 44772
DEFAULT_EGRESS_PORT = 18080
DEFAULT_ENTRYPOINT = ["tail", "-f", "/dev/null"]
DEFAULT_RESOURCE_LIMITS = {"cpu": "1", "memory": "2Gi"}
DEFAULT_TIMEOUT_SECONDS = 600
DEFAULT_READY_TIMEOUT_SECONDS = 30
DEFAULT_HEALTH_CHECK_POLLING_INTERVAL_MILLIS = 200
DEFAULT_REQUEST_TIMEOUT_SECONDS = 30
#: The server reads language and version out of this shape.
DEFAULT_USER_AGENT = f"OpenSandbox-PythonSync-SDK/{__version__}"

Duration = Union[float, int, timedelta]


def seconds(name: str, value: Any, *, allow_zero: bool = False) -> float:
    """``value`` (seconds or a timedelta) as finite seconds above zero, or an error that names the argument."""
    if isinstance(value, timedelta):
        number = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    else:
        raise InvalidArgumentError(f"{name} must be seconds (a number) or a timedelta, not {value!r}")
    if not math.isfinite(number) or number < 0 or (number == 0 and not allow_zero):
        bound = "0 or more" if allow_zero else "more than 0"
        raise InvalidArgumentError(f"{name} must be finite and {bound} seconds, not {value!r}")
    return number


def check_callables(**given: Any) -> None:
    """Refuse what is given as a function of one argument, and is none."""
    for name, value in given.items():
        if value is not None and not callable(value):
            raise InvalidArgumentError(f"{name} must be a function of one argument, not {type(value).__name__}")


@dataclass(frozen=True)
class ConnectionConfig:
    """Everything a client needs to know to reach a server; the keywords of ``SandboxClient`` are these fields.

    ``domain`` and ``api_key`` fall back to ``$OPEN_SANDBOX_DOMAIN`` and ``$OPEN_SANDBOX_API_KEY``, then to
    ``localhost:8080`` and no key. A scheme in ``domain`` wins over ``protocol``. Durations are seconds or a timedelta.
    Raises ``InvalidArgumentError`` for a value that cannot work.
    """

    domain: Optional[str] = None
    api_key: Optional[str] = field(default=None, repr=False)
    protocol: str = "http"
    #: The whole of one call, all its retries included. Event streams and create have limits of their own.
    timeout: Duration = DEFAULT_REQUEST_TIMEOUT_SECONDS
    #: The longest silence of a running command's stream (the daemon pings every 3 s).
    idle_timeout: Duration = 30
    #: Sent to the lifecycle server only.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: Sent into sandboxes only.
    sandbox_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: False: straight to the sandbox. True: through the server. "auto": straight, and through the server where that
    #: fails.
    use_server_proxy: Union[bool, str] = False
    #: As in requests: True, False, or the path of a CA bundle. None: $REQUESTS_CA_BUNDLE, else True.
    verify: Union[bool, str, None] = None
    cert: Union[str, Tuple[str, str], None] = field(default=None, repr=False)
    retry: Optional[RetryPolicy] = None
    #: A ``requests.Session`` of yours (adapters, proxies, auth); it is used as it is and never closed by us.
    session: Optional[requests.Session] = field(default=None, repr=False)
    user_agent: str = DEFAULT_USER_AGENT
    #: Called with a ``RequestRecord`` / ``ResponseRecord`` for each attempt; secrets are already hidden.
    on_request: Optional[Callable[[Any], None]] = field(default=None, repr=False)
    on_response: Optional[Callable[[Any], None]] = field(default=None, repr=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        domain = self.domain if self.domain else os.environ.get("OPEN_SANDBOX_DOMAIN") or "localhost:8080"
        put(self, "domain", domain)
        if self.api_key is None or self.api_key == "":
            put(self, "api_key", os.environ.get("OPEN_SANDBOX_API_KEY") or None)
        put(self, "timeout", seconds("timeout", self.timeout))
        put(self, "idle_timeout", seconds("idle_timeout", self.idle_timeout))
        put(self, "headers", _checked_headers("headers", self.headers))
        put(self, "sandbox_headers", _checked_headers("sandbox_headers", self.sandbox_headers))
        if self.protocol not in ("http", "https"):
            raise InvalidArgumentError(f"protocol must be 'http' or 'https', not {self.protocol!r}")
        if self.use_server_proxy not in (True, False, "auto"):
            raise InvalidArgumentError(f"use_server_proxy must be True, False or 'auto', not {self.use_server_proxy!r}")
        self._check_objects()
        for name, value in (("api_key", self.api_key), ("user_agent", self.user_agent)):
            if value is not None:
                _checked_headers(name, {name: value})
        put(self, "_parsed", _parse_domain(domain, self.protocol))

    def _check_objects(self) -> None:
        """What is given as an object is known by what it can do, so that a mock is as good."""
        if self.retry is not None and not hasattr(self.retry, "delay"):
            raise InvalidArgumentError(f"retry must be a RetryPolicy, not {self.retry!r}")
        if self.session is not None and not hasattr(self.session, "send"):
            raise InvalidArgumentError(f"session must be a requests.Session, not {type(self.session).__name__}")
        if self.verify is not None and not isinstance(self.verify, (bool, str)):
            raise InvalidArgumentError(f"verify must be True, False or the path of a CA bundle, not {self.verify!r}")
        check_callables(on_request=self.on_request, on_response=self.on_response)

    @property
    def timeout_seconds(self) -> float:
        """``timeout`` in seconds."""
        return seconds("timeout", self.timeout)

    @property
    def idle_seconds(self) -> float:
        """``idle_timeout`` in seconds."""
        return seconds("idle_timeout", self.idle_timeout)

    @property
    def scheme(self) -> str:
        """``http`` or ``https``: the one scheme of every plane."""
        return self._parsed[0]  # type: ignore[attr-defined,no-any-return]

    @property
    def authority(self) -> str:
        """``host[:port]`` of the lifecycle server."""
        return self._parsed[1]  # type: ignore[attr-defined,no-any-return]

    @property
    def base_url(self) -> str:
        """The lifecycle API's address, with ``/v1`` and without user information."""
        scheme, authority, path, _ = self._parsed  # type: ignore[attr-defined]
        return f"{scheme}://{authority}{path}/v1"

    @property
    def lifecycle_headers(self) -> Dict[str, str]:
        """The headers of every lifecycle call; the API key stands last, so that nothing replaces it."""
        found = {"User-Agent": self.user_agent, **self._parsed[3], **self.headers}  # type: ignore[attr-defined]
        if self.api_key:
            found = {k: v for k, v in found.items() if k.lower() != "open-sandbox-api-key"}
            found["OPEN-SANDBOX-API-KEY"] = self.api_key
        return found

    def replace(self, **changes: Any) -> ConnectionConfig:
        """A copy with some fields changed; an unknown name is an ``InvalidArgumentError``."""
        known = {f.name for f in fields(self)}
        for name in changes:
            if name not in known:
                raise InvalidArgumentError(f"ConnectionConfig has no field {name!r}; it has {', '.join(sorted(known))}")
        return ConnectionConfig(**{**{name: getattr(self, name) for name in known}, **changes})

    def __repr__(self) -> str:
        key = "set" if self.api_key else "none"
        return f"ConnectionConfig({self.base_url!r}, api_key {key}, use_server_proxy={self.use_server_proxy!r})"


def _parse_domain(domain: Any, protocol: str) -> Tuple[str, str, str, Dict[str, str]]:
    """(scheme, host[:port], path prefix without /v1, headers for user information in the URL)."""
    wanted = "a host with an optional port, such as 'localhost:8080' or 'https://sandbox.example.com'"
    text = domain.strip() if isinstance(domain, str) else ""
    bare, mark, _ = text.partition("?")  # a query may be a secret, too
    shown = ("***@" + bare.rsplit("@", 1)[1] if "@" in bare else bare) + mark if text else domain
    try:
        url = urlsplit(text if "://" in text else f"{protocol}://{text}")
        port, host = url.port, url.hostname
    except ValueError as cause:
        raise InvalidArgumentError(f"domain {shown!r} cannot be read ({cause}); it must be {wanted}") from None
    bad = any(c.isspace() or ord(c) < 32 for c in text)
    if bad or not host or url.scheme not in ("http", "https") or url.query or url.fragment or port == 0:
        raise InvalidArgumentError(f"domain must be {wanted}, not {shown!r}")
    path = url.path.rstrip("/")
    if path.endswith("/v1"):
        path = path[:-3].rstrip("/")
    # As it stands in a Host header, and so in what the server answers: endpoints are compared with it.
    authority = url.netloc.rsplit("@", 1)[-1].lower()
    default_port = ":443" if url.scheme == "https" else ":80"
    if authority.endswith(default_port):
        authority = authority[: -len(default_port)]
    headers = {}
    if url.username is not None:
        pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    return url.scheme, authority, path, headers


def _checked_headers(name: str, headers: Any) -> Dict[str, str]:
    if not isinstance(headers, Mapping):
        raise InvalidArgumentError(f"{name} must be a mapping of text to text, not {type(headers).__name__}")
    for key, value in headers.items():
        if not isinstance(key, str) or not key or not isinstance(value, str):
            raise InvalidArgumentError(f"{name} must map text to text; {key!r} does not")
        # The value is never shown: it may be a secret.
        if any(c in "\r\n\0" for c in key + value) or value != value.strip() or ":" in key:
            raise InvalidArgumentError(
                f"{name}: {key!r} has a line break, a NUL or outer white space, which HTTP cannot send"
            )
        try:
            value.encode("latin-1")
        except UnicodeEncodeError:
            raise InvalidArgumentError(
                f"{name}: {key!r} has a character outside Latin-1, which HTTP cannot send"
            ) from None
    return dict(headers)
