"""Cleaning while reading: every row becomes an example or a `Dropped` with its place and reason."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace

from tuneoff.data.columns import Columns, Rejected, rows_of, to_example
from tuneoff.data.example import Dataset, Dropped, Example, Split
from tuneoff.data.keys import Keys
from tuneoff.data.table import Table

DUPLICATE = "duplicate pair"
PLACES_TO_NAME = 3


class Cleaner:
    """Reads the splits in the order test, validation, train, so that a document found twice stays in the later one."""

    def __init__(self) -> None:
        self.dropped: list[Dropped] = []
        self._groups: dict[Split, Keys] = {}

    def read(self, split: Split, table: Table, columns: Columns) -> Iterator[Example]:
        """The good rows of one split. Ids are unique within it: a second `x` becomes `x-2`."""
        elsewhere = dict(self._groups)
        groups = self._groups[split] = Keys()
        pairs = Keys()
        ids = _Ids()
        for where, row in rows_of(table):
            made = to_example(row, columns, split)
            if isinstance(made, Rejected):
                self._report(split, where, made.reason)
                continue
            example, empty = made
            document = _group_key(example)
            other = next((name for name, found in elsewhere.items() if document in found), None)
            if other is not None:
                self._report(split, where, f"document stands in {other} too")
                continue
            if not pairs.add(_pair_digest(example)):
                # The test split is other people's yardstick: what it repeats is told, not changed.
                self._report(split, where, DUPLICATE, kept=split == "test")
                if split != "test":
                    continue
            if empty:
                self._report(split, where, "some of its summaries are empty, the others are used", kept=True)
            if split != "train":  # which is read last: nobody will ask for its documents
                groups.add(document)
            yield ids.unique(example)

    def _report(self, split: Split, where: str, reason: str, kept: bool = False) -> None:
        self.dropped.append(Dropped(split, where, reason, kept))


def _pair_digest(example: Example) -> bytes:
    """Equal for the same document, summaries and fields up to white space. Fields count because an instruction may
    ask about them: two questions on one document may both have the answer "yes"."""
    references = [" ".join(reference.split()) for reference in example.references]
    text = json.dumps([example.group, references, sorted(example.fields.items())])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _group_key(example: Example) -> bytes:
    return bytes.fromhex(example.group).ljust(16, b"\1")


class _Ids:
    """The ids of a split so far, and how often those were asked for that came again: a thousand equal ids cost no
    thousand searches each."""

    def __init__(self) -> None:
        self._taken = Keys()
        self._asked: dict[str, int] = {}

    def unique(self, example: Example) -> Example:
        """The example, with another id when its own is taken."""
        if self._taken.add(_id_digest(example.id)):
            return example
        while True:
            self._asked[example.id] = self._asked.get(example.id, 1) + 1
            candidate = f"{example.id}-{self._asked[example.id]}"
            if self._taken.add(_id_digest(candidate)):
                return replace(example, id=candidate)


def _id_digest(identity: str) -> bytes:
    return hashlib.blake2b(identity.encode(), digest_size=16).digest()


def cleaning_report(dataset: Dataset) -> list[str]:
    """One line for each split and reason: how many rows, what was done with them, and where the first ones stand."""
    places: dict[tuple[Split, str, bool], list[str]] = {}
    for row in dataset.dropped:
        places.setdefault((row.split, row.reason, row.kept), []).append(row.where)
    order: tuple[Split, ...] = ("train", "validation", "test")
    lines = []
    for split in order:
        for (of, reason, kept), where in places.items():
            if of != split:
                continue
            named = ", ".join(where[:PLACES_TO_NAME]) + (", ..." if len(where) > PLACES_TO_NAME else "")
            lines.append(f"{split}: {_rows(len(where))} {'kept' if kept else 'dropped'}, {reason} ({named})")
        if left_out := dataset.left_out.get(split, 0):
            lines.append(f"{split}: {_rows(left_out)} left out, beyond the number of documents asked for")
    return lines


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
