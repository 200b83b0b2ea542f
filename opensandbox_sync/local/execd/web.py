"""What all routes share: answers, errors and request bodies as a Go program with gin gives and reads them."""

from __future__ import annotations

import json
import re
from typing import Any, Callable, Dict, Iterable, Iterator, List, NoReturn, Optional, Tuple

from flask import Response, request

# (verb, path, view), as Flask's add_url_rule takes them.
Route = Tuple[str, str, Callable[..., Any]]

# A field's type is named as Go names it; what has no entry here is an object.
_TYPES: Dict[str, type] = {"string": str, "bool": bool, "int": int, "int64": int, "uint32": int, "[]string": list}
_RANGES = {"int": (-(2**63), 2**63), "int64": (-(2**63), 2**63), "uint32": (0, 2**32)}
_JSON_KINDS: Dict[type, str] = {bool: "bool", int: "number", float: "number", str: "string", list: "array"}
# What Go's decoder says where Python's says the key.
_SYNTAX: Dict[str, str] = {
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Expecting value": "looking for beginning of value",
    "Expecting ',' delimiter": "after object key:value pair",
    "Expecting ':' delimiter": "after object key",
}


class Failure(Exception):
    """An answer that is an error: status, code and message as the daemon sends them."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def body(self) -> Dict[str, str]:
        return {"code": self.code, "message": self.message}


def invalid(message: str) -> NoReturn:
    """Refuse the request: 400 INVALID_REQUEST_BODY."""
    raise Failure(400, "INVALID_REQUEST_BODY", message)


def broken(message: str) -> NoReturn:
    """Say that it did not work: 500 RUNTIME_ERROR."""
    raise Failure(500, "RUNTIME_ERROR", message)


def dumps(value: Any) -> str:
    """JSON without spaces and in ASCII, which spares every reader the line breaks that Unicode hides."""
    return json.dumps(value, separators=(",", ":"))


def answer(value: Any, status: int = 200) -> Response:
    return Response(dumps(value), status, content_type="application/json; charset=utf-8")


def empty() -> Response:
    """A success without a body has no Content-Type either."""
    response = Response(b"", 200)
    del response.headers["Content-Type"]
    return response


def text(content: str, status: int, content_type: str = "text/plain; charset=utf-8") -> Response:
    return Response(content, status, content_type=content_type)


def event_stream(frames: Iterator[bytes]) -> Response:
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return Response(frames, 200, headers, content_type="text/event-stream", direct_passthrough=True)


def query(name: str) -> str:
    """A query parameter that has to be there."""
    value = request.args.get(name, "")
    if not value:
        raise Failure(400, "MISSING_QUERY", f"missing query parameter '{name}'")
    return value


def read_json(prefix: str) -> Any:
    """The first JSON value of the body; to Go's decoder neither what follows nor the Content-Type matters."""
    body = request.get_data().decode("utf-8", "replace").lstrip()
    if not body:
        invalid(prefix + "EOF")
    return first_value(body, prefix)[0]


def first_value(text: str, prefix: str) -> Tuple[Any, str]:
    """The JSON value that a text begins with, and what follows it."""
    try:
        value, end = json.JSONDecoder().raw_decode(text)
        return (_well_formed(value) if "\\u" in text else value), text[end:]
    except json.JSONDecodeError as error:
        invalid(prefix + _syntax_error(error, text))
    except RecursionError:
        invalid(prefix + "exceeded max depth")
    except ValueError:  # Python reads no number of thousands of digits
        invalid(prefix + "json: cannot unmarshal number")


def _well_formed(value: Any) -> Any:
    """A lone surrogate is no character: Go's decoder puts U+FFFD in its place."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [_well_formed(item) for item in value]
    if isinstance(value, dict):
        return {_well_formed(key): _well_formed(item) for key, item in value.items()}
    return value


def _syntax_error(error: json.JSONDecodeError, body: str) -> str:
    if error.pos >= len(body) or error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    where = _SYNTAX.get(error.msg, "in string literal")
    return f"invalid character {body[error.pos]!r} {where}"


def read_object(kind: str, fields: Dict[str, str], prefix: str) -> Dict[str, Any]:
    """The body as the Go struct `kind`: keys in any case, unknown ones ignored, null ones left out."""
    return struct(read_json(prefix), kind, fields, prefix)


def struct(value: Any, kind: str, fields: Dict[str, str], prefix: str, where: str = "") -> Dict[str, Any]:
    """`where` is the place of a struct inside another value, as Go's decoder tells it."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        place = f"struct field {where}" if where else "value"
        invalid(f"{prefix}json: cannot unmarshal {json_kind(value)} into Go {place} of type model.{kind}")
    found: Dict[str, Any] = {}
    lowered = {name.lower(): name for name in fields}
    for key, item in value.items():
        name = lowered.get(key.lower())
        if name is None or item is None:
            continue
        found[name] = _typed(item, fields[name], f"{where or kind}.{name}", prefix)
    return found


def _typed(value: Any, kind: str, where: str, prefix: str) -> Any:
    fits = type(value) is _TYPES.get(kind, dict)
    if fits and kind in _RANGES:
        least, end = _RANGES[kind]
        fits = least <= value < end
    if not fits:
        got = f"number {value}" if kind in _RANGES and type(value) in (int, float) else json_kind(value)
        invalid(f"{prefix}json: cannot unmarshal {got} into Go struct field {where} of type {kind}")
    if kind == "map[string]string":
        return {
            name: _typed("" if item is None else item, "string", f"{where}.{name}", prefix)
            for name, item in value.items()
        }
    return value


def json_kind(value: Any) -> str:
    """What JSON calls it."""
    return _JSON_KINDS.get(type(value), "object")


def require(found: Dict[str, Any], kind: str, name: str, prefix: str) -> None:
    """Go's validator: a zero value is as good as none."""
    if not found.get(name):
        field_error(kind, name.capitalize(), "required", prefix)


def field_error(kind: str, field: str, tag: str, prefix: str) -> NoReturn:
    invalid(f"{prefix}Key: '{kind}.{field}' Error:Field validation for '{field}' failed on the '{tag}' tag")


def chunks(read: Callable[[int], bytes], size: Optional[int] = None) -> Iterable[bytes]:
    """What `read` gives, in pieces, until it ends or `size` bytes have come."""
    left = size
    while left is None or left > 0:
        piece = read(65536 if left is None else min(65536, left))
        if not piece:
            return
        if left is not None:
            left -= len(piece)
        yield piece


def strings(items: List[Any]) -> bool:
    return all(isinstance(item, str) for item in items)
