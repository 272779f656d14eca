"""From a study to its runs: every default filled in, every run identified by the content of what goes into it. Pure.

The planner is an ask/tell loop: `next_runs` returns the runs that are known and not done; the results come back through
`completed`, which grows with each run. The final runs of a method follow from its trials.
"""

import math
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tuneoff import methods
from tuneoff.engine.batching import evaluation_steps, steps_per_epoch, total_steps
from tuneoff.errors import UserError
from tuneoff.methods import method_class
from tuneoff.methods.base import Method
from tuneoff.results.run_record import Record
from tuneoff.results.shared_parts import share_inside
from tuneoff.results.study_state import PruningCheck, SearchCell, SearchFile, SecondLookResult, TrialResult
from tuneoff.spec import (
    TIMED_STEPS,
    MethodSpec,
    ModelSpec,
    RunSpec,
    StudySpec,
    TrainSpec,
)
from tuneoff.spec.row_names import file_name_of
from tuneoff.spec.run import Scalar
from tuneoff.study import search
from tuneoff.study.run_id import run_id_of
from tuneoff.study.search import Schedule, SecondLook, Trial

Completed = Mapping[str, Record]  # run id -> record


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study."""

    spec: RunSpec
    run_id: str
    name: str

    @property
    def folder(self) -> str:
        """Name of its folder in `runs/`."""
        return f"{self.name}-{self.run_id}"

    @property
    def place(self) -> str:
        """What it is in its study, also after a corrected plan has given it other documents and so another id."""
        return f"{self.spec.model.name} {self.name}"


@dataclass(frozen=True)
class ContentHashes:
    """What the names in a study refer to, as hashes; and the sizes of the training data, from which schedules follow.

    `earlier` maps ids of runs that an earlier version of the numerics completed, and that count, to that version.
    `train_examples` is the number of training examples of all the data, `examples_at` that of a (fraction, seed).
    """

    data: str
    models: Mapping[str, str]
    earlier: Mapping[str, int] | None = None
    train_examples: int | None = None
    examples_at: Callable[[float, int], int] | None = None

    def run_id(self, spec: RunSpec) -> str:
        """The id of a run on these contents; that of an earlier version if such a run counts."""
        hashes, earlier = (self.models[spec.model.name], self.data), self.earlier or {}
        before = (run_id_of(spec, *hashes, numerics=version) for version in sorted(set(earlier.values())))
        return next((run_id for run_id in before if run_id in earlier), run_id_of(spec, *hashes))

    def schedule(self, spec: RunSpec) -> Schedule:
        """The schedule of a run that is not stopped early; a method that trains nothing validates once, at step 0.

        Raises `ValueError` if the number of training examples is unknown.
        """
        if not method_class(spec.method.name).trains:
            return Schedule(0, frozenset({0}))
        examples = self.train_examples
        if spec.fraction < 1:
            examples = self.examples_at(spec.fraction, spec.seed) if self.examples_at else None
        if examples is None:
            raise ValueError(f"the number of training examples at fraction {spec.fraction:g} is unknown")
        train = spec.train
        steps = total_steps(examples, train.batch_size, train.epochs, train.max_steps, train.min_steps)
        return Schedule(steps, evaluation_steps(steps, steps_per_epoch(examples, train.batch_size), train))


@dataclass(frozen=True)
class SeedPlan:
    """The seeds that are known to be needed of a study that stops when it is settled."""

    seeds: Mapping[tuple[str, str], int]
    """(model, method) -> number of seeds on all the data."""
    ended: bool
    """Whether no look follows. Smaller fractions of the data come then."""


@dataclass(frozen=True)
class TrialGroup:
    """The trials of one method on one model and one fraction. `chosen` is None until all of them have ended."""

    model: str
    method: str
    fraction: float
    hyperparameter: str
    tried: tuple[tuple[PlannedRun, Trial], ...]
    refinement_reason: str | None
    chosen: Scalar
    second_looks: tuple[tuple[PlannedRun, SecondLook], ...] = ()
    decided_by: Literal["loss", "text"] | None = None
    fold: int | None = None


@dataclass(frozen=True)
class StudyPlan:
    """The runs that are known so far, and the searches behind them. `complete`: no unknown run will follow."""

    runs: tuple[PlannedRun, ...]
    searches: tuple[TrialGroup, ...]
    complete: bool

    def missing(self, completed: Completed) -> tuple[PlannedRun, ...]:
        """The known runs that have not ended."""
        return tuple(run for run in self.runs if not is_done(run, completed))


def is_done(run: PlannedRun, completed: Completed) -> bool:
    """Whether a record says that this run has ended."""
    found = completed.get(run.run_id)
    return found is not None and found.ended


def next_runs(study: StudySpec, hashes: ContentHashes, completed: Completed) -> tuple[PlannedRun, ...]:
    """The runs that can be carried out now: known and not done."""
    return plan(study, hashes, completed).missing(completed)


KnownRuns = dict[Hashable, PlannedRun]


def plan(
    study: StudySpec,
    hashes: ContentHashes,
    completed: Completed,
    seeds: SeedPlan | None = None,
    known: KnownRuns | None = None,
) -> StudyPlan:
    """The runs of a study: models x methods x fractions of the data x seeds, seeds paired across methods.

    With trials, the final runs of a method are known when all its trials have ended. A method whose seed changes
    nothing runs once; if its setting on a smaller fraction is the one on all the data, it needs no run there.
    `reserved_tokens` is the largest overhead of all methods, so that every method sees the same part of each document.

    With pruning, trials are known one by one: the limits of a trial follow from the earlier ones.

    `seeds` is for a study that stops when it is settled (see `tuneoff.study.looks`); None before its first look.
    `known` keeps the runs of earlier plans of the same study on the same contents, because specs and ids take most of
    the time of a plan.
    """
    return _Planner(study, hashes, completed, seeds, {} if known is None else known).plan()


def build_methods(study: StudySpec) -> dict[str, Method]:
    """The study's methods with all hyper-parameters. Raises `UserError` for a wrong name or value."""
    return {name: methods.build(name, study.hyperparameters.get(name, {})) for name in study.methods}


