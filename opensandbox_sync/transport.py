"""The one way to the wire: ``request`` for an answer, ``stream`` for a body as it comes.

It knows connections, deadlines, retries and errors, and knows no resource. It is the only file that imports requests.
Every request goes through ``HTTPAdapter.send``, so that mocks see all traffic. What a ``requests.Session`` works out
anew for each call (environment, proxies, cookies, ``.netrc``) is worked out once per client and host; a session that
the user brings is used as it is, with all of that.
"""

from __future__ import annotations

import json as jsonlib
import logging
import math
import os
import socket
import ssl
import threading
import time
import uuid
import weakref
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple, Type, TypeVar, Union
from urllib.parse import quote, urlencode, urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_environ_proxies

from . import connections
from .chunked import Dechunker
from .codec import decode, without_lone_surrogates
from .config import ConnectionConfig
from .errors import (
    ApiError,
    ClosedError,
    ConnectError,
    InvalidArgumentError,
    ProtocolError,
    RequestTimeoutError,
    SandboxError,
    TransportError,
    api_error_class,
)
from .retry import RetryPolicy

logger = logging.getLogger("opensandbox_sync")

#: Seconds; a connection is made, or it is not.
CONNECT_TIMEOUT = 10.0
_BLOCK = 64 * 1024  # larger reads fall out of the cache, and are slower
_FILE_BLOCK = 256 * 1024  # but the fewer calls of it are faster where a whole file is known to come
_ERROR_BODY_BYTES = 64 * 1024
_ERROR_BODY_SECONDS = 5.0
_MOST_BYTES = 2**60  # what a length above this promises is not there
_POOLS = 256  # servers whose connections are kept
_CONNECTIONS = 256  # that are kept to one of them
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_BEFORE_SENDING = (
    requests.exceptions.ConnectTimeout,
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ClosedPoolError,
    ssl.SSLCertVerificationError,
)

# Not as ASCII: half of a surrogate pair, which is no text, would go out as an escape and arrive as another.
_to_json = jsonlib.JSONEncoder(allow_nan=False, ensure_ascii=False).encode

T = TypeVar("T")
# socket.timeout is a class of its own before Python 3.10.
_TIMEOUTS = (TimeoutError, socket.timeout, requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)

Params = Union[Mapping[str, Any], Iterable[Tuple[str, Any]], None]


class Plane:
    """Where calls go: a base URL and the headers that belong to it."""

    def __init__(self, base_url: str, headers: Mapping[str, str]) -> None:
        self._base_url = base_url
        self._headers = dict(headers)

    def resolve(self, deadline: Optional[float]) -> Tuple[str, Dict[str, str]]:
        """(base URL, headers); ``deadline`` (monotonic) bounds what has to be asked for that."""
        return self._base_url, self._headers

    def forget(self) -> None:
        """The address did not answer: look it up anew next time, where it was looked up."""


@dataclass
class RequestRecord:
    """What ``on_request`` is told of one attempt; secrets are hidden."""

    method: str
    url: str
    headers: Dict[str, str]
    attempt: int


@dataclass
class ResponseRecord:
    """What ``on_response`` is told of one attempt: the ``status_code``, or None and the ``error``; ``elapsed`` in
    seconds.
    """

    request: RequestRecord
    status_code: Optional[int]
    elapsed: float
    request_id: Optional[str]
    error: Optional[str]


class Answer:
    """A whole answer: ``status``, ``headers`` (case-insensitive), ``content`` (bytes), ``request_id``."""

    def __init__(
        self, status: int, headers: Mapping[str, str], content: bytes, action: str, request_id: Optional[str]
    ) -> None:
        self.status = status
        self.headers = headers
        self.content = content
        self.request_id = request_id
        self._action = action

    def json(self) -> Any:
        """The parsed body; raises ``ProtocolError`` where it is not JSON."""
        try:
            data = jsonlib.loads(self.content.decode("utf-8"))
            return without_lone_surrogates(data) if b"\\u" in self.content else data
        except (ValueError, RecursionError):
            # Not shown, and no cause that shows it: there may be a token in it.
            what = "an HTML page" if self.content.lstrip()[:1] == b"<" else f"{len(self.content)} bytes"
            raise ProtocolError(
                f"could not {self._action}: the server answered {self.status} with {what}, which is not JSON",
                request_id=self.request_id,
            ) from None

    def read(self, decode: Callable[[Any], T]) -> T:
        """What ``decode`` makes of the parsed body; a ``ProtocolError`` has the request's id."""
        try:
            return decode(self.json())
        except ProtocolError as error:
            error.request_id = error.request_id or self.request_id
            raise

    def decode(self, model: Type[T]) -> T:
        """The body as ``model``."""
        return self.read(partial(decode, model))


