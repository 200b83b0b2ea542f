"""What create refuses: the statuses, codes, words and order of the real server's checks (seen there with bad input)."""

from __future__ import annotations

import json
import platform
from typing import Any, Dict, List

import pytest

from .http_api import Api, create_body

HERE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
HOOK = {"command": ["true"]}
OSSFS = {"bucket": "bbb", "endpoint": "e", "accessKeyId": "i", "accessKeySecret": "s"}


def volume(**fields: Any) -> Dict[str, Any]:
    """A request with one volume; None leaves a field out."""
    made = {"name": "v", "mountPath": "/d", "host": {"path": "/tmp/hostvol"}, **fields}
    return {"volumes": [{name: value for name, value in made.items() if value is not None}]}


def refused(api: Api, status: int, **fields: Any) -> Any:
    answer = api.call("POST", "/v1/sandboxes", create_body(**fields))
    assert answer.status == status, answer
    return answer.json


@pytest.mark.parametrize(
    ("fields", "kind", "where", "message"),
    [
        ({"timeout": 60.5}, "int_from_float", ["timeout"], "got a number with a fractional part"),
        ({"timeout": "abc"}, "int_parsing", ["timeout"], "unable to parse string as an integer"),
        ({"timeout": True}, "greater_than_equal", ["timeout"], "greater than or equal to 60"),
        ({"timeout": []}, "int_type", ["timeout"], "valid integer"),
        ({"image": "x"}, "model_attributes_type", ["image"], "valid dictionary or object to extract fields"),
        ({"image": {}}, "missing", ["image", "uri"], "Field required"),
        ({"image": {"uri": " "}}, "value_error", [], "Exactly one of image or snapshotId must be provided."),
        ({"image": {"uri": "a", "auth": {"username": "u"}}}, "missing", ["image", "auth", "password"], "Field"),
        ({"snapshotId": "x"}, "value_error", [], "Exactly one of image or snapshotId must be provided."),
        ({"entrypoint": None}, "value_error", [], "Entrypoint is required when image is provided."),
        ({"entrypoint": []}, "too_short", ["entrypoint"], "at least 1 item after validation, not 0"),
        ({"entrypoint": "x"}, "list_type", ["entrypoint"], "valid list"),
        ({"entrypoint": [1]}, "string_type", ["entrypoint", 0], "valid string"),
        ({"resourceLimits": None}, "value_error", [], "resourceLimits is required when poolRef is not provided."),
        ({"resourceLimits": {"cpu": 1}}, "string_type", ["resourceLimits", "cpu"], "valid string"),
        ({"resourceLimits": []}, "dict_type", ["resourceLimits"], "valid dictionary"),
        ({"env": {"A": 1}}, "string_type", ["env", "A"], "valid string"),
        ({"env": {"OPENSANDBOX_LIFECYCLE": "x"}}, "value_error", [], "'OPENSANDBOX_LIFECYCLE' is reserved."),
        ({"metadata": {"a": 1}}, "string_type", ["metadata", "a"], "valid string"),
        ({"platform": {"os": "linux"}}, "missing", ["platform", "arch"], "Field required"),
        ({"networkPolicy": {"egress": [{"target": "a"}]}}, "missing", ["networkPolicy", "egress", 0, "action"], ""),
        (
            {"networkPolicy": {"egress": [{"action": "deny", "target": ""}]}},
            "string_too_short",
            ["networkPolicy", "egress", 0, "target"],
            "String should have at least 1 character",
        ),
        ({"networkPolicy": {"egress": {}}}, "list_type", ["networkPolicy", "egress"], "valid list"),
        ({"credentialProxy": {"enabled": True}}, "value_error", [], "credentialProxy.enabled requires networkPolicy."),
        ({"secureAccess": "maybe"}, "bool_parsing", ["secureAccess"], "unable to interpret input"),
        ({"secureAccess": 2}, "bool_parsing", ["secureAccess"], "unable to interpret input"),
        ({"secureAccess": 1.5}, "bool_type", ["secureAccess"], "valid boolean"),
        ({"secureAccess": 2**63}, "bool_type", ["secureAccess"], "valid boolean"),
        ({"extensions": {"a": None}}, "string_type", ["extensions", "a"], "valid string"),
        (
            {"extensions": {"poolRef": "p"}, "lifecycle": {}},
            "value_error",
            [],
            "lifecycle cannot be used together with poolRef.",
        ),
        ({"lifecycle": {"x": 1}}, "extra_forbidden", ["lifecycle", "x"], "Extra inputs are not permitted"),
        (
            {"lifecycle": {"preStart": {**HOOK, "timeoutSeconds": 10801}}},
            "less_than_equal",
            ["lifecycle", "preStart", "timeoutSeconds"],
            "less than or equal to 10800",
        ),
        (
            {"lifecycle": {"periodic": [{**HOOK, "name": "a", "schedule": "s"}] * 2}},
            "value_error",
            ["lifecycle"],
            "Periodic lifecycle hook names must be unique.",
        ),
        ({"templateId": "t"}, "value_error", [], "cannot be combined with: entrypoint, image, resourceLimits;"),
        (volume(name="A"), "string_pattern_mismatch", ["volumes", 0, "name"], "should match pattern"),
        (volume(name="x" * 64), "string_too_long", ["volumes", 0, "name"], "at most 63 characters"),
        (volume(mountPath="d"), "string_pattern_mismatch", ["volumes", 0, "mountPath"], "'^/.*'"),
        (volume(host=None), "value_error", ["volumes", 0], "but none was provided."),
        (volume(host={"path": "rel"}), "string_pattern_mismatch", ["volumes", 0, "host", "path"], "pattern"),
        (volume(readOnly="x"), "bool_parsing", ["volumes", 0, "readOnly"], "unable to interpret input"),
        (
            volume(host=None, pvc={"claimName": "c", "storage": "1Q"}),
            "string_pattern_mismatch",
            ["volumes", 0, "pvc", "storage"],
            "pattern",
        ),
        (
            volume(host=None, ossfs={**OSSFS, "version": "3"}),
            "literal_error",
            ["volumes", 0, "ossfs", "version"],
            "Input should be '1.0' or '2.0'",
        ),
        (
            volume(host=None, ossfs={**OSSFS, "accessKeySecret": None}),
            "value_error",
            ["volumes", 0, "ossfs"],
            "OSSFS inline credentials are required",
        ),
    ],
)
def test_a_body_of_the_wrong_shape_is_told_where_and_why(
    api: Api, fields: Dict[str, Any], kind: str, where: List[Any], message: str
) -> None:
    (detail,) = refused(api, 422, **fields)["detail"]
    assert (detail["type"], detail["loc"]) == (kind, ["body", *where])
    assert message in detail["msg"]
    assert "input" in detail


