"""Rows of Excel workbooks, read through the package `openpyxl`."""

import io
from collections.abc import Iterator
from datetime import date, time
from typing import Any

from tuneoff.data.byte_source import ByteSource, reading
from tuneoff.data.source_table import SourceRow
from tuneoff.errors import UserError


def open_excel(source: ByteSource) -> tuple[Iterator[SourceRow], tuple[str, ...]]:
    """The rows of the first sheet, and a caution if there are others. The first row that is not empty is the header.

    Raises `UserError` if `openpyxl` is not installed or cannot read the file.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise UserError(
            f"{source.name}: reading Excel files needs the package openpyxl; run `pip install openpyxl`, or save the "
            "sheet as CSV UTF-8"
        ) from error
    try:
        with reading(source.name), source.open() as stream:
            workbook = openpyxl.load_workbook(io.BytesIO(stream.read()), read_only=True, data_only=True)
    except (KeyError, ValueError, TypeError, openpyxl.utils.exceptions.InvalidFileException) as error:
        raise UserError(
            f"{source.name}: not an Excel workbook that can be read; save the sheet as CSV UTF-8"
        ) from error
    first, *others = workbook.sheetnames
    caution = f"{source.name}: only the first of {1 + len(others)} sheets is read, {first!r}; save others as files"
    return _rows(source.name, workbook[first]), (caution,) if others else ()


def _rows(name: str, sheet: Any) -> Iterator[SourceRow]:
    header: list[str] | None = None
    for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
        if all(cell is None for cell in cells):
            continue
        if header is None:
            header = ["" if cell is None else str(cell).strip() for cell in cells]
            repeated = next((column for at, column in enumerate(header) if column and column in header[:at]), None)
            if repeated is not None:
                raise UserError(f"{name}: the column {repeated!r} appears twice in the header; rename one of them")
            continue
        yield SourceRow(number, {key: _value(cell) for key, cell in zip(header, cells, strict=False) if key})


def _value(cell: object) -> object:
    return str(cell) if isinstance(cell, date | time) else cell  # a datetime is a date