class Transport:
    """Makes the calls of one client; safe to share between threads, and usable on both sides of a fork."""

    def __init__(self, config: ConnectionConfig) -> None:
        self.config = config
        self._retry = config.retry or RetryPolicy()
        self._verify = config.verify
        if self._verify is None:
            self._verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._begin()

    def _begin(self) -> None:
        """Connections for this process: a fork shares sockets with its parent, and both would read from them."""
        # By id, so that others may add to them while close() goes through them.
        self._connections: Any = weakref.WeakValueDictionary()
        self._bodies: Any = weakref.WeakValueDictionary()
        self._proxies: Dict[Tuple[str, str], Dict[str, str]] = {}
        self._bases: Dict[str, str] = {}
        self._adapter = None if self.config.session is not None else _Adapter(self._connections, self._closed)
        self._pid = os.getpid()  # last: who sees it takes what stands above

    # -- the two ways -----------------------------------------------------------------------------------------------

    def request(
        self,
        plane: Plane,
        method: str,
        path: str,
        *,
        action: str,
        params: Params = None,
        json: Any = None,
        data: Any = None,
        headers: Optional[Mapping[str, str]] = None,
        timeout: Optional[float] = None,
        idle: Optional[float] = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        retry: bool = True,
        opening: Optional[connections.Opening] = None,
    ) -> Answer:
        """Send a request and return its whole answer, 2xx only.

        ``action`` completes "could not …" in errors. ``timeout`` (seconds; default: the config's) is for all attempts
        together. A transfer that may be long has ``idle`` (seconds) instead, which limits each silence alone.
        ``opening`` keeps the answer's start.
        """
        deadline = math.inf
        if idle is None:
            deadline = time.monotonic() + (self.config.timeout_seconds if timeout is None else timeout)
        body, kind = _encoded(json, data)
        attempt, may_be_done = 0, False
        while True:
            attempt += 1
            call = _Call(self, plane, method, path, params, headers, action, attempt)
            try:
                limit = connections.Limit(deadline if idle is None else None, idle)
                limit.opening = opening
                response = call.send(body, kind, limit, connect_timeout)
                if response.status_code == 404 and method == "DELETE" and may_be_done:
                    call.refused(response, limit)  # an attempt before this one did it, and only its answer was lost
                    return Answer(204, response.headers, b"", action, call.request_id)
                if not 200 <= response.status_code < 300:
                    raise call.refused(response, limit)
                try:
                    content = call.guard(partial(_content, response))
                except BaseException:
                    response.raw.close()  # what is left of this answer must not be taken for the next one
                    raise
                finally:
                    response.raw.release_conn()
                return Answer(response.status_code, response.headers, content, action, call.request_id)
            except (ApiError, TransportError) as error:
                if not call.has_no_address and _may_have_been_done(error):
                    may_be_done = True
                wait = self._wait_before_retry(error, call, deadline) if retry else None
                if wait is None:
                    raise
            self.sleep(wait)

    def stream(
        self,
        plane: Plane,
        method: str,
        path: str,
        *,
        action: str,
        params: Params = None,
        json: Any = None,
        headers: Optional[Mapping[str, str]] = None,
        idle: Optional[float] = None,
        deadline: Optional[float] = None,
        opening: Optional[connections.Opening] = None,
    ) -> Body:
        """Send a request and return its body as it comes; only a 2xx has one.

        ``idle`` is the longest silence (seconds), ``deadline`` a monotonic time for the whole. ``opening``
        keeps the answer's start. A POST that left is not repeated.
        """
        body, kind = _encoded(json, None)
        attempt = 0
        while True:
            attempt += 1
            call = _Call(self, plane, method, path, params, headers, action, attempt)
            limit = connections.Limit(deadline, idle)
            limit.opening = opening
            try:
                response = call.send(body, kind, limit, CONNECT_TIMEOUT)
                if not limit.taken:
                    limit.opening = None  # not by a connection of ours: it heard nothing
                if 200 <= response.status_code < 300:
                    return Body(self, call, response, limit)
                raise call.refused(response, limit)
            except (ApiError, TransportError) as error:
                wait = self._wait_before_retry(error, call, math.inf if deadline is None else deadline)
                if wait is None:
                    raise
            self.sleep(wait)

    # -- life -------------------------------------------------------------------------------------------------------

    def sleep(self, seconds: float) -> None:
        """Wait; a ``close()`` in another thread ends the wait with ``ClosedError``."""
        if self._closed.wait(seconds):
            raise ClosedError("the client was closed while a call waited")

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        """End all calls, also those of other threads, and close all connections but a user's session."""
        with self._lock:
            self._closed.set()
            if self._pid != os.getpid():
                return  # the parent's connections are the parent's to close
            for reference in self._bodies.valuerefs() + self._connections.valuerefs():
                alive = reference()
                if alive is not None:
                    alive.end()
            if self._adapter is not None:
                self._adapter.close()

    def forget(self, base_url: str) -> None:
        """Close the idle connections to an address that is gone; those to the server's own proxy are everybody's."""
        if self._adapter is not None and self._pid == os.getpid() and _authority(base_url) != self.config.authority:
            self._adapter.forget(_authority(self.normalised(base_url)))
        self._bases.pop(base_url, None)

    # -- inside -----------------------------------------------------------------------------------------------------

    def adapter(self) -> Optional[HTTPAdapter]:
        """This process's adapter; None where a user's session is used."""
        if self._closed.is_set():
            raise ClosedError("the client is closed; make a new SandboxClient")
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._begin()
        return self._adapter

    def normalised(self, base_url: str) -> str:
        """``base_url`` as requests would send it (international host names in ASCII); worked out once."""
        known = self._bases.get(base_url)
        if known is None:
            prepared = requests.PreparedRequest()
            try:
                prepared.prepare_url(base_url, None)
            except requests.exceptions.RequestException as cause:
                raise InvalidArgumentError(
                    f"{without_secrets(base_url)!r} is no address to connect to: {cause}"
                ) from cause
            known = self._bases[base_url] = (prepared.url or "").rstrip("/")
        return known

    def proxies(self, url: str) -> Dict[str, str]:
        """The environment's proxies for ``url``; none for loopback. Worked out once per host."""
        parts = urlsplit(url)
        key = (parts.scheme, parts.hostname or "")
        found = self._proxies.get(key)
        if found is None:
            loopback = key[1] in _LOOPBACK or key[1].startswith("127.")
            found = self._proxies[key] = {} if loopback else dict(get_environ_proxies(url, no_proxy=None))
        return found

    def _wait_before_retry(self, error: SandboxError, call: _Call, deadline: float) -> Optional[float]:
        """Seconds before the next attempt; None where there is none."""
        if isinstance(error, RequestTimeoutError) or call.has_no_address:
            return None  # the one deadline of all attempts has passed; or the look-up had attempts of its own
        api = error if isinstance(error, ApiError) else None
        wait = self._retry.delay(
            call.attempt,
            repeatable=call.method in _REPEATABLE,
            status=api.status_code if api else None,
            retry_after=api.retry_after if api else None,
            unsent=isinstance(error, ConnectError),
        )
        if wait is None or time.monotonic() + wait >= deadline:
            return None
        logger.debug(
            "%s %s failed (%s); attempt %d in %.2f s", call.method, call.shown, error.code, call.attempt + 1, wait
        )
        return wait