def reserved_tokens(study: StudySpec) -> int:
    """The largest overhead of all methods, in virtual tokens: every method leaves so much room."""
    return max(method.overhead_tokens for method in build_methods(study).values())


@dataclass(frozen=True)
class RunGroup:
    """`number` runs of one method that cost the same."""

    method: str
    fraction: float
    role: Literal["final", "trial"]
    number: int
    writes_validation: bool = False


def outline(study: StudySpec) -> Iterator[RunGroup]:
    """The runs of a study on one model, at most, before any trial has ended."""
    folds = study.data.folds or 1
    for name in study.methods:
        fixed = study.hyperparameters.get(name, {})
        tries = bool(study.trials) and search.searched_hyperparameter(name, fixed) is not None
        same_everywhere = not method_class(name).seeded and (not tries or study.search_at == "full")
        for fraction in study.fractions:
            if tries and (fraction == 1 or study.search_at == "each"):
                yield RunGroup(name, fraction, "trial", folds * (study.trials + 1))
                if study.choose_by == "text":
                    yield RunGroup(name, fraction, "trial", folds * 2, writes_validation=True)
            if fraction == 1 or not same_everywhere:
                seeds = _most_seeds(study, fraction) if method_class(name).seeded else 1
                yield RunGroup(name, fraction, "final", folds * seeds)


def _most_seeds(study: StudySpec, fraction: float) -> int:
    """Seeds of a method. Looks are at all the data; smaller fractions get the seeds of the first one."""
    return study.looks[0] if study.looks and fraction < 1 else study.seeds


def count(study: StudySpec) -> int:
    """How many runs a study has at most, trials included."""
    return len(study.models) * sum(runs.number for runs in outline(study))


def effort(study: StudySpec, method: str, fraction: float, examples: int | None) -> TrainSpec:
    """The training settings of a method on a fraction of the data; never more steps than all `examples` take."""
    train = study.train
    if method in study.steps:
        return train.model_copy(update={"max_steps": study.steps[method], "min_steps": study.steps[method]})
    if fraction < 1 and train.min_steps is None:
        floor = study.step_floor
        if examples is not None:
            floor = min(floor, total_steps(examples, train.batch_size, train.epochs, train.max_steps))
        return train.model_copy(update={"min_steps": floor})
    return train


def _trial_of(value: Scalar, run: PlannedRun, completed: Completed) -> Trial:
    """A trial with what is known of it; one that was interrupted is repeated, so nothing is known."""
    record = completed.get(run.run_id)
    if record is None or record.status in ("interrupted", "running"):
        return Trial(value, math.nan)
    loss = record.curve.best_validation_loss
    reached_end = record.status == "finished" and record.curve.cut_at is None
    steps = {step for step, _ in run.spec.cut_above} if record.status == "finished" else set()
    rungs = {point.step: point.loss for point in record.curve.validation if point.step in steps}
    return Trial(value, loss if reached_end and loss is not None else math.inf, rungs)


