"""The credential vault of one sandbox: named secrets, and bindings that say which requests would carry them.

Values are kept and never given out. No request is changed: there is no proxy here to change it.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, TypeVar

from .policy import Policy

Raw = Dict[str, Any]
Item = TypeVar("Item")

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_RESERVED_HEADERS = frozenset(
    (
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "proxy-authorization",
        "proxy-authenticate",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    )
)
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_SURFACES = ("path", "query", "header", "body")


class VaultError(ValueError):
    """A change that cannot be made; the words are the sidecar's."""

    status = 400


class VaultNotFoundError(VaultError):
    status = 404

    def __init__(self) -> None:
        super().__init__("credential vault not found")


class VaultConflictError(VaultError):
    status = 409


class Credential:
    def __init__(self, name: str, value: str, revision: int) -> None:
        self.name = name
        self.value = value
        self.revision = revision

    def __repr__(self) -> str:  # a traceback or a log line must not show the value
        return f"<Credential {self.name!r} r{self.revision}>"

    def to_json(self) -> Raw:
        return {"name": self.name, "sourceType": "inline", "revision": self.revision}


class Vault:
    """Not thread-safe: the sidecar's lock is held around each call."""

    def __init__(self) -> None:
        self._revision = 0
        self._credentials: Dict[str, Credential] = {}
        self._bindings: Dict[str, Raw] = {}

    def create(self, request: Raw, policy: Policy) -> Raw:
        if self._revision:
            raise VaultConflictError("credential vault already exists")
        _known(request, ("credentials", "bindings"))
        credentials: Dict[str, Credential] = {}
        bindings: Dict[str, Raw] = {}
        for raw in _list(request, "credentials"):
            credential = _credential(raw, 1)
            if credential.name in credentials:
                raise VaultError(f'duplicate credential name "{credential.name}"')
            credentials[credential.name] = credential
        for raw in _list(request, "bindings"):
            binding = _binding(raw)
            if binding["name"] in bindings:
                raise VaultError(f'duplicate binding name "{binding["name"]}"')
            bindings[binding["name"]] = binding
        _check(credentials, bindings, policy)
        self._revision, self._credentials, self._bindings = 1, credentials, bindings
        return self.state()

    def patch(self, request: Raw, policy: Policy) -> Raw:
        """Deletes, then replaces, then adds; all of it or nothing."""
        self._must_exist()
        _known(request, ("expectedRevision", "credentials", "bindings"))
        expected = request.get("expectedRevision")
        if expected is not None and not (isinstance(expected, int) and not isinstance(expected, bool)):
            raise _type_error(expected, "expectedRevision", "int64")
        if expected is not None and expected != self._revision:
            raise VaultConflictError(f"expectedRevision {expected} does not match current revision {self._revision}")
        revision = self._revision + 1
        credentials = _mutated(
            "credential",
            self._credentials,
            request.get("credentials"),
            lambda raw: _credential(raw, revision),
            lambda made: made.name,
        )
        bindings = _mutated(
            "binding", self._bindings, request.get("bindings"), _binding, lambda made: str(made["name"])
        )
        _check(credentials, bindings, policy)
        self._revision, self._credentials, self._bindings = revision, credentials, bindings
        return self.state()

    def delete(self) -> None:
        self._must_exist()
        self._revision, self._credentials, self._bindings = 0, {}, {}

    def state(self) -> Raw:
        self._must_exist()
        return {
            "revision": self._revision,
            "credentials": [self._credentials[name].to_json() for name in sorted(self._credentials)],
            "bindings": [self._shown(self._bindings[name]) for name in sorted(self._bindings)],
        }

    def check_policy(self, policy: Policy) -> None:
        """Raises VaultError when a binding's host would not be allowed any more."""
        _check(self._credentials, self._bindings, policy)

    def _must_exist(self) -> None:
        if not self._revision:
            raise VaultNotFoundError

    def _shown(self, binding: Raw) -> Raw:
        auth = {"type": binding["auth"]["type"]}
        if auth["type"] == "apiKey":
            auth["name"] = binding["auth"]["name"]
        return {"name": binding["name"], "revision": self._revision, "match": binding["match"], "auth": auth}


