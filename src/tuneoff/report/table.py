"""The comparison as cells of text, ready for the page."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tuneoff.metrics.registry import METRICS
from tuneoff.report import formatting
from tuneoff.report.theme import MethodStyle, MethodStyles
from tuneoff.results.cost_axes import COST_AXES, CostAxis
from tuneoff.results.run_record import Record
from tuneoff.results.summary import ComparisonRow, Interval
from tuneoff.spec.study import METRIC

QUALITY = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True)
class TableCell:
    """One number. `note` is the number of a footnote; `best` marks the best method of its block."""

    text: str
    detail: str = ""
    best: bool = False
    note: int | None = None


@dataclass(frozen=True)
class IntervalStrip:
    """An interval drawn as a line: positions in 0..100 of the width that all rows share."""

    mean: float
    low: float | None
    high: float | None
    anchor: float | None
    """The mean of zero-shot."""


@dataclass(frozen=True)
class TableRow:
    """One row of the table."""

    title: str
    kind: str
    style: MethodStyle | None
    badges: tuple[str, ...]
    primary: TableCell
    strip: IntervalStrip | None
    gain: TableCell
    quality: tuple[TableCell, ...]
    loss: TableCell
    costs: tuple[TableCell, ...]


@dataclass(frozen=True)
class TableBlock:
    """The methods on one base model. `title` is None if there is only one model."""

    title: str | None
    rows: tuple[TableRow, ...]


@dataclass(frozen=True)
class FurtherScores:
    """The metrics of one row that have no column of their own in the main table."""

    title: str
    model: str
    cells: tuple[TableCell, ...]


@dataclass
class ResultsTable:
    """The whole comparison."""

    primary: str
    quality: tuple[str, ...]
    costs: tuple[CostAxis, ...]
    blocks: list[TableBlock] = field(default_factory=list)
    others: list[TableRow] = field(default_factory=list)
    """Sentence baselines and outside systems."""
    footnotes: list[str] = field(default_factory=list)
    """Why a number is missing, counted from 1."""
    unmeasured: tuple[str, ...] = ()
    """Why an axis of cost has no number, and so no column."""
    intervals: bool = False
    further: list[FurtherScores] = field(default_factory=list)
    further_metrics: tuple[str, ...] = ()


def first_metrics(primary: str) -> tuple[str, ...]:
    """The metrics that every table shows: the one by which the study is judged, then the others of `QUALITY`."""
    return tuple(dict.fromkeys((primary, *QUALITY)))


def primary_metric(rows: Iterable[ComparisonRow], planned: str = METRIC) -> str | None:
    """The metric of the first column: the study's, or if no row has it, the first metric of any row."""
    names = list(dict.fromkeys(name for row in rows for name, value in row.scores.items() if value.mean is not None))
    return planned if planned in names else next(iter(names), None)


def style_of(row: ComparisonRow, records: Mapping[str, Record], styles: MethodStyles) -> MethodStyle | None:
    """How a row is drawn; None for a row without runs. `records` by run folder."""
    return next((styles.of(records[run]) for run in row.runs if run in records), None)


def build_table(
    rows: Sequence[ComparisonRow],
    records: Mapping[str, Record],
    styles: MethodStyles,
    planned: str = METRIC,
    *,
    marks_scores: bool = True,
) -> ResultsTable:
    """The table of a study. `records` by run folder, `planned` is the metric by which the study is judged.

    `marks_scores`: whether the best scores are marked; not where the study reports no difference between them.
    """
    primary = primary_metric(rows, planned) or planned
    present = {name for row in rows for name, value in row.scores.items() if value.mean is not None}
    methods = [row for row in rows if row.kind == "method"]
    measured = {axis.name for axis in COST_AXES if any(row.cost(axis.name) is not None for row in methods)}
    table = ResultsTable(
        primary=primary,
        quality=tuple(name for name in first_metrics(primary)[1:] if name in present),
        costs=tuple(axis for axis in COST_AXES if axis.name in measured),
        unmeasured=tuple(
            f"{axis.heading}: {'; '.join(reasons)}"
            for axis in COST_AXES
            if axis.name not in measured
            and (reasons := dict.fromkeys(filter(None, (_missing_reason(row, axis) for row in methods))))
        ),
        intervals=any(row.score(primary).low is not None for row in rows),
    )
    scale = strip_scale(rows, primary)
    for model in dict.fromkeys(row.model for row in methods):
        own = [row for row in methods if row.model == model]
        anchor = next((row.score(primary).mean for row in own if row.name == "zero_shot"), None)
        # A method that failed is not a competitor, whatever it would have cost.
        peers = [row for row in own if not row.status or row.status.get("finished")]
        rivals = peers if marks_scores else []
        lines = tuple(
            _table_row(row, peers, rivals, table, style_of(row, records, styles), scale, anchor) for row in own
        )
        table.blocks.append(TableBlock(styles.model_name(model), lines))
    table.others = [_table_row(row, [], [], table, None, scale, None) for row in rows if row.kind != "method"]
    shown = {primary, *table.quality}
    table.further_metrics = tuple(
        name for name in [*METRICS, *sorted(present - METRICS.keys())] if name in present - shown
    )
    for row in rows:
        cells = tuple(_score_cell(row, name, methods if marks_scores else []) for name in table.further_metrics)
        table.further.append(FurtherScores(row.title, styles.model_name(row.model) or "", cells))
    return table


