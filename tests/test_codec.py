"""JSON and dataclasses: what is read, what is written, and what is refused by name."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, List, Optional

import pytest
from hypothesis import given, settings, strategies as st

from opensandbox_sync import (
    CommandStatus,
    CredentialVaultState,
    EgressStatus,
    Endpoint,
    Metrics,
    NetworkPolicy,
    ProtocolError,
    SandboxError,
    SandboxInfo,
    Volume,
)
from opensandbox_sync.codec import SnakeCaseModel, decode, encode, format_datetime, parse_datetime, wire
from opensandbox_sync.models import Host
from opensandbox_sync.transport import Answer


@dataclass
class Wheel:
    size: int


@dataclass
class Car:
    brand_name: str
    wheels: List[Wheel] = field(default_factory=list)
    top_speed: Optional[float] = None
    built_at: Optional[datetime] = None
    is_new: bool = False
    labels: Dict[str, str] = field(default_factory=dict)
    os_id: Optional[str] = wire("osID", None)
    raw: Dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass
class Snake(SnakeCaseModel):
    long_name: int


FULL = {
    "brandName": "é",
    "wheels": [{"size": 16}, {"size": 17.0}],
    "topSpeed": 200,
    "builtAt": "2026-11-22T20:02:06.433353Z",
    "isNew": True,
    "labels": {"a": "b"},
    "osID": "x",
    "unknown": [1],
}


def answered(text: str) -> Any:
    """What ``decode`` is given of an answer with that body."""
    return Answer(200, {}, text.encode("utf-8"), "ask", None).json()


def test_every_kind_of_field_is_read() -> None:
    car = decode(Car, FULL)
    moment = datetime(2026, 11, 22, 20, 2, 6, 433353, timezone.utc)
    assert car == Car("é", [Wheel(16), Wheel(17)], 200.0, moment, True, {"a": "b"}, "x")
    assert isinstance(car.wheels[1].size, int) and isinstance(car.top_speed, float)
    assert car.raw == FULL


def test_what_was_read_is_written_back() -> None:
    car = decode(Car, FULL)
    assert encode(car) == {name: value for name, value in FULL.items() if name != "unknown"}
    assert decode(Car, json.loads(json.dumps(encode(car)))) == car


@pytest.mark.parametrize("absent", [{}, {"wheels": None, "topSpeed": None, "labels": None, "isNew": None}])
def test_absent_and_null_are_the_default(absent: Dict[str, Any]) -> None:
    car = decode(Car, {"brandName": "b", **absent})
    assert car == Car("b")
    assert car.wheels is not decode(Car, {"brandName": "b"}).wheels


def test_unset_fields_are_not_written() -> None:
    assert encode(Car("b")) == {"brandName": "b", "wheels": [], "isNew": False, "labels": {}}


def test_the_daemons_names_stay_as_they_are() -> None:
    assert decode(Snake, {"long_name": 1}) == Snake(1)
    assert encode(Snake(1)) == {"long_name": 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"brandName": None}, "brandName"),
        ({"brandName": 7}, r"Car\.brand_name: text"),
        ({"wheels": {}}, r"Car\.wheels: a list"),
        ({"wheels": [7]}, r"Car\.wheels.*Wheel"),
        ({"wheels": [{}]}, r"Car\.wheels.*size"),
        ({"wheels": [{"size": "16"}]}, r"Car\.wheels: Wheel\.size: a whole number"),
        ({"wheels": [{"size": 1.5}]}, "whole"),
        ({"wheels": [{"size": True}]}, "whole"),
        ({"wheels": [{"size": float("nan")}]}, "whole"),
        ({"wheels": [{"size": float("inf")}]}, "whole"),
        ({"topSpeed": "fast"}, r"Car\.top_speed: a number"),
        ({"topSpeed": False}, "a number"),
        ({"isNew": "yes"}, "true or false"),
        ({"isNew": 1}, "true or false"),
        ({"labels": ["a"]}, "an object"),
        ({"labels": {"a": 1}}, "text"),
        ({"builtAt": 1795377424}, "a time"),
        ({"builtAt": "now"}, "a time"),
    ],
)
def test_a_field_that_does_not_fit_is_named(change: Dict[str, Any], words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        decode(Car, {**FULL, **change})


@pytest.mark.parametrize("data", [None, [], "x", 7, True, [FULL]])
def test_what_is_no_object_is_refused(data: Any) -> None:
    with pytest.raises(ProtocolError, match="Car"):
        decode(Car, data)


@pytest.mark.parametrize("number", [10**400, -(10**400), float("inf"), float("nan")])
def test_a_number_that_is_out_of_range_is_refused(number: Any) -> None:
    with pytest.raises(ProtocolError, match="a finite number"):
        decode(Car, {**FULL, "topSpeed": number})
    with pytest.raises(ProtocolError, match="at most 64 bits"):
        decode(Wheel, {"size": number})


def test_a_whole_number_has_at_most_64_bits() -> None:
    assert decode(Wheel, {"size": 2**63 - 1}).size == 2**63 - 1
    with pytest.raises(ProtocolError, match="at most 64 bits"):
        decode(Wheel, {"size": 2**63})


@pytest.mark.parametrize(
    "data",
    [
        "s3cret",
        ["s3cret"],
        {**FULL, "brandName": ["s3cret"]},
        {**FULL, "brandName": {"s3cret": 1}},
        {**FULL, "wheels": "s3cret"},
        {**FULL, "wheels": ["s3cret"]},
        {**FULL, "topSpeed": "s3cret"},
        {**FULL, "isNew": "s3cret"},
        {**FULL, "labels": "s3cret"},
        {**FULL, "labels": {"s3cret": 1}},
        {**FULL, "builtAt": "s3cret"},
    ],
)
def test_what_came_is_in_no_error(data: Any) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(Car, data)
    assert "s3cret" not in str(caught.value) + str(caught.value.__cause__)


def test_half_of_a_surrogate_pair_becomes_a_replacement_character() -> None:
    text = r'{"brandName": "a\ud800b", "labels": {"\udc00": "\ud83d\ude00 \ud83d"}, "more": ["\udfff"]}'
    car = decode(Car, answered(text))
    assert car.brand_name == "a\ufffdb"
    assert car.labels == {"\ufffd": "\U0001f600 \ufffd"}
    assert car.raw["more"] == ["\ufffd"]
    repr(car).encode("utf-8")


def test_what_is_nested_too_deep_is_refused() -> None:
    with pytest.raises(ProtocolError):
        answered('["\\u00e9", ' + "[" * 100_000 + "]" * 100_001)


def test_a_huge_value_is_not_repeated_whole() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(Car, {**FULL, "wheels": ["x" * 100_000]})
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T20:02:06Z", datetime(2026, 11, 22, 20, 2, 6)),
        ("2026-11-22T20:02:06z", datetime(2026, 11, 22, 20, 2, 6)),
        ("2026-11-22T20:02:06", datetime(2026, 11, 22, 20, 2, 6)),
        ("2026-11-22 20:02:06+00:00", datetime(2026, 11, 22, 20, 2, 6)),
        ("2026-11-22T20:02:06.4Z", datetime(2026, 11, 22, 20, 2, 6, 400_000)),
        ("2026-11-22T20:02:06.433353325Z", datetime(2026, 11, 22, 20, 2, 6, 433_353)),
        ("2026-11-22T21:32:06+01:30", datetime(2026, 11, 22, 20, 2, 6)),
        ("2026-11-22T12:02:06-0800", datetime(2026, 11, 22, 20, 2, 6)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1)),
    ],
)
def test_a_time_of_any_shape_is_read(text: str, moment: datetime) -> None:
    assert parse_datetime(text) == moment.replace(tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-11-22", "2026-13-22T20:02:06Z", "2026-02-30T20:02:06Z", "2026-11-22T25:02:06Z",
     "2026-11-22T20:02:06+99:99", "2026-11-22T20:02:06Z and more",
     "٢٠٢٦-11-22T20:02:06Zx", None, 7, ["2026-11-22T20:02:06Z"]],
)  # fmt: skip
def test_a_time_that_is_none_is_a_protocol_error(text: Any) -> None:
    with pytest.raises(ProtocolError, match="time"):
        parse_datetime(text)


@given(st.datetimes(timezones=st.just(timezone.utc)))
@settings(deadline=None)
def test_a_time_that_is_written_is_read_back(moment: datetime) -> None:
    assert parse_datetime(format_datetime(moment)) == moment


def test_a_time_elsewhere_is_written_as_utc() -> None:
    moment = datetime(2026, 11, 22, 21, 2, 6, tzinfo=timezone(timedelta(hours=1)))
    assert format_datetime(moment) == "2026-11-22T20:02:06Z"


texts = st.text(st.characters(), max_size=8)  # with the halves of surrogate pairs, which JSON can write
numbers = st.integers() | st.integers(4, 400).map(lambda digits: 10**digits) | st.floats()
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
names = [
    "id",
    "status",
    "state",
    "createdAt",
    "image",
    "uri",
    "metadata",
    "entrypoint",
    "running",
    "exit_code",
    "started_at",
    "cpu_used_pct",
    "endpoint",
    "headers",
    "revision",
    "policy",
    "egress",
    "target",
    "ports",
]
nearly = st.recursive(
    json_values, lambda inner: st.dictionaries(st.sampled_from(names), inner, max_size=5), max_leaves=10
)


@pytest.mark.parametrize("model", [SandboxInfo, CommandStatus, Metrics, Endpoint, CredentialVaultState, EgressStatus])
@given(data=nearly)
@settings(max_examples=200, deadline=None)
def test_any_json_is_a_model_or_an_error_of_ours(model: Any, data: Any) -> None:
    try:
        found = decode(model, answered(json.dumps(data)))
    except SandboxError:
        return
    assert isinstance(found, model)
    repr(found).encode("utf-8")
    json.dumps(encode(found), allow_nan=False, ensure_ascii=False).encode("utf-8")


def test_the_models_of_the_wire_are_written_in_its_words() -> None:
    assert encode(Volume("v", "/data", host=Host("/srv"), sub_path="a")) == {
        "name": "v",
        "mountPath": "/data",
        "host": {"path": "/srv"},
        "subPath": "a",
    }
    assert encode(NetworkPolicy()) == {"defaultAction": "deny", "egress": []}
