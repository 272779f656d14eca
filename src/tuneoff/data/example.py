"""The types of a data set: `Example`, `DroppedRow`, `Dataset`."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Example:
    """One document and its references. Examples with the same document share a `group`."""

    id: str
    document: str
    references: tuple[str, ...]
    group: str
    fields: Mapping[str, str] = field(default_factory=dict)  # other columns, for the instruction template


@dataclass(frozen=True)
class DroppedRow:
    """One row that cleaning reports. It was left out unless `kept` is true (such as a duplicate in the test split)."""

    split: Split
    location: str  # file and line, or data set and row
    reason: str
    kept: bool = False


@dataclass(frozen=True)
class ColumnsTaken:
    """What the columns of one split were taken for. Several summary columns are several references."""

    document: str
    summary: tuple[str, ...]
    fields: tuple[str, ...]  # the other columns that instructions can name
    passed_over: tuple[str, ...]  # of the fields, those with a usual name for a document or a summary
    added_to_document: str | None = None  # a column whose text, if there is one, follows that of the document


@dataclass(frozen=True)
class Dataset:
    """Three splits after cleaning. No group is in two splits. Examples are read from disk when they are used."""

    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]
    dropped: tuple[DroppedRow, ...]
    content_hash: str  # 16 hex digits over ids, texts, fields and splits
    description: str  # one line for people: name, counts, source
    over_limit: Mapping[Split, int] = field(default_factory=dict)  # clean rows beyond `max_*_documents`
    columns: Mapping[Split, ColumnsTaken] = field(default_factory=dict)  # of the splits that have a table of their own
    cautions: tuple[str, ...] = ()  # what was found while reading and may not be what the user wants, as sentences


def group_id(document: str) -> str:
    """16 hex digits of the SHA-256 of a document's text. Runs of white space count as one space."""
    return hashlib.sha256(" ".join(document.split()).encode()).hexdigest()[:16]
