"""Readers of people's own files. A damaged row becomes `Unreadable`; a file that is not what it says is refused."""

import csv
import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from tuneoff.data.arrow import parquet_rows
from tuneoff.data.table import Row, Table, Unreadable
from tuneoff.errors import UserError

Rows = Iterator[Row | Unreadable]

# csv keeps its limit in a C long, which has 32 bits on Windows.
LARGEST_CSV_FIELD = 2**31 - 1
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
# Excel reads this line before the header, and people write it so that it opens their file.
_SEPARATOR_LINE = re.compile(r'sep=([^\w\s"]|\t)\s*', re.IGNORECASE)


def open_file(name: str) -> Table:
    """The rows of a JSONL, CSV, TSV or Parquet file, chosen by its extension.

    Raises `UserError` for a file that is missing, empty, a folder, of unknown extension or not readable; while the
    rows are drawn, for a file that is not what its extension says.
    """
    path = local_path(name)
    if path.is_dir():
        raise UserError(f"{path}: a folder stands where a data file was expected; name one of the files in it")
    if not path.exists():
        raise no_such_file(path)
    if path.suffix.lower() not in READERS:
        known = ", ".join(READERS)
        raise UserError(f"{path}: the extension {path.suffix!r} is not one that can be read; use one of {known}")
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
    return Table(str(path), unit, reader(path), (path,))


def local_path(name: str) -> Path:
    """The path of a name with `~` resolved. Raises `UserError` for what no file can be called or nobody may look at."""
    if "\0" in name:  # `exists` says no to it, `resolve` raises
        raise UserError(f"{name[:200]!r}: holds a NUL character, as no path does; check it")
    try:
        path = Path(name).expanduser()
        path.exists()
    except (RuntimeError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{name[:200]}: not a path that can be looked up ({reason}); check it") from error
    return path


def no_such_file(path: Path) -> UserError:
    """What to say of a data file that is missing, with a file beside it that is called nearly so."""
    missing = f"{path}: there is no such file"
    try:
        beside = {other.stem: other.name for other in path.parent.iterdir() if other.suffix.lower() in READERS}
    except OSError:
        return UserError(f"{missing}, nor a folder {str(path.parent)!r} that can be listed; check the path")
    close = difflib.get_close_matches(path.stem, beside, n=1)
    return UserError(f"{missing}; did you mean {beside[close[0]]!r}?" if close else f"{missing}; check the path")


def jsonl_rows(path: Path) -> Rows:
    """One JSON object a line. Only LF ends a line, since U+2028 and its like may stand inside a text; blank lines are
    no rows.

    Raises `UserError` with the line number where the file is not JSONL.
    """
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
            if not line.strip():
                continue
            if b"\0" in line:
                yield Unreadable(number, "NUL bytes in the line")
                continue
            try:
                text = line.decode()
            except UnicodeDecodeError:
                yield Unreadable(number, "not UTF-8")
                continue
            yield Row(number, _json_object(path, number, text))


def _json_object(path: Path, number: int, text: str) -> dict[str, object]:
    if number == 1 and text.lstrip().startswith("["):
        raise UserError(f"{path}, line 1: a JSON array, not JSON lines; write one object a line, without brackets")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}: {error.msg}"
        message = f"{path}, line {number}: not JSON ({place}); a JSONL file has one complete JSON object a line"
        raise UserError(message) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of nested brackets
        message = (
            f"{path}, line {number}: JSON that cannot be read (numbers too long or nested too deep); mend the line"
        )
        raise UserError(message) from error
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise UserError(f"{path}, line {number}: a JSON {kind} where an object with named columns was expected")
    return value


def csv_rows(path: Path, delimiter: str | None = None) -> Rows:
    """CSV with a header line. Separated by `delimiter`; None: by commas, semicolons or tabs, whichever the header has
    most of. A line `sep=;` before the header goes before both.

    A row's number is the line it starts on. Bytes that are not UTF-8 come out as lone surrogates, which the check of
    texts finds. Raises `UserError` with the line number where the quoting is broken.
    """
    csv.field_size_limit(LARGEST_CSV_FIELD)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        above, delimiter = _opening(stream, delimiter)
        stream.seek(0)
        for _ in range(above):
            stream.readline()
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        start = above + 1
        try:
            for values in reader:
                number, start = start, above + reader.line_num + 1
                if not values:
                    continue
                if header is None:
                    header = _header(path, values)
                elif len(values) != len(header):
                    yield Unreadable(
                        number, f"another number of fields ({len(values)}) than the header ({len(header)})"
                    )
                else:
                    yield Row(number, dict(zip(header, values, strict=True)))
        except csv.Error as error:
            message = f"{path}, line {start}: not CSV in the row that starts here ({error}); check its quotes"
            raise UserError(message) from error


def _opening(lines: Iterable[str], delimiter: str | None) -> tuple[int, str]:
    """How many lines stand above the header, and what separates its names."""
    for above, line in enumerate(lines):
        if not line.strip():
            continue
        if (said := _SEPARATOR_LINE.fullmatch(line)) is not None:
            return above + 1, said[1]
        return above, delimiter or max(",;\t", key=line.count)
    return 0, delimiter or ","


def _header(path: Path, values: list[str]) -> list[str]:
    header = [value.strip() for value in values]
    twice = next((name for at, name in enumerate(header) if name and name in header[:at]), None)
    if twice is not None:
        raise UserError(f"{path}: the column {twice!r} stands twice in the header; rename one of them")
    return header


READERS: dict[str, tuple[Callable[[Path], Rows], Literal["line", "row"]]] = {
    ".jsonl": (jsonl_rows, "line"),
    ".ndjson": (jsonl_rows, "line"),
    ".json": (jsonl_rows, "line"),
    ".csv": (csv_rows, "line"),
    ".tsv": (partial(csv_rows, delimiter="\t"), "line"),
    ".parquet": (parquet_rows, "row"),
}
