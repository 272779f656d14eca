"""Texts in, scores out. Imports no torch; `METRICS` gives every score its unit and direction."""

from collections.abc import Iterable, Mapping, Sequence
from math import fsum

from tuneoff.metrics import text as _text
from tuneoff.metrics.extractive import lead, oracle_sentence
from tuneoff.metrics.rouge import RougeDialect, rouge, signature
from tuneoff.metrics.sentences import sentences
from tuneoff.metrics.registry import METRICS, Metric
from tuneoff.metrics.rouge_coverage import Unread, unread

__all__ = [
    "METRICS",
    "Metric",
    "RougeDialect",
    "Unread",
    "lead",
    "means",
    "oracle_sentence",
    "rouge",
    "score",
    "sentences",
    "signature",
    "unread",
]

_DEFAULT_DIALECT = RougeDialect()


def score(
    text: str,
    document: str,
    references: Sequence[str],
    dialect: RougeDialect = _DEFAULT_DIALECT,
    *,
    stopped: bool | None = None,
) -> dict[str, float | None]:
    """Every metric of `METRICS` for one text, in its unit; None where it is undefined.

    `document` is what the text was written from, uncut. `stopped` says whether the model ended the text itself; None
    where nobody knows. Raises `ValueError` without a reference.
    """
    own = _text.words(text)
    source = _text.words(document)
    return {
        **rouge(text, references, dialect),
        "length": float(len(own)),
        "novelty": _text.novelty(own, source),
        "copy_rate": _text.copy_rate(own, source),
        "repetition": _text.repetition(own),
        "unsupported_numbers": _text.unsupported_numbers(text, document),
        "unsupported_names": _text.unsupported_names(text, document),
        "empty": float(not text.strip()),
        "unstopped": None if stopped is None else float(not stopped),
    }


def means(rows: Iterable[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean of every metric over the rows that have a value for it; None where no row has one.

    The means of `empty` and `unstopped` are the shares of empty and of cut outputs.
    """
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {name: fsum(found) / len(found) if found else None for name, found in values.items()}
