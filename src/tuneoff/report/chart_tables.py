"""The numbers behind each chart as a table, for readers who do not see the chart or want to copy a number."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tuneoff.report import chart_data, formatting
from tuneoff.report.formatting import MISSING
from tuneoff.report.theme import MethodStyles
from tuneoff.results.cost_axes import COST_AXES
from tuneoff.results.packed_points import column
from tuneoff.results.run_record import Record
from tuneoff.results.study_state import SearchCell, TrialResult
from tuneoff.results.summary import BandPoint, DataSizeVerdict, Interval
from tuneoff.verdict.costs import costs_of

# A table of hundreds of runs would be longer than the rest of the page.
_MOST_ROWS = 200


@dataclass(frozen=True)
class ChartTable:
    """Cells of text. The first column names the row. `notes`: what the chart shows and no cell holds, as sentences."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> ChartTable:
    every = [tuple(row) for row in rows]
    shown = every[:_MOST_ROWS]
    if len(every) > len(shown):
        more = f"and {len(every) - len(shown):,} more in the records"
        shown.append((more, *(MISSING for _ in headings[1:])))
    return ChartTable(tuple(headings), tuple(shown))


def _finished(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record.status == "finished"]


def quality_table(
    records: Sequence[Record],
    styles: MethodStyles,
    metric: str,
    *,
    means: Mapping[tuple[str, str], Interval] | None = None,
    baselines: Mapping[str, float] | None = None,
) -> ChartTable:
    """Score with its interval, time, memory and size of each run, and the scores of baselines, as the charts show them.

    `means` and `baselines` are those of `quality_against`.
    """

    def score(record: Record) -> Interval:
        style = styles.of(record)
        return (means or {}).get((style.model, style.method), Interval(mean=record.scores.get(metric)))

    finished = _finished(records)
    has_intervals = any(score(record).low is not None for record in finished)
    title = formatting.metric_title(metric)
    runs = _table(
        ["Run", "Method", title, *(["95 % interval"] if has_intervals else []), *_COSTS],
        (
            [
                record.name,
                styles.of(record).label,
                formatting.format_score(metric, score(record).mean),
                *([formatting.format_interval(metric, score(record)) or MISSING] if has_intervals else []),
                MISSING if record.resources is None else formatting.format_seconds(record.resources.total_seconds),
                MISSING if record.resources is None else formatting.format_bytes(record.resources.limiting_peak_bytes),
                MISSING if record.artefact is None else formatting.format_bytes(record.artefact.bytes),
            ]
            for record in finished
        ),
    )
    nothing = (MISSING,) * (len(runs.headings) - 3)
    levels = tuple(
        (name, "baseline", formatting.format_score(metric, value), *nothing)
        for name, value in (baselines or {}).items()
    )
    return ChartTable(runs.headings, runs.rows + levels)


_COSTS = ("Time of the run", "Peak memory", "Size on disk")


def size_table(sizes: DataSizeVerdict, metric: str) -> ChartTable:
    """Mean of each method at each amount of data, and its gain over the anchor with the band. The notes say where the
    better method of a pair changes."""
    amounts = sorted({(point.fraction, point.examples) for curve in sizes.curves for point in curve.points})
    headings = [f"{100 * fraction:g} % ({examples:,} examples read)" for fraction, examples in amounts]
    rows = []
    for curve in sizes.curves:
        means = {(point.fraction, point.examples): point.mean for point in curve.points}
        rows.append([curve.title, *(formatting.format_score(metric, means.get(amount)) for amount in amounts)])
    titles = {curve.method: curve.title for curve in sizes.curves}
    if sizes.curves:
        anchor = chart_data.anchor_of(sizes.curves)
        for gain in chart_data.gains_over(anchor, sizes.crossovers, titles):
            bands = {(point.fraction, point.examples): _gain(point, metric) for point in gain.band}
            name = f"{titles[gain.method]}, gain over {titles[anchor]} with its band"
            rows.append([name, *(bands.get(amount, MISSING) for amount in amounts)])
    changes = (
        chart_data.changes_of_order(sizes.crossovers, titles) if chart_data.has_distinct_amounts(sizes.curves) else []
    )
    notes = tuple(f"{words} between {low:,} and {high:,} examples read." for words, low, high in changes)
    table = _table(["Method", *headings], rows)
    return ChartTable(table.headings, table.rows, notes)


def _gain(point: BandPoint, metric: str) -> str:
    """`+1.2 (+0.3 to +2.1)`."""
    gain = Interval(mean=point.difference, low=point.low, high=point.high)
    shown = formatting.format_score(metric, gain.mean, signed=True)
    return f"{shown} ({formatting.format_interval(metric, gain, signed=True)})"


def search_table(cells: Sequence[SearchCell], styles: MethodStyles) -> ChartTable:
    """Every learning rate that was tried, with its loss: at the end of the trial, or where it was pruned."""
    labels = {(style.model, style.method): style.label for style in styles}
    return _table(
        ["Method", "Learning rate", "Validation loss", "Trial"],
        (
            [
                labels.get((cell.model, cell.method), cell.method),
                f"{trial.value:.3g}" if isinstance(trial.value, int | float) else str(trial.value),
                MISSING if (loss := chart_data.loss_of_trial(trial)) is None else f"{loss:.4f}",
                "chosen" if trial.value == cell.chosen else _outcome(trial),
            ]
            for cell in chart_data.swept_cells(cells)
            for trial in cell.trials
        ),
    )


def _outcome(trial: TrialResult) -> str:
    return trial.status if trial.cut_at is None else f"pruned at step {trial.cut_at:,}"


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
