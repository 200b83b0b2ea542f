"""Bytes -> ``ServerEvent``: the event stream's framing, and nothing of its meaning. Pure: no I/O, no clock.

The real daemon writes one JSON object and a blank line per event, without ``data:`` (so a strict SSE parser finds
nothing). Other servers write NDJSON, or standard Server-Sent Events
(https://html.spec.whatwg.org/multipage/server-sent-events.html). All are made of lines, and a line tells what it is:
one that opens with ``{`` is a whole event, the others are SSE fields. So the decision never depends on how the bytes
were cut into chunks.

A line ends at LF, CRLF or CR only. U+0085, U+2028 and U+2029 stand raw inside JSON strings and end nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from json import JSONDecodeError, JSONDecoder
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Union

from .codec import without_lone_surrogates
from .errors import ProtocolError

#: Bytes; a longer frame is refused, so that a peer cannot fill the memory with one that never ends.
MAX_FRAME_BYTES = 64 * 1024 * 1024

RawEvent = Dict[str, Any]

_LONG = 8192

# An output event just as the daemon writes it. What stands for its text may be no JSON: EventDecoder._runs sees to it.
_OUTPUT = re.compile(r'\{"type":"(stdout|stderr)","text":"([^"]*(?:\\"[^"]*)*)","timestamp":([1-9][0-9]{12})\}\n\n?')
_BEFORE_TEXT = {kind: '{"type":"' + kind + '","text":"' for kind in ("stdout", "stderr")}
_BEFORE_TIME = '","timestamp":'
_AFTER_TIME = "}\n\n"
_TIME_DIGITS = 13
#: A character that no text needs and JSON does not escape.
_BETWEEN = "\x7f"
#: An escape that may be half of a pair, or alone.
_surrogate = re.compile(r"\\u[dD]").search

# Terminal escapes: CSI (colours, cursor), OSC (titles, links), and the short ones.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")

# A number this long is no timestamp and no exit code, and reading it takes quadratic time.
_MAX_NUMBER_DIGITS = 1000


@dataclass
class EventError:
    """What an ``error`` event carries: ``name`` (``CommandExecError``), ``value`` (``"3"``) and the traceback's
    lines, as they came: a kernel colours them for a terminal.
    """

    name: str = ""
    value: str = ""
    traceback: List[str] = field(default_factory=list)

    @property
    def plain_traceback(self) -> List[str]:
        """The traceback's lines without ANSI colours."""
        return [_ANSI.sub("", line) for line in self.traceback]


@dataclass
class ServerEvent:
    """One event as the server sent it.

    ``type`` is ``init``, ``ping``, ``stdout``, ``stderr``, ``result``, ``execution_count``, ``status``, ``error``,
    ``execution_complete``, one that is not known yet, or empty (a late ``{"code","message"}`` object).
    ``timestamp`` is Unix milliseconds or None, ``execution_time`` milliseconds or None, ``results`` maps MIME types to
    values, ``raw`` is the whole JSON object.
    """

    type: str = ""
    text: str = ""
    timestamp: Optional[int] = None
    execution_count: Optional[int] = None
    execution_time: Optional[int] = None
    results: Optional[Dict[str, Any]] = None
    error: Optional[EventError] = None
    raw: RawEvent = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_raw(cls, raw: RawEvent) -> ServerEvent:
        """The event that a decoded JSON object describes; ``ProtocolError`` for a field that cannot be meant.

        Such a field of an event that tells nothing of the run (a ping, a type that is not known) is left to ``raw``:
        a newer daemon may mean it.
        """
        event = cls(_text(raw.get("type"), "type"), raw=raw)
        for name in raw:
            read = _FIELDS.get(name)
            if read is None:
                continue
            try:
                setattr(event, name, read(raw[name], name))
            except ProtocolError:
                if event.type in _TELLING:
                    raise
        return event


class OutputRun(NamedTuple):
    """Output events of one type that came one behind the other. An object for each would cost more than all the rest
    of the way from the socket.
    """

    type: str
    texts: List[str]
    times: List[int]  # Unix milliseconds


#: What the decoder gives.
Decoded = Union[ServerEvent, OutputRun]


