"""Readers of data files: their rows, reports of damaged rows, and the error for each unusable file."""

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from tuneoff.data.files import expanded, has_data_suffix, open_file
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
    ("broken", "reason"),
    [
        ("text", "not JSON (column 1: Expecting value)"),
        ('{"text": "a"', "not JSON (column 1: Expecting ',' delimiter)"),
        ('{"text": "a",}', "not JSON ("),
        ('{"a": ' + "9" * 5000 + "}", "JSON that cannot be read (number too long"),
        ("[" * 100_000, "JSON that cannot be read ("),
        ('"text"', "a JSON str, but an object"),
        ("[1]", "a JSON list, but an object"),
        ("null", "a JSON NoneType, but an object"),
    ],
    ids=["word", "cut", "comma", "digits", "brackets", "string", "array", "null"],
)
def test_not_jsonl_at_line_17(tmp_path: Path, broken: str, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n' * 16 + broken + "\n" + '{"text": "b"}\n')
    rows = read(path)
    assert len(rows) == 18
    assert rows[17] == SourceRow(18, {"text": "b"})
    assert isinstance(rows[16], UnreadableRow)
    assert rows[16].number == 17
    assert rows[16].is_malformed
    assert rows[16].reason.startswith(reason)


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


def test_empty_folder_unknown_and_impossible_names(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    assert "the file is empty" in refused(tmp_path / "empty.jsonl")
    assert refused(tmp_path).endswith("a folder, but a data file was expected; name one of the files in it")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train.jsonl").touch()
    assert f"write --data {tmp_path / 'splits'}" in refused(tmp_path / "splits")
    (tmp_path / "a.docx").write_text("x")
    assert "'.docx' is not supported; use one of .jsonl" in refused(tmp_path / "a.docx")
    assert "this path cannot be looked up" in refused(tmp_path / ("x" * 5000 + ".jsonl"))
    assert "this path cannot be looked up" in refused(Path("~no-such-user-here/a.jsonl"))


NASTY = [
    "plain words",
    'she said "yes", twice: ""quoted""',
    "two\nlines, and\n\nan empty one",
    "semicolon; tab\tbar | backslash \\ end\\",
    "caf\u00e9 \u4f60\u597d \u0928\u092e\u0938\u094d\u0924\u0947 \U0001f600 e\u0301",
    "line\u2028separator\u0085next",
    '{"json": [1, 2]}',
    "'single' `back` <b>&amp;</b> =SUM(A1)",
]
ROWS: list[dict[str, object]] = [
    {
        "document": f"{number}: {NASTY[number % 8]}",
        "summary": f"{NASTY[(number + 3) % 8]} no. {number}",
        "note": NASTY[(number + 5) % 8],
        "year": 1950 + number,
        "share": number / 8,
    }
    for number in range(50)
]
NAMES = list(ROWS[0])


def lines_of(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def csv_of(
    delimiter: str = ",", end: str = "\r\n", quoting: Literal[0, 1] = csv.QUOTE_MINIMAL, escape: str | None = None
) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(
        text,
        delimiter=delimiter,
        lineterminator=end,
        quoting=quoting,
        escapechar=escape,
        doublequote=escape is None,
    )
    writer.writerows([NAMES, *([row[name] for name in NAMES] for row in ROWS)])
    return text.getvalue()


def by_columns() -> dict[str, list[object]]:
    return {name: [row[name] for row in ROWS] for name in NAMES}


# File name -> content. Each holds the same rows.
WRITERS: dict[str, Callable[[], bytes]] = {
    "lines.jsonl": lambda: lines_of(ROWS).encode(),
    "ascii.jsonl": lambda: "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "utf16.jsonl": lambda: lines_of(ROWS).encode("utf-16"),
    "array.json": lambda: json.dumps(ROWS).encode(),
    "array_indented.json": lambda: json.dumps(ROWS, indent=2, ensure_ascii=False).encode(),
    "array_row_by_row.json": lambda: ("[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n").encode(),
    "objects.json": lambda: "\n\n".join(json.dumps(row, indent=1) for row in ROWS).encode(),
    "under_a_key.json": lambda: json.dumps({"version": "1", "data": ROWS}, indent=4).encode(),
    "under_a_key_one_line.json": lambda: json.dumps({"rows": ROWS}).encode(),
    "columns.json": lambda: json.dumps(
        {k: {str(i): v for i, v in enumerate(vs)} for k, vs in by_columns().items()}
    ).encode(),
    "lists.json": lambda: json.dumps(by_columns()).encode(),
    "index.json": lambda: json.dumps({str(i): row for i, row in enumerate(ROWS)}).encode(),
    "split.json": lambda: json.dumps(
        {"columns": NAMES, "index": list(range(50)), "data": [list(row.values()) for row in ROWS]}
    ).encode(),
    "comma.csv": lambda: csv_of().encode(),
    "mark.csv": lambda: csv_of().encode("utf-8-sig"),
    "all_quoted.csv": lambda: csv_of(quoting=csv.QUOTE_ALL, end="\n").encode(),
    "semicolon.csv": lambda: csv_of(";").encode(),
    "bar.csv": lambda: csv_of("|").encode(),
    "tab.csv": lambda: csv_of("\t").encode(),
    "tab.tsv": lambda: csv_of("\t", "\n").encode(),
    "utf16.csv": lambda: csv_of("\t").encode("utf-16"),
    "utf16_without_mark.csv": lambda: csv_of().replace("\u4f60\u597d", "").encode("utf-16-le"),
    "utf32.csv": lambda: csv_of().encode("utf-32"),
    "backslash.csv": lambda: csv_of(escape="\\", quoting=csv.QUOTE_ALL).encode(),
    "lines.jsonl.gz": lambda: gzip.compress(lines_of(ROWS).encode()),
    "comma.csv.gz": lambda: gzip.compress(csv_of().encode()),
    "comma.csv.bz2": lambda: bz2.compress(csv_of().encode()),
    "array.json.xz": lambda: lzma.compress(json.dumps(ROWS).encode()),
    "compressed_without_saying_so.csv": lambda: gzip.compress(csv_of().encode()),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_rows_in_every_form_are_the_same_examples(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(WRITERS[name]())
    table = open_file(str(path))
    expected = [{key: str(value) for key, value in row.items()} for row in ROWS]
    if name.startswith("utf16_without"):
        expected = [{key: text.replace("\u4f60\u597d", "") for key, text in row.items()} for row in expected]
    found = [row for row in table.rows if isinstance(row, SourceRow)]
    assert [{key: str(value) for key, value in row.values.items()} for row in found] == expected
    assert len({table.location(row.number) for row in found}) == 50
    assert has_data_suffix(name)


def test_the_same_rows_as_pandas_writes_them(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS)
    frame.to_csv(tmp_path / "a.csv")
    frame.to_json(tmp_path / "columns.json")
    for orient in ("records", "split", "index", "table"):
        frame.to_json(tmp_path / f"{orient}.json", orient=orient)
    frame.to_json(tmp_path / "lines.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "a.parquet")
    for path in sorted(tmp_path.iterdir()):
        found = [dict(row.values) for row in read(path) if isinstance(row, SourceRow)]
        kept = [{key: str(row[key]) for key in NAMES} for row in found]
        assert kept == [{key: str(value) for key, value in row.items()} for row in ROWS], path.name


def test_a_zip_with_one_file_is_read_and_one_with_two_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inside/train.jsonl", lines_of(ROWS))
        archive.writestr("README.md", "x")
    assert len(read(path)) == 50
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("test.jsonl", lines_of(ROWS))
    assert "a zip archive with 2 data files in it; give it with --data" in refused(path)


def test_a_pattern_names_the_files_that_match(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.txt", "[x].jsonl"):
        (tmp_path / name).touch()
    assert expanded(str(tmp_path / "?.jsonl")) == [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    assert expanded(str(tmp_path / "[x].jsonl")) == [str(tmp_path / "[x].jsonl")]
    assert expanded("no such.jsonl") == ["no such.jsonl"]
    with pytest.raises(UserError, match="no file matches this pattern"):
        expanded(str(tmp_path / "*.csv"))
    try:
        found = expanded(str(tmp_path / "**.jsonl"))
    except UserError as error:  # Python 3.13 reads it as one star
        assert f"write {tmp_path / '**/*.jsonl'}" in str(error)  # noqa: PT017
    else:
        assert len(found) == 3


def test_a_file_of_another_extension_with_plain_content_is_told_how_to_be_read(tmp_path: Path) -> None:
    (tmp_path / "alpaca.txt").write_text('[\n {"instruction": "a", "input": "", "output": "b"}\n]')
    assert "looks like JSON, so rename it to alpaca.json" in refused(tmp_path / "alpaca.txt")
    (tmp_path / "val.target").write_text("a headline\n")
    assert "paste val.source val.target) > val.tsv" in refused(tmp_path / "val.target")
    (tmp_path / "plain.txt").write_text("a text\n")
    assert "'.txt' is not supported; use one of .jsonl" in refused(tmp_path / "plain.txt")
