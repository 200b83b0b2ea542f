"""The pytest plugin, in pytest runs of its own: what a user's test suite gets."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any, Dict

import pytest

from opensandbox_sync import SandboxClient

pytest_plugins = "pytester"

PLUGIN = "opensandbox_sync.pytest_plugin"


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A user's test suite. The plugin is named, so that it does not matter whether this checkout is installed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    for name in ("OPEN_SANDBOX_DOMAIN", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    return pytester


def run(suite: pytest.Pytester, *words: str) -> pytest.RunResult:
    return suite.runpytest_subprocess("-p", PLUGIN, "-W", "error", *words, timeout=120)


def test_an_install_brings_the_plugin() -> None:
    parser = configparser.ConfigParser()
    parser.read(Path(__file__).parents[1] / "setup.cfg", "utf-8")
    assert parser["options.entry_points"]["pytest11"].split() == ["opensandbox_sync", "=", PLUGIN]


def test_each_test_has_a_sandbox_of_its_own_which_is_gone_after_it(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        seen = []

        def test_one(sandbox):
            seen.append(sandbox.id)
            assert sandbox.commands.run("echo hello").stdout == "hello\\n"

        def test_two(sandbox, opensandbox_client):
            assert sandbox.id != seen[0]
            assert [info.id for info in opensandbox_client.list()] == [sandbox.id]

        def test_none_is_left(opensandbox_client):
            assert opensandbox_client.list() == []
        """
    )
    run(suite).assert_outcomes(passed=3)


@pytest.mark.embedded
def test_the_sandbox_is_made_on_the_server_that_is_named(
    suite: pytest.Pytester, settings: Dict[str, Any], client: SandboxClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPEN_SANDBOX_API_KEY", settings["api_key"] or "")
    suite.makepyfile(
        """
        from pathlib import Path

        def test_it(sandbox):
            Path("made").write_text(sandbox.id + " " + sandbox.info().image.uri)
        """
    )
    run(suite, "--opensandbox-domain", settings["domain"], "--opensandbox-image", "mine:1").assert_outcomes(passed=1)
    sandbox_id, image = (suite.path / "made").read_text().split()
    assert image == "mine:1"
    assert sandbox_id not in [info.id for info in client.list()]


def test_a_failure_shows_what_the_last_execution_of_that_test_wrote(
    suite: pytest.Pytester, settings: Dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPEN_SANDBOX_API_KEY", settings["api_key"] or "")
    suite.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def box(opensandbox_client):
            with opensandbox_client.create("python:3.12") as box:
                yield box

        def test_it(box):
            box.commands.run("echo not this")
            assert box.commands.run("echo to out; echo to err >&2; exit 3").ok

        def test_before(box):
            box.commands.run("echo of the one before")

        def test_without(box):
            assert not box.id

        def test_started(box):
            box.commands.run("echo older than the start")
            assert box.commands.start("echo in the background").wait() == 1
        """
    )
    result = run(suite, "--opensandbox-domain", settings["domain"])
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(
        ["*sandbox stdout of <Execution * exit_code=3*", "to out", "*sandbox stderr of*", "to err"]
    )
    for line in ("not this", "of the one before", "older than the start", "in the background"):
        result.stdout.no_fnmatch_line(line)


def test_a_suite_that_asks_for_no_fixture_loads_nothing(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import sys

        def test_it():
            assert "requests" not in sys.modules and "flask" not in sys.modules
            ours = {name for name in sys.modules if name.startswith("opensandbox_sync")}
            assert ours == {"opensandbox_sync", "opensandbox_sync._version", "opensandbox_sync.pytest_plugin"}
        """
    )
    run(suite).assert_outcomes(passed=1)
