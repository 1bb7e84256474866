"""A hub on this machine: the documented endpoints of the Hugging Face hub, with every way to misbehave."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c" * 40

Fault = Literal[
    "none", "cut", "stall", "500", "429", "403", "404", "416", "wrong", "short", "long", "ignores range",
    "other range", "gzip", "redirect", "empty", "drop",
]  # fmt: skip


class Hub(ThreadingHTTPServer):
    """Serves `files` of repositories; each request for a file takes the next of `faults`, then none."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.lies: dict[str, dict[str, Any]] = {}
        """What is said of a file in place of the truth: `size`, `sha256`."""
        self.faults: list[tuple[Fault, float]] = []
        """With the share of the file that still comes."""
        self.sent = 0
        """Bytes of files, all together."""
        self.asked: list[tuple[str, dict[str, str]]] = []
        """Paths and headers."""
        self.policy = 0.0
        """Seconds between two pieces of a file."""
        self.private: dict[str, str] = {}
        """Repositories, each with the token that reads it; nobody else hears that it is there."""
        self.rejected: dict[str, tuple[int, str, str]] = {}
        """Tokens that are rejected whatever is asked, each with a status, the hub's code and its words."""
        self.busy: list[tuple[int, dict[str, str]]] = []
        """Status and headers for the next requests, whatever they ask for."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def file_url(self, repository: str, name: str) -> str:
        return f"{self.url}/{repository}/resolve/{COMMIT}/{name}"

    def info(self, repository: str) -> dict[str, Any]:
        """As /api/models/REPOSITORY?blobs=true has it."""
        siblings = []
        for name, content in self.repositories[repository].items():
            said = {"rfilename": name, "size": len(content), **self.lies.get(name, {})}
            sha256 = said.pop("sha256", hashlib.sha256(content).hexdigest())
            blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            said["blobId"] = blob
            if not name.endswith(".json"):
                said["lfs"] = {"sha256": sha256, "size": said["size"], "pointerSize": 134}
            siblings.append(said)
        return {
            **self.summary(repository),
            "sha": COMMIT,
            "siblings": siblings,
            "cardData": {"license": "mit"},
        }

    def summary(self, repository: str) -> dict[str, Any]:
        gated = "manual" if repository in self.gated else False
        return {"id": repository, "modelId": repository, "downloads": len(repository), "likes": 3,
                "gated": gated, "private": False, "tags": ["gguf"]}  # fmt: skip

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        self.server.asked.append((path, dict(self.headers)))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        hidden = next((each for each in self.server.private if f"/{each}/" in f"{path}/"), "")
        if self.server.busy:
            self._error(*self.server.busy.pop(0))
        elif token in self.server.rejected:
            status, code, words = self.server.rejected[token]
            named = {"X-Error-Code": code, "X-Error-Message": words}
            self._error(status, {name: value for name, value in named.items() if value})
        elif hidden and self.server.private[hidden] != token:
            self._error(404 if token else 401, {"X-Error-Code": "RepoNotFound"})
        elif path == "/api/models":
            words = parse_qs(parts.query).get("search", [""])[0].casefold()
            form = parse_qs(parts.query).get("filter", [""])[0]
            names = [each for each in self.server.repositories if words in each.casefold() and form == "gguf"]
            self._json([self.server.summary(each) for each in names])
        elif path.startswith("/api/models/"):
            name = path.removeprefix("/api/models/")
            if name in self.server.repositories:
                self._json(self.server.info(name))
            else:
                self._error(404, {"X-Error-Code": "RepoNotFound"})
        elif "/resolve/" in path:
            repository, _, rest = path[1:].partition("/resolve/")
            self._file(repository, rest.partition("/")[2])
        else:
            self._error(404)

    def _json(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _error(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, repository: str, name: str) -> None:
        content = self.server.repositories.get(repository, {}).get(name)
        if content is None:
            self._error(404, {"X-Error-Code": "EntryNotFound"})
            return
        if repository in self.server.gated:
            self._error(403, {"X-Error-Code": "GatedRepo"})
            return
        fault, share = self.server.faults.pop(0) if self.server.faults else ("none", 1.0)
        if fault.isdigit():
            self._error(int(fault))
        elif fault == "redirect":
            self._error(302, {"Location": self.server.file_url(repository, name)})
        elif fault == "drop":
            self.close_connection = True
        else:
            self._body(content, fault, share)

    def _body(self, content: bytes, fault: Fault, share: float) -> None:
        begin = 0
        if (wanted := self.headers.get("Range")) and fault != "ignores range":
            begin = int(wanted.removeprefix("bytes=").partition("-")[0])
            begin = max(0, begin - 7) if fault == "other range" else begin
        if begin and begin >= len(content):
            self._error(416)
            return
        body = content[begin:]
        if fault == "wrong":
            body = bytes(byte ^ 0x55 for byte in body)
        elif fault == "long":
            body += b"more" * 100
        elif fault == "short":
            body = body[: int(len(body) * share)]
        elif fault == "empty":
            body = b""
        self.send_response(206 if wanted and fault != "ignores range" else 200)
        self.send_header("Content-Length", str(len(body)))
        if wanted and fault != "ignores range":
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        if fault == "gzip":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if fault in ("cut", "stall"):
            self._write(body[: int(len(body) * share)])
            if fault == "stall":
                time.sleep(3)
            self.close_connection = True
        else:
            self._write(body)

    def _write(self, body: bytes) -> None:
        step = 1 << 16
        for place in range(0, len(body), step):
            piece = body[place : place + step]
            try:
                self.wfile.write(piece)
            except OSError:
                self.close_connection = True
                return
            self.server.sent += len(piece)
            time.sleep(self.server.policy)


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub that runs."""
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
