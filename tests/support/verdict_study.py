"""A study folder with records and scores, written by the functions of `tuneoff.results.run_record`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tuneoff.results.run_record import (
    Artefact,
    Document,
    Failure,
    PhaseResources,
    Prediction,
    Reading,
    Record,
    Resources,
    write_documents,
    write_predictions,
    write_record,
)
from tuneoff.spec import DataSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec

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
) -> Path:
    """One run; its training takes `seconds`, its generation a tenth of that. Returns the run's folder."""
    name = f"{method}-s{seed}"
    folder = study / "runs" / f"{model.replace('/', '-')}-{name}"
    folder.mkdir(parents=True)
    trained = method != "zero_shot"
    phases = {"generate": phase(seconds / 10, energy)} | ({"train": phase(seconds, energy)} if trained else {})
    spec = RunSpec(
        model=ModelSpec(name=model),
        prompt=PromptSpec(),
        data=DataSpec(source="starter"),
        method=MethodSpec(name=method),
        seed=seed,
    )
    write_record(
        folder,
        Record(
            run_id=folder.name,
            name=name,
            status=status,  # type: ignore[arg-type]
            spec=spec,
            started_at="2026-01-01T00:00:00+00:00",
            failure=None if status == "finished" else Failure(type="RunFailure", message="loss is not finite"),
            resources=Resources(phases=phases, peak_memory_bytes=2000, threads=1),
            trainable_parameters=10 if trained else 0,
            artefact=Artefact(format="peft" if trained else "none", bytes=50 if trained else 0),
        ),
    )
    write_predictions(folder, (Prediction(id=key, text="", scores={"rouge1": value}) for key, value in scores.items()))
    return folder


def study_folder(parent: Path, groups: int = 20, models: tuple[str, ...] = ("starter",)) -> Path:
    """Zero-shot once, LoRA and full twice each, on two examples of each document group."""
    study = parent / "study"
    rng = np.random.default_rng(5)
    ids = [f"g{group}-{aspect}" for group in range(groups) for aspect in "ab"]
    write_documents(study, (Document(id=name, group=name.split("-")[0], document="", references=("",)) for name in ids))
    hardness = rng.normal(30, 10, len(ids))
    for model in models:
        for method, mean, seeds in (("zero_shot", -12, 1), ("lora", 0, 2), ("full", 0.3, 2)):
            for seed in range(seeds):
                values = np.clip(hardness + mean + rng.normal(0, 4, len(ids)), 0, 100)
                add_run(study, method, seed, dict(zip(ids, values.tolist(), strict=True)), model=model)
    return study
