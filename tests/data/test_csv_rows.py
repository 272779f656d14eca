"""Forms of CSV files. That they all give the same rows is tested in `test_files`."""

from pathlib import Path

import pytest

from tuneoff.data import csv_rows
from tuneoff.data.files import open_file
from tuneoff.data.source_table import SourceRow, SourceTable
from tuneoff.errors import UserError


def table(folder: Path, name: str, text: str) -> SourceTable:
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return open_file(str(folder / name))


def values(found: SourceTable) -> list[list[object]]:
    return [list(row.values.values()) for row in found.rows if isinstance(row, SourceRow)]


def test_a_backslash_is_a_letter_where_quotes_are_doubled(tmp_path: Path) -> None:
    text = 'text,summary\n"C:\\new ""x""","ends with \\"\nb,c\n'
    assert values(table(tmp_path, "a.csv", text)) == [['C:\\new "x"', "ends with \\"], ["b", "c"]]


def test_a_backslash_before_a_quote_where_nothing_else_makes_sense(tmp_path: Path) -> None:
    text = 'text,summary\n"he said \\"yes, no\\" twice",s\n"b","c"\n'
    assert values(table(tmp_path, "a.csv", text)) == [['he said "yes, no" twice', "s"], ["b", "c"]]


def test_quotes_of_a_tsv_without_quoting_belong_to_the_texts_and_this_is_said(tmp_path: Path) -> None:
    found = table(tmp_path, "a.tsv", 'text\tsummary\n"Stop," he said.\ts\nb\t"c\n')
    assert values(found) == [['"Stop," he said.', "s"], ["b", '"c']]
    assert "quotation marks were read as part of the texts" in found.cautions[0]


def test_a_separator_inside_a_quoted_name_does_not_count(tmp_path: Path) -> None:
    found = table(tmp_path, "a.csv", '"text, long; and, more";summary\na;b\n')
    assert values(found) == [["a", "b"]]


def test_a_quote_that_is_never_closed_is_an_error_beyond_the_sample_too(tmp_path: Path) -> None:
    found = table(tmp_path, "a.csv", "text,summary\n" + "a,b\n" * 100_000 + '"open,c\n')
    with pytest.raises(UserError, match="line 100002: the row that starts here is not CSV"):
        values(found)


def test_a_quote_that_never_ends_does_not_fill_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert csv_rows.LARGEST_CSV_FIELD <= 50_000_000
    monkeypatch.setattr(csv_rows, "LARGEST_CSV_FIELD", 1_000_000)
    path = tmp_path / "a.csv"
    path.write_text('document,summary\n"' + "x,y\n" * 400_000)
    with pytest.raises(UserError, match=r"line 2: the row that starts here is not CSV .*check its quotes"):
        list(open_file(str(path)).rows)
