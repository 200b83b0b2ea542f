"""The credential vault: secrets that the egress sidecar puts into requests, and that the sandbox itself never sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Mapping, Optional
from urllib.parse import quote

from ..codec import decode, encode
from ..errors import ApiError, InvalidArgumentError, NotSupportedError
from ..models import one_or_more, require_text

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
        if not isinstance(self.value, str) or not self.value:
            raise InvalidArgumentError(f"credential {self.name!r}: value must be text that is not empty")


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
            for text in one_or_more(f"match {name}", getattr(self, name)):
                require_text(f"each of match {name}", text)
        if not self.hosts:
            raise InvalidArgumentError("match hosts must hold at least one, such as 'api.example.com'")
        for port in self.ports or ():
            if isinstance(port, bool) or not isinstance(port, int):
                raise InvalidArgumentError(f"match ports must hold whole numbers, not {port!r}")


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
        for surface in one_or_more("substitution in_", self.in_):
            if surface not in _SURFACES:
                raise InvalidArgumentError(f"substitution in_ must hold {', '.join(_SURFACES)}, not {surface!r}")
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
        if self.type == "customHeaders" and not self.headers:
            raise InvalidArgumentError("customHeaders auth: headers must hold at least one CustomHeader")
        _check_all("headers", self.headers, CustomHeader)
        _check_all("substitutions", self.substitutions, CredentialSubstitution)

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
        for name, kind in (("match", CredentialMatch), ("auth", CredentialAuth)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise InvalidArgumentError(
                    f"binding {self.name!r}: {name} must be a {kind.__name__}, not {type(value).__name__}"
                )


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
        body: Dict[str, Any] = {}
        if expected_revision is not None:
            if isinstance(expected_revision, bool) or not isinstance(expected_revision, int):
                raise InvalidArgumentError(f"expected_revision must be a whole number, not {expected_revision!r}")
            body["expectedRevision"] = expected_revision
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
        return decode(CredentialMetadata, self._call("GET", path, f"look up credential {name}").json())

    def bindings(self) -> List[CredentialBindingMetadata]:
        """The bindings, by name."""
        return self._state("GET", "list the bindings", path="/bindings").bindings

    def binding(self, name: str) -> CredentialBindingMetadata:
        """One binding; ``NotFoundError`` where there is none of this name."""
        path = "/bindings/" + quote(require_text("name", name), safe="")
        return decode(CredentialBindingMetadata, self._call("GET", path, f"look up binding {name}").json())

    # -- inside -----------------------------------------------------------------------------------------------------

    def _state(self, method: str, action: str, body: Any = None, *, path: str = "") -> CredentialVaultState:
        return decode(CredentialVaultState, self._call(method, path, action, body).json())

    def _call(self, method: str, path: str, action: str, body: Any = None) -> Answer:
        sandbox = self._sandbox
        sandbox._egress.resolve(None)
        if sandbox._egress.origin == "template":
            raise NotSupportedError(
                f"could not {action}: a sandbox from a template has no egress sidecar, and so no vault",
                code="NOT_SUPPORTED",
            )
        try:
            return sandbox._client._transport.request(
                sandbox._egress, method, "/credential-vault" + path, action=action, json=body
            )
        except ApiError as error:
            if error.status_code == 412:
                error.args = (f"{error}; create the sandbox with network_policy= and credential_proxy=True",)
            raise


def _check_all(where: str, items: Any, kind: type) -> List[Any]:
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items or [], Iterable):
        raise InvalidArgumentError(f"{where} must be a list of {kind.__name__}, not {type(items).__name__}")
    found = list(items or ())
    for item in found:
        if not isinstance(item, kind):
            raise InvalidArgumentError(f"{where} must hold {kind.__name__}, not {type(item).__name__}")
    return found


def _credentials(where: str, items: Any) -> List[Dict[str, Any]]:
    found = _check_all(where, items, Credential)
    return [{"name": item.name, "source": {"type": "inline", "value": item.value}} for item in found]


def _bindings(where: str, items: Any) -> List[Any]:
    return [encode(item) for item in _check_all(where, items, CredentialBinding)]


def _changes(where: str, changes: Any, kind: Any, encoded: Callable[[str, Any], List[Any]]) -> Dict[str, Any]:
    if not isinstance(changes, kind):
        raise InvalidArgumentError(f"{where} must be a {kind.__name__}, not {type(changes).__name__}")
    found = {
        "add": encoded(f"{where} add", changes.add),
        "replace": encoded(f"{where} replace", changes.replace),
        "delete": one_or_more(f"{where} delete", changes.delete),
    }
    return {name: items for name, items in found.items() if items}
