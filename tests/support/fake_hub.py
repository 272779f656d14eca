"""The part of the Hugging Face Hub that a push uses, on 127.0.0.1: repositories are made, and commits kept."""

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml  # type: ignore[import-untyped]
from huggingface_hub import constants

TOKEN = "hf_of_the_test"


@dataclass
class FakeHub:
    """What it received."""

    address: str = ""
    made: list[dict[str, object]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    status: int = 200


@contextlib.contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub that serves until the context ends."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _answer(self, value: object, status: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_PUT(self) -> None:
            hub.stored[self.path.rsplit("/", 1)[-1]] = self._body()
            self._answer({})

        def do_GET(self) -> None:
            self._answer({"error": self.path}, 404)

        def do_POST(self) -> None:
            body = self._body()
            if hub.status != 200 or self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._answer({"error": "no"}, hub.status if hub.status != 200 else 401)
            elif self.path == "/api/repos/create":
                hub.made.append(json.loads(body))
                self._answer({"url": f"{hub.address}/me/model"})
            elif self.path == "/api/validate-yaml":
                front = json.loads(body)["content"].split("---\n")
                parsed = yaml.safe_load(front[1]) if len(front) > 2 else {}
                errors = [] if isinstance(parsed, dict) else [{"message": "no mapping"}]
                self._answer({"errors": errors, "warnings": []}, 400 if errors else 200)
            elif "/preupload/" in self.path:
                files = json.loads(body)["files"]
                modes = [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                    }
                    for file in files
                ]
                self._answer({"files": modes})
            elif self.path.endswith("/info/lfs/objects/batch"):
                objects = json.loads(body)["objects"]
                answers = [
                    {**one, "actions": {"upload": {"href": f"{hub.address}/lfs/{one['oid']}"}}} for one in objects
                ]
                self._answer({"transfer": "basic", "objects": answers})
            elif "/commit/" in self.path:
                for line in body.splitlines():
                    entry = json.loads(line)
                    value = entry["value"]
                    if entry["key"] == "file":
                        hub.files[value["path"]] = base64.b64decode(value["content"])
                    if entry["key"] == "lfsFile":
                        hub.files[value["path"]] = hub.stored[value["oid"]]
                self._answer({"commitUrl": f"{hub.address}/me/model/commit/1", "commitOid": "1"})
            else:
                self._answer({"error": self.path}, 404)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def hub_in_use(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A fake hub that huggingface_hub talks to inside, with a token."""
    with fake_hub() as found:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", found.address)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield found
