"""Study folders as a real comparison leaves them, made of records: no model runs here."""

import math
import random
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tuneoff.report import WrittenReport, figures, render
from tuneoff.report.pictures import Pictures
from tuneoff.results.cost_axes import COST_AXES, Cost
from tuneoff.results.run_record import (
    Artefact,
    Curve,
    Document,
    Failure,
    Machine,
    PhaseResources,
    Prediction,
    Provenance,
    Reading,
    Record,
    Resources,
    RunDetails,
    TimelinePoint,
    TrainPoint,
    ValidationPoint,
)
from tuneoff.results.study_dir import StoredStudy, StudyDir
from tuneoff.results.study_state import DataFile
from tuneoff.results.summary import ComparisonRow, FailedRun, Interval, ModelToUse, RowKind, Summary, Verdict
from tuneoff.spec import DataSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec, StudySpec
from tuneoff.verdict import summarize

METRICS = ("rouge1", "rouge2", "rougeL", "rougeLsum", "length", "novelty", "repetition")
TITLES = {"zero_shot": "Zero-shot", "soft_prompt": "Soft prompt", "lora": "LoRA", "full": "Full fine-tuning"}
EXTRACTIVE = {"lead1": "LEAD-1", "lead3": "LEAD-3", "oracle": "Oracle sentence"}
# quality, seconds of training, peak bytes, artefact bytes, trainable parameters, first and last loss
FACTS = {
    "zero_shot": (19.0, 0.0, 0.92e9, 0, 0, 3.61, 3.61),
    "soft_prompt": (24.0, 74.0, 1.21e9, 49_000, 11_520, 3.61, 3.02),
    "lora": (33.0, 92.0, 1.38e9, 19_600_000, 4_884_480, 3.61, 2.41),
    "full": (34.0, 141.0, 2.61e9, 538_000_000, 134_515_008, 3.61, 2.38),
}
SENTENCES = (
    "Neural summarizers copy long stretches of their input and repeat themselves when the beam is wide.",
    "We present a corpus of clinical questions with one-sentence answers written by two physicians each.",
    "Our parser reaches the accuracy of much larger systems while it reads a sentence only once, from left to right.",
    "Existing work treats the two tasks apart, although 73% of the errors in one are caused by the other.",
    "Experiments on four languages show gains of 2.1 points over the strongest baseline at half of its memory.",
    "The annotation scheme separates what a paper claims from what its tables support.",
    "Low-resource languages lack the parallel text that current systems are trained on.",
    "A small set of rules, learned from ten examples, replaces the hand-written grammar.",
)


def _scores(quality: float, chance: random.Random) -> dict[str, float | None]:
    one = min(100.0, max(0.0, chance.gauss(quality, 9.0)))
    return {
        "rouge1": one,
        "rouge2": one * 0.42,
        "rougeL": one * 0.81,
        "rougeLsum": one * 0.84,
        "length": float(chance.randint(9, 40)),
        "empty": 0.0,
        "repetition": chance.random() * 0.1,
        "novelty": None if chance.random() < 0.02 else chance.random() * 0.4,
    }


def _mean(rows: list[Prediction], metric: str) -> float | None:
    values = [value for row in rows if (value := row.scores.get(metric)) is not None]
    return sum(values) / len(values) if values else None


def _curve(method: str, chance: random.Random) -> Curve:
    _, seconds, _, _, _, first, last = FACTS[method]
    start = ValidationPoint(step=0, epoch=0.0, seconds=0.0, loss=first)
    if not seconds:
        return Curve(validation=(start,), best_step=0, best_epoch=0.0, best_validation_loss=first)
    steps, per_epoch = 96, 32

    def level(step: int) -> float:
        return last + (first - last) * math.exp(-4.5 * step / steps)

    train = tuple(
        TrainPoint(
            step=step,
            epoch=step / per_epoch,
            seconds=seconds * step / steps,
            loss=level(step) + chance.gauss(0, 0.12),
            learning_rate=1e-4,
            grad_norm=1.0,
            tokens=900,
        )
        for step in range(1, steps + 1)
    )
    validation = tuple(
        ValidationPoint(step=step, epoch=step / per_epoch, seconds=seconds * step / steps, loss=level(step) + 0.06)
        for step in range(16, steps + 1, 16)
    )
    best = validation[-2]
    return Curve(
        train=train,
        validation=(start, *validation),
        best_step=best.step,
        best_epoch=best.epoch,
        best_validation_loss=best.loss,
    )


