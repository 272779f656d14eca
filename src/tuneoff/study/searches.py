"""`search.json`: what each method tried, what it cost, what was chosen, and what halving saved."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneoff.results.run_record import Record, plain_numbers, read_record, write_json
from tuneoff.spec import RunSpec
from tuneoff.study import search
from tuneoff.study.planner import Cell, PlannedRun
from tuneoff.study.search import Trial


@dataclass(frozen=True)
class Whole:
    """A run that goes to its end: its optimiser steps, and those after which it validates by its schedule."""

    steps: int
    checks: frozenset[int]


def write(folder: Path, cells: Sequence[Cell], whole_of: Callable[[RunSpec], Whole], *, halving: bool) -> None:
    """Write `search.json` from the records in a study folder."""
    found = [_cell(folder, cell, whole_of, halving=halving) for cell in cells]
    write_json(folder / "search.json", plain_numbers({"criterion": "validation loss", "cells": found}))


def _cell(folder: Path, cell: Cell, whole_of: Callable[[RunSpec], Whole], *, halving: bool) -> dict[str, Any]:
    records = [_record(folder / run.folder) for run, _ in cell.tried]
    rows = [_row(run, trial, record) for (run, trial), record in zip(cell.tried, records, strict=True)]
    known = cell.chosen is not None
    plain = {
        "model": cell.model,
        "method": cell.method,
        "fraction": cell.fraction,
        "hyperparameter": cell.name,
        "trials": rows,
        "reserve_because": cell.reserve_because,
        "chosen": cell.chosen,
        "on_edge": search.on_edge(cell.method, cell.name, [trial for _, trial in cell.tried]) if known else None,
    }
    if halving and any(run.spec.cut_above for run, _ in cell.tried):
        plain["saved"] = saved([record for record in records if record is not None], whole_of)
    return plain


def _row(run: PlannedRun, trial: Trial, found: Record | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "value": trial.value,
        "validation_loss": trial.loss,
        "status": found.status if found else "to do",
        "seconds": _seconds(found),
        "steps": len(found.curve.train) if found else None,
        "run": run.folder.name,
    }
    if run.spec.cut_above:
        row["cut_at"] = found.curve.cut_at if found else None
        row["rungs"] = [
            {"step": step, "cut_above": limit, "validation_loss": trial.rungs.get(step)}
            for step, limit in run.spec.cut_above
        ]
    return row


def saved(records: Sequence[Record], whole_of: Callable[[RunSpec], Whole]) -> dict[str, float | None]:
    """Steps and seconds that trials did not take and would have taken to their ends, at each trial's own pace.

    Validations at rungs that the schedule does not have are taken off the seconds, so they may be below 0; None where
    a trial left no times.
    """
    steps, seconds = 0, 0.0
    for record in records:
        whole, curve = whole_of(record.spec), record.curve
        extra = sum(point.step not in whole.checks for point in curve.validation)
        left = 0 if curve.cut_at is None else whole.steps - curve.cut_at
        spared = 0 if curve.cut_at is None else sum(step > curve.cut_at for step in whole.checks)
        steps += left
        seconds += left * _pace(record, "train", len(curve.train))
        seconds += (spared - extra) * _pace(record, "evaluate", len(curve.validation))
    return {"steps": steps, "seconds": None if math.isnan(seconds) else seconds}


def _pace(record: Record, phase: str, times: int) -> float:
    """Seconds of a phase for each of the `times` it was done; NaN without a reading."""
    if not times:
        return 0.0
    if record.resources is None or phase not in record.resources.phases:
        return math.nan
    return record.resources.phases[phase].wall_seconds / times


def _record(folder: Path) -> Record | None:
    return read_record(folder) if (folder / "record.json").exists() else None


def _seconds(found: Record | None) -> float | None:
    if found is None or found.resources is None:
        return None
    return sum(phase.wall_seconds for phase in found.resources.phases.values())
