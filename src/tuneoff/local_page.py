"""A page for the user of this machine: on 127.0.0.1 alone, under an address with a token that nobody can guess.

Other users and web sites that the user visits can reach the port. Without the token they get nothing, and a request
under the name of another host is refused (DNS rebinding).
"""

import json
import secrets
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tuneoff.errors import UserError

HOST = "127.0.0.1"
MOST_BYTES = 2_000_000  # of a question; a book has less than one
Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class LocalPage:
    """A server of one HTML page, and of answers to JSON questions by name.

    An answer may raise `UserError`, which the page gets as `error`. `port` 0 is any that is free. Raises `UserError`
    for a port that is taken.
    """

    def __init__(self, page: str, answers: Mapping[str, Answer], port: int = 0) -> None:
        self._token = secrets.token_urlsafe(24)
        handler = _handler(f"/{self._token}/", page.encode(), answers)
        try:
            self._server = _Server((HOST, port), handler)
        except OSError as error:
            raise UserError(f"--port {port}: {error.strerror}; leave it out, or choose another one") from error
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self._server.server_port}/{self._token}/"

    def serve(self) -> None:
        """Answer until the process is interrupted or `close` is called."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """End `serve`, and free the port."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: pages are closed at any time, and a traceback is not for the terminal."""


def _handler(root: str, page: bytes, answers: Mapping[str, Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "tuneoff", ""
        timeout = 60

        def do_GET(self) -> None:
            if self._may() == root:
                self._send(200, "text/html; charset=utf-8", page)

        def do_POST(self) -> None:
            path = self._may()
            if path is None:
                return
            answer = answers.get(path.removeprefix(root))
            size = self.headers.get("Content-Length", "")
            if answer is None or self.headers.get_content_type() != "application/json":
                self._send_json(404, {"error": "there is no such question"})
            elif not size.isdigit() or int(size) > MOST_BYTES:
                self._send_json(413, {"error": f"at most {MOST_BYTES:,} bytes"})
            else:
                self._answer(answer, self.rfile.read(int(size)))

        def _answer(self, answer: Answer, body: bytes) -> None:
            try:
                question = json.loads(body)
                if not isinstance(question, dict):
                    raise UserError("a question is a JSON object")
                self._send_json(200, answer(question))
            except (UserError, ValueError, RecursionError) as error:
                self._send_json(400, {"error": str(error)[:500]})
            except ConnectionError:  # the page was closed meanwhile
                raise
            except Exception as error:  # memory that runs out, for example
                self._send_json(500, {"error": f"{type(error).__name__}: {error}"[:500]})

        def _may(self) -> str | None:
            """The path of a request that has the token and names this host; others are refused."""
            host = self.headers.get("Host", "")
            expected = (f"{HOST}:{self.server.server_port}", f"localhost:{self.server.server_port}")  # type: ignore[attr-defined]
            given = self.path[: len(root)].encode(errors="replace")
            has_token = secrets.compare_digest(given, root.encode())
            if host in expected and has_token and (self.command == "POST" or self.path == root):
                return self.path
            self._send(404, "text/plain", b"not found\n")
            return None

        def _send_json(self, status: int, value: Mapping[str, Any]) -> None:
            self._send(status, "application/json", json.dumps(value).encode())

        def _send(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            for name, value in (
                ("Content-Type", kind),
                ("Content-Length", str(len(content))),
                ("Cache-Control", "no-store"),
                ("Referrer-Policy", "no-referrer"),  # the address is a secret
                ("X-Content-Type-Options", "nosniff"),
                ("X-Frame-Options", "DENY"),
                ("Cross-Origin-Resource-Policy", "same-origin"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Log nothing: the path holds the token."""

    return Handler
