"""Examples on disk: written once in the order of reading, and read one by one when they are used.

Each row is a line of JSON with id, document, references and fields. Groups and sizes, which choices of documents need,
are in memory: 24 bytes an example.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from tuneoff.cache import CacheWriter
from tuneoff.data.example import Example, Split

if TYPE_CHECKING:
    import numpy.typing as npt

    Indices = npt.NDArray[np.int64]
    Groups = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class StoredRows:
    """All rows of a data set. Row i is the bytes `ends[i]` to `ends[i + 1]` of the file's body; `ends` is (N + 1,)."""

    read: Callable[[int, int], bytes]
    ends: Indices
    groups: Groups

    def line(self, index: int) -> bytes:
        """One row as it was written."""
        start, end = int(self.ends[index]), int(self.ends[index + 1])
        return self.read(start, end - start)

    def example(self, index: int) -> Example:
        """One row as an example."""
        identity, document, references, fields = json.loads(self.line(index))
        return Example(identity, document, tuple(references), f"{int(self.groups[index]):016x}", dict(fields))


class ExampleWriter:
    """Appends examples to a cache file that is being written."""

    def __init__(self, cache_writer: CacheWriter) -> None:
        self._cache_writer = cache_writer
        self._ends = array("q", [0])
        self._groups = array("Q")

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, example: Example) -> None:
        """Append one example."""
        row = [example.id, example.document, example.references, list(example.fields.items())]
        self._cache_writer.append(json.dumps(row, ensure_ascii=False).encode())
        self._ends.append(self._cache_writer.body_bytes)
        self._groups.append(int(example.group, 16))

    def rows(self) -> StoredRows:
        """The rows added so far. They can be read until the file is finished."""
        ends, groups = np.array(self._ends, dtype=np.int64), np.array(self._groups, dtype=np.uint64)
        return StoredRows(self._cache_writer.read, ends, groups)


class StoredExamples(Sequence[Example]):
    """A split, or a part of one, whose examples are read from disk one by one.

    Lengths, groups and selections read no example.
    """

    def __init__(
        self, rows: StoredRows, indices: Indices, name: Sequence[str] = (), split_indices: Indices | None = None
    ) -> None:
        """`indices` are the rows of these examples, and `split_indices` those of the split that they were selected from
        (by default the same). Both are ascending and must not be changed. `name` identifies the split: the content hash
        of the data and the name of the split.
        """
        self._rows, self.indices, self._name = rows, indices, tuple(name)
        self._split_indices = indices if split_indices is None else split_indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, at: int) -> Example: ...
    @overload
    def __getitem__(self, at: slice) -> StoredExamples: ...
    def __getitem__(self, at: int | slice) -> Example | StoredExamples:
        if isinstance(at, slice):
            return self._with(self.indices[at])
        return self._rows.example(int(self.indices[at]))

    def __iter__(self) -> Iterator[Example]:
        for index in self.indices:
            yield self._rows.example(int(index))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} examples>"

    def _with(self, indices: Indices) -> StoredExamples:
        return StoredExamples(self._rows, np.ascontiguousarray(indices), self._name, self._split_indices)

    def select(self, positions: Indices) -> StoredExamples:
        """The examples at these positions, in the given order."""
        return self._with(self.indices[positions])

    @property
    def groups(self) -> Groups:
        """The group of each example (N,): its 16 hex digits as a number."""
        return self._rows.groups[self.indices]

    @property
    def text_bytes(self) -> int:
        """Size of the rows on disk in bytes: about the size of their texts."""
        ends = self._rows.ends
        return int((ends[self.indices + 1] - ends[self.indices]).sum())

    @property
    def full_split(self) -> StoredExamples:
        """The split that these examples were selected from."""
        return StoredExamples(self._rows, self._split_indices, self._name)

    @property
    def positions_in_split(self) -> Indices:
        """The positions of these examples in `full_split`."""
        return np.searchsorted(self._split_indices, self.indices)

    @property
    def content_key(self) -> list[str] | None:
        """Equal for the same examples in the same order, in any process; None if their split has no name."""
        if not self._name:
            return None
        is_full = len(self) == len(self._split_indices) and bool((self.indices == self._split_indices).all())
        selection = "all" if is_full else hashlib.sha256(self.positions_in_split.tobytes()).hexdigest()
        return [*self._name, selection]

    def lines(self) -> Iterator[bytes]:
        """The rows as they were written."""
        for index in self.indices:
            yield self._rows.line(int(index))


def dataset_hash(splits: Mapping[Split, StoredExamples]) -> str:
    """16 hex digits of the SHA-256 over splits, ids, texts and fields, in their order."""
    digest = hashlib.sha256()
    for split, examples in splits.items():
        start = f"[{json.dumps(split)}, ".encode()
        for line in examples.lines():
            # The hash takes fields in alphabetical order. These bytes occur only between two fields: within a text,
            # JSON puts a backslash before a quotation mark.
            canonical = _with_sorted_fields(line) if b'"], ["' in line else line
            digest.update(start + canonical[1:] + b"\n")
    return digest.hexdigest()[:16]


def _with_sorted_fields(line: bytes) -> bytes:
    row: list[Any] = json.loads(line)
    return json.dumps([*row[:3], sorted(row[3])], ensure_ascii=False).encode()