def _type_error(value: Any, field: str, kind: str) -> VaultError:
    return VaultError(f"json: cannot unmarshal {type(value).__name__} into field {field} of type {kind}")


def _known(raw: Any, names: Sequence[str]) -> Raw:
    if not isinstance(raw, dict):
        raise _type_error(raw, names[0], "object")
    for name in raw:
        if name not in names:
            raise VaultError(f'json: unknown field "{name}"')
    return raw


def _list(raw: Raw, name: str) -> List[Any]:
    value = raw.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _type_error(value, name, "array")
    return value


def _text(raw: Raw, name: str) -> str:
    value = raw.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _type_error(value, name, "string")
    return value.strip()


def _texts(raw: Raw, name: str) -> List[str]:
    return [_text({name: value}, name) for value in _list(raw, name)]


def _credential(raw: Any, revision: int) -> Credential:
    _known(raw, ("name", "source"))
    name = _text(raw, "name")
    if not name:
        raise VaultError("credential name cannot be blank")
    source = _known(raw.get("source") or {}, ("type", "value"))
    kind = _text(source, "type")
    if kind != "inline":
        raise VaultError(f'credential "{name}": unsupported source type "{kind}"')
    if not source.get("value") or not isinstance(source["value"], str):
        raise VaultError(f'credential "{name}": inline source requires value')
    return Credential(name, source["value"], revision)


def _binding(raw: Any) -> Raw:
    _known(raw, ("name", "match", "auth"))
    name = _text(raw, "name")
    if not name:
        raise VaultError("binding name cannot be blank")
    try:
        return {"name": name, "match": _match(raw.get("match") or {}), "auth": _auth(raw.get("auth") or {})}
    except VaultError as error:
        raise VaultError(f'binding "{name}": {error}') from None


def _match(raw: Raw) -> Raw:
    _known(raw, ("schemes", "ports", "hosts", "methods", "paths"))
    schemes = [scheme.lower() for scheme in _texts(raw, "schemes")] or ["https"]
    ports = _list(raw, "ports") or [443]
    methods = [method.upper() for method in _texts(raw, "methods")] or _METHODS
    paths = _texts(raw, "paths") or ["/*"]
    if not raw.get("hosts"):
        raise VaultError("match.hosts cannot be empty")
    for scheme in schemes:
        if scheme not in ("https", "http"):
            raise VaultError(f'unsupported scheme "{scheme}"')
    for port in ports:
        if port not in (80, 443):
            raise VaultError(f"unsupported port {port}: only ports 80 and 443 are supported")
    hosts = [_host(host) for host in _texts(raw, "hosts")]
    if "" in methods:
        raise VaultError("method cannot be blank")
    if not all(path.startswith("/") for path in paths):
        raise VaultError("path pattern must start with /")
    lists = {"schemes": schemes, "ports": ports, "hosts": hosts, "methods": methods, "paths": paths}
    return {name: list(dict.fromkeys(values)) for name, values in lists.items()}


def _host(raw: str) -> str:
    host = raw.rstrip(".").lower()
    if not host:
        raise VaultError("host cannot be blank")
    if "/" in host:
        raise VaultError(f'host "{host}" must not include scheme or path')
    name = host[2:] if host.startswith("*.") else host
    if _is_address(name):
        raise VaultError(f'credential binding host "{host}" must be an FQDN, not an IP address')
    labels = name.split(".")
    if len(name) > 253 or len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        wrong = "invalid wildcard host" if "*" in host else "credential binding host"
        raise VaultError(f'{wrong} "{host}"' + ("" if "*" in host else " must be an FQDN"))
    return host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _auth(raw: Raw) -> Raw:
    _known(raw, ("type", "credential", "name", "headers", "substitutions"))
    kind = _text(raw, "type")
    auth: Raw = {"type": kind, "credentials": []}
    if kind in ("bearer", "basic", "apiKey"):
        if kind == "apiKey":
            auth["name"] = _header(_text(raw, "name"))
        auth["credentials"] = [_text(raw, "credential")]
        if not auth["credentials"][0]:
            raise VaultError(f"{kind} auth requires credential")
    elif kind == "customHeaders":
        auth["credentials"] = _custom_headers(_list(raw, "headers"))
    elif kind != "passthrough":
        raise VaultError(f'unsupported auth type "{kind}"')
    for index, substitution in enumerate(_list(raw, "substitutions")):
        auth["credentials"].append(_substitution(index, substitution))
    return auth


