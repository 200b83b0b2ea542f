"""Egress: what a sandbox may reach, asked and changed while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional
from urllib.parse import quote

from ..codec import encode
from ..errors import ApiError, ConnectError, InvalidArgumentError, SandboxError, ServerError
from ..models import NetworkPolicy, NetworkRule, check_model, check_rules, one_or_more, require_text

if TYPE_CHECKING:
    from ..sandbox import Sandbox
    from ..transport import Answer


@dataclass
class EgressStatus:
    """How a sandbox's egress stands.

    ``policy`` is told by ``EgressService.get`` alone, and is None after a change. ``mode`` is ``allow_all``,
    ``deny_all`` or ``enforcing`` (there are rules). ``enforcement_mode`` is ``dns`` or ``dns+nft``; the embedded server
    says ``none``, because it enforces nothing, or with bubblewrap for a sandbox that was made without any network
    ``no-network``. ``reason`` is the sidecar's word on a change that did less than asked.
    """

    policy: Optional[NetworkPolicy] = None
    mode: Optional[str] = None
    enforcement_mode: Optional[str] = None
    reason: Optional[str] = None
    status: Optional[str] = None
    raw: Dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def _repr_html_(self) -> str:
        from ..notebook import egress_html

        return egress_html(self)


class EgressService:
    """Reads and changes a sandbox's network policy; ``sandbox.egress``.

    The first rule that matches a name wins, else the policy's default action. It needs a sandbox that was created with
    ``network_policy=``. The sandbox's egress sidecar is asked, which is looked up when first used; the lifecycle server
    is asked instead where it keeps the policy itself (sandboxes from a template), and where the sidecar cannot be
    reached from here.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._by_server = False

    def get(self) -> EgressStatus:
        """The policy as it is now, and how it is enforced."""
        return self._call("GET", "read the egress policy")

    def patch(self, rules: Iterable[NetworkRule]) -> EgressStatus:
        """Put ``rules`` before those that there are, and remove older ones for the same targets.

        Of two in ``rules`` for one target the first wins. The default action stays.
        """
        found = check_rules("rules", rules)
        if not found:
            raise InvalidArgumentError("rules must hold at least one NetworkRule")
        return self._call("PATCH", "patch the egress policy", encode(found))

    def delete(self, targets: Iterable[str]) -> EgressStatus:
        """Remove all rules for these targets, in any case; unknown ones are ignored (``reason`` says if none was
        known).
        """
        return self._call("DELETE", "delete egress rules", _targets(one_or_more("targets", targets)))

    def replace(self, policy: NetworkPolicy) -> EgressStatus:
        """Put ``policy`` in place of the one that there is."""
        check_model("policy", policy, NetworkPolicy).validate("policy")
        return self._call("PUT", "replace the egress policy", encode(policy))

    def allow(self, *targets: str) -> EgressStatus:
        """Allow these targets: domains, ``*.domain``, IP addresses or CIDR blocks. See ``patch``."""
        return self.patch([NetworkRule("allow", target) for target in _targets(targets)])

    def deny(self, *targets: str) -> EgressStatus:
        """Deny these targets. See ``patch``."""
        return self.patch([NetworkRule("deny", target) for target in _targets(targets)])

    # -- inside -----------------------------------------------------------------------------------------------------

    def _call(self, method: str, action: str, body: Any = None) -> EgressStatus:
        unreachable: Optional[SandboxError] = None
        if not self._by_server:
            try:
                answer = self._ask_sidecar(method, action, body)
                if answer is not None:
                    return answer.decode(EgressStatus)
            except (ConnectError, ServerError) as error:
                # 502 is a proxy's word for a sidecar that it cannot reach. Each change may well be made twice.
                if isinstance(error, ServerError) and error.status_code != 502:
                    raise
                unreachable = error
        try:
            answer = self._ask_server(method, action, body)
        except ApiError as error:
            if unreachable is not None and _has_no_such_route(error):
                _add_next_step(unreachable)
                raise unreachable from error
            _add_next_step(error)
            raise
        self._by_server = True
        return answer.decode(EgressStatus)

    def _ask_sidecar(self, method: str, action: str, body: Any) -> Optional[Answer]:
        """The sidecar's answer; None where the server keeps the policy itself."""
        sandbox = self._sandbox
        if sandbox._egress.is_kept_by_server():
            return None
        return sandbox._client._transport.request(sandbox._egress, method, "/policy", action=action, json=body)

    def _ask_server(self, method: str, action: str, body: Any) -> Answer:
        path = f"/sandboxes/{quote(self._sandbox.id, safe='')}/networkpolicy"
        return self._sandbox._client._call(method, path, action=action, json=body)


def _targets(targets: Iterable[str]) -> List[str]:
    found = [require_text("each of targets", target, "'api.test' or '*.example.com'") for target in targets]
    if not found:
        raise InvalidArgumentError("targets must hold at least one, such as 'api.test' or '*.example.com'")
    return found


def _add_next_step(error: SandboxError) -> None:
    """A 502 says that nothing answers on the sidecar's port: most often there is no sidecar."""
    if isinstance(error, ApiError) and error.status_code == 502:
        error.args = (f"{error}; create the sandbox with network_policy=, without which it has no egress sidecar",)


def _has_no_such_route(error: ApiError) -> bool:
    # Servers before 1.1. Their 404 for a route has no code; that for a sandbox has.
    return error.status_code in (404, 405) and error.code == ApiError.default_code
