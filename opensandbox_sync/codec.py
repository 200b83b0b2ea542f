"""JSON <-> dataclass, once, for every model.

A field's name on the wire is its camelCase name, in a ``SnakeCaseModel`` its own, or what its ``wire`` metadata says.
What the server leaves out or sends as null takes the field's default; a key that no field knows stays in ``raw``, where
the model has one. An error names the field and the kind of what came, and never shows it: tokens, signed addresses and
values of variables come through here.
"""

from __future__ import annotations

import dataclasses
import math
import re
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, List, Optional, Tuple, Type, TypeVar, Union, get_type_hints

from .errors import ProtocolError

T = TypeVar("T")
Reader = Callable[[Any], Any]

_STAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?\s*(Z|z|[+-]\d\d:?\d\d)?$")


class SnakeCaseModel:
    """Base of the daemon's models, whose names on the wire are snake_case as ours are."""


def wire(name: str, default: Any = dataclasses.MISSING, **options: Any) -> Any:
    """A dataclass field whose name on the wire is ``name``."""
    if default is not dataclasses.MISSING:
        options["default"] = default
    return dataclasses.field(metadata={"wire": name}, **options)


def parse_datetime(text: Any) -> datetime:
    """An RFC 3339 time as an aware ``datetime``.

    Go prints up to nine digits of a second, and ``Z``; Python 3.8 to 3.10 read neither. A time without a zone is UTC.
    """
    found = _STAMP.match(text) if isinstance(text, str) else None
    if not found:
        raise ProtocolError(f"the server sent {_kind(text)} where a time belongs")
    year, month, day, hour, minute, second, digits, zone = found.groups()
    micro = int((digits or "0")[:6].ljust(6, "0"))
    offset = timedelta(0)
    if zone and zone not in "Zz":
        sign = -1 if zone[0] == "-" else 1
        offset = sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
    try:
        return datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), micro, timezone(offset))
    except ValueError as cause:
        raise ProtocolError(f"the server sent a time that is none: {cause}") from None


def format_datetime(moment: datetime) -> str:
    """An aware ``datetime`` as the RFC 3339 text that the server reads."""
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def readable_datetime(moment: Optional[datetime]) -> str:
    """A ``datetime`` for people to read; an empty text for None."""
    return moment.strftime("%Y-%m-%d %H:%M:%S %Z").rstrip() if moment else ""


def decode(model: Type[T], data: Any) -> T:
    """``data`` (parsed JSON) as ``model``; raises ``ProtocolError`` naming the field that does not fit."""
    if not isinstance(data, dict):
        raise ProtocolError(f"the server sent {_kind(data)} where a {model.__name__} belongs")
    values: Dict[str, Any] = {}
    for name, key, read, required in _plan(model):
        value = data.get(key)
        if value is not None:
            try:
                values[name] = read(value)
            except ProtocolError as error:
                raise ProtocolError(f"{model.__name__}.{name}: {error}") from error
        elif required:
            raise ProtocolError(f"the server sent a {model.__name__} without {key!r}")
    # Without __post_init__: what a user may not send, a newer server may well answer.
    made = object.__new__(model)
    for field in dataclasses.fields(made):  # type: ignore[arg-type]
        if field.name in values:
            value = values[field.name]
        elif field.name == "raw":
            value = data
        elif field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        else:
            value = field.default
        object.__setattr__(made, field.name, value)
    return made


def encode(value: Any) -> Any:
    """``value`` as what ``json`` can write: dataclasses by their wire names, without their unset (None) fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {}
        for field in dataclasses.fields(value):
            item = getattr(value, field.name)
            if item is not None and field.name != "raw":
                found[_wire_name(type(value), field)] = encode(item)
        return found
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, datetime):
        return format_datetime(value)
    return value


def _wire_name(model: type, field: dataclasses.Field[Any]) -> str:
    name = field.metadata.get("wire")
    if name:
        return str(name)
    if issubclass(model, SnakeCaseModel):
        return field.name
    return camel_case(field.name)


def camel_case(name: str) -> str:
    """``snake_case`` as ``camelCase``."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


_plans: Dict[type, List[Tuple[str, str, Reader, bool]]] = {}


def _plan(model: type) -> List[Tuple[str, str, Reader, bool]]:
    """(field, wire name, reader, required) for each field; worked out once for a class."""
    plan = _plans.get(model)
    if plan is None:
        hints = get_type_hints(model)
        plan = []
        for field in dataclasses.fields(model):
            if field.name == "raw" or not field.init:
                continue
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            plan.append((field.name, _wire_name(model, field), _reader(hints[field.name]), required))
        _plans[model] = plan
    return plan


def _reader(kind: Any) -> Reader:
    origin: Any = getattr(kind, "__origin__", None)
    arguments: Tuple[Any, ...] = getattr(kind, "__args__", ())
    if origin is Union:
        inner = [item for item in arguments if item is not type(None)]
        return _reader(inner[0]) if len(inner) == 1 else _anything
    if origin in (list, List):
        return _list_reader(_reader(arguments[0]))
    if origin in (dict, Dict):
        return _dict_reader(_reader(arguments[1]))
    if dataclasses.is_dataclass(kind):
        model: Any = kind
        return lambda value: decode(model, value)
    return _SCALARS.get(kind, _anything)


def _anything(value: Any) -> Any:
    return value


def _list_reader(read: Reader) -> Reader:
    def reader(value: Any) -> Any:
        if not isinstance(value, list):
            raise ProtocolError(f"a list belongs here, not {_kind(value)}")
        return [read(item) for item in value]

    return reader


def _dict_reader(read: Reader) -> Reader:
    def reader(value: Any) -> Any:
        if not isinstance(value, dict):
            raise ProtocolError(f"an object belongs here, not {_kind(value)}")
        return {key: read(item) for key, item in value.items()}

    return reader


def _scalar(wanted: Tuple[type, ...], name: str, convert: Optional[Callable[[Any], Any]] = None) -> Reader:
    def reader(value: Any) -> Any:
        # bool is an int to Python, and is none on the wire.
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            raise ProtocolError(f"{name} belongs here, not {_kind(value)}")
        return convert(value) if convert else value

    return reader


def _whole(value: Any) -> int:
    # No counter of the wire is longer than 64 bits, and Python does not even print what has thousands of digits.
    if not -(2**63) <= value < 2**63 or value != int(value):
        raise ProtocolError("a whole number of at most 64 bits belongs here, not another number")
    return int(value)


def _finite(value: Any) -> float:
    try:
        number = float(value)
    except OverflowError:  # an int of 400 digits
        number = math.inf
    if not math.isfinite(number):
        raise ProtocolError("a finite number belongs here, not one that is out of range")
    return number


_SCALARS: Dict[Any, Reader] = {
    str: _scalar((str,), "text"),
    int: _scalar((int, float), "a whole number", _whole),
    float: _scalar((int, float), "a number", _finite),
    bool: _scalar((bool,), "true or false"),
    datetime: parse_datetime,
}


def without_lone_surrogates(value: Any) -> Any:
    """Half of an escaped pair (``\\ud800``) is no character, and no encoder takes it: it becomes U+FFFD."""
    if isinstance(value, str):
        if value.isascii():
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [without_lone_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_lone_surrogates(key): without_lone_surrogates(item) for key, item in value.items()}
    return value


def _kind(value: Any) -> str:
    """What JSON calls ``value``, and how long it is; never what it holds."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return f"text of {len(value)} characters"
    if isinstance(value, list):
        return f"a list of {len(value)} items"
    return f"an object with {len(value)} keys" if isinstance(value, dict) else type(value).__name__
