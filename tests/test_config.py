"""``ConnectionConfig``: what each field means, what is refused, and what never shows."""

from __future__ import annotations

import math
import pickle
from datetime import timedelta
from typing import Any

import pytest
import requests

from opensandbox_sync import ConnectionConfig, InvalidArgumentError, RetryPolicy, SandboxClient
from opensandbox_sync.config import seconds


def test_nothing_given_is_localhost_without_a_key(clean_environment: pytest.MonkeyPatch) -> None:
    config = ConnectionConfig()
    assert (config.base_url, config.api_key) == ("http://localhost:8080/v1", None)


def test_the_environment_is_read_where_nothing_is_given(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("OPEN_SANDBOX_DOMAIN", "https://box.example.com")
    clean_environment.setenv("OPEN_SANDBOX_API_KEY", "from-the-environment")
    config = ConnectionConfig()
    assert (config.base_url, config.api_key) == ("https://box.example.com/v1", "from-the-environment")
    assert ConnectionConfig("other:1", "k").base_url == "http://other:1/v1"
    assert ConnectionConfig("other:1", "k").api_key == "k"


def test_empty_variables_are_as_good_as_none(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("OPEN_SANDBOX_DOMAIN", "")
    clean_environment.setenv("OPEN_SANDBOX_API_KEY", "")
    assert ConnectionConfig() == ConnectionConfig("localhost:8080")


@pytest.mark.parametrize(
    ("domain", "protocol", "base_url"),
    [
        ("localhost:8080", "http", "http://localhost:8080/v1"),
        ("box.example.com", "https", "https://box.example.com/v1"),
        ("https://box.example.com", "http", "https://box.example.com/v1"),
        ("http://box.example.com:81/", "https", "http://box.example.com:81/v1"),
        ("https://box.example.com/v1", "http", "https://box.example.com/v1"),
        ("https://box.example.com/api/", "http", "https://box.example.com/api/v1"),
        ("https://box.example.com/api/v1/", "http", "https://box.example.com/api/v1"),
        ("[::1]:8080", "http", "http://[::1]:8080/v1"),
        ("  localhost:8080\n", "http", "http://localhost:8080/v1"),
        ("http://user:pass@box.example.com", "http", "http://box.example.com/v1"),
        ("HTTPS://Box.example.com", "http", "https://box.example.com/v1"),
        ("https://box.example.com:443/API", "http", "https://box.example.com/API/v1"),
        ("box.example.com:80", "http", "http://box.example.com/v1"),
        ("box.example.com:443", "http", "http://box.example.com:443/v1"),
        ("[::80]", "http", "http://[::80]/v1"),
        ("[::1]:80", "http", "http://[::1]/v1"),
    ],
)
def test_a_domain_becomes_the_base_url(domain: str, protocol: str, base_url: str) -> None:
    assert ConnectionConfig(domain, protocol=protocol).base_url == base_url


@pytest.mark.parametrize(
    "domain",
    [
        "   ",
        "ftp://box.example.com",
        "http://",
        "http://:8080",
        ":8080",
        "host:port",
        "host:0",
        "host:99999",
        "host:-1",
        "two words",
        "host/?q=1",
        "host#fragment",
        "[::1",
        "http://[not an address]",
        "host\0name",
        "host\nname",
        17,
        b"localhost",
        b"",
        0,
        ["localhost"],
        "host\ud800",
        "http://me:\ud800@host",
    ],
)
def test_a_domain_that_is_none_is_refused_before_anything_is_sent(domain: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="domain"):
        SandboxClient(domain=domain)


@pytest.mark.parametrize(
    "domain",
    [
        "http://me:s3cret@host:99999",
        "http://me:s3cret@",
        "http://me:#s3cret@host",
        "http://me:s3cret#@host",
        "http://me:s3cret#tail@host",
        "http://me:s3cret/tail@host",
        "http://me:s3cret?tail@host",
        "http://me:head@s3cret/tail@host",
        "http://me:8080/s3cret@host",
        "me/s3cret@host",
        "me:s3cret/tail@host:1",
        "http://me:s3cret]@host",
        "http://me:s3cret\uff0f@host",
        "http://me:s3cret\ud800@host",
        "http://me:s3cret @host",
        "host/?token=s3cret",
        "host/?token=s3cret@more",
        "host/#s3cret",
        b"http://me:s3cret@host",
    ],
)
def test_a_refused_domain_does_not_show_its_password(domain: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="domain must be a host") as caught:
        ConnectionConfig(domain)
    for shown in (str(caught.value), str(caught.value.__cause__)):
        assert "s3cret" not in shown
        shown.encode("utf-8")


def test_a_password_that_ends_anywhere_gets_its_hint() -> None:
    with pytest.raises(InvalidArgumentError, match="'#' is written %23"):
        ConnectionConfig("http://me:a#b@host")
    headers = ConnectionConfig("http://me:a%23b@host").lifecycle_headers
    assert headers["Authorization"] == "Basic bWU6YSNi"


def test_user_information_in_the_domain_becomes_basic_authentication() -> None:
    headers = ConnectionConfig("http://me:p%40ss@host").lifecycle_headers
    assert headers["Authorization"] == "Basic bWU6cEBzcw=="


def test_the_key_wins_over_a_header_of_the_same_name() -> None:
    config = ConnectionConfig("h", "right", headers={"open-sandbox-api-key": "wrong", "X-Tenant": "t"})
    found = {name.lower(): value for name, value in config.lifecycle_headers.items()}
    assert found["open-sandbox-api-key"] == "right"
    assert found["x-tenant"] == "t"
    assert len(found) == len(config.lifecycle_headers)


DURATIONS = ["timeout", "idle_timeout"]


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        math.inf,
        -math.inf,
        math.nan,
        True,
        "30",
        None,
        10**400,
        1e300,
        10**9 + 1,
        timedelta.max,
        timedelta(0),
        timedelta(seconds=-1),
        [1],
    ],
)
def test_a_duration_that_is_none_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=name):
        SandboxClient(**{name: value})


