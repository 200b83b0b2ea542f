"""Egress: the policy read and changed, by the sidecar or by the server, and what is refused.

Against a real server these need one with an egress sidecar; the tests of addresses have a server of their own.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any, Callable, Iterable, Iterator, List, Tuple

import pytest

from opensandbox_sync import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    ConnectError,
    InvalidArgumentError,
    NetworkPolicy,
    NetworkRule,
    NotFoundError,
    NotSupportedError,
    Sandbox,
    SandboxClient,
    ServerError,
)
from opensandbox_sync.services.egress import EgressStatus

from ..conftest import MakeSandbox
from ..wire import SANDBOX_ID, Peer, Piece, Request, Respond, whole

ALLOW, DENY = "allow", "deny"
FIRST = [NetworkRule(ALLOW, "api.test"), NetworkRule(DENY, "*.example.com")]


@pytest.fixture(scope="module")
def guarded(make_sandbox: MakeSandbox) -> Iterator[Sandbox]:
    """A sandbox with an egress policy."""
    with make_sandbox(network_policy=NetworkPolicy(egress=list(FIRST))) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def first_policy(request: pytest.FixtureRequest) -> None:
    if "guarded" in request.fixturenames:
        request.getfixturevalue("guarded").egress.replace(NetworkPolicy(egress=list(FIRST)))


def rules(sandbox: Sandbox) -> List[Tuple[str, str]]:
    policy = sandbox.egress.get().policy
    assert policy is not None
    return [(rule.action, rule.target) for rule in policy.egress]


# -- the policy --------------------------------------------------------------------------------------------------------


def test_the_policy_is_what_create_gave(make_sandbox: MakeSandbox) -> None:
    with make_sandbox(network_policy=NetworkPolicy(egress=list(FIRST))) as sandbox:
        status = sandbox.egress.get()
    assert status.policy == NetworkPolicy(DENY, FIRST)
    assert (status.status, status.mode, status.reason) == ("ok", "enforcing", None)
    assert status.enforcement_mode and status.raw["enforcementMode"] == status.enforcement_mode


@pytest.mark.embedded
def test_the_embedded_server_says_that_it_enforces_nothing(guarded: Sandbox) -> None:
    assert guarded.egress.get().enforcement_mode == "none"


def test_a_policy_without_rules_allows_or_denies_all(guarded: Sandbox) -> None:
    for action in (ALLOW, DENY):
        assert guarded.egress.replace(NetworkPolicy(action)).mode == f"{action}_all"
        status = guarded.egress.get()
        assert (status.mode, status.policy) == (f"{action}_all", NetworkPolicy(action, []))


def test_a_policy_given_without_a_default_action_denies(guarded: Sandbox) -> None:
    guarded.egress.replace(NetworkPolicy(None, [NetworkRule(ALLOW, "api.test")]))
    policy = guarded.egress.get().policy
    assert policy is not None and policy.default_action == DENY


def test_replace_leaves_nothing_of_the_old_policy(guarded: Sandbox) -> None:
    guarded.egress.replace(NetworkPolicy(ALLOW, [NetworkRule(DENY, "10.0.0.0/8")]))
    assert guarded.egress.get().policy == NetworkPolicy(ALLOW, [NetworkRule(DENY, "10.0.0.0/8")])


def test_patched_rules_come_first_and_replace_those_for_their_targets(guarded: Sandbox) -> None:
    status = guarded.egress.patch([NetworkRule(ALLOW, "*.EXAMPLE.com"), NetworkRule(DENY, "evil.test")])
    assert isinstance(status, EgressStatus) and status.mode == "enforcing" and status.policy is None
    assert rules(guarded) == [(ALLOW, "*.EXAMPLE.com"), (DENY, "evil.test"), (ALLOW, "api.test")]


def test_of_two_patched_rules_for_a_target_the_first_wins(guarded: Sandbox) -> None:
    guarded.egress.patch(iter([NetworkRule(DENY, "a.test"), NetworkRule(ALLOW, "A.test")]))
    assert rules(guarded)[0] == (DENY, "a.test")
    assert len(rules(guarded)) == 3


def test_rules_are_deleted_by_target_in_any_case(guarded: Sandbox) -> None:
    guarded.egress.delete(["Api.Test", "unknown.test"])
    assert rules(guarded) == [(DENY, "*.example.com")]


def test_deleting_what_is_not_there_changes_nothing_and_says_so(guarded: Sandbox) -> None:
    assert guarded.egress.delete(["unknown.test"]).reason == "no matching targets found"
    assert rules(guarded) == [(rule.action, rule.target) for rule in FIRST]


def test_allow_and_deny_are_short_for_a_patch(guarded: Sandbox) -> None:
    guarded.egress.allow("a.test", "*.example.com")
    guarded.egress.deny("b.test")
    assert rules(guarded) == [(DENY, "b.test"), (ALLOW, "a.test"), (ALLOW, "*.example.com"), (ALLOW, "api.test")]


def test_too_many_rules_are_refused_in_the_sidecars_words(guarded: Sandbox) -> None:
    many = [NetworkRule(ALLOW, f"host{number}.test") for number in range(4097)]
    with pytest.raises(ApiError, match="limit 4096") as caught:
        guarded.egress.patch(many)
    assert caught.value.status_code == 413
    assert len(rules(guarded)) == 2


def test_an_unknown_default_action_of_a_server_is_read_as_it_is(guarded: Sandbox) -> None:
    client, plane = guarded._client, guarded._egress
    client._transport.request(plane, "PUT", "/policy", action="test", json={"defaultAction": "log"})
    policy = guarded.egress.get().policy
    assert policy is not None and policy.default_action == "log"


def test_the_sidecars_text_errors_keep_their_words(guarded: Sandbox) -> None:
    client, plane = guarded._client, guarded._egress
    with pytest.raises(BadRequestError, match=r"invalid policy: .*unsupported action") as caught:
        client._transport.request(
            plane, "PUT", "/policy", action="test", json={"egress": [{"action": "no", "target": "a"}]}
        )
    assert "unsupported action" in caught.value.body
    with pytest.raises(NotFoundError, match="404 page not found"):
        client._transport.request(plane, "GET", "/nothing", action="test")
    with pytest.raises(ApiError) as refused:
        client._transport.request(plane, "PUT", "/credential-vault", action="test", json={})
    assert refused.value.status_code == 405


def test_without_its_token_the_sidecar_answers_401(guarded: Sandbox) -> None:
    endpoint = guarded.endpoint(18080)
    if not endpoint.headers:
        pytest.skip("this server's sidecar wants no token")
    with SandboxClient(domain=endpoint.url) as stranger, pytest.raises(AuthenticationError, match="unauthorized"):
        stranger._transport.request(stranger._root, "GET", "/policy", action="test")


def test_both_ways_to_the_sidecar_see_the_same_policy(settings: Any, guarded: Sandbox) -> None:
    with SandboxClient(**settings, use_server_proxy=True) as client:
        proxied = client.connect(guarded.id, wait_ready=False)
        proxied.egress.allow("by-proxy.test")
        assert proxied.egress.get().policy == guarded.egress.get().policy
        answer = client._call("GET", f"/sandboxes/{guarded.id}/networkpolicy", action="test")
    assert answer.json()["policy"]["egress"][0] == {"action": ALLOW, "target": "by-proxy.test"}


@pytest.mark.embedded
def test_a_sandbox_without_a_policy_has_no_sidecar_and_the_error_says_so(sandbox: Sandbox) -> None:
    with pytest.raises(ServerError, match="created without a network policy") as caught:
        sandbox.egress.get()
    assert caught.value.code == "BACKEND_CONNECTION_FAILED"


@pytest.mark.parametrize(
    "act",
    [
        lambda egress: egress.patch([]),
        lambda egress: egress.patch(None),
        lambda egress: egress.patch("api.test"),
        lambda egress: egress.patch(NetworkRule(ALLOW, "a.b")),
        lambda egress: egress.patch([{"action": ALLOW, "target": "a.b"}]),
        lambda egress: egress.patch([NetworkRule("permit", "a.b")]),
        lambda egress: egress.patch([NetworkRule(ALLOW, "")]),
        lambda egress: egress.patch([NetworkRule(ALLOW)]),
        lambda egress: egress.patch([NetworkRule(ALLOW, ports=[])]),
        lambda egress: egress.patch([NetworkRule(ALLOW, "10.0.0.1", ports=[65536])]),
        lambda egress: egress.patch([NetworkRule(ALLOW, "10.0.0.1", ports=443)]),
        lambda egress: egress.patch([NetworkRule(ALLOW, None, ports=[443])]),
        lambda egress: egress.delete([]),
        lambda egress: egress.delete("api.test"),
        lambda egress: egress.delete([""]),
        lambda egress: egress.delete(None),
        lambda egress: egress.replace(None),
        lambda egress: egress.replace({"egress": []}),
        lambda egress: egress.replace(NetworkPolicy("maybe")),
        lambda egress: egress.allow(),
        lambda egress: egress.allow(["a.b"]),
        lambda egress: egress.deny(" "),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(act: Callable[[Any], Any]) -> None:
    sent: List[Any] = []
    with SandboxClient(domain="127.0.0.1:1", on_request=sent.append) as client:
        sandbox = client.connect("x", wait_ready=False)
        with pytest.raises(InvalidArgumentError):
            act(sandbox.egress)
        assert sent == []


# -- whom is asked -----------------------------------------------------------------------------------------------------

POLICY = {"status": "ok", "mode": "deny_all", "enforcementMode": "dns", "policy": {"egress": None}}
KEY = "key-of-the-server"


@contextlib.contextmanager
def served(respond: Respond, address: str = "", origin: str = "") -> Iterator[Tuple[Sandbox, Peer]]:
    """A sandbox whose server says that its sidecar is at ``address`` (its own, if that is empty)."""

    def answer(request: Request) -> Iterable[Piece]:
        if "/endpoints/" in request.path:
            found = {"endpoint": address or peer.address, "headers": {"OPENSANDBOX-EGRESS-AUTH": "token"}}
            return whole(200, found, {"OPEN-SANDBOX-ORIGIN": origin} if origin else None)
        return respond(request)

    peer = Peer(answer)
    try:
        with SandboxClient(domain=peer.address, api_key=KEY) as client:
            yield client.connect(SANDBOX_ID, wait_ready=False), peer
    finally:
        peer.stop()


def asked(peer: Peer) -> List[str]:
    return [f"{request.method} {request.path}" for request in peer.requests]


LOOK_UP = f"GET /v1/sandboxes/{SANDBOX_ID}/endpoints/18080"
BY_SERVER = f"/v1/sandboxes/{SANDBOX_ID}/networkpolicy"


def test_the_sidecar_is_looked_up_once_when_first_used_and_gets_its_headers_and_no_key() -> None:
    with served(lambda request: whole(200, POLICY)) as (sandbox, peer):
        assert asked(peer) == []
        status = sandbox.egress.get()
        sandbox.egress.deny("a.test")
        sandbox.egress.delete(["a.test"])
        sandbox.egress.replace(NetworkPolicy())
    assert asked(peer) == [LOOK_UP, "GET /policy", "PATCH /policy", "DELETE /policy", "PUT /policy"]
    assert status.policy == NetworkPolicy(DENY, [])  # null is no list, and fine
    for request in peer.requests[1:]:
        assert request.headers["opensandbox-egress-auth"] == "token"
        assert KEY not in str(request.headers)
    bodies = [json.loads(request.body or b"null") for request in peer.requests[1:]]
    wanted = [None, [{"action": DENY, "target": "a.test"}], ["a.test"], {"defaultAction": DENY, "egress": []}]
    assert bodies == wanted


def test_a_null_policy_is_fine() -> None:
    with served(lambda request: whole(200, {"status": "ok", "policy": None})) as (sandbox, _):
        assert sandbox.egress.get().policy is None


def test_a_template_sandboxs_policy_is_asked_of_the_server() -> None:
    with served(lambda request: whole(200, POLICY), origin="template") as (sandbox, peer):
        assert sandbox.egress.get().mode == "deny_all"
        sandbox.egress.allow("a.test")
        with pytest.raises(NotSupportedError, match="no egress sidecar"):
            sandbox.vault.get()
    assert asked(peer) == [LOOK_UP, f"GET {BY_SERVER}", f"PATCH {BY_SERVER}"]
    for request in peer.requests[1:]:
        assert request.headers["open-sandbox-api-key"] == KEY
        assert "opensandbox-egress-auth" not in request.headers


def test_where_the_sidecar_cannot_be_reached_the_server_is_asked_from_then_on() -> None:
    with served(lambda request: whole(200, POLICY), address="127.0.0.1:1") as (sandbox, peer):
        assert sandbox.egress.get().mode == "deny_all"
        first = len(peer.requests)
        sandbox.egress.replace(NetworkPolicy())
    assert asked(peer)[first:] == [f"PUT {BY_SERVER}"]


def test_where_a_proxy_cannot_reach_the_sidecar_the_server_is_asked() -> None:
    def respond(request: Request) -> Iterable[Piece]:
        return whole(502, b"Bad Gateway\n") if request.path == "/policy" else whole(200, POLICY)

    with served(respond) as (sandbox, peer):
        sandbox.egress.allow("a.test")
    assert asked(peer) == [LOOK_UP, "PATCH /policy", f"PATCH {BY_SERVER}"]


@pytest.mark.parametrize("by_server", [whole(502, b"Bad Gateway\n"), whole(404, {"detail": "Not Found"})])
def test_where_nothing_answers_the_error_says_what_create_needs(by_server: Iterable[Piece]) -> None:
    def respond(request: Request) -> Iterable[Piece]:
        return whole(502, b"Bad Gateway\n") if request.path == "/policy" else by_server

    with served(respond) as (sandbox, _), pytest.raises(
        ServerError, match="create the sandbox with network_policy="
    ) as caught:
        sandbox.egress.get()
    assert caught.value.status_code == 502


def test_rules_with_ports_are_read_and_written_back_whole() -> None:
    """The newest sidecars have them; a rule that lost its ports would allow more than it did."""
    rules = [
        {"action": "allow", "ports": [53]},
        {"action": "deny", "target": "10.0.0.0/8", "ports": [80, 443]},
        {"action": "allow", "target": "api.test"},
    ]
    answer = {**POLICY, "policy": {"defaultAction": "deny", "egress": rules}}
    with served(lambda request: whole(200, answer)) as (sandbox, peer):
        policy = sandbox.egress.get().policy
        assert policy is not None
        assert [rule.place for rule in policy.egress] == ["any address port 53", "10.0.0.0/8 port 80, 443", "api.test"]
        assert [rule.ports for rule in policy.egress] == [[53], [80, 443], None]
        sandbox.egress.replace(policy)
    assert peer.requests[-1].json["egress"] == [{"action": "allow", "target": "", "ports": [53]}, *rules[1:]]


def test_a_server_before_1_1_has_no_such_route_and_the_first_error_stands() -> None:
    unknown = whole(404, {"detail": "Not Found"})
    nowhere = served(lambda request: unknown, address="127.0.0.1:1")
    with nowhere as (sandbox, _), pytest.raises(ConnectError, match=r"no connection to 127\.0\.0\.1:1"):
        sandbox.egress.get()


def test_the_servers_own_refusal_is_the_error_where_it_has_the_route() -> None:
    gone = whole(404, {"code": "DOCKER::SANDBOX_NOT_FOUND", "message": "Sandbox x not found."})
    nowhere = served(lambda request: gone, address="127.0.0.1:1")
    with nowhere as (sandbox, _), pytest.raises(NotFoundError, match="SANDBOX_NOT_FOUND"):
        sandbox.egress.get()


def test_a_refusal_of_the_sidecar_is_not_asked_again_of_the_server() -> None:
    words = r"could not patch the egress policy.* invalid policy: nonsense"
    refusing = served(lambda request: whole(400, b"invalid policy: nonsense\n"))
    with refusing as (sandbox, peer), pytest.raises(BadRequestError, match=words):
        sandbox.egress.allow("a.test")
    assert asked(peer) == [LOOK_UP, "PATCH /policy"]
