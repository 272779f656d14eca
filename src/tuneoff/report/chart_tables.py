"""The numbers behind each chart as a table, for readers who do not see the chart or want to copy a number."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tuneoff.report import formatting
from tuneoff.report.chart_data import swept_cells
from tuneoff.report.formatting import MISSING
from tuneoff.report.theme import MethodStyles
from tuneoff.results.cost_axes import COST_AXES
from tuneoff.results.packed_points import column
from tuneoff.results.run_record import Record
from tuneoff.results.study_state import SearchCell
from tuneoff.results.summary import DataSizeVerdict
from tuneoff.verdict.costs import costs_of

# A table of hundreds of runs would be longer than the rest of the page.
_MOST_ROWS = 200


@dataclass(frozen=True)
class ChartTable:
    """Cells of text. The first column names the row."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> ChartTable:
    every = [tuple(row) for row in rows]
    shown = every[:_MOST_ROWS]
    if len(every) > len(shown):
        more = f"and {len(every) - len(shown):,} more in the records"
        shown.append((more, *(MISSING for _ in headings[1:])))
    return ChartTable(tuple(headings), tuple(shown))


def _finished(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record.status == "finished"]


def quality_table(records: Sequence[Record], styles: MethodStyles, metric: str) -> ChartTable:
    """Score, time, memory and size of each run."""
    return _table(
        ["Run", "Method", formatting.metric_title(metric), "Time of the run", "Peak memory", "Size on disk"],
        (
            [
                record.name,
                styles.of(record).label,
                formatting.format_score(metric, record.scores.get(metric)),
                MISSING if record.resources is None else formatting.format_seconds(record.resources.total_seconds),
                MISSING if record.resources is None else formatting.format_bytes(record.resources.limiting_peak_bytes),
                MISSING if record.artefact is None else formatting.format_bytes(record.artefact.bytes),
            ]
            for record in _finished(records)
        ),
    )


def size_table(sizes: DataSizeVerdict, metric: str) -> ChartTable:
    """Mean of each method at each amount of data."""
    amounts = list(dict.fromkeys((point.fraction, point.examples) for curve in sizes.curves for point in curve.points))
    headings = [f"{100 * fraction:g} % ({examples:,} examples read)" for fraction, examples in sorted(amounts)]
    rows = []
    for curve in sizes.curves:
        means = {(point.fraction, point.examples): point.mean for point in curve.points}
        rows.append([curve.title, *(formatting.format_score(metric, means.get(amount)) for amount in sorted(amounts))])
    return _table(["Method", *headings], rows)


def search_table(cells: Sequence[SearchCell], styles: MethodStyles) -> ChartTable:
    """Every learning rate that was tried, with its loss."""
    labels = {(style.model, style.method): style.label for style in styles}
    return _table(
        ["Method", "Learning rate", "Validation loss", "Trial"],
        (
            [
                labels.get((cell.model, cell.method), cell.method),
                f"{trial.value:.3g}" if isinstance(trial.value, int | float) else str(trial.value),
                MISSING if trial.validation_loss is None else f"{trial.validation_loss:.4f}",
                "chosen" if trial.value == cell.chosen else trial.status if trial.cut_at is None else "pruned",
            ]
            for cell in swept_cells(cells)
            for trial in cell.trials
        ),
    )


def loss_table(records: Sequence[Record], styles: MethodStyles) -> ChartTable:
    """Begin and end of the curves of each run."""
    rows = []
    for record in records:
        train, validation = column(record.curve.train, "loss"), column(record.curve.validation, "loss")
        best = record.curve.best_validation_loss
        rows.append(
            [
                record.name,
                styles.of(record).label,
                f"{record.curve.steps:,}",
                *(
                    f"{losses[index]:.3f}" if len(losses) else MISSING
                    for losses in (train, validation)
                    for index in (0, -1)
                ),
                MISSING if best is None else f"{best:.3f}",
                MISSING if record.curve.best_step is None else f"{record.curve.best_step:,}",
            ]
        )
    headings = ["Run", "Method", "Steps", "Training loss, first", "last", "Validation loss, first", "last", "best"]
    return _table([*headings, "Step of the best"], rows)


def cost_table(records: Sequence[Record], styles: MethodStyles) -> ChartTable:
    """Mean costs of each method."""
    rows = []
    for style in styles:
        own = [record for record in _finished(records) if styles.of(record) == style]
        if own:
            found = costs_of(own)
            rows.append(
                [style.label, *(formatting.format_cost(axis.name, found[axis.name].value) for axis in COST_AXES)]
            )
    return _table(["Method", *(axis.heading for axis in COST_AXES)], rows)


def timeline_table(records: Sequence[Record], styles: MethodStyles) -> ChartTable:
    """What each run used, by phase."""
    return _table(
        ["Run", "Method", "Phase", "Time", "Time of processors", "Peak memory"],
        (
            [
                record.name,
                styles.of(record).label,
                name,
                formatting.format_seconds(phase.wall_seconds),
                formatting.format_seconds(phase.cpu_seconds),
                formatting.format_bytes(phase.peak_memory_bytes),
            ]
            for record in records
            if record.resources is not None
            for name, phase in record.resources.phases.items()
        ),
    )
