"""``requests`` alone, as a careful user writes it by hand: no SDK."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Tuple

import requests

from clients import SANDBOX_ID, files_below, keep

if TYPE_CHECKING:
    from pathlib import Path


class Client:
    def __init__(self, address: str) -> None:
        self._address = address
        self._api = f"http://{address}/v1"
        self._session = requests.Session()
        self._session.headers["OPEN-SANDBOX-API-KEY"] = "bench"

    def info(self) -> str:
        return str(self._get(f"{self._api}/sandboxes/{SANDBOX_ID}").json()["id"])

    def attach(self) -> None:
        endpoint = self._get(f"{self._api}/sandboxes/{SANDBOX_ID}/endpoints/44772").json()
        self._execd = "http://" + endpoint["endpoint"]
        self._headers: Dict[str, str] = endpoint["headers"]

    def ping(self) -> bool:
        return self._get(self._execd + "/ping", headers=self._headers).ok

    def true(self) -> Tuple[str, Optional[int]]:
        return self.run("true")

    def session(self) -> Callable[[], Tuple[str, Optional[int]]]:
        answer = self._session.post(self._execd + "/session", json={}, headers=self._headers, timeout=30)
        answer.raise_for_status()
        return lambda: self._captured(f"/session/{answer.json()['session_id']}/run", "true")

    def run(self, command: str) -> Tuple[str, Optional[int]]:
        return self._captured("/command", command)

    def callback(self, command: str, on_text: Callable[[str], None]) -> Optional[int]:
        code = None
        for event in self._events("/command", command):
            if event["type"] == "stdout":
                on_text(event["text"])
            code = exit_code(event, code)
        return code

    iterate = callback

    def upload_bytes(self, path: str, data: bytes) -> None:
        self._upload(path, data)

    def upload_file(self, path: str, local: Path) -> None:
        with local.open("rb") as file:
            self._upload(path, file)

    def download_bytes(self, path: str) -> int:
        return len(self._get(self._execd + "/files/download", params={"path": path}, headers=self._headers).content)

    def download_iter(self, path: str) -> int:
        return sum(map(len, self._pieces(path)))

    def download_file(self, path: str, local: Path) -> None:
        part = local.with_suffix(".part")
        with part.open("wb") as file:
            for piece in self._pieces(path):
                file.write(piece)
        info = self._get(self._execd + "/files/info", params={"path": path}, headers=self._headers).json()
        if part.stat().st_size != info[path]["size"]:
            raise OSError("the download is not whole")
        part.replace(local)

    def upload_tree(self, local: Path, path: str) -> None:
        for name, file in files_below(local):
            self._upload(f"{path}/{name}", file.read_bytes())

    def download_tree(self, path: str, local: Path) -> None:
        listed = self._get(self._execd + "/directories/list", params={"path": path, "depth": 99}, headers=self._headers)
        for entry in listed.json():
            if entry["type"] == "file":
                url, wanted = self._execd + "/files/download", {"path": entry["path"]}
                content = self._get(url, params=wanted, headers=self._headers).content
                keep(local, entry["path"][len(path) + 1 :], content)

    def lifecycle(self) -> Optional[int]:
        body = {
            "image": {"uri": "python:3.12"},
            "entrypoint": ["tail", "-f", "/dev/null"],
            "timeout": 600,
            "resourceLimits": {"cpu": "1", "memory": "2Gi"},
        }
        answer = self._session.post(f"{self._api}/sandboxes", json=body, timeout=300)
        answer.raise_for_status()
        try:
            self.attach()
            self.ping()
            return self.true()[1]
        finally:
            self._session.delete(f"{self._api}/sandboxes/{answer.json()['id']}", timeout=30).raise_for_status()

    def for_thread(self) -> Client:
        """A ``Session`` is not promised to be thread-safe: each thread has its own."""
        client = Client(self._address)
        client._execd, client._headers = self._execd, self._headers
        return client

    def close(self) -> None:
        self._session.close()

    def _get(self, url: str, **options: Any) -> requests.Response:
        answer = self._session.get(url, timeout=30, **options)
        answer.raise_for_status()
        return answer

    def _captured(self, path: str, command: str) -> Tuple[str, Optional[int]]:
        texts: List[str] = []
        code = None
        for event in self._events(path, command):
            if event["type"] == "stdout":
                texts.append(event["text"])
            code = exit_code(event, code)
        return "".join(texts), code

    def _events(self, path: str, command: str) -> Iterator[Dict[str, Any]]:
        with self._session.post(
            self._execd + path, json={"command": command}, headers=self._headers, stream=True, timeout=30
        ) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines(chunk_size=None):  # type: ignore[arg-type]
                if line:
                    event = json.loads(line)
                    yield event
                    if event["type"] in ("execution_complete", "error"):
                        return  # the daemon may hold the response open for another second
        raise OSError("the stream was cut")

    def _upload(self, path: str, content: Any) -> None:
        files = {
            "metadata": ("metadata", json.dumps({"path": path}), "application/json"),
            "file": ("file", content, "application/octet-stream"),
        }
        url = self._execd + "/files/upload"
        self._session.post(url, files=files, headers=self._headers, timeout=300).raise_for_status()

    def _pieces(self, path: str) -> Iterator[bytes]:
        url = self._execd + "/files/download"
        with self._session.get(url, params={"path": path}, headers=self._headers, stream=True, timeout=30) as answer:
            answer.raise_for_status()
            yield from answer.iter_content(1 << 16)


def exit_code(event: Dict[str, Any], before: Optional[int]) -> Optional[int]:
    if event["type"] == "execution_complete":
        return 0
    return int(event["error"]["evalue"]) if event["type"] == "error" else before
