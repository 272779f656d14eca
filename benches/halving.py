"""Successive halving against the full grid of trials on the same documents and seed: what it saves, what it loses.

    python benches/halving.py [--methods lora soft_prompt] [--trials 4] [--steps 12] [--output DIR]

Each rate is trained once, to its end, with a look at the rungs; such a look changes nothing else. Both searches are
then what `tuneoff.study.planner` makes of these records, each with its own reserve trial; for the halved one the
records are read as far as its limits let them go. A run is deterministic, so these are the decisions that it takes.
With `--output` the runs are kept, and the same command goes on where an earlier one stopped.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tuneoff.study.halving import rungs

import report
from tuneoff import models
from tuneoff.data import Dataset, load_dataset
from tuneoff.engine.batching import total_steps
from tuneoff.results.run_record import Record, read_record
from tuneoff.spec import DataSpec, ModelSpec, RunSpec, StudySpec, TrainSpec
from tuneoff.study import planner
from tuneoff.study.executor import Job, execute
from tuneoff.study.planner import Cell, Contents, Halving, PlannedRun

# In nats a token; the same below which the health checks call a rise of validation loss a flutter.
LOSS = 0.02
SAVED = 0.2
SPLITS = {"train": "train", "validation": "val", "test": "test"}  # and their files


@dataclass
class Audit:
    """Both searches of one method over one set of runs, by the rate they were trained with."""

    study: StudySpec
    folder: Path
    dataset: Dataset
    contents: Contents
    records: dict[object, Record] = field(default_factory=dict)

    def search(self, *, halved: bool) -> Cell:
        """The search to its end; what is missing is trained."""
        study = self.study.model_copy(update={"halving": halved})
        while True:
            seen = Halving(lambda _spec: self.steps, self.rungs_of)
            found = planner.expand(study, self.contents, self.loss_of, seen)
            missing = [run for run in found.runs if run.spec.role == "trial" and _rate(run.spec) not in self.records]
            if not missing:
                return found.cells[0]
            for run in missing:
                self.records[_rate(run.spec)] = self._train(run)

    @property
    def steps(self) -> int:
        """Optimiser steps of a trial that goes to its end."""
        train = self.study.train
        return total_steps(len(self.dataset.train), train.batch_size, train.epochs, train.max_steps, train.min_steps)

    def _train(self, run: PlannedRun) -> Record:
        looks = tuple((step, None) for step in rungs(self.steps, run.spec.train.warmup))
        spec = run.spec.model_copy(update={"cut_above": looks})
        run_id = planner.run_id_of(spec, self.contents.models[spec.model.name], self.contents.data)
        folder = self.folder / f"{spec.method.name}-{run_id}"
        if (folder / "record.json").exists() and read_record(folder).status in ("finished", "diverged"):
            return read_record(folder)
        print(f"{spec.method.name} at {_rate(spec)}", file=sys.stderr, flush=True)
        job = Job(spec, run_id, run.name, folder)
        [outcome] = execute([job], on_event=lambda _job, _event: None)
        if outcome.record.status not in ("finished", "diverged"):
            sys.exit(f"{run.name}: {outcome.record.failure}")
        return outcome.record

    def loss_of(self, run: PlannedRun) -> float | None:
        """As `plan.trial_loss` would have it of a run that was cut where its limits say."""
        record = self.records.get(_rate(run.spec))
        if run.spec.role != "trial" or record is None:
            return None
        loss = record.curve.best_validation_loss
        return math.inf if loss is None or record.status != "finished" or self.cut_at(run) else loss

    def rungs_of(self, run: PlannedRun) -> Mapping[int, float]:
        """As `plan.trial_rungs` would have it."""
        record = self.records.get(_rate(run.spec))
        if record is None or record.status != "finished":
            return {}
        last = self.cut_at(run) or self.steps
        steps = {step for step, _ in run.spec.cut_above}
        return {at.step: at.loss for at in record.curve.validation if at.step in steps and at.step <= last}

    def cut_at(self, run: PlannedRun) -> int | None:
        """The first rung at which the recorded loss is above the limit."""
        losses = {point.step: point.loss for point in self.records[_rate(run.spec)].curve.validation}
        above = (step for step, limit in run.spec.cut_above if limit is not None and losses.get(step, 0.0) > limit)
        return next(above, None)

    def spent(self, cell: Cell) -> int:
        """Optimiser steps of all trials of a search."""
        done = ((self.cut_at(run), len(self.records[_rate(run.spec)].curve.train)) for run, _ in cell.tried)
        return sum(whole if cut is None else cut for cut, whole in done)


def _rate(spec: RunSpec) -> object:
    return spec.method.hyperparameters["learning_rate"]


def _data(chosen: argparse.Namespace) -> DataSpec:
    """scitldr_a where it is at hand (see `workload.py`), else the starter set."""
    folder = Path(os.environ.get("TUNEOFF_BENCH_DATA", Path(__file__).parents[2] / "shared" / "data" / "scitldr_a"))
    few = {
        "max_train_documents": chosen.steps * chosen.batch_size,
        "max_validation_documents": chosen.validation,
        "max_test_documents": 1,
    }
    if not folder.exists():
        return DataSpec(source="starter", **few)
    files = {f"{split}_file": str(folder / f"{name}.jsonl") for split, name in SPLITS.items()}
    return DataSpec(**files, **few)


def main() -> None:
    """Train what is missing, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["lora", "soft_prompt"])
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--validation", type=int, default=40, help="documents")
    parser.add_argument("--output", type=Path, help="a folder that keeps the runs")
    chosen = parser.parse_args()
    data = _data(chosen)
    dataset, model = load_dataset(data), ModelSpec(name="starter")
    contents = Contents(dataset.content_hash, {model.name: models.model_content_hash(model)})
    train = TrainSpec(max_steps=chosen.steps, min_steps=chosen.steps, batch_size=chosen.batch_size)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for method in chosen.methods:
            study = StudySpec(methods=(method,), trials=chosen.trials, models=(model,), data=data, train=train)
            audit = Audit(study, chosen.output or Path(scratch), dataset, contents)
            full, halved = audit.search(halved=False), audit.search(halved=True)
            for name, cell in (("full grid", full), ("halving", halved)):
                tried = ", ".join(_said(audit, run, trial.loss) for run, trial in cell.tried)
                print(
                    f"{method}, {name}: takes {cell.chosen}, validation loss {_loss(cell):.4f}, "
                    f"{audit.spent(cell)} steps ({tried})",
                    file=sys.stderr,
                )
            rows.append(
                report.at_most(f"halving {method}: loss above the full grid's", LOSS, _loss(halved) - _loss(full))
            )
            share = 1 - audit.spent(halved) / audit.spent(full)
            rows.append(report.at_least(f"halving {method}: share of steps saved", SAVED, share))
    report.show(rows)


def _loss(cell: Cell) -> float:
    return min(trial.loss for _, trial in cell.tried)


def _said(audit: Audit, run: PlannedRun, loss: float) -> str:
    cut = audit.cut_at(run)
    words = f"cut at step {cut}" if cut else f"{loss:.4f}"
    return f"{_rate(run.spec)}: {words}"


if __name__ == "__main__":
    main()
