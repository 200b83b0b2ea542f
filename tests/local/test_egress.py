"""The egress sidecar of the embedded server: its policy, its vault, and both ways to reach it."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional

import pytest

from .http_api import Api, Reply, call

ALLOW, DENY = "allow", "deny"


def rule(action: str, target: str) -> Dict[str, str]:
    return {"action": action, "target": target}


class Sidecar:
    def __init__(self, api: Api, sandbox_id: str) -> None:
        endpoint = api.call("GET", f"/v1/sandboxes/{sandbox_id}/endpoints/18080").json
        self.sandbox_id = sandbox_id
        self.address, _, self.prefix = endpoint["endpoint"].partition("/")
        self.headers = endpoint["headers"]

    def call(self, method: str, path: str, body: Any = None, *, token: bool = True) -> Reply:
        return call(self.address, method, f"/{self.prefix}{path}", body, self.headers if token else {})

    def rules(self) -> List[Dict[str, str]]:
        return list(self.call("GET", "/policy").json["policy"]["egress"])


@pytest.fixture
def sidecar(api: Api) -> Iterator[Sidecar]:
    policy = {"defaultAction": DENY, "egress": [rule(ALLOW, "Api.Test"), rule(ALLOW, "*.example.com")]}
    with api.sandbox(networkPolicy=policy, credentialProxy={"enabled": True}) as sandbox_id:
        yield Sidecar(api, sandbox_id)


# policy


def test_the_policy_of_create_is_reported_and_said_to_be_enforced_by_nobody(sidecar: Sidecar) -> None:
    answer = sidecar.call("GET", "/policy")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "status": "ok",
        "mode": "enforcing",
        "enforcementMode": "none",
        "policy": {
            "defaultAction": "deny",
            "egress": [rule(ALLOW, "Api.Test"), rule(ALLOW, "*.example.com")],
        },
    }


@pytest.mark.parametrize(
    ("policy", "mode"),
    [
        ({}, "deny_all"),
        ({"defaultAction": "deny"}, "deny_all"),
        ({"defaultAction": "ALLOW"}, "allow_all"),
        ({"defaultAction": "deny", "egress": [rule(DENY, "a.b")]}, "enforcing"),
    ],
)
def test_an_empty_policy_has_a_list_of_rules_and_never_null(api: Api, policy: Any, mode: str) -> None:
    with api.sandbox(networkPolicy=policy) as sandbox_id:
        answer = Sidecar(api, sandbox_id).call("GET", "/policy").json
    assert answer["mode"] == mode
    assert answer["policy"]["egress"] == policy.get("egress", [])


@pytest.mark.parametrize("verb", ["POST", "PUT"])
def test_replace_takes_the_whole_policy_and_normalises_it(sidecar: Sidecar, verb: str) -> None:
    body = {"defaultAction": " Allow ", "egress": [rule(" DENY ", " X.y "), {"target": "z.z"}]}
    assert sidecar.call(verb, "/policy", body).json == {
        "status": "ok",
        "mode": "enforcing",
        "enforcementMode": "none",
    }
    assert sidecar.call("GET", "/policy").json["policy"] == {
        "defaultAction": "allow",
        "egress": [rule(DENY, "X.y"), rule(DENY, "z.z")],
    }


def test_replace_without_a_body_denies_everything_and_says_so(sidecar: Sidecar) -> None:
    assert sidecar.call("POST", "/policy", b"").json == {
        "status": "ok",
        "mode": "deny_all",
        "reason": "policy reset to default deny-all",
    }
    for body in (b"null", b" {} ", b"  "):
        assert sidecar.call("PUT", "/policy", body).json["mode"] == "deny_all"
    assert sidecar.call("GET", "/policy").json["policy"] == {"defaultAction": "deny", "egress": []}


def test_patch_puts_the_new_rules_first_and_the_first_for_a_target_wins(sidecar: Sidecar) -> None:
    fresh = [rule(DENY, "api.TEST"), rule(ALLOW, "new.io"), rule(ALLOW, "api.test")]
    assert sidecar.call("PATCH", "/policy", fresh).status == 200
    assert sidecar.rules() == [rule(DENY, "api.TEST"), rule(ALLOW, "new.io"), rule(ALLOW, "*.example.com")]
    assert sidecar.call("GET", "/policy").json["policy"]["defaultAction"] == "deny"


def test_delete_removes_by_target_and_says_when_nothing_matched(sidecar: Sidecar) -> None:
    assert "reason" not in sidecar.call("DELETE", "/policy", [" API.test ", "unknown.io"]).json
    assert sidecar.rules() == [rule(ALLOW, "*.example.com")]
    assert sidecar.call("DELETE", "/policy", ["unknown.io"]).json["reason"] == "no matching targets found"


@pytest.mark.parametrize(
    ("method", "body", "status", "message"),
    [
        ("PATCH", b"", 400, "empty body"),
        ("PATCH", [], 400, "invalid patch rules: empty array"),
        ("PATCH", {}, 400, "invalid patch rules: json: cannot unmarshal"),
        ("PATCH", [rule("maybe", "a.b")], 400, 'invalid merged policy: unsupported action "maybe"'),
        ("PATCH", b"[", 400, "invalid patch rules: "),
        ("DELETE", b"", 400, "empty body"),
        ("DELETE", [], 400, "invalid delete targets: empty array"),
        ("DELETE", [5], 400, "invalid delete targets: json: cannot unmarshal"),
        ("PUT", b"{oops", 400, "invalid policy: "),
        ("PUT", {"egress": [rule(ALLOW, " ")]}, 400, "invalid policy: egress target cannot be empty"),
        ("PUT", {"egress": {}}, 400, "invalid policy: json: cannot unmarshal object into Go struct field"),
        ("PUT", b"[" * 100000, 400, "invalid policy: nested too deep"),
        ("PUT", {"egress": [rule(DENY, f"{n}.io") for n in range(4097)]}, 413, "4097 exceeds limit 4096"),
        ("OPTIONS", None, 405, "method not allowed"),
    ],
)
def test_what_cannot_be_a_policy_is_refused_in_plain_text_and_changes_nothing(
    sidecar: Sidecar, method: str, body: Any, status: int, message: str
) -> None:
    before = sidecar.rules()
    answer = sidecar.call(method, "/policy", body)
    assert (answer.status, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")
    assert message in answer.body.decode()
    assert answer.body.endswith(b"\n")
    assert answer.headers.get("allow") == ("GET, POST, PUT, PATCH, DELETE" if status == 405 else None)
    assert sidecar.rules() == before


def test_the_token_is_needed_for_all_but_the_health_check(sidecar: Sidecar) -> None:
    assert sidecar.call("GET", "/healthz", token=False).body == b"ok"
    for path in ("/policy", "/credential-vault", "/credential-vault/bindings"):
        answer = sidecar.call("GET", path, token=False)
        assert (answer.status, answer.body) == (401, b"unauthorized\n")
    wrong = {"OPENSANDBOX-EGRESS-AUTH": "wrong"}
    assert call(sidecar.address, "GET", f"/{sidecar.prefix}/policy", headers=wrong).status == 401
    assert sidecar.call("GET", "/nope").status == 404


def test_the_servers_proxy_reaches_the_sidecar_with_the_callers_token_only(api: Api, sidecar: Sidecar) -> None:
    path = f"/v1/sandboxes/{sidecar.sandbox_id}/proxy/18080/policy"
    assert api.call("GET", path).status == 401
    direct = sidecar.call("GET", "/policy")
    assert api.call("GET", path, headers=sidecar.headers, key=False).body == direct.body
    patched = api.call("PATCH", path, [rule(DENY, "via.proxy")], sidecar.headers)
    assert patched.status == 200
    assert sidecar.rules()[0] == rule(DENY, "via.proxy")


def test_the_control_planes_own_route_needs_the_key_and_no_token(api: Api, sidecar: Sidecar) -> None:
    path = f"/v1/sandboxes/{sidecar.sandbox_id}/networkpolicy"
    assert api.call("GET", path).body == sidecar.call("GET", "/policy").body
    assert api.call("GET", path, key=False).status == 401
    assert api.call("PATCH", path, [rule(DENY, "a.b")]).status == 200
    assert api.call("DELETE", path, ["A.B"]).json == {"status": "ok", "mode": "enforcing", "enforcementMode": "none"}
    assert api.call("PUT", path, {"egress": []}).json["mode"] == "deny_all"
    assert api.call("PATCH", path, [{"action": "deny"}]).json["detail"][0]["loc"] == ["body", 0, "target"]
    assert api.call("DELETE", path, [5]).json["detail"][0]["type"] == "string_type"
    assert api.call("PATCH", path, [rule("maybe", "a.b")]).body.startswith(b"invalid merged policy: ")


def test_a_sandbox_without_a_policy_has_no_sidecar(api: Api, sandbox_id: str) -> None:
    endpoint = api.call("GET", f"/v1/sandboxes/{sandbox_id}/endpoints/18080")
    assert "headers" not in endpoint.json
    address, _, prefix = endpoint.json["endpoint"].partition("/")
    for answer in (
        call(address, "GET", f"/{prefix}/policy"),
        api.call("GET", f"/v1/sandboxes/{sandbox_id}/proxy/18080/policy"),
    ):
        assert (answer.status, answer.json["code"]) == (502, "BACKEND_CONNECTION_FAILED")


# credential vault

BEARER = {"type": "bearer", "credential": "key"}


def credential(name: str, value: str = "s3cret") -> Dict[str, Any]:
    return {"name": name, "source": {"type": "inline", "value": value}}


def binding(name: str = "b", auth: Optional[Dict[str, Any]] = None, **match: Any) -> Dict[str, Any]:
    return {"name": name, "match": {"hosts": ["api.test"], **match}, "auth": auth or BEARER}


def vault(**fields: Any) -> Dict[str, Any]:
    return {"credentials": [credential("key")], "bindings": [binding()], **fields}


def test_a_vault_lives_from_create_to_delete_and_never_tells_a_value(sidecar: Sidecar) -> None:
    assert sidecar.call("GET", "/credential-vault").body == b"credential vault not found\n"
    made = sidecar.call("POST", "/credential-vault", vault())
    assert made.status == 201
    shown = {
        "name": "b",
        "revision": 1,
        "match": {
            "schemes": ["https"],
            "ports": [443],
            "hosts": ["api.test"],
            "methods": ["GET", "POST", "PUT", "PATCH", "DELETE"],
            "paths": ["/*"],
        },
        "auth": {"type": "bearer"},
    }
    key = {"name": "key", "sourceType": "inline", "revision": 1}
    assert made.json == {"revision": 1, "credentials": [key], "bindings": [shown]}
    assert sidecar.call("GET", "/credential-vault").json == made.json
    assert sidecar.call("GET", "/credential-vault/credentials").json == {"revision": 1, "credentials": [key]}
    assert sidecar.call("GET", "/credential-vault/credentials/key").json == key
    assert sidecar.call("GET", "/credential-vault/bindings").json == {"revision": 1, "bindings": [shown]}
    assert sidecar.call("GET", "/credential-vault/bindings/b").json == shown
    assert sidecar.call("GET", "/credential-vault/bindings/x").body == b"binding not found\n"
    assert sidecar.call("GET", "/credential-vault/credentials/x").body == b"credential not found\n"
    again = sidecar.call("POST", "/credential-vault", vault())
    assert (again.status, again.body) == (409, b"credential vault already exists\n")
    assert sidecar.call("DELETE", "/credential-vault").status == 204
    assert sidecar.call("DELETE", "/credential-vault").status == 404
    assert sidecar.call("POST", "/credential-vault", vault()).json["revision"] == 1


def test_a_patch_deletes_then_replaces_then_adds_and_raises_the_revision(sidecar: Sidecar) -> None:
    sidecar.call("POST", "/credential-vault", vault(credentials=[credential("key"), credential("old")]))
    body = {
        "expectedRevision": 1,
        "credentials": {"delete": ["old"], "replace": [credential("key", "n")], "add": [credential("new")]},
        "bindings": {
            "add": [binding("c", {"type": "apiKey", "name": "x-api-key", "credential": "new"}, paths=["/c"])],
            "replace": [binding(paths=["/b"])],
        },
    }
    answer = sidecar.call("PATCH", "/credential-vault", body)
    assert answer.status == 200
    assert [(item["name"], item["revision"]) for item in answer.json["credentials"]] == [("key", 2), ("new", 2)]
    assert [item["auth"] for item in answer.json["bindings"]] == [
        {"type": "bearer"},
        {"type": "apiKey", "name": "X-Api-Key"},
    ]
    stale = sidecar.call("PATCH", "/credential-vault", {"expectedRevision": 1})
    assert (stale.status, stale.body) == (409, b"expectedRevision 1 does not match current revision 2\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"credentials": {"delete": ["nope"]}}, 'credential "nope" does not exist'),
        ({"credentials": {"replace": [credential("nope")]}}, 'credential "nope" does not exist'),
        ({"credentials": {"add": [credential("key")]}}, 'credential "key" already exists'),
        ({"credentials": {"delete": ["key"], "add": [credential("key")]}}, "mentioned by multiple operations"),
        ({"credentials": {"delete": ["key"]}}, 'binding "b" references unknown credential "key"'),
        ({"bindings": {"delete": [" "]}}, "binding delete name cannot be blank"),
        ({"bindings": {"add": [binding("c")]}}, "can match the same request"),
        ({"moon": 1}, 'json: unknown field "moon"'),
        ({"expectedRevision": "1"}, "expectedRevision of type int64"),
    ],
)
def test_a_patch_that_cannot_be_applied_changes_nothing(sidecar: Sidecar, changes: Any, message: str) -> None:
    before = sidecar.call("POST", "/credential-vault", vault()).json
    answer = sidecar.call("PATCH", "/credential-vault", changes)
    assert answer.status == 400
    assert message in answer.body.decode()
    assert sidecar.call("GET", "/credential-vault").json == before


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "invalid credential vault request: EOF"),
        (b"[]", "invalid credential vault request: json: cannot unmarshal"),
        ({"x": 1}, 'json: unknown field "x"'),
        (vault(credentials=[{"name": " "}]), "credential name cannot be blank"),
        (vault(credentials=[{"name": "key", "source": {"type": "file"}}]), "unsupported source type"),
        (vault(credentials=[credential("key", "")]), "requires value"),
        (vault(credentials=[credential("key")] * 2), 'duplicate credential name "key"'),
        (vault(credentials="x"), "json: cannot unmarshal"),
        (vault(bindings=[binding(hosts=[])]), 'binding "b": match.hosts cannot be empty'),
        (vault(bindings=[binding(hosts=["1.2.3.4"])]), "must be an FQDN, not an IP address"),
        (vault(bindings=[binding(hosts=["localhost"])]), "must be an FQDN"),
        (vault(bindings=[binding(hosts=["https://api.test"])]), "must not include scheme or path"),
        (vault(bindings=[binding(hosts=["*.*.io"])]), 'invalid wildcard host "*.*.io"'),
        (vault(bindings=[binding(hosts=["other.org"])]), 'host "other.org" is not allowed by egress policy'),
        (vault(bindings=[binding(ports=[22])]), "unsupported port 22"),
        (vault(bindings=[binding(schemes=["ftp"])]), 'unsupported scheme "ftp"'),
        (vault(bindings=[binding(paths=["x"])]), "path pattern must start with /"),
        (vault(bindings=[binding(auth={"type": "magic"})]), 'unsupported auth type "magic"'),
        (vault(bindings=[binding(auth={"type": "basic"})]), "basic auth requires credential"),
        (
            vault(bindings=[binding(auth={"type": "apiKey", "name": "Host", "credential": "key"})]),
            'reserved credential header name "Host"',
        ),
        (vault(bindings=[binding(auth={"type": "customHeaders"})]), "customHeaders auth requires headers"),
        (
            vault(bindings=[binding(auth={"type": "passthrough", "substitutions": [{"credential": "key"}]})]),
            "substitution 0 requires placeholder",
        ),
    ],
)
def test_what_cannot_be_a_vault_is_refused_without_the_value(sidecar: Sidecar, body: Any, message: str) -> None:
    answer = sidecar.call("POST", "/credential-vault", body)
    assert answer.status == 400, answer
    assert message in answer.body.decode()
    assert b"s3cret" not in answer.body
    assert sidecar.call("GET", "/credential-vault").status == 404


@pytest.mark.parametrize(
    "auth",
    [
        {"type": "basic", "credential": "key"},
        {"type": "customHeaders", "headers": [{"name": "x-a", "credential": "key"}]},
        {
            "type": "passthrough",
            "substitutions": [{"credential": "key", "placeholder": "@K@", "in": ["header", "body"]}],
        },
    ],
)
def test_every_kind_of_auth_is_taken(sidecar: Sidecar, auth: Dict[str, Any]) -> None:
    made = sidecar.call("POST", "/credential-vault", vault(bindings=[binding(auth=auth, hosts=["*.example.com"])]))
    assert made.status == 201
    assert made.json["bindings"][0]["auth"] == {"type": auth["type"]}


def test_an_exact_host_and_a_wildcard_do_not_clash_but_two_wildcards_may(sidecar: Sidecar) -> None:
    exact, wide = binding("a", hosts=["x.example.com"]), binding("b", hosts=["*.example.com"])
    assert sidecar.call("POST", "/credential-vault", vault(bindings=[exact, wide])).status == 201
    deeper = {"bindings": {"add": [binding("c", hosts=["*.y.example.com"])]}}
    assert sidecar.call("PATCH", "/credential-vault", deeper).status == 400


def test_a_policy_that_would_uncover_a_binding_is_refused(sidecar: Sidecar) -> None:
    sidecar.call("POST", "/credential-vault", vault())
    before = sidecar.rules()
    for method, body in (("DELETE", ["api.test"]), ("PUT", {}), ("PATCH", [rule(DENY, "api.test")])):
        answer = sidecar.call(method, "/policy", body)
        assert answer.status == 400
        assert answer.body.startswith(b"credential vault policy validation: binding")
    assert sidecar.rules() == before


def test_a_vault_is_written_only_where_the_credential_proxy_was_asked_for(api: Api) -> None:
    with api.sandbox(networkPolicy={}) as sandbox_id:
        sidecar = Sidecar(api, sandbox_id)
        for method in ("POST", "PATCH", "DELETE"):
            answer = sidecar.call(method, "/credential-vault", vault())
            assert (answer.status, answer.body) == (412, b"credential vault requires transparent mitmproxy\n")
        assert sidecar.call("GET", "/credential-vault").status == 404


def test_the_vaults_other_paths_and_verbs(sidecar: Sidecar) -> None:
    assert sidecar.call("GET", "/credential-vault/_active", token=False).status == 403
    assert sidecar.call("PUT", "/credential-vault").headers["allow"] == "GET, POST, PATCH, DELETE"
    assert sidecar.call("POST", "/credential-vault/bindings").headers["allow"] == "GET"
    assert sidecar.call("GET", "/credential-vault/nope").status == 404
