"""What every reader yields: rows with their place, before anyone asks what the columns mean."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in its source. `number` counts from 1: a line of a text file, a row of a table."""

    number: int
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One row whose values could not be read."""

    number: int
    reason: str


@dataclass(frozen=True)
class Table:
    """Rows that are read once, lazily. `name` is for people: a path, or a data set and its split. `files` are what the
    rows are read from, and nothing else; empty when that is not known."""

    name: str
    unit: Literal["line", "row"]
    rows: Iterator[Row | Unreadable]
    files: tuple[Path, ...] = ()

    def where(self, number: int) -> str:
        """The place of a row, for a message."""
        return f"{self.name}:{number}" if self.unit == "line" else f"{self.name}, row {number}"
