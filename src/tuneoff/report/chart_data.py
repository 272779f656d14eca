"""Rows of data for charts, and notes on times that were measured with concurrent runs."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tuneoff.report.theme import MethodStyles
from tuneoff.results.packed_points import column
from tuneoff.results.run_record import Record, TimelinePoint
from tuneoff.results.study_state import SearchCell, TrialResult
from tuneoff.results.summary import BandPoint, Crossover, SizeCurve
from tuneoff.verdict.costs import ModelMethod, concurrent_runs, model_and_method

# More points than pixels would only enlarge the page.
CURVE_POINTS = 300
TIMELINE_POINTS = 400
# Of all runs in one chart. Hundreds of lines need fewer points each, and a page must open anywhere.
CHART_POINTS = 10_000
_FEWEST_POINTS = 10


def points_each(most: int, runs: int) -> int:
    """Points of each of the `runs` in one chart: `most`, or fewer in a chart of many runs."""
    return max(_FEWEST_POINTS, min(most, CHART_POINTS // max(1, runs)))


def train_rows(record: Record, styles: MethodStyles, most: int = CURVE_POINTS) -> list[dict[str, Any]]:
    """The training curve with at most `most` points, each the mean over neighbouring steps."""
    points = record.curve.train
    width = -(-len(points) // most) or 1
    epochs, losses = column(points, "epoch"), column(points, "loss")
    buckets = [slice(at, min(at + width, len(points))) for at in range(0, len(points), width)]
    return [
        {
            "method": styles.of(record).label,
            "run": record.name,
            "epoch": round(epochs[bucket.stop - 1], 4),
            "loss": round(sum(losses[bucket]) / (bucket.stop - bucket.start), 5),
        }
        for bucket in buckets
    ]


def validation_rows(record: Record, styles: MethodStyles, most: int = CURVE_POINTS) -> list[dict[str, Any]]:
    """The validation curve; empty for a method that trains nothing. Of more than `most` losses, evenly spaced ones, the
    best and the last."""
    if not record.curve.train:
        return []
    points = record.curve.validation
    width = -(-len(points) // most) or 1
    return [
        {
            "method": styles.of(record).label,
            "run": record.name,
            "epoch": round(point.epoch, 4),
            "loss": round(point.loss, 5),
            "kept": point.step == record.curve.best_step,
        }
        for index, point in enumerate(points)
        if index % width == 0 or point.step == record.curve.best_step or index == len(points) - 1
    ]


def level_rows(record: Record, styles: MethodStyles) -> list[dict[str, Any]]:
    """The single validation loss of a method that trains nothing."""
    if record.curve.train or not record.curve.validation:
        return []
    loss = round(record.curve.validation[-1].loss, 5)
    return [{"method": styles.of(record).label, "run": record.name, "loss": loss}]


def thinned(points: Sequence[TimelinePoint], most: int = TIMELINE_POINTS) -> list[TimelinePoint]:
    """At most `most` samples. Of neighbours the one with the most memory is kept, for the peaks."""
    width = -(-len(points) // most) or 1
    memory = column(points, "memory_bytes")
    buckets = (range(at, min(at + width, len(points))) for at in range(0, len(points), width))
    return [points[max(bucket, key=memory.__getitem__)] for bucket in buckets]


def phase_rows(record: Record) -> list[dict[str, Any]]:
    """Start and end of each phase in the timeline of a run; every second one is shaded.

    Later than the start, time of loading is that of saving checkpoints.
    """
    points = record.resources.timeline if record.resources else ()
    if not points:
        return []
    starts = [points[0], *(after for before, after in pairwise(points) if after.phase != before.phase)]
    ends = [point.seconds for point in starts[1:]] + [points[-1].seconds]
    total = points[-1].seconds - points[0].seconds
    return [
        {
            "phase": "checkpoint" if index and point.phase == "load" else point.phase,
            "start": point.seconds,
            "end": end,
            "shaded": index % 2 == 1,
            "wide": end - point.seconds > 0.08 * total,  # enough room for the name
        }
        for index, (point, end) in enumerate(zip(starts, ends, strict=True))
    ]


def total_seconds(record: Record) -> float | None:
    """Wall seconds of all phases."""
    return record.resources.total_seconds if record.resources else None


def peak_bytes(record: Record) -> float | None:
    """Peak of the memory that is exhausted first."""
    return record.resources.limiting_peak_bytes if record.resources else None


def artefact_bytes(record: Record) -> float | None:
    """Size of the artefact on disk."""
    return float(record.artefact.bytes) if record.artefact else None


def cost_note(records: Iterable[Record], timing: Mapping[ModelMethod, Record], styles: MethodStyles) -> str | None:
    """Where times and energy in a chart come from; None if no run had concurrent runs."""
    shared = [record for record in records if record.status == "finished" and concurrent_runs(record) > 1]
    if not shared:
        return None
    most = f"up to {max(map(concurrent_runs, shared))} concurrent runs"
    untimed = [record for record in shared if model_and_method(record) not in timing]
    if not untimed:
        return f"{most}: time and energy are those of a timing run alone"
    if len(untimed) == len(shared):
        return f"time and energy were measured with {most}: they are not the costs of a run alone"
    names = ", ".join(dict.fromkeys(styles.of(record).label for record in untimed))
    return f"{most}: time and energy are those of a timing run alone, except for {names}, measured with concurrent runs"


def timeline_note(records: Iterable[Record]) -> str | None:
    """What slowed the runs in a chart over their own seconds; None if no run had concurrent runs."""
    most = max(map(concurrent_runs, records), default=1)
    return None if most == 1 else f"measured with up to {most} concurrent runs: slower than a run alone"


def swept_cells(cells: Sequence[SearchCell]) -> list[SearchCell]:
    """The searches of learning rates on the largest fraction of the data, with two or more losses."""
    most = max((cell.fraction for cell in cells), default=1.0)
    return [
        cell
        for cell in cells
        if cell.hyperparameter == "learning_rate"
        and cell.fraction == most
        and sum(loss_of_trial(trial) is not None for trial in cell.trials) > 1
    ]


def loss_of_trial(trial: TrialResult) -> float | None:
    """The loss at the end of a trial, or where it was pruned; None if it has none."""
    return trial.validation_loss if trial.cut_at is None else trial.loss_when_pruned


@dataclass(frozen=True)
class SizeGain:
    """The gain of a method over the anchor at each amount of data, with its band."""

    method: str
    band: tuple[BandPoint, ...]


def anchor_of(curves: Sequence[SizeCurve]) -> str:
    """The method that gains are over: zero-shot if the study has it, otherwise the first method."""
    return next((curve.method for curve in curves if curve.method == "zero_shot"), curves[0].method)


def gains_over(anchor: str, crossovers: Iterable[Crossover], methods: Collection[str]) -> list[SizeGain]:
    """The gains of `methods` over one of them."""
    gains = []
    for pair in crossovers:
        if anchor not in (pair.first, pair.second) or not {pair.first, pair.second} <= set(methods):
            continue
        if pair.second == anchor:
            gains.append(SizeGain(pair.first, pair.band))
        else:
            gains.append(SizeGain(pair.second, tuple(map(_turned, pair.band))))
    return gains


def _turned(point: BandPoint) -> BandPoint:
    """The second minus the first."""
    return point.model_copy(update={"difference": -point.difference, "low": -point.high, "high": -point.low})


def has_distinct_amounts(curves: Iterable[SizeCurve]) -> bool:
    """Whether training read another number of examples at each fraction of the data."""
    read = {point.fraction: point.examples for curve in curves for point in curve.points}
    return len(set(read.values())) == len(read)


def changes_of_order(crossovers: Iterable[Crossover], labels: Mapping[str, str]) -> list[tuple[str, int, int]]:
    """Where the better method of a pair is shown to change: in words, from and to a number of examples."""
    return [
        (f"{large} overtakes {small}", pair.low, pair.high)
        for pair in crossovers
        if pair.outcome == "located"
        and (small := labels.get(pair.small or ""))
        and (large := labels.get(pair.large or ""))
        and pair.low is not None
        and pair.high is not None
    ]