def _resources(method: str, chance: random.Random, accelerator: bool) -> Resources:
    seconds, peak = FACTS[method][1], int(FACTS[method][2])
    nothing = Reading(value=None, unit="B", reason="no accelerator")
    energy = Reading(value=None, unit="J", reason="no energy counter: the machine exposes no RAPL domain")
    phases = {"load": 3.1, "train": seconds, "evaluate": 6.0, "generate": 31.0 + seconds / 20}
    points, clock = [], 0.0
    for phase, length in phases.items():
        end = clock + length
        while clock < end:
            points.append(
                TimelinePoint(
                    seconds=clock,
                    phase=phase,
                    memory_bytes=int(peak * (0.97 if phase == "train" else 0.6) * chance.uniform(0.97, 1.0)),
                    cpu=chance.uniform(1.6, 2.0),
                    accelerator=chance.uniform(0.7, 0.98) if accelerator else None,
                )
            )
            clock += 1.0
    return Resources(
        phases={
            phase: PhaseResources(
                wall_seconds=length,
                cpu_seconds=length * 1.9,
                tokens=int(length * 1100),
                peak_memory_bytes=peak,
                accelerator_peak_bytes=nothing,
                energy=energy,
            )
            for phase, length in phases.items()
        },
        peak_memory_bytes=peak,
        threads=2,
        timeline=tuple(points),
    )


def _spread(mean: float | None, half: float) -> Interval:
    return Interval() if mean is None else Interval(mean=mean, low=mean - half, high=mean + half)


