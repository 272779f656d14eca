"""Files of other formats are named for what they are, whatever their extension."""

import io
import zipfile
from pathlib import Path

import pytest

from tuneoff.data.file_kinds import is_workbook, refuse_foreign
from tuneoff.data.files import open_file
from tuneoff.errors import UserError


def office(member: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(member, "x")
    return content.getvalue()


KINDS = {
    "a PDF; .*pdftotext": b"%PDF-1.4\n",
    "a Git LFS pointer.*`git lfs pull`": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n",
    "HTML source": b"\n<!DOCTYPE html><html>",
    "HTML source.*": b"\xef\xbb\xbf<HTML lang='en'>",
    "XML source": b"<?xml version='1.0'?>",
    "an old Word or Excel file": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "a rich text file": b"{\\rtf1\\ansi",
    "a Python pickle": b"\x80\x04\x95rest",
    "an SQLite database": b"SQLite format 3\0",
    "a picture": b"\x89PNG\r\n",
    "a Word document; .*pandoc": office("word/document.xml"),
    "an OpenDocument or EPUB file": office("mimetype"),
}


@pytest.mark.parametrize("words", KINDS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.docx"])
def test_a_file_of_another_format_is_named(tmp_path: Path, words: str, name: str) -> None:
    (tmp_path / name).write_bytes(KINDS[words])
    with pytest.raises(UserError, match=words) as caught:
        list(open_file(str(tmp_path / name)).rows)
    assert "\n" not in str(caught.value)


def test_texts_that_mention_a_format_are_texts() -> None:
    for text in (b"text,summary\n%PDF,a\n", b'{"text": "<html>"}', b"see version https://git-lfs", b"<p>a</p>,b"):
        refuse_foreign("a.csv", text)


def test_only_names_of_members_say_what_a_zip_archive_is() -> None:
    for member in ("password/a.csv", "notes/word/a.csv", "ppt.csv"):
        refuse_foreign("a.zip", office(member))
    assert is_workbook(office("xl/workbook.xml"))
    assert not is_workbook(office("axl/workbook.csv"))
    assert not is_workbook(b"xl/workbook.xml")
    for length in range(40):  # a header that is cut off
        assert not is_workbook(office("xl/workbook.xml")[:length])
