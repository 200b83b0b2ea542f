"""Code: run it in kernels that keep their state, and hold several of them apart as contexts.

Facts: the daemon's ``/code`` routes. It needs an image with a Jupyter server in it, such as the official code
interpreter's. Kernels send output in chunks, not in lines, so texts are concatenated exactly; output may follow the
terminal event, so a stream is read to its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Union
from urllib.parse import quote

from ..codec import SnakeCaseModel, decode
from ..config import Duration, seconds
from ..errors import (
    ApiError,
    BadRequestError,
    InvalidArgumentError,
    NotFoundError,
    NotSupportedError,
    ProtocolError,
    RequestTimeoutError,
    ServerError,
    as_class,
)
from ..execution import INTERRUPT_SECONDS, Execution, ExecutionStream, Fold, Run, open_stream
from ..models import RemotePath, check_directory, require_text
from .commands import OnEvent, OnResult, OnText, checked_max_output, watcher

if TYPE_CHECKING:
    from ..sandbox import Sandbox
    from ..transport import Answer

#: Seconds for the first byte of a run, and for a new context: a kernel starts first, and the daemon retries that.
_KERNEL_START = 300.0


@dataclass
class CodeContext(SnakeCaseModel):
    """A kernel with its state: variables, imports, working directory. ``cwd`` is told by ``create_context`` alone."""

    id: str
    language: str
    cwd: Optional[str] = None


Context = Union[CodeContext, str]


class CodeService:
    """Runs code in a sandbox; ``sandbox.code``."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def run(
        self,
        code: str,
        *,
        language: Optional[str] = None,
        context: Optional[Context] = None,
        timeout: Optional[Duration] = None,
        check: bool = False,
        on_stdout: OnText = None,
        on_stderr: OnText = None,
        on_result: OnResult = None,
        on_event: OnEvent = None,
        capture: bool = True,
        max_output: Optional[int] = None,
    ) -> Execution:
        """Run code, wait for its end, and return what it did.

        It runs in ``context`` (one of ``create_context``, or its id), else in the one context of ``language``
        (``python`` unless given; ``bash``, ``java``, ``javascript``, ``typescript``, ``go``) that all callers share.
        The value of a last expression is in ``results``, with every MIME type that the kernel gave
        (``results[0].data["image/png"]``, base64), an exception in ``error``; there is no exit code.

        ``timeout`` (seconds) is kept here: the daemon knows none. The kernel is interrupted then, keeps its state, and
        ``CommandTimeoutError`` carries what came. Ctrl-C does the same and raises ``KeyboardInterrupt``. The other
        arguments are those of ``commands.run``.

        Raises ``NotFoundError`` for an unknown context, ``ConflictError`` for one that is busy, ``NotSupportedError``
        where the image has no Jupyter server, ``BadRequestError`` for an unknown language, ``StreamInterruptedError``
        (with what came) where the connection broke first.
        """
        watch = watcher(on_stdout, on_stderr, on_result, on_event)
        with self.stream(
            code, language=language, context=context, timeout=timeout, capture=capture, max_output=max_output
        ) as stream:
            execution = stream.read_all(watch)
        return execution.check() if check else execution

    def stream(
        self,
        code: str,
        *,
        language: Optional[str] = None,
        context: Optional[Context] = None,
        timeout: Optional[Duration] = None,
        capture: bool = True,
        max_output: Optional[int] = None,
    ) -> ExecutionStream:
        """Run code and return its stream, to be iterated for events (or ``.lines()``) as they come. Arguments and
        errors as in ``run``.
        """
        body = {"code": require_text("code", code, "'1 + 1'"), "context": _context_body(language, context)}
        limit = None if timeout is None else seconds("timeout", timeout)
        fold = Fold(
            has_exit_code=False,
            concatenates=True,
            drains=True,
            capture=capture,
            max_output=checked_max_output(max_output),
        )
        run = Run("run code", fold, interrupt=self._interrupt, timeout=limit, grace=0.0)
        client = self._sandbox._client
        try:
            return open_stream(
                client._transport,
                self._sandbox._execd,
                "/code",
                body,
                run,
                idle=client.config.idle_seconds,
                first_byte=_KERNEL_START,
            )
        except ServerError as error:
            raise _told_apart(error)

    def create_context(self, language: str = "python", *, cwd: Optional[RemotePath] = None) -> CodeContext:
        """Start a kernel of its own for ``language``, in the directory ``cwd``; may take minutes where a kernel is
        slow to start.
        """
        body = {"language": require_text("language", language, "'python'")}
        if cwd is not None:
            body["cwd"] = check_directory("cwd", cwd)
        answer = self._request(
            "POST", "/code/context", f"create a {language} context", json=body, timeout=_KERNEL_START
        )
        return answer.decode(CodeContext)

    def get_context(self, context_id: str) -> CodeContext:
        """A context by its id, also from another process; ``NotFoundError`` where there is none."""
        return self._request("GET", _path(context_id), f"look up context {context_id}").decode(CodeContext)

    def list_contexts(self, language: Optional[str] = None) -> List[CodeContext]:
        """The contexts of a language, the default one included; of all languages unless given."""
        params = {"language": require_text("language", language) if language is not None else None}
        answer = self._request("GET", "/code/contexts", "list contexts", params=params)
        return answer.read(_contexts)

    def delete_context(self, context: Context) -> None:
        """End a context's kernel; ``NotFoundError`` where there is none."""
        self._request("DELETE", _path(_id(context)), f"delete context {_id(context)}")

    def delete_contexts(self, language: str) -> None:
        """End all kernels of a language, the shared one included."""
        params = {"language": require_text("language", language, "'python'")}
        self._request("DELETE", "/code/contexts", f"delete the {language} contexts", params=params)

    def interrupt(self, context: Context) -> None:
        """Stop what a context runs, as Ctrl-C in its kernel would; its state stays. An idle one is fine.

        Takes a ``CodeContext``, its id, or the ``id`` of an ``Execution`` (which is its context's).
        """
        self._interrupt(_id(context), 10.0)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _interrupt(self, context_id: str, wait: float) -> None:
        try:
            self._request("DELETE", "/code", f"interrupt context {context_id}", params={"id": context_id}, timeout=wait)
        except RequestTimeoutError:
            if wait > INTERRUPT_SECONDS:
                raise
        except ServerError as error:
            if "is not running" not in error.body:
                raise

    def _request(self, method: str, path: str, action: str, **options: Any) -> Answer:
        try:
            return self._sandbox._client._transport.request(
                self._sandbox._execd, method, path, action=action, **options
            )
        except ServerError as error:
            raise _told_apart(error)