class _Call:
    """One attempt: builds the request, sends it, and turns whatever goes wrong into an error of ours."""

    def __init__(
        self,
        transport: Transport,
        plane: Plane,
        method: str,
        path: str,
        params: Params,
        headers: Optional[Mapping[str, str]],
        action: str,
        attempt: int,
    ) -> None:
        self.transport = transport
        self.plane = plane
        self.method = method
        self.path = path
        self.params = params
        self.headers = headers
        self.action = action
        self.attempt = attempt
        self.url = ""
        self.request_id: Optional[str] = None
        self._limit: Optional[connections.Limit] = None

    @property
    def has_no_address(self) -> bool:
        """Whether the address is not known yet: what goes wrong now is the look-up's."""
        return not self.url

    @property
    def shown(self) -> str:
        """The URL as it may be shown: without user information and without its query."""
        return without_secrets(self.url)

    def send(
        self, body: Any, kind: Optional[str], limit: connections.Limit, connect_timeout: float
    ) -> requests.Response:
        transport = self.transport
        adapter = transport.adapter()
        base, plane_headers = self.plane.resolve(limit.deadline)
        self.url = transport.normalised(base) + self.path
        if self.params:
            query = urlencode(_pairs(self.params), quote_via=quote)
            self.url += "?" + query if query else ""
        headers: Any = CaseInsensitiveDict(plane_headers)
        headers["Accept-Encoding"] = "identity"  # a compressing proxy would hold events back
        headers.setdefault("Accept", "application/json")
        if kind:
            headers["Content-Type"] = kind
        if body is not None and hasattr(body, "__len__"):
            headers["Content-Length"] = str(len(body))
        elif body is None and self.method in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = "0"
        headers.update(self.headers or {})
        self.request_id = headers.get("X-Request-ID")
        self._limit = limit
        limit.once = self.method not in _REPEATABLE
        record = self._tell_request(headers)
        started = time.monotonic()
        response: Optional[requests.Response] = None
        failure: Optional[SandboxError] = None
        try:
            response = sent = self.guard(partial(self._send, adapter, headers, body, limit, connect_timeout))
            self.request_id = sent.headers.get("X-Request-ID") or self.request_id
            return sent  # type: ignore[no-any-return]
        except SandboxError as error:
            failure = error
            if isinstance(error, ConnectError):
                self.plane.forget()
            raise
        finally:
            self._tell_response(record, response, failure, time.monotonic() - started)
            failure = None  # its traceback leads here: a circle would hold what its caller drops

    def _send(
        self,
        adapter: Optional[HTTPAdapter],
        headers: Any,
        body: Any,
        limit: connections.Limit,
        connect_timeout: float,
    ) -> requests.Response:
        wait = limit.wait()
        timeout = (connect_timeout if wait is None else min(connect_timeout, wait), wait)
        if adapter is None:
            return self._send_with_session(headers, body, timeout)
        prepared = requests.PreparedRequest()
        prepared.method, prepared.url, prepared.headers, prepared.body = self.method, self.url, headers, body
        prepared.hooks = {"response": []}
        proxies, config = self.transport.proxies(self.url), self.transport.config
        connections.current.limit = limit
        try:
            # By name, as requests itself does: mocks before responses 0.24 take it no other way.
            return adapter.send(
                prepared,
                stream=True,
                timeout=timeout,  # type: ignore[arg-type]
                verify=self.transport._verify,  # type: ignore[arg-type]
                cert=config.cert,
                proxies=proxies,
            )
        finally:
            connections.current.limit = None

    def _send_with_session(self, headers: Any, body: Any, timeout: Any) -> requests.Response:
        session, config = self.transport.config.session, self.transport.config
        assert session is not None
        # A callable auth that adds nothing keeps .netrc from replacing an Authorization header of ours.
        auth = session.auth or (lambda request: request)
        prepared = session.prepare_request(
            requests.Request(self.method, self.url, headers=headers, data=body, auth=auth)
        )
        if body is not None and not isinstance(body, bytes):
            prepared.body = body
        settings = session.merge_environment_settings(prepared.url, {}, True, config.verify, config.cert)
        if not self.transport.proxies(self.url):
            settings["proxies"] = dict(session.proxies)  # the environment's are not for this address, such as loopback
        return session.send(prepared, timeout=timeout, allow_redirects=False, **settings)

    # -- errors -----------------------------------------------------------------------------------------------------

    def guard(self, act: Callable[[], Any]) -> Any:
        """Do ``act``; what requests, urllib3 and the socket raise becomes an error of ours, with the original as its
        cause.
        """
        try:
            return act()
        except SandboxError:
            raise
        except (
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
            ValueError,
            OverflowError,
        ) as cause:
            raise self.failed(cause) from cause
        except AttributeError as cause:
            # close() in another thread takes the socket from under http.client, which then finds None.
            if self.transport.closed:
                raise self.failed(cause) from cause
            raise

    def failed(self, cause: BaseException) -> SandboxError:
        """The error for a call that got no whole answer."""
        if self._limit is not None:
            self._limit.forget_opening()
        if self.transport.closed:
            return ClosedError(
                f"could not {self.action}: the client was closed during the call", request_id=self.request_id
            )
        chain = _chain(cause)
        _hide(urlsplit(self.url).query, chain)
        where = f"{self.method} {self.shown}"
        sent = self._limit is not None and self._limit.sent
        if isinstance(cause, (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader)) and not sent:
            return InvalidArgumentError(f"could not {self.action}: {where} cannot be sent: {_last(chain)}")
        if self._is_unsent(chain):
            error = ConnectError(
                f"could not {self.action}: no connection to {_authority(self.url)}: {_reason(chain)}"
                + self._hint(chain),
                request_id=self.request_id,
            )
            error.address = _authority(self.url)
            return error
        if any(isinstance(error, _TIMEOUTS) for error in chain):
            return RequestTimeoutError(
                f"could not {self.action}: no whole answer to {where} in time", request_id=self.request_id
            )
        return TransportError(
            f"could not {self.action}: the connection to {_authority(self.url)} broke during {where}: {_reason(chain)}",
            request_id=self.request_id,
        )

    def _is_unsent(self, chain: List[BaseException]) -> bool:
        if isinstance(chain[0], requests.exceptions.ReadTimeout):
            return False
        if self._limit is not None and self._limit.taken:
            return not self._limit.sent
        # Connections of a user's session, and mocks, do not say whether they sent; these are raised before they do. (To
        # urllib3 1.26 a refused connection is a kind of timeout.)
        return any(isinstance(error, _BEFORE_SENDING) for error in chain)

    def _hint(self, chain: List[BaseException]) -> str:
        config = self.transport.config
        if _authority(self.url) != config.authority:
            if config.use_server_proxy is False:
                return "; if the sandbox cannot be reached from here, set use_server_proxy=True or 'auto'"
            return ""
        if any(isinstance(e, (requests.exceptions.SSLError, urllib3.exceptions.SSLError)) for e in chain):
            return "; verify= takes the path of your CA bundle"
        return (
            "; is the server running, and is domain= (or $OPEN_SANDBOX_DOMAIN) right? "
            "`python -m opensandbox_sync.local` starts the embedded one"
        )

    def refused(self, response: requests.Response, limit: connections.Limit) -> ApiError:
        """The error for an answer that is not a 2xx. A body that does not come whole takes nothing from its status."""
        limit.forget_opening()
        soon = time.monotonic() + _ERROR_BODY_SECONDS
        limit.deadline = soon if limit.deadline is None else min(limit.deadline, soon)
        content, whole = b"", False
        try:
            while len(content) < _ERROR_BODY_BYTES and not whole:
                left = _ERROR_BODY_BYTES - len(content)
                block = self.guard(partial(response.raw.read, left, decode_content=True))
                content += block
                whole = not block
        except ClosedError:
            raise
        except SandboxError:
            pass
        finally:
            if not whole:
                response.raw.close()
            response.raw.release_conn()
        body = _without_inputs(content.decode("utf-8", "replace"))
        code, message = error_of_body(body)
        message = message.encode("utf-8", "backslashreplace").decode()  # a message that cannot be printed says nothing
        status = response.status_code
        text = f"could not {self.action}: the server answered {status}"
        if 300 <= status < 400:
            where = without_secrets(response.headers.get("Location", "nowhere"))
            text += f", a redirect to {where}; redirects are not followed: set domain= to the final address"
        else:
            text += (f" {code}" if code else "") + (f": {message}" if message else "")
        if code in ("MISSING_API_KEY", "INVALID_API_KEY"):  # not a sandbox's own 401, which is about its token
            text += " (api_key=, or $OPEN_SANDBOX_API_KEY, is what the server checks)"
        text += f" [{self.method} {self.shown}" + (f", request id {self.request_id}]" if self.request_id else "]")
        kind = api_error_class(status)
        return kind(
            text,
            code=code,
            request_id=self.request_id,
            status_code=status,
            body=body,
            retry_after=_retry_after(response.headers),
        )

    # -- what users can watch ---------------------------------------------------------------------------------------

    def _tell_request(self, headers: Mapping[str, str]) -> Optional[RequestRecord]:
        config = self.transport.config
        if config.on_request is None and config.on_response is None and not logger.isEnabledFor(logging.DEBUG):
            return None
        record = RequestRecord(self.method, self.shown, _hidden(headers), self.attempt)
        logger.debug("%s %s (attempt %d)", self.method, record.url, self.attempt)
        if config.on_request is not None:
            config.on_request(record)
        return record

    def _tell_response(
        self,
        record: Optional[RequestRecord],
        response: Optional[requests.Response],
        failure: Optional[SandboxError],
        elapsed: float,
    ) -> None:
        if record is None:
            return
        status = response.status_code if response is not None else None
        logger.debug("%s %s: %s after %.3f s", self.method, record.url, status or "no answer", elapsed)
        hook = self.transport.config.on_response
        if hook is not None:
            try:
                hook(ResponseRecord(record, status, elapsed, self.request_id, str(failure) if failure else None))
            except Exception:
                # The server has acted: an error here would hide its answer, and lose what it made.
                logger.debug("on_response raised", exc_info=True)


