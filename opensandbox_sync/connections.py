"""Our sockets below requests: connections that know their deadline, and that another thread can end.

requests gives a timeout per ``recv`` only, so a peer that trickles is waited for without end; and it cannot end a call
that another thread waits in. A connection class of our own can, through what urllib3 and ``http.client`` offer for
subclassing (``ConnectionCls``, ``response_class``). Where a user's own session brings other connections, their timeouts
hold.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from typing import Any, Callable, Optional, Set

from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ProtocolError


class Limit:
    """How long one call may wait for bytes.

    ``deadline`` is a monotonic time for the call as a whole, ``idle`` the longest single wait in seconds; None is no
    limit.
    """

    def __init__(self, deadline: Optional[float], idle: Optional[float]) -> None:
        self.deadline = deadline
        self.idle = idle
        #: A request that must not be sent twice: it goes out on a fresh connection or on one used within the last
        #: second.
        self.once = False
        #: Whether a byte of the request may have left.
        self.sent = False
        #: Seconds to go on reading for the answer's start after a KeyboardInterrupt; see Connection.getresponse.
        self.linger = 0.0
        self.awaits_start = False
        self.interrupted = False

    def wait(self) -> Optional[float]:
        """Seconds that the next read may take; raises ``TimeoutError`` when the deadline has passed."""
        if self.deadline is None:
            return self.idle
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        return left if self.idle is None or left < self.idle else self.idle

    def lingers(self) -> bool:
        """At a KeyboardInterrupt: whether to read on for the answer's start; if so, ``linger`` seconds are left."""
        if not self.awaits_start or not self.linger or self.interrupted:
            return False
        self.interrupted, self.idle = True, None
        self.deadline = time.monotonic() + self.linger
        return True


#: The limit of the call that this thread is making: urllib3 has no way to hand one to the connection it chooses.
current = threading.local()

# Used within this many seconds, a kept connection is still there: servers keep idle ones for longer.
_FRESH_SECONDS = 1.0


class _LimitedReader(io.RawIOBase):
    """The bytes of a socket, each wait within the call's limit."""

    def __init__(self, sock: Any, connection: Any) -> None:
        super().__init__()
        self.sock = sock
        # Keeps the socket open for as long as this reads. Not read from: it refuses to go on after a timeout, where a
        # run that was interrupted still has something to say.
        self._raw = sock.makefile("rb", buffering=0)
        self._connection = connection
        self.ended = False  # the peer has closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._set_timeout()
        limit = self._connection.limit
        if limit.awaits_start and limit.linger:
            buffer[:] = bytes(len(buffer))
        try:
            count: int = self.sock.recv_into(buffer)
        except KeyboardInterrupt:
            if not limit.lingers():
                raise
            # It may be raised behind a read that had brought something, and then nobody was told how much: that shows
            # in the buffer, which was all NUL. No event stream's start ends in one.
            count = len(bytes(buffer).rstrip(b"\0"))
            if not count:
                self._set_timeout()
                count = self.sock.recv_into(buffer)
        self._connection.used_at = time.monotonic()
        self.ended = count == 0
        return count

    def take(self, size: int) -> bytes:
        """The next bytes, for a reader of whole files who wants them without a buffer between."""
        self._set_timeout()
        data: bytes = self.sock.recv(size)
        self._connection.used_at = time.monotonic()
        return data

    def _set_timeout(self) -> None:
        wait = self._connection.limit.wait()
        if wait != self.sock.gettimeout():  # setting it is a system call
            self.sock.settimeout(wait)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, connection: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self._reader = _LimitedReader(sock, connection)
        self.fp = io.BufferedReader(self._reader)
        connection.answer = self

    def begin(self) -> None:
        super().begin()
        if self._reader.ended:
            # http.client takes the end of the connection for the end of the headers, and then finds an empty body.
            raise http.client.RemoteDisconnected("the answer was cut inside its headers")


_Base: Any = object  # the urllib3 connection that a subclass adds: its calls are behind super()


