"""This SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Optional, Tuple

from clients import SANDBOX_ID
from opensandbox_sync import SandboxClient

if TYPE_CHECKING:
    from pathlib import Path


class Client:
    def __init__(self, address: str) -> None:
        self._client = SandboxClient(domain=address, api_key="bench")

    def info(self) -> str:
        return self._client.info(SANDBOX_ID).id

    def attach(self) -> None:
        self._sandbox = self._client.connect(SANDBOX_ID, wait_ready=False)

    def ping(self) -> bool:
        return self._sandbox.is_healthy()

    def true(self) -> Tuple[str, Optional[int]]:
        return self.run("true")

    def session(self) -> Callable[[], Tuple[str, Optional[int]]]:
        session = self._sandbox.sessions.create()

        def run() -> Tuple[str, Optional[int]]:
            execution = session.run("true")
            return execution.stdout, execution.exit_code

        return run

    def run(self, command: str) -> Tuple[str, Optional[int]]:
        execution = self._sandbox.commands.run(command)
        return execution.stdout, execution.exit_code

    def callback(self, command: str, on_text: Callable[[str], None]) -> Optional[int]:
        return self._sandbox.commands.run(command, on_stdout=on_text, capture=False).exit_code

    def iterate(self, command: str, on_text: Callable[[str], None]) -> Optional[int]:
        with self._sandbox.commands.stream(command, capture=False) as stream:
            for event in stream:
                if event.type == "stdout":
                    on_text(event.text)
        return stream.execution.exit_code

    def upload_bytes(self, path: str, data: bytes) -> None:
        self._sandbox.files.write(path, data)

    def upload_file(self, path: str, local: Path) -> None:
        self._sandbox.files.upload(local, path)

    def download_bytes(self, path: str) -> int:
        return len(self._sandbox.files.read_bytes(path))

    def download_iter(self, path: str) -> int:
        return sum(map(len, self._sandbox.files.iter_bytes(path)))

    def download_file(self, path: str, local: Path) -> None:
        self._sandbox.files.download(path, local)

    def upload_tree(self, local: Path, path: str) -> None:
        self._sandbox.files.upload_dir(local, path)

    def download_tree(self, path: str, local: Path) -> None:
        self._sandbox.files.download_dir(path, local)

    def lifecycle(self) -> Optional[int]:
        with self._client.create("python:3.12") as sandbox:
            return sandbox.commands.run("true").exit_code

    def for_thread(self) -> Client:
        return self

    def close(self) -> None:
        self._client.close()