def _context_body(language: Optional[str], context: Optional[Context]) -> Dict[str, str]:
    if language is not None:
        require_text("language", language, "'python'")
    if context is None:
        return {"language": language or "python"}
    if isinstance(context, CodeContext) and language not in (None, context.language):
        raise InvalidArgumentError(f"language is {language!r}, but the context's is {context.language!r}")
    # The daemon takes code without a language for a shell command, also with a context's id.
    told = context.language if isinstance(context, CodeContext) else language or "python"
    return {"id": _id(context), "language": told}


def _id(context: Context) -> str:
    return require_text("context", context.id if isinstance(context, CodeContext) else context)


def _path(context_id: str) -> str:
    return "/code/contexts/" + quote(require_text("context_id", context_id), safe="")


def _contexts(data: Any) -> List[CodeContext]:
    if data is not None and not isinstance(data, list):
        raise ProtocolError("the daemon's contexts are no list")
    return [decode(CodeContext, item) for item in data or []]


def _told_apart(error: ServerError) -> ApiError:
    """What the daemon's 500 means: it has that one status for all that goes wrong with code."""
    if "context not found" in error.body or "no such session" in error.body:
        return as_class(NotFoundError, error)
    if "runtime server not configured" in error.body or "no kernel found" in error.body:
        hint = "code needs an image with a Jupyter server and the language's kernel in it"
        return as_class(NotSupportedError, error, f"{error} ({hint})")
    if "unknown language" in error.body or "unsupported language" in error.body:
        return as_class(BadRequestError, error)
    return error
