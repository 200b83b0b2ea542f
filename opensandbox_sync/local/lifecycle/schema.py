"""Checks request bodies as the real server's pydantic models do, down to the 422's `type`, `loc` and `msg`.

A check is a function `(value, where, problems) -> value`: it appends what is wrong to `problems`, and returns
the value as the model would hold it. Kinds and messages are those that the real models gave to bad input.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from .errors import DetailError, problem

Where = List[Any]
Problems = List[Dict[str, Any]]
Check = Callable[[Any, Where, Problems], Any]

_TRUE = {"1", "true", "t", "yes", "y", "on"}
_FALSE = {"0", "false", "f", "no", "n", "off"}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_HOUR, _SIXTY = r"(?:[01]\d|2[0-3])", r"[0-5]\d"
_TIME = re.compile(rf"(?:[Tt _]({_HOUR}:{_SIXTY})(:{_SIXTY})?(?:[.,](\d+))?([Zz]|[+-]{_HOUR}:?{_SIXTY})?)?", re.ASCII)


class Invalid(Exception):
    """What a model's own check raises; becomes a `value_error`."""


def parse_json(body: bytes) -> Any:
    """Parses a request body; raises the 422 or 400 that FastAPI answers for one that is not JSON."""
    if not body:
        raise DetailError(422, [problem("missing", ["body"], "Field required", None)])
    try:
        return json.loads(body.decode("utf-8"))
    except json.JSONDecodeError as error:
        wrong = problem("json_invalid", ["body", error.pos], "JSON decode error", {}, error=error.msg)
        raise DetailError(422, [wrong]) from None
    except (ValueError, RecursionError):
        raise DetailError(400, "There was an error parsing the body") from None


def validate(check: Check, value: Any, where: Any = "body") -> Any:
    """Returns the checked value; raises one 422 with everything that is wrong with it."""
    problems: Problems = []
    result = check(value, [where], problems)
    if problems:
        raise DetailError(422, problems)
    return result


def text(*, shortest: int = 0, longest: Optional[int] = None, pattern: Optional[str] = None) -> Check:
    def check(value: Any, where: Where, problems: Problems) -> Any:
        if not isinstance(value, str):
            problems.append(problem("string_type", where, "Input should be a valid string", value))
        elif len(value) < shortest:
            message = f"String should have at least {shortest} character{'s' if shortest > 1 else ''}"
            problems.append(problem("string_too_short", where, message, value, min_length=shortest))
        elif longest is not None and len(value) > longest:
            message = f"String should have at most {longest} characters"
            problems.append(problem("string_too_long", where, message, value, max_length=longest))
        elif pattern is not None and not re.search(pattern, value):
            message = f"String should match pattern '{pattern}'"
            problems.append(problem("string_pattern_mismatch", where, message, value, pattern=pattern))
        return value

    return check


def one_of(*allowed: str) -> Check:
    expected = " or ".join(repr(a) for a in allowed)

    def check(value: Any, where: Where, problems: Problems) -> Any:
        if value not in allowed:
            problems.append(problem("literal_error", where, f"Input should be {expected}", value, expected=expected))
        return value

    return check


def boolean(value: Any, where: Where, problems: Problems) -> Any:
    if isinstance(value, bool):
        return value
    is_whole = isinstance(value, (int, float)) and value % 1 == 0 and abs(value) < 2**63
    if isinstance(value, str) or is_whole:
        word = str(value if isinstance(value, str) else int(value)).lower()
        if word in _TRUE | _FALSE:
            return word in _TRUE
        message = "Input should be a valid boolean, unable to interpret input"
        problems.append(problem("bool_parsing", where, message, value))
    else:
        problems.append(problem("bool_type", where, "Input should be a valid boolean", value))
    return value


def integer(*, least: Optional[int] = None, most: Optional[int] = None) -> Check:
    def check(value: Any, where: Where, problems: Problems) -> Any:
        number = _whole(value, where, problems)
        if number is None:
            return value
        if least is not None and number < least:
            message = f"Input should be greater than or equal to {least}"
            problems.append(problem("greater_than_equal", where, message, value, ge=least))
        elif most is not None and number > most:
            message = f"Input should be less than or equal to {most}"
            problems.append(problem("less_than_equal", where, message, value, le=most))
        return number

    return check


def _whole(value: Any, where: Where, problems: Problems) -> Optional[int]:
    """Reads an integer laxly: "600", 600.0 and true are integers, 60.5 is not."""
    message = "Input should be a valid integer"
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if value.is_integer():
            return int(value)
        message += ", got a number with a fractional part"
        problems.append(problem("int_from_float", where, message, value))
    elif isinstance(value, str):
        if re.fullmatch(r"\s*[+-]?\d+(\.0*)?\s*", value, re.ASCII):
            return int(value.partition(".")[0])
        message += ", unable to parse string as an integer"
        problems.append(problem("int_parsing", where, message, value))
    else:
        problems.append(problem("int_type", where, message, value))
    return None


