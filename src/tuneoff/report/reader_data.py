"""The data of the page's reader: documents, and the texts and scores of every system.

A page must open anywhere, so its texts are limited to `MOST_BYTES`. Of a larger study, it shows evenly spaced documents
and, where hundreds of runs leave room for few of them, the first seeds of each method.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuneoff.metrics.registry import METRICS
from tuneoff.report import formatting
from tuneoff.report.escaping import embedded_json
from tuneoff.report.table import style_of
from tuneoff.report.theme import MethodStyles
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import Document, Prediction
from tuneoff.results.study_dir import StoredStudy
from tuneoff.results.summary import ComparisonRow, Summary

MOST_BYTES = 5_000_000
# Seeds are left out until so many documents fit.
_WANTED_DOCUMENTS = 300


@dataclass(frozen=True)
class ReaderData:
    """The reader's JSON. `left_out` says what of the study it does not have; None if it has everything."""

    content: dict[str, Any]
    left_out: str | None = None


def reader_data(summary: Summary, study: StoredStudy, styles: MethodStyles) -> ReaderData:
    """The documents, and the text and scores of every system by position. Empty without texts."""
    documents = study.documents
    if not any(one.document for one in documents):  # with --no-texts only ids and groups are stored
        return ReaderData({"documents": [], "systems": [], "metrics": [], "primary": None})
    systems = [_System(row, study) for row in summary.rows]
    systems = [system for system in systems if system.count]
    metrics = _metrics(systems)
    shown, seeds = _what_fits(documents, systems, metrics)
    records = {run.name: run.record for run in study.runs}
    listed = []
    for system in systems:
        style = style_of(system.row, records, styles)
        listed.append(
            {
                "label": styles.label(system.row.title, system.row.model),
                "kind": system.row.kind,
                "hue": style.hue if style else None,
                "glyph": style.glyph if style else "○",
                "outputs": [
                    {"seed": seed, "texts": _texts(shown, system.predictions(index), metrics)}
                    for index, seed in enumerate(system.seeds[:seeds])
                ],
            }
        )
    content = {
        "documents": [_document(one) for one in shown],
        "systems": listed,
        "metrics": [
            {
                "title": formatting.metric_title(name),
                "digits": METRICS[name].digits if name in METRICS else 2,
                "higher_is_better": METRICS[name].higher_is_better if name in METRICS else None,
            }
            for name in metrics
        ],
        "primary": metrics.index(summary.primary_metric) if summary.primary_metric in metrics else 0,
    }
    return ReaderData(content, _left_out(len(shown), len(documents), seeds, max(len(one.seeds) for one in systems)))


class _System:
    """One row of the comparison, with what it wrote. The texts of a method's runs are read when they are used."""

    def __init__(self, row: ComparisonRow, study: StoredStudy) -> None:
        self.row = row
        self._runs: list[StoredRun] = []
        self._other: Sequence[Prediction] = ()
        if row.kind == "method":
            found = (study.run(name) for name in row.runs)
            self._runs = [run for run in found if run is not None and len(run.outputs)]
            self.seeds = [run.record.spec.seed for run in self._runs]
        else:
            others = study.baselines if row.kind == "extractive" else study.outside
            self._other = others.get(row.name, ())
            self.seeds = [0] if self._other else []
        self.count = len(self.seeds)

    def predictions(self, index: int) -> Sequence[Prediction]:
        """What the run of the seed number `index` wrote."""
        return self._runs[index].predictions if self._runs else self._other

    def metrics(self) -> list[str]:
        """Names of its scores."""
        if self._runs:
            return [name for run in self._runs for name in run.outputs.columns]
        return [name for prediction in self._other for name in prediction.scores]


def _metrics(systems: Sequence[_System]) -> list[str]:
    present = dict.fromkeys(name for system in systems for name in system.metrics())
    return [name for name in METRICS if name in present] + [name for name in present if name not in METRICS]


def _document(one: Document) -> dict[str, Any]:
    return {"id": one.id, "text": one.document, "references": one.references, "fields": one.fields}


def _texts(documents: Sequence[Document], predictions: Sequence[Prediction], metrics: Sequence[str]) -> list[Any]:
    """Text and scores for each document; None where there is no text."""
    by_id = {prediction.id: prediction for prediction in predictions if not prediction.text_withheld}
    found = (by_id.get(document.id) for document in documents)
    return [one and [one.text, [one.scores.get(name) for name in metrics]] for one in found]


def _what_fits(
    documents: Sequence[Document], systems: Sequence[_System], metrics: Sequence[str]
) -> tuple[Sequence[Document], int]:
    """The documents and the number of seeds that fit, by the mean size of the texts of each system's first run."""
    number = len(documents)
    own = _size([_document(one) for one in documents]) / number
    each = [_size(_texts(documents, system.predictions(0), metrics)) / number for system in systems]

    def size(seeds: int) -> float:
        """Bytes of a document with its texts."""
        return own + sum(one * min(seeds, system.count) for one, system in zip(each, systems, strict=True))

    seeds = max((system.count for system in systems), default=1)
    if number * size(seeds) <= MOST_BYTES:
        return documents, seeds
    while seeds > 1 and min(number, _WANTED_DOCUMENTS) * size(seeds) > MOST_BYTES:
        seeds -= 1
    fitting = max(1, min(number, int(MOST_BYTES / size(seeds))))
    return [documents[index * number // fitting] for index in range(fitting)], seeds


def _size(value: object) -> int:
    return len(embedded_json(value).encode())


def _left_out(documents: int, of_documents: int, seeds: int, of_seeds: int) -> str | None:
    parts = []
    if documents < of_documents:
        parts.append(f"{documents:,} of the {of_documents:,} test documents, evenly spaced")
    if seeds < of_seeds:
        parts.append(f"{seeds} of up to {of_seeds} seeds of each method")
    return " and ".join(parts) or None