class _LimitedConnection(_Base):  # type: ignore[misc]
    """What our HTTP and HTTPS connections share."""

    answer: Optional[_Response] = None  # the http.client response being read
    opened: Optional[socket.socket] = None  # the socket, also after http.client has let go of it
    used_at = 0.0
    limit = Limit(None, None)

    # Set by the transport, through a subclass: the connections that it can end.
    registry: Set[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.response_class = self._make_response
        self.registry.add(self)

    def _make_response(self, sock: Any, *args: Any, **kwargs: Any) -> _Response:
        return _Response(sock, *args, connection=self, **kwargs)

    def connect(self) -> None:
        super().connect()
        self.opened = self.sock

    def request(self, *args: Any, **kwargs: Any) -> Any:
        self._take_limit()
        return super().request(*args, **kwargs)

    def _take_limit(self) -> None:
        self.limit = getattr(current, "limit", None) or Limit(None, None)
        if self.sock is not None and self.limit.once and time.monotonic() - self.used_at > _FRESH_SECONDS:
            # The server may be closing it this moment, and a request lost there could not be sent again.
            self.close()

    def exchange(self, method: str, message: bytes, connect_timeout: Optional[float]) -> _Response:
        """Send a whole request in one go and return the answer, its headers read."""
        self._take_limit()
        if self.sock is None:
            self.timeout = connect_timeout
            self.connect()
        self.sock.settimeout(self.limit.wait())
        self.limit.sent = True
        self.sock.sendall(message)
        answer = self._make_response(self.sock, method=method)
        try:
            self._awaited(answer.begin)
        except BaseException:
            answer.close()
            raise
        if answer.will_close:
            self.close()  # its reader keeps the socket open
        return answer

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        # urllib3 would let it have the time that connecting may take.
        wait = self.limit.wait()
        if wait != self.sock.gettimeout():  # setting it is a system call
            self.sock.settimeout(wait)
        self.limit.sent = True
        super().send(data)

    def getresponse(self, *args: Any, **kwargs: Any) -> Any:
        return self._awaited(lambda: super(_LimitedConnection, self).getresponse(*args, **kwargs))

    def _awaited(self, read_start: Callable[[], Any]) -> Any:
        # The daemon sends its headers with the first event, so before that there is no id to interrupt. Dropping the
        # connection at a Ctrl-C would leave the command running, with nobody to know its name: see Limit.linger.
        limit = self.limit
        limit.awaits_start = True
        try:
            return read_start()
        except Exception:
            if limit.interrupted:
                raise KeyboardInterrupt from None
            raise
        finally:
            limit.awaits_start = False

    def end(self) -> None:
        """Wake whoever reads from this connection; from any thread."""
        sock = self.opened
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # not connected any more


#: Whether small requests take the short way; where urllib3 has no such pool, and in tests, they take urllib3's.
SHORT_WAY = hasattr(HTTPConnectionPool, "_get_conn") and hasattr(HTTPConnectionPool, "_put_conn")
_SHORT_BODY = 64 * 1024


class _PlainPool(HTTPConnectionPool):
    """Plain HTTP by the short way: one message, one ``sendall``, one answer.

    urllib3's own ``urlopen`` does retries, redirects, proxies and URL parsing around that, which takes longer than the
    request. What is not small and plain still goes there.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        host = f"[{self.host}]" if ":" in self.host else self.host
        self._host_line = f"Host: {host}" + (f":{self.port}" if self.port not in (None, 80) else "")

    def urlopen(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> Any:  # type: ignore[override]
        message = None
        if SHORT_WAY and self.proxy is None and not options.get("chunked") and headers is not None:
            message = self._message(method, url, body, headers)
        if message is None:
            return super().urlopen(method, url, body, headers, **options)
        connection: Any = self._get_conn()
        try:
            answer = connection.exchange(method, message, options["timeout"].connect_timeout)
        except BaseException as error:
            connection.close()
            self._put_conn(connection)
            if isinstance(error, http.client.HTTPException):
                raise ProtocolError("Connection aborted.", error) from error
            raise
        return HTTPResponse(
            body=answer,
            headers=answer.headers.items(),
            status=answer.status,
            version=answer.version,
            reason=answer.reason,
            preload_content=False,
            decode_content=False,
            original_response=answer,
            pool=self,
            connection=connection,
            enforce_content_length=True,
            request_method=method,
        )

    def _message(self, method: str, url: str, body: Any, headers: Any) -> Optional[bytes]:
        """The whole request as bytes; None where it is not for the short way, or where urllib3 shall refuse it."""
        if body is not None and (not isinstance(body, bytes) or len(body) > _SHORT_BODY):
            return None
        lines = [f"{method} {url} HTTP/1.1", self._host_line]
        lines += [f"{name}: {value}" for name, value in headers.items() if name.lower() != "host"]
        if len(lines) != len(headers) + 2 or not url.isascii() or " " in url:
            return None
        text = "\r\n".join(lines)
        if text.count("\r") != len(lines) - 1 or text.count("\n") != len(lines) - 1 or "\0" in text:
            return None
        try:
            return text.encode("latin-1") + b"\r\n\r\n" + (body or b"")
        except UnicodeEncodeError:
            return None


def connection_pools(registry: Set[Any]) -> Any:
    """The pool classes for a urllib3 ``PoolManager``; their connections are found in ``registry``."""

    class Connection(_LimitedConnection, HTTPConnection):  # type: ignore[misc]
        pass

    class SecureConnection(_LimitedConnection, HTTPSConnection):  # type: ignore[misc]
        pass

    class Pool(_PlainPool):
        ConnectionCls = Connection

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    Connection.registry = SecureConnection.registry = registry
    return {"http": Pool, "https": SecurePool}


def limited_answer(raw: Any) -> Optional[_Response]:
    """The ``http.client`` response below a urllib3 one, where the connection is ours; else None."""
    connection = getattr(raw, "connection", None)
    answer = getattr(connection, "answer", None)
    return answer if isinstance(answer, _Response) and not answer.isclosed() else None