@dataclass(frozen=True)
class _Cell:
    """What the runs of one row of the table have in common, at one amount of data and in one fold."""

    model: ModelSpec
    method: str
    fraction: float
    fold: int | None

    @property
    def label(self) -> str:
        """What distinguishes amount and fold in the names of runs; empty for all the data without folds."""
        fold = "" if self.fold is None else f"-fold{self.fold}"
        return fold if self.fraction == 1 else f"{fold}-f{self.fraction:g}"


class _Planner:
    def __init__(
        self,
        study: StudySpec,
        hashes: ContentHashes,
        completed: Completed,
        seeds: SeedPlan | None,
        known: KnownRuns,
    ) -> None:
        self._known = known
        self._study, self._hashes, self._completed = study, hashes, completed
        self._seeds = seeds or SeedPlan({}, ended=not study.until_settled)
        self._reserved = reserved_tokens(study)
        self._slugs = _folder_names(study.models)
        self._trials: list[PlannedRun] = []
        self._searches: list[TrialGroup] = []
        self._complete = self._seeds.ended

    def plan(self) -> StudyPlan:
        finals = []
        for model in self._study.models:
            for name in self._study.methods:
                for fold in folds_of(self._study):
                    finals += self._final_runs(model, name, fold)
        # An interrupted study can be judged: what the verdict needs comes before the smaller fractions.
        finals.sort(key=lambda run: -run.spec.fraction)
        return StudyPlan((*self._trials, *finals), tuple(self._searches), self._complete)

    def _final_runs(self, model: ModelSpec, name: str, fold: int | None) -> list[PlannedRun]:
        fixed = self._study.hyperparameters.get(name, {})
        kind = method_class(name)
        chosen: dict[float, Mapping[str, Any] | None] = {}
        for fraction in reversed(self._study.fractions):  # all the data first: `search_at` may reuse its choice
            if self._study.search_at == "full" and fraction < 1:
                chosen[fraction] = chosen[1.0]
            else:
                chosen[fraction] = self._search(_Cell(model, name, fraction, fold), fixed)
        finals = []
        for fraction, values in chosen.items():
            if values is None:
                self._complete = False
                continue
            if fraction < 1 and not kind.seeded and chosen[1.0] in (None, values):  # the same run, or perhaps
                continue
            if fraction < 1 and not self._seeds.ended:  # until then, time is for the looks
                continue
            cell = _Cell(model, name, fraction, fold)
            finals += [
                self._final_run(cell, values, seed) for seed in range(self._number_of_seeds(cell) if kind.seeded else 1)
            ]
        return finals

    def _number_of_seeds(self, cell: _Cell) -> int:
        if self._study.until_settled and cell.fraction == 1:
            return self._seeds.seeds.get((cell.model.name, cell.method), self._study.looks[0])
        return _most_seeds(self._study, cell.fraction)

    def _final_run(self, cell: _Cell, values: Mapping[str, Any], seed: int) -> PlannedRun:
        """The run with the newest number of test documents, unless it is done with an earlier one, or with all."""
        planned = [
            self._run(cell, values, seed, f"-s{seed}", "final", documents)
            for documents in (*reversed(self._study.scored_documents), None)
        ]
        return next((run for run in planned if is_done(run, self._completed)), planned[0])

    def _search(self, cell: _Cell, fixed: Mapping[str, Scalar]) -> Mapping[str, Any] | None:
        """The setting for the final runs; None while trials are missing."""
        name = cell.method
        parameter = search.searched_hyperparameter(name, fixed)
        if not self._study.trials or parameter is None:
            return fixed
        pruned = self._study.halving and method_class(name).trains
        tried: list[tuple[PlannedRun, Trial]] = []

        def attempt(value: Scalar) -> None:
            values = {**fixed, parameter: value}
            run = self._run(cell, values, search.TRIAL_SEED, f"-trial{len(tried) + 1}", "trial")
            if pruned:
                run = self._with_limits(run, [trial.rungs for _, trial in tried])
            self._trials.append(run)
            tried.append((run, _trial_of(value, run, self._completed)))

        def waiting() -> bool:
            return any(math.isnan(trial.loss) for _, trial in tried)

        reason = None
        values = search.grid(name, parameter, self._study.trials, self._study.task)
        for value in search.from_the_middle(values) if pruned and parameter in method_class(name).search else values:
            if not (pruned and waiting()):
                attempt(value)
        if not waiting():
            trials = [trial for _, trial in tried]
            value, reason = search.refinement_value(name, parameter, trials, self._study.task)
            attempt(value)
        done = reason is not None and not waiting()
        trials = [trial for _, trial in tried]
        looks: tuple[tuple[PlannedRun, SecondLook], ...] = ()
        chosen, decided_by = (search.best_trial(trials).value if done else None), None
        if done and self._study.choose_by == "text" and len(best := search.two_best(trials)) == 2:
            looks = tuple(
                self._second_look(cell, {**fixed, parameter: trial.value}, number, trial)
                for number, trial in enumerate(best, 1)
            )
            done = not any(math.isnan(look.loss) for _, look in looks)
            if done:
                (_, first), (_, second) = looks
                look, decided_by = search.choose_by_text(first, second, seeded=method_class(name).seeded)
                chosen = look.value
        chosen = chosen if done else None
        self._searches.append(
            TrialGroup(
                cell.model.name,
                name,
                cell.fraction,
                parameter,
                tuple(tried),
                reason,
                chosen,
                looks,
                decided_by,
                cell.fold,
            )
        )
        return {**fixed, parameter: chosen} if done else None

    def _second_look(
        self, cell: _Cell, values: Mapping[str, Any], number: int, trial: Trial
    ) -> tuple[PlannedRun, SecondLook]:
        run = self._run(cell, values, search.SECOND_LOOK_SEED, f"-text{number}", "trial")
        spec = run.spec.model_copy(update={"writes_validation": True})
        run = PlannedRun(spec, self._hashes.run_id(spec), run.name)
        self._trials.append(run)
        again = _trial_of(trial.value, run, self._completed)
        record = self._completed.get(run.run_id)
        score = None if record is None else record.scores.get(self._study.metric)
        if math.isnan(again.loss):
            score = math.nan
        elif score is None:
            score = -math.inf
        return run, SecondLook(trial.value, trial.loss, again.loss, score)

    def _with_limits(self, run: PlannedRun, earlier: Sequence[Mapping[int, float]]) -> PlannedRun:
        limits = search.pruning_limits(self._hashes.schedule(run.spec).steps, run.spec.train.warmup, earlier)
        spec = run.spec.model_copy(update={"cut_above": limits})
        return PlannedRun(spec, self._hashes.run_id(spec), run.name)

    def _run(
        self,
        cell: _Cell,
        values: Mapping[str, Any],
        seed: int,
        label: str,
        role: Literal["final", "trial"],
        scored_documents: int | None = None,
    ) -> PlannedRun:
        key = (cell, tuple(sorted(values.items())), seed, label, role, scored_documents)
        if (known := self._known.get(key)) is not None:
            return known
        study, name = self._study, cell.method
        resolved = MethodSpec(name=name, hyperparameters=methods.build(name, values).hyperparameters)
        spec = RunSpec(
            model=cell.model,
            prompt=study.prompt,
            data=study.data if cell.fold is None else study.data.model_copy(update={"fold": cell.fold}),
            method=resolved,
            train=effort(study, name, cell.fraction, self._hashes.train_examples),
            generate=study.generate,
            score=study.score,
            seed=seed,
            reserved_tokens=self._reserved,
            fraction=cell.fraction,
            role=role,
            scored_documents=scored_documents,
        )
        share_inside(spec)  # of 10,000 runs, hundreds have the same settings
        prefix = f"{self._slugs[cell.model.name]}-" if len(study.models) > 1 else ""
        made = PlannedRun(spec, self._hashes.run_id(spec), f"{prefix}{file_name_of(name)}{cell.label}{label}")
        self._known[key] = made
        return made


