"""Decisions about repeating a call: a table, and no clock."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from opensandbox_sync import InvalidArgumentError, RetryPolicy

NO, FIRST = None, 0.1


@pytest.mark.parametrize(
    ("repeatable", "status", "unsent", "wait"),
    [
        (True, None, False, FIRST),  # a GET whose connection broke
        (True, 503, False, FIRST),
        (True, 502, False, FIRST),
        (True, 504, False, FIRST),
        (True, 429, False, FIRST),
        (True, 500, False, NO),  # the daemon says 500 for what will not change
        (True, 404, False, NO),
        (True, 409, False, NO),
        (True, 501, False, NO),
        (False, None, False, NO),  # a POST that may have arrived
        (False, 503, False, NO),
        (False, 429, False, NO),
        (False, None, True, FIRST),  # a POST that never left
        (True, None, True, FIRST),
    ],
)
def test_only_what_is_harmless_or_unsent_is_repeated(
    repeatable: bool, status: Optional[int], unsent: bool, wait: Optional[float]
) -> None:
    found = RetryPolicy().delay(1, repeatable=repeatable, status=status, unsent=unsent, draw=lambda: 1.0)
    assert found == wait


def test_each_wait_is_twice_the_one_before_up_to_the_longest() -> None:
    policy = RetryPolicy(max_retries=6, initial_backoff=1, max_backoff=5)
    waits = [policy.delay(n, repeatable=True, draw=lambda: 1.0) for n in range(1, 7)]
    assert waits == [1, 2, 4, 5, 5, 5]


def test_a_wait_is_drawn_from_the_upper_half() -> None:
    policy = RetryPolicy(initial_backoff=1)
    assert policy.delay(1, repeatable=True, draw=lambda: 0.0) == 0.5
    assert policy.delay(1, repeatable=True, draw=lambda: 0.5) == 0.75
    assert all(0.5 <= (policy.delay(1, repeatable=True) or 0) <= 1 for _ in range(100))


def test_it_ends_after_so_many_retries() -> None:
    assert RetryPolicy(max_retries=2).delay(2, repeatable=True) is not None
    assert RetryPolicy(max_retries=2).delay(3, repeatable=True) is None
    assert RetryPolicy(max_retries=0).delay(1, repeatable=True, unsent=True) is None


def test_many_retries_overflow_nothing() -> None:
    assert RetryPolicy(max_retries=10**6).delay(10**6, repeatable=True, draw=lambda: 1.0) == 5.0


def test_the_servers_own_wait_is_kept_to_unless_it_is_too_long() -> None:
    policy = RetryPolicy(max_retry_after=60)
    assert policy.delay(1, repeatable=True, status=429, retry_after=7) == 7
    assert policy.delay(1, repeatable=True, status=429, retry_after=0) == 0
    assert policy.delay(1, repeatable=True, status=429, retry_after=61) is None


@pytest.mark.parametrize("name", ["initial_backoff", "max_backoff", "max_retry_after"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", None, True, 1e300, 10**400])
def test_a_wait_that_is_none_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=name):
        RetryPolicy(**{name: value})


@pytest.mark.parametrize("value", [5, None, "503", {503: 1}, ["503"], [True], [0], [10**5000]])
def test_statuses_that_are_none_are_refused(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="statuses"):
        RetryPolicy(statuses=value)


def test_statuses_are_any_numbers_in_a_row() -> None:
    given: Any = iter([429, 503])
    assert RetryPolicy(statuses=given).statuses == frozenset({429, 503})


@pytest.mark.parametrize("value", [-1, 1.5, True, None, "3"])
def test_a_number_of_retries_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="max_retries"):
        RetryPolicy(max_retries=value)
