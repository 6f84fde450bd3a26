"""A server that speaks as much of the Hub's protocol as huggingface_hub needs to push a model."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LFS = (".safetensors", ".gguf")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """What was pushed: files by repository and name, what was said when a repository was made, and all requests."""

    token: str = "hf_of_the_test"
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    refuses_cards: bool = False
    address: str = ""

    def create(self, said: dict[str, Any]) -> tuple[int, Any]:
        self.made.append(said)
        name = f"{said['organization']}/{said['name']}"
        exists = name in self.repositories
        self.repositories.setdefault(name, {})
        return (409 if exists else 200), {"url": f"{self.address}/{name}"}

    def batch(self, said: dict[str, Any]) -> dict[str, Any]:
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.address}/lfs/{each['oid']}"}}} for each in said["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def commit(self, repository: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
        files = self.repositories[repository]
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.commits.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.uploads[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        return {"commitUrl": f"{self.address}/{repository}/commit/{COMMIT}", "commitOid": COMMIT}


def preupload(said: dict[str, Any]) -> dict[str, Any]:
    """Which files are large for git."""
    modes = ((each["path"], "lfs" if each["path"].endswith(LFS) else "regular") for each in said["files"])
    return {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes]}


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self._body()
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._answer(401, {"error": "Invalid credentials"})
        elif self.path == "/api/repos/create":
            self._answer(*self.hub.create(json.loads(body)))
        elif self.path == "/api/validate-yaml":
            bad = {"errors": [{"message": "license is none"}], "warnings": []}
            self._answer(400, bad) if self.hub.refuses_cards else self._answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            self._answer(200, preupload(json.loads(body)))
        elif self.path.endswith("/info/lfs/objects/batch"):
            self._answer(200, self.hub.batch(json.loads(body)))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            self._answer(200, self.hub.commit(match[1], [json.loads(line) for line in body.splitlines()]))
        else:
            self._answer(404, {"error": "unknown"})

    def do_PUT(self) -> None:
        body = self._body()
        self.hub.uploads[hashlib.sha256(body).hexdigest()] = body
        self._answer(200, {})

    def do_GET(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        if match := re.match(r"/api/models/([^/]+/[^/]+)/tree/main", self.path):
            files = self.hub.repositories[match[1]]
            entries = [{"type": "file", "path": n, "size": len(c), "oid": _oid(c)} for n, c in files.items()]
            self._answer(200, entries)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.path):
            content = self.hub.repositories[match[1]][match[2]]
            self._send(200, content, {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": COMMIT})
        else:
            self._answer(404, {"error": "unknown"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def _body(self) -> bytes:
        self.hub.requests.append(f"{self.command} {self.path}")
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, data: Any) -> None:
        self._send(status, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A Hub on this machine, until the block ends."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HandlerOfOne", (Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
