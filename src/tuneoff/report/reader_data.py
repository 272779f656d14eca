"""The data of the page's reader: documents, and the texts and scores of every system.

A page must open anywhere, so its texts are limited to `MOST_BYTES`. Of a larger study, it shows the beginnings of the
texts, then the first seeds of each method, and then evenly spaced documents. A study without texts has the scores only.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuneoff.metrics.registry import METRICS
from tuneoff.report import formatting
from tuneoff.report.escaping import embedded_json
from tuneoff.report.table import style_of
from tuneoff.report.theme import MethodStyles
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_outputs import RunOutputs
from tuneoff.results.run_record import Document, Prediction
from tuneoff.results.study_dir import StoredStudy
from tuneoff.results.summary import ComparisonRow, Summary
from tuneoff.text import join_words

MOST_BYTES = 6_500_000
# Characters of a text, in the order in which they are tried where whole texts are too long.
_LENGTHS = (4_000, 2_000, 1_000)
_CUT = " […]"
# Seeds are left out until so many documents fit.
_WANTED_DOCUMENTS = 2_000
# Documents whose outputs the mean size of an output is estimated from.
_MEASURED_DOCUMENTS = 200


@dataclass(frozen=True)
class ReaderData:
    """The reader's JSON. `left_out` says what of the study it does not have; None if it has everything."""

    content: dict[str, Any]
    left_out: str | None = None


def reader_data(summary: Summary, study: StoredStudy, styles: MethodStyles) -> ReaderData:
    """The documents, and the text and scores of every system by position. Without texts (`--no-texts`), `readable` is
    false: there are the ids of the documents and the mean scores."""
    documents = study.documents
    readable = any(one.document for one in documents)
    systems = [_System(row, study) for row in summary.rows]
    systems = [system for system in systems if system.count]
    metrics = _metrics(systems)
    primary = summary.primary_metric if summary.primary_metric in metrics else next(iter(metrics), "")
    records = {run.name: run.record for run in study.runs}

    def content_of(part: _ShownPart) -> dict[str, Any]:
        shown = part.documents
        listed = []
        for system in systems:
            style = style_of(system.row, records, styles)
            listed.append(
                {
                    "label": styles.label(system.row.title, system.row.model),
                    "kind": system.row.kind,
                    "hue": style.hue if style else None,
                    "glyph": style.glyph if style else "○",
                    "means": _rounded(system.means(shown, primary), primary),
                    "outputs": [
                        {"seed": seed, "texts": _texts(shown, system.predictions(index), metrics, part.length)}
                        for index, seed in enumerate(system.seeds[: part.seeds] if readable else [])
                    ],
                }
            )
        return {
            "readable": readable,
            "documents": [_document(one, part.length) for one in shown],
            "total": len(documents),
            "systems": listed,
            "metrics": [
                {
                    "title": formatting.metric_title(name),
                    "digits": METRICS[name].digits if name in METRICS else 2,
                    "higher_is_better": METRICS[name].higher_is_better if name in METRICS else None,
                }
                for name in metrics
            ],
            "primary": metrics.index(primary) if primary in metrics else 0,
        }

    part, content = _made_to_fit(
        _what_fits(documents, systems, metrics, primary, readable=readable), documents, content_of
    )
    most_seeds = max((len(one.seeds) for one in systems), default=1)
    seeds = part.seeds if readable else most_seeds
    return ReaderData(content, _left_out(len(part.documents), len(documents), seeds, most_seeds, part.length))


@dataclass(frozen=True)
class _ShownPart:
    """What of a study the page shows: documents, the number of seeds, and characters of a text (None: all)."""

    documents: Sequence[Document]
    seeds: int
    length: int | None


class _System:
    """One row of the comparison, with what it wrote. The texts of a method's runs are read when they are used."""

    def __init__(self, row: ComparisonRow, study: StoredStudy) -> None:
        self.row = row
        self._runs: list[list[StoredRun]] = []  # by seed: one, or one for each fold
        self._other: Sequence[Prediction] = ()
        if row.kind == "method":
            found = [run for name in row.runs if (run := study.run(name)) is not None and len(run.outputs)]
            self.seeds = list(dict.fromkeys(run.record.spec.seed for run in found))
            self._runs = [[run for run in found if run.record.spec.seed == seed] for seed in self.seeds]
        else:
            others = study.baselines if row.kind == "extractive" else study.outside
            self._other = others.get(row.name, ())
            self.seeds = [0] if self._other else []
        self.count = len(self.seeds)

    def predictions(self, index: int) -> Sequence[Prediction]:
        """What the runs of the seed number `index` wrote."""
        return [row for run in self._runs[index] for row in run.predictions] if self._runs else self._other

    def means(self, documents: Sequence[Document], metric: str) -> list[float | None]:
        """The mean over all seeds for each document; None without a score of some seed."""
        if self._runs:
            seeds = [RunOutputs.joined([run.outputs for run in runs]).scores(metric) for runs in self._runs]
        else:
            seeds = [{prediction.id: prediction.scores.get(metric) for prediction in self._other}]
        found = []
        for document in documents:
            values = [value for seed in seeds if (value := seed.get(document.id)) is not None]
            found.append(sum(values) / len(values) if values and len(values) == len(seeds) else None)
        return found

    def metrics(self) -> list[str]:
        """Names of its scores."""
        if self._runs:
            return [name for runs in self._runs for run in runs for name in run.outputs.columns]
        return [name for prediction in self._other for name in prediction.scores]


