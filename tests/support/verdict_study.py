"""Study folders with records and scores, but without models and texts."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import (
    Artefact,
    Document,
    Failure,
    PhaseResources,
    Prediction,
    Reading,
    Record,
    Resources,
)
from tuneoff.results.study_dir import StoredStudy, StudyDir
from tuneoff.spec import DataSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec, StudySpec

NO_COUNTER = Reading(value=None, unit="J", reason="no counter")


def phase(seconds: float, energy: Reading = NO_COUNTER) -> PhaseResources:
    return PhaseResources(
        wall_seconds=seconds,
        cpu_seconds=seconds,
        peak_memory_bytes=1000,
        accelerator_peak_bytes=Reading(value=None, unit="bytes", reason="no accelerator"),
        energy=energy,
    )


def add_run(
    study: Path,
    method: str,
    seed: int,
    scores: Mapping[str, float | None],
    *,
    model: str = "starter",
    status: str = "finished",
    seconds: float = 10.0,
    energy: Reading = NO_COUNTER,
) -> RunDir:
    """Write one run. Its training takes `seconds`, its generation a tenth of that."""
    name = f"{method}-s{seed}"
    folder = StudyDir(study).run_dir(f"{model.replace('/', '-')}-{name}")
    trained = method != "zero_shot"
    phases = {"generate": phase(seconds / 10, energy)} | ({"train": phase(seconds, energy)} if trained else {})
    spec = RunSpec(
        model=ModelSpec(name=model),
        prompt=PromptSpec(),
        data=DataSpec(source="starter"),
        method=MethodSpec(name=method),
        seed=seed,
    )
    folder.write_record(
        Record(
            run_id=folder.name,
            name=name,
            status=status,
            spec=spec,
            started_at="2026-01-01T00:00:00+00:00",
            failure=None if status == "finished" else Failure(type="RunFailure", message="loss is not finite"),
            resources=Resources(phases=phases, peak_memory_bytes=2000, threads=1),
            trainable_parameters=10 if trained else 0,
            artefact=Artefact(format="peft" if trained else "none", bytes=50 if trained else 0),
        )
    )
    folder.write_predictions(Prediction(id=key, text="", scores={"rouge1": value}) for key, value in scores.items())
    return folder


def study_folder(parent: Path, groups: int = 20, models: tuple[str, ...] = ("starter",)) -> Path:
    """Zero-shot once, LoRA and full twice each, on two examples of each document group; no `study.json`."""
    study = parent / "study"
    rng = np.random.default_rng(5)
    ids = [f"g{group}-{aspect}" for group in range(groups) for aspect in "ab"]
    StudyDir(study).write_documents(
        Document(id=name, group=name.split("-")[0], document="", references=("",)) for name in ids
    )
    hardness = rng.normal(30, 10, len(ids))
    for model in models:
        for method, mean, seeds in (("zero_shot", -12, 1), ("lora", 0, 2), ("full", 0.3, 2)):
            for seed in range(seeds):
                values = np.clip(hardness + mean + rng.normal(0, 4, len(ids)), 0, 100)
                add_run(study, method, seed, dict(zip(ids, values.tolist(), strict=True)), model=model)
    return study


def divide_into_folds(study: Path, folds: int = 2) -> None:
    """Make of each run one for each fold, which has the outputs for a part of the document groups."""
    groups = load(study).groups
    fold_of = {group: 1 + index % folds for index, group in enumerate(sorted(set(groups.values())))}
    for folder in run_dirs(study):
        for fold in range(1, folds + 1):
            part = StudyDir(study).run_dir(f"{folder.name}-fold{fold}")
            shutil.copytree(folder.path, part.path)
            data = DataSpec(train_file="x", folds=folds, fold=fold)
            record = edit_spec(part, data=data)
            part.write_predictions(row for row in folder.read_predictions() if fold_of[groups[row.id]] == fold)
            part.write_record(record.model_copy(update={"run_id": part.name, "name": f"{record.name}-fold{fold}"}))
        shutil.rmtree(folder.path)


def load(study: Path) -> StoredStudy:
    """The folder, read once."""
    return StudyDir(study).load()


def run_dirs(study: Path) -> list[RunDir]:
    """All run folders, by name."""
    return StudyDir(study).run_dirs()


def write_spec(study: Path, **settings: Any) -> StudySpec:
    """Write a `study.json` with these settings."""
    spec = StudySpec.model_validate({"data": {"source": "starter"}, **settings})
    StudyDir(study).write_spec(spec)
    return spec


def edit_record(folder: RunDir, **update: Any) -> Record:
    """Change fields of a record, given as models or as plain values, and write it back."""
    record = folder.read_record()
    plain = {name: value.model_dump() if hasattr(value, "model_dump") else value for name, value in update.items()}
    changed = Record.model_validate({**record.model_dump(), **plain})
    folder.write_record(changed)
    return changed


def edit_spec(folder: RunDir, **update: Any) -> Record:
    """Change fields of the spec of a run."""
    return edit_record(folder, spec=folder.read_record().spec.model_copy(update=update))


def edit_predictions(folder: RunDir, change: Callable[[Prediction], Prediction]) -> None:
    """Change every prediction of a run."""
    folder.write_predictions([change(row) for row in folder.read_predictions()])
    folder.write_record(folder.read_record())  # its manifest has the digest of the changed predictions
