"""What an export loses: another program writes the texts of test documents, and they are scored as those of the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tuneoff import metrics
from tuneoff.export.card_code import BASE_FOLDER_LINE, FOLDER_LINE
from tuneoff.export.card_runner import texts_of_card
from tuneoff.results.run_record import Document, Prediction, Record
from tuneoff.spec.run import Frozen
from tuneoff.stats.bootstrap import group_interval
from tuneoff.stats.power import FEWEST_GROUPS
from tuneoff.text import plural

Progress = Callable[[int, int, float], None]
"""Called with the number of documents that were written, that of all, and the seconds since the start."""


def no_progress(done: int, total: int, seconds: float) -> None:
    """Show nothing."""


class ExportCheck(Frozen):
    """What an export loses against its run. Scores and differences are in the unit of the metric."""

    metric: str
    documents: int
    run_mean: float
    export_mean: float
    loss: float
    """Mean over the documents of the run's score minus the export's."""
    low: float | None
    """Ends of its 95 % interval over groups of documents; None with few groups, or if all differences are equal."""
    high: float | None
    same_texts: int
    program: str
    seconds: float

    @property
    def sentence(self) -> str:
        """`lost 0.3 points (-0.1 to 0.7) of ROUGE-1 on 200 documents ...`."""
        metric = metrics.METRICS[self.metric]
        sign = -1 if round(self.loss, metric.digits) < 0 else 1
        unit = f" {metric.unit}" if metric.unit == "points" else ""
        interval = ""
        if self.low is not None and self.high is not None:
            low, high = sorted((sign * self.low, sign * self.high))
            interval = f", {_number(low, metric.digits)} to {_number(high, metric.digits)},"
        same = "all of its texts are" if self.same_texts == self.documents else f"{self.same_texts} of its texts are"
        return (
            f"{'lost' if sign > 0 else 'gained'} {_number(sign * self.loss, metric.digits)}{unit}{interval} of "
            f"{metric.title} on {plural(self.documents, 'document')} in {self.program}; {same} those of the study"
        )


def _number(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: never -0.0


def choose_documents(
    documents: Sequence[Document], predictions: Sequence[Prediction], fields: Mapping[str, str], most: int
) -> list[tuple[Document, Prediction]]:
    """At most `most` test documents with what the run wrote for them, evenly spaced.

    Those whose fields have other values than `fields` are left out, and so are those whose texts were withheld.
    """
    written = {row.id: row for row in predictions}
    usable = [
        (document, written[document.id])
        for document in documents
        if document.id in written
        and document.document.strip()
        and document.references
        and all(document.fields.get(name, value) == value for name, value in fields.items())
    ]
    count = min(most, len(usable))
    return [usable[index * len(usable) // count] for index in range(count)]


def check_export(
    code: str,
    program: str,
    folder: Path,
    base_folder: Path | None,
    record: Record,
    metric: str,
    rows: Sequence[tuple[Document, Prediction]],
    progress: Progress,
) -> ExportCheck:
    """Run the code of an export in `folder` and score its texts.

    `base_folder` is that of the base model's file, if the code asks for it. Raises `CardFailed`.
    """
    here = code.replace(FOLDER_LINE, f"FOLDER = {str(folder.absolute())!a}")
    if base_folder is not None:
        here = here.replace(BASE_FOLDER_LINE, f"BASE_FOLDER = {str(base_folder)!a}")
    dialect = metrics.RougeDialect.of(record.spec.score.words)
    questions = ((document.document, document.fields) for document, _ in rows)
    started, before, after, same = time.monotonic(), [], [], 0
    for (document, written), text in zip(rows, texts_of_card(here, questions), strict=True):
        scores = metrics.score(text, document.document, document.references, dialect)
        before.append(written.scores.get(metric) or 0.0)
        after.append(scores[metric] or 0.0)
        same += text == written.text
        progress(len(after), len(rows), time.monotonic() - started)
    lost = np.array(before) - np.array(after)
    groups = np.unique([document.group for document, _ in rows], return_inverse=True)[1]
    known = groups.max() + 1 >= FEWEST_GROUPS and np.ptp(lost) > 0
    interval = group_interval(lost, groups) if known else None
    low, high = (None, None) if interval is None else interval
    return ExportCheck(
        metric=metric,
        documents=len(rows),
        run_mean=float(np.mean(before)),
        export_mean=float(np.mean(after)),
        loss=float(lost.mean()),
        low=low,
        high=high,
        same_texts=same,
        program=program,
        seconds=time.monotonic() - started,
    )


def named_version(package: str) -> str:
    """`transformers 5.23.0`."""
    return f"{package} {version(package)}"
