"""Rows from a pipe are kept as a file of the right kind."""

import gzip
import io
import os
import stat
from pathlib import Path

import pytest

from tuneoff.data.files import open_file
from tuneoff.data.source_table import SourceRow
from tuneoff.data.standard_input import store_standard_input
from tuneoff.errors import UserError

LINE = '{"document": "a", "summary": "b"}\n'
TABLE = "document,summary\na,b\n"


class Terminal(io.BytesIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (LINE.encode(), ".jsonl"),
        (f"\n [{LINE}]".encode("utf-8-sig"), ".jsonl"),
        (LINE.encode("utf-16"), ".jsonl"),
        (TABLE.encode(), ".csv"),
        (TABLE.replace(",", "\t").encode(), ".csv"),
        (gzip.compress(LINE.encode(), mtime=0), ".jsonl"),
        (gzip.compress(TABLE.encode(), mtime=0), ".csv"),
    ],
)
def test_the_kind_of_file_is_found_by_its_content(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = store_standard_input(io.BytesIO(content), "--train-file", tmp_path / "rows")
    assert path.suffix == suffix
    assert [row.values for row in open_file(str(path)).rows if isinstance(row, SourceRow)] == [
        {"document": "a", "summary": "b"}
    ]
    assert store_standard_input(io.BytesIO(content), "--train-file", tmp_path / "rows") == path
    assert list((tmp_path / "rows").iterdir()) == [path]


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (Terminal(b""), r"--test-file -: .* is the terminal; write `cat FILE \| tuneoff compare --test-file -`"),
        (io.BytesIO(b""), "--test-file -: standard input is empty"),
        (io.BytesIO(b"%PDF-1.7"), "standard input: a PDF; extract its text first"),
    ],
)
def test_what_holds_no_rows_is_refused_and_not_kept(tmp_path: Path, stream: io.BytesIO, message: str) -> None:
    with pytest.raises(UserError, match=message):
        store_standard_input(stream, "--test-file", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"the rows cannot be kept in .*; set TUNEOFF_CACHE to another folder"):
        store_standard_input(io.BytesIO(LINE.encode()), "--train-file", tmp_path / "file")


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_only_the_user_can_read_the_rows(tmp_path: Path) -> None:
    path = store_standard_input(io.BytesIO(LINE.encode()), "--train-file", tmp_path / "rows")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
