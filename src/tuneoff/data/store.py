"""Examples on disk: written once in the order of reading, read when somebody asks for them.

A row is a line of JSON: id, document, references, fields. What choices of documents need (groups, sizes) is held in
memory, 24 bytes an example.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from tuneoff.cache import Keeper
from tuneoff.data.example import Example, Split

if TYPE_CHECKING:
    import numpy.typing as npt

    Places = npt.NDArray[np.int64]
    Groups = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Rows:
    """All rows of a data set. `ends` (N + 1,) are the places in the body between rows."""

    read: Callable[[int, int], bytes]
    ends: Places
    groups: Groups

    def line(self, place: int) -> bytes:
        """One row as it was written."""
        start, end = int(self.ends[place]), int(self.ends[place + 1])
        return self.read(start, end - start)

    def example(self, place: int) -> Example:
        """One row as an example."""
        identity, document, references, fields = json.loads(self.line(place))
        return Example(identity, document, tuple(references), f"{int(self.groups[place]):016x}", dict(fields))


class RowWriter:
    """Adds examples to a file that is being made."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._ends = array("q", [0])
        self._groups = array("Q")

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, example: Example) -> None:
        """Write one example after the others."""
        row = [example.id, example.document, example.references, list(example.fields.items())]
        self._keeper.append(json.dumps(row, ensure_ascii=False).encode())
        self._ends.append(self._keeper.body_bytes)
        self._groups.append(int(example.group, 16))

    def rows(self) -> Rows:
        """What was added so far; readable until the file is finished."""
        ends, groups = np.array(self._ends, dtype=np.int64), np.array(self._groups, dtype=np.uint64)
        return Rows(self._keeper.read, ends, groups)


class Examples(Sequence[Example]):
    """Examples that are read from the disk one by one. Lengths, groups and selections read none."""

    def __init__(self, rows: Rows, places: Places, name: Sequence[str] = (), whole: Places | None = None) -> None:
        """`places`: rows, ascending in a whole split; not to be changed. `name`: content of the data and split, which
        say what the rows of `whole` are, the split that these were selected from."""
        self._rows, self.places, self._name = rows, places, tuple(name)
        self._whole = places if whole is None else whole

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, at: int) -> Example: ...
    @overload
    def __getitem__(self, at: slice) -> Examples: ...
    def __getitem__(self, at: int | slice) -> Example | Examples:
        if isinstance(at, slice):
            return self._with(self.places[at])
        return self._rows.example(int(self.places[at]))

    def __iter__(self) -> Iterator[Example]:
        for place in self.places:
            yield self._rows.example(int(place))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} examples>"

    def _with(self, places: Places) -> Examples:
        return Examples(self._rows, np.ascontiguousarray(places), self._name, self._whole)

    def select(self, at: Places) -> Examples:
        """The examples at these positions, in their order."""
        return self._with(self.places[at])

    @property
    def groups(self) -> Groups:
        """The group of each example: its 16 hex digits as a number."""
        return self._rows.groups[self.places]

    @property
    def text_bytes(self) -> int:
        """About as many bytes as the texts have."""
        ends = self._rows.ends
        return int((ends[self.places + 1] - ends[self.places]).sum())

    @property
    def whole(self) -> Examples:
        """The split that these examples were selected from."""
        return Examples(self._rows, self._whole, self._name)

    @property
    def within(self) -> Places:
        """The positions of these examples in `whole`."""
        return np.searchsorted(self._whole, self.places)

    @property
    def content(self) -> list[str] | None:
        """Equal for the same examples in the same order, in any process; None when that is not known."""
        if not self._name:
            return None
        same = len(self) == len(self._whole) and bool((self.places == self._whole).all())
        chosen = "all" if same else hashlib.sha256(self.within.tobytes()).hexdigest()
        return [*self._name, chosen]

    def lines(self) -> Iterator[bytes]:
        """The rows as they were written."""
        for place in self.places:
            yield self._rows.line(int(place))


def content_hash(splits: Mapping[Split, Examples]) -> str:
    """16 hex digits of the SHA-256 over splits, ids, texts and fields, in their order."""
    digest = hashlib.sha256()
    for split, examples in splits.items():
        start = f"[{json.dumps(split)}, ".encode()
        for line in examples.lines():
            # The hash takes fields in alphabetical order. These bytes stand between two fields and in no text, where
            # a quotation mark has a backslash before it.
            known = _sorted(line) if b'"], ["' in line else line
            digest.update(start + known[1:] + b"\n")
    return digest.hexdigest()[:16]


def _sorted(line: bytes) -> bytes:
    row: list[Any] = json.loads(line)
    return json.dumps([*row[:3], sorted(row[3])], ensure_ascii=False).encode()
