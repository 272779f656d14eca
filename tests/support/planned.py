"""A study on contents that are known by their hashes alone, and records of its runs."""

from collections.abc import Mapping, Sequence

from tuneoff.results.run_record import (
    NUMERICS_VERSION,
    Curve,
    Failure,
    PhaseResources,
    Provenance,
    Reading,
    Record,
    Resources,
    Status,
    TrainPoint,
    ValidationPoint,
)
from tuneoff.spec import DataSpec, StudySpec
from tuneoff.study.planner import ContentHashes, PlannedRun

HASHES = ContentHashes("d" * 16, {"starter": "a" * 16, "a/b": "b" * 16, "c/b": "c" * 16})


def study_of(**settings: object) -> StudySpec:
    return StudySpec.model_validate({"data": DataSpec(source="starter"), **settings})


def curve_of(
    losses: Mapping[int, float], *, steps: int = 0, cut_at: int | None = None, step_seconds: float = 1.0
) -> Curve:
    """A curve with these validation losses by step, after `steps` optimiser steps."""
    best = min(losses, key=lambda step: losses[step]) if losses else None
    return Curve(
        train=tuple(
            TrainPoint(
                step=step, epoch=1, seconds=step * step_seconds, loss=1, learning_rate=1e-3, grad_norm=1, tokens=1
            )
            for step in range(1, steps + 1)
        ),
        validation=tuple(ValidationPoint(step=step, epoch=1, seconds=1, loss=loss) for step, loss in losses.items()),
        best_step=best,
        best_validation_loss=None if best is None else losses[best],
        cut_at=cut_at,
    )


def resources_of(*, processes: int = 1, **seconds: float) -> Resources:
    """Resources of a run whose phases took so many seconds."""
    nothing = Reading(value=None, unit="B", reason="none")
    phases = {
        name: PhaseResources(
            wall_seconds=each, cpu_seconds=0, peak_memory_bytes=1, accelerator_peak_bytes=nothing, energy=nothing
        )
        for name, each in seconds.items()
    }
    return Resources(phases=phases, peak_memory_bytes=1, threads=1, processes=processes)


def record_of(
    run: PlannedRun,
    status: Status = "finished",
    *,
    losses: Mapping[int, float] | float = 1.0,
    cut_at: int | None = None,
    numerics: int = NUMERICS_VERSION,
    processes: int = 1,
) -> Record:
    """A record of a planned run. `losses`: validation losses by step, or that of the only validation."""
    by_step = losses if isinstance(losses, Mapping) else {1: losses}
    return Record(
        run_id=run.run_id,
        name=run.name,
        status=status,
        spec=run.spec,
        started_at="2026-01-01T00:00:00Z",
        finished_at="2026-01-01T00:00:01Z",
        failure=None if status == "finished" else Failure(type="Test", message=f"made to be {status}"),
        curve=curve_of(by_step, cut_at=cut_at),
        resources=resources_of(processes=processes, train=1.0, evaluate=1.0),
        provenance=Provenance(numerics_version=numerics),
    )


def completed(records: Sequence[Record]) -> dict[str, Record]:
    """The records as the planner takes them."""
    return {record.run_id: record for record in records}