def moment(value: Any, where: Where, problems: Problems) -> Any:
    """A datetime: RFC 3339, a bare date, naive (UTC), or a Unix time in seconds (huge: milliseconds)."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        problems.append(problem("datetime_type", where, "Input should be a valid datetime", value))
        return value
    try:
        if isinstance(value, str) and not re.fullmatch(r"[+-]?\d{1,18}(\.\d+)?", value, re.ASCII):
            return _parse_moment(value)
        return _unix_moment(float(value) if isinstance(value, str) else value)
    except ValueError as error:
        kind = "datetime_from_date_parsing" if isinstance(value, str) else "datetime_parsing"
        message = f"Input should be a valid datetime{' or date' if isinstance(value, str) else ''}, {error}"
        problems.append(problem(kind, where, message, value, error=str(error)))
        return value


def _unix_moment(number: float) -> datetime:
    if number != number:
        raise ValueError("NaN values not permitted")
    try:
        return _EPOCH + timedelta(seconds=number if abs(number) <= 2e10 else number / 1000)
    except OverflowError:
        edge = "after 9999" if number > 0 else "before 0000"
        raise ValueError(f"dates {edge} are not supported as unix timestamps") from None


def _parse_moment(value: str) -> datetime:
    """Every reason is one of those that pydantic gives."""
    value = value.strip()
    if len(value) < 10:
        raise ValueError("input is too short")
    if value[4] != "-" or value[7] != "-":
        raise ValueError("invalid date separator, expected `-`")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", value[:10], re.ASCII):
        raise ValueError("invalid character in year, month or day")
    year, month, day = (int(part) for part in value[:10].split("-"))
    if not 1 <= month <= 12:
        raise ValueError("month value is outside expected range of 1-12")
    if not year:
        raise ValueError("year 0 is out of range")
    try:
        datetime(year, month, day)
    except ValueError:
        raise ValueError("day value is outside expected range") from None
    found = _TIME.fullmatch(value[10:])
    if not found:
        raise ValueError("unexpected extra characters at the end of the input")
    minutes, seconds, fraction, zone = found.groups()
    micros = ((fraction or "") + "000000")[:6]
    offset = (zone or "Z").upper().replace("Z", "+00:00").replace(":", "")
    full = f"{value[:10]}T{minutes or '00:00'}{seconds or ':00'}.{micros}{offset}"
    moment = datetime.strptime(full, "%Y-%m-%dT%H:%M:%S.%f%z")
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError:  # at either end of the calendar its hour may be in no year
        return moment.replace(tzinfo=timezone.utc)


def array(item: Check, *, shortest: int = 0) -> Check:
    def check(value: Any, where: Where, problems: Problems) -> Any:
        if not isinstance(value, list):
            problems.append(problem("list_type", where, "Input should be a valid list", value))
            return value
        if len(value) < shortest:
            message = f"List should have at least {shortest} item after validation, not {len(value)}"
            context = {"field_type": "List", "min_length": shortest, "actual_length": len(value)}
            problems.append(problem("too_short", where, message, value, **context))
        return [item(element, [*where, index], problems) for index, element in enumerate(value)]

    return check


def mapping(item: Check) -> Check:
    def check(value: Any, where: Where, problems: Problems) -> Any:
        if not isinstance(value, dict):
            problems.append(problem("dict_type", where, "Input should be a valid dictionary", value))
            return value
        return {key: item(element, [*where, key], problems) for key, element in value.items()}

    return check


def nullable(check: Check) -> Check:
    return lambda value, where, problems: None if value is None else check(value, where, problems)


Field = Tuple[Check, bool]


def required(check: Check) -> Field:
    return check, True


def optional(check: Check) -> Field:
    """A field that may be left out or be null."""
    return nullable(check), False


def defaulted(check: Check) -> Field:
    """A field that may be left out, but not be null."""
    return check, False


def _snake(name: str) -> str:
    return re.sub("([A-Z])", lambda m: "_" + m.group(1).lower(), name)


def model(
    fields: Mapping[str, Field],
    *,
    closed: bool = False,
    rule: Optional[Callable[[Dict[str, Any]], None]] = None,
) -> Check:
    """An object. Its fields go by camelCase and by snake_case names; others are ignored unless `closed`.

    `rule` sees the object when all its fields are well, and raises `Invalid` when they do not go together.
    """
    names = {spelling: name for name in fields for spelling in (_snake(name), name)}

    def check(value: Any, where: Where, problems: Problems) -> Any:
        if not isinstance(value, dict):
            message = "Input should be a valid dictionary or object to extract fields from"
            problems.append(problem("model_attributes_type", where, message, value))
            return value
        before = len(problems)
        result: Dict[str, Any] = {}
        for name, (field, needed) in fields.items():
            spelling = name if name in value else _snake(name)
            if spelling in value:
                result[name] = field(value[spelling], [*where, spelling], problems)
            elif needed:
                problems.append(problem("missing", [*where, name], "Field required", value))
        for unknown in value if closed else ():
            if unknown not in names:
                message = "Extra inputs are not permitted"
                problems.append(problem("extra_forbidden", [*where, unknown], message, value[unknown]))
        if rule is not None and len(problems) == before:
            try:
                rule(result)
            except Invalid as error:
                problems.append(problem("value_error", where, f"Value error, {error}", value, error={}))
        return result

    return check