class FakeStudy:
    """Writes study folders. Texts may be given, for hostile ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(
        self,
        *,
        documents: int = 24,
        models: tuple[str, ...] = ("starter",),
        methods: tuple[str, ...] = tuple(FACTS),
        seeds: int = 1,
        failed: tuple[str, ...] = (),
        texts: bool = True,
        verdict: bool = False,
        outside: dict[str, str] | None = None,
        hostile: str | None = None,
        accelerator: bool = False,
        name: str = "starter",
        instruction: str = "Summarize the following text in one sentence.",
    ) -> Path:
        chance = random.Random(7)
        spec = StudySpec(
            name=name,
            models=tuple(ModelSpec(name=model) for model in models),
            methods=methods,
            seeds=seeds,
            data=DataSpec(source="starter"),
            prompt=PromptSpec(instruction=instruction),
            predictions={row: f"{row}.jsonl" for row in outside or {}},
        )
        study = StudyDir(self.folder)
        ids = [f"doc-{index:04d}" for index in range(documents)]
        chosen = [chance.sample(SENTENCES, 5) for _ in ids]
        rows: list[ComparisonRow] = []
        failures: list[FailedRun] = []
        for model in models:
            anchor: float | None = None
            for method in methods:
                runs = []
                for seed in range(seeds):
                    run_name = f"{method}-s{seed}"
                    run_id = f"{zlib.crc32(repr((model, method, seed)).encode()):08x}"
                    folder = study.run_dir(f"{run_name}-{run_id}")
                    bad = method in failed
                    quality = FACTS[method][0]
                    predictions = (
                        []
                        if bad
                        else [
                            Prediction(
                                id=identity,
                                text=(hostile or chance.choice(texts_)) + f" (by {method}, seed {seed})",
                                scores=_scores(quality, chance),
                                tokens=24,
                                stopped=True,
                            )
                            for identity, texts_ in zip(ids, chosen, strict=True)
                        ]
                    )
                    message = hostile or "The loss became NaN at step 41; lower the learning rate of this method."
                    record = Record(
                        run_id=run_id,
                        name=run_name,
                        status="diverged" if bad else "finished",
                        spec=RunSpec(
                            model=ModelSpec(name=model),
                            prompt=spec.prompt,
                            data=spec.data,
                            method=MethodSpec(name=method, hyperparameters={"learning_rate": 5e-4}),
                            seed=seed,
                        ),
                        started_at="2026-11-22T21:04:00+00:00",
                        finished_at="2026-11-22T21:08:00+00:00",
                        failure=Failure(type="Diverged", message=message) if bad else None,
                        curve=_curve(method, chance),
                        scores={} if bad else {metric: _mean(predictions, metric) for metric in METRICS},
                        resources=_resources(method, chance, accelerator),
                        trainable_parameters=FACTS[method][4],
                        total_parameters=134_515_008,
                        artefact=Artefact(format="peft", bytes=FACTS[method][3]),
                        notes=("3 of 24 outputs never stopped by themselves.",) if method == "zero_shot" else (),
                        details=RunDetails.model_validate({"precision": "bf16", "template": "chat"}),
                        provenance=Provenance(commit="3f7b1f4", versions={"torch": "2.13.0", "transformers": "5.3.0"}),
                    )
                    folder.write_record(record)
                    folder.write_predictions(row if texts else row.without_text() for row in predictions)
                    runs.append(record)
                    if bad:
                        failures.append(FailedRun(run=run_name, message=message))
                rows.append(self._row(method, model, runs, anchor, hostile))
                if method == "zero_shot":
                    anchor = rows[-1].score("rouge1").mean
        others = {**EXTRACTIVE, **(outside or {})}
        for other, title in others.items():
            kind: RowKind = "extractive" if other in EXTRACTIVE else "outside"
            outputs = [
                Prediction(
                    id=identity,
                    text=hostile or texts_[0],
                    scores=_scores({"lead1": 22.0, "lead3": 25.0, "oracle": 41.0}.get(other, 36.0), chance),
                )
                for identity, texts_ in zip(ids, chosen, strict=True)
            ]
            kept = {other: [row if texts else row.without_text() for row in outputs]}
            (study.write_baselines if kind == "extractive" else study.write_outside)(kept)
            scores = {metric: _spread(_mean(outputs, metric), 1.8) for metric in METRICS}
            rows.append(ComparisonRow(name=other, title=title, kind=kind, status={"finished": 1}, scores=scores))
        study.write_documents(
            Document(
                id=identity,
                group=f"g{index // 3}",
                document=(hostile or " ".join(texts_)) if texts else "",
                references=_references(texts_, index, hostile) if texts else (),
                fields={"aspect": ("challenge", "approach", "outcome")[index % 3]} if texts else {},
            )
            for index, (identity, texts_) in enumerate(zip(ids, chosen, strict=True))
        )
        study.write_spec(spec)
        study.write_summary(
            Summary(
                name=name,
                created_at="2026-11-22T21:20:00+00:00",
                tuneoff_version="0.1.0",
                primary_metric="rouge1",
                signature="rouge-score-rs 0.2.1, stemmer on, Lsum split on newlines, best reference by ROUGE-1",
                machine=Machine(cpu="2 cores, AVX-512 BF16", memory_bytes=16_000_000_000, python="3.11.2"),
                data=DataFile(
                    description=hostile or "ACLSum: abstracts of 250 papers, one summary for each of three aspects",
                    counts={"train": 300, "validation": 150, "test": documents},
                    cleaning=("train: 2 duplicate pairs dropped", "validation: 1 empty summary dropped (line 17)"),
                ),
                rows=tuple(rows),
                verdicts=(VERDICT,) if verdict else (),
                winner=ModelToUse(
                    run=rows[0].runs[0],
                    method=rows[0].name,
                    title=rows[0].title,
                    model=hostile or "starter",
                    seed=0,
                    why=hostile or "the highest mean",
                    card=True,
                ),
                failures=tuple(failures),
            )
        )
        return self.folder

    def _row(
        self, method: str, model: str, runs: list[Record], anchor: float | None, hostile: str | None
    ) -> ComparisonRow:
        finished = [run for run in runs if run.status == "finished"]
        mean = {
            metric: sum(run.scores[metric] or 0 for run in finished) / len(finished) if finished else None
            for metric in METRICS
        }
        rouge = mean["rouge1"]
        _, seconds, peak, size, parameters, _, _ = FACTS[method]
        costs = {
            "train_seconds": seconds,
            "generate_seconds": 31.0 + seconds / 20,
            "peak_memory_bytes": peak,
            "artefact_bytes": size,
            "trainable_parameters": parameters,
            "tokens_per_second": 1100.0 if seconds else None,
        }
        reasons = {
            "energy_joules": "the machine exposes no RAPL domain",
            "tokens_per_second": None if seconds else "nothing was trained",
        }
        return ComparisonRow(
            name=method,
            title=hostile or TITLES[method],
            kind="method",
            model=model,
            seeds=len(runs),
            status={"finished": len(finished), "failed": len(runs) - len(finished)},
            runs=tuple(f"{run.name}-{run.run_id}" for run in runs),
            scores={metric: _spread(mean[metric], 2.0) for metric in METRICS},
            gain=None if anchor is None or rouge is None else _spread(rouge - anchor, 2.0),
            costs={
                axis.name: Cost(value=costs.get(axis.name), reason=reasons.get(axis.name))
                for axis in COST_AXES
                if axis.name in costs or axis.name in reasons
            },
            best_epoch=2.5 if seconds else None,
            validation_loss=FACTS[method][6],
            notes=tuple(note for run in runs for note in run.notes) + ((hostile,) if hostile else ()),
        )


def _references(sentences: list[str], index: int, hostile: str | None) -> tuple[str, ...]:
    first = hostile or sentences[-1]
    return (first, sentences[1]) if index % 2 else (first,)


VERDICT = Verdict(
    metric="rouge1",
    level=0.95,
    margin=0.5,
    block=None,
    methods=(),
    pairs=(),
    best="lora",
    best_set=("lora",),
    recommendations=(),
    smallest_detectable=None,
    smallest_margin=None,
    seeds=(0, 1),
    documents=618,
    groups=206,
    covers_seeds=True,
    sentences=(
        "LoRA is worth it: it reaches the quality of full fine-tuning at a 27th of its size.",
        "Full fine-tuning and LoRA are tied (difference 0.8 points, 95 % interval −0.6 to 2.2).",
        "The soft prompt beats zero-shot by 5 points, but stays behind LEAD-3.",
    ),
    notes=(),
)

HOSTILE = (
    '</script><script>alert(1)</script><img src=x onerror="alert(2)"> <!-- {{ 7*7 }} javascript:alert(3) & \'q\' "q" '
    "\u202egnp.exe\u202c \x07\x00 \u2028 \ufeff مرحبا"
)


def load(study: Path) -> StoredStudy:
    """The folder, read once."""
    return StudyDir(study).load()


def read_summary(study: Path) -> Summary:
    """The `summary.json` that is in the folder."""
    return Summary.model_validate_json((study / "summary.json").read_bytes())


def change_summary(study: Path, **update: Any) -> None:
    """Change fields of `summary.json`."""
    StudyDir(study).write_summary(read_summary(study).model_copy(update=update))


def draw(study: Path) -> WrittenReport:
    """Write the report from `summary.json`, with the files in `figures/`, which take two seconds."""
    return render(read_summary(study), load(study))


def draw_page(study: Path) -> None:
    """Write the pages alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save_charts", lambda *_: Pictures((), None))
        draw(study)


