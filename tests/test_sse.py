"""The event decoder: pure, so it is fed bytes, and hypothesis chooses where they are cut."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any, Dict, Iterable, List, Tuple

import pytest
import sseclient
from hypothesis import HealthCheck, given, settings, strategies as st

from opensandbox_sync import Execution, ProtocolError, SandboxError, ServerEvent, iter_events, sse
from opensandbox_sync.sse import EventDecoder, EventError

Raw = Dict[str, Any]


def raws(*chunks: bytes) -> List[Raw]:
    return [event.raw for event in iter_events(chunks)]


def until_it_fails(chunks: Iterable[bytes]) -> Tuple[List[Raw], str]:
    """The events, and the words of the error behind them, if there is one."""
    found: List[Raw] = []
    try:
        for event in iter_events(chunks):
            found.append(event.raw)
    except ProtocolError as error:
        return found, str(error)
    return found, ""


def cut_at(data: bytes, places: List[int]) -> List[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in zip(edges, edges[1:])]


def one_by_one(data: bytes) -> List[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


HELLO = b'{"type":"stdout","text":"hello","timestamp":1795377424075}'
HELLO_RAW = {"type": "stdout", "text": "hello", "timestamp": 1795377424075}
DONE = b'{"type":"execution_complete","execution_time":8,"timestamp":1795377424076}'
DONE_RAW = {"type": "execution_complete", "execution_time": 8, "timestamp": 1795377424076}

DIALECTS = {
    "bare JSON and a blank line": HELLO + b"\n\n" + DONE + b"\n\n",
    "NDJSON": HELLO + b"\n" + DONE + b"\n",
    "NDJSON with CRLF": HELLO + b"\r\n" + DONE + b"\r\n",
    "bare JSON with CRLF": HELLO + b"\r\n\r\n" + DONE + b"\r\n\r\n",
    "bare JSON with CR": HELLO + b"\r\r" + DONE + b"\r\r",
    "standard SSE": b"data: " + HELLO + b"\n\ndata: " + DONE + b"\n\n",
    "SSE without the space": b"data:" + HELLO + b"\n\ndata:" + DONE + b"\n\n",
    "SSE with CRLF": b"data: " + HELLO + b"\r\n\r\ndata: " + DONE + b"\r\n\r\n",
    "SSE with CR": b"data: " + HELLO + b"\r\rdata: " + DONE + b"\r\r",
    "SSE with a BOM": b"\xef\xbb\xbfdata: " + HELLO + b"\n\ndata: " + DONE + b"\n\n",
    "bare JSON with a BOM": b"\xef\xbb\xbf" + HELLO + b"\n\n" + DONE + b"\n\n",
    "SSE fields and comments": b": hi\nid: 1\nretry: 10\nevent: stdout\ndata: "
    + HELLO
    + b"\n\n:\n\ndata: "
    + DONE
    + b"\n\n",
    "one event in several data lines": b'data: {"type":"stdout",\ndata: "text":"hello",\n'
    + b'data: "timestamp":1795377424075}\n\ndata: '
    + DONE
    + b"\n\n",
    "a last bare frame without its end": HELLO + b"\n\n" + DONE,
    "a last bare frame with half of its end": HELLO + b"\n\n" + DONE + b"\n",
    "a last SSE frame without its end": b"data: " + HELLO + b"\n\ndata: " + DONE,
    "both kinds in one stream": HELLO + b"\n\ndata: " + DONE + b"\n\n",
    "blank lines more than enough": b"\n\n\n" + HELLO + b"\n\n\n\n\n" + DONE + b"\n\n\n",
    "white space around JSON": b"  " + HELLO + b" \t\n\n" + DONE + b"  \n\n",
}


@pytest.mark.parametrize("data", DIALECTS.values(), ids=DIALECTS.keys())
def test_every_dialect_gives_the_same_events(data: bytes) -> None:
    assert raws(data) == [HELLO_RAW, DONE_RAW]


@pytest.mark.parametrize("data", DIALECTS.values(), ids=DIALECTS.keys())
def test_every_dialect_gives_the_same_events_byte_by_byte(data: bytes) -> None:
    assert raws(*one_by_one(data)) == [HELLO_RAW, DONE_RAW]


@pytest.mark.parametrize("data", DIALECTS.values(), ids=DIALECTS.keys())
def test_every_cut_in_two_gives_the_same_events(data: bytes) -> None:
    for place in range(len(data) + 1):
        assert raws(data[:place], data[place:]) == [HELLO_RAW, DONE_RAW]


def test_nothing_is_no_event() -> None:
    assert raws() == raws(b"") == raws(b"\n\n\r\n\r") == raws(b": a comment\n\n") == raws(b"\xef\xbb\xbf") == []


def test_an_event_has_the_fields_of_its_json() -> None:
    (event,) = iter_events([b'{"type":"result","results":{"text/plain":"4"},"execution_count":7,"timestamp":1}\n\n'])
    assert event == ServerEvent("result", "", 1, 7, None, {"text/plain": "4"}, None)


def test_an_error_event_has_name_value_and_traceback() -> None:
    (event,) = iter_events(
        [b'{"type":"error","error":{"ename":"CommandExecError","evalue":"3","traceback":["a","b"]}}']
    )
    assert event.error == EventError("CommandExecError", "3", ["a", "b"])


def test_a_null_traceback_is_an_empty_one() -> None:
    (event,) = iter_events([b'{"type":"error","error":{"ename":"E","evalue":null,"traceback":null}}'])
    assert event.error == EventError("E", "", [])


def test_what_a_newer_server_sends_is_kept() -> None:
    (event,) = iter_events([b'{"type":"confetti","text":"!","colour":{"r":1}}\n\n'])
    assert (event.type, event.text, event.raw["colour"]) == ("confetti", "!", {"r": 1})


def test_an_object_without_a_type_is_an_event_with_an_empty_one() -> None:
    (event,) = iter_events([b'{"code":"RUNTIME_ERROR","message":"no"}'])
    assert (event.type, event.raw) == ("", {"code": "RUNTIME_ERROR", "message": "no"})


def test_an_sse_event_line_names_an_object_that_does_not() -> None:
    assert raws(b'event: ping\ndata: {"text":"pong"}\n\n') == [{"text": "pong", "type": "ping"}]
    assert raws(b'event: ping\ndata: {"type":"stdout"}\n\n') == [{"type": "stdout"}]


def test_an_sse_event_line_names_its_own_event_only() -> None:
    assert raws(b'event: ping\n\ndata: {"text":"a"}\n\n') == [{"text": "a"}]


def test_white_space_of_other_alphabets_ends_no_line() -> None:
    text = "a\x85b\u2028c\u2029d\x0be\x0cf\x1cg\x1dh\x1ei"
    frame = json.dumps({"type": "stdout", "text": text}, ensure_ascii=False).encode()
    escaped = frame.replace(b"\x0b", b"\\u000b")  # json.dumps escapes control characters; the rest stands raw
    assert "\x85" in frame.decode() and "\u2028" in frame.decode()
    for data in (escaped + b"\n\n", b"data: " + escaped + b"\n\n"):
        assert [event["text"] for event in raws(data)] == [text]


def test_a_character_cut_in_the_middle_is_whole() -> None:
    data = '{"type":"stdout","text":"é🚀é"}\n\n'.encode()
    assert raws(*one_by_one(data))[0]["text"] == "é🚀é"


def test_bytes_that_are_no_utf8_become_replacement_characters() -> None:
    assert raws(b'{"type":"stdout","text":"a\xff\xfeb"}\n\n')[0]["text"] == "a\ufffd\ufffdb"


@pytest.mark.parametrize("half", ["\\ud800", "\\uDBFF", "\\udc00", "\\uDFFF"])
def test_half_of_an_escaped_pair_becomes_a_replacement_character(half: str) -> None:
    (raw,) = raws(b'{"type":"stdout","text":"aHALFb","kHALF":["HALF"]}'.replace(b"HALF", half.encode()))
    assert raw == {"type": "stdout", "text": "a\ufffdb", "k\ufffd": ["\ufffd"]}
    json.dumps(raw, ensure_ascii=False).encode("utf-8")


def test_half_of_a_pair_in_a_data_line_is_replaced_wherever_the_event_is_cut() -> None:
    data = b'data: {"type":"stdout","text":"\\ud83d"}\n\n'
    for at in range(len(data)):
        assert raws(data[:at], data[at:]) == [{"type": "stdout", "text": "\ufffd"}]


def test_a_whole_escaped_pair_is_its_character() -> None:
    assert raws(b'{"text":"\\ud83d\\ude80"}')[0]["text"] == "🚀"


def test_a_bom_inside_the_stream_is_no_bom() -> None:
    with pytest.raises(ProtocolError):
        raws(HELLO + b"\n\n\xef\xbb\xbf" + DONE + b"\n\n")


def test_crlf_cut_between_its_bytes_ends_one_line() -> None:
    chunks = [b"data: {\r", b'\ndata: "type":"stdout"\r', b"\ndata: }\r", b"\n\r", b"\n"]
    assert raws(*chunks) == [{"type": "stdout"}]


def test_empty_chunks_change_nothing() -> None:
    assert raws(b"", HELLO[:9], b"", HELLO[9:], b"", b"\r", b"", b"\n", b"") == [HELLO_RAW]


# -- what is not the protocol ------------------------------------------------------------------------------------------

MALFORMED = {
    "a cut object": b'{"type":"stdout","te',
    "an object with more behind it": HELLO + DONE,
    "two objects and a comma": HELLO + b"," + DONE,
    "an array": b"[1]",
    "a text": b'"stdout"',
    "a number": b"7",
    "plain words": b"Internal Server Error",
    "HTML": b"<html>",
    "an array as data": b"data: [1]",
    "words as data": b"data: hello",
    "empty data": b"data:",
    "NaN": b'{"type":"stdout","timestamp":NaN}',
    "Infinity": b'{"type":"stdout","timestamp":-Infinity}',
    "a float without bounds": b'{"type":"stdout","timestamp":1e999}',
    "a number of 5000 digits": b'{"type":"stdout","timestamp":' + b"9" * 5000 + b"}",
    "a timestamp of 300 digits": b'{"type":"stdout","timestamp":' + b"9" * 300 + b"}",
    "a timestamp that is text": b'{"type":"stdout","timestamp":"now"}',
    "a timestamp that is true": b'{"type":"stdout","timestamp":true}',
    "a broken timestamp": b'{"type":"stdout","timestamp":1.5}',
    "a type that is a number": b'{"type":1}',
    "a text that is a list": b'{"type":"stdout","text":["a"]}',
    "results that are a list": b'{"type":"result","results":[1]}',
    "an error that is a text": b'{"type":"error","error":"no"}',
    "a traceback that is a text": b'{"type":"error","error":{"ename":"E","traceback":"x"}}',
    "nested too deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nested too deep and cut": b'{"a":' + b'{"a":' * 100_000,
    "nested too deep in data": b'data: {"a":' + b"[" * 100_000,
    "a control character in a text": b'{"type":"stdout","text":"a\x00b"}',
    "gzip": b"\x1f\x8b\x08\x00rest",
}


@pytest.mark.parametrize("frame", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b""], ids=["LF", "CRLF", "none"])
def test_a_malformed_frame_is_refused_and_what_stood_before_it_was_given(frame: bytes, end: bytes) -> None:
    found, words = until_it_fails([HELLO + b"\n\n" + frame + end])
    assert found == [HELLO_RAW]
    assert words and len(words) < 1000


@pytest.mark.parametrize("frame", MALFORMED.values(), ids=MALFORMED.keys())
def test_nothing_is_read_behind_a_malformed_frame(frame: bytes) -> None:
    found, words = until_it_fails([HELLO + b"\n\n" + frame + b"\n\n" + DONE + b"\n\n", DONE + b"\n\n"])
    assert found == [HELLO_RAW] and words


def test_the_decoder_keeps_the_events_of_the_chunk_that_breaks() -> None:
    decoder = EventDecoder()
    assert list(sse.each_event(decoder.feed(HELLO + b"\n\nnonsense\n\n"))) == [ServerEvent.from_raw(HELLO_RAW)]
    with pytest.raises(ProtocolError, match="nonsense"):
        decoder.raise_for_rest()
    assert decoder.feed(DONE + b"\n\n") == decoder.finish() == []


def test_deep_nesting_that_can_be_read_is_read() -> None:
    assert raws(b'{"a":' + b"[" * 200 + b"]" * 200 + b"}\n\n")


def test_a_lone_surrogate_deep_inside_is_an_event_or_a_protocol_error() -> None:
    """Replacing it walks the object, which takes more stack than reading it."""
    for depth in (100, 400, 700, 900, 960, 980):
        until_it_fails([b'{"a":' + b"[" * depth + b'"\\ud800"' + b"]" * depth + b"}\n\n"])


# -- the cap and the work ----------------------------------------------------------------------------------------------


def event_of(size: int) -> bytes:
    """A frame of exactly so many bytes."""
    empty = b'{"type":"stdout","text":""}'
    return b'{"type":"stdout","text":"' + b"x" * (size - len(empty)) + b'"}'


@pytest.fixture
def small_cap(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sse, "MAX_FRAME_BYTES", 1024)
    return 1024


@pytest.mark.parametrize("prefix", [b"", b"data: "], ids=["bare", "SSE"])
def test_a_frame_of_the_largest_size_is_read(small_cap: int, prefix: bytes) -> None:
    frame = prefix + event_of(small_cap - len(prefix))
    for chunks in ([frame + b"\n\n"], one_by_one(frame + b"\n\n"), [frame]):
        assert len(raws(*chunks)) == 1


@pytest.mark.parametrize("prefix", [b"", b"data: "], ids=["bare", "SSE"])
def test_a_frame_above_the_largest_size_is_refused_however_it_is_cut(small_cap: int, prefix: bytes) -> None:
    frame = prefix + event_of(small_cap + 1 - len(prefix))
    for chunks in ([frame + b"\n\n"], one_by_one(frame + b"\n\n"), [frame], [frame[:-1], frame[-1:] + b"\n\n"]):
        found, words = until_it_fails([HELLO + b"\n\n", *chunks])
        assert (found, "more than" in words) == ([HELLO_RAW], True)


def test_many_small_data_lines_are_one_frame_to_the_cap(small_cap: int) -> None:
    found, words = until_it_fails([b"data: x\n"] * (small_cap + 1))
    assert found == [] and "more than" in words


def test_data_lines_without_content_count_too(small_cap: int) -> None:
    """Each costs an entry in a list, so a peer could fill the memory with nothing but them."""
    found, words = until_it_fails([b"data:\n"] * (small_cap + 2))
    assert found == [] and "more than" in words


def test_a_line_that_never_ends_is_not_kept_beyond_the_cap(small_cap: int) -> None:
    decoder = EventDecoder()
    tracemalloc.start()
    try:
        for _ in range(1000):
            decoder.feed(b"x" * 1000)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100_000
    with pytest.raises(ProtocolError):
        decoder.raise_for_rest()


class CountingBytes(bytes):
    """Bytes that count how many of them are searched for a line end."""

    searched = 0

    def rfind(self, *args: Any) -> int:
        type(self).searched += len(self)
        return super().rfind(*args)


def test_a_long_line_in_many_chunks_is_searched_once_and_joined_once() -> None:
    """Linear: each chunk is looked at when it comes, and never again before the line's end is there."""
    decoder = EventDecoder()
    CountingBytes.searched = 0
    decoder.feed(CountingBytes(b'{"type":"stdout","text":"'))
    for _ in range(2000):
        decoder.feed(CountingBytes(b"x" * 100))
    assert CountingBytes.searched <= 2001 * 100
    assert [len(event.text) for event in sse.each_event(decoder.feed(b'"}\n'))] == [200_000]