class Body:
    """The body of one answer, as it comes. ``read`` gives what is there; ``b""`` is its end."""

    def __init__(
        self, transport: Transport, call: _Call, response: requests.Response, limit: connections.Limit
    ) -> None:
        self.headers: Mapping[str, str] = response.headers
        self.status = response.status_code
        self.request_id = call.request_id
        self.limit = limit
        self._transport = transport
        self._call = call
        self._response = response
        self._ended = False
        self._closed = False
        self._lock = threading.Lock()  # while it is ended, or its connection given back: not both
        self._pid = os.getpid()
        plain = response.headers.get("Content-Encoding", "identity").lower() == "identity"
        self._answer = connections.limited_answer(response.raw) if plain else None
        self._chunks = Dechunker() if self._answer is not None and self._answer.chunked else None
        self._left = self._answer.length if self._answer is not None else None
        self._failure: Optional[ProtocolError] = None  # what came behind bytes that are still to be seen
        self._take: Any = self._answer.fp.read1 if self._answer is not None else None
        self._generic = None if self._answer is not None else _generic_blocks(response.raw)
        transport._bodies[id(self)] = self

    def read(self) -> bytes:
        """The next bytes, without waiting for more than are there; ``b""`` once the body is whole.

        Raises ``TransportError`` for one that was cut, ``RequestTimeoutError`` for silence, ``ClosedError`` after
        ``close``.
        """
        block = b""
        while not (block or self._ended or self._closed):
            try:
                block = self._call.guard(self._read_block)
            except (SandboxError, AttributeError):
                # close() in another thread takes the connection from under http.client, which then finds None.
                # A close() of the client may have come before it knew of this body.
                if not self._closed and not self._transport.closed:
                    raise
                self._closed = True
        if self._closed:
            raise ClosedError(f"could not {self._call.action}: it was closed during the call")
        return block

    def _read_block(self) -> bytes:
        if self._generic is not None:
            self.limit.wait()  # their timeouts count from the last byte: the deadline is seen when one comes
            block = next(self._generic, b"")
            if not block:
                self._finish(whole=True)
            return block
        answer = self._answer
        assert answer is not None
        if self._chunks is None:
            if self._left is None:
                block = answer.fp.read1(_BLOCK)
            else:
                block = self._take(min(self._left, _FILE_BLOCK)) if self._left else b""
                raw: Any = answer.fp.raw
                self._take = raw.take  # the first read has emptied the buffer
                self._left -= len(block)
                if not block and self._left:
                    raise ConnectionError(f"the body ended {self._left} bytes short")
            if not block or self._left == 0:
                self._finish(whole=self._left == 0)
            return block
        if self._failure is not None:
            raise self._failure
        data = answer.fp.read1(_BLOCK)
        if not data:
            raise TransportError("the body was cut before its final chunk")
        try:
            block = self._chunks.feed(data)
        except ProtocolError as error:
            block, self._failure = self._chunks.before, error
            if not block:
                raise
        if self._chunks.done:
            self._finish(whole=not self._chunks.excess)
        return block

    def finish_within(self, seconds: float) -> bytes:
        """What more comes within ``seconds``; if that is the body's end, the connection is kept for the next call.

        Nothing that goes wrong here matters to the caller, who has what it wants.
        """
        found = []
        self.limit.deadline = time.monotonic() + seconds
        try:
            while self._answer is not None and not self._ended:
                found.append(self._read_block())
        except Exception as error:
            logger.debug("after the result: %s", type(error).__name__)
        self.close()
        return b"".join(found)

    def end(self) -> None:
        """Wake the thread that reads, from another one."""
        self._closed = True
        with self._lock:
            if self._ended or not self.is_ours:
                return  # the connection is another call's by now
            connection: Any = getattr(self._response.raw, "connection", None)
            if hasattr(connection, "end"):
                connection.end()
            elif hasattr(self._response.raw, "shutdown"):
                try:
                    self._response.raw.shutdown()
                except Exception:
                    pass  # nothing is being read

    def close(self) -> None:
        """Give the connection up, or back where the body is whole; idempotent."""
        self._closed = True
        if self.is_ours:
            self._finish(whole=False)

    @property
    def is_ours(self) -> bool:
        """Whether this process opened it: a fork's copy of a connection is its parent's to end."""
        return self._pid == os.getpid()

    def _finish(self, *, whole: bool) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self.limit.forget_opening()
            raw = self._response.raw
            if whole and self._answer is not None:
                self._answer.close()
            else:
                raw.close()
            raw.release_conn()