def write_new_summary(study: Path) -> Summary:
    """Write `summary.json` from the records of the folder."""
    summary = summarize(load(study))
    StudyDir(study).write_summary(summary)
    return summary


class PageTexts(HTMLParser):
    """Words of a report outside of scripts and styles, its sections by the id of their heading, and its tags.

    Writes the page first. `with_files`: also the files in `figures/`, which take two seconds.
    """

    def __init__(self, study: Path, *, with_files: bool = False) -> None:
        super().__init__()
        self.sections: dict[str, str] = {}
        self.captions: dict[str, str] = {}
        self.tags: list[str] = []
        self._section = self._inside = ""
        (draw if with_files else draw_page)(study)
        self.feed((study / "report.html").read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self._inside = tag
        if tag == "section":
            self._section = known["aria-labelledby"]
        if "data-figure" in known:
            self.captions[known["data-figure"]] = known["aria-label"]

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style") and data.strip():
            self.sections[self._section] = f"{self.sections.get(self._section, '')} {' '.join(data.split())}"


def edit_spec(study: Path, **update: Any) -> StudySpec:
    """Change fields of `study.json`, given as plain values."""
    spec = load(study).spec
    assert spec is not None
    changed = StudySpec.model_validate({**spec.model_dump(), **update})
    StudyDir(study).write_spec(changed)
    return changed


def edit_records(study: Path, change: Callable[[Record], dict[str, Any]]) -> list[Record]:
    """Change all records of a folder; returns the new ones."""
    changed = []
    for run in StudyDir(study).read_runs():
        changed.append(run.record.model_copy(update=change(run.record)))
        run.dir.write_record(changed[-1])
    return changed


def with_concurrent_run(record: Record) -> dict[str, Any]:
    """The resources of a run with one concurrent run."""
    assert record.resources is not None
    return {"resources": record.resources.model_copy(update={"processes": 2})}


def add_timing_run(study: Path, method: str) -> None:
    """A timing run for the only run of a method: alone, with half the time for each token."""
    [record] = [run.record for run in StudyDir(study).read_runs() if run.name.startswith(method)]
    assert record.resources is not None
    phases = {
        name: phase.model_copy(update={"wall_seconds": phase.wall_seconds / 2})
        for name, phase in record.resources.phases.items()
    }
    update = {
        "spec": record.spec.model_copy(update={"role": "timing"}),
        "resources": record.resources.model_copy(update={"processes": 1, "phases": phases}),
    }
    StudyDir(study).run_dir(f"{method}-timing").write_record(record.model_copy(update=update))
