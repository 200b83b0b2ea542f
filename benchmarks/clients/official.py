"""The official SDK's sync flavour. Its telemetry is off: it would only cost it time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Optional, Tuple

from opensandbox import SandboxManagerSync, SandboxSync
from opensandbox.config import ConnectionConfigSync
from opensandbox.models.execd_sync import ExecutionHandlersSync
from opensandbox.models.filesystem import DirectoryListEntry

from clients import SANDBOX_ID, files_below, keep

if TYPE_CHECKING:
    from pathlib import Path


class Client:
    def __init__(self, address: str) -> None:
        self._config = ConnectionConfigSync(domain=address, api_key="bench", disable_metrics=True)
        self._manager = SandboxManagerSync.create(self._config)

    def info(self) -> str:
        return str(self._manager.get_sandbox_info(SANDBOX_ID).id)

    def attach(self) -> None:
        self._sandbox = SandboxSync.connect(SANDBOX_ID, self._config, skip_health_check=True)

    def ping(self) -> bool:
        return self._sandbox.is_healthy()

    def true(self) -> Tuple[str, Optional[int]]:
        return self.run("true")

    def session(self) -> Callable[[], Tuple[str, Optional[int]]]:
        commands = self._sandbox.commands
        session_id = commands.create_session()

        def run() -> Tuple[str, Optional[int]]:
            execution = commands.run_in_session(session_id, "true")
            return "".join(message.text for message in execution.logs.stdout), execution.exit_code

        return run

    def run(self, command: str) -> Tuple[str, Optional[int]]:
        execution = self._sandbox.commands.run(command)
        return "".join(message.text for message in execution.logs.stdout), execution.exit_code

    def callback(self, command: str, on_text: Callable[[str], None]) -> Optional[int]:
        handlers = ExecutionHandlersSync(on_stdout=lambda message: on_text(message.text), skip_accumulation=True)
        return self._sandbox.commands.run(command, handlers=handlers).exit_code

    # It has no way to iterate over events as they come.

    def upload_bytes(self, path: str, data: bytes) -> None:
        self._sandbox.files.write_file(path, data)

    def upload_file(self, path: str, local: Path) -> None:
        with local.open("rb") as file:
            self._sandbox.files.write_file(path, file)

    def download_bytes(self, path: str) -> int:
        return len(self._sandbox.files.read_bytes(path))

    def download_iter(self, path: str) -> int:
        return sum(map(len, self._sandbox.files.read_bytes_stream(path)))

    def download_file(self, path: str, local: Path) -> None:
        size = self._sandbox.files.get_file_info([path])[path].size
        part = local.with_suffix(".part")
        with part.open("wb") as file:
            for piece in self._sandbox.files.read_bytes_stream(path):
                file.write(piece)
        if part.stat().st_size != size:
            raise OSError("the download is not whole")
        part.replace(local)

    # It has no way to send or fetch a tree: one file after another.

    def upload_tree(self, local: Path, path: str) -> None:
        for name, file in files_below(local):
            self._sandbox.files.write_file(f"{path}/{name}", file.read_bytes())

    def download_tree(self, path: str, local: Path) -> None:
        for entry in self._sandbox.files.list_directory(DirectoryListEntry(path=path, depth=99)):
            if entry.entry_type == "file":
                keep(local, entry.path[len(path) + 1 :], self._sandbox.files.read_bytes(entry.path))

    def lifecycle(self) -> Optional[int]:
        sandbox = SandboxSync.create("python:3.12", connection_config=self._config)
        try:
            return sandbox.commands.run("true").exit_code
        finally:
            sandbox.kill()
            sandbox.close()

    def for_thread(self) -> Client:
        return self

    def close(self) -> None:
        self._manager.close()
