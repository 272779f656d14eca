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
class Dataset:
    """Three splits after cleaning. No group is in two splits. Examples are read from disk when they are used."""

    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]
    dropped: tuple[DroppedRow, ...]
    content_hash: str  # 16 hex digits over ids, texts, fields and splits
    description: str  # one line for people: name, counts, source
    over_limit: Mapping[Split, int] = field(default_factory=dict)  # clean rows beyond `max_*_documents`


def group_id(document: str) -> str:
    """16 hex digits of the SHA-256 of a document's text. Runs of white space count as one space."""
    return hashlib.sha256(" ".join(document.split()).encode()).hexdigest()[:16]
