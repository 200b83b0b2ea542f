"""Who may speak to the embedded server, and what every answer carries."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .http_api import Api


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:1", "localhost", "LOCALHOST:80", "[::1]", "[::1]:8080"])
def test_names_of_this_machine_are_answered(api: Api, host: str) -> None:
    assert api.call("GET", "/v1/sandboxes", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil", "10.0.0.1", "127.0.0.1:x", "[::1].evil"]
)
@pytest.mark.parametrize("path", ["/health", "/v1/sandboxes", "/v1/sandboxes/x/proxy/80/", "/egress/x/policy"])
def test_a_foreign_host_is_refused_everywhere(api: Api, host: str, path: str) -> None:
    answer = api.call("GET", path, headers={"Host": host})
    assert (answer.status, answer.json["code"]) == (403, "FORBIDDEN_HOST")


@pytest.mark.parametrize(
    "headers", [{"Origin": "null"}, {"Origin": "http://localhost"}, {"Sec-Fetch-Site": "cross-site"}]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/sandboxes"), ("OPTIONS", "/v1/sandboxes"), ("GET", "/health"), ("GET", "/egress/x/policy")],
)
def test_a_web_page_is_refused_on_every_api_route(api: Api, method: str, path: str, headers: Any) -> None:
    answer = api.call(method, path, headers=headers)
    assert (answer.status, answer.json["code"]) == (403, "FORBIDDEN_ORIGIN")


def test_a_browsers_own_address_line_is_answered(api: Api) -> None:
    assert api.call("GET", "/health", headers={"Sec-Fetch-Site": "none"}, key=False).status == 200


@pytest.mark.parametrize("path", ["/v1/sandboxes", "/sandboxes/x/networkpolicy", "/v1/nope", "/v1/metrics/events"])
def test_routes_need_the_key(api: Api, path: str) -> None:
    assert api.call("GET", path, key=False).json["code"] == "MISSING_API_KEY"
    wrong = api.call("GET", path, headers={"OPEN-SANDBOX-API-KEY": "é"})
    assert (wrong.status, wrong.json["code"]) == (401, "INVALID_API_KEY")


def test_a_proxy_path_that_leads_out_of_the_proxy_needs_the_key(api: Api) -> None:
    answer = api.call("GET", "/v1/sandboxes/x/proxy/80/%2e%2e/x", key=False)
    assert answer.json["code"] == "MISSING_API_KEY"


def test_a_request_id_is_given_back_or_made_on_every_answer(api: Api) -> None:
    for path, status in (("/health", 200), ("/v1/nope", 404), ("/v1/sandboxes?page=0", 422)):
        made = api.call("GET", path)
        assert made.status == status
        assert re.fullmatch("[0-9a-f]{32}", made.headers["x-request-id"])
        assert api.call("GET", path, headers={"X-Request-ID": " a-1 "}).headers["x-request-id"] == "a-1"
    for answer in (api.call("GET", "/v1/sandboxes", key=False), api.call("PUT", "/v1/sandboxes")):
        assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/v1/sandboxes"), ("OPTIONS", "/v1/sandboxes"), ("POST", "/health")]
)
def test_a_wrong_verb_is_told_which_are_right(api: Api, method: str, path: str) -> None:
    answer = api.call(method, path)
    assert (answer.status, answer.json) == (405, {"detail": "Method Not Allowed"})
    assert answer.headers["allow"] == ("GET" if path == "/health" else "GET, POST")


@pytest.mark.parametrize(
    ("method", "path", "where"),
    [
        ("GET", "/v1/sandboxes/", "/v1/sandboxes"),
        ("POST", "/sandboxes/?a=%20b", "/sandboxes?a=%20b"),
        ("PUT", "/v1/sandboxes/x%20y//", "/v1/sandboxes/x%20y"),
        ("GET", "/health/", "/health"),
    ],
)
def test_a_slash_too_many_leads_back_to_the_path(api: Api, method: str, path: str, where: str) -> None:
    answer = api.call(method, path)
    assert (answer.status, answer.body, "content-type" in answer.headers) == (307, b"", False)
    assert answer.headers["location"] == f"http://{api.address}{where}"


@pytest.mark.parametrize("path", ["/v1//sandboxes", "/v1/nope/", "/v1/sandboxes/x//pause", "/v1/sandboxes/x/proxy/"])
def test_two_slashes_are_not_one(api: Api, path: str) -> None:
    answer = api.call("GET", path)
    assert (answer.status, answer.json) == (404, {"detail": "Not Found"})


def test_there_is_no_head(api: Api) -> None:
    answer = api.call("HEAD", "/v1/sandboxes")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")
    assert api.call("HEAD", "/v1/nope").status == 404