class _Adapter(HTTPAdapter):
    """requests' adapter over connections of ours.

    It keeps the pools of plain HTTP itself, by authority: urllib3 parses the URL and builds a key of 27 fields for each
    request, which costs as much as the request.
    """

    def __init__(self, living: Any, closed: threading.Event) -> None:
        self._pool_classes = connections.connection_pools(living, closed)
        self._plain_pools: Dict[str, Any] = {}
        self._lock = threading.Lock()  # of the table of pools
        super().__init__(pool_connections=_POOLS, pool_maxsize=_CONNECTIONS, max_retries=0)

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        return self._plain_pool(request.url, proxies) or super().get_connection_with_tls_context(
            request, verify, proxies=proxies, cert=cert
        )

    def get_connection(self, url: Any, proxies: Any = None) -> Any:  # what requests before 2.32 calls
        return self._plain_pool(url, proxies) or super().get_connection(url, proxies)

    def _plain_pool(self, url: str, proxies: Any) -> Any:
        scheme, _, rest = url.partition("://")
        if proxies or scheme != "http":
            return None
        authority = rest.partition("/")[0]
        pool = self._plain_pools.get(authority)
        if pool is None:
            parts = urlsplit(url)
            pool = self._pool_classes["http"](parts.hostname, parts.port, maxsize=_CONNECTIONS)
            dropped = []
            with self._lock:
                pool = self._plain_pools.setdefault(authority, pool)
                while len(self._plain_pools) > _POOLS:
                    dropped.append(self._plain_pools.pop(next(iter(self._plain_pools))))
            for old in dropped:
                old.close()
        return pool

    def request_url(self, request: Any, proxies: Any) -> str:
        if proxies:
            return str(super().request_url(request, proxies))
        path: str = request.url.partition("://")[2].partition("/")[2]
        return "/" + path.lstrip("/")  # what begins with two, urllib3 takes for a host to connect to

    def forget(self, authority: str) -> None:
        """Close the idle connections to an address that is gone."""
        with self._lock:
            pool = self._plain_pools.pop(authority, None)
        if pool is not None:
            pool.close()

    def close(self) -> None:
        super().close()
        with self._lock:
            pools, self._plain_pools = list(self._plain_pools.values()), {}
        for pool in pools:
            pool.close()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pool_classes

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pool_classes
        return manager

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        return _Response(req, resp)


