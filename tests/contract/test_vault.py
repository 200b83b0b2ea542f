"""The credential vault: its life, its revisions, every kind of auth, and that a secret shows nowhere.

Against a real server these need ``[egress].mode = "dns+nft"``, and TLS or a loopback way to the sidecar.
"""

from __future__ import annotations

import logging
import pickle
from typing import Any, Callable, Iterator, List, Tuple

import pytest

from opensandbox_sync import (
    ApiError,
    BadRequestError,
    ConflictError,
    InvalidArgumentError,
    NetworkPolicy,
    NetworkRule,
    NotFoundError,
    Sandbox,
    SandboxClient,
    ServerError,
)
from opensandbox_sync.services.vault import (
    Credential,
    CredentialAuth,
    CredentialBinding,
    CredentialBindingMutationSet,
    CredentialMatch,
    CredentialMutationSet,
    CredentialSubstitution,
    CustomHeader,
)

from ..conftest import MakeSandbox
from ..wire import peer_sandbox, whole

SECRET = "s3cret-value-of-the-vault"
HOST, OTHER = "api.example.com", "other.example.com"
TOKEN = Credential("token", SECRET)
BEARER = CredentialBinding("api", CredentialMatch([HOST]), CredentialAuth.bearer("token"))
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


@pytest.fixture(scope="module")
def guarded(make_sandbox: MakeSandbox) -> Iterator[Sandbox]:
    policy = NetworkPolicy(egress=[NetworkRule("allow", HOST), NetworkRule("allow", OTHER)])
    with make_sandbox(network_policy=policy, credential_proxy=True) as sandbox:
        yield sandbox


@pytest.fixture
def vault(guarded: Sandbox) -> Iterator[Any]:
    """A vault that does not exist yet."""
    yield guarded.vault
    try:
        guarded.vault.delete()
    except NotFoundError:
        pass


def names(vault: Any) -> Tuple[List[str], List[str]]:
    state = vault.get()
    return [item.name for item in state.credentials], [item.name for item in state.bindings]


# -- its life ----------------------------------------------------------------------------------------------------------


def test_there_is_no_vault_before_one_is_made(vault: Any) -> None:
    for act in (vault.get, vault.delete, vault.credentials, vault.bindings, lambda: vault.credential("token")):
        with pytest.raises(NotFoundError, match="credential vault not found"):
            act()


def test_a_vault_is_made_read_and_deleted(vault: Any) -> None:
    made = vault.create([TOKEN], [BEARER])
    assert made == vault.get()
    assert made.revision == 1
    assert [(c.name, c.source_type, c.revision) for c in made.credentials] == [("token", "inline", 1)]
    (binding,) = made.bindings
    assert (binding.name, binding.revision, binding.auth.type) == ("api", 1, "bearer")
    assert (binding.match.hosts, binding.match.schemes, binding.match.ports) == ([HOST], ["https"], [443])
    assert (binding.match.methods, binding.match.paths) == (METHODS, ["/*"])
    vault.delete()
    with pytest.raises(NotFoundError):
        vault.get()
    assert vault.create([TOKEN]).revision == 1


def test_a_second_vault_is_a_conflict(vault: Any) -> None:
    vault.create([TOKEN])
    with pytest.raises(ConflictError, match="credential vault already exists"):
        vault.create([TOKEN])


def test_credentials_and_bindings_are_read_one_by_one_and_as_lists(vault: Any) -> None:
    vault.create([TOKEN, Credential("another", "x")], [BEARER])
    assert [item.name for item in vault.credentials()] == ["another", "token"]
    assert [item.name for item in vault.bindings()] == ["api"]
    assert vault.credential("token") == vault.credentials()[1]
    assert vault.binding("api") == vault.bindings()[0]
    with pytest.raises(NotFoundError, match="credential not found"):
        vault.credential("no such/one")
    with pytest.raises(NotFoundError, match="binding not found"):
        vault.binding("none")


# -- changes -----------------------------------------------------------------------------------------------------------


