"""Pages on this machine: only with the token, only under this host's name, only answers to JSON questions."""

import http.client
import json
import socket
import struct
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tuneoff.errors import UserError
from tuneoff.local_page import MOST_BYTES, LocalPage


def answer(question):
    if "number" not in question:
        raise UserError("there is no number")
    if question["number"] == "large":
        raise RuntimeError("no memory for that")
    return {"twice": 2 * question["number"]}


@pytest.fixture
def page() -> Iterator[LocalPage]:
    found = LocalPage("<p>page</p>", {"twice": answer})
    thread = threading.Thread(target=found.serve, daemon=True)
    thread.start()
    yield found
    found.close()
    thread.join()


def asked(
    page: LocalPage, path: str, body: str | None = None, **headers: str
) -> tuple[int, str, http.client.HTTPMessage]:
    """Status, content and headers of the answer; `path` is behind the token unless it begins with a slash."""
    address = urlsplit(page.address)
    connection = http.client.HTTPConnection(address.netloc, timeout=20)
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    whole = path if path.startswith("/") else address.path + path
    connection.request("GET" if body is None else "POST", whole, body, sent)
    response = connection.getresponse()
    found = response.status, response.read().decode(), response.headers
    connection.close()
    return found


def test_the_page_and_its_answers(page: LocalPage) -> None:
    assert page.address.startswith("http://127.0.0.1:")
    status, content, headers = asked(page, "")
    assert (status, content) == (200, "<p>page</p>")
    assert (headers["Cache-Control"], headers["Referrer-Policy"]) == ("no-store", "no-referrer")
    assert headers["Server"].strip() == "tuneoff"
    status, content, _ = asked(page, "twice", '{"number": 4}')
    assert (status, json.loads(content)) == (200, {"twice": 8})


@pytest.mark.parametrize("path", ["/", "/x/", "/x/twice", "//", "/%00"])
def test_nothing_is_there_without_the_token(path: str, page: LocalPage) -> None:
    assert asked(page, path)[0] == 404
    assert asked(page, path, '{"number": 4}')[0] == 404


def test_another_name_of_the_host_is_refused(page: LocalPage) -> None:
    port = urlsplit(page.address).port
    assert asked(page, "", Host=f"evil.example:{port}")[0] == 404
    assert asked(page, "twice", '{"number": 1}', Host="127.0.0.1")[0] == 404
    assert asked(page, "", Host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("twice", "{}", {}, 400),
        ("twice", "[1]", {}, 400),
        ("twice", "{", {}, 400),
        ("twice", "[" * 100_000, {}, 400),
        ("other", "{}", {}, 404),
        ("twice", '{"number": 1}', {"Content_Type": "text/plain"}, 404),  # what a form of a web site can send
        ("twice", "{}", {"Content_Length": str(MOST_BYTES + 1)}, 413),
        ("twice", "{}", {"Content_Length": "-1"}, 413),
    ],
)
def test_questions_that_are_wrong(path: str, body: str, headers: dict[str, str], status: int, page: LocalPage) -> None:
    found, content, _ = asked(page, path, body, **headers)
    assert found == status
    assert json.loads(content)["error"]
    assert asked(page, "twice", '{"number": 4}')[0] == 200


def test_an_error_is_an_answer_and_a_page_that_is_closed_is_none(
    page: LocalPage, capsys: pytest.CaptureFixture[str]
) -> None:
    status, content, _ = asked(page, "twice", '{"number": "large"}')
    assert (status, json.loads(content)) == (500, {"error": "RuntimeError: no memory for that"})
    address = urlsplit(page.address)
    assert address.port is not None
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
        connection.sendall(f"GET {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\n".encode())
    assert asked(page, "twice", '{"number": 4}')[0] == 200
    assert capsys.readouterr().err == ""


def test_addresses_differ_and_a_port_that_is_taken_is_named(page: LocalPage) -> None:
    with pytest.raises(UserError, match="choose another one"):
        LocalPage("", {}, urlsplit(page.address).port or 0)
    other = LocalPage("", {})
    assert urlsplit(other.address).path != urlsplit(page.address).path
    assert len(urlsplit(other.address).path) > 30
    other._server.server_close()
