"""The credential vault: secrets that the egress sidecar puts into requests, and that the sandbox itself never sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Mapping, Optional
from urllib.parse import quote

from ..codec import encode
from ..errors import ApiError, InvalidArgumentError, NotSupportedError
from ..models import (
    check_model,
    check_models,
    check_ports,
    check_whole,
    one_or_more,
    require_secret,
    require_text,
    shown,
)

if TYPE_CHECKING:
    from ..sandbox import Sandbox
    from ..transport import Answer

_SURFACES = ("path", "query", "header", "body")


@dataclass
class Credential:
    """A named secret. ``value`` can be written, and is never given out again; no ``repr`` shows it."""

    name: str
    value: str = field(repr=False)

    def __post_init__(self) -> None:
        require_text("credential name", self.name)
        require_secret(f"credential {self.name!r}: value", self.value)


@dataclass
class CredentialMatch:
    """Which requests a binding is for.

    ``hosts`` are full names or ``*.domain``, which the egress policy must allow. The server's defaults for the others:
    ``schemes`` https, ``ports`` 443 (80 is the only other), ``methods`` GET POST PUT PATCH DELETE, ``paths`` ``/*``.
    """

    hosts: List[str]
    schemes: Optional[List[str]] = None
    ports: Optional[List[int]] = None
    methods: Optional[List[str]] = None
    paths: Optional[List[str]] = None

    def __post_init__(self) -> None:
        for name in ("hosts", "schemes", "methods", "paths"):
            if getattr(self, name) is not None:
                setattr(self, name, _texts(f"match {name}", getattr(self, name)))
        if not self.hosts:
            raise InvalidArgumentError("match hosts must hold at least one, such as 'api.example.com'")
        if self.ports is not None:
            self.ports = check_ports("match ports", self.ports)


@dataclass
class CustomHeader:
    """A header to be set to the value of the credential of that name."""

    name: str
    credential: str

    def __post_init__(self) -> None:
        require_text("header name", self.name, "'X-Api-Key'")
        require_text(f"header {self.name!r}: credential", self.credential)


@dataclass
class CredentialSubstitution:
    """A ``placeholder`` text that the value of the credential of that name takes the place of, in these parts of a
    request: ``path``, ``query``, ``header``, ``body``.
    """

    credential: str
    placeholder: str
    in_: List[str] = field(metadata={"wire": "in"})

    def __post_init__(self) -> None:
        require_text("substitution credential", self.credential)
        require_text("substitution placeholder", self.placeholder)
        self.in_ = one_or_more("substitution in_", self.in_)
        for surface in self.in_:
            if surface not in _SURFACES:
                raise InvalidArgumentError(f"substitution in_ must hold {', '.join(_SURFACES)}, not {shown(surface)}")
        if not self.in_:
            raise InvalidArgumentError(f"substitution in_ must hold at least one of {', '.join(_SURFACES)}")


@dataclass
class CredentialAuth:
    """How credentials, given by their names, get into a request; the class methods make one of each kind."""

    type: str
    credential: Optional[str] = None
    name: Optional[str] = None
    headers: Optional[List[CustomHeader]] = None
    substitutions: Optional[List[CredentialSubstitution]] = None

    def __post_init__(self) -> None:
        require_text("auth type", self.type, "'bearer'")
        if self.type in ("bearer", "basic", "apiKey"):
            require_text(f"{self.type} auth: credential (a credential's name)", self.credential)
        if self.type == "apiKey":
            require_text("apiKey auth: name (a header's)", self.name, "'X-Api-Key'")
        for name in ("credential", "name"):
            if getattr(self, name) is not None:
                require_text(f"{self.type} auth: {name}", getattr(self, name))
        if self.headers is not None:
            self.headers = check_models("headers", self.headers, CustomHeader)
        if self.type == "customHeaders" and not self.headers:
            raise InvalidArgumentError("customHeaders auth: headers must hold at least one CustomHeader")
        if self.substitutions is not None:
            self.substitutions = check_models("substitutions", self.substitutions, CredentialSubstitution)

    @classmethod
    def bearer(cls, credential: str) -> CredentialAuth:
        """``Authorization: Bearer`` and the credential's value."""
        return cls("bearer", credential)

    @classmethod
    def basic(cls, credential: str) -> CredentialAuth:
        """``Authorization: Basic`` and the credential's value, which is the base64 of ``user:password``."""
        return cls("basic", credential)

    @classmethod
    def api_key(cls, header: str, credential: str) -> CredentialAuth:
        """The credential's value in a header of this name."""
        return cls("apiKey", credential, header)

    @classmethod
    def custom_headers(cls, headers: Mapping[str, str]) -> CredentialAuth:
        """Several headers: names of headers to names of credentials."""
        if not isinstance(headers, Mapping):
            raise InvalidArgumentError(f"headers must map header names to credentials, not {type(headers).__name__}")
        return cls("customHeaders", headers=[CustomHeader(name, credential) for name, credential in headers.items()])

    @classmethod
    def passthrough(cls, *substitutions: CredentialSubstitution) -> CredentialAuth:
        """Nothing is added to the request; placeholders in it are replaced."""
        return cls("passthrough", substitutions=list(substitutions))


@dataclass
class CredentialBinding:
    """Which requests (``match``) get which credentials, and how (``auth``)."""

    name: str
    match: CredentialMatch
    auth: CredentialAuth

    def __post_init__(self) -> None:
        require_text("binding name", self.name)
        check_model(f"binding {self.name!r}: match", self.match, CredentialMatch)
        check_model(f"binding {self.name!r}: auth", self.auth, CredentialAuth)


@dataclass
class CredentialMutationSet:
    """Changes of credentials: what is deleted (by name) goes first, then what is replaced, then what is added."""

    add: List[Credential] = field(default_factory=list)
    replace: List[Credential] = field(default_factory=list)
    delete: List[str] = field(default_factory=list)


@dataclass
class CredentialBindingMutationSet:
    """Changes of bindings, in the same order."""

    add: List[CredentialBinding] = field(default_factory=list)
    replace: List[CredentialBinding] = field(default_factory=list)
    delete: List[str] = field(default_factory=list)


@dataclass
class CredentialMetadata:
    """What the vault tells of a credential; never its value."""

    name: str
    source_type: str
    revision: int


@dataclass
class CredentialAuthMetadata:
    """What the vault tells of a binding's auth: its kind, and the header's name for ``apiKey``."""

    type: str
    name: Optional[str] = None


@dataclass
class CredentialBindingMetadata:
    """What the vault tells of a binding."""

    name: str
    revision: int
    match: Optional[CredentialMatch] = None
    auth: Optional[CredentialAuthMetadata] = None


@dataclass
class CredentialVaultState:
    """The vault without its secrets; ``revision`` counts its changes from 1."""

    revision: int
    credentials: List[CredentialMetadata] = field(default_factory=list)
    bindings: List[CredentialBindingMetadata] = field(default_factory=list)


class CredentialVaultService:
    """Keeps a sandbox's credentials; ``sandbox.vault``.

    It needs a sandbox that was created with ``network_policy=`` (which allows the hosts) and ``credential_proxy=True``,
    else writing raises ``ApiError`` with status 412. Secrets are only ever sent, over TLS or loopback where the sidecar
    insists (426).
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def create(
        self, credentials: Iterable[Credential], bindings: Iterable[CredentialBinding] = ()
    ) -> CredentialVaultState:
        """Make the vault, at revision 1; ``ConflictError`` where there is one."""
        body = {
            "credentials": _credentials("credentials", credentials),
            "bindings": _bindings("bindings", bindings),
        }
        return self._state("POST", "create the credential vault", body)

    def get(self) -> CredentialVaultState:
        """What is in the vault, without the secrets; ``NotFoundError`` where there is none."""
        return self._state("GET", "read the credential vault")

    def patch(
        self,
        *,
        credentials: Optional[CredentialMutationSet] = None,
        bindings: Optional[CredentialBindingMutationSet] = None,
        expected_revision: Optional[int] = None,
    ) -> CredentialVaultState:
        """Make these changes, all or none. ``ConflictError`` where the vault is not at ``expected_revision`` any
        more.
        """
        if credentials is None and bindings is None:
            raise InvalidArgumentError("credentials or bindings must be given: there is nothing to change")
        body: Dict[str, Any] = {}
        if expected_revision is not None:
            body["expectedRevision"] = check_whole("expected_revision", expected_revision, 1)
        if credentials is not None:
            body["credentials"] = _changes("credentials", credentials, CredentialMutationSet, _credentials)
        if bindings is not None:
            body["bindings"] = _changes("bindings", bindings, CredentialBindingMutationSet, _bindings)
        return self._state("PATCH", "change the credential vault", body)

    def delete(self) -> None:
        """Remove the vault with all that is in it; ``NotFoundError`` where there is none."""
        self._call("DELETE", "", "delete the credential vault")

    def credentials(self) -> List[CredentialMetadata]:
        """The credentials, by name, without their values."""
        return self._state("GET", "list the credentials", path="/credentials").credentials

    def credential(self, name: str) -> CredentialMetadata:
        """One credential, without its value; ``NotFoundError`` where there is none of this name."""
        path = "/credentials/" + quote(require_text("name", name), safe="")
        return self._call("GET", path, f"look up credential {name}").decode(CredentialMetadata)

    def bindings(self) -> List[CredentialBindingMetadata]:
        """The bindings, by name."""
        return self._state("GET", "list the bindings", path="/bindings").bindings

    def binding(self, name: str) -> CredentialBindingMetadata:
        """One binding; ``NotFoundError`` where there is none of this name."""
        path = "/bindings/" + quote(require_text("name", name), safe="")
        return self._call("GET", path, f"look up binding {name}").decode(CredentialBindingMetadata)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _state(self, method: str, action: str, body: Any = None, *, path: str = "") -> CredentialVaultState:
        return self._call(method, path, action, body).decode(CredentialVaultState)

    def _call(self, method: str, path: str, action: str, body: Any = None) -> Answer:
        sandbox = self._sandbox
        if sandbox._egress.is_kept_by_server():
            raise NotSupportedError(
                f"could not {action}: a sandbox from a template has no egress sidecar, and so no vault",
                code="NOT_SUPPORTED",
            )
        try:
            return sandbox._client._transport.request(
                sandbox._egress, method, "/credential-vault" + path, action=action, json=body
            )
        except ApiError as error:
            if error.status_code in (412, 502):  # 502: nothing answers on the sidecar's port
                error.args = (f"{error}; create the sandbox with network_policy= and credential_proxy=True",)
            raise


def _texts(where: str, items: Any) -> List[str]:
    return [require_text(f"each of {where}", item) for item in one_or_more(where, items)]


def _credentials(where: str, items: Any) -> List[Dict[str, Any]]:
    found = check_models(where, items, Credential)
    return [{"name": item.name, "source": {"type": "inline", "value": item.value}} for item in found]


def _bindings(where: str, items: Any) -> List[Any]:
    return [encode(item) for item in check_models(where, items, CredentialBinding)]


def _changes(where: str, changes: Any, kind: Any, encoded: Callable[[str, Any], List[Any]]) -> Dict[str, Any]:
    check_model(where, changes, kind)
    found = {
        "add": encoded(f"{where} add", changes.add),
        "replace": encoded(f"{where} replace", changes.replace),
        "delete": _texts(f"{where} delete", changes.delete),
    }
    return {name: items for name, items in found.items() if items}
