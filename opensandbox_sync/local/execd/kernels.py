"""Jupyter kernels: one for each code context, each with a thread of its own that talks to it."""

from __future__ import annotations

import queue
import signal
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Optional

from .environment import for_commands
from .events import error_frame, frame, late_failure, output_frames
from .processes import Processes

START_SECONDS = 60.0
POLL_SECONDS = 0.5  # how soon the death of a kernel is seen

_NOT_CONFIGURED = "language runtime server not configured, please check your image runtime"


class KernelError(Exception):
    """There is no kernel for the language, or it does not start; the text says why."""


class Frames:
    """What a run sends, on its way to whoever reads it. After `close` nobody does, and nothing is kept."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Optional[bytes]] = queue.SimpleQueue()
        self._closed = False

    def send(self, data: Optional[bytes]) -> None:
        if not self._closed and data != b"":
            self._queue.put(data)

    def next(self, seconds: float) -> Optional[bytes]:
        """The next frame, None at the end; `queue.Empty` if none comes in time."""
        return self._queue.get(timeout=max(0.0, seconds))

    def close(self) -> None:
        self._closed = True


class Context:
    """A kernel and its state. Code runs to its end whether or not anybody reads what it says."""

    def __init__(self, language: str, cwd: Optional[str], processes: Processes) -> None:
        self.id = str(uuid.uuid4())
        self.language, self.cwd = language, cwd
        self._processes = processes
        self._busy = threading.Lock()
        self._client: Any = None
        self._thread = ThreadPoolExecutor(1, "kernel")  # a client's sockets belong to one thread
        try:
            self._thread.submit(self._start).result()
        except KernelError:
            self._thread.shutdown(wait=False)
            raise

    def _start(self) -> None:
        kernel = _kernel_for(self.language)
        import zmq
        from jupyter_client.manager import KernelManager

        connection = Path(tempfile.gettempdir()) / f"execd-kernel-{self.id}.json"
        self._manager = KernelManager(kernel_name=kernel, connection_file=str(connection))
        try:
            self._manager.start_kernel(env=for_commands(), cwd=self.cwd)
            self._processes.notice()
            self._client = self._manager.client()
            self._client.context.setsockopt(zmq.RCVHWM, 0)  # or what we do not read in time is dropped
            self._client.start_channels()
            self._client.wait_for_ready(timeout=START_SECONDS)
        except (OSError, RuntimeError) as error:
            self._end()
            raise KernelError(str(error)) from error

    def run(self, code: str) -> Optional[Frames]:
        """Start running code; None while other code runs here."""
        if not self._busy.acquire(blocking=False):
            return None
        frames = Frames()
        self._thread.submit(self._execute, code, frames)
        return frames

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()

    def close(self) -> None:
        """End the kernel. Code that runs in it ends with it."""
        self._manager.signal_kernel(signal.SIGKILL)
        self._thread.submit(self._end)
        self._thread.shutdown(wait=False)

    def _end(self) -> None:
        if self._client:
            self._client.stop_channels()
        if self._manager.has_kernel:
            self._manager.shutdown_kernel(now=True)

    def _execute(self, code: str, frames: Frames) -> None:
        started = time.monotonic()
        last = late_failure("error running codes kernel died")
        try:
            if not self._manager.is_alive():  # it died in the run before; its state is lost
                self._end()
                self._start()
            if self._follow(self._client.execute(code, allow_stdin=False), frames):
                last = frame("execution_complete", execution_time=int((time.monotonic() - started) * 1000))
        except KernelError as error:
            last = late_failure(f"error running codes {error}")
        finally:
            self._busy.release()  # first: who reads the last frame may come back at once
            frames.send(last)
            frames.send(None)

    def _follow(self, message_id: str, frames: Frames) -> bool:
        """Send what the kernel says until it is idle again; False if it died.

        That comes from a publisher, which drops what it cannot send, be it the word that it is idle. So where it falls
        silent its reply is looked for, which comes on a channel that drops nothing.
        """
        replied = False
        while True:
            try:
                message = self._client.get_iopub_msg(timeout=POLL_SECONDS)
            except queue.Empty:
                if not self._manager.is_alive():
                    return False
                if replied:  # and nothing has come since
                    return True
                replied = self._has_replied(message_id)
                continue
            if message["parent_header"].get("msg_id") == message_id:
                content = message["content"]
                frames.send(_events(message["msg_type"], content))
                if content.get("execution_state") == "idle":
                    self._has_replied(message_id)  # or its replies would pile up
                    return True

    def _has_replied(self, message_id: str) -> bool:
        try:
            while self._client.get_shell_msg(timeout=0)["parent_header"].get("msg_id") != message_id:
                pass
        except queue.Empty:
            return False
        return True


def _events(kind: str, content: Dict[str, Any]) -> bytes:
    """A kernel's message as frames. What the real daemon does not forward (display_data, say) is not forwarded."""
    if kind == "stream" and content["text"]:
        return output_frames(content["name"], [content["text"].encode("utf-8", "replace")])
    if kind == "execute_result":
        results = {"text" if mime == "text/plain" else mime: data for mime, data in content["data"].items()}
        count = frame("execution_count", execution_count=content["execution_count"])
        return count + frame("result", results=results)
    if kind == "error":
        failure = error_frame(content["ename"], content["evalue"], content["traceback"])
        return frame("status", "error") + failure
    return b""


def _kernel_for(language: str) -> str:
    """The name of an installed kernel, by the language it says it speaks."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager
    except ImportError as error:
        raise KernelError(_NOT_CONFIGURED) from error
    kernels = KernelSpecManager().get_all_specs()
    for name, kernel in sorted(kernels.items()):
        if kernel["spec"]["language"].lower() == language:
            return str(name)
    if language == "python" or not kernels:
        raise KernelError(_NOT_CONFIGURED)
    raise KernelError(f"no kernel found for language {language}")
