"""A file of scores before it is known what wrote it."""

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from tuneoff.data.byte_source import ByteSource, file_source
from tuneoff.data.files import JSON_SUFFIXES, local_path, no_such_file, open_file
from tuneoff.data.source_table import SourceRow, SourceTable, way_out_of
from tuneoff.errors import UserError

_FIRST_LINE = 50_000_000  # characters; a longer first line is of no format that is recognised by it


class ScoreFile:
    """One file. `system` and `seed` are those that the user gave; None: the file says."""

    def __init__(self, path: str, system: str | None = None, seed: str | None = None) -> None:
        self.path = local_path(path)
        if not self.path.exists():
            raise no_such_file(self.path)
        self.name = str(self.path)
        self.system, self.seed = system, seed

    @cached_property
    def source(self) -> ByteSource:
        """The bytes, unpacked."""
        return file_source(self.path)

    @cached_property
    def start(self) -> bytes:
        """The first bytes."""
        return self.source.start

    @cached_property
    def first(self) -> Mapping[str, object]:
        """The object in the first line of a JSON file; empty for any other file."""
        if self.source.suffix not in JSON_SUFFIXES or not self.start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return {}
        with self.source.text("utf-8", newline="\n") as stream:
            line = stream.readline(_FIRST_LINE)
        try:
            value = json.loads(line.lstrip("\ufeff"))
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def table(self) -> SourceTable:
        """Its rows. Raises `UserError` for a file that holds no table."""
        return open_file(self.name)

    def rows(self) -> Iterator[tuple[str, Mapping[str, object]]]:
        """Each row with its place. Raises `UserError` for a row that cannot be read."""
        yield from rows_of(self.table())


def rows_of(table: SourceTable) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Each row with its place for messages. Raises `UserError` for a row that cannot be read."""
    for row in table.rows:
        place = table.location(row.number)
        if not isinstance(row, SourceRow):
            raise UserError(f"{place}: {row.reason}; {way_out_of(row.reason)}")
        yield place, row.values


def folder_of(path: Path) -> str:
    """The name of the folder that a file is in."""
    return path.resolve().parent.name
