"""Readers of JSONL, CSV, TSV and Parquet files.

A damaged row becomes an `UnreadableRow`. A file whose content does not match its extension is a `UserError`.
"""

import csv
import difflib
import glob
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from tuneoff.data.arrow import parquet_rows
from tuneoff.data.source_table import SourceRow, SourceTable, UnreadableRow
from tuneoff.errors import UserError

RowIterator = Iterator[SourceRow | UnreadableRow]

# The csv module keeps this limit in a C long, which has 32 bits on Windows.
LARGEST_CSV_FIELD = 2**31 - 1
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
# A line such as `sep=;` above the header defines the separator for Excel.
_SEPARATOR_LINE = re.compile(r'sep=([^\w\s"]|\t)\s*', re.IGNORECASE)


def expanded(name: str) -> list[str]:
    """The files that match a pattern such as `data/*.jsonl`, in alphabetical order, or the one file itself.

    Raises `UserError` if no file matches.
    """
    if not glob.has_magic(name) or local_path(name).exists():
        return [name]
    path = local_path(name)
    found = sorted(str(match) for match in Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    if not found:
        raise UserError(f"{name}: no file matches this pattern; check the path")
    return found


def open_file(name: str) -> SourceTable:
    """Open a JSONL, CSV, TSV or Parquet file; the extension decides which.

    Raises `UserError` for a file that is missing, empty, a folder, not readable or of an unknown extension. Reading the
    rows raises it for a file whose content does not match its extension.
    """
    path = local_path(name)
    if path.is_dir():
        raise UserError(f"{path}: a folder, but a data file was expected; name one of the files in it")
    if not path.exists():
        raise no_such_file(path)
    if path.suffix.lower() not in READERS:
        known = ", ".join(READERS)
        raise UserError(f"{path}: the extension {path.suffix!r} is not supported; use one of {known}")
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if not start:
        raise UserError(f"{path}: the file is empty; give a file with at least one row")
    if start.startswith(UTF16_MARKS):
        raise UserError(f"{path}: the file is in UTF-16; save it as UTF-8")
    reader, unit = READERS[path.suffix.lower()]
    return SourceTable(str(path), unit, reader(path), (path,))


def local_path(name: str) -> Path:
    """The path with `~` expanded. Raises `UserError` for an impossible path or one that may not be looked up."""
    if "\0" in name:  # `exists` returns False for it, `resolve` raises
        raise UserError(f"{name[:200]!r}: a path cannot hold a NUL character; correct it")
    try:
        path = Path(name).expanduser()
        path.exists()
    except (RuntimeError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{name[:200]}: this path cannot be looked up ({reason}); check it") from error
    return path


def no_such_file(path: Path) -> UserError:
    """The error for a missing data file. It suggests a file of a similar name in the same folder."""
    missing = f"{path}: there is no such file"
    try:
        siblings = {other.stem: other.name for other in path.parent.iterdir() if other.suffix.lower() in READERS}
    except OSError:
        return UserError(f"{missing}, and the folder {str(path.parent)!r} cannot be listed; check the path")
    close = difflib.get_close_matches(path.stem, siblings, n=1)
    return UserError(f"{missing}; did you mean {siblings[close[0]]!r}?" if close else f"{missing}; check the path")


def jsonl_rows(path: Path) -> RowIterator:
    """Read one JSON object per line. Blank lines are skipped.

    Only LF ends a line, because a text may contain other separators such as U+2028. Raises `UserError` with the line
    number if a line is not a JSON object.
    """
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
            if not line.strip():
                continue
            if b"\0" in line:
                yield UnreadableRow(number, "NUL bytes in the line")
                continue
            try:
                text = line.decode()
            except UnicodeDecodeError:
                yield UnreadableRow(number, "not UTF-8")
                continue
            yield SourceRow(number, _json_object(path, number, text))


def _json_object(path: Path, number: int, text: str) -> dict[str, object]:
    if number == 1 and text.lstrip().startswith("["):
        raise UserError(f"{path}, line 1: a JSON array, not JSON Lines; write one object per line, no brackets")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        fault = f"column {error.colno}: {error.msg}"
        message = f"{path}, line {number}: not JSON ({fault}); write one complete JSON object per line"
        raise UserError(message) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of nested brackets
        message = f"{path}, line {number}: JSON that cannot be read (number too long or nested too deep); correct it"
        raise UserError(message) from error
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise UserError(f"{path}, line {number}: a JSON {kind}, but an object was expected; write columns and values")
    return value


def csv_rows(path: Path, delimiter: str | None = None) -> RowIterator:
    """Read CSV with a header line.

    The separator is taken from a line such as `sep=;` above the header, else from `delimiter`, else it is the comma,
    semicolon or tab that the header has most of. The number of a row is the line on which it starts. Bytes that are not
    UTF-8 become lone surrogates, which cleaning rejects. Raises `UserError` with the line number if quoting is broken.
    """
    csv.field_size_limit(LARGEST_CSV_FIELD)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        lines_above, delimiter = _find_header(stream, delimiter)
        stream.seek(0)
        for _ in range(lines_above):
            stream.readline()
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        start = lines_above + 1
        try:
            for values in reader:
                number, start = start, lines_above + reader.line_num + 1
                if not values:
                    continue
                if header is None:
                    header = _column_names(path, values)
                elif len(values) != len(header):
                    yield UnreadableRow(number, f"number of fields is {len(values)}, but the header has {len(header)}")
                else:
                    yield SourceRow(number, dict(zip(header, values, strict=True)))
        except csv.Error as error:
            message = f"{path}, line {start}: the row that starts here is not CSV ({error}); check its quotes"
            raise UserError(message) from error


def _find_header(lines: Iterable[str], delimiter: str | None) -> tuple[int, str]:
    """The number of lines above the header, and the separator."""
    for lines_above, line in enumerate(lines):
        if not line.strip():
            continue
        if (separator_line := _SEPARATOR_LINE.fullmatch(line)) is not None:
            return lines_above + 1, separator_line[1]
        return lines_above, delimiter or max(",;\t", key=line.count)
    return 0, delimiter or ","


def _column_names(path: Path, values: list[str]) -> list[str]:
    header = [value.strip() for value in values]
    repeated = next((name for index, name in enumerate(header) if name and name in header[:index]), None)
    if repeated is not None:
        raise UserError(f"{path}: the column {repeated!r} appears twice in the header; rename one of them")
    return header


READERS: dict[str, tuple[Callable[[Path], RowIterator], Literal["line", "row"]]] = {
    ".jsonl": (jsonl_rows, "line"),
    ".ndjson": (jsonl_rows, "line"),
    ".json": (jsonl_rows, "line"),
    ".csv": (csv_rows, "line"),
    ".tsv": (partial(csv_rows, delimiter="\t"), "line"),
    ".parquet": (parquet_rows, "row"),
}