@pytest.mark.parametrize("name", DURATIONS)
def test_a_duration_is_seconds_or_a_timedelta(name: str) -> None:
    assert getattr(ConnectionConfig("h", **{name: timedelta(minutes=2)}), name) == 120.0  # type: ignore[arg-type]
    assert getattr(ConnectionConfig("h", **{name: 0.5}), name) == 0.5  # type: ignore[arg-type]


def test_a_number_that_has_no_text_is_refused_all_the_same() -> None:
    """Python prints no int of more than 4300 digits."""
    with pytest.raises(InvalidArgumentError, match="timeout must be finite"):
        ConnectionConfig(timeout=10**5000)


def test_zero_is_a_duration_only_where_it_may_be() -> None:
    assert seconds("pause", 0, allow_zero=True) == 0.0
    with pytest.raises(InvalidArgumentError, match="more than 0"):
        seconds("pause", 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("protocol", "ftp"),
        ("protocol", None),
        ("use_server_proxy", "yes"),
        ("use_server_proxy", None),
        ("headers", "X: y"),
        ("headers", {"X": 1}),
        ("headers", {"": "x"}),
        ("headers", {"X\r\nY": "x"}),
        ("headers", {"X:": "x"}),
        ("sandbox_headers", {"X": "a\nb"}),
        ("sandbox_headers", {"X": " padded "}),
        ("sandbox_headers", {"X": "schlüssel€"}),
        ("headers", [("X", "y")]),
        ("headers", {"X Y": "x"}),
        ("headers", {"X\tY": "x"}),
        ("headers", {"Schlüssel": "x"}),
        ("headers", {"X": "a\x01b"}),
        ("headers", {"X": "\x7f"}),
        ("headers", {"X": b"x"}),
        ("sandbox_headers", {"(X)": "x"}),
        ("sandbox_headers", {"X": "\ud800"}),
        ("sandbox_headers", None),
        ("api_key", "a\nb"),
        ("api_key", "schlüssel€"),
        ("api_key", 7),
        ("user_agent", "a\r\nb"),
        ("user_agent", None),
        ("user_agent", 7),
        ("user_agent", ""),
        ("user_agent", "a\ud800"),
        ("use_server_proxy", 1),
        ("retry", 3),
        ("retry", RetryPolicy),
        ("session", "requests"),
        ("session", requests.Session),
        ("verify", 1.5),
        ("verify", ""),
        ("verify", "a\0b"),
        ("verify", b"/ca.pem"),
        ("cert", 5),
        ("cert", ""),
        ("cert", ("/a.pem",)),
        ("cert", ("/a.pem", None)),
        ("cert", {"a": "b"}),
        ("on_request", "print"),
    ],
)
def test_a_field_that_cannot_work_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=field):
        ConnectionConfig("h", **{field: value})


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization: Bearer s3cret": ""},
        {"X": "s3cret\n"},
        {"X": "s3cret\x00"},
        {"X": "s3cret€"},
        {"X": b"s3cret"},
        {b"s3cret": "x"},
    ],
)
def test_a_refused_header_does_not_show_its_value(headers: Any) -> None:
    for name in ("headers", "sandbox_headers"):
        with pytest.raises(InvalidArgumentError, match=name) as caught:
            ConnectionConfig("h", **{name: headers})
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("cert", ["/a.pem", ("/a.pem", "/a.key"), None])
def test_a_certificate_is_a_path_or_two(cert: Any) -> None:
    assert ConnectionConfig("h", cert=cert).cert == cert


