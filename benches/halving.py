"""Pruned trials compared with the full grid on the same documents and seed: what pruning saves, what it loses.

    python benches/halving.py [--methods lora soft_prompt] [--trials 4] [--steps 12] [--output DIR]

Each rate is trained once, to its end, and also validated at the rungs, which changes nothing else. The planner then
carries out both searches on these records, each with its own refinement trial; for the pruned search, each record ends
where the limits of its trial stop it. A run is deterministic, so these are the decisions of a real search.
With `--output` the runs are kept, and the same command continues where an earlier one stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import report
from tuneoff import models
from tuneoff.data import load_dataset
from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Record
from tuneoff.spec import DataSpec, ModelSpec, RunSpec, StudySpec, TrainSpec
from tuneoff.study import planner
from tuneoff.study.executor import Job, LocalExecutor, SilentObserver
from tuneoff.study.planner import ContentHashes, PlannedRun, TrialGroup
from tuneoff.study.run_id import run_id_of
from tuneoff.study.search import rungs

# In nats per token; the diagnostics ignore a smaller rise of the validation loss too.
LOSS = 0.02
SAVED = 0.2
SPLITS = {"train": "train", "validation": "val", "test": "test"}  # and their files


@dataclass
class Audit:
    """Both searches of one method over one set of runs, by the rate that they were trained with."""

    study: StudySpec
    folder: Path
    hashes: ContentHashes
    records: dict[object, Record] = field(default_factory=dict)

    def search(self, *, pruned: bool) -> TrialGroup:
        """The search to its end; what is missing is trained."""
        study = self.study.model_copy(update={"halving": pruned})
        completed: dict[str, Record] = {}
        while True:
            plan = planner.plan(study, self.hashes, completed)
            trials = [run for run in plan.missing(completed) if run.spec.role == "trial"]
            if not trials:
                return plan.searches[0]
            for run in trials:
                if _rate(run.spec) not in self.records:
                    self.records[_rate(run.spec)] = self._train(run)
                completed[run.run_id] = self._as_pruned(run)

    def _train(self, run: PlannedRun) -> Record:
        checks = tuple((step, None) for step in rungs(self.hashes.schedule(run.spec).steps, run.spec.train.warmup))
        spec = run.spec.model_copy(update={"cut_above": checks})
        run_id = run_id_of(spec, self.hashes.models[spec.model.name], self.hashes.data)
        folder = RunDir(self.folder / f"{spec.method.name}-{run_id}")
        if folder.has_record() and folder.read_record().ended:
            return folder.read_record()
        print(f"{spec.method.name} at {_rate(spec)}", file=sys.stderr, flush=True)
        with LocalExecutor() as executor:
            [done] = executor.run([Job(spec, run_id, run.name, folder)], SilentObserver())
        if not done.record.ended:
            sys.exit(f"{run.name}: {done.record.failure}")
        return done.record

    def _as_pruned(self, run: PlannedRun) -> Record:
        """The record as it would be if the limits of `run` had stopped it."""
        record, stopped = self.records[_rate(run.spec)], self.pruned_at(run)
        if stopped is None:
            return record
        curve = record.curve
        kept = {
            "cut_at": stopped,
            "train": tuple(point for point in curve.train if point.step <= stopped),
            "validation": tuple(point for point in curve.validation if point.step <= stopped),
        }
        return record.model_copy(update={"curve": curve.model_copy(update=kept)})

    def pruned_at(self, run: PlannedRun) -> int | None:
        """The first rung at which the recorded loss is above the limit."""
        losses = {point.step: point.loss for point in self.records[_rate(run.spec)].curve.validation}
        above = (step for step, limit in run.spec.cut_above if limit is not None and losses.get(step, 0.0) > limit)
        return next(above, None)

    def spent(self, group: TrialGroup) -> int:
        """Optimiser steps of all trials of a search."""
        return sum(self._as_pruned(run).curve.steps for run, _ in group.tried)


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
    hashes = ContentHashes(
        dataset.content_hash,
        {model.name: models.model_content_hash(model)},
        train_examples=len(dataset.train),
    )
    train = TrainSpec(max_steps=chosen.steps, min_steps=chosen.steps, batch_size=chosen.batch_size)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for method in chosen.methods:
            study = StudySpec(methods=(method,), trials=chosen.trials, models=(model,), data=data, train=train)
            audit = Audit(study, chosen.output or Path(scratch), hashes)
            full, pruned = audit.search(pruned=False), audit.search(pruned=True)
            for name, cell in (("full grid", full), ("pruned", pruned)):
                tried = ", ".join(_said(audit, run, trial.loss) for run, trial in cell.tried)
                print(
                    f"{method}, {name}: takes {cell.chosen}, validation loss {_loss(cell):.4f}, "
                    f"{audit.spent(cell)} steps ({tried})",
                    file=sys.stderr,
                )
            rows.append(
                report.at_most(f"halving {method}: loss above the full grid's", LOSS, _loss(pruned) - _loss(full))
            )
            saved = 1 - audit.spent(pruned) / audit.spent(full)
            rows.append(report.at_least(f"halving {method}: fraction of steps saved", SAVED, saved))
    report.show(rows)


def _loss(group: TrialGroup) -> float:
    return min(trial.loss for _, trial in group.tried)


def _said(audit: Audit, run: PlannedRun, loss: float) -> str:
    cut = audit.pruned_at(run)
    words = f"pruned at step {cut}" if cut else f"{loss:.4f}"
    return f"{_rate(run.spec)}: {words}"


if __name__ == "__main__":
    main()
