"""What a create sends: what the user set, what the API demands, and nothing else; and what is refused before that."""

from __future__ import annotations

import inspect
import json
import pickle
from datetime import timedelta
from typing import Any, Dict

import pytest
import responses

from opensandbox_sync import (
    BadRequestError,
    CredentialProxyConfig,
    ImageAuth,
    ImageSpec,
    InvalidArgumentError,
    LifecycleHook,
    NetworkPolicy,
    NetworkRule,
    PeriodicLifecycleHook,
    PlatformSpec,
    SandboxClient,
    SandboxLifecycle,
    Volume,
)
from opensandbox_sync.creation import create_body

SERVER = "http://server.test:8080"
STARTED = {
    "id": "5e5c0f0e-6141-4418-82d1-8be1b907e7d9",
    "status": {"state": "Running"},
    "createdAt": "2026-11-22T20:02:06Z",
}
DEFAULTS = {"resourceLimits": {"cpu": "1", "memory": "2Gi"}, "entrypoint": ["tail", "-f", "/dev/null"]}


def body(*arguments: Any, **options: Any) -> Dict[str, Any]:
    """What ``create`` with these arguments sends."""
    given = inspect.signature(SandboxClient.create).bind(None, *arguments, **options)
    given.apply_defaults()
    wanted = {name: given.arguments[name] for name in inspect.signature(create_body).parameters}
    return create_body(**wanted)


def test_a_create_sends_what_the_api_demands_and_nothing_unset() -> None:
    assert body("python:3.12") == {"image": {"uri": "python:3.12"}, "timeout": 600, **DEFAULTS}


@responses.activate
def test_the_body_is_posted_as_json_to_the_lifecycle_server() -> None:
    posted = responses.add(responses.POST, f"{SERVER}/v1/sandboxes", json=STARTED, status=202)
    with SandboxClient(domain=SERVER, api_key="k") as client:
        sandbox = client.create("python:3.12", env={"A": "ä"}, wait_ready=False)
        sandbox.detach()
    assert posted.call_count == 1
    request = responses.calls[0].request
    assert json.loads(request.body) == {**body("python:3.12"), "env": {"A": "ä"}}
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["OPEN-SANDBOX-API-KEY"] == "k"


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"timeout": 90.2}, {"timeout": 91}),
        ({"timeout": timedelta(minutes=2)}, {"timeout": 120}),
        ({"env": {"A": "1", "B": ""}}, {"env": {"A": "1", "B": ""}}),
        ({"env": {"A": None}}, {"env": {"A": None}}),
        ({"metadata": {"team": "a"}}, {"metadata": {"team": "a"}}),
        ({"resource_limits": {}}, {"resourceLimits": {}}),
        ({"resource_limits": {"gpu": "all"}}, {"resourceLimits": {"gpu": "all"}}),
        ({"resource_requests": {"cpu": "250m"}}, {"resourceRequests": {"cpu": "250m"}}),
        ({"platform": PlatformSpec("Linux", " AMD64 ")}, {"platform": {"os": "linux", "arch": "amd64"}}),
        ({"secure_access": True}, {"secureAccess": True}),
        ({"entrypoint": ["sleep", "60"]}, {"entrypoint": ["sleep", "60"]}),
        ({"network_policy": NetworkPolicy()}, {"networkPolicy": {"defaultAction": "deny", "egress": []}}),
        (
            {"network_policy": NetworkPolicy("allow", [NetworkRule("deny", "*.example.com")])},
            {"networkPolicy": {"defaultAction": "allow", "egress": [{"action": "deny", "target": "*.example.com"}]}},
        ),
        (
            {"network_policy": NetworkPolicy(), "credential_proxy": True},
            {"networkPolicy": {"defaultAction": "deny", "egress": []}, "credentialProxy": {"enabled": True}},
        ),
        ({"credential_proxy": CredentialProxyConfig()}, {"credentialProxy": {"enabled": False}}),
        (
            {"extensions": {"access.renew.extend.seconds": "300", "x": "{}"}},
            {"extensions": {"access.renew.extend.seconds": "300", "x": "{}"}},
        ),
        (
            {"volumes": [Volume.host("d", "/srv", mount_path="/d")]},
            {"volumes": [{"name": "d", "host": {"path": "/srv"}, "mountPath": "/d"}]},
        ),
        (
            {
                "lifecycle": SandboxLifecycle(
                    LifecycleHook(["sh", "-c", "true"], 10),
                    [PeriodicLifecycleHook("tidy", "*/5 * * * *", ["true"])],
                )
            },
            {
                "lifecycle": {
                    "preStart": {"command": ["sh", "-c", "true"], "timeoutSeconds": 10},
                    "periodic": [{"name": "tidy", "schedule": "*/5 * * * *", "command": ["true"]}],
                }
            },
        ),
    ],
)
def test_what_is_set_is_sent_and_nothing_besides(options: Dict[str, Any], sent: Dict[str, Any]) -> None:
    assert body("i", **options) == {"image": {"uri": "i"}, "timeout": 600, **DEFAULTS, **sent}