def test_everything_that_is_wrong_is_told_at_once(api: Api) -> None:
    detail = refused(api, 422, timeout=5, resourceLimits={"a": 1}, entrypoint=[1, 2])["detail"]
    assert [entry["loc"][1] for entry in detail] == ["timeout", "resourceLimits", "entrypoint", "entrypoint"]


@pytest.mark.parametrize(
    ("raw", "status", "kind"),
    [
        (b"", 422, "missing"),
        (b"[]", 422, "model_attributes_type"),
        (b"null", 422, "model_attributes_type"),
        (b'{"a":1} x', 422, "json_invalid"),
        (b"\xff", 400, None),
        (b"[" * 100000, 400, None),
    ],
)
def test_a_body_that_is_no_object_is_refused(api: Api, raw: bytes, status: int, kind: Any) -> None:
    answer = api.call("POST", "/v1/sandboxes", raw)
    assert answer.status == status
    detail = answer.json["detail"]
    assert detail == "There was an error parsing the body" if kind is None else detail[0]["type"] == kind


@pytest.mark.parametrize("kind", ["", "text/plain", "text/json"])
def test_a_body_that_is_not_called_json_is_a_text(api: Api, kind: str) -> None:
    raw = json.dumps(create_body()).encode()
    (detail,) = api.call("POST", "/v1/sandboxes", raw, {"Content-Type": kind}).json["detail"]
    assert (detail["type"], detail["loc"]) == ("model_attributes_type", ["body"])
    assert detail["input"] == raw.decode()


