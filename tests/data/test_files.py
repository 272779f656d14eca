"""Readers of data files: their rows, reports of damaged rows, and the error for each unusable file."""

import json
from pathlib import Path

import pytest

from tuneoff.data.files import open_file
from tuneoff.data.source_table import SourceRow, UnreadableRow
from tuneoff.errors import UserError


def read(path: Path) -> list[SourceRow | UnreadableRow]:
    return list(open_file(str(path)).rows)


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_jsonl_with_bom_crlf_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"text": "b"}\r\n   \n{"text": "c"}')
    assert read(path) == [SourceRow(1, {"text": "a"}), SourceRow(3, {"text": "b"}), SourceRow(5, {"text": "c"})]


def test_only_a_line_feed_ends_a_jsonl_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    text = "one\u2028two\u2029three\x85four"
    path.write_text(json.dumps({"text": text}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read(path) == [SourceRow(1, {"text": text})]


def test_damaged_lines_are_reported_and_the_others_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "\xe9"}\n\0\0\0\n{"text": "b"}\n')
    assert read(path) == [
        SourceRow(1, {"text": "a"}),
        UnreadableRow(2, "not UTF-8"),
        UnreadableRow(3, "NUL bytes in the line"),
        SourceRow(4, {"text": "b"}),
    ]


@pytest.mark.parametrize(
    "broken",
    ["text", '{"text": "a"', '{"text": "a",}', '{"a": ' + "9" * 5000 + "}", "[" * 100_000, '"text"', "[1]", "null"],
    ids=["word", "cut", "comma", "digits", "brackets", "string", "array", "null"],
)
def test_not_jsonl_at_line_17(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n' * 16 + broken + "\n")
    assert f"{path}, line 17: " in refused(path)


def test_json_array_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"text": "a"}]')
    assert "a JSON array, not JSON Lines" in refused(path)


def test_csv_numbers_rows_by_the_line_they_start_on(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbftext,summary\r\n"two\r\nlines, with comma",s\r\n\r\nlast,"say ""hi"""\r\n')
    assert read(path) == [
        SourceRow(2, {"text": "two\r\nlines, with comma", "summary": "s"}),
        SourceRow(5, {"text": "last", "summary": 'say "hi"'}),
    ]


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t")])
def test_csv_separator_is_found_in_the_header(tmp_path: Path, name: str, mark: str) -> None:
    path = tmp_path / name
    path.write_text(f"text{mark}summary\na{mark}b\n")
    assert read(path) == [SourceRow(2, {"text": "a", "summary": "b"})]


@pytest.mark.parametrize(
    ("name", "start", "mark"),
    [
        ("a.tsv", "", "\t"),
        ("a.csv", "\r\n  \r\n", ";"),
        ("a.csv", "sep=;\r\n", ";"),
        ("a.csv", "\ufeffSEP=|\r\n\r\n", "|"),
        ("a.csv", "\nsep=\t\n", "\t"),
        ("a.tsv", "sep=,\n", ","),
    ],
)
def test_csv_header_below_blank_lines_and_a_line_that_names_the_separator(
    tmp_path: Path, name: str, start: str, mark: str
) -> None:
    path = tmp_path / name
    header = mark.join(["text", "summary", "a, b, c; d; e" if mark not in ",;" else "note"])
    path.write_text(f"{start}{header}\na{mark}b{mark}c\n", encoding="utf-8", newline="")
    (row,) = read(path)
    assert row == SourceRow(start.count("\n") + 2, dict(zip(header.split(mark), "abc", strict=True)))


def test_csv_error_below_a_separator_line_names_the_line_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('sep=;\ntext;summary\na;b\n"open;c\n')
    assert f"{path}, line 4: the row that starts here is not CSV" in refused(path)


def test_csv_row_with_another_number_of_fields_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,summary\na,b\nonly\na,b,c\n")
    good, short, long = read(path)
    assert good == SourceRow(2, {"text": "a", "summary": "b"})
    assert short == UnreadableRow(3, "number of fields is 1, but the header has 2")
    assert long == UnreadableRow(4, "number of fields is 3, but the header has 2")


def test_csv_field_of_a_megabyte(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"text,summary\n{'word ' * 200_000},s\n")
    (row,) = read(path)
    assert isinstance(row, SourceRow)
    assert row.values["text"] == "word " * 200_000


def test_csv_quote_that_is_never_closed_does_not_swallow_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,summary\na,b\n"open,c\nd,e\n')
    assert f"{path}, line 3: the row that starts here is not CSV" in refused(path)


def test_csv_column_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,text\na,b\n")
    assert "'text' appears twice" in refused(path)


def test_missing_file_names_a_close_one(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}")
    assert "no such file; did you mean 'train.jsonl'?" in refused(tmp_path / "trian.jsonl")
    assert "no such file; check the path" in refused(tmp_path / "other.jsonl"), (
        "a common extension does not make names similar"
    )
    assert "check the path" in refused(tmp_path / "nowhere" / "train.jsonl")


def test_empty_folder_unknown_utf16_and_impossible_names(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    assert "the file is empty" in refused(tmp_path / "empty.jsonl")
    assert "a folder, but a data file was expected" in refused(tmp_path)
    (tmp_path / "a.docx").write_text("x")
    assert "'.docx' is not supported; use one of .jsonl" in refused(tmp_path / "a.docx")
    (tmp_path / "wide.csv").write_text("text,summary\na,b\n", encoding="utf-16")
    assert "UTF-16" in refused(tmp_path / "wide.csv")
    assert "this path cannot be looked up" in refused(tmp_path / ("x" * 5000 + ".jsonl"))
    assert "this path cannot be looked up" in refused(Path("~no-such-user-here/a.jsonl"))