def _metrics(systems: Sequence[_System]) -> list[str]:
    present = dict.fromkeys(name for system in systems for name in system.metrics())
    return [name for name in METRICS if name in present] + [name for name in present if name not in METRICS]


def _document(one: Document, length: int | None) -> dict[str, Any]:
    references = [_beginning(reference, length) for reference in one.references]
    return {"id": one.id, "text": _beginning(one.document, length), "references": references, "fields": one.fields}


def _beginning(text: str, length: int | None) -> str:
    return text if length is None or len(text) <= length else text[:length] + _CUT


def _rounded(values: Iterable[float | None], metric: str) -> list[float | None]:
    """Two digits more than a table shows: they only enlarge the page."""
    digits = (METRICS[metric].digits if metric in METRICS else 2) + 2
    return [None if value is None else round(value, digits) for value in values]


def _texts(
    documents: Sequence[Document], predictions: Sequence[Prediction], metrics: Sequence[str], length: int | None
) -> list[Any]:
    """Text and scores for each document; None where there is no text."""
    by_id = {prediction.id: prediction for prediction in predictions if not prediction.text_withheld}
    found = (by_id.get(document.id) for document in documents)
    return [
        one
        and [
            _beginning(one.text, length),
            [_rounded([one.scores.get(name)], name)[0] for name in metrics],
        ]
        for one in found
    ]


def _what_fits(
    documents: Sequence[Document],
    systems: Sequence["_System"],
    metrics: Sequence[str],
    primary: str,
    *,
    readable: bool,
) -> _ShownPart:
    """What fits, by the sizes of all documents, and by those of some outputs of each system's first run."""
    number = len(documents)
    most = max((system.count for system in systems), default=1)
    if not documents:  # a folder of records alone
        return _ShownPart(documents, most, None)
    measured = _evenly(documents, _MEASURED_DOCUMENTS)
    first_runs = [system.predictions(0) for system in systems] if readable else []
    means = _size([_rounded(system.means(measured, primary), primary) for system in systems]) / len(measured)

    def sizes(length: int | None) -> list[float]:
        """Bytes of a document with its texts, by the number of seeds from 0."""
        own = _size([_document(one, length) for one in documents]) / number
        each = [
            (_size(_texts(measured, run, metrics, length)) / len(measured), system.count)
            for run, system in zip(first_runs, systems, strict=False)
        ]
        return [own + means + sum(one * min(seeds, count) for one, count in each) for seeds in range(most + 1)]

    length, bytes_of = None, sizes(None)
    for shorter in _LENGTHS:
        if number * bytes_of[most] <= MOST_BYTES:
            return _ShownPart(documents, most, length)
        if (found := sizes(shorter)) != bytes_of:  # some text is longer
            length, bytes_of = shorter, found
    seeds = most
    while (
        number * bytes_of[most] > MOST_BYTES
        and seeds > 1
        and min(number, _WANTED_DOCUMENTS) * bytes_of[seeds] > MOST_BYTES
    ):
        seeds -= 1
    return _ShownPart(_evenly(documents, max(1, int(MOST_BYTES / bytes_of[seeds]))), seeds, length)


def _made_to_fit(
    part: _ShownPart, documents: Sequence[Document], content_of: Callable[[_ShownPart], dict[str, Any]]
) -> tuple[_ShownPart, dict[str, Any]]:
    """The content for `part`. If it is larger than estimated: with shorter texts, and then with fewer documents."""
    content = content_of(part)
    while (size := _size(content)) > MOST_BYTES and len(part.documents) > 1:
        longest = min(_longest_text(content), part.length or math.inf)
        length = next((length for length in _LENGTHS if length < longest), None)
        if length is not None:
            part = replace(part, length=length)
        else:
            number = len(part.documents)
            fewer = max(1, min(number - 1, number * MOST_BYTES // size))
            part = replace(part, documents=_evenly(documents, fewer))
        content = content_of(part)
    return part, content


def _longest_text(content: dict[str, Any]) -> int:
    """Characters of the longest text that can be cut."""
    lengths = [len(text) for one in content["documents"] for text in (one["text"], *one["references"])]
    outputs = (output for system in content["systems"] for output in system["outputs"])
    return max((*lengths, *(len(found[0]) for output in outputs for found in output["texts"] if found)), default=0)


def _evenly(documents: Sequence[Document], most: int) -> Sequence[Document]:
    """All documents, or `most` of them, evenly spaced."""
    number = len(documents)
    return documents if number <= most else [documents[index * number // most] for index in range(most)]


def _size(value: object) -> int:
    return len(embedded_json(value).encode())


def _left_out(documents: int, of_documents: int, seeds: int, of_seeds: int, length: int | None) -> str | None:
    parts = []
    if documents < of_documents:
        parts.append(f"{documents:,} of the {of_documents:,} test documents, evenly spaced")
    if seeds < of_seeds:
        parts.append(f"{seeds} of up to {of_seeds} seeds of each method")
    if length is not None:
        parts.append(f"at most {length:,} characters of each text")
    return join_words(parts) or None
