"""Cleaning: every row becomes an example or a `DroppedRow` with its location and a reason."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace

from tuneoff.data.columns import Columns, RejectedRow, to_example
from tuneoff.data.digest_set import DigestSet
from tuneoff.data.example import Dataset, DroppedRow, Example, Split
from tuneoff.data.source_table import SourceTable

DUPLICATE = "duplicate pair"
LOCATIONS_TO_LIST = 3


class Cleaner:
    """Cleans the splits in the order test, validation, train. A document of two splits stays in the one read first."""

    def __init__(self) -> None:
        self.dropped: list[DroppedRow] = []
        self._groups: dict[Split, DigestSet] = {}

    def read(self, split: Split, table: SourceTable, columns: Columns) -> Iterator[Example]:
        """Yield the clean examples of one split. Ids are made unique within it: a second `x` becomes `x-2`."""
        groups_elsewhere = dict(self._groups)
        groups = self._groups[split] = DigestSet()
        pairs = DigestSet()
        ids = _UniqueIds()
        for row in table.rows:
            location = table.location(row.number)
            result = to_example(row, columns, split)
            if isinstance(result, RejectedRow):
                self._report(split, location, result.reason)
                continue
            example, empty_references = result
            group = _group_digest(example)
            other = next((name for name, found in groups_elsewhere.items() if group in found), None)
            if other is not None:
                self._report(split, location, f"document is in {other} too")
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

    def _report(self, split: Split, location: str, reason: str, kept: bool = False) -> None:
        self.dropped.append(DroppedRow(split, location, reason, kept))


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