class _Response(requests.Response):
    """A response with nothing but what is read here, which is no cookies, no history and not its ``content``: to make
    those takes 5 % of a small call.
    """

    def __init__(self, request: Any, raw: Any) -> None:
        self.request = request
        self.url = request.url
        self.raw = raw
        self.status_code = raw.status
        self.reason = raw.reason
        self.headers = raw.headers  # as good as requests' own: names in any case


def _content(response: requests.Response) -> bytes:
    """The whole body. Where the connection is ours it is read into its final place: urllib3 and http.client, in some of
    their versions, put it together from pieces, and then hold it twice.
    """
    raw = response.raw
    promised = response.headers.get("Content-Length", "")
    if promised.isascii() and promised.isdigit() and (len(promised) >= 20 or int(promised) > _MOST_BYTES):
        raise ProtocolError(f"the server promises {promised} bytes, more than there can be")
    answer = connections.limited_answer(raw)
    encoded = response.headers.get("Content-Encoding", "identity").lower() != "identity"
    try:
        if answer is None or answer.chunked or not answer.length or encoded:
            return raw.read(decode_content=True)
        content: bytes = answer.fp.read(answer.length)
    except MemoryError:
        raise OSError(f"the server promises {promised} bytes, more than the memory has room for") from None
    if len(content) < answer.length:
        raise ConnectionError(f"the body ended {answer.length - len(content)} bytes short")
    answer.close()
    return content


