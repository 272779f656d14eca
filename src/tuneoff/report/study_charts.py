"""The charts of a study: which there are, what they are called, and what a reader should look for in them.

Altair draws them. It is imported when it is used, because an installation that only judges does not have it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tuneoff.errors import UserError
from tuneoff.report import chart_data, chart_tables, formatting
from tuneoff.report.chart_tables import ChartTable
from tuneoff.report.table import primary_metric, style_of
from tuneoff.report.theme import MethodStyles
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import Record
from tuneoff.results.study_dir import StoredStudy
from tuneoff.results.summary import Summary
from tuneoff.text import did_you_mean
from tuneoff.verdict.costs import as_alone, finished_timing_runs, model_and_method

# Name in Python -> name of the file in `figures/`.
CHARTS = {
    "quality": "quality_against_time",
    "quality_memory": "quality_against_memory",
    "quality_size": "quality_against_size",
    "cost": "resource_bars",
    "data_sizes": "data_sizes",
    "search": "learning_rates",
    "loss": "loss_curves",
    "timeline": "timeline",
}


@dataclass(frozen=True)
class StudyChart:
    """A chart with its file name, heading and caption. `wide`: it takes a whole row of the page. `numbers`: the same as
    a table."""

    name: str
    file: str
    title: str
    caption: str
    wide: bool
    chart: Any
    numbers: ChartTable


def chart(name: str, summary: Summary, study: StoredStudy) -> Any | None:
    """The Altair chart `name` of a study, one of `CHARTS`; None if there is nothing to draw.

    A study of several base models has one chart of data sizes for each of them: `data_sizes` is the first one.
    Raises `UserError` for an unknown name.
    """
    if name not in CHARTS:
        raise UserError(f"no chart is called {name!r}{did_you_mean(name, CHARTS)}")
    return next((found.chart for found in study_charts(summary, study) if found.name == name), None)


def compared_runs(summary: Summary, study: StoredStudy) -> list[StoredRun]:
    """The runs of the rows, in the order of the rows."""
    by_name = {run.name: run for run in study.runs}
    return [by_name[name] for row in summary.rows for name in row.runs if name in by_name]


def method_styles(summary: Summary, study: StoredStudy) -> MethodStyles:
    """How the methods of a study are drawn, in table, charts and reader alike."""
    titles = {row.name: row.title for row in summary.rows if row.kind == "method"}
    return MethodStyles((run.record for run in compared_runs(summary, study)), titles)


def study_charts(summary: Summary, study: StoredStudy) -> Iterator[StudyChart]:
    """All charts for which the study has data, in the order of the page. Raises `ImportError` without Altair."""
    from tuneoff.report import figures

    styles = method_styles(summary, study)
    records = [run.record for run in compared_runs(summary, study)]
    timing = finished_timing_runs(study.records)
    costs = [as_alone(record, timing.get(model_and_method(record))) for record in records]
    note = chart_data.cost_note(records, timing, styles)
    yield from _quality_charts(summary, study, costs, styles, note)
    if (drawn := figures.cost_bars(costs, styles, note=note)) is not None:
        caption, numbers = _with(_COST, note), chart_tables.cost_table(costs, styles)
        yield StudyChart("cost", CHARTS["cost"], "Cost of each method", caption, True, drawn, numbers)
    yield from _data_size_charts(summary, styles)
    yield from _search_charts(summary, styles)
    if (drawn := figures.loss_curves(records, styles)) is not None:
        numbers = chart_tables.loss_table(records, styles)
        yield StudyChart("loss", CHARTS["loss"], "Loss during training", _LOSS, True, drawn, numbers)
    if (drawn := figures.timeline(records, styles)) is not None:
        caption = _with(_TIMELINE, chart_data.timeline_note(records))
        numbers = chart_tables.timeline_table(records, styles)
        yield StudyChart("timeline", CHARTS["timeline"], "Resources over time", caption, True, drawn, numbers)


def _quality_charts(
    summary: Summary, study: StoredStudy, records: Sequence[Record], styles: MethodStyles, note: str | None
) -> Iterator[StudyChart]:
    from tuneoff.report import figures

    metric = primary_metric(summary.rows, summary.primary_metric)
    if metric is None:
        return
    others = [row for row in summary.rows if row.kind != "method"]
    baselines = {row.title: mean for row in others if (mean := row.score(metric).mean) is not None}
    by_run = {run.name: run.record for run in study.runs}
    means = {}
    for row in summary.rows:
        style, score = style_of(row, by_run, styles), row.score(metric)
        # The interval around the mean of several runs, of seeds or of folds, belongs to none of their points.
        finished = sum(by_run[name].status == "finished" for name in row.runs if name in by_run)
        if style and finished == 1 and score.mean is not None:
            means[style.model, style.method] = score
    for against, name in zip(figures.AGAINST, ("quality", "quality_memory", "quality_size"), strict=True):
        said = note if against == "time" else None
        drawn = figures.quality_against(
            records, against, styles, metric=metric, means=means, baselines=baselines, note=said
        )
        if drawn is not None:
            title = f"{formatting.metric_title(metric)} against {against}"
            numbers = chart_tables.quality_table(records, styles, metric, means=means, baselines=baselines)
            yield StudyChart(name, CHARTS[name], title, _with(_QUALITY[against], said), False, drawn, numbers)


def _data_size_charts(summary: Summary, styles: MethodStyles) -> Iterator[StudyChart]:
    from tuneoff.report.size_chart import data_size_curves

    for index, sizes in enumerate(summary.data_sizes):
        model = sizes.block or (styles.models[0] if styles.models else "")
        drawn = data_size_curves(sizes.curves, sizes.crossovers, styles, model, summary.primary_metric)
        if drawn is not None:
            suffix = f", {styles.short_names.get(model, model)}" if sizes.block else ""
            file = CHARTS["data_sizes"] + (f"_{index + 1}" if index else "")
            numbers = chart_tables.size_table(sizes, summary.primary_metric)
            yield StudyChart("data_sizes", file, f"Amount of data{suffix}", _SIZES, True, drawn, numbers)


def _search_charts(summary: Summary, styles: MethodStyles) -> Iterator[StudyChart]:
    from tuneoff.report.search_chart import learning_rate_sweeps

    cells = summary.search.cells if summary.search else ()
    drawn = learning_rate_sweeps(cells, styles)
    if drawn is not None:
        numbers = chart_tables.search_table(cells, styles)
        yield StudyChart("search", CHARTS["search"], "Learning rates tried", _SEARCH, True, drawn, numbers)


def _with(caption: str, note: str | None) -> str:
    return f"{caption} {note[0].upper()}{note[1:]}." if note else caption


_QUALITY = {
    "time": "Up and to the left is better. The time of the whole run, with loading and generation.",
    "memory": "Up and to the left is better. Memory of the accelerator if there is one, else of the process.",
    "size": "Up and to the left is better. Size of the files to keep and ship; logarithmic above 1 MB.",
}
_SIZES = (
    "Smaller training sets are drawn by the seed and nested, and the validation data with them. Where a band is above "
    "zero, the method is better than the anchor at that amount. A shaded range is where the better method of a pair is "
    "shown to change."
)
_SEARCH = (
    "Validation loss of each trial, at all the data. A ring marks the rate that the final runs use, a cross a trial "
    "that was pruned. Trials that diverged have no loss; the table has them."
)
_LOSS = (
    "Thin lines are training loss, bold lines validation loss. A ring marks the best checkpoint, which is used. "
    "A dashed line is a method that trains nothing."
)
_COST = "Mean over the finished runs of each method."
_TIMELINE = "One line for each run, from its own start."
