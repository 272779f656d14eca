"""A whole comparison, from the spec to `summary.json`: prepare (reads only), then carry out (the only part that writes)."""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneoff import data, models
from tuneoff.data import Dataset, Example
from tuneoff.errors import UserError
from tuneoff.events import Event
from tuneoff.methods.protocol import Method
from tuneoff.record import (
    Document,
    read_predictions,
    write_documents,
    write_json,
    write_predictions,
)
from tuneoff.spec import StudySpec
from tuneoff.study import plan
from tuneoff.study.plan import Contents, PlannedRun


@dataclass(frozen=True)
class Prepared:
    """A study that was checked against its data, its models and its folder."""

    study: StudySpec
    folder: Path
    dataset: Dataset
    contents: Contents
    methods: Mapping[str, Method]
    runs: tuple[PlannedRun, ...]
    missing: tuple[PlannedRun, ...]  # without a finished record in the folder

    @property
    def counts(self) -> dict[str, int]:
        """Examples of each split."""
        return {name: len(getattr(self.dataset, name)) for name in ("train", "validation", "test")}


def prepare(study: StudySpec, folder: Path) -> Prepared:
    """Load the data, find the models, name the runs, look into the folder. Changes nothing there.

    Raises `UserError` for everything that can be known before a model is loaded.
    """
    built = plan.resolve(study)
    plan.check_writable(folder)
    dataset = data.load(study.data)
    contents = Contents(dataset.content_hash, {model.name: models.content_hash(model) for model in study.models})
    runs = tuple(plan.expand(study, contents))
    plan.check_folder(folder, study, contents)
    missing = tuple(run for run in runs if not plan.is_done(folder, run))
    return Prepared(study, folder, dataset, contents, built, runs, missing)
