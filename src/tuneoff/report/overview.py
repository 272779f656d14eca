"""The picture at the top of the page: all methods on one scale with their intervals, the best first.

It is drawn without a script, so it is also there in print and where scripts are off.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tuneoff.metrics.registry import METRICS
from tuneoff.report import formatting
from tuneoff.report.table import IntervalStrip, interval_strip, primary_metric, strip_scale, style_of
from tuneoff.report.theme import MethodStyle, MethodStyles
from tuneoff.results.run_record import Record
from tuneoff.results.summary import ComparisonRow, Summary, Verdict

_TICKS = 5  # about as many


@dataclass(frozen=True)
class OverviewRow:
    """A method, a baseline or an outside system. `standing` says whether it may be the best; empty if unknown."""

    title: str
    kind: str
    style: MethodStyle | None
    strip: IntervalStrip
    mean: str
    interval: str
    standing: str


@dataclass(frozen=True)
class Tick:
    """A number on the axis, at 0..100 of its width."""

    position: float
    text: str


@dataclass(frozen=True)
class Overview:
    """The picture. A block has the rows of one base model; baselines and outside systems are in the last one."""

    metric: str
    higher_is_better: bool
    ticks: tuple[Tick, ...]
    blocks: tuple[tuple[str | None, tuple[OverviewRow, ...]], ...]


def make_overview(summary: Summary, records: Mapping[str, Record], styles: MethodStyles) -> Overview | None:
    """The picture of a study; None if fewer than two rows have a score. `records` by run folder."""
    metric = primary_metric(summary.rows, summary.primary_metric)
    scored = [row for row in summary.rows if metric is not None and row.score(metric).mean is not None]
    scale = strip_scale(scored, metric) if metric is not None else None
    if metric is None or scale is None or len(scored) < 2:
        return None
    known = METRICS.get(metric)
    higher = known is None or known.higher_is_better is not False
    verdicts = {verdict.block: verdict for verdict in summary.verdicts}

    def rows_of(own: Iterable[ComparisonRow]) -> tuple[OverviewRow, ...]:
        made = []
        for row in sorted(own, key=lambda row: row.score(metric).mean or 0.0, reverse=higher):
            score, verdict = row.score(metric), verdicts.get(row.model) or verdicts.get(None)
            strip = interval_strip(score, scale, None)
            assert strip is not None
            made.append(
                OverviewRow(
                    row.title,
                    row.kind,
                    style_of(row, records, styles),
                    strip,
                    formatting.format_score(metric, score.mean),
                    formatting.format_interval(metric, score),
                    _standing(row, verdict),
                )
            )
        return tuple(made)

    methods = [row for row in scored if row.kind == "method"]
    blocks: list[tuple[str | None, tuple[OverviewRow, ...]]] = [
        (styles.model_name(model), rows_of(row for row in methods if row.model == model))
        for model in dict.fromkeys(row.model for row in methods)
    ]
    if others := rows_of(row for row in scored if row.kind != "method"):
        blocks.append(("For comparison", others))
    return Overview(formatting.metric_title(metric), higher, _ticks(scale, metric), tuple(blocks))


def _standing(row: ComparisonRow, verdict: Verdict | None) -> str:
    if verdict is None or verdict.no_winner or not verdict.pairs or row.name not in verdict.best_set:
        return ""
    return "best" if len(verdict.best_set) == 1 else "may be the best"


def _ticks(scale: tuple[float, float], metric: str) -> tuple[Tick, ...]:
    """Round numbers inside the scale."""
    start, end = scale
    rough = (end - start) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first = math.ceil(start / step)
    values: Sequence[float] = [index * step for index in range(first, math.floor(end / step) + 1)]
    return tuple(
        Tick(round(100 * (value - start) / (end - start), 2), formatting.format_score(metric, value, digits=digits))
        for value in values
    )
