"""Which columns hold documents and wanted texts, by what is in them, where no name says it: a guess.

The documents are the longest texts. The wanted texts are the only other column with a name such as `title`, else the
only other column of texts of several words that differ from row to row. Where there are several, nothing is guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tuneoff.data.columns import DOCUMENT_NAMES, first_rows, looks_like_a_cell, usual_column, usual_summaries
from tuneoff.data.load import open_tables
from tuneoff.data.source_table import SourceRow
from tuneoff.spec import DataSpec

# Names of columns that say what is wanted, but not always, and what to call it.
WANTED_NAMES = {
    "title": "title", "headline": "headline", "subject": "subject line", "subject_line": "subject line",
    "question": "question", "answer": "answer", "answers": "answer", "reply": "reply", "label": "label",
    "keywords": "list of keywords", "abstract": "abstract",
}  # fmt: skip
_DOCUMENTS_TOO = {"question", "abstract"}  # of them
_MOSTLY = 0.9  # of the rows have a text
_DIFFERENT = 0.5  # of the texts are different
_FEWEST_WORDS = 2


@dataclass(frozen=True)
class LikelyColumns:
    """What is guessed of a table; None: nothing, because it is named or because it is not clear."""

    document: str | None = None
    summary: str | None = None
    by_name: bool = False
    """Whether it is the name of `summary` that says it."""


def likely_columns(spec: DataSpec) -> LikelyColumns:
    """The columns of the training data that neither the spec nor a usual name says. Raises `UserError` as reading does.

    A hub data set is not looked at.
    """
    if spec.source is not None and not Path(spec.source).exists():
        return LikelyColumns()
    tables = open_tables(spec)[1]["train"]
    rows = [row for row in first_rows(tables[0]) if isinstance(row, SourceRow)]
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    named_document = spec.document_column or usual_column(names, DOCUMENT_NAMES)
    named_summary = (spec.summary_column,) if spec.summary_column else usual_summaries(names)
    if named_document is not None and named_summary:
        return LikelyColumns()
    if any(looks_like_a_cell(name, [row.values.get(name) for row in rows]) for name in names):
        return LikelyColumns()  # there is no line with the names of the columns
    taken = {named_document, *named_summary}
    texts = {name: found for name in names if name not in taken and (found := _texts(rows, name)) is not None}
    by_length = sorted(texts, key=lambda name: median(map(len, texts[name])))
    possible = [name for name in by_length if wanted_name(name) not in WANTED_NAMES.keys() - _DOCUMENTS_TOO]
    document = possible[-1] if named_document is None and possible else None
    if named_document is None and document is None:
        return LikelyColumns()
    if named_summary:
        return LikelyColumns(document)
    not_document = [name for name in names if name not in (document, named_document)]
    by_name = [name for name in not_document if wanted_name(name) in WANTED_NAMES]
    if len(by_name) == 1:
        return LikelyColumns(document, by_name[0], by_name=True)
    others = [name for name in by_length if name != document]
    return LikelyColumns(document, others[0]) if len(others) == 1 and not by_name else LikelyColumns()


def wanted_name(column: str) -> str:
    """The name of a column as `WANTED_NAMES` has it."""
    return column.strip().lower().replace(" ", "_")


def _texts(rows: Sequence[SourceRow], name: str) -> list[str] | None:
    """The texts of a column, if it is one of texts of several words, most of which are different."""
    texts = [value.strip() for row in rows if isinstance(value := row.values.get(name), str) and value.strip()]
    if len(texts) < _MOSTLY * len(rows) or median(map(_words, texts)) < _FEWEST_WORDS:
        return None
    return texts if len(set(texts)) >= _DIFFERENT * len(texts) else None


def _words(text: str) -> float:
    """The number of words; in a script without spaces, about that."""
    return len(text.split()) if text.isascii() else max(len(text.split()), len(text) / 6)
