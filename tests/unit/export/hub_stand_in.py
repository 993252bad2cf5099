"""A local stand-in of the hub's HTTP API: what `push` uses of it, over real sockets."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_standin"
_OID = "1" * 40


@dataclass
class Hub:
    """What the stand-in received.

    Attributes:
        url: Its address.
        repositories: Settings of each created repository by name.
        files: Content of the committed files by name.
        requests: Method and path of each request.
        status: Status that every request is refused with; 0: none is.
    """

    url: str = ""
    repositories: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    status: int = 0
    uploads: dict[str, bytes] = field(default_factory=dict)


@contextmanager
def stand_in() -> Iterator[Hub]:
    """Run the stand-in while the block lasts."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Print nothing."""

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self._body())

        def do_PUT(self) -> None:
            self._answer(self._body())

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _answer(self, body: bytes) -> None:
            hub.requests.append(f"{self.command} {self.path.partition('?')[0]}")
            is_allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}" or self.command == "PUT"
            if hub.status or not is_allowed:
                self._send(hub.status or 401, {"error": "not you"})
            else:
                self._send(*self._route(self.path.partition("?")[0], body))

        def _route(self, path: str, body: bytes) -> tuple[int, Any]:
            if self.command == "PUT":
                hub.uploads[path.rpartition("/")[2]] = body
                return 200, {}
            if path == "/api/repos/create":
                wanted = json.loads(body)
                name = f"{wanted['organization']}/{wanted['name']}"
                is_new = name not in hub.repositories
                hub.repositories.setdefault(name, wanted)
                return (200 if is_new else 409), {"url": f"{hub.url}/{name}", "name": name, "id": "1"}
            if path == "/api/validate-yaml":
                return 200, {"errors": [], "warnings": []}
            if "/preupload/" in path:
                files = json.loads(body)["files"]
                modes = [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                        "oid": None,
                    }
                    for file in files
                ]
                return 200, {"files": modes}
            if path.endswith("/objects/batch"):
                objects = [
                    {**one, "actions": {"upload": {"href": f"{hub.url}/lfs/{one['oid']}", "header": {}}}}
                    for one in json.loads(body)["objects"]
                ]
                return 200, {"transfer": "basic", "objects": objects}
            if "/commit/" in path:
                repository = path.removeprefix("/api/models/").partition("/commit/")[0]
                return 200, self._commit(repository, body)
            return 200, {"id": path, "sha": "0" * 40, "siblings": [], "private": False, "tags": []}

        def _commit(self, repository: str, body: bytes) -> dict[str, Any]:
            for line in body.decode().splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    hub.files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    content = hub.uploads[value["oid"]]
                    assert hashlib.sha256(content).hexdigest() == value["oid"]
                    hub.files[value["path"]] = content
            return {"commitUrl": f"{hub.url}/{repository}/commit/{_OID}", "commitOid": _OID, "hookOutput": ""}

        def _send(self, status: int, content: Any) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
