"""Code in real kernels."""

from __future__ import annotations

import _thread
import base64
import threading
from typing import Iterator, List

import pytest

from opensandbox_sync import (
    BadRequestError,
    CommandTimeoutError,
    ConflictError,
    NotFoundError,
    NotSupportedError,
    Sandbox,
)
from opensandbox_sync.services.code import CodeContext

from ..conftest import MakeSandbox, until

PNG = base64.b64encode(b"\x89PNG not really").decode()


@pytest.fixture(scope="module")
def interpreter(make_sandbox: MakeSandbox) -> Iterator[Sandbox]:
    """A sandbox that runs Python; skipped where the image, or this installation, has no kernel."""
    with make_sandbox() as sandbox:
        try:
            sandbox.code.run("None")
        except NotSupportedError as error:
            pytest.skip(str(error))
        yield sandbox


@pytest.fixture
def context(interpreter: Sandbox) -> Iterator[CodeContext]:
    context = interpreter.code.create_context("python")
    yield context
    interpreter.code.delete_context(context)


def test_the_value_of_an_expression_is_a_result(interpreter: Sandbox) -> None:
    execution = interpreter.code.run("21 * 2")
    assert execution.ok
    assert execution.text == "42"
    assert [result.text for result in execution.results] == ["42"]
    assert execution.exit_code is None
    assert isinstance(execution.execution_count, int)


def test_output_of_both_streams_is_exact(interpreter: Sandbox) -> None:
    code = "import sys\nsys.stdout.write('a\\n\\nb \\u00e9')\nsys.stdout.flush()\nprint('e', file=sys.stderr)"
    execution = interpreter.code.run(code)
    assert execution.stdout == "a\n\nb \u00e9"
    assert execution.stderr == "e\n"
    assert execution.results == []


def test_a_default_context_keeps_its_state_between_runs(interpreter: Sandbox) -> None:
    interpreter.code.run("kept = [1]")
    assert interpreter.code.run("kept + [2]").text == "[1, 2]"
    assert interpreter.code.run("kept", language="python").text == "[1]"


def test_contexts_hold_their_states_apart(interpreter: Sandbox, context: CodeContext) -> None:
    interpreter.code.run("apart = 1")
    interpreter.code.run("apart = 2", context=context)
    assert interpreter.code.run("apart").text == "1"
    assert interpreter.code.run("apart", context=context).text == "2"
    assert interpreter.code.run("apart", context=context.id).text == "2"
    assert interpreter.code.run("1", context=context).id == context.id


def test_a_rich_result_keeps_every_mime_type(interpreter: Sandbox) -> None:
    code = f"""
class Figure:
    def _repr_mimebundle_(self, **options):
        return {{"text/plain": "figure", "image/png": "{PNG}", "application/json": {{"a": [1, None]}}}}
Figure()
"""
    (result,) = interpreter.code.run(code).results
    assert result.data["image/png"] == PNG
    assert result.data["application/json"] == {"a": [1, None]}
    assert result.text == "figure"
    assert result._repr_mimebundle_() == result.data


def test_an_exception_is_an_error_with_its_traceback(interpreter: Sandbox) -> None:
    execution = interpreter.code.run("print('before')\n1 / 0")
    assert not execution.ok
    assert execution.stdout == "before\n"
    assert execution.error is not None
    assert (execution.error.name, execution.error.value) == ("ZeroDivisionError", "division by zero")
    assert "\x1b" in "".join(execution.error.traceback)
    plain = "\n".join(execution.error.plain_traceback)
    assert "\x1b" not in plain
    assert "ZeroDivisionError: division by zero" in plain


def test_callbacks_see_output_and_results_as_they_come(interpreter: Sandbox) -> None:
    texts: List[str] = []
    results: List[str] = []
    code = "import sys, time\nfor n in range(3):\n    print(n, flush=True)\n    time.sleep(0.05)\n'end'"
    interpreter.code.run(code, on_stdout=texts.append, on_result=lambda result: results.append(result.text))
    assert "".join(texts) == "0\n1\n2\n"
    assert results == ["'end'"]


def test_a_stream_gives_lines_while_the_code_runs(interpreter: Sandbox) -> None:
    with interpreter.code.stream("import time\nprint('first', flush=True)\ntime.sleep(0.1)\nprint('second')") as stream:
        lines = stream.lines()
        assert next(lines) == "first"
        assert stream.execution.complete is None
        assert list(lines) == ["second"]
    assert stream.execution.ok


def test_a_timeout_interrupts_the_kernel_which_keeps_its_state(interpreter: Sandbox, context: CodeContext) -> None:
    interpreter.code.run("state = 'kept'", context=context)
    with pytest.raises(CommandTimeoutError) as raised:
        interpreter.code.run("print('on', flush=True)\nwhile True: pass", context=context, timeout=1)
    assert raised.value.execution is not None
    assert raised.value.execution.stdout == "on\n"
    assert interpreter.code.run("state", context=context).text == "'kept'"


def test_interrupt_ends_the_code_and_a_busy_context_says_so(interpreter: Sandbox, context: CodeContext) -> None:
    with interpreter.code.stream("print('on', flush=True)\nwhile True: pass", context=context) as stream:
        assert next(stream.lines()) == "on"
        with pytest.raises(ConflictError, match="busy"):
            interpreter.code.run("1", context=context)
        interpreter.code.interrupt(context)
        stream.read_all()
    assert stream.execution.error is not None
    assert stream.execution.error.name == "KeyboardInterrupt"


def test_ctrl_c_interrupts_the_kernel(interpreter: Sandbox, context: CodeContext) -> None:
    started = threading.Event()

    def press() -> None:
        started.wait(20)
        _thread.interrupt_main()

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        interpreter.code.run(
            "print('on', flush=True)\nwhile True: pass", context=context, on_stdout=lambda text: started.set()
        )
    presser.join()
    until(lambda: free_again(interpreter, context), "the kernel is free again")


def free_again(interpreter: Sandbox, context: CodeContext) -> bool:
    try:
        return interpreter.code.run("'free'", context=context).text == "'free'"
    except ConflictError:  # at a Ctrl-C a slow kernel is not waited for
        return False


def test_contexts_can_be_found_listed_and_deleted(interpreter: Sandbox) -> None:
    made = interpreter.code.create_context("python", cwd="/")
    assert made.language == "python"
    assert interpreter.code.run("import os; os.getcwd()", context=made).text == "'/'"
    assert interpreter.code.get_context(made.id).id == made.id
    assert made.id in [context.id for context in interpreter.code.list_contexts("python")]
    assert made.id in [context.id for context in interpreter.code.list_contexts()]
    interpreter.code.delete_context(made.id)
    with pytest.raises(NotFoundError):
        interpreter.code.get_context(made.id)
    with pytest.raises(NotFoundError):
        interpreter.code.delete_context(made)
    with pytest.raises(NotFoundError):
        interpreter.code.run("1", context=made)
    with pytest.raises(NotFoundError):
        interpreter.code.interrupt(made)


def test_deleting_a_languages_contexts_ends_its_default_one_too(
    make_sandbox: MakeSandbox, interpreter: Sandbox
) -> None:
    with make_sandbox() as sandbox:
        sandbox.code.run("forgotten = 1")
        sandbox.code.delete_contexts("python")
        assert sandbox.code.list_contexts("python") == []
        error = sandbox.code.run("forgotten").error
        assert error is not None
        assert error.name == "NameError"


def test_a_language_that_does_not_exist_is_refused(interpreter: Sandbox) -> None:
    with pytest.raises(BadRequestError, match="unknown language: ruby"):
        interpreter.code.run("1", language="ruby")