# -- the second opinion ------------------------------------------------------------------------------------------------

pairs = st.dictionaries(st.sampled_from(["text", "k", "a"]), st.text(max_size=8), max_size=3)


@st.composite
def sse_streams(draw: st.DrawFn) -> bytes:
    """A stream of standard Server-Sent Events, each holding one JSON object in one or more data lines."""
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    lines: List[str] = []
    for value in draw(st.lists(pairs, min_size=1, max_size=4)):
        lines += draw(st.lists(st.sampled_from(["id: 1", "retry: 5", ": comment", ":", "event: x"]), max_size=2))
        indent = draw(st.sampled_from([None, 1]))
        text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=indent)
        space = draw(st.sampled_from(["", " "]))
        lines += [
            f"data:{space}{line}" if space or not line.startswith(" ") else f"data: {line}" for line in text.split("\n")
        ]
        lines.append("")
    return end.join([*lines, ""]).encode()


@given(sse_streams(), st.lists(st.integers(0, 10_000), max_size=20))
@settings(max_examples=150, deadline=None)
def test_standard_framing_gives_what_sseclient_gives(data: bytes, places: List[int]) -> None:
    theirs = []
    for event in sseclient.SSEClient(iter([data])).events():  # its own reading of chunks is not asked about
        value = json.loads(event.data)
        if event.event != "message" and "type" not in value:
            value["type"] = event.event
        theirs.append(value)
    assert raws(*cut_at(data, places)) == theirs


