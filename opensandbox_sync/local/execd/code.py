"""Code and its contexts. The kernel of a context is started when the context is made, or first used."""

from __future__ import annotations

import os
import queue
import threading
import time
from typing import Dict, Iterator, List, Optional

from flask import Response, request

from .commands import Command, Commands
from .environment import for_commands
from .events import PING_SECONDS, frame, late_failure, ping
from .kernels import Context, KernelError
from .paths import working_directory
from .processes import Processes
from .web import Failure, Route, answer, broken, empty, event_stream, query, read_object, require, struct

LANGUAGES = ("bash", "python", "java", "javascript", "typescript", "go")
_SHELL = ("", "command", "background-command")

_KIND, _CONTEXT_KIND = "RunCodeRequest", "CodeContextRequest"
_CONTEXT_FIELDS = {"id": "string", "language": "string", "cwd": "string"}
_PARSING = "error parsing request, MAYBE invalid body format. "
_INVALID = "invalid request, validation error "


class Code:
    """The routes under /code."""

    def __init__(self, processes: Processes, commands: Commands) -> None:
        self._processes, self._commands = processes, commands
        self._contexts: Dict[str, Context] = {}
        self._defaults: Dict[str, Context] = {}
        self._lock = threading.Lock()  # two first runs of a language share one context

    def routes(self) -> List[Route]:
        return [
            ("POST", "/code", self.run),
            ("POST", "/code/context", self.create),
            ("GET", "/code/contexts", self.listing),
            ("DELETE", "/code/contexts", self.delete_all),
            ("GET", "/code/contexts/<context_id>", self.get),
            ("DELETE", "/code/contexts/<context_id>", self.delete),
        ]

    def run(self) -> Response:
        body = read_object(_KIND, {"context": "model.CodeContext", "code": "string"}, _PARSING)
        asked = struct(body.get("context"), "CodeContext", _CONTEXT_FIELDS, _PARSING, f"{_KIND}.context")
        require(body, _KIND, "code", _INVALID)
        language = asked.get("language", "")
        if language in _SHELL:  # also where an id names a context: only the language is looked at
            command = {"command": body["code"], "background": language == "background-command"}
            return self._commands.launch(Command(body["code"], 0), command, None, for_commands())
        try:
            context = self._find(asked["id"]) if asked.get("id") else self._default(language)
        except KernelError as error:
            broken(f"error running codes {error}")
        return event_stream(_stream(context, body["code"]))

    def _find(self, context_id: str) -> Context:
        if context_id not in self._contexts:
            raise KernelError("context not found")
        return self._contexts[context_id]

    def _default(self, language: str) -> Context:
        with self._lock:
            if language not in self._defaults:
                self._defaults[language] = self._make(language, None)
            return self._defaults[language]

    def _make(self, language: str, cwd: Optional[str]) -> Context:
        if language not in LANGUAGES:
            raise KernelError(f"unknown language: {language}")
        context = Context(language, cwd, self._processes)
        self._contexts[context.id] = context
        return context

    def create(self) -> Response:
        body = read_object(_CONTEXT_KIND, {"language": "string", "cwd": "string"}, _PARSING)
        try:
            cwd = working_directory(body["cwd"], os.environ) if body.get("cwd") else None
            context = self._make(body.get("language", ""), cwd)
        except (KernelError, ValueError) as error:
            broken(f"error creating code context. {error}")
        told = {"id": context.id, "language": context.language}
        return answer({**told, "cwd": body["cwd"]} if body.get("cwd") else told)

    def listing(self) -> Response:
        return answer([_told(context) for context in self._of_language(request.args.get("language", ""))])

    def _of_language(self, language: str) -> List[Context]:
        if language in ("command", "background-command", "sql"):
            broken(f"unsupported language context operation: {language}")
        return [context for context in list(self._contexts.values()) if language in ("", context.language)]

    def delete_all(self) -> Response:
        language = query("language")
        for context in list(self._contexts.values()):
            if context.language == language:
                self._close(context)
        return empty()

    def get(self, context_id: str) -> Response:
        return answer(_told(self._known(context_id)))

    def delete(self, context_id: str) -> Response:
        self._close(self._known(context_id))
        return empty()

    def _known(self, context_id: str) -> Context:
        context = self._contexts.get(context_id)
        if not context:
            raise Failure(404, "CONTEXT_NOT_FOUND", f"context {context_id} not found")
        return context

    def _close(self, context: Context) -> None:
        self._contexts.pop(context.id, None)
        with self._lock:
            if self._defaults.get(context.language) is context:
                del self._defaults[context.language]
        context.close()

    def interrupt(self, context_id: str) -> bool:
        """Interrupt what runs in a context; False if there is none of this id."""
        context = self._contexts.get(context_id)
        if context:
            context.interrupt()
        return context is not None


def _told(context: Context) -> Dict[str, str]:
    return {"id": context.id, "language": context.language}


def _stream(context: Context, code: str) -> Iterator[bytes]:
    yield frame("init", context.id)
    yield ping()
    frames = context.run(code)
    if frames is None:
        yield late_failure("error running codes session is busy")
        return
    next_ping = time.monotonic() + PING_SECONDS
    try:
        while True:
            try:
                data = frames.next(next_ping - time.monotonic())
            except queue.Empty:
                next_ping += PING_SECONDS
                data = ping()
            if data is None:
                return
            yield data
    finally:
        frames.close()
