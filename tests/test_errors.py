"""The error tree: every class pickles, and catches as it says."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any, Dict, List, Type

import pytest

from opensandbox_sync import Execution, SandboxError, errors, iter_events
from opensandbox_sync.transport import error_of_body

CLASSES: List[Type[SandboxError]] = [
    value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, SandboxError)
]

TREE = {
    "InvalidArgumentError": (SandboxError, ValueError),
    "ApiError": (SandboxError,),
    "BadRequestError": (errors.ApiError,),
    "AuthenticationError": (errors.ApiError,),
    "PermissionDeniedError": (errors.ApiError,),
    "NotFoundError": (errors.ApiError,),
    "ConflictError": (errors.ApiError,),
    "RateLimitError": (errors.ApiError,),
    "ServerError": (errors.ApiError,),
    "NotSupportedError": (errors.ServerError,),
    "TransportError": (SandboxError,),
    "ConnectError": (errors.TransportError,),
    "RequestTimeoutError": (errors.TransportError, TimeoutError),
    "StreamInterruptedError": (errors.TransportError,),
    "ProtocolError": (SandboxError,),
    "CommandError": (SandboxError,),
    "CommandTimeoutError": (errors.CommandError, TimeoutError),
    "SandboxReadyTimeoutError": (SandboxError, TimeoutError),
    "SandboxFailedError": (SandboxError,),
    "ClosedError": (SandboxError,),
}


def test_the_tree_is_the_one_that_is_documented() -> None:
    assert {kind.__name__: kind.__bases__ for kind in CLASSES if kind is not SandboxError} == TREE
    assert SandboxError.__bases__ == (Exception,)
    drawn = [line.split("─ ")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "─ " in line]
    assert drawn == list(TREE)


def an_execution() -> Execution:
    return Execution.from_events(
        iter_events([b'{"type":"stdout","text":"hi\\n"}\n\n{"type":"execution_complete"}\n\n'])
    )


def filled(kind: Type[SandboxError]) -> SandboxError:
    """An error with a value for each of its keyword arguments."""
    values: Dict[str, Any] = {
        "code": "X::Y",
        "request_id": "r-1",
        "status_code": 418,
        "body": '{"code":"X::Y"}',
        "retry_after": 2.5,
        "execution": an_execution(),
        "command_id": "c-1",
    }
    taken = inspect.signature(kind).parameters
    return kind("could not do it: því", **{name: value for name, value in values.items() if name in taken})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_pickles_whole(kind: Type[SandboxError], protocol: int) -> None:
    error = filled(kind)
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is kind
    assert str(again) == str(error) == "could not do it: því"
    assert again.args == error.args
    assert again.__dict__ == error.__dict__


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_copies(kind: Type[SandboxError]) -> None:
    error = filled(kind)
    for again in (copy.copy(error), copy.deepcopy(error)):
        assert (type(again), str(again), again.code) == (kind, str(error), "X::Y")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_can_be_made_of_words_alone_and_has_a_code(kind: Type[SandboxError]) -> None:
    error = kind("words")
    assert str(error) == "words"
    assert error.code and error.request_id is None


def test_a_pickle_leaves_the_cause_behind() -> None:
    """It may hold sockets, and request headers with keys in them."""
    try:
        raise errors.ConnectError("no") from OSError("key-of-the-server")
    except errors.ConnectError as error:
        assert b"key-of-the-server" not in pickle.dumps(error)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (422, errors.BadRequestError),
        (429, errors.RateLimitError),
        (500, errors.ServerError),
        (501, errors.NotSupportedError),
        (503, errors.ServerError),
        (599, errors.ServerError),
        (302, errors.ApiError),
        (418, errors.ApiError),
    ],
)
def test_each_status_has_its_class(status: int, kind: Type[errors.ApiError]) -> None:
    assert errors.api_error_class(status) is kind


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('{"code":"DOCKER::X","message":"no"}', ("DOCKER::X", "no")),
        ('{"error":"invalid token"}', (None, "invalid token")),
        ('{"error":{"code":"E","message":"m"}}', ("E", "m")),
        ('{"detail":"Not Found"}', (None, "Not Found")),
        ('{"detail":{"code":"E","message":"m"}}', ("E", "m")),
        (
            '{"detail":[{"loc":["body","timeout"],"msg":"too small","input":"s3cret"}]}',
            (None, "body.timeout: too small"),
        ),
        ('{"detail":["odd"]}', (None, "odd")),
        ('{"code":7,"message":null}', (None, "")),
        (
            "<html><body>nginx</body></html>",
            (None, "an HTML page, so something other than the server (a proxy?) answered"),
        ),
        ("  upstream gone ", (None, "upstream gone")),
        ("", (None, "")),
        ("[1]", (None, "[1]")),
        ("null", (None, "None")),
        ("[" * 100_000, (None, "[" * 512)),
        ("x" * 10_000, (None, "x" * 512)),
    ],
)
def test_an_error_body_of_any_shape_gives_code_and_message(body: str, found: Any) -> None:
    assert error_of_body(body) == found