def test_a_patch_deletes_replaces_and_adds_and_counts_the_revision(vault: Any) -> None:
    vault.create([TOKEN, Credential("old", "x")], [BEARER])
    other = CredentialBinding("other", CredentialMatch([OTHER]), CredentialAuth.basic("new"))
    state = vault.patch(
        credentials=CredentialMutationSet(
            add=[Credential("new", "y")], replace=[Credential("token", "z")], delete=["old"]
        ),
        bindings=CredentialBindingMutationSet(add=[other], delete=["api"]),
        expected_revision=1,
    )
    assert state.revision == 2
    assert names(vault) == (["new", "token"], ["other"])
    assert [c.revision for c in state.credentials] == [2, 2]


def test_a_binding_is_replaced_by_its_name(vault: Any) -> None:
    vault.create([TOKEN], [BEARER])
    wider = CredentialBinding("api", CredentialMatch([HOST, OTHER], paths=["/v1/*"]), CredentialAuth.bearer("token"))
    state = vault.patch(bindings=CredentialBindingMutationSet(replace=[wider]))
    assert (state.bindings[0].match.hosts, state.bindings[0].match.paths) == ([HOST, OTHER], ["/v1/*"])


def test_another_revision_than_expected_is_a_conflict_and_changes_nothing(vault: Any) -> None:
    vault.create([TOKEN])
    with pytest.raises(ConflictError, match="revision"):
        vault.patch(credentials=CredentialMutationSet(delete=["token"]), expected_revision=7)
    assert names(vault) == (["token"], [])


@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        (CredentialMutationSet(add=[TOKEN]), "already exists"),
        (CredentialMutationSet(replace=[Credential("none", "x")]), "does not exist"),
        (CredentialMutationSet(delete=["none"]), "does not exist"),
        (CredentialMutationSet(replace=[TOKEN], delete=["token"]), "multiple operations"),
        (CredentialMutationSet(delete=["token"]), "unknown credential"),
    ],
)
def test_a_patch_that_cannot_be_is_refused_whole(vault: Any, credentials: CredentialMutationSet, words: str) -> None:
    vault.create([TOKEN], [BEARER])
    with pytest.raises(BadRequestError, match=words) as caught:
        vault.patch(credentials=credentials)
    assert SECRET not in str(caught.value) + caught.value.body
    assert vault.get().revision == 1


def test_a_host_that_the_policy_does_not_allow_is_refused(vault: Any) -> None:
    far = CredentialBinding("far", CredentialMatch(["far.example.com"]), CredentialAuth.bearer("token"))
    with pytest.raises(BadRequestError, match="not allowed by egress policy"):
        vault.create([TOKEN], [far])


def test_a_policy_that_would_uncover_a_binding_is_refused(vault: Any, guarded: Sandbox) -> None:
    vault.create([TOKEN], [BEARER])
    with pytest.raises(BadRequestError, match="credential vault policy validation"):
        guarded.egress.deny(HOST)


# -- kinds of auth -----------------------------------------------------------------------------------------------------

SUBSTITUTION = CredentialSubstitution("token", "{{token}}", ["query", "body"])


@pytest.mark.parametrize(
    ("auth", "sent", "header"),
    [
        (CredentialAuth.bearer("token"), {"type": "bearer", "credential": "token"}, None),
        (CredentialAuth.basic("token"), {"type": "basic", "credential": "token"}, None),
        (
            CredentialAuth.api_key("X-Api-Key", "token"),
            {"type": "apiKey", "name": "X-Api-Key", "credential": "token"},
            "X-Api-Key",
        ),
        (
            CredentialAuth.custom_headers({"X-One": "token", "X-Two": "token"}),
            {
                "type": "customHeaders",
                "headers": [{"name": "X-One", "credential": "token"}, {"name": "X-Two", "credential": "token"}],
            },
            None,
        ),
        (
            CredentialAuth.passthrough(SUBSTITUTION),
            {
                "type": "passthrough",
                "substitutions": [{"credential": "token", "placeholder": "{{token}}", "in": ["query", "body"]}],
            },
            None,
        ),
        (
            CredentialAuth("bearer", "token", substitutions=[SUBSTITUTION]),
            {
                "type": "bearer",
                "credential": "token",
                "substitutions": [{"credential": "token", "placeholder": "{{token}}", "in": ["query", "body"]}],
            },
            None,
        ),
    ],
)
def test_every_kind_of_auth_is_sent_and_taken(vault: Any, auth: CredentialAuth, sent: Any, header: Any) -> None:
    binding = CredentialBinding("api", CredentialMatch([HOST]), auth)
    made = vault.create([TOKEN], [binding])
    assert (made.bindings[0].auth.type, made.bindings[0].auth.name) == (auth.type, header)
    answer = {"revision": 1, "credentials": [], "bindings": []}
    with peer_sandbox(lambda request: whole(201, answer)) as (sandbox, peer):
        sandbox.vault.create([TOKEN], [binding])
    request = peer.requests[-1]
    assert (request.method, request.path) == ("POST", "/credential-vault")
    assert request.json == {
        "credentials": [{"name": "token", "source": {"type": "inline", "value": SECRET}}],
        "bindings": [{"name": "api", "match": {"hosts": [HOST]}, "auth": sent}],
    }


