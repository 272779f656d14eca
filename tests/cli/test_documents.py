"""New documents for `tuneoff summarize`."""

import io
from pathlib import Path

import pytest

from tuneoff.cli.documents import fields_of, read_texts
from tuneoff.errors import UserError


def test_a_text_is_one_document(tmp_path: Path) -> None:
    file = tmp_path / "paper.txt"
    file.write_text("\ufeffFirst line.\n\nSecond {line}.\n", encoding="utf-8")
    assert read_texts(str(file)) == {"1": "First line.\n\nSecond {line}."}


def test_jsonl_has_one_document_a_line(tmp_path: Path) -> None:
    file = tmp_path / "papers.txt"
    file.write_text('{"id": 7, "text": "a"}\n\n{"article": "b", "title": "t"}\n')
    assert read_texts(str(file)) == {"7": "a", "3": "b"}


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("A text.\n"))
    assert read_texts("-") == {"1": "A text."}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"\xff\xfe\x00a", "not UTF-8"),
        (b'{"text": "a"}\nplain\n', "line 2: not JSON"),
        (b'{"text": "a"}\n[1]\n', "line 2: not a JSON object"),
        (b'{"title": "a"}\n', "line 1: no text under document"),
        (b'{"id": "x", "text": "a"}\n{"id": "x", "text": "b"}\n', "line 2: the id 'x' was there before"),
    ],
)
def test_what_cannot_be_used_names_the_line(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "new.jsonl"
    file.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        read_texts(str(file))
    assert str(file) in str(caught.value)


def test_missing_file() -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_texts("nowhere.txt")


def test_fields() -> None:
    assert fields_of(["aspect=the approach", "tone=a=b", "empty="]) == {
        "aspect": "the approach",
        "tone": "a=b",
        "empty": "",
    }
    with pytest.raises(UserError, match="not of the form NAME=VALUE"):
        fields_of(["aspect"])
