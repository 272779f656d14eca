"""Cleaning: every row becomes an example or a `DroppedRow` with its location and a reason."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tuneoff.data.columns import FoundColumns, RejectedRow, to_example
from tuneoff.data.digest_set import DigestSet
from tuneoff.data.example import Dataset, DroppedRow, Example, Split
from tuneoff.data.source_table import SourceRow, SourceTable, UnreadableRow, way_out_of
from tuneoff.errors import UserError

DUPLICATE = "duplicate pair"
IN_ANOTHER_SPLIT = "document is in {split} too"
# Of a file. If more of its rows cannot be read, the others are not a sample of it: they are the rows without an accent,
# a comma, or whatever the fault is.
LARGEST_UNREADABLE_FRACTION = 0.1
LOCATIONS_TO_LIST = 3


class Cleaner:
    """Cleans the splits in the order test, validation, train. A document of two splits stays in the one read first."""

    def __init__(self) -> None:
        self.dropped: list[DroppedRow] = []
        self._groups: dict[Split, DigestSet] = {}

    def read(self, split: Split, parts: Sequence[FoundColumns]) -> Iterator[Example]:
        """Yield the clean examples of one split, which may have several tables.

        Ids are made unique within it: a second `x` becomes `x-2`. Raises `UserError` at a malformed row, such as a line
        that is not JSON, and after the last row of a table that lost more than `LARGEST_UNREADABLE_FRACTION` of its
        rows, and more than one row.
        """
        groups_elsewhere = dict(self._groups)
        groups = self._groups[split] = DigestSet()
        pairs = DigestSet()
        ids = _UniqueIds()
        for location, example, empty_references in self._examples(split, parts):
            group = _group_digest(example)
            other = next((name for name, found in groups_elsewhere.items() if group in found), None)
            if other is not None:
                self._report(split, location, IN_ANOTHER_SPLIT.format(split=other))
                continue
            if not pairs.add(_pair_digest(example)):
                # A test split may be a public benchmark: its duplicates are reported but kept.
                self._report(split, location, DUPLICATE, kept=split == "test")
                if split != "test":
                    continue
            if empty_references:
                self._report(split, location, "some of its summaries are empty, the others are used", kept=True)
            if split != "train":  # train is read last, so no later split looks up its documents
                groups.add(group)
            yield ids.with_unique_id(example)

    def _examples(self, split: Split, parts: Sequence[FoundColumns]) -> Iterator[tuple[str, Example, int]]:
        """The rows that make an example: location, example, number of empty references."""
        for part in parts:
            lost = _LostRows(part.table)
            for row in part.table.rows:
                location = part.table.location(row.number)
                if isinstance(row, UnreadableRow) and row.is_malformed:
                    raise UserError(f"{location}: {row.reason}; {way_out_of(row.reason)}")
                result = to_example(row, part.columns, split)
                lost.count(location, result)
                if isinstance(result, RejectedRow):
                    self._report(split, location, result.reason)
                    continue
                if isinstance(row, SourceRow) and row.note is not None:
                    self._report(split, location, row.note, kept=True)
                yield location, *result
            lost.check()

    def _report(self, split: Split, location: str, reason: str, kept: bool = False) -> None:
        self.dropped.append(DroppedRow(split, location, reason, kept))


class _LostRows:
    """Counts the rows of one table that cannot be read."""

    def __init__(self, table: SourceTable) -> None:
        self._name = table.name
        self._rows = 0
        self._reasons: Counter[str] = Counter()
        self._first: str | None = None

    def count(self, location: str, result: object) -> None:
        self._rows += 1
        if isinstance(result, RejectedRow) and result.unreadable:
            self._reasons[result.reason] += 1
            self._first = self._first or location

    def check(self) -> None:
        lost = self._reasons.total()
        if lost > 1 and lost > LARGEST_UNREADABLE_FRACTION * self._rows:
            reason, _ = self._reasons.most_common(1)[0]
            raise UserError(
                f"{self._name}: {lost} of {self._rows} rows cannot be read, most often because of: {reason} (first "
                f"{self._first}); {way_out_of(reason)}"
            )


def _pair_digest(example: Example) -> bytes:
    """Equal for the same document, summaries and fields, up to white space.

    Fields are part of it because an instruction may use them: two questions on one document may both have the answer
    "yes".
    """
    references = [" ".join(reference.split()) for reference in example.references]
    text = json.dumps([example.group, references, sorted(example.fields.items())])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _group_digest(example: Example) -> bytes:
    return bytes.fromhex(example.group).ljust(16, b"\1")


class _UniqueIds:
    """The ids of one split so far. It counts how often each id came, so that many equal ids need no long search."""

    def __init__(self) -> None:
        self._taken = DigestSet()
        self._last_suffix: dict[str, int] = {}

    def with_unique_id(self, example: Example) -> Example:
        """The example itself, or a copy with a numbered id if its id is taken."""
        if self._taken.add(_id_digest(example.id)):
            return example
        while True:
            self._last_suffix[example.id] = self._last_suffix.get(example.id, 1) + 1
            candidate = f"{example.id}-{self._last_suffix[example.id]}"
            if self._taken.add(_id_digest(candidate)):
                return replace(example, id=candidate)


def _id_digest(identity: str) -> bytes:
    return hashlib.blake2b(identity.encode(), digest_size=16).digest()


def cleaning_report(dataset: Dataset) -> list[str]:
    """One line for each split and reason: the number of rows, whether they were dropped, and the first locations."""
    locations: dict[tuple[Split, str, bool], list[str]] = {}
    for row in dataset.dropped:
        locations.setdefault((row.split, row.reason, row.kept), []).append(row.location)
    order: tuple[Split, ...] = ("train", "validation", "test")
    lines = []
    for split in order:
        for (row_split, reason, kept), found in locations.items():
            if row_split != split:
                continue
            listed = ", ".join(found[:LOCATIONS_TO_LIST]) + (", ..." if len(found) > LOCATIONS_TO_LIST else "")
            lines.append(f"{split}: {_row_count(len(found))} {'kept' if kept else 'dropped'}, {reason} ({listed})")
        if over_limit := dataset.over_limit.get(split, 0):
            lines.append(f"{split}: {_row_count(over_limit)} left out, beyond the requested number of documents")
    return lines


def _row_count(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