def folds_of(study: StudySpec) -> tuple[int | None, ...]:
    """The parts of a cross-validation, each of which is the test split of some runs; without one, None alone."""
    return (None,) if study.data.folds is None else tuple(range(1, study.data.folds + 1))


def timing_runs(runs: Iterable[PlannedRun], hashes: ContentHashes, completed: Completed) -> tuple[PlannedRun, ...]:
    """A short run for each method whose final runs on all the data shared the machine: it runs alone, for its cost."""
    main = [run for run in runs if run.spec.is_main]
    shared = {
        (run.spec.model.name, run.spec.method.name)
        for run in main
        if (record := completed.get(run.run_id)) is not None and record.resources and record.resources.processes > 1
    }
    found = []
    for run in main:
        if (
            run.spec.seed == 0
            and run.spec.data.fold in (None, 1)
            and (run.spec.model.name, run.spec.method.name) in shared
        ):
            short = {"max_steps": TIMED_STEPS, "min_steps": TIMED_STEPS, "eval_steps": None, "patience": None}
            train = run.spec.train.model_copy(update=short)
            spec = run.spec.model_copy(update={"role": "timing", "train": train, "scored_documents": None})
            found.append(PlannedRun(spec, hashes.run_id(spec), f"{run.name.removesuffix('-s0')}-timing"))
    return tuple(found)


