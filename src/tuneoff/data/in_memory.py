"""Writes rows that are in memory as a JSONL file, so that `DataSpec.train_file` can name them."""

import hashlib
import json
import math
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from tuneoff.errors import UserError

_EXAMPLE_ROW = '{"document": "...", "summary": "..."}'
_MISSING_VALUE_TYPES = ("NAType", "NaTType")  # pandas.NA and pandas.NaT, which must not be compared with themselves
_NOT_A_COLUMN = object()


def write_rows(rows: object, folder: Path) -> Path:
    """Write rows as JSONL into `folder` and return the file. Its name holds a hash of its content.

    `rows` is an iterable of mappings from column name to value, a pandas or polars `DataFrame`, or a
    `datasets.Dataset`. Equal rows give the same bytes, whatever the order of their keys, and so the same file. Missing
    values (None, NaN, `pandas.NA`) become null. NumPy scalars and arrays become numbers and lists, times and decimals
    become texts. Columns of other types, such as images, are left out, as in Parquet files.

    Raises `UserError` for no rows, for a row that is not a mapping, or for a folder that cannot be written.
    """
    digest = hashlib.sha256()
    temporary = folder / f".rows-{secrets.token_hex(8)}.jsonl"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # rows are somebody's texts
        with temporary.open("xb") as out:
            for line in _json_lines(rows):
                digest.update(line)
                out.write(line)
        path = folder / f"rows-{digest.hexdigest()[:16]}.jsonl"
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{folder}: rows cannot be written there ({error.strerror}); choose another folder") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return path


def _json_lines(rows: object) -> Iterator[bytes]:
    number = 0
    for number, row in enumerate(iterate_rows(rows), 1):
        if not isinstance(row, Mapping):
            raise UserError(
                f"row {number} of the data is of type {type(row).__name__}, but a mapping of column names to values "
                f"was expected; give rows such as {_EXAMPLE_ROW}"
            )
        values = {str(name): plain_value(value) for name, value in row.items()}
        if len(values) != len(row):
            raise UserError(f"row {number} of the data has two columns of the same name; rename one of them")
        kept = {name: value for name, value in values.items() if value is not _NOT_A_COLUMN}
        yield json.dumps(kept, sort_keys=True).encode() + b"\n"
    if number == 0:
        raise UserError(f"the data has no rows; give at least one, such as {_EXAMPLE_ROW}")


def iterate_rows(rows: object) -> Iterable[object]:
    """The rows of a list or DataFrame. Raises `UserError` for anything else."""
    if isinstance(rows, str | bytes | Path):
        raise UserError(f"{str(rows)[:200]!r} is not a list of rows; name a data file with train_file")
    if isinstance(rows, Mapping):
        raise UserError(
            f"the data is one mapping (keys: {', '.join(map(repr, list(rows)[:8]))}), but a list of rows was expected; "
            f"give one split, or rows such as {_EXAMPLE_ROW}"
        )
    if hasattr(rows, "to_dict") and hasattr(rows, "iloc"):  # pandas
        return _pandas_rows(rows)
    if hasattr(rows, "to_dict") and hasattr(rows, "iter_rows"):  # polars
        named_rows: Iterable[object] = rows.iter_rows(named=True)
        return named_rows
    if not isinstance(rows, Iterable):
        raise UserError(f"data of type {type(rows).__name__} has no rows; give a list of rows such as {_EXAMPLE_ROW}")
    return rows


def _pandas_rows(frame: Any) -> Iterable[object]:
    names = [str(name) for name in getattr(frame, "columns", ())]
    repeated = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if repeated is not None:
        raise UserError(f"the column {repeated!r} appears twice in the DataFrame; rename one of them")
    records: Iterable[object] = frame.to_dict(orient="records")
    return records


def plain_value(value: Any) -> object:
    """The value as JSON can hold it; `_NOT_A_COLUMN` for a type that readers of data files leave out too."""
    if value is None or type(value).__name__ in _MISSING_VALUE_TYPES:
        return None
    if type(value).__name__ in ("datetime64", "timedelta64"):  # `tolist` makes some of them plain integers
        return None if str(value) == "NaT" else str(value)
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        value = value.tolist()
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else str(value)  # JSON has no infinity
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, datetime | date | time | Decimal):
        return str(value)
    if isinstance(value, list | tuple):
        items = [plain_value(item) for item in value]
        return _NOT_A_COLUMN if any(item is _NOT_A_COLUMN for item in items) else items
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        inner = {key: plain_value(item) for key, item in value.items()}
        return {key: item for key, item in inner.items() if item is not _NOT_A_COLUMN} or _NOT_A_COLUMN
    return _NOT_A_COLUMN