def test_an_unknown_keyword_is_a_type_error_and_an_unknown_replacement_says_what_there_is() -> None:
    with pytest.raises(TypeError):
        SandboxClient(doman="h")  # type: ignore[call-arg]
    with pytest.raises(InvalidArgumentError, match="domain"):
        ConnectionConfig("h").replace(doman="x")


def test_a_keyword_overrides_the_config() -> None:
    config = ConnectionConfig("first:1", "key", timeout=7)
    client = SandboxClient(config, domain="second:2")
    assert (client.config.base_url, client.config.api_key) == ("http://second:2/v1", "key")
    assert client.config.timeout == 7
    assert config.base_url == "http://first:1/v1"


def test_a_scheme_stays_with_its_domain_when_the_domain_is_replaced() -> None:
    assert ConnectionConfig("https://a").replace(domain="b").base_url == "http://b/v1"


def test_a_domain_in_the_place_of_the_config_says_what_to_write() -> None:
    with pytest.raises(InvalidArgumentError, match="domain="):
        SandboxClient("localhost:8080")  # type: ignore[arg-type]


def test_no_secret_shows() -> None:
    config = ConnectionConfig(
        "http://me:s3cret@host",
        "s3cret",
        headers={"X": "s3cret"},
        sandbox_headers={"Y": "s3cret"},
        cert=("/path/s3cret", "s3cret"),
    )
    for shown in (repr(config), str(config), repr(SandboxClient(config)), f"{config}"):
        assert "s3cret" not in shown
        assert "host" in shown


def test_a_config_pickles() -> None:
    config = ConnectionConfig("https://h/api", "key", headers={"X": "y"}, retry=RetryPolicy(max_retries=1), timeout=3)
    again = pickle.loads(pickle.dumps(config))
    assert again == config
    assert (again.base_url, again.lifecycle_headers) == (config.base_url, config.lifecycle_headers)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        ConnectionConfig("h").timeout = 3  # type: ignore[misc]


def test_later_changes_of_a_given_mapping_change_nothing() -> None:
    headers = {"X": "y"}
    config = ConnectionConfig("h", headers=headers)
    headers["X"] = "z"
    assert config.headers == {"X": "y"}
