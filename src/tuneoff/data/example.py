"""The noun that every room speaks of: one document with the texts that people wrote for it."""

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
class Dropped:
    """One row that was left out, or, when `kept`, used and only reported (a duplicate in the test split)."""

    split: Split
    where: str  # file and line, or data set and row
    reason: str
    kept: bool = False


@dataclass(frozen=True)
class Dataset:
    """Three splits after cleaning, read from the disk as they are used. No group stands in two splits."""

    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]
    dropped: tuple[Dropped, ...]
    content_hash: str  # 16 hex digits over ids, texts, fields and splits
    description: str  # one line for people: name, counts, source
    left_out: Mapping[Split, int] = field(default_factory=dict)  # good rows beyond `max_*_documents`


def group_of(document: str) -> str:
    """16 hex digits of the SHA-256 of the document's text with white space folded."""
    return hashlib.sha256(" ".join(document.split()).encode()).hexdigest()[:16]