# -- any chunking, any bytes -------------------------------------------------------------------------------------------

texts = st.text(alphabet=st.sampled_from('a"\\\n\r\t{}[]:,\x85\u2028\u2029é🚀\0 '), max_size=12)
events = st.fixed_dictionaries(
    {"type": st.sampled_from(["stdout", "stderr", "init", "ping", "execution_complete"])},
    optional={"text": texts, "timestamp": st.integers(0, 2**53)},
)
line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def any_streams(draw: st.DrawFn) -> bytes:
    """Frames in mixed dialects, some broken, each with line ends of its own."""
    parts: List[bytes] = [draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))]
    for _ in range(draw(st.integers(0, 6))):
        raw = json.dumps(draw(events), ensure_ascii=draw(st.booleans())).encode()
        kind = draw(st.integers(0, 9))
        if kind == 0:
            raw = draw(st.sampled_from([b"nonsense", b"{", b"[]", raw + raw, raw[: len(raw) // 2], b"\xff", b"data"]))
        elif kind < 4:
            raw = b"data: " + raw
        elif kind < 6:
            raw = b"event: x" + draw(line_ends) + b"data:" + raw
        parts += [raw, draw(line_ends) * draw(st.integers(1, 2))]
    if draw(st.booleans()):
        parts = parts[:-1]
    return b"".join(parts)


@given(any_streams(), st.lists(st.integers(0, 10_000), max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_chunking_gives_the_same_events_and_the_same_end(data: bytes, places: List[int]) -> None:
    whole = until_it_fails([data])
    assert until_it_fails(cut_at(data, places)) == whole
    assert until_it_fails(one_by_one(data)) == whole


@given(st.lists(st.binary(max_size=200), max_size=6))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_events_or_a_protocol_error(chunks: List[bytes]) -> None:
    try:
        for event in iter_events(chunks):
            assert isinstance(event, ServerEvent)
    except ProtocolError:
        pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
known = ["type", "text", "timestamp", "error", "results", "execution_count", "execution_time", "code", "message"]
kinds = [
    "init",
    "ping",
    "stdout",
    "stderr",
    "result",
    "error",
    "execution_complete",
    "execution_count",
    "status",
    "new",
]
wild_events = st.dictionaries(st.sampled_from(known), json_values, max_size=5).flatmap(
    lambda event: st.sampled_from(kinds).map(lambda kind: {**event, "type": kind}) | st.just(event)
)


@given(st.lists(wild_events, max_size=6))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_objects_give_an_execution_or_an_error_of_ours(objects: List[Raw]) -> None:
    data = b"\n\n".join(json.dumps(item).encode() for item in objects)
    try:
        execution = Execution.from_events(iter_events([data]))
    except SandboxError:
        return
    assert execution.exit_code is None or isinstance(execution.exit_code, int)
    for text in (execution.stdout, execution.stderr, execution.text, repr(execution)):
        text.encode("utf-8")


@given(st.lists(events, max_size=8), st.sampled_from([b"\n\n", b"\n", b"\r\n\r\n", b"\r\r"]))
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_what_is_read(objects: List[Raw], end: bytes) -> None:
    bare = b"".join(json.dumps(item, ensure_ascii=False).encode() + end for item in objects)
    assert raws(bare) == objects


# -- many events in one pass -------------------------------------------------------------------------------------------

# What stands between the quotes of a text on the wire, and what only looks like it.
_pieces = ["a", "世", "\\n", '\\"', "\\\\", "\\/", "\\u007f", "\\u0000", "\\ud83d\\ude00", "\\ud800"]
_pieces += ["\x7f", ", ", "\u2028"]
_between = '","timestamp":1795377424075}\n\n{"type":"stdout","text":"'
_traps = ['"', '\\\\"b', "\\", "\\u12", "\x01", "\n", '","timestamp":1}\n\n', '{"type":"stdout","text":"']
_traps += [_between, "\\" + _between, '","timestamp":', '\\","timestamp":', "}\n\n", '","timestamp":1795377424075']
_texts = st.lists(st.sampled_from([*_pieces * 3, *_traps]), max_size=6).map("".join)
_stamps = ["1795377424075"] * 9 + [
    "0795377424075",
    "179537742407\\u0035",
    "179537742407\u0665",
    "0",
    "9" * 18,
    "9" * 19,
    "007",
    "-1",
    "1.0",
    "1e3",
    "null",
    '"1"',
]
_times = st.sampled_from(_stamps)
_ends = st.sampled_from(["\n\n"] * 6 + ["\n", "\n\n\n", "", " \n\n", ',"more":1}\n\n', "\r\n\r\n"])
_frames = st.one_of(
    st.builds(
        '{before}{{"type":"{type}","text":"{text}","timestamp":{time}}}{end}'.format,
        before=st.sampled_from([""] * 8 + ["data: ", " ", "x", "\n"]),
        type=st.sampled_from(["stdout"] * 5 + ["stderr", "stdxyz", "ping"]),
        text=_texts,
        time=_times,
        end=_ends,
    ),
    st.just('{"type":"stdout","text":"plain\\n","timestamp":1795377424075}\n\n'),
    st.just('{"type":"stderr","text":"plain\\n","timestamp":1795377424076}\n\n'),
    st.just('{"type":"stdout","text":","timestamp":1795377424075}\n\n'),
    st.sampled_from(['{"type":"ping"}\n\n', "event: stdout\n", ": note\n", "data: {}\n\n", "nonsense\n\n", "\n"]),
)


@given(st.lists(_frames, max_size=8).map("".join), st.lists(st.integers(0, 10_000), max_size=4))
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_events_that_are_decoded_many_at_a_time_are_the_ones_decoded_line_by_line(text: str, places: List[int]) -> None:
    chunks = cut_at(text.encode("utf-8"), places)
    at_once = until_it_fails(chunks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sse, "_LONG", 30)  # most lines are long then, and read where they stand
        assert at_once == until_it_fails(chunks)
        patch.setattr(sse, "_LONG", 10**9)
        patch.setattr(EventDecoder, "_runs", lambda self, text: None)
        assert at_once == until_it_fails(chunks)


STAMP = 1795377424075


def test_output_as_the_daemon_writes_it_is_decoded_in_runs() -> None:
    frame = '{"type":"%s","text":"%s","timestamp":%d}\n\n'
    text = "".join(
        [
            '{"type":"init","text":"id"}\n\n',
            *(frame % ("stdout", f'line {number} \\"quoted\\" \\u003c\\n', STAMP + number) for number in range(3)),
            frame % ("stderr", "", STAMP),
            '{"type":"execution_complete"}\n\n',
        ]
    )
    assert EventDecoder().feed(text.encode()) == [
        ServerEvent("init", "id"),
        sse.OutputRun("stdout", [f'line {number} "quoted" <\n' for number in range(3)], [STAMP, STAMP + 1, STAMP + 2]),
        sse.OutputRun("stderr", [""], [STAMP]),
        ServerEvent("execution_complete"),
    ]