def _generic_blocks(raw: Any) -> Iterator[bytes]:
    """The body through public calls of urllib3 alone: for sessions of users, mocks, and compressed answers."""
    if getattr(raw, "chunked", False) or not hasattr(raw, "read1"):
        # Without read1 (urllib3 1.26) a larger read waits for its last byte. A body that ends with its connection may
        # be one of events: it is read byte by byte, slow as that is. No event stream knows its length.
        size = _BLOCK if getattr(raw, "chunked", False) or raw.headers.get("Content-Length") else 1
        yield from raw.stream(size, decode_content=True)
        return
    while True:
        block = raw.read1(_BLOCK, decode_content=True)
        if not block:
            return
        yield block


def _may_have_been_done(error: SandboxError) -> bool:
    """Whether the server may have done what it did not answer, or what a proxy answered in its place."""
    if isinstance(error, ApiError):
        return error.status_code in (502, 504)
    return not isinstance(error, ConnectError)


def _encoded(json: Any, data: Any) -> Tuple[Any, Optional[str]]:
    if json is None:
        return data, None
    try:
        return _to_json(json).encode("utf-8"), "application/json"
    except (TypeError, ValueError, RecursionError) as cause:
        raise InvalidArgumentError(f"an argument cannot be sent as JSON: {cause}") from cause


