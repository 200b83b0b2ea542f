"""Our sockets below requests: connections that know their deadline, and that another thread can end.

requests gives a timeout per ``recv`` only, so a peer that trickles is waited for without end; and it cannot end a call
that another thread waits in. A connection class of our own can, through what urllib3 and ``http.client`` offer for
subclassing (``ConnectionCls``, ``response_class``). Where a user's own session brings other connections, their timeouts
hold.
"""

from __future__ import annotations

import http.client
import io
import queue
import re
import socket
import threading
import time
from collections import deque
from functools import partial
from typing import Any, Callable, Deque, Optional, Tuple

from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ProtocolError

from .chunked import Dechunker
from .errors import SandboxError

# What may still be read when a deadline has passed: more than a socket's buffer holds, or so many reads. Each may wait
# for so many seconds: for what is on its way from one buffer to the other.
_LATE_BYTES = 8 * 1024 * 1024
_LATE_READS = 64
_LATE_SECONDS = 0.002
_HEARD_BYTES = 16 * 1024  # of an answer's start, which the first event is in


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
        #: Whether a connection of ours has the call, and so tells what was sent: one of a mock or a user does not.
        self.taken = False
        #: Whether a byte of the request may have left.
        self.sent = False
        #: Keeps the answer's start, where a Ctrl-C needs it.
        self.opening: Optional[Opening] = None
        self._late = _LATE_BYTES

    def wait(self, *, to_read: bool = False) -> Optional[float]:
        """Seconds that the next step may take; raises ``TimeoutError`` when the deadline has passed.

        A read may go on then almost without waiting: what has come is no later for having been left unread by a caller
        who was busy.
        """
        if self.deadline is None:
            return self.idle
        left = self.deadline - time.monotonic()
        if left > 0:
            return left if self.idle is None or left < self.idle else self.idle
        if to_read and self._late > 0:
            return _LATE_SECONDS
        raise socket.timeout("timed out")

    def took(self, count: int) -> None:
        """So many bytes were read."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self._late -= max(count, _LATE_BYTES // _LATE_READS)

    def forget_opening(self) -> None:
        """What the request has begun has a name that is known, or not wanted any more."""
        opening, self.opening = self.opening, None
        if opening is not None:
            opening.release()


class Opening:
    """The bytes that an answer begins with, for a Ctrl-C: they tell the name of what the request has begun.

    It can be raised between any two steps; what was just read is lost then to whoever was at it, and connections are
    closed on the way out. Without this the remote run would go on, and nobody knew its name. The daemon sends its
    headers with the first event, so before them it has no name.
    """

    def __init__(self, find: Callable[[bytes], Optional[str]], seconds: float) -> None:
        #: Finds the name in what has come of the body of a success; None where it is not there yet.
        self._find = find
        self._seconds = seconds  # that may be waited for it
        self._heard = bytearray()
        self._sock: Any = None
        self._held: Any = None

    def begin(self, sock: Any) -> None:
        """A request is about to leave: hold the socket open, whoever closes it."""
        self._heard.clear()
        if sock is not self._sock:
            self.release()
            self._sock, self._held = sock, sock.makefile("rb", buffering=0)

    def release(self) -> None:
        """The name is known, or not wanted any more."""
        held, self._sock, self._held = self._held, None, None
        if held is not None:
            held.close()

    def receive(self, receive: Callable[[Any], int], buffer: Any) -> int:
        """Let ``receive`` fill the buffer, and keep what comes."""
        at = len(self._heard)
        if at >= _HEARD_BYTES:
            return receive(buffer)
        buffer[:] = bytes(len(buffer))
        try:
            count = receive(buffer)
            self._heard[at:] = buffer[:count]
            return count
        except KeyboardInterrupt:
            # Raised behind a read that had brought something, it leaves nobody who was told how much: that shows in the
            # buffer, which was all NUL. No text ends in one.
            self._heard[at:] = bytes(buffer).rstrip(b"\0")
            raise

    def hear_out(self) -> Optional[str]:
        """At a KeyboardInterrupt: the name, if it came or comes soon. Nobody can read the answer on after that."""
        deadline = time.monotonic() + self._seconds
        over, name = self._look()
        try:
            while self._sock is not None and not over and time.monotonic() < deadline:
                self._sock.settimeout(deadline - time.monotonic())
                block = self._sock.recv(_HEARD_BYTES)
                self._heard += block
                over, name = self._look()
                over = over or not block
        except (OSError, ValueError):
            pass  # closed, silent, or late by less than the clock's step
        self.release()
        return name

    def _look(self) -> Tuple[bool, Optional[str]]:
        """Whether no more has to come, and the name."""
        head, end, body = bytes(self._heard).partition(b"\r\n\r\n")
        while end and _INFORMATIONAL.match(head):
            head, end, body = body.partition(b"\r\n\r\n")
        if not end or not _SUCCESS.match(head):
            return bool(end), None
        length, chunks = _LENGTH.search(head), Dechunker()
        whole = length is not None and len(body) >= int(length.group(1))
        try:
            if _CHUNKED.search(head):
                body, whole = chunks.feed(body), chunks.done
            name = self._find(body)
        except SandboxError:
            return True, None
        return whole or name is not None, name


#: The limit of the call that this thread is making: urllib3 has no way to hand one to the connection it chooses.
current = threading.local()

# Used within this many seconds, a kept connection is still there: servers keep idle ones for longer.
_FRESH_SECONDS = 1.0


def _set_timeout(sock: Any, seconds: Optional[float]) -> None:
    if seconds != sock.gettimeout():  # setting it is a system call
        sock.settimeout(seconds)


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

    def makefile(self, mode: str) -> io.BufferedReader:
        """What ``http.client`` asks a socket for."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        opening = self._connection.limit.opening
        if opening is None:
            count: int = self._received(self.sock.recv_into, buffer)
        else:
            count = opening.receive(partial(self._received, self.sock.recv_into), buffer)
        self._took(count)
        self.ended = count == 0
        return count

    def take(self, size: int) -> bytes:
        """The next bytes, for a reader of whole files who wants them without a buffer between."""
        data: bytes = self._received(self.sock.recv, size)
        self._took(len(data))
        return data

    def _received(self, receive: Callable[[Any], Any], argument: Any) -> Any:
        _set_timeout(self.sock, self._connection.limit.wait(to_read=True))
        return receive(argument)

    def _took(self, count: int) -> None:
        self._connection.used_at = time.monotonic()
        self._connection.limit.took(count)

    def close(self) -> None:
        self._raw.close()
        super().close()


