"""Rows of Excel workbooks, read through the package `openpyxl`."""

import io
import itertools
import zipfile
from collections.abc import Iterator
from datetime import date, time
from typing import Any

from tuneoff.data.byte_source import ByteSource, reading
from tuneoff.data.source_table import SourceRow
from tuneoff.errors import UserError

_MOST_BYTES = 500_000_000  # in memory as a whole
_LARGEST_RATIO, _ALWAYS_READ_BYTES = 100, 200_000_000  # sheets of texts unpack to ten times their size
_MOST_ROWS = 2**20  # of Excel


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
            content = io.BytesIO(stream.read(_MOST_BYTES + 1))
            _check_size(source.name, content)
            workbook = openpyxl.load_workbook(content, read_only=True, data_only=True)
            first, *others = workbook.sheetnames
            sheet = workbook[first]
            sheet.reset_dimensions()  # the size that a file claims may be billions of cells; a chart has no cells
    except (UserError, MemoryError):
        raise
    except Exception as error:  # the package trusts the XML inside
        raise _not_readable(source.name) from error
    caution = f"{source.name}: only the first of {1 + len(others)} sheets is read, {first!r}; save others as files"
    return _rows(source.name, sheet), (caution,) if others else ()


def _check_size(name: str, content: io.BytesIO) -> None:
    """Raise `UserError` for a workbook whose members unpack to more than Excel writes. The package reads them whole."""
    size = len(content.getbuffer())
    if size > _MOST_BYTES:
        raise UserError(f"{name}: larger than {_MOST_BYTES / 1e6:,.0f} MB; save the sheet as CSV UTF-8")
    with zipfile.ZipFile(content) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(_ALWAYS_READ_BYTES, _LARGEST_RATIO * size):
        raise UserError(
            f"{name}: its {size:,} bytes unpack to {unpacked / 1e9:.1f} GB, so it is not a sheet of texts; save it "
            "as CSV UTF-8"
        )


def _not_readable(name: str) -> UserError:
    return UserError(f"{name}: not an Excel workbook that can be read; save the sheet as CSV UTF-8")


def _rows(name: str, sheet: Any) -> Iterator[SourceRow]:
    header: list[str] | None = None
    for number, cells in _numbered_rows(name, sheet):
        if all(cell is None for cell in cells):
            continue
        if header is None:
            header = ["" if cell is None else str(cell).strip() for cell in cells]
            repeated = next((column for at, column in enumerate(header) if column and column in header[:at]), None)
            if repeated is not None:
                raise UserError(f"{name}: the column {repeated!r} appears twice in the header; rename one of them")
            continue
        values = itertools.chain(cells, itertools.repeat(None))  # empty cells at the end of a row are not stored
        yield SourceRow(number, {key: _value(cell) for key, cell in zip(header, values, strict=False) if key})


def _numbered_rows(name: str, sheet: Any) -> Iterator[tuple[int, tuple[Any, ...]]]:
    rows = iter(sheet.iter_rows(values_only=True))
    for number in itertools.count(1):
        try:
            cells = next(rows, None)
        except MemoryError:
            raise
        except Exception as error:  # as above
            raise _not_readable(name) from error
        if cells is None:
            return
        if number > _MOST_ROWS:
            raise UserError(f"{name}: more than the {_MOST_ROWS:,} rows of a sheet; save it as CSV UTF-8")
        yield number, cells


def _value(cell: object) -> object:
    return str(cell) if isinstance(cell, date | time) else cell  # a datetime is a date
