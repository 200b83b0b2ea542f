"""How to reach the server: ``ConnectionConfig`` and the default constants."""

from __future__ import annotations

import base64
import math
import os
import re
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Optional, Tuple, Union
from urllib.parse import unquote, urlsplit

from ._version import __version__
from .errors import InvalidArgumentError
from .models import is_text, require_text, shown

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

#: Seconds; the longest duration that any argument takes (31 years). In nanoseconds, which sockets, locks and the
#: daemon count in, it fits 64 bits.
LONGEST_SECONDS = 10**9

Duration = Union[float, int, timedelta]

# RFC 9110: what a header's name may consist of, and what its value may not hold.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]*")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def seconds(name: str, value: Any, *, allow_zero: bool = False) -> float:
    """``value`` (seconds or a timedelta) as seconds above zero, at most ``LONGEST_SECONDS``, or an error that names the
    argument.
    """
    if isinstance(value, timedelta):
        number = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    else:
        raise InvalidArgumentError(f"{name} must be seconds (a number) or a timedelta, not {shown(value)}")
    if not 0 <= number <= LONGEST_SECONDS or (number == 0 and not allow_zero):
        bound = "0 or more" if allow_zero else "more than 0"
        raise InvalidArgumentError(
            f"{name} must be finite and {bound} seconds, at most {LONGEST_SECONDS}, not {shown(value)}"
        )
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
        domain = self.domain
        if domain is None or domain == "":
            domain = os.environ.get("OPEN_SANDBOX_DOMAIN") or "localhost:8080"
        put(self, "domain", domain)
        if self.api_key is None or self.api_key == "":
            put(self, "api_key", os.environ.get("OPEN_SANDBOX_API_KEY") or None)
        put(self, "timeout", seconds("timeout", self.timeout))
        put(self, "idle_timeout", seconds("idle_timeout", self.idle_timeout))
        put(self, "headers", checked_headers("headers", self.headers))
        put(self, "sandbox_headers", checked_headers("sandbox_headers", self.sandbox_headers))
        if self.protocol not in ("http", "https"):
            raise InvalidArgumentError(f"protocol must be 'http' or 'https', not {shown(self.protocol)}")
        if not isinstance(self.use_server_proxy, bool) and self.use_server_proxy != "auto":
            raise InvalidArgumentError(
                f"use_server_proxy must be True, False or 'auto', not {shown(self.use_server_proxy)}"
            )
        self._check_objects()
        checked_headers("user_agent", {"user_agent": require_text("user_agent", self.user_agent)})
        if self.api_key is not None and not isinstance(self.api_key, str):
            raise InvalidArgumentError(f"api_key must be text, not {type(self.api_key).__name__}")
        if self.api_key is not None:
            checked_headers("api_key", {"api_key": self.api_key})
        put(self, "_parsed", _parse_domain(domain, self.protocol))

    def _check_objects(self) -> None:
        """What is given as an object is known by what it can do, so that a mock is as good."""
        # A class has the methods, too, and answers none of them.
        if self.retry is not None and (isinstance(self.retry, type) or not hasattr(self.retry, "delay")):
            raise InvalidArgumentError(f"retry must be a RetryPolicy, such as RetryPolicy(), not {shown(self.retry)}")
        if self.session is not None and (isinstance(self.session, type) or not hasattr(self.session, "send")):
            raise InvalidArgumentError(f"session must be a requests.Session(), not {_kind(self.session)}")
        # An empty path would turn the verification off.
        if self.verify is not None and not isinstance(self.verify, bool) and not _is_path(self.verify):
            raise InvalidArgumentError(
                f"verify must be True, False or the path of a CA bundle (text), not {shown(self.verify)}"
            )
        pair = isinstance(self.cert, (tuple, list)) and len(self.cert) == 2
        if self.cert is not None and not all(map(_is_path, self.cert if pair else (self.cert,))):
            raise InvalidArgumentError(
                f"cert must be the path of a certificate, or a pair of its path and its key's, not {_kind(self.cert)}"
            )
        check_callables(on_request=self.on_request, on_response=self.on_response)

    @property
    def timeout_seconds(self) -> float:
        """``timeout`` in seconds."""
        return self.timeout  # type: ignore[return-value]  # a float since __post_init__

    @property
    def idle_seconds(self) -> float:
        """``idle_timeout`` in seconds."""
        return self.idle_timeout  # type: ignore[return-value]  # a float since __post_init__

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


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _is_path(value: Any) -> bool:
    return is_text(value) and value != ""


_A_DOMAIN = "a host with an optional port, such as 'localhost:8080' or 'https://sandbox.example.com'"


def _parse_domain(domain: Any, protocol: str) -> Tuple[str, str, str, Dict[str, str]]:
    """(scheme, host[:port], path prefix without /v1, headers for user information in the URL)."""
    if not isinstance(domain, str):
        raise InvalidArgumentError(f"domain must be {_A_DOMAIN}, not {type(domain).__name__}")
    text = domain.strip()
    try:
        url = urlsplit(text if "://" in text else f"{protocol}://{text}")
        port, host = url.port, url.hostname
    except ValueError:  # its text may repeat a part of a password
        raise InvalidArgumentError(f"domain must be {_A_DOMAIN}, not {_without_secrets(text)}") from None
    # An '@' behind the host ends a password that has a '/' in it.
    bad = not is_text(text) or any(c.isspace() or ord(c) < 32 for c in text) or "@" in url.path
    if bad or not host or url.scheme not in ("http", "https") or url.query or url.fragment or port == 0:
        raise InvalidArgumentError(f"domain must be {_A_DOMAIN}, not {_without_secrets(text)}")
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


def _without_secrets(text: str) -> str:
    """A domain that was refused, for the error's text: user information, queries and fragments may be secrets."""
    user, at, rest = text.rpartition("@")
    if not at:
        bare = re.split("[?#]", text)[0]
        return shown(bare) + (" and what follows it" if bare != text else "")
    if re.search("[/?#]", user.partition("://")[2] or user):
        # Where the password ends is anyone's guess.
        return "this one; in a password '#' is written %23, '/' %2F, '?' %3F, and '@' %40"
    return shown("***@" + re.split("[?#]", rest)[0])


def checked_headers(name: str, headers: Any) -> Dict[str, str]:
    """Headers that HTTP can send; their values are never shown, since they may be secrets."""
    if not isinstance(headers, Mapping):
        raise InvalidArgumentError(f"{name} must be a mapping of text to text, not {type(headers).__name__}")
    for key, value in headers.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidArgumentError(
                f"{name} must map text to text, not {type(key).__name__} to {type(value).__name__}"
            )
        # Only what is a name for sure: someone may have put "Name: value" here.
        known = _HEADER_NAME.match(key)
        begin = known.group() if known else ""
        if begin != key or not key:
            raise InvalidArgumentError(
                f"{name}: the name of a header must be of ASCII letters, digits and !#$%&'*+-.^_`|~; "
                f"the one that begins with {shown(begin)} is not"
            )
        if _CONTROL.search(value) or value != value.strip():
            raise InvalidArgumentError(
                f"{name}: {key!r} has a line break, a control character or outer white space, which HTTP cannot send"
            )
        try:
            value.encode("latin-1")
        except UnicodeEncodeError:
            raise InvalidArgumentError(
                f"{name}: {key!r} has a character outside Latin-1, which HTTP cannot send"
            ) from None
    return dict(headers)
