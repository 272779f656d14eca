"""Excel workbooks, through `openpyxl` if it is installed."""

import contextlib
import sys
import types
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tuneoff.data import excel
from tuneoff.data.files import open_file
from tuneoff.data.source_table import SourceRow
from tuneoff.errors import UserError


def test_the_package_is_named_if_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(
        UserError, match="needs the package openpyxl; run `pip install openpyxl`, or save the sheet as CSV"
    ):
        open_file(str(tmp_path / "a.xlsx"))


class FakeSheet:
    """The part of a sheet that is used."""

    def reset_dimensions(self) -> None:
        pass

    def iter_rows(self, values_only: bool) -> Any:
        assert values_only
        rows = [(None, None), ("text", " summary ", None), ("a", 4.5, "x"), (None, None), ("b", datetime(2026, 1, 2))]
        return iter(rows)


class FakeBook(dict[str, FakeSheet]):
    """A workbook of two sheets."""

    sheetnames = ("Data", "Notes")


def test_the_first_sheet_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("openpyxl")
    module.load_workbook = lambda stream, read_only, data_only: FakeBook(Data=FakeSheet())
    monkeypatch.setitem(sys.modules, "openpyxl", module)
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "")
    table = open_file(str(tmp_path / "a.xlsx"))
    assert list(table.rows) == [
        SourceRow(3, {"text": "a", "summary": 4.5}),
        SourceRow(5, {"text": "b", "summary": "2026-01-02 00:00:00"}),
    ]
    assert "only the first of 2 sheets is read, 'Data'" in table.cautions[0]


@pytest.mark.parametrize("names", [(), ("Chart",)])
def test_a_workbook_without_cells_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    """As of a damaged file, or with a chart as its first sheet."""
    book: Any = type("Book", (dict,), {"sheetnames": names})(Chart=object())
    module: Any = types.ModuleType("openpyxl")
    module.load_workbook = lambda stream, read_only, data_only: book
    monkeypatch.setitem(sys.modules, "openpyxl", module)
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "")
    with pytest.raises(UserError, match="not an Excel workbook that can be read; save the sheet as CSV"):
        open_file(str(tmp_path / "a.xlsx"))


def test_a_workbook_of_the_package_itself(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["text", "summary"])
    book.active.append(["a, b", 7])
    book.save(tmp_path / "a.xlsx")
    assert list(open_file(str(tmp_path / "a.xlsx")).rows) == [SourceRow(2, {"text": "a, b", "summary": 7})]


def book(path: Path, **changes: str) -> Path:
    """A workbook of two rows; `changes` replace texts in its sheet."""
    openpyxl = pytest.importorskip("openpyxl")
    made = openpyxl.Workbook()
    for row in (("document", "summary"), ("a river", "water")):
        made.active.append(row)
    made.save(path.with_suffix(".whole"))
    with zipfile.ZipFile(path.with_suffix(".whole")) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in source.namelist():
            text = source.read(name)
            if name == "xl/worksheets/sheet1.xml":
                for before, after in changes.items():
                    assert before.encode() in text
                    text = text.replace(before.encode(), after.encode())
            new.writestr(name, text)
    return path


def test_the_size_that_a_sheet_claims_is_not_believed(tmp_path: Path) -> None:
    """A reader that fills up to column XFD would make 16,384 cells of each row."""
    rows = open_file(str(book(tmp_path / "wide.xlsx", **{"A1:B2": "A1:XFD1048576"}))).rows
    assert list(rows) == [SourceRow(2, {"document": "a river", "summary": "water"})]
    far = open_file(str(book(tmp_path / "far.xlsx", **{'<row r="2"': '<row r="99999999999"'}))).rows
    with pytest.raises(UserError, match=r"more than the 1,048,576 rows of a sheet; save it as CSV"):
        list(far)


def test_a_workbook_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excel, "_ALWAYS_READ_BYTES", 1_000_000)
    path = book(tmp_path / "a.xlsx")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings2.xml", bytes(9_000_000))
    with pytest.raises(UserError, match=r"bytes unpack to 0\.0 GB, so it is not a sheet of texts; save it as CSV"):
        open_file(str(path))


@pytest.mark.parametrize("change", [{"<row": "<rwo"}, {"A1": "1A"}, {'t="inlineStr"': 't="e"'}, {"<c ": "<c s='x' "}])
def test_a_damaged_sheet_is_read_or_one_sentence(tmp_path: Path, change: dict[str, str]) -> None:
    try:
        path = book(tmp_path / "a.xlsx", **change)
    except AssertionError:
        pytest.skip("this version of the package writes it in another way")
    with contextlib.suppress(UserError):
        list(open_file(str(path)).rows)
