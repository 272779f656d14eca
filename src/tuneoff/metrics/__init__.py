"""Scores of generated texts. Imports no torch. `METRICS` gives every score its unit and direction."""

from collections.abc import Iterable, Mapping, Sequence
from math import fsum

from tuneoff.metrics import reference_free
from tuneoff.metrics.extractive import lead, oracle_sentence
from tuneoff.metrics.registry import METRICS, Metric, score_by_other_packages
from tuneoff.metrics.rouge import ROUGE_NAMES, RougeDialect, rouge, rouge_signature
from tuneoff.metrics.rouge_coverage import RougeCoverage, rouge_coverage
from tuneoff.metrics.sentences import split_sentences

__all__ = [
    "METRICS",
    "ROUGE_NAMES",
    "Metric",
    "RougeCoverage",
    "RougeDialect",
    "lead",
    "means",
    "oracle_sentence",
    "rouge",
    "rouge_coverage",
    "rouge_signature",
    "score",
    "split_sentences",
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
    """Compute every metric of `METRICS` for one text, in its unit. An undefined value is None.

    `document` is the whole source document, not truncated. `stopped` is whether the model ended the text itself; None
    if that is not known. Raises `ValueError` if there is no reference, and `UserError` if a metric of another package
    fails.
    """
    text_words = reference_free.split_words(text)
    document_words = reference_free.split_words(document)
    return {
        **rouge(text, references, dialect),
        "length": float(len(text_words)),
        "novelty": reference_free.novelty(text_words, document_words),
        "copy_rate": reference_free.copy_rate(text_words, document_words),
        "repetition": reference_free.repetition(text_words),
        "unsupported_numbers": reference_free.unsupported_numbers(text, document),
        "unsupported_names": reference_free.unsupported_names(text, document),
        "empty": float(not text.strip()),
        "unstopped": None if stopped is None else float(not stopped),
        **score_by_other_packages(text, document, references),
    }


def means(rows: Iterable[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean of every metric over the rows that have a value for it; None if no row has one.

    The means of `empty` and `unstopped` are the fractions of empty and of truncated outputs.
    """
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {name: fsum(found) / len(found) if found else None for name, found in values.items()}