def test_json_may_have_a_kind_and_a_charset(api: Api) -> None:
    for kind in ("application/merge-patch+json", "APPLICATION/JSON; charset=utf-8"):
        raw = json.dumps(create_body(timeout=1)).encode()
        (detail,) = api.call("POST", "/v1/sandboxes", raw, {"Content-Type": kind}).json["detail"]
        assert detail["type"] == "greater_than_equal"


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"metadata": {"opensandbox.io/x": "1"}}, "SANDBOX::INVALID_METADATA_LABEL", "reserved prefix"),
        ({"metadata": {"a/b/c": "1"}}, "SANDBOX::INVALID_METADATA_LABEL", "Metadata key 'a/b/c' is invalid"),
        ({"metadata": {"A.b/c": "1"}}, "SANDBOX::INVALID_METADATA_LABEL", "is invalid"),
        ({"metadata": {"x" * 64: "1"}}, "SANDBOX::INVALID_METADATA_LABEL", "is invalid"),
        ({"metadata": {"k": "v" * 64}}, "SANDBOX::INVALID_METADATA_LABEL", "must be 63 characters or less"),
        ({"metadata": {"k": "-a"}}, "SANDBOX::INVALID_METADATA_LABEL", "Metadata value '-a' is invalid"),
        ({"platform": {"os": "mac", "arch": "arm64"}}, "SANDBOX::INVALID_PARAMETER", "Unsupported platform.os 'mac'"),
        ({"platform": {"os": "linux", "arch": "x86_64"}}, "SANDBOX::INVALID_PARAMETER", "platform.arch 'x86_64'"),
        ({"platform": {"os": "windows", "arch": HERE}}, "SANDBOX::INVALID_PARAMETER", "cannot be had"),
        ({"timeout": 10**20}, "SANDBOX::INVALID_PARAMETER", "is too large to represent safely."),
        ({"secureAccess": True}, "SANDBOX::INVALID_PARAMETER", "secureAccess is not supported"),
        ({"lifecycle": {"preStart": HOOK}}, "SANDBOX::INVALID_PARAMETER", "lifecycle hooks are not supported"),
        ({"extensions": {"poolRef": "p"}}, "SANDBOX::UNSUPPORTED_POOL_REF", "poolRef is not supported"),
        ({"extensions": {"access.renew.extend.seconds": " "}}, "SANDBOX::INVALID_PARAMETER", "empty value"),
        ({"extensions": {"access.renew.extend.seconds": "x"}}, "SANDBOX::INVALID_PARAMETER", "base-10 integer"),
        ({"resourceLimits": {"memory": "0"}}, "SANDBOX::INVALID_PARAMETER", "resourceLimits.memory: '0'"),
        ({"resourceLimits": {"memory": "1x"}}, "SANDBOX::INVALID_PARAMETER", "positive resource limit."),
        ({"resourceLimits": {"cpu": "-1"}}, "SANDBOX::INVALID_PARAMETER", "Invalid resourceLimits.cpu: '-1'"),
        ({"resourceLimits": {"gpu": "some"}}, "SANDBOX::INVALID_PARAMETER", "positive device count or 'all'."),
        ({"env": {"OPENSANDBOX_EGRESS_X": "1"}}, "SANDBOX::INVALID_PARAMETER", "permitted OPENSANDBOX_EGRESS_ keys"),
        ({"volumes": volume()["volumes"] * 2}, "VOLUME::DUPLICATE_NAME", "Duplicate volume name 'v'."),
        (volume(subPath="/a"), "VOLUME::INVALID_SUB_PATH", "must be a relative path, not absolute."),
        (volume(subPath="a/../b"), "VOLUME::INVALID_SUB_PATH", "path traversal '..'"),
        (volume(host={"path": "/a/../b"}), "VOLUME::INVALID_HOST_PATH", "path traversal component '..'."),
        (volume(host={"path": "/a//b"}), "VOLUME::INVALID_HOST_PATH", "is not normalized."),
        (volume(host={"path": "/tmp/hostvol/"}), "VOLUME::INVALID_HOST_PATH", "is not normalized."),
        (volume(host={"path": "/tmp/hostvol2"}), "VOLUME::HOST_PATH_NOT_ALLOWED", "any allowed prefix"),
        (volume(), "VOLUME::UNSUPPORTED_BACKEND", "without isolation"),
        (volume(host=None, pvc={"claimName": "c"}), "VOLUME::UNSUPPORTED_BACKEND", "without isolation"),
        (volume(host=None, pvc={"claimName": "c", "createIfNotExists": False}), "VOLUME::PVC_NOT_FOUND", "volume 'c'"),
        (volume(host=None, ossfs=OSSFS), "VOLUME::UNSUPPORTED_BACKEND", "without isolation"),
        (volume(host=None, ossfs={**OSSFS, "options": ["-o"]}), "VOLUME::INVALID_OSSFS_OPTION", "'-' prefix"),
    ],
)
def test_what_cannot_be_given_is_refused_with_the_servers_code(
    api: Api, fields: Dict[str, Any], code: str, message: str
) -> None:
    answer = refused(api, 400, **fields)
    assert answer["code"] == code
    assert message in answer["message"]


