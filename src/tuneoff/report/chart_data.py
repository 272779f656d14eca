"""What a record gives a chart: rows of its curves and timeline, and single numbers with their unit in the name."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from tuneoff.report.theme import Cast
from tuneoff.results.run_record import Record, TimelinePoint, TrainPoint

# More points than pixels only make the page heavy.
CURVE_POINTS = 300
TIMELINE_POINTS = 400


def train_rows(record: Record, cast: Cast) -> list[dict[str, Any]]:
    """The training curve, averaged over neighbouring steps down to `CURVE_POINTS`."""
    points = record.curve.train
    width = -(-len(points) // CURVE_POINTS) or 1
    buckets: Iterable[Sequence[TrainPoint]] = (points[at : at + width] for at in range(0, len(points), width))
    return [
        {
            "method": cast.of(record).label,
            "run": record.name,
            "epoch": round(bucket[-1].epoch, 4),
            "loss": round(sum(point.loss for point in bucket) / len(bucket), 5),
        }
        for bucket in buckets
    ]


def validation_rows(record: Record, cast: Cast) -> list[dict[str, Any]]:
    """The validation curve of a run that trains."""
    if not record.curve.train:
        return []
    return [
        {
            "method": cast.of(record).label,
            "run": record.name,
            "epoch": round(point.epoch, 4),
            "loss": round(point.loss, 5),
            "kept": point.step == record.curve.best_step,
        }
        for point in record.curve.validation
    ]


def level_rows(record: Record, cast: Cast) -> list[dict[str, Any]]:
    """The one validation loss of a run that trains nothing."""
    if record.curve.train or not record.curve.validation:
        return []
    loss = round(record.curve.validation[-1].loss, 5)
    return [{"method": cast.of(record).label, "run": record.name, "loss": loss}]


def thin(points: Sequence[TimelinePoint]) -> list[TimelinePoint]:
    """At most `TIMELINE_POINTS` samples. Of each stretch the one with the most memory is kept: peaks must survive."""
    width = -(-len(points) // TIMELINE_POINTS) or 1
    stretches = (points[at : at + width] for at in range(0, len(points), width))
    return [max(stretch, key=lambda point: point.memory_bytes) for stretch in stretches]


def phases(record: Record) -> list[dict[str, Any]]:
    """Stretches of one phase in the timeline of a run, shaded in turn."""
    points = record.resources.timeline if record.resources else ()
    if not points:
        return []
    starts = [points[0], *(after for before, after in pairwise(points) if after.phase != before.phase)]
    ends = [point.seconds for point in starts[1:]] + [points[-1].seconds]
    whole = points[-1].seconds - points[0].seconds
    return [
        {
            "phase": point.phase,
            "start": point.seconds,
            "end": end,
            "shaded": index % 2 == 1,
            "wide": end - point.seconds > 0.08 * whole,  # room for its name
        }
        for index, (point, end) in enumerate(zip(starts, ends, strict=True))
    ]


def phase_seconds(record: Record, phase: str) -> float | None:
    """Wall seconds of one phase."""
    measured = record.resources.phases if record.resources else {}
    return measured[phase].wall_seconds if phase in measured else None


def all_seconds(record: Record) -> float | None:
    """Wall seconds of all phases."""
    return sum(phase.wall_seconds for phase in record.resources.phases.values()) if record.resources else None


def peak_bytes(record: Record) -> float | None:
    """Peak of the memory that runs out first."""
    return None if record.resources is None else record.resources.scarce_peak_bytes


def artefact_bytes(record: Record) -> float | None:
    """Bytes of the artefact as written."""
    return None if record.artefact is None else float(record.artefact.bytes)


def trainable(record: Record) -> float | None:
    """Number of trainable parameters."""
    return None if record.trainable_parameters is None else float(record.trainable_parameters)


def joules(record: Record) -> float | None:
    """Energy of all phases; None unless every phase has a reading."""
    readings = [phase.energy.value for phase in record.resources.phases.values()] if record.resources else []
    measured = [value for value in readings if value is not None]
    return sum(measured) if measured and len(measured) == len(readings) else None