def search_file(study: StudySpec, hashes: ContentHashes, plan: StudyPlan, completed: Completed) -> SearchFile:
    """What `search.json` holds: the trials so far, and what pruning saved."""
    return SearchFile(cells=tuple(_search_cell(study, hashes, group, completed) for group in plan.searches))


def _search_cell(study: StudySpec, hashes: ContentHashes, group: TrialGroup, completed: Completed) -> SearchCell:
    trials = [trial for _, trial in group.tried]
    known = group.chosen is not None
    cell = SearchCell(
        model=group.model,
        method=group.method,
        fraction=group.fraction,
        fold=group.fold,
        hyperparameter=group.hyperparameter,
        trials=tuple(_trial_result(run, trial, completed.get(run.run_id)) for run, trial in group.tried),
        reserve_because=group.refinement_reason,
        chosen=group.chosen,
        on_edge=search.is_on_edge(group.method, group.hyperparameter, trials, group.chosen) if known else None,
        second_looks=tuple(_look_result(run, look, completed.get(run.run_id)) for run, look in group.second_looks),
        decided_by=group.decided_by,
        within_noise=_within_noise(group, trials),
    )
    if not study.halving or not any(run.spec.cut_above for run, _ in group.tried):
        return cell
    records = [record for run, _ in group.tried if (record := completed.get(run.run_id)) is not None]
    saved = search.pruning_savings([(record, hashes.schedule(record.spec)) for record in records])
    return cell.model_copy(update={"saved": saved})


def _within_noise(group: TrialGroup, trials: Sequence[Trial]) -> tuple[Scalar, ...]:
    looks = [look for _, look in group.second_looks]
    chosen = next((look for look in looks if look.value == group.chosen), None)
    return () if chosen is None or group.decided_by is None else search.within_noise(chosen, looks, trials)


def _look_result(run: PlannedRun, look: SecondLook, record: Record | None) -> SecondLookResult:
    return SecondLookResult(
        value=look.value,
        validation_loss=look.loss if math.isfinite(look.loss) else None,
        text_score=look.score if math.isfinite(look.score) else None,
        status=record.status if record else "to do",
        seconds=record.resources.total_seconds if record and record.resources else None,
        steps=record.curve.steps if record else None,
        run=run.folder,
    )


def _trial_result(run: PlannedRun, trial: Trial, record: Record | None) -> TrialResult:
    return TrialResult(
        value=trial.value,
        validation_loss=trial.loss if math.isfinite(trial.loss) else None,
        status=record.status if record else "to do",
        seconds=record.resources.total_seconds if record and record.resources else None,
        steps=record.curve.steps if record else None,
        run=run.folder,
        cut_at=record.curve.cut_at if record else None,
        rungs=tuple(
            PruningCheck(step=step, cut_above=limit, validation_loss=trial.rungs.get(step))
            for step, limit in run.spec.cut_above
        ),
    )


def _folder_names(models: tuple[ModelSpec, ...]) -> dict[str, str]:
    """Short names for folders: the last part of the model's name, with a number where two are equal."""
    names = [model.name for model in models]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"model {doubled} is named twice; name every model once")
    slugs: dict[str, str] = {}
    for name in names:
        slug = re.sub(r"[^A-Za-z0-9._]+", "-", Path(name).name.removesuffix(".gguf")).strip("-.")[:24] or "model"
        taken = sum(other == slug or other.startswith(f"{slug}.") for other in slugs.values())
        slugs[name] = f"{slug}.{taken + 1}" if slug in slugs.values() else slug
    return slugs