def test_what_was_given_one_by_one_is_sent_as_a_list() -> None:
    policy: Any = NetworkPolicy(egress=iter([NetworkRule("allow", "api.test")]))
    hooks: Any = iter([PeriodicLifecycleHook("tidy", "*/5 * * * *", ["true"])])
    sent = body("i", network_policy=policy, lifecycle=SandboxLifecycle(periodic=hooks))
    assert sent["networkPolicy"]["egress"] == [{"action": "allow", "target": "api.test"}]
    assert [hook["name"] for hook in sent["lifecycle"]["periodic"]] == ["tidy"]


@pytest.mark.parametrize(
    "options",
    [
        {"env": {}},
        {"metadata": {}},
        {"resource_requests": {}},
        {"extensions": {}},
        {"volumes": []},
        {"lifecycle": SandboxLifecycle()},
        {"secure_access": False},
    ],
)
def test_what_is_empty_is_not_sent(options: Dict[str, Any]) -> None:
    assert body("i", **options) == body("i")


def test_manual_cleanup_sends_no_timeout() -> None:
    assert "timeout" not in body("i", timeout=None)


def test_a_private_image_is_sent_with_its_registrys_credentials() -> None:
    image = ImageSpec("registry.example.com/i:1", ImageAuth("me", "hush"))
    sent = body(image)["image"]
    assert sent == {"uri": "registry.example.com/i:1", "auth": {"username": "me", "password": "hush"}}
    assert "hush" not in repr(image)


def test_a_snapshot_sends_limits_and_no_entrypoint() -> None:
    sent = body(snapshot_id="s", resource_limits={})
    assert sent == {"snapshotId": "s", "timeout": 600, "resourceLimits": {}}
    assert body(snapshot_id="s")["resourceLimits"] == DEFAULTS["resourceLimits"]


def test_a_template_sends_only_what_it_leaves_open() -> None:
    sent = body(template_id="t", metadata={"a": "b"}, network_policy=NetworkPolicy())
    assert sent == {
        "templateId": "t",
        "timeout": 600,
        "metadata": {"a": "b"},
        "networkPolicy": {"defaultAction": "deny", "egress": []},
    }


def test_a_pool_is_an_extension_and_decides_the_rest() -> None:
    assert body(pool="warm") == {"timeout": 600, "extensions": {"poolRef": "warm"}}
    sent = body(pool="warm", timeout=None, env={"A": "1"}, entrypoint=["x"], extensions={"a": "b"})
    assert sent == {"env": {"A": "1"}, "entrypoint": ["x"], "extensions": {"a": "b", "poolRef": "warm"}}


