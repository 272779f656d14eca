"""Excel workbooks, through `openpyxl` if it is installed."""

import sys
import types
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

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
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04")
    table = open_file(str(tmp_path / "a.xlsx"))
    assert list(table.rows) == [
        SourceRow(3, {"text": "a", "summary": 4.5}),
        SourceRow(5, {"text": "b", "summary": "2026-01-02 00:00:00"}),
    ]
    assert "only the first of 2 sheets is read, 'Data'" in table.cautions[0]


def test_a_workbook_of_the_package_itself(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["text", "summary"])
    book.active.append(["a, b", 7])
    book.save(tmp_path / "a.xlsx")
    assert list(open_file(str(tmp_path / "a.xlsx")).rows) == [SourceRow(2, {"text": "a, b", "summary": 7})]