def _text(value: Any, name: str) -> str:
    """A text field; the server leaves empty ones out."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    raise ProtocolError(f"an event's {name} must be text, not {_shown(value)}")


def _number(value: Any, name: str) -> Optional[int]:
    """A whole number below 2**63, or None where the server sent none."""
    if value is None:
        return None
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if not whole or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise ProtocolError(f"an event's {name} must be a whole number, not {_shown(value)}")
    return int(value)


def _object(value: Any, name: str) -> Optional[Dict[str, Any]]:
    if value is not None and not isinstance(value, dict):
        raise ProtocolError(f"an event's {name} must be an object, not {_shown(value)}")
    return value


def _error(value: Any, name: str) -> Optional[EventError]:
    """The ``error`` object; ``traceback`` may be null (SQL and isolated errors)."""
    fields = _object(value, name)
    if fields is None:
        return None
    lines = fields.get("traceback") or []
    if not isinstance(lines, list):
        raise ProtocolError(f"an error's traceback must be a list, not {_shown(lines)}")
    words = ["" if part is None else str(part) for part in (fields.get("ename"), fields.get("evalue"))]
    return EventError(words[0], words[1], [str(line) for line in lines])


_FIELDS: Dict[str, Callable[[Any, str], Any]] = {
    "text": _text,
    "timestamp": _number,
    "execution_count": _number,
    "execution_time": _number,
    "results": _object,
    "error": _error,
}
#: What tells something of the run: there a field that cannot be meant is an error.
_TELLING = frozenset({"init", "stdout", "stderr", "result", "execution_count", "error", "execution_complete"})


def iter_events(chunks: Iterable[bytes]) -> Iterator[ServerEvent]:
    """Yield the events of an event stream, however its bytes are cut into chunks.

    Raises ``ProtocolError`` for bytes that are no event stream; what stood before them was yielded.
    """
    decoder = EventDecoder()
    for chunk in chunks:
        yield from each_event(decoder.feed(chunk))
        decoder.raise_for_rest()
    yield from each_event(decoder.finish())
    decoder.raise_for_rest()


def each_event(decoded: Iterable[Decoded]) -> Iterator[ServerEvent]:
    """The events one by one, also those of a run."""
    for item in decoded:
        if isinstance(item, OutputRun):
            kind = item.type
            for text, moment in zip(item.texts, item.times):
                raw = {"type": kind, "text": text, "timestamp": moment}
                yield ServerEvent(kind, text, moment, None, None, None, None, raw)
        else:
            yield item


class EventDecoder:
    """Feed it bytes, take events and runs of output; time and memory are linear in the bytes, however they are cut.

    ``feed`` and ``finish`` return the events before a malformed frame; ``raise_for_rest`` then raises for it. So
    nothing that arrived is lost to what came after it.
    """

    def __init__(self) -> None:
        self._rest: List[bytes] = []  # the pieces of a line whose end has not come
        self._rest_size = 0
        self._start: Optional[bytes] = b""  # the first bytes, until it is known whether they are a BOM; then None
        self._skip_lf = False  # the last byte was a CR, which ended its line: an LF right after it belongs to it
        self._data: List[str] = []  # the data: lines of the SSE event being read
        self._data_size = 0
        self._name = ""  # its event: line
        self._error: Optional[ProtocolError] = None
        #: Whether ``finish`` found a frame that begins as frames do and is not whole: the bytes end too early.
        self.cut = False

    def feed(self, chunk: bytes) -> List[Decoded]:
        """The events that ``chunk`` completes."""
        if self._error is not None:
            return []
        if self._start is not None:
            chunk = self._without_bom(chunk)
        if self._skip_lf and chunk:
            self._skip_lf = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        if b"\r" in chunk:
            self._skip_lf = chunk[-1:] == b"\r"
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._keep(chunk)
            return []
        block = b"".join([*self._rest, chunk[:end]]) if self._rest else chunk[:end]
        self._rest, self._rest_size = [], 0
        self._keep(chunk[end:])
        return self._read(block)

    def finish(self) -> List[Decoded]:
        """The event that the end of the stream completes: a last frame may lack its terminator."""
        if self._error is not None:
            return []
        block, within = (self._start or b"") + b"".join(self._rest), bool(self._data)
        self._start, self._rest, self._rest_size = None, [], 0
        events = self._read(block + b"\n\n")
        begins = any(name.startswith(block[: len(name)]) for name in (b"{", b"data:", b"event:", b"id:", b"retry:"))
        self.cut = self._error is not None and (within or begins)
        return events

    def raise_for_rest(self) -> None:
        """Raise the ``ProtocolError`` of the frame at which reading stopped, if there was one."""
        if self._error is not None:
            raise self._error

    def _without_bom(self, chunk: bytes) -> bytes:
        start = (self._start or b"") + chunk
        if len(start) < 3 and b"\xef\xbb\xbf".startswith(start):
            self._start = start
            return b""
        self._start = None
        return start[3:] if start.startswith(b"\xef\xbb\xbf") else start

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._rest.append(piece)
            self._rest_size += len(piece)
            if self._rest_size > MAX_FRAME_BYTES:
                self._error = _too_long()
                self._rest = []

    def _read(self, block: bytes) -> List[Decoded]:
        """Decode whole lines. One pass decodes the UTF-8 of all of them: no character spans a line end."""
        text = block.decode("utf-8", "replace")
        if self._data or self._name or len(block) > MAX_FRAME_BYTES:
            return self._read_lines(text)
        events: List[Decoded] = []
        at, end = 0, text.find("\n")
        while end - at > _LONG:
            event = _long_event(text, at, end)
            if event is None:
                return events + self._read_lines(text[at:])
            events.append(event)
            at = end + 1
            while text.startswith("\n", at):
                at += 1
            end = text.find("\n", at)
        if at == len(text):
            return events
        rest = text[at:]
        runs = self._runs(rest)
        return events + (self._read_lines(rest) if runs is None else runs)

    def _runs(self, text: str) -> Optional[List[Decoded]]:
        """Decode whole lines most of which are output events, many in one pass; None where they want a closer look.

        That cannot change what an event is or where it ends. The pattern leaves gaps: what is between the events that
        it found, and a gap that is empty, or made of whole lines which are JSON, shows that each began and ended where
        a line does. What it took for their texts is read in one go by the JSON decoder, as one string: it finds the
        string's end too early where a quote is not escaped, and an error where one text ends inside of an escape.
        """
        run = _one_run(text)
        if run is not None:
            return [run]
        parts = _OUTPUT.split(text)
        gaps, kinds = parts[::4], parts[1::4]
        if not kinds or not all(map(_is_whole_lines, gaps)):
            return None
        texts, times = _decoded(parts[2::4]), _numbers(parts[3::4])
        if texts is None:
            return None
        events = self._read_lines(gaps[0])
        start = 0
        for at in range(1, len(kinds) + 1):
            if self._error is not None:
                break
            if gaps[at] or at == len(kinds) or kinds[at] != kinds[start]:
                events.append(OutputRun(kinds[start], texts[start:at], times[start:at]))
                events += self._read_lines(gaps[at])
                start = at
        return events

    def _read_lines(self, text: str) -> List[Decoded]:
        """Decode whole lines, one by one."""
        events: List[Decoded] = []
        surrogates = _surrogate(text) is not None
        add, data, plain, careful = events.append, self._data, _plain, _careful
        oversized = len(text) > MAX_FRAME_BYTES // 4  # no character has more than four bytes
        event: Any
        lines = text.split("\n")
        lines.pop()  # what stands behind the last line end is no line, least of all a blank one that ends an event
        try:
            for line in lines:
                if line:
                    event = None
                    if not oversized and not data:
                        # The common case, without a call of our own: one object, which ends where the line ends. (A
                        # short line holds no long number; only a long one pays for a look at each of its numbers.)
                        try:
                            event, end = plain(line, 0) if len(line) < _MAX_NUMBER_DIGITS else careful(line, 0)
                            if end != len(line) or type(event) is not dict:
                                event = None
                        except (ValueError, RecursionError, StopIteration):
                            pass  # read it again, and say what it is
                    if event is None:
                        event = self._read_field(line)
                        if event is None:
                            continue
                elif data:
                    event = self._dispatch()
                else:
                    self._name = ""
                    continue
                add(ServerEvent.from_raw(without_lone_surrogates(event) if surrogates else event))
        except ProtocolError as error:
            self._error = error
        except RecursionError:
            self._error = ProtocolError("an event is nested too deep")
        return events

    def _dispatch(self) -> RawEvent:
        """The event whose data: lines are all there."""
        text, name = "\n".join(self._data), self._name
        self._data.clear()
        self._data_size, self._name = 0, ""
        event = _parse(text)
        if _surrogate(text):  # its lines may have come in blocks of their own
            event = without_lone_surrogates(event)
        if name and "type" not in event:
            event["type"] = name
        return event

    def _read_field(self, line: str) -> Optional[RawEvent]:
        """Take one line that is not blank and not simply an event; return the event that it is, if it is one."""
        if len(line) > MAX_FRAME_BYTES // 4 and len(line.encode("utf-8")) > MAX_FRAME_BYTES:
            raise _too_long()
        if line.lstrip()[:1] == "{" and not self._data:
            return _parse(line)
        name, _, value = line.partition(":")
        if value[:1] == " ":
            value = value[1:]
        if name == "data":
            self._data.append(value)
            self._data_size += len(value) + 1  # an empty line takes room too
            if self._data_size > MAX_FRAME_BYTES:
                raise _too_long()
        elif name == "event":
            self._name = value
        elif name not in ("", "id", "retry"):
            raise ProtocolError(f"the event stream holds a line that is neither JSON nor an SSE field: {_shown(line)}")
        return None


def _is_ascii(event: RawEvent) -> bool:
    """Whether all that it holds are ASCII texts and numbers; cheaper than a search where one of the texts is long."""
    values = event.values()
    return "".join(event).isascii() and all(v.isascii() if type(v) is str else type(v) is int for v in values)


def _long_event(text: str, at: int, end: int) -> Optional[ServerEvent]:
    """The event in a long line, read where it stands: taken out as a line, it would be copied. None where it wants a
    closer look.
    """
    try:
        event, stop = _careful(text, at)
        if stop == end and type(event) is dict and (_is_ascii(event) or not _surrogate(text, at, end)):
            return ServerEvent.from_raw(event)
    except (ValueError, RecursionError, StopIteration, ProtocolError):
        pass
    return None


def _one_run(text: str) -> Optional[OutputRun]:
    """The events, where they are all output of one type just as the daemon writes it; a few string operations then do
    for all of them. What stands between two texts has a fixed length, and mostly there are but a few different ones.
    """
    kind = text[9:15]
    before = _BEFORE_TEXT.get(kind)
    if before is None or not text.endswith(_AFTER_TIME):
        return None
    between = _AFTER_TIME + before
    first, *parts = text.split(_BEFORE_TIME)
    length = _TIME_DIGITS + len(between)
    heads = [part[:length] for part in parts]
    texts = [first[len(before) :], *[part[length:] for part in parts]]
    if texts.pop() or not heads or not first.startswith(before):
        return None
    heads[-1] += before
    known = {}
    for head in set(heads):
        digits = head[:_TIME_DIGITS]
        if head[_TIME_DIGITS:] != between or not digits.isdecimal() or not digits.isascii() or digits[0] == "0":
            return None
        known[head] = int(digits)
    decoded = _decoded(texts)
    return None if decoded is None else OutputRun(kind, decoded, list(map(known.__getitem__, heads)))


def _decoded(texts: List[str]) -> Optional[List[str]]:
    """What JSON strings stand for, given without their quotes; None where one of them is none."""
    joined = _BETWEEN.join(texts) + '"'
    try:
        decoded, end = _scan_string(joined, 0)
        if not decoded.isascii():
            decoded.encode("utf-8")  # UnicodeEncodeError, a ValueError, for half of an escaped pair
    except ValueError:
        return None
    found: List[str] = decoded.split(_BETWEEN)
    return found if end == len(joined) and len(found) == len(texts) else None


def _numbers(texts: List[str]) -> List[int]:
    known = {text: int(text) for text in set(texts)}  # many events come within one millisecond
    return list(map(known.__getitem__, texts))


def _is_whole_lines(gap: str) -> bool:
    """Whether this is nothing, or lines each of which is blank or JSON; it stands where a line begins."""
    return gap[-1:] in "\n" and all(line[:1] in "{" for line in gap.split("\n"))


def _whole_number(digits: str) -> int:
    if len(digits) > _MAX_NUMBER_DIGITS:
        raise ProtocolError(f"an event holds a number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ProtocolError(f"an event holds a number that is out of range: {_shown(digits)}")
    return value


def _refuse_constant(name: str) -> Any:
    raise ProtocolError(f"an event holds {name}, which is not JSON")


# The C scanner: it stops behind the value that it read, so a caller can see whether that was all.
_decoder: Any = JSONDecoder(parse_float=_finite, parse_int=_whole_number, parse_constant=_refuse_constant)
_careful = _decoder.scan_once
_decoder = JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)
_plain = _decoder.scan_once
_scan_string = _decoder.parse_string


def _parse(text: str) -> RawEvent:
    """One JSON object with nothing around it but white space, or a ``ProtocolError`` that says what it is instead."""
    body = text.strip(" \t\n")
    try:
        event, end = _careful(body, 0)
    except RecursionError:
        raise ProtocolError(f"an event is nested too deep: {_shown(text)}") from None
    except (JSONDecodeError, StopIteration) as cause:
        raise ProtocolError(f"the event stream holds a frame that is not JSON: {_shown(text)}") from cause
    if end != len(body):
        raise ProtocolError(f"the event stream holds a frame that is not one JSON object: {_shown(text)}")
    if not isinstance(event, dict):
        raise ProtocolError(f"the event stream holds a frame that is not an object: {_shown(text)}")
    return event


def _too_long() -> ProtocolError:
    return ProtocolError(f"the event stream holds a frame of more than {MAX_FRAME_BYTES // 2**20} MiB")


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return repr(text[:120]) + ("…" if len(text) > 120 else "")