def test_a_whole_match_is_sent_as_it_is(vault: Any) -> None:
    match = CredentialMatch([HOST], schemes=["http", "https"], ports=[80, 443], methods=["GET"], paths=["/a", "/b/*"])
    made = vault.create([TOKEN], [CredentialBinding("api", match, CredentialAuth.bearer("token"))])
    assert made.bindings[0].match == match


def test_names_are_quoted_in_paths() -> None:
    item = {"name": "a/b ?", "sourceType": "inline", "revision": 3}
    with peer_sandbox(lambda request: whole(200, item)) as (sandbox, peer):
        assert sandbox.vault.credential("a/b ?").revision == 3
        sandbox.vault.binding("a/b ?")
    targets = [request.target for request in peer.requests[1:]]
    assert targets == ["/credential-vault/credentials/a%2Fb%20%3F", "/credential-vault/bindings/a%2Fb%20%3F"]


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_without_the_credential_proxy_the_error_says_what_create_needs(make_sandbox: MakeSandbox) -> None:
    plain = make_sandbox(network_policy=NetworkPolicy())
    with plain as sandbox, pytest.raises(ApiError, match="credential_proxy=True") as caught:
        sandbox.vault.create([TOKEN])
    assert caught.value.status_code == 412


def test_a_match_may_be_given_one_by_one() -> None:
    """A set or a generator is sent as a list, and JSON knows neither."""
    hosts: Any = iter([HOST])
    ports: Any = {443}
    assert CredentialMatch(hosts, ports=ports) == CredentialMatch([HOST], ports=[443])


def test_where_nothing_answers_the_error_says_what_create_needs() -> None:
    words = "create the sandbox with network_policy= and credential_proxy=True"
    refusing = peer_sandbox(lambda request: whole(502, b"Bad Gateway\n"))
    with refusing as (sandbox, _), pytest.raises(ServerError, match=words):
        sandbox.vault.create([TOKEN])


def test_a_way_without_tls_is_the_sidecars_to_refuse() -> None:
    words = b"credential vault writes require TLS or loopback transport\n"
    refusing = peer_sandbox(lambda request: whole(426, words))
    with refusing as (sandbox, _), pytest.raises(ApiError, match="require TLS or loopback") as caught:
        sandbox.vault.create([TOKEN])
    assert caught.value.status_code == 426


