"""What a run wrote, without the texts: what a verdict needs of many runs at once."""

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tuneoff.results.run_record import Prediction

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class RunOutputs:
    """The outputs of one run: 8 bytes a score and 9 a text. N outputs."""

    ids: tuple[str, ...]
    """Of the documents."""
    columns: "Mapping[str, npt.NDArray[np.float64]]"
    """Metric -> (N,) scores; NaN where there is none."""
    digests: "npt.NDArray[np.uint64]"
    """(N,) equal for equal texts; of outputs whose text was not kept, for equal tokens and scores."""
    has_text: "npt.NDArray[np.bool_]"
    """(N,) whether the text is there and not empty."""

    @classmethod
    def of(cls, predictions: Iterable[Prediction]) -> "RunOutputs":
        """The outputs in `predictions`."""
        rows = list(predictions)
        names = dict.fromkeys(name for row in rows for name in row.scores)
        return cls(
            tuple(row.id for row in rows),
            {name: np.array([_number(row.scores.get(name)) for row in rows], dtype=np.float64) for name in names},
            np.array([_digest(row) for row in rows], dtype=np.uint64),
            np.array([bool(row.text) for row in rows], dtype=np.bool_),
        )

    @classmethod
    def joined(cls, parts: "Sequence[RunOutputs]") -> "RunOutputs":
        """The outputs of several runs on different documents as one."""
        if len(parts) == 1:
            return parts[0]
        names = dict.fromkeys(name for part in parts for name in part.columns)
        return cls(
            tuple(key for part in parts for key in part.ids),
            {
                name: np.concatenate([part.columns.get(name, np.full(len(part), np.nan)) for part in parts])
                for name in names
            },
            np.concatenate([part.digests for part in parts]),
            np.concatenate([part.has_text for part in parts]),
        )

    def of_documents(self, documents: Collection[str]) -> "RunOutputs":
        """The outputs for these documents alone."""
        kept = np.array([key in documents for key in self.ids], dtype=np.bool_)
        if kept.all():
            return self
        return RunOutputs(
            tuple(key for key in self.ids if key in documents),
            {name: column[kept] for name, column in self.columns.items()},
            self.digests[kept],
            self.has_text[kept],
        )

    def __len__(self) -> int:
        return len(self.ids)

    def scores(self, metric: str) -> dict[str, float | None]:
        """The scores by document id. None is a missing score."""
        column = self.columns.get(metric)
        if column is None:
            return dict.fromkeys(self.ids)
        values = column.tolist()
        return {key: None if math.isnan(value) else value for key, value in zip(self.ids, values, strict=True)}

    def known(self, metric: str) -> list[float]:
        """The scores that are not missing."""
        column = self.columns.get(metric)
        return [] if column is None else column[~np.isnan(column)].tolist()

    def by_document(self) -> dict[str, int]:
        """The digests by document id."""
        return dict(zip(self.ids, self.digests.tolist(), strict=True))

    def repeats(self, other: "RunOutputs") -> bool:
        """Whether every output is that of `other` for the same document."""
        if self.ids == other.ids:
            return bool((self.digests == other.digests).all())
        elsewhere = other.by_document()
        return all(elsewhere.get(key) == digest for key, digest in self.by_document().items())

    def fingerprint(self) -> bytes:
        """Equal for the same outputs of the same documents, in any order; empty without outputs."""
        return b"".join(f"{key}\0{digest};".encode() for key, digest in sorted(self.by_document().items()))


def _number(value: float | None) -> float:
    return math.nan if value is None or not math.isfinite(value) else value


def _digest(row: Prediction) -> int:
    content = row.text or repr((row.tokens, sorted(row.scores.items())))
    digest = hashlib.blake2b(content.encode(errors="surrogatepass"), digest_size=8, person=b"text" if row.text else b"")
    return int.from_bytes(digest.digest())
