"""What every reader returns: numbered rows with named values. `columns` decides what the columns mean."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row as read from its source. `number` is the line of a text file or the row of a table, from 1."""

    number: int
    values: Mapping[str, object]
    note: str | None = None  # what of the row was left out, for the report of cleaning


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """One row whose values could not be read, and why.

    `is_malformed`: the file breaks the rules of its format here, so training does not go on with the other rows.
    """

    number: int
    reason: str
    is_malformed: bool = False


PYTHON_DICT = "a Python dict with single quotes, not JSON"
HIGHLIGHT = "@highlight"  # the line before each sentence of the summary in a `.story` file
CURLY_QUOTES = "curly quotes around the names of columns"


@dataclass(frozen=True)
class SourceTable:
    """Rows of one source, read lazily and once.

    `name` is for messages: a path, or a data set and its split. `files` are all files that the rows are read from;
    empty if they are not known. `cautions` are sentences about how the source is read.
    """

    name: str
    unit: Literal["line", "row"]
    rows: Iterator[SourceRow | UnreadableRow]
    files: tuple[Path, ...] = ()
    cautions: tuple[str, ...] = ()

    def location(self, number: int) -> str:
        """The location of a row, for a message: `train.jsonl:7` or `owner/name train, row 7`."""
        return f"{self.name}:{number}" if self.unit == "line" else f"{self.name}, row {number}"


def way_out_of(reason: str) -> str:
    """What to do if many rows cannot be read for this reason."""
    if reason.startswith("number of fields"):
        return "put quotes around texts that contain the separator, as csv writers do, or use JSON Lines"
    if HIGHLIGHT in reason:
        return f"write a line {HIGHLIGHT} before each sentence of the summary, or leave the file out"
    if reason == PYTHON_DICT:
        return "write each row with json.dumps, not with str or print"
    if reason == CURLY_QUOTES:
        return "replace them with straight ones, which a word processor may have changed"
    if "JSON" in reason:
        return "write one complete JSON object per line"
    if "NUL" in reason and "UTF-8" not in reason:
        return "write the file again without NUL bytes"
    return "save the file as UTF-8, or name its encoding with --encoding (such as cp1252)"