def _custom_headers(headers: Sequence[Any]) -> List[str]:
    if not headers:
        raise VaultError("customHeaders auth requires headers")
    credentials: Dict[str, str] = {}
    for entry in headers:
        _known(entry, ("name", "credential"))
        name = _header(_text(entry, "name"))
        if name in credentials:
            raise VaultError(f'duplicate custom header name "{name}"')
        credentials[name] = _text(entry, "credential")
        if not credentials[name]:
            raise VaultError(f'customHeaders entry "{name}" requires credential')
    return list(credentials.values())


def _header(name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise VaultError(f'invalid credential header name "{name}"')
    if name.lower() in _RESERVED_HEADERS:
        raise VaultError(f'reserved credential header name "{name}"')
    return "-".join(part.capitalize() for part in name.split("-"))


def _substitution(index: int, raw: Any) -> str:
    _known(raw, ("credential", "placeholder", "in"))
    for name in ("credential", "placeholder"):
        if not _text(raw, name):
            raise VaultError(f"substitution {index} requires {name}")
    if not raw.get("in"):
        raise VaultError(f"substitution {index} requires at least one target surface")
    for surface in _texts(raw, "in"):
        if surface.lower() not in _SURFACES:
            raise VaultError(f'substitution {index} has unsupported target surface "{surface}"')
    return _text(raw, "credential")


def _mutated(
    what: str,
    current: Mapping[str, Item],
    changes: Optional[Raw],
    make: Callable[[Any], Item],
    name_of: Callable[[Item], str],
) -> Dict[str, Item]:
    result = dict(current)
    if changes is None:
        return result
    _known(changes, ("add", "replace", "delete"))
    mentioned = set()

    def mention(name: str, must_exist: bool) -> None:
        if name in mentioned:
            raise VaultError(f'{what} "{name}" mentioned by multiple operations')
        mentioned.add(name)
        if must_exist != (name in current):
            raise VaultError(f'{what} "{name}" {"does not exist" if must_exist else "already exists"}')

    for name in _texts(changes, "delete"):
        if not name:
            raise VaultError(f"{what} delete name cannot be blank")
        mention(name, must_exist=True)
        del result[name]
    for operation in ("replace", "add"):
        for raw in _list(changes, operation):
            made = make(raw)
            mention(name_of(made), must_exist=operation == "replace")
            result[name_of(made)] = made
    return result


def _check(credentials: Mapping[str, Credential], bindings: Mapping[str, Raw], policy: Policy) -> None:
    for binding in bindings.values():
        name = binding["name"]
        for reference in binding["auth"]["credentials"]:
            if reference not in credentials:
                raise VaultError(f'binding "{name}" references unknown credential "{reference}"')
        for host in binding["match"]["hosts"]:
            if not policy.allows(host):
                raise VaultError(f'binding "{name}" host "{host}" is not allowed by egress policy')
    listed = list(bindings.values())
    for index, one in enumerate(listed):
        for other in listed[index + 1 :]:
            if _overlap(one["match"], other["match"]):
                names = f'bindings "{one["name"]}" and "{other["name"]}"'
                raise VaultError(f"{names} can match the same request")


def _overlap(a: Raw, b: Raw) -> bool:
    """Whether one request could match both. An exact host goes before a wildcard: those never clash."""
    return (
        all(set(a[key]) & set(b[key]) for key in ("schemes", "ports", "methods"))
        and any(_paths_overlap(x, y) for x in a["paths"] for y in b["paths"])
        and any(_hosts_overlap(x, y) for x in a["hosts"] for y in b["hosts"])
    )


def _paths_overlap(a: str, b: str) -> bool:
    if a == b:
        return True
    return (a.endswith("*") and b.startswith(a[:-1])) or (b.endswith("*") and a.startswith(b[:-1]))


def _hosts_overlap(a: str, b: str) -> bool:
    if a.startswith("*.") != b.startswith("*."):
        return False
    return a == b or (a.startswith("*.") and (a.endswith(b[1:]) or b.endswith(a[1:])))