@pytest.mark.parametrize("source", ["pool", "template_id"])
@pytest.mark.parametrize(
    "options",
    [
        {"resource_limits": {"cpu": "1"}},
        {"resource_requests": {"cpu": "1"}},
        {"platform": PlatformSpec("linux", "amd64")},
        {"credential_proxy": True},
        {"volumes": [Volume.host("d", "/srv", mount_path="/d")]},
        {"lifecycle": SandboxLifecycle(LifecycleHook(["true"]))},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_a_pool_or_a_template_decides_cannot_be_given_with_it(source: str, options: Dict[str, Any]) -> None:
    name = next(iter(options))
    with pytest.raises(InvalidArgumentError, match=f"{name} cannot be given with {source}"):
        body(**{source: "x"}, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"template_id": "t", "entrypoint": ["x"]}, "entrypoint cannot be given with template_id"),
        ({"template_id": "t", "env": {"A": "1"}}, "env cannot be given with template_id"),
        ({"template_id": "t", "secure_access": True}, "secure_access cannot be given with template_id"),
        ({"template_id": "t", "timeout": None}, "timeout must be given"),
        ({"pool": "p", "network_policy": NetworkPolicy()}, "network_policy cannot be given with pool"),
        ({"pool": "p", "extensions": {"poolRef": "q"}}, "pool is 'p', and extensions"),
        ({"pool": " "}, "pool must be text"),
        ({}, "none was given"),
        ({"image": "i", "pool": "p"}, "image and pool were given"),
        ({"image": ""}, "image must be text"),
        ({"image": 3}, "image must be a ImageSpec, not int"),
        ({"snapshot_id": ""}, "snapshot_id must be text"),
        ({"image": "i", "timeout": 0}, "timeout must be finite and more than 0"),
        ({"image": "i", "timeout": "60"}, "timeout must be seconds"),
        ({"image": "i", "timeout": float("nan")}, "timeout"),
        ({"image": "i", "timeout": 1e300}, "timeout must be finite .* at most 1000000000, not 1e"),
        ({"image": "i", "timeout": 10**5000}, "timeout must be finite"),
        ({"image": "i", "env": {"A=B": "c"}}, "env: a name that begins with 'A' has a '='"),
        ({"image": "i", "metadata": ""}, "metadata must be a mapping"),
        ({"image": "i", "metadata": []}, "metadata must be a mapping"),
        ({"image": "i", "env": {"A": 1}}, r"env\['A'\] must be text, not int; use str\(\)"),
        ({"image": "i", "env": ["A=1"]}, "env must be a mapping"),
        ({"image": "i", "metadata": {"a": None}}, r"metadata\['a'\] must be text"),
        (
            {"image": "i", "extensions": {"access.renew.extend.seconds": 300}},
            r"extensions\['access.renew.extend.seconds'\] must be text, not int; use str\(\) or json.dumps\(\)",
        ),
        ({"image": "i", "extensions": {"a": {}}}, r"extensions\['a'\] must be text, not dict"),
        ({"image": "i", "resource_limits": {"cpu": 1}}, r"resource_limits\['cpu'\] must be text"),
        ({"image": "i", "platform": "linux/amd64"}, "platform must be a PlatformSpec, not str"),
        ({"image": "i", "network_policy": {"egress": []}}, "network_policy must be a NetworkPolicy, not dict"),
        ({"image": "i", "network_policy": NetworkPolicy("block")}, "default_action must be 'allow' or 'deny'"),
        (
            {"image": "i", "network_policy": NetworkPolicy(egress=[NetworkRule("allow", "a"), NetworkRule("no", "b")])},
            r"network_policy: egress\[1\]: action must be 'allow' or 'deny', not 'no'",
        ),
        (
            {"image": "i", "network_policy": NetworkPolicy(egress=[NetworkRule("allow", " ")])},
            r"egress\[0\]: target must be text",
        ),
        (
            {"image": "i", "network_policy": NetworkPolicy(egress="api.test")},
            "egress must be a list of NetworkRule",
        ),
        ({"image": "i", "credential_proxy": True}, "credential_proxy needs network_policy"),
        ({"image": "i", "credential_proxy": "yes"}, "credential_proxy must be a CredentialProxyConfig"),
        ({"image": "i", "secure_access": "no"}, "secure_access must be True or False, not 'no'"),
        ({"image": "i", "entrypoint": "sleep 60"}, "entrypoint must be a list of words"),
        ({"image": "i", "entrypoint": []}, "entrypoint must be a list of words that is not empty"),
        ({"image": "i", "entrypoint": ["a", 1]}, "entrypoint\\[\\d\\] must be text"),
        ({"image": "i", "entrypoint": ["a", "\ud800"]}, "entrypoint\\[\\d\\] must be text"),
        (
            {"image": "i", "network_policy": NetworkPolicy(egress=[NetworkRule("allow", "1.2.3.4", [0])])},
            r"each of .*egress\[0\]: ports must be a whole number from 1 to 65535, not 0",
        ),
        (
            {"image": "i", "network_policy": NetworkPolicy(egress=[NetworkRule("allow", ports=443)])},
            r"egress\[0\]: ports must be a list of port numbers, such as \[443\], not 443",
        ),
        ({"image": "i", "network_policy": NetworkPolicy(egress=[NetworkRule("allow")])}, "target must be text"),
        ({"image": "i", "network_policy": NetworkPolicy(egress=[NetworkRule("allow", "", [])])}, "target must be text"),
        ({"image": "i", "lifecycle": LifecycleHook(["x"])}, "lifecycle must be a SandboxLifecycle"),
    ],
)
def test_what_cannot_be_is_refused_with_its_name(options: Dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        body(**options)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PlatformSpec("linux", "x86_64"), "platform arch must be 'amd64' or 'arm64', not 'x86_64'"),
        (lambda: PlatformSpec("darwin", "arm64"), "platform os must be 'linux' or 'windows'"),
        (lambda: PlatformSpec(None, "arm64"), "platform os"),
        (lambda: LifecycleHook("true"), "command must be a list of words"),
        (lambda: LifecycleHook([" "]), r"command\[0\]"),
        (lambda: LifecycleHook(["true"], 0), "timeout_seconds must be a whole number from 1 to 10800, not 0"),
        (lambda: LifecycleHook(["true"], True), "timeout_seconds"),
        (lambda: PeriodicLifecycleHook("a", "* * * * *", ["true"], 301), "hook 'a': timeout_seconds .*1 to 300"),
        (lambda: PeriodicLifecycleHook(" ", "* * * * *", ["true"]), "lifecycle hook name"),
        (lambda: PeriodicLifecycleHook("a", "", ["true"]), "hook 'a': schedule"),
        (
            lambda: SandboxLifecycle(
                periodic=[PeriodicLifecycleHook("a", "x", ["y"]), PeriodicLifecycleHook("a ", "x", ["y"])]
            ),
            "two hooks are named 'a '",
        ),
        (lambda: SandboxLifecycle(["true"]), "pre_start must be a LifecycleHook"),
        (
            lambda: SandboxLifecycle(periodic=[LifecycleHook(["true"])]),
            r"periodic\[0\] must be a PeriodicLifecycleHook, not LifecycleHook",
        ),
        (lambda: SandboxLifecycle(periodic=5), "periodic must be a list of PeriodicLifecycleHook, not int"),
        (lambda: ImageSpec(" "), "image uri"),
        (lambda: ImageSpec("i", 5), "image auth must be a ImageAuth, not int"),
        (lambda: ImageAuth("me", ""), "password must be text that is not empty"),
        (lambda: ImageAuth("me", "a\0b"), "password must be text"),
        (lambda: ImageAuth("me", "\ud800"), "password must be text"),
        (lambda: CredentialProxyConfig("yes"), "credential_proxy enabled must be True or False, not 'yes'"),
        (lambda: CredentialProxyConfig(None), "credential_proxy enabled"),
    ],
)
def test_a_model_that_the_server_would_refuse_cannot_be_made(make: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        make()


@responses.activate
def test_a_refused_create_repeats_no_secret_of_the_request_in_its_error() -> None:
    """A 422 repeats what was sent under "input"."""
    secrets = ["registry-password", "value-of-env", "oss-secret"]
    image = ImageSpec("i", ImageAuth("me", secrets[0]))
    keys = {"access_key_id": "id", "access_key_secret": secrets[2]}
    volume = Volume.ossfs("d", "bucket", mount_path="/d", endpoint="e", **keys)
    sent = body(image, env={"A": secrets[1]}, volumes=[volume])
    assert all(secret in json.dumps(sent) for secret in secrets)
    problem = {"type": "value_error", "loc": ["body"], "msg": "Value error, no", "input": sent}
    responses.add(responses.POST, f"{SERVER}/v1/sandboxes", json={"detail": [problem]}, status=422)
    with SandboxClient(domain=SERVER) as client, pytest.raises(BadRequestError, match="Value error, no") as caught:
        client.create(image, env={"A": secrets[1]}, volumes=[volume])
    for shown in (str(caught.value), caught.value.body, str(pickle.dumps(caught.value))):
        assert not [secret for secret in secrets if secret in shown]
