"""The encoding of text files: marks, UTF-8, Windows-1252, and what cannot be known."""

from pathlib import Path

import pytest

from tuneoff.data.byte_source import file_source
from tuneoff.data.encoding import TextEncoding, text_encoding
from tuneoff.errors import UserError

FRENCH = "Le café de l’Hôtel coûte 5 € – où êtes-vous, Noël ?\n" * 3
POLISH = "Zażółć gęślą jaźń, proszę państwa, w Łodzi były święta.\n" * 3
RUSSIAN = "Совет проголосовал за новую автобусную линию.\n" * 3
CHINESE = "市议会投票决定开设一条新的公交线路。\n" * 3


def found(folder: Path, content: bytes, given: str | None = None) -> TextEncoding:
    path = folder / "a.csv"
    path.write_bytes(content)
    return text_encoding(file_source(path), given)


@pytest.mark.parametrize("text", [FRENCH, POLISH, RUSSIAN, CHINESE, "plain"])
@pytest.mark.parametrize(
    ("encoding", "name"), [("utf-8", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("utf-16", "utf-16"), ("utf-32", "utf-32")]
)
def test_unicode_is_known_without_a_word(tmp_path: Path, text: str, encoding: str, name: str) -> None:
    assert found(tmp_path, text.encode(encoding)) == TextEncoding(name)


def test_windows_1252_is_read_and_said(tmp_path: Path) -> None:
    encoding = found(tmp_path, FRENCH.encode("cp1252"))
    assert encoding.name == "cp1252"
    assert encoding.caution is not None
    assert (
        "read as Windows-1252 (cp1252), as in 'café'; if that is wrong, name its encoding with --encoding"
        in encoding.caution
    )


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (CHINESE, "gb18030"),
        (CHINESE, "big5"),
        (POLISH, "cp1250"),
        (POLISH, "iso8859-2"),
    ],
)
def test_other_encodings_are_asked_for_and_not_guessed(tmp_path: Path, text: str, encoding: str) -> None:
    content = text.encode(encoding, errors="ignore")
    with pytest.raises(UserError, match="not UTF-8, and its encoding is not known; name it with --encoding"):
        found(tmp_path, content)
    assert found(tmp_path, content, encoding).caution is None


def test_utf8_with_damaged_places_stays_utf8(tmp_path: Path) -> None:
    assert found(tmp_path, FRENCH.encode() + b"caf\xe9") == TextEncoding("utf-8")
    assert found(tmp_path, b"caf\xe9 \0\0") == TextEncoding("utf-8")


def test_utf16_without_a_mark(tmp_path: Path) -> None:
    for name in ("utf-16-le", "utf-16-be"):
        encoding = found(tmp_path, b"a,b,c,d,e,f,g,h\n".decode().encode(name))
        assert encoding.name == name
        assert encoding.caution is not None


def test_an_encoding_that_does_not_exist(tmp_path: Path) -> None:
    for given in ("latin-99", "base64", "a\0b", ""):
        with pytest.raises(UserError, match="there is no such encoding; try utf-8"):
            found(tmp_path, b"a", given)


def test_a_mark_is_no_text_when_utf8_is_given(tmp_path: Path) -> None:
    assert found(tmp_path, b"\xef\xbb\xbfa", "UTF8").name == "utf-8-sig"


@pytest.mark.parametrize("encoding", ["idna", "punycode", "utf-16"])
def test_an_encoding_that_cannot_read_the_file(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"plain text in ASCII")
    with pytest.raises(UserError, match=r"a\.txt: not text in "), file_source(path).text(encoding, None) as text:
        text.read()