_INFORMATIONAL, _SUCCESS = re.compile(rb"HTTP/1\.[01] 1"), re.compile(rb"HTTP/1\.[01] 2")
_CHUNKED = re.compile(rb"(?im)^transfer-encoding:.*chunked")
_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*([0-9]{1,18})[ \t]*\r?$")

#: Whether small requests and plain answers take the short way; in tests, and where urllib3 has no such pool, they take
#: the long one.
SHORT_WAY = hasattr(HTTPConnectionPool, "_get_conn") and hasattr(HTTPConnectionPool, "_put_conn")
_SHORT_BODY = 64 * 1024

_START = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9]{2})(?: ([^\r\n\0]*))?\r\n((?:[!#-'*+.^-z|~0-9A-Z-]+:[^\r\n\0]*\r\n){0,99})\r\n"
)


class _Response(http.client.HTTPResponse):
    is_plain = False  # there is nothing to its headers or its body that http.client would not see to

    def __init__(self, sock: Any, *args: Any, connection: Any, **kwargs: Any) -> None:
        self._reader = _LimitedReader(sock, connection)
        reader: Any = self._reader  # of a socket it wants only something to read from
        super().__init__(reader, *args, **kwargs)
        self._is_head = kwargs.get("method") == "HEAD"
        connection.answer = self

    def begin(self) -> None:
        while not (SHORT_WAY and self._begin_at_once()):
            super().begin()
            if self._reader.ended:
                # http.client takes the end of the connection for the end of the headers, and then finds an empty body.
                raise http.client.RemoteDisconnected("the answer was cut inside its headers")
            if self.status >= 200 or self.status == 101:
                return
            # Early hints and the like: the answer is still to come. (http.client knows that of 100 alone.)
            self.headers = self.msg = None  # type: ignore[assignment]

    def _begin_at_once(self) -> bool:
        """Take the answer's start in one go, where it is all there and is plain; False leaves it to ``http.client``.

        That reads headers with the parser for e-mails, which takes as long as sending the request.
        """
        found = _START.match(self.fp.peek(1))
        if found is None:
            return False
        status, reason, lines = int(found.group(1)), found.group(2) or b"", found.group(3)
        headers = http.client.HTTPMessage()
        for line in lines.decode("latin-1").split("\r\n")[:-1]:
            name, _, value = line.partition(":")
            headers[name] = value.strip(" \t")
        coding = headers.get("Transfer-Encoding", "").lower()
        # The same length more than once is one (RFC 9112 §6.3).
        length, *others = {part.strip() for part in ",".join(headers.get_all("Content-Length", ())).split(",")}
        if others or not (length.isdecimal() if length else coding in ("", "chunked")) or (coding and length):
            return False
        if status in (204, 304) or self._is_head:
            return False
        self.fp.read(found.end())
        self.version, self.code, self.status, self.reason = 11, status, status, reason.decode("latin-1").strip()
        self.headers = self.msg = headers
        self.chunked, self.chunk_left = bool(coding), None
        self.length = int(length) if length else None
        self.will_close = "close" in headers.get("Connection", "").lower() or not (coding or length)
        self.is_plain = "Content-Encoding" not in headers
        return True


_Base: Any = object  # the urllib3 class that a subclass adds: its calls are behind super()


class _LimitedConnection(_Base):  # type: ignore[misc]
    """What our HTTP and HTTPS connections share."""

    answer: Optional[_Response] = None  # the http.client response being read
    opened: Optional[socket.socket] = None  # the socket, also after http.client has let go of it
    used_at = 0.0
    limit = Limit(None, None)

    # Set by the transport, through a subclass: the connections that it can end, and whether it has.
    living: Any
    closed: threading.Event

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.response_class = self._make_response
        self.living[id(self)] = self

    def _make_response(self, sock: Any, *args: Any, **kwargs: Any) -> _Response:
        return _Response(sock, *args, connection=self, **kwargs)

    def connect(self) -> None:
        self._take_limit()  # a secure connection is made before its request is
        super().connect()
        self.opened, self.used_at = self.sock, time.monotonic()

    def _new_conn(self) -> Any:
        sock = super()._new_conn()
        if self.closed.is_set():  # nobody could wake this while it connected; a handshake would take its time, too
            sock.close()
            raise OSError("the client was closed")
        return sock

    def request(self, *args: Any, **kwargs: Any) -> Any:
        self._take_limit()
        return super().request(*args, **kwargs)

    def _take_limit(self) -> None:
        self.limit = getattr(current, "limit", None) or Limit(None, None)
        self.limit.taken = True
        self.close_if_stale(self.limit)

    def close_if_stale(self, limit: Limit) -> None:
        """The server may be closing it this moment, and a request lost there could not be sent again."""
        if self.sock is not None and limit.once and time.monotonic() - self.used_at > _FRESH_SECONDS:
            self.close()

    def exchange(self, method: str, message: bytes, connect_timeout: Optional[float]) -> _Response:
        """Send a whole request in one go and return the answer, its headers read."""
        self._take_limit()
        if self.sock is None:
            self.timeout = connect_timeout
            self.connect()
        self._begin_to_send()
        self.sock.sendall(message)
        answer = self._make_response(self.sock, method=method)
        try:
            answer.begin()
        except BaseException:
            answer.close()
            raise
        if answer.will_close:
            self.close()  # its reader keeps the socket open
        return answer

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        self._begin_to_send()
        super().send(data)

    def _begin_to_send(self) -> None:
        if self.closed.is_set():
            raise OSError("the client was closed")
        # urllib3 would let it have the time that connecting may take.
        _set_timeout(self.sock, self.limit.wait())
        if self.limit.opening is not None:
            self.limit.opening.begin(self.sock)
        self.limit.sent = True

    def end(self) -> None:
        """Wake whoever reads from this connection; from any thread."""
        sock = self.opened
        if sock is not None:
            try:
                # Not a secure socket's own: that drops what deciphers, and a reader would take the rest as it is.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except (OSError, TypeError):
                pass  # not connected any more, or not a socket of Python's own


class _Raw:
    """What requests and the transport ask of urllib3's response, which takes as long to make as all of the answer's
    headers take to read.
    """

    connection: Any = None

    def __init__(self, answer: _Response, connection: Any, pool: Any) -> None:
        self.status, self.reason, self.version = answer.status, answer.reason, answer.version
        self.headers = answer.headers
        self._answer = answer
        self._pool = pool
        self.connection = connection

    def read(self, amt: Optional[int] = None, decode_content: bool = False) -> bytes:
        try:
            block = self._answer.read(amt)
        except http.client.HTTPException as error:
            raise ProtocolError("Connection broken", error) from error
        if not block and amt != 0 and self._answer.length:
            raise ProtocolError("Connection broken", http.client.IncompleteRead(b"", self._answer.length))
        return block

    def close(self) -> None:
        self._answer.close()
        if self.connection is not None:
            self.connection.close()

    def release_conn(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            self._pool._put_conn(connection)

    def __del__(self) -> None:
        if self.connection is not None:
            self.close()  # a stream that was dropped unread


class _Idle:
    """The idle connections of a pool, the last used first: ``queue.LifoQueue`` without its lock, which a Ctrl-C leaves
    held for ever if it comes when the lock is being let go. A deque needs none.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: Deque[Any] = deque()

    def get(self, block: bool = True, timeout: Optional[float] = None) -> Any:
        try:
            return self._kept.pop()
        except IndexError:
            raise queue.Empty from None

    def put(self, connection: Any, block: bool = True) -> None:
        if len(self._kept) >= self._size:
            raise queue.Full
        self._kept.append(connection)

    def qsize(self) -> int:
        return len(self._kept)


class _Pool(_Base):  # type: ignore[misc]
    """What our pools share."""

    QueueCls: Any = _Idle

    def _get_conn(self, timeout: Optional[float] = None) -> Any:
        connection = super()._get_conn(timeout)
        limit = getattr(current, "limit", None)
        if limit is not None:
            # Before urllib3 looks whether it has to connect: through a proxy that is more than a new socket.
            connection.close_if_stale(limit)
        return connection


class _PlainPool(_Pool, HTTPConnectionPool):
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
        if answer.is_plain:
            return _Raw(answer, connection, self)
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


def connection_pools(living: Any, closed: threading.Event) -> Any:
    """The pool classes for a urllib3 ``PoolManager``; their connections are found in ``living``, and send nothing
    once it is ``closed``.
    """

    class Connection(_LimitedConnection, HTTPConnection):  # type: ignore[misc]
        pass

    class SecureConnection(_LimitedConnection, HTTPSConnection):  # type: ignore[misc]
        pass

    class Pool(_PlainPool):
        ConnectionCls = Connection

    class SecurePool(_Pool, HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    Connection.living = SecureConnection.living = living
    Connection.closed = SecureConnection.closed = closed
    return {"http": Pool, "https": SecurePool}


def limited_answer(raw: Any) -> Optional[_Response]:
    """The ``http.client`` response below a urllib3 one, where the connection is ours; else None."""
    connection = getattr(raw, "connection", None)
    answer = getattr(connection, "answer", None)
    return answer if isinstance(answer, _Response) and not answer.isclosed() else None
