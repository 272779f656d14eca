"""The comparison as cells of text: what the page shows, worked out before the template sees it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tuneoff.metrics.registry import METRICS
from tuneoff.report import formatting
from tuneoff.report.folder import Interval, Row
from tuneoff.report.theme import Cast, Member
from tuneoff.results.run_record import Record

QUALITY = ("rouge1", "rouge2", "rougeL")
# cost -> column title, how to write it, whether less is better (None: neither)
COSTS: dict[str, tuple[str, Callable[[float], str], bool | None]] = {
    "train_seconds": ("Training time", formatting.seconds, True),
    "generate_seconds": ("Generation time", formatting.seconds, True),
    "peak_memory_bytes": ("Peak memory", formatting.size, True),
    "artefact_bytes": ("Size on disk", formatting.size, True),
    "trainable_parameters": ("Trainable parameters", formatting.count, None),
    "tokens_per_second": ("Training tokens", formatting.rate, False),
    "energy_joules": ("Energy", formatting.energy, True),
}


@dataclass(frozen=True)
class Cell:
    """One number. `note` is the number of a footnote, `best` marks the best method of its block."""

    text: str
    detail: str = ""
    best: bool = False
    note: int | None = None


@dataclass(frozen=True)
class Strip:
    """An interval on the scale of its table: positions in 0..100 of the drawn width."""

    mean: float
    low: float | None
    high: float | None
    anchor: float | None


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    title: str
    kind: str
    member: Member | None
    badges: tuple[str, ...]
    primary: Cell
    strip: Strip | None
    gain: Cell
    quality: tuple[Cell, ...]
    loss: Cell
    costs: tuple[Cell, ...]


@dataclass(frozen=True)
class Block:
    """The methods on one model, or the rows without one (`title` is None for the only model)."""

    title: str | None
    lines: tuple[Line, ...]


@dataclass
class Table:
    """The whole comparison. `footnotes` say why a number is missing, counted from 1; `unmeasured` why a whole cost has
    no number, and so no column."""

    primary: str
    quality: tuple[str, ...]
    costs: tuple[str, ...]
    blocks: list[Block] = field(default_factory=list)
    others: list[Line] = field(default_factory=list)
    footnotes: list[str] = field(default_factory=list)
    unmeasured: tuple[str, ...] = ()
    intervals: bool = False
    more: list[tuple[str, str, list[Cell]]] = field(default_factory=list)  # row title, model, further scores
    more_metrics: tuple[str, ...] = ()


def primary_metric(rows: Iterable[Row]) -> str | None:
    """The score that the report leads with: ROUGE-1, else the first score that any row has."""
    names = list(dict.fromkeys(name for row in rows for name, value in row.scores.items() if value.mean is not None))
    return "rouge1" if "rouge1" in names else next(iter(names), None)


def member_of(row: Row, records: Mapping[str, Record], cast: Cast) -> Member | None:
    """The colour and shape of a row: those of its runs. None for a row that no run stands behind."""
    return next((cast.of(records[run]) for run in row.runs if run in records), None)


def build(rows: Sequence[Row], records: Mapping[str, Record], cast: Cast) -> Table:
    """The table of a study. `records` are keyed by run folder."""
    primary = primary_metric(rows) or "rouge1"
    present = {name for row in rows for name, value in row.scores.items() if value.mean is not None}
    methods = [row for row in rows if row.kind == "method"]
    table = Table(
        primary=primary,
        quality=tuple(name for name in QUALITY if name in present and name != primary),
        costs=tuple(name for name in COSTS if any(row.cost(name) is not None for row in methods)),
    )
    table.unmeasured = tuple(
        f"{COSTS[name][0]}: {'; '.join(reasons)}"
        for name in COSTS
        if name not in table.costs and (reasons := dict.fromkeys(filter(None, (row.reason(name) for row in methods))))
    )
    table.intervals = any(row.score(primary).low is not None for row in rows)
    scale = _scale(rows, primary)
    for model in dict.fromkeys(row.model for row in methods):
        own = [row for row in methods if row.model == model]
        anchor = next((row.score(primary).mean for row in own if row.name == "zero_shot"), None)
        # What a failed method would have cost is no merit either.
        peers = [row for row in own if not row.status or row.status.get("finished")]
        lines = tuple(_line(row, peers, table, member_of(row, records, cast), scale, anchor) for row in own)
        table.blocks.append(Block(cast.apart(model), lines))
    table.others = [_line(row, [], table, None, scale, None) for row in rows if row.kind != "method"]
    shown = {primary, *table.quality}
    table.more_metrics = tuple(
        name for name in [*METRICS, *sorted(present - METRICS.keys())] if name in present - shown
    )
    for row in rows:
        cells = [_score_cell(row, name, methods) for name in table.more_metrics]
        table.more.append((row.title, cast.apart(row.model) or "", cells))
    return table


def _scale(rows: Iterable[Row], metric: str) -> tuple[float, float] | None:
    """The range of all means and intervals, with a little air."""
    spread = [row.score(metric) for row in rows]
    values = [value for one in spread for value in (one.mean, one.low, one.high) if value is not None]
    if not values:
        return None
    low, high = min(values), max(values)
    air = (high - low or 1.0) * 0.06
    return low - air, high + air


def _line(
    row: Row,
    peers: list[Row],
    table: Table,
    member: Member | None,
    scale: tuple[float, float] | None,
    anchor: float | None,
) -> Line:
    lost = sum(count for status, count in row.status.items() if status != "finished")
    badges = [] if not lost else [f"{lost} of {lost + row.status.get('finished', 0)} failed"]
    if row.seeds > 1:
        badges.append(f"{row.seeds} seeds")
    gain = row.gain_over_zero_shot.get(table.primary) or Interval()
    return Line(
        title=row.title,
        kind=row.kind,
        member=member,
        badges=tuple(badges),
        primary=_score_cell(row, table.primary, peers),
        strip=_strip(row.score(table.primary), scale, anchor),
        gain=Cell(formatting.score(table.primary, gain.mean, signed=True), _range(table.primary, gain, signed=True)),
        quality=tuple(_score_cell(row, name, peers) for name in table.quality),
        loss=_loss_cell(row, peers),
        costs=tuple(_cost_cell(row, name, peers, table) for name in table.costs),
    )


def _range(metric: str, value: Interval, *, signed: bool = False) -> str:
    if value.low is None or value.high is None:
        return ""
    return (
        f"{formatting.score(metric, value.low, signed=signed)} to {formatting.score(metric, value.high, signed=signed)}"
    )


def _strip(value: Interval, scale: tuple[float, float] | None, anchor: float | None) -> Strip | None:
    if value.mean is None or scale is None:
        return None
    start, end = scale

    def place(number: float | None) -> float | None:
        return None if number is None else round(100 * (number - start) / (end - start), 2)

    return Strip(place(value.mean) or 0.0, place(value.low), place(value.high), place(anchor))


def _leads(value: float, peers: Iterable[float | None], write: Callable[[float], str], *, less: bool) -> bool:
    """Whether a value is the best of its peers, or reads the same as the best, while some peer reads worse."""
    known = [peer for peer in peers if peer is not None]
    shown = {write(peer) for peer in known}
    return len(shown) > 1 and write(value) == write(min(known) if less else max(known))


def _score_cell(row: Row, metric: str, peers: list[Row]) -> Cell:
    value = row.score(metric)
    known = METRICS.get(metric)
    higher = known.higher_is_better if known else None
    best = False
    if value.mean is not None and higher is not None and row in peers:
        others = [peer.score(metric).mean for peer in peers if peer.model == row.model]
        best = _leads(value.mean, others, lambda number: formatting.score(metric, number), less=not higher)
    return Cell(formatting.score(metric, value.mean), _range(metric, value), best)


def _loss_cell(row: Row, peers: list[Row]) -> Cell:
    if row.validation_loss is None:
        return Cell(formatting.MISSING)
    epoch = "" if not row.best_epoch else f"epoch {row.best_epoch:.3g}"
    losses = [peer.validation_loss for peer in peers]
    best = row in peers and _leads(row.validation_loss, losses, lambda loss: f"{loss:.3f}", less=True)
    return Cell(f"{row.validation_loss:.3f}", epoch, best)


def _cost_cell(row: Row, name: str, peers: list[Row], table: Table) -> Cell:
    value = row.cost(name)
    _, write, less = COSTS[name]
    if value is None:
        reason = row.reason(name)
        if reason is None:
            return Cell(formatting.MISSING)
        note = f"{COSTS[name][0]}: {reason}"
        if note not in table.footnotes:
            table.footnotes.append(note)
        return Cell(formatting.MISSING, note=table.footnotes.index(note) + 1)
    # A cost of nothing is no merit: zero-shot trains nothing.
    paid = [cost for peer in peers if (cost := peer.cost(name))]
    best = less is not None and row in peers and value > 0 and _leads(value, paid, write, less=less)
    return Cell(write(value), best=best)