def _pairs(params: Params) -> List[Tuple[str, Any]]:
    items = params.items() if isinstance(params, Mapping) else params or ()
    return [(key, value) for key, value in items if value is not None]


def without_secrets(url: str) -> str:
    """``url`` without user information, query and fragment: those may hold keys and signatures."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    return parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1], query="", fragment="").geturl()


def new_request_id() -> str:
    return uuid.uuid4().hex


_SHOWN_HEADERS = frozenset(
    {"accept", "accept-encoding", "content-length", "content-type", "range", "user-agent", "x-request-id"}
)


def _hidden(headers: Mapping[str, str]) -> Dict[str, str]:
    # Any header of a user or an endpoint may be a token: only the known harmless ones are shown.
    return {k: v if k.lower() in _SHOWN_HEADERS else "***" for k, v in headers.items()}


def error_of_body(body: str) -> Tuple[Optional[str], str]:
    """(code, message) of an error body in any of its shapes.

    ``{code,message}``; ``{"error": …}`` (the daemon's 401); ``{"detail": …}`` (unknown routes, validation, proxies);
    text; HTML; nothing.
    """
    try:
        data = jsonlib.loads(body)
    except (ValueError, RecursionError):
        text = body.strip()
        if text[:1] == "<":
            return None, "an HTML page, so something other than the server (a proxy?) answered"
        return None, text[:512]
    for key in ("detail", "error"):
        inner = data.get(key) if isinstance(data, dict) else None
        if isinstance(inner, list):
            return None, "; ".join(_validation(item) for item in inner)[:512]
        if isinstance(inner, dict):
            data = inner
        elif isinstance(inner, str):
            return _text(data.get("code")), inner[:512]
    if isinstance(data, dict):
        return _text(data.get("code")), str(data.get("message") or "")[:2048]
    return None, str(data)[:512]


def _text(value: Any) -> Optional[str]:
    return value if isinstance(value, str) and value else None


def _without_inputs(body: str) -> str:
    """``body``; where it tells what is wrong with a request (422), without what it repeats of that: there are secrets
    in it.
    """
    try:
        data = jsonlib.loads(body)
    except (ValueError, RecursionError):
        return body
    problems = data.get("detail") if isinstance(data, dict) else None
    if not isinstance(problems, list):
        return body
    for problem in problems:
        if isinstance(problem, dict):
            problem.pop("input", None)
    return jsonlib.dumps(data, ensure_ascii=False)


def _validation(item: Any) -> str:
    # {"loc": ["body", "timeout"], "msg": …}
    if not isinstance(item, dict):
        return str(item)
    place = item.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{where}: {item.get('msg')}" if where else str(item.get("msg"))


def _retry_after(headers: Mapping[str, str]) -> Optional[float]:
    """Seconds from a Retry-After header, as a number or an HTTP date; None where there is none that makes sense."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    if not value:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _chain(error: BaseException) -> List[BaseException]:
    """``error`` and all that it wraps: requests and urllib3 hide the cause in arguments and ``reason``."""
    found: List[BaseException] = []
    todo = [error]
    while todo:
        item = todo.pop(0)
        if item in found:
            continue
        found.append(item)
        todo.extend(
            a for a in (*item.args, getattr(item, "reason", None), item.__cause__) if isinstance(a, BaseException)
        )
    return found


def _hide(query: str, chain: List[BaseException]) -> None:
    """Take a query, which may hold a signature, out of the texts that a traceback shows as the causes of ours."""
    for error in chain if query else ():
        if any(isinstance(text, str) and query in text for text in error.args):
            error.args = tuple(text.replace(query, "***") if isinstance(text, str) else text for text in error.args)


def _last(chain: List[BaseException]) -> str:
    return str(chain[-1]) or type(chain[-1]).__name__


def _reason(chain: List[BaseException]) -> str:
    """The innermost cause in words. urllib3's own texts name the URL, with its query: they are not repeated."""
    for error in reversed(chain):
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
    inner = chain[-1]
    # To urllib3 1.26 a refused connection is a kind of timeout, so it is asked about first.
    if isinstance(inner, urllib3.exceptions.NewConnectionError):
        return str(inner).rsplit(": ", 1)[-1]
    if isinstance(inner, urllib3.exceptions.ConnectTimeoutError):
        return "timed out"
    words = inner.args[0].strip() if inner.args and isinstance(inner.args[0], str) else ""
    # A peer that speaks no HTTP is quoted here, and its bytes may be anything.
    return (words if words.isprintable() else repr(words[:80])) or type(inner).__name__


def _authority(url: str) -> str:
    return urlsplit(url).netloc.rsplit("@", 1)[-1]