@pytest.mark.parametrize(
    "make",
    [
        lambda: Credential("", "x"),
        lambda: Credential("a", ""),
        lambda: Credential("a", None),
        lambda: CredentialMatch([]),
        lambda: CredentialMatch("api.example.com"),
        lambda: CredentialMatch([HOST], methods="GET"),
        lambda: CredentialMatch([HOST], ports=["443"]),
        lambda: CredentialMatch([HOST], ports=443),
        lambda: CredentialMatch([HOST], ports=[0]),
        lambda: CredentialMatch([HOST], ports=[True]),
        lambda: Credential("a", "x\0"),
        lambda: Credential("a", "\ud800"),
        lambda: CredentialAuth("bearer", "token", name=5),
        lambda: CredentialAuth("bearer", "token", headers=5),
        lambda: CredentialAuth(""),
        lambda: CredentialAuth("bearer"),
        lambda: CredentialAuth("apiKey", "token"),
        lambda: CredentialAuth("customHeaders"),
        lambda: CredentialAuth("customHeaders", headers=[{"name": "X"}]),
        lambda: CredentialAuth.custom_headers([("X", "token")]),
        lambda: CredentialAuth.passthrough("token"),
        lambda: CustomHeader("", "token"),
        lambda: CredentialSubstitution("token", "", ["path"]),
        lambda: CredentialSubstitution("token", "x", []),
        lambda: CredentialSubstitution("token", "x", ["cookie"]),
        lambda: CredentialSubstitution("token", "x", "path"),
        lambda: CredentialBinding("", CredentialMatch([HOST]), CredentialAuth.bearer("token")),
        lambda: CredentialBinding("a", {"hosts": [HOST]}, CredentialAuth.bearer("token")),
        lambda: CredentialBinding("a", CredentialMatch([HOST]), "bearer"),
    ],
)
def test_what_the_sidecar_would_refuse_cannot_be_made(make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        make()


@pytest.mark.parametrize(
    "act",
    [
        lambda vault: vault.create({"token": "x"}),
        lambda vault: vault.create([("token", SECRET)]),
        lambda vault: vault.create(TOKEN),
        lambda vault: vault.create([TOKEN], [{"name": "a"}]),
        lambda vault: vault.create(None),
        lambda vault: vault.create(SECRET),
        lambda vault: vault.create([TOKEN], None),
        lambda vault: vault.patch(credentials=[TOKEN]),
        lambda vault: vault.patch(credentials=CredentialMutationSet(add=[SECRET])),
        lambda vault: vault.patch(credentials=CredentialMutationSet(delete="token")),
        lambda vault: vault.patch(bindings=CredentialMutationSet()),
        lambda vault: vault.patch(),
        lambda vault: vault.patch(expected_revision=1),
        lambda vault: vault.patch(credentials=CredentialMutationSet(delete=[5])),
        lambda vault: vault.patch(credentials=CredentialMutationSet(delete=[None])),
        lambda vault: vault.patch(credentials=CredentialMutationSet(delete=[""])),
        lambda vault: vault.patch(bindings=CredentialBindingMutationSet(delete=[""])),
        lambda vault: vault.patch(bindings=CredentialBindingMutationSet(delete=["a"]), expected_revision="1"),
        lambda vault: vault.patch(bindings=CredentialBindingMutationSet(delete=["a"]), expected_revision=True),
        lambda vault: vault.patch(bindings=CredentialBindingMutationSet(delete=["a"]), expected_revision=-1),
        lambda vault: vault.patch(bindings=CredentialBindingMutationSet(delete=["a"]), expected_revision=0),
        lambda vault: vault.credential(""),
        lambda vault: vault.binding(None),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent_and_show_no_secret(act: Callable[[Any], Any]) -> None:
    sent: List[Any] = []
    with SandboxClient(domain="127.0.0.1:1", on_request=sent.append) as client:
        sandbox = client.connect("x", wait_ready=False)
        with pytest.raises(InvalidArgumentError) as caught:
            act(sandbox.vault)
        assert sent == []
    assert SECRET not in str(caught.value)


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_a_secret_is_in_no_repr_log_record_error_or_pickle_of_an_error(
    settings: Any, vault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen: List[str] = []
    with SandboxClient(
        **settings, on_request=lambda record: seen.append(repr(record)), on_response=lambda r: seen.append(repr(r))
    ) as client:
        watched = client.connect(vault._sandbox.id, wait_ready=False).vault
        state = watched.create([TOKEN], [BEARER])
        with pytest.raises(ConflictError) as conflict:
            watched.create([TOKEN])
        with pytest.raises(BadRequestError) as refused:
            watched.patch(credentials=CredentialMutationSet(add=[TOKEN]))
    assert seen and caplog.records
    with pytest.raises(InvalidArgumentError) as wrong:
        Credential("a\0b", SECRET)
    shown = [repr(item) for item in (TOKEN, state, CredentialMutationSet(add=[TOKEN], replace=[TOKEN]))]
    errors = [conflict.value, refused.value, wrong.value]
    shown += [str(error) + repr(error) + str(pickle.dumps(error)) + str(vars(error)) for error in errors]
    assert not [text for text in [*shown, *seen, caplog.text] if SECRET in text]


def test_a_broken_connection_shows_no_secret_either() -> None:
    with peer_sandbox(lambda request: [b""]) as (sandbox, peer), pytest.raises(Exception) as caught:
        sandbox.vault.create([TOKEN])
    assert SECRET in peer.requests[-1].body.decode()
    assert SECRET not in str(caught.value) + str(pickle.dumps(caught.value))
    assert len(peer.asked("POST", "/credential-vault")) == 1  # never sent twice
