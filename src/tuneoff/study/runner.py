"""A whole comparison, from the spec to `summary.json`: `prepare` only reads, `carry_out` is the part that writes.

Beside the runs a study folder gets `study.json`, `plan.json`, `data.json` (counts and what cleaning did),
`documents.jsonl`, and the rows that no run wrote: `baselines/<name>.jsonl`, `outside/<name>.jsonl`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuneoff import data, metrics, models
from tuneoff.data import Dataset, Example
from tuneoff.engine.batching import evaluation_steps, steps_per_epoch, total_steps
from tuneoff.errors import UserError
from tuneoff.methods.base import Method
from tuneoff.metrics import RougeDialect
from tuneoff.prompts import Prompter, field_names
from tuneoff.results import baselines
from tuneoff.results.events import Event
from tuneoff.results.lock import study_lock
from tuneoff.results.run_record import (
    ARTEFACT,
    BUDGET_FILE,
    Document,
    Prediction,
    Record,
    read_predictions,
    read_record,
    write_documents,
    write_json,
    write_jsonl,
    write_predictions,
)
from tuneoff.spec import DataSpec, RunSpec, StudySpec
from tuneoff.stats.power import Sensitivity
from tuneoff.stats.power import plan as foresee
from tuneoff.study import plan, planner, searches
from tuneoff.study.executor import Job, Outcome, execute
from tuneoff.study.halving import MIN_STEPS
from tuneoff.study.launcher import WHOLE_MACHINE, Layout
from tuneoff.study.planner import Contents, Expansion, Halving, PlannedRun
from tuneoff.study.searches import Whole
from tuneoff.verdict.summarize import summarize


@dataclass(frozen=True)
class Prepared:
    """A study that was checked against its data, its models and its folder."""

    study: StudySpec
    folder: Path
    dataset: Dataset
    contents: Contents
    methods: Mapping[str, Method]
    outside: Mapping[str, Mapping[str, str]]  # row name -> id -> text
    expansion: Expansion  # as far as it is known
    missing: tuple[PlannedRun, ...]  # known, without a finished record in the folder
    unread: metrics.RougeCoverage  # what ROUGE does not see of the test summaries
    budget: Mapping[str, Any] | None = None  # the plan that made it fit, for `budget.json`

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """The runs that are known so far: final runs follow from trials."""
        return self.expansion.runs

    @property
    def total(self) -> int:
        """Runs of the whole study, those included that follow from trials that are still to be done."""
        return planner.count(self.study)

    @property
    def counts(self) -> dict[str, int]:
        """Examples of each split."""
        return {
            "train": len(self.dataset.train),
            "validation": len(self.dataset.validation),
            "test": len(self.dataset.test),
        }

    @property
    def sees(self) -> Sensitivity | None:
        """What the study will be able to see on each model, from a typical spread of scores: nothing is measured yet.

        None where there is nothing to tell apart.
        """
        documents = data.count_documents(self.dataset.test)
        varies = [method.seeded for method in self.methods.values()] + [False for _ in self.outside]
        if len(varies) < 2 or documents < 2:
            return None
        return foresee(np.array(varies, dtype=bool), documents, self.study.seeds)

    def steps(self, run: PlannedRun) -> int:
        """Optimiser steps of a run that is not stopped early; 0 for a method that trains nothing."""
        return self.whole(run.spec).steps

    def whole(self, spec: RunSpec) -> Whole:
        """The schedule of a run that is not stopped early."""
        train = spec.train
        if not self.methods[spec.method.name].trains:
            return Whole(0, frozenset({0}))
        rows = self.dataset.train
        examples = len(rows if spec.fraction == 1 else data.take_fraction(rows, spec.fraction, spec.seed))
        steps = total_steps(examples, train.batch_size, train.epochs, train.max_steps, train.min_steps)
        return Whole(steps, evaluation_steps(steps, steps_per_epoch(examples, train.batch_size), train))


def prepare(study: StudySpec, folder: Path, *, keep_earlier: bool = False) -> Prepared:
    """Load the data, find the models, name the runs, look into the folder. Changes nothing there.

    `keep_earlier`: finished runs of earlier versions of the numerics count as done, now and whenever this study goes on
    in this folder. Raises `UserError` for everything that can be known before a model is loaded.
    """
    built = planner.resolve(study)
    plan.check_writable(folder)
    dataset = data.load_dataset(study.data, field_names(study.prompt.instruction))
    unread = metrics.rouge_coverage(
        (example.references for example in dataset.test), RougeDialect.of(study.score.words)
    )
    if unread.unscorable == unread.examples:
        english = study.score.words == "english"
        way_out = "add --rouge-words unicode, which counts words of any script" if english else "correct the data"
        raise UserError(
            f"no summary of the test data has a word that ROUGE counts, so every text would score 0; {way_out}"
        )
    ids = [example.id for example in dataset.test]
    outside = {name: baselines.read_outside(path, ids) for name, path in study.predictions.items()}
    hashes = {model.name: models.model_content_hash(model) for model in study.models}
    contents = Contents(dataset.content_hash, hashes, examples=len(dataset.train))
    keep_earlier = keep_earlier or plan.keeps_earlier_runs(folder)
    plan.check_folder(folder, study, contents, keep_earlier=keep_earlier)
    if keep_earlier:
        contents = dataclasses.replace(contents, earlier=plan.earlier_runs(folder))
    prepared = _look(Prepared(study, folder, dataset, contents, built, outside, Expansion((), (), False), (), unread))
    if study.halving and not any(run.spec.cut_above for run in prepared.runs):
        raise UserError(
            f"--halving: no trial of this study can be cut, for none has done {MIN_STEPS} steps and its warm-up by "
            "half of its training; leave it out, or train longer"
        )
    return prepared


def _look(prepared: Prepared) -> Prepared:
    """The same study with what its folder holds by now."""
    folder = prepared.folder
    known = planner.expand(
        prepared.study,
        prepared.contents,
        lambda run: plan.trial_loss(folder, run),
        Halving(lambda spec: prepared.whole(spec).steps, lambda run: plan.trial_rungs(folder, run)),
    )
    missing = tuple(run for run in known.runs if not plan.is_done(folder, run))
    return dataclasses.replace(prepared, expansion=known, missing=missing)


def check_prompts(prepared: Prepared) -> None:
    """Fill every kind of prompt once, with each model's tokenizer.

    Raises `UserError` when an instruction names a column that is not there or a prompt leaves no room for a document:
    better now than in every single run.
    """
    splits = (prepared.dataset.train, prepared.dataset.validation, prepared.dataset.test)
    kinds: dict[tuple[tuple[str, str], ...], Example] = {}
    for split in splits:
        # Without a field all are of one kind, so the first stands for a million.
        for example in split if "{" in prepared.study.prompt.instruction else split[:1]:
            used = {
                key: value for key, value in example.fields.items() if f"{{{key}}}" in prepared.study.prompt.instruction
            }
            kinds.setdefault(tuple(sorted(used.items())), example)
    for model in prepared.study.models:
        prompter = Prompter(
            models.load_tokenizer(model),
            prepared.study.prompt,
            max_new_tokens=prepared.study.generate.max_new_tokens,
            reserved_tokens=max(method.overhead_tokens for method in prepared.methods.values()),
        )
        prompter.encode(list(kinds.values()), with_target=False)


@dataclass(frozen=True)
class CarriedOut:
    """Folders and records of all runs of a study, trials too, and its summary. `complete`: no further run would follow
    from trials that did not end."""

    folders: tuple[Path, ...]
    records: tuple[Record, ...]
    summary: dict[str, Any]
    complete: bool


def carry_out(
    prepared: Prepared,
    *,
    on_event: Callable[[Job, Event], None],
    on_start: Callable[[Job], None] | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
    keep_texts: bool = True,
    start_method: str | None = None,
    layout: Layout = WHOLE_MACHINE,
) -> CarriedOut:
    """Do what is missing.

    A run that fails is a record with a status: the study goes on. `keep_texts=False` leaves documents and written
    texts out of the folder. Raises `UserError` when another process works in the folder.
    """
    folder = prepared.folder
    if prepared.missing:
        check_prompts(prepared)
    with study_lock(folder):
        _write_frame(prepared, keep_texts)
        attempted: set[str] = set()

        def waiting() -> list[Job]:
            """What is known and was not tried; trials make more runs known."""
            nonlocal prepared
            prepared = _look(prepared)
            plan.claim(folder, prepared.study, prepared.contents, prepared.runs)
            runs = [run for run in prepared.missing if run.run_id not in attempted]
            attempted.update(run.run_id for run in runs)
            return [Job(run.spec, run.run_id, run.name, folder / run.folder) for run in runs]

        try:
            execute(
                waiting(),
                on_event=on_event,
                on_start=on_start,
                on_outcome=on_outcome,
                start_method=start_method,
                layout=layout,
                more=waiting,
            )
            if timing := _to_time(prepared):
                plan.claim(folder, prepared.study, prepared.contents, (*prepared.runs, *timing))
                untimed = [run for run in timing if not plan.is_done(folder, run)]
                jobs = [Job(run.spec, run.run_id, run.name, folder / run.folder) for run in untimed]
                execute(
                    jobs, on_event=on_event, on_start=on_start, on_outcome=on_outcome, start_method=start_method
                )  # alone, whatever the layout
        finally:
            if prepared.study.trials:
                cells = _look(prepared).expansion.cells
                searches.write(folder, cells, prepared.whole, halving=prepared.study.halving)
            if not keep_texts:
                _forget_texts(folder / run.folder for run in prepared.runs)
        there = tuple(folder / run.folder for run in prepared.runs if (folder / run.folder / "record.json").exists())
        complete = _look(prepared).expansion.complete
        return CarriedOut(there, tuple(read_record(run) for run in there), summarize(folder), complete)


def _to_time(prepared: Prepared) -> list[PlannedRun]:
    """Timing runs for the methods with a final run that shared the machine: its time is no cost of the method."""
    shared = set()
    for run in prepared.runs:
        folder = prepared.folder / run.folder
        if run.spec.is_main and (folder / "record.json").exists():
            resources = read_record(folder).resources
            if resources is not None and resources.processes > 1:
                shared.add((run.spec.model.name, run.spec.method.name))
    timing = planner.timing_runs(prepared.runs, prepared.contents)
    return [run for run in timing if (run.spec.model.name, run.spec.method.name) in shared]


def _write_frame(prepared: Prepared, keep_texts: bool) -> None:
    """Everything in a study folder that is known before the first run."""
    folder, dataset = prepared.folder, prepared.dataset
    plan.claim(folder, prepared.study, prepared.contents, prepared.runs)
    if prepared.budget is not None:
        write_json(folder / BUDGET_FILE, prepared.budget)
    write_documents(folder, (document_row(example, keep_texts) for example in dataset.test))
    write_json(
        folder / "data.json",
        {
            "description": dataset.description,
            "counts": prepared.counts,
            "cleaning": _without_places(data.cleaning_report(dataset), prepared.study.data),
            "content_hash": dataset.content_hash,
            "caution": prepared.unread.caution,
        },
    )
    _write_other_rows(prepared, keep_texts)


def _without_places(lines: Iterable[str], spec: DataSpec) -> list[str]:
    """Sentences that name files by their names alone, as records do."""
    files = [path for path in (spec.train_file, spec.validation_file, spec.test_file) if path]
    named = []
    for line in lines:
        for path in files:
            line = line.replace(path, Path(path).name)
        named.append(line)
    return named


def document_row(example: Example, keep_texts: bool) -> Document:
    """A test example as the folder keeps it. Id and group always: resampling draws groups."""
    if not keep_texts:
        return Document(id=example.id, group=example.group, document="", references=())
    return Document(
        id=example.id,
        group=example.group,
        document=example.document,
        references=example.references,
        fields=dict(example.fields),
    )


def _write_other_rows(prepared: Prepared, keep_texts: bool) -> None:
    dialect, examples = RougeDialect.of(prepared.study.score.words), prepared.dataset.test
    places: dict[Path, list[Prediction]] = {
        prepared.folder / "baselines" / f"{name}.jsonl": rows
        for name, rows in baselines.extractive_rows(examples, dialect).items()
    }
    for name, texts in prepared.outside.items():
        places[prepared.folder / "outside" / f"{name}.jsonl"] = baselines.outside_rows(texts, examples, dialect)
    for path, rows in places.items():
        kept = rows if keep_texts else without_texts(rows)
        write_jsonl(path, (row.model_dump(mode="json") for row in kept))


def _forget_texts(folders: Iterable[Path]) -> None:
    for folder in folders:
        if not (folder / "record.json").exists():
            continue
        left = read_record(folder).artefact
        for name in left.files if left is not None and left.format == "prompt" else ():  # it is made of documents
            (folder / ARTEFACT / name).unlink(missing_ok=True)
        if rows := read_predictions(folder):
            write_predictions(folder, without_texts(rows))


def without_texts(rows: Iterable[Prediction]) -> list[Prediction]:
    """What `--no-texts` leaves of outputs."""
    return [row.model_copy(update={"text": ""}) for row in rows]