def _missing_reason(row: ComparisonRow, axis: CostAxis) -> str | None:
    cost = row.costs.get(axis.name)
    return cost.reason if cost else None


def strip_scale(rows: Iterable[ComparisonRow], metric: str) -> tuple[float, float] | None:
    """What the strips of all rows share: the range of all means and intervals, with a small margin."""
    spread = [row.score(metric) for row in rows]
    values = [value for one in spread for value in (one.mean, one.low, one.high) if value is not None]
    if not values:
        return None
    low, high = min(values), max(values)
    margin = (high - low or 1.0) * 0.06
    return low - margin, high + margin


def _table_row(
    row: ComparisonRow,
    peers: list[ComparisonRow],
    rivals: list[ComparisonRow],
    table: ResultsTable,
    style: MethodStyle | None,
    scale: tuple[float, float] | None,
    anchor: float | None,
) -> TableRow:
    """`peers` are compared by cost and validation loss, `rivals` by score."""
    runs = sum(row.status.values())
    # These go on with the next call of the same command.
    unfinished = sum(row.status.get(status, 0) for status in ("interrupted", "running"))
    lost = runs - unfinished - row.status.get("finished", 0)
    badges = [
        f"{count} of {runs} {words}" for count, words in ((lost, "failed"), (unfinished, "not finished")) if count
    ]
    if row.seeds > 1:  # the scores are means over those that all methods have
        every = row.compared_seeds == row.seeds
        badges.append(f"{row.seeds} seeds" if every else f"{row.compared_seeds} of {row.seeds} seeds compared")
    gain = row.gain or Interval()
    return TableRow(
        title=row.title,
        kind=row.kind,
        style=style,
        badges=tuple(badges),
        primary=_score_cell(row, table.primary, rivals),
        strip=interval_strip(row.score(table.primary), scale, anchor),
        gain=TableCell(
            formatting.format_score(table.primary, gain.mean, signed=True),
            formatting.format_interval(table.primary, gain, signed=True),
        ),
        quality=tuple(_score_cell(row, name, rivals) for name in table.quality),
        loss=_loss_cell(row, peers),
        costs=tuple(_cost_cell(row, axis, peers, table) for axis in table.costs),
    )


def interval_strip(value: Interval, scale: tuple[float, float] | None, anchor: float | None) -> IntervalStrip | None:
    """The line of an interval; None without a mean."""
    if value.mean is None or scale is None:
        return None
    start, end = scale

    def position(number: float | None) -> float | None:
        return None if number is None else round(100 * (number - start) / (end - start), 2)

    return IntervalStrip(position(value.mean) or 0.0, position(value.low), position(value.high), position(anchor))


def _leads(value: float, peers: Iterable[float | None], text_of: Callable[[float], str], *, less: bool) -> bool:
    """Whether a value is written like the best of its peers, and not all peers are written alike."""
    known = [peer for peer in peers if peer is not None]
    texts = {text_of(peer) for peer in known}
    return len(texts) > 1 and text_of(value) == text_of(min(known) if less else max(known))


def _score_cell(row: ComparisonRow, metric: str, peers: list[ComparisonRow]) -> TableCell:
    value = row.score(metric)
    known = METRICS.get(metric)
    higher = known.higher_is_better if known else None
    best = False
    if value.mean is not None and higher is not None and row in peers:
        others = [peer.score(metric).mean for peer in peers if peer.model == row.model]
        best = _leads(value.mean, others, lambda number: formatting.format_score(metric, number), less=not higher)
    return TableCell(formatting.format_score(metric, value.mean), formatting.format_interval(metric, value), best)


def _loss_cell(row: ComparisonRow, peers: list[ComparisonRow]) -> TableCell:
    if row.validation_loss is None:
        return TableCell(formatting.MISSING)
    epoch = "" if not row.best_epoch else f"epoch {row.best_epoch:.3g}"
    losses = [peer.validation_loss for peer in peers]
    best = row in peers and _leads(row.validation_loss, losses, lambda loss: f"{loss:.3f}", less=True)
    return TableCell(f"{row.validation_loss:.3f}", epoch, best)


def _cost_cell(row: ComparisonRow, axis: CostAxis, peers: list[ComparisonRow], table: ResultsTable) -> TableCell:
    value = row.cost(axis.name)
    if value is None:
        reason = _missing_reason(row, axis)
        if reason is None:
            return TableCell(formatting.MISSING)
        note = f"{axis.heading}: {reason}"
        if note not in table.footnotes:
            table.footnotes.append(note)
        return TableCell(formatting.MISSING, note=table.footnotes.index(note) + 1)

    def text_of(cost: float) -> str:
        return formatting.format_cost(axis.name, cost)

    # A cost of zero is not marked as best: zero-shot trains nothing.
    paid = [cost for peer in peers if (cost := peer.cost(axis.name))]
    marked = axis.better != "neither" and row in peers and value > 0
    return TableCell(text_of(value), best=marked and _leads(value, paid, text_of, less=axis.better == "less"))