def test_a_symlink_under_an_allowed_host_path_does_not_lead_out(api: Api, tmp_path: Any) -> None:
    from opensandbox_sync.local.lifecycle.errors import ApiError
    from opensandbox_sync.local.lifecycle.volumes import check_volumes

    (tmp_path / "out").symlink_to("/etc")
    asked = volume(host={"path": str(tmp_path / "out")})["volumes"]
    with pytest.raises(ApiError) as refusal:
        check_volumes(asked, [str(tmp_path)], False)
    assert refusal.value.code == "VOLUME::HOST_PATH_NOT_ALLOWED"


def test_checks_come_in_the_real_servers_order(api: Api) -> None:
    faults: Dict[str, Any] = {
        "extensions": {"access.renew.extend.seconds": "1", "poolRef": " "},
        "metadata": {"bad key!": "x"},
        "platform": {"os": "linux", "arch": "x86_64"},
        "secureAccess": True,
        "resourceLimits": {"cpu": "0"},
        "env": {"OPENSANDBOX_EGRESS_X": "1"},
        **volume(),
    }
    well = create_body()
    seen = []
    for name in list(faults):
        answer = refused(api, 400, **{**well, **faults})
        seen.append(answer["message"].split("'")[0][:24])
        del faults[name]
    assert seen == [
        'Invalid extensions["acce',
        "Metadata key ",
        "Unsupported platform.arc",
        "secureAccess is not supp",
        "Invalid resourceLimits.c",
        "Environment variable ",
        "Volume ",
    ]


def test_a_template_falls_through_to_the_missing_entrypoint(api: Api) -> None:
    body = {"templateId": "t", "timeout": 60}
    answer = api.call("POST", "/v1/sandboxes", body)
    assert (answer.status, answer.json["code"]) == (400, "DOCKER::INVALID_ENTRYPOINT")


def test_a_rule_that_the_sidecar_cannot_take_fails_the_start(api: Api) -> None:
    rule = {"action": "maybe", "target": "a.b"}
    answer = refused(api, 500, networkPolicy={"egress": [rule]})
    assert answer["code"] == "DOCKER::SANDBOX_START_FAILED"
    assert 'unsupported action "maybe"' in answer["message"]


@pytest.mark.parametrize("env", [{"A": "x\x00y"}, {"A": "\ud800"}])
def test_a_variable_that_no_environment_can_hold_fails_the_start(api: Api, env: Dict[str, str]) -> None:
    assert refused(api, 500, env=env, metadata={"env": "bad"})["code"] == "DOCKER::SANDBOX_START_FAILED"
    assert api.call("GET", "/v1/sandboxes?metadata=env%3Dbad").json["items"] == []


def test_names_that_no_environment_can_hold_are_dropped(api: Api) -> None:
    with api.sandbox(env={"A=B": "x", "": "y", "C": "z"}) as sandbox_id:
        assert api.execd(sandbox_id).run("echo $A$C") == "z\n"


def test_an_unknown_snapshot_is_not_found(api: Api) -> None:
    answer = refused(api, 404, image=None, snapshotId="nope")
    assert answer == {"code": "SNAPSHOT::NOT_FOUND", "message": "Snapshot nope not found"}


def test_lax_numbers_snake_case_names_and_unknown_fields_are_taken(api: Api) -> None:
    body = create_body(timeout="600", resourceLimits=None)
    answer = api.call("POST", "/v1/sandboxes", {**body, "resource_limits": {"cpu": "500m"}, "moon": 1})
    assert answer.status == 202
    api.call("DELETE", f"/v1/sandboxes/{answer.json['id']}")


def test_only_extensions_meant_for_storing_come_back_and_the_platform_is_normalised(api: Api) -> None:
    stored = {"opensandbox.extensions.note": "hi"}
    made = api.create(extensions={**stored, "other": "x"}, platform={"os": "Linux", "arch": HERE.upper()})
    shown = api.call("GET", f"/v1/sandboxes/{made['id']}").json
    api.call("DELETE", f"/v1/sandboxes/{made['id']}")
    for answer in (made, shown):
        assert answer["extensions"] == {**stored, "opensandbox.extensions.isolation": "none"}
        assert answer["platform"] == {"os": "linux", "arch": HERE}
