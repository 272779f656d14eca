"""Rows of JSON files: one object a line, objects over several lines, an array, rows under a key, and tables as pandas
and `datasets` write them.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from tuneoff.data.byte_source import ByteSource
from tuneoff.data.columns import DOCUMENT_NAMES, SUMMARY_NAMES
from tuneoff.data.source_table import CURLY_QUOTES, PYTHON_DICT, SourceRow, UnreadableRow
from tuneoff.errors import UserError

RowIterator = Iterator[SourceRow | UnreadableRow]
# JSON that is not JSON Lines is in memory as a whole, at several times its size.
LARGEST_WHOLE_JSON = 10**9
_DAMAGED_BYTE = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of a byte that cannot be decoded
_BETWEEN_OBJECTS = re.compile(r"[\s,]*")
TEXT_ALONE = "text"  # the column of the texts of an array
_USUAL_NAMES = frozenset((*DOCUMENT_NAMES, *SUMMARY_NAMES))
_OTHER_QUOTES = {"{'": PYTHON_DICT, "{\u201c": CURLY_QUOTES, "{\u201d": CURLY_QUOTES}
_TOO_COMPLEX = "JSON that cannot be read (number too long or nested too deep)"


def open_json(source: ByteSource, encoding: str) -> tuple[Literal["line", "row"], Callable[[], RowIterator]]:
    """Find the form of a JSON file. Returns what locations count, and what reads the rows.

    Raises `UserError` for an object that is a single table of an unknown form.
    """
    with source.text(encoding, newline="\n") as stream:
        first = next((line for line in stream if line.strip()), "").strip()
        is_single = not any(line.strip() for line in stream)
    parsed = _parsed(first)
    if first.startswith("[") and (is_single or parsed is None):  # else lines of arrays, which are refused
        return "row", lambda: _whole_rows(source, encoding)
    if first.startswith("{") and parsed is None and first.endswith(("{", "[", ",", ":")):
        return "row", lambda: _whole_rows(source, encoding)
    if is_single and isinstance(parsed, dict) and (rows := _rows_of_object(source.name, parsed)) is not None:
        return "row", lambda: numbered(rows)
    return "line", lambda: _line_rows(source, encoding)


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _line_rows(source: ByteSource, encoding: str) -> RowIterator:
    """One object a line. Only LF ends a line, because a text may contain other separators such as U+2028."""
    with source.text(encoding, newline="\n") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            if "\0" in line:
                yield UnreadableRow(number, "NUL bytes in the line")
            elif _DAMAGED_BYTE.search(line):
                yield UnreadableRow(number, "not UTF-8")
            else:
                yield _row_of_line(number, line)


def _row_of_line(number: int, text: str) -> SourceRow | UnreadableRow:
    try:
        return _row(number, json.loads(text))
    except json.JSONDecodeError as error:
        reason = _OTHER_QUOTES.get(text.lstrip()[:2], f"not JSON (column {error.colno}: {error.msg})")
        return UnreadableRow(number, reason, is_malformed=True)
    except (ValueError, RecursionError):  # a number of thousands of digits; thousands of nested brackets
        return UnreadableRow(number, _TOO_COMPLEX, is_malformed=True)


def _row(number: int, value: object) -> SourceRow | UnreadableRow:
    if not isinstance(value, dict):
        reason = f"a JSON {type(value).__name__}, but an object was expected"
        return UnreadableRow(number, reason, is_malformed=True)
    damaged = any(isinstance(part, str) and _DAMAGED_BYTE.search(part) for part in value.values())
    return UnreadableRow(number, "not UTF-8") if damaged else SourceRow(number, value)


def _whole_rows(source: ByteSource, encoding: str) -> RowIterator:
    """The rows of a file that is an array, one table, or objects over several lines."""
    values = whole_values(source, encoding)
    if len(values) > 1:
        return numbered(values)
    if isinstance(values[0], list):
        return numbered(values[0])
    rows = _rows_of_object(source.name, values[0]) if isinstance(values[0], dict) else None
    return numbered(values if rows is None else rows)


def whole_values(source: ByteSource, encoding: str) -> list[object]:
    """The JSON values of a file, one after another, read at once.

    Raises `UserError` for a file that is too large for that or that holds no JSON.
    """
    with source.text(encoding, newline=None) as stream:
        text = stream.read(LARGEST_WHOLE_JSON + 1)
    if len(text) > LARGEST_WHOLE_JSON:
        raise UserError(
            f"{source.name}: JSON of more than {LARGEST_WHOLE_JSON / 10**9:g} GB that is not JSON Lines; write one "
            "object per line, for example with `jq -c '.[]'`"
        )
    return _values(source.name, text)


def _values(name: str, text: str) -> list[object]:
    """The JSON values of a text, one after another."""
    decoder = json.JSONDecoder()
    values: list[object] = []
    at = _after_white_space(text, 0)
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            if error.pos >= len(text.rstrip()):
                message = "the JSON is incomplete: the file ends inside it; write it again"
                raise UserError(f"{name}, line {error.lineno}: {message}") from error
            fault = f"column {error.colno}: {error.msg}"
            raise UserError(f"{name}, line {error.lineno}: not JSON ({fault}); correct it there") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{name}, row {len(values) + 1}: {_TOO_COMPLEX}; correct it") from error
        values.append(value)
        at = _after_white_space(text, at)
    return values


def _after_white_space(text: str, at: int) -> int:
    found = _BETWEEN_OBJECTS.match(text, at)
    return found.end() if found else at


def numbered(rows: Sequence[object]) -> RowIterator:
    """Each element of an array as a row; a text alone is the column `text`."""
    for number, row in enumerate(rows, 1):
        yield _row(number, {TEXT_ALONE: row} if isinstance(row, str) else row)


def _rows_of_object(name: str, table: Mapping[str, object]) -> Sequence[object] | None:
    """The rows of an object that is a whole table; None if it is a single row.

    Raises `UserError` if lists of rows are under several keys.
    """
    columns, data = table.get("columns"), table.get("data")
    if isinstance(columns, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        return [dict(zip(map(str, columns), row, strict=False)) for row in data]  # orient="split"
    values = list(table.values())
    if values and all(isinstance(value, dict) for value in values):
        return _rows_of_objects({key: value for key, value in table.items() if isinstance(value, dict)})
    if len(values) > 1 and all(isinstance(value, list) for value in values) and not any(map(is_list_of_rows, values)):
        return _rows_of_lists({key: value for key, value in table.items() if isinstance(value, list)})
    if "messages" in table or "conversations" in table:
        return None
    keys = [key for key, value in table.items() if is_list_of_rows(value)]
    if len(keys) > 1 and not isinstance(data, list):
        listed = ", ".join(repr(key) for key in keys[:8])
        way_out = f"write each to a file, for example with `jq -c '.[\"{keys[0]}\"][]'`"
        if "train" in keys:
            way_out = "if they are splits, give the file with --data"
        raise UserError(f"{name}: rows are under several keys ({listed}); {way_out}")
    if not keys or _USUAL_NAMES & {key.strip().lower() for key in table if key not in keys}:
        return None
    rows = table["data" if "data" in keys else keys[0]]
    return rows if isinstance(rows, list) else None


def is_list_of_rows(value: object) -> bool:
    """Whether a JSON value is a list of objects that is not empty."""
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _rows_of_objects(table: Mapping[str, Mapping[str, object]]) -> Sequence[object] | None:
    """A table by columns, or by rows (`orient="columns"` and `"index"` of pandas). Indices are numbers or ids."""
    inner = list(dict.fromkeys(key for value in table.values() for key in value))
    by_columns = bool(_USUAL_NAMES & {key.strip().lower() for key in table})
    by_rows = bool(_USUAL_NAMES & {key.strip().lower() for key in inner})
    if by_columns or (not by_rows and all(key.isdigit() for key in inner)):
        return [{column: values.get(index) for column, values in table.items()} for index in inner]
    if by_rows or all(key.isdigit() for key in table):
        return [row if key.isdigit() else {"id": key, **row} for key, row in table.items()]
    return None


def _rows_of_lists(table: Mapping[str, list[object]]) -> Sequence[object] | None:
    """A table by columns, as `Dataset.to_dict` gives it."""
    if len({len(values) for values in table.values()}) != 1:
        return None
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
