"""One study from the spec to its stored results: `prepare` only reads, `carry_out_study` writes.

spec -> inputs -> (speeds -> budget.fit -> spec) -> next_runs -> executor -> completed -> next_runs ... -> StoredStudy
"""

import contextlib
import dataclasses
import functools
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuneoff import models
from tuneoff.beside import beside
from tuneoff.engine.precision import NumberFormat
from tuneoff.errors import UserError
from tuneoff.memory_limits import available_memory
from tuneoff.methods import method_class
from tuneoff.metrics import RougeDialect
from tuneoff.model_weights import discard_damaged_copies
from tuneoff.profiling import usable_cores
from tuneoff.profiling.other_programs import OtherPrograms
from tuneoff.results import baselines
from tuneoff.results.events import Note
from tuneoff.results.recovery import recover
from tuneoff.results.run_claims import Claims, Worker
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import Prediction, Record
from tuneoff.results.study_dir import StoredStudy, StudyDir
from tuneoff.results.study_state import BudgetFile, Effort, WorkFile
from tuneoff.spec import StudySpec
from tuneoff.stopping import signals_raise
from tuneoff.study import budget, concurrency, planner
from tuneoff.study.budget import FittedStudy
from tuneoff.study.budget_keeper import HEADROOM, BudgetKeeper, time_for_runs
from tuneoff.study.compatibility import check_folder, differences, earlier_runs, keeps_earlier_runs, plan_file
from tuneoff.study.correction import with_headroom
from tuneoff.study.duration import Speeds
from tuneoff.study.executor import (
    Executor,
    LocalExecutor,
    Observer,
    Serialized,
    SilentObserver,
    closed_at_the_end,
    team_of,
)
from tuneoff.study.inputs import StudyInputs, check_prompts, document_row, load_inputs
from tuneoff.study.jobs import Durations, Job, OpenJobs
from tuneoff.study.launcher import WHOLE_MACHINE, Layout
from tuneoff.study.looks import StudyPlanner
from tuneoff.study.number_format import decide_number_format
from tuneoff.study.planner import PlannedRun, StudyPlan
from tuneoff.study.preflight import check_models
from tuneoff.study.resources import check_machine, check_resources
from tuneoff.study.search import MIN_STEPS_TO_PRUNE
from tuneoff.study.speed_probe import SHARE_OF_BUDGET, kept_or_measured
from tuneoff.study.task_words import as_begun
from tuneoff.text import format_duration

# Entering a run into the manifest writes the whole file. In a study of more runs than this, it is written again when
# it grows by this fraction, so that the time for all runs is proportional to their number. A run that no manifest has
# when the process is killed has one of its own, and is entered at the next start.
_COVERED_AT_ONCE = 32
_TEAM_SECONDS = 10.0  # between two looks at who works
_REST_AFTER_TEAM = 20.0  # or this multiple of what the last look took, with very many workers


@dataclass(frozen=True)
class Limits:
    """How much time a study may take, and what of the machine."""

    budget_seconds: float | None = None
    equal: Effort = "examples"
    workers: int | None = 1
    """Concurrent runs; None: as many as are fastest, by a short measurement."""


@dataclass(frozen=True)
class PreparedStudy:
    """A study that was checked against its data, its models and its folder, and fitted into its limits.

    `stored` holds every run of the folder that could be read; `fitted` is None without a time limit.
    """

    spec: StudySpec
    dir: StudyDir
    inputs: StudyInputs
    planner: StudyPlanner
    plan: StudyPlan
    stored: tuple[StoredRun, ...]
    layout: Layout
    fitted: FittedStudy | None = None
    budget: BudgetFile | None = None
    """The plan that fits the study into its limits."""
    asked: StudySpec | None = None
    """The study before it was fitted into its limits; None without limits."""
    began: float = 0.0
    """When the preparation began, by `time.perf_counter`: it counts towards a time limit."""
    speeds: Speeds | None = None
    """What the probe of a new plan measured."""
    speeds_age: float | None = None
    """How many seconds ago that was, if it was not measured now."""
    others: OtherPrograms | None = None
    """What other programs used meanwhile."""
    number_format: NumberFormat | None = None
    """That of the probe, for models whose precision is `auto`."""
    locked: bool = False
    """Whether the folder is held already, and what was damaged in it was moved aside."""
    notify: Callable[[str], None] = warnings.warn

    @property
    def missing(self) -> tuple[PlannedRun, ...]:
        """The known runs that have not ended."""
        return self.plan.missing(completed_by_id(self.stored))

    @property
    def total(self) -> int:
        """Runs of the whole study, including those that follow from trials still to be done."""
        return planner.count(self.spec)


def prepare(
    spec: StudySpec,
    folder: Path,
    limits: Limits | None = None,
    *,
    keep_earlier: bool = False,
    observer: Observer | None = None,
    held: contextlib.ExitStack | None = None,
    notify: Callable[[str], None] = warnings.warn,
    measures: bool = True,
    corrects: bool = True,
) -> PreparedStudy:
    """Read data, models and folder, and fit the study into its limits.

    `keep_earlier`: finished runs of earlier versions of the numerics count, now and whenever the study continues here.
    `observer` follows the probe of a budget. `held` keeps the lock of a folder that is there, or that a probe is for,
    until the caller closes it; what was damaged there is moved aside, which `notify` reports. Without it, nothing in
    the folder is changed. Without `measures`, no speed is measured, and a study that has no plan yet is not fitted.
    `corrects`: whether the plan is corrected while the study runs, which takes back what the first runs get too much.
    Raises `UserError` for what can be known before anything is run.
    """
    began, limits = time.perf_counter(), limits or Limits()
    directory = StudyDir(folder)
    directory.check_writable()
    locked = held is not None and directory.is_begun()
    is_limited = limits.budget_seconds is not None or limits.equal != "examples"
    lost_budget = is_limited and directory.has_lost_budget()
    if locked and held is not None:
        held.enter_context(_held_and_whole(directory, notify))
    begun = directory.read_spec()
    spec = as_begun(spec, begun)
    budget.check_limits(spec, limits.budget_seconds, limits.equal)
    stored = tuple(directory.read_runs(skip_damaged=True))
    kept_plan = _read_budget(directory, limits)
    earlier = budget.earlier_plan(kept_plan, spec, limits.budget_seconds, limits.equal)
    wanted = earlier.study if earlier else spec
    if earlier is None and lost_budget and begun is not None:  # another plan would be another study
        notify(f"{folder}: budget.json is lost, so the study keeps the settings that study.json has")
        wanted = budget.with_settings_of(begun, spec)
    grown = None if is_limited or begun is None else _grown(directory, begun, spec)
    if grown is not None:
        notify(
            f"{folder}: was reduced by --budget, so its steps, trials, fractions and documents stay; seeds, methods "
            "and models are as asked"
        )
        wanted, kept_plan = grown
    inputs = load_inputs(wanted)
    prepared = _prepared(wanted, directory, inputs, stored, keep_earlier=keep_earlier)
    layout = _choose_layout(prepared, limits.workers, measures=measures)
    prepared = dataclasses.replace(prepared, layout=layout, began=began, locked=locked, notify=notify)
    if earlier is not None:
        return dataclasses.replace(prepared, fitted=earlier, budget=kept_plan, asked=spec)
    if not is_limited:
        return prepared if grown is None else dataclasses.replace(prepared, budget=kept_plan)
    if not measures:
        return prepared
    check_machine(spec)  # a probe that the system kills may take other programs with it
    check_prompts(spec, inputs)
    check_models(spec, planner.build_methods(spec).values(), inputs.dataset)
    if held is not None and not locked:  # a start that will be refused must not compute first
        held.enter_context(_held_and_whole(directory, notify))
        locked = True
    number_format = decide_number_format(spec, directory.read_plan(), (run.record for run in stored))
    share = None if limits.budget_seconds is None else SHARE_OF_BUDGET * limits.budget_seconds
    kept = kept_or_measured(spec, inputs, layout, observer or SilentObserver(), number_format, share)
    speeds = kept.speeds
    left = None
    if limits.budget_seconds is not None:
        left = time_for_runs(limits.budget_seconds) - (time.perf_counter() - began)
    if wanted is spec:
        fitted = budget.fit(spec, inputs.sizes, speeds, left, equal=limits.equal, processes=layout.processes)
        one_by_one = corrects and layout.processes == 1
        if limits.budget_seconds and fitted.fits and one_by_one and not fitted.study.trials:
            more = with_headroom(fitted.study, spec, inputs.sizes, speeds, HEADROOM * limits.budget_seconds)
            fitted = dataclasses.replace(fitted, study=more)
    else:
        fitted = budget.plan_of(
            wanted,
            spec,
            inputs.sizes,
            speeds,
            limits.budget_seconds,
            equal=limits.equal,
            processes=layout.processes,
        )
    if (fitted.study.data, fitted.study.scored_documents) != (spec.data, spec.scored_documents):
        inputs = load_inputs(fitted.study)
    again = _prepared(fitted.study, directory, inputs, stored, keep_earlier=keep_earlier)
    plan = budget.budget_file(fitted, spec, limits.budget_seconds, limits.equal, speeds)
    return dataclasses.replace(
        again,
        layout=layout,
        fitted=fitted,
        budget=plan,
        asked=spec,
        began=began,
        number_format=number_format,
        speeds=speeds,
        speeds_age=kept.age,
        others=kept.others,
        locked=locked,
        notify=notify,
    )


@contextlib.contextmanager
def _held_and_whole(directory: StudyDir, notify: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder, after what was damaged in it was moved aside."""
    with directory.lock():
        for sentence in recover(directory):
            notify(f"{directory.path}: {sentence}")
        yield


def stored_by_id(stored: Iterable[StoredRun]) -> dict[str, StoredRun]:
    """Stored runs by their ids. Of two with one id, the one that has ended counts."""
    found: dict[str, StoredRun] = {}
    for run in stored:
        known = found.get(run.record.run_id)
        if known is None or not known.record.ended:
            found[run.record.run_id] = run
    return found


def completed_by_id(stored: Iterable[StoredRun]) -> dict[str, Record]:
    """The records of stored runs, as the planner takes them."""
    return {run_id: run.record for run_id, run in stored_by_id(stored).items()}


def _grown(directory: StudyDir, begun: StudySpec, spec: StudySpec) -> tuple[StudySpec, BudgetFile] | None:
    """`spec` with what a time limit left of the study in its folder, and what its file says then.

    None without such a limit, and if that is another study. With equal time, the steps of a further method, or on a
    further model, are unknown.
    """
    with contextlib.suppress(UserError):
        trained = {name for name in spec.methods if method_class(name).trains}
        stored = directory.read_budget()
        if stored is None or (begun.steps and not (trained <= begun.steps.keys() and spec.models == begun.models)):
            return None
        grown = budget.with_settings_of(begun, spec)
        grown = grown.model_copy(update={"seeds": max(begun.seeds, spec.seeds)})
        if grown == spec.model_copy(update={"seeds": grown.seeds}) or differences(begun, grown):
            return None
        return grown, budget.continued(stored, begun, grown)
    return None


def _read_budget(directory: StudyDir, limits: Limits) -> BudgetFile | None:
    """The stored plan, if this study has a limit to plan for."""
    unlimited = limits.budget_seconds is None and limits.equal == "examples"
    return None if unlimited else directory.read_budget()


def _prepared(
    spec: StudySpec, directory: StudyDir, inputs: StudyInputs, stored: tuple[StoredRun, ...], *, keep_earlier: bool
) -> PreparedStudy:
    keep_earlier = keep_earlier or keeps_earlier_runs(directory.read_plan() if directory.is_study() else None)
    check_folder(directory, spec, inputs.hashes, keep_earlier=keep_earlier)
    if keep_earlier:
        earlier = earlier_runs(run.record for run in stored)
        inputs = dataclasses.replace(inputs, hashes=dataclasses.replace(inputs.hashes, earlier=earlier))
    planning = StudyPlanner(spec, directory, inputs.hashes, inputs.dataset)
    plan = planning.plan(stored_by_id(stored))
    if spec.halving and not any(run.spec.cut_above for run in plan.runs):
        raise UserError(
            f"--halving: no trial of this study can be pruned, because none has done {MIN_STEPS_TO_PRUNE} steps and "
            "its warm-up by half of its training; leave it out, or train longer"
        )
    return PreparedStudy(spec, directory, inputs, planning, plan, stored, WHOLE_MACHINE)


def _choose_layout(prepared: PreparedStudy, workers: int | None, *, measures: bool) -> Layout:
    """How many runs at a time; one, where that would have to be measured and must not be.

    Raises `UserError` for a number that is not possible.
    """
    if workers == 1:
        return WHOLE_MACHINE
    if (processes := prepared.spec.train.processes) > 1:
        raise UserError(
            f"--workers: with --processes {processes}, runs are carried out one after another; leave it out"
        )
    cores = usable_cores()
    if workers is None and not measures:
        return WHOLE_MACHINE
    if workers is None:
        need = max(concurrency.memory_of_a_run(models.weights_folder(model)) for model in prepared.spec.models)
        return concurrency.choose(len(prepared.missing), need, available_memory(), cores)
    if not 1 <= workers <= cores:
        raise UserError(f"--workers {workers}: a number from 1 to {cores} (the processors here), or auto")
    return Layout(workers, max(1, cores // workers))


def jobs_of(
    runs: Iterable[PlannedRun],
    directory: StudyDir,
    *,
    keep_texts: bool,
    number_format: NumberFormat | None,
    completed: planner.Completed,
) -> list[Job]:
    """Planned runs as an executor takes them. `completed` shows how long such runs take."""
    runs = list(runs)
    durations = Durations(completed if runs else {})
    return [
        Job(
            run.spec,
            run.run_id,
            run.name,
            directory.run_dir(run.folder),
            keep_texts=keep_texts,
            number_format=number_format,
            expected_seconds=durations.expected(run.spec),
        )
        for run in runs
    ]


def check_before_runs(prepared: PreparedStudy) -> None:
    """Raise `UserError` for prompts, models and a machine with which every run would fail. Reads no weight."""
    if prepared.missing:
        for sentence in discard_damaged_copies():
            prepared.notify(sentence)
        check_resources(prepared.spec, prepared.missing, prepared.dir.path)
        check_prompts(prepared.spec, prepared.inputs)
        check_models(prepared.spec, planner.build_methods(prepared.spec).values(), prepared.inputs.dataset)


def carry_out_study(
    prepared: PreparedStudy,
    executor: Executor,
    observer: Observer,
    *,
    keep_texts: bool = True,
    shared: bool = False,
    correct: bool = True,
) -> StoredStudy:
    """Carry out what is missing, and return the study as it is stored then.

    A run that fails is a record with a status, and the study continues. `keep_texts=False` keeps documents and
    generated texts out of the folder. `shared`: other machines may take part (`tuneoff.study.shared_folder`).
    `correct=False` keeps the plan of a time limit as it is, for an executor whose number of concurrent runs is unknown.
    Raises `UserError` if another process works in the folder.
    """
    check_before_runs(prepared)
    held = contextlib.nullcontext() if prepared.locked else _held_and_whole(prepared.dir, prepared.notify)
    with held, signals_raise():
        return _Runner(prepared, executor, observer, keep_texts=keep_texts, shared=shared, correct=correct).run()


class _Runner:
    """Carries out one study. Made while the folder is locked."""

    def __init__(
        self,
        prepared: PreparedStudy,
        executor: Executor,
        observer: Observer,
        *,
        keep_texts: bool,
        shared: bool,
        correct: bool,
    ) -> None:
        self._spec, self._dir, self._inputs = prepared.spec, prepared.dir, prepared.inputs
        self._executor = executor
        self._observer = Serialized(observer)  # looks are reported while runs report, too
        self._keep_texts, self._shared = keep_texts, shared
        self._budget = prepared.budget
        self._keeper: BudgetKeeper | None = None
        file = prepared.budget
        if correct and file is not None and file.budget_seconds is not None and prepared.asked is not None:
            self._keeper = BudgetKeeper(
                file,
                prepared.asked,
                prepared.inputs.sizes,
                began=prepared.began,
                processes=prepared.layout.processes,
                clock=time.perf_counter,
            )
        # Another process may have worked here between `prepare` and the lock.
        self._stored = stored_by_id(prepared.dir.read_runs(skip_damaged=True, known=prepared.stored))
        self._planner = prepared.planner
        self._looks_said: dict[str, int] = {}  # model -> looks that were reported
        self._attempted: set[str] = set()
        self._uncovered: list[str] = []
        self._number_format = prepared.number_format or self._decide_number_format()

    def _decide_number_format(self) -> NumberFormat | None:
        """Also kept in the plan of a study that is complete, where nothing is measured."""
        plan = self._dir.read_plan()
        if not self._plan().missing(self._completed()):
            return plan.number_format if plan else None
        return decide_number_format(self._spec, plan, self._completed().values())

    def run(self) -> StoredStudy:
        plan = self._plan()
        self._write_frame(plan)
        timing: tuple[PlannedRun, ...] = ()
        try:
            self._looks_said = {model.name: len(self._planner.taken(model.name)) for model in self._spec.models}
            while jobs := self._jobs(self._next_batch(plan)):
                self._carry_out(jobs, self._executor)
                plan = self._plan()
                self._report_looks(jobs[-1])
                if self._keeper is not None and self._correct(self._keeper, plan, jobs[-1]):
                    plan = self._plan()
                    self._write_frame(plan)
                else:
                    self._write_plan(plan)
            timing = planner.timing_runs(plan.runs, self._inputs.hashes, self._completed())
            if timing:
                self._write_plan(plan, timing)
                untimed = [run for run in timing if not planner.is_done(run, self._completed())]
                with LocalExecutor() as alone:  # whatever the layout: it measures what a run costs by itself
                    self._carry_out(self._jobs(untimed), alone)
        finally:
            plan = self._plan()
            if self._spec.trials:
                search = planner.search_file(self._spec, self._inputs.hashes, plan, self._completed())
                self._dir.write_search(search)
            if not self._keep_texts:
                self._withhold_texts(plan.runs)
            if self._shared and plan.complete and not plan.missing(self._completed()):
                self._dir.end_sharing()
        return self._dir.load(self._stored.values())

    def _report_looks(self, last: Job) -> None:
        """Say what was decided at the looks since the last call."""
        for model, number in self._looks_said.items():
            for sentence in self._planner.sentences(model, number):
                self._observer.event(last, Note(text=sentence))
            self._looks_said[model] = len(self._planner.taken(model))

    def _more(self, last: Job) -> list[Job]:
        """Runs that have become possible while others work. With a time limit, each batch is decided after another."""
        if self._keeper is not None:
            return []
        plan = self._plan()
        self._report_looks(last)
        if jobs := self._jobs(self._next_batch(plan)):
            self._write_plan(plan)
        return jobs

    def _next_batch(self, plan: StudyPlan) -> Sequence[PlannedRun]:
        missing = [run for run in plan.missing(self._completed()) if run.place not in self._attempted]
        return missing if self._keeper is None else self._keeper.next_batch(missing)

    def _correct(self, keeper: BudgetKeeper, plan: StudyPlan, last: Job) -> bool:
        """Plan what is left again, and return whether that changed the study.

        The plan is written first: a study that is killed goes on with it.
        """
        before = self._spec
        enough = self._planner.enough()
        self._spec, change = keeper.correct(before, plan, self._completed(), self._attempted, enough)
        self._budget, self._planner.study = keeper.file, self._spec
        self._dir.write_budget(keeper.file)
        if change is None:
            return False
        self._observer.event(last, Note(text=f"the plan is corrected {change}"))
        if self._spec.scored_documents != before.scored_documents:
            self._inputs = dataclasses.replace(load_inputs(self._spec), hashes=self._inputs.hashes)
            self._planner = StudyPlanner(self._spec, self._dir, self._inputs.hashes, self._inputs.dataset)
        return True

    def _plan(self) -> StudyPlan:
        return self._planner.plan(self._stored)

    def _completed(self) -> planner.Completed:
        return {run_id: run.record for run_id, run in self._stored.items()}

    def _jobs(self, runs: Iterable[PlannedRun]) -> list[Job]:
        """Runs that were not attempted in this session: one that failed is not repeated at once.

        Known by their places: a plan that is corrected to other documents changes their ids.
        """
        untried = [run for run in runs if run.place not in self._attempted]
        jobs = jobs_of(
            untried,
            self._dir,
            keep_texts=self._keep_texts,
            number_format=self._number_format,
            completed=self._completed(),
        )
        self._attempted.update(run.place for run in untried)
        self._dir.forget_runs(job.dir.name for job in jobs)
        return jobs

    def _carry_out(self, jobs: list[Job], executor: Executor) -> None:
        waiting = {job.run_id: job for job in jobs}

        def more() -> list[Job]:
            found = self._more(jobs[-1])
            waiting.update((job.run_id, job) for job in found)
            return found

        open_jobs = OpenJobs(jobs, more)
        try:
            with (
                _team_watched(executor, self._observer, waiting, shared=self._shared),
                closed_at_the_end(executor.run(open_jobs, self._observer)) as runs,
            ):
                for run in runs:
                    self._stored[run.record.run_id] = run
                    if self._planner.opens_others(run):
                        open_jobs.changed()
                    waiting.pop(run.record.run_id, None)
                    # In a shared study another worker goes on with a run that was interrupted.
                    if not self._shared or run.record.status != "interrupted":
                        self._cover(run.name)
        except BaseException:
            for job in waiting.values():  # the executor did not yield what was interrupted or ended meanwhile
                with contextlib.suppress(UserError):
                    self._stored[job.run_id] = StoredRun(job.dir, job.dir.read_record())
            with contextlib.suppress(OSError, UserError):  # the next start does it
                self._cover_all()
            raise
        self._cover_all()

    def _cover(self, name: str) -> None:
        """Enter a run that has ended into the study's manifest, perhaps a little later: see `_COVERED_AT_ONCE`."""
        self._uncovered.append(name)
        if len(self._uncovered) * _COVERED_AT_ONCE >= len(self._stored):
            self._cover_all()

    def _cover_all(self) -> None:
        self._dir.cover_runs(self._uncovered)
        self._uncovered = []

    def _withhold_texts(self, runs: Iterable[PlannedRun]) -> None:
        for planned in runs:
            run = self._stored.get(planned.run_id)
            if run is None:
                continue
            # Of a start without --no-texts, or of an executor that knows no such option.
            forget = functools.partial(self._dir.forget_runs, [run.name])
            if (stripped := run.withhold_texts(forget)) is not run:
                self._stored[planned.run_id] = stripped
                self._dir.cover_runs([run.name])

    def _write_plan(self, plan: StudyPlan, timing: Iterable[PlannedRun] = ()) -> None:
        # A stored run may have another name than today's plan gives it, for example from before a model was added.
        names = [
            self._stored[run.run_id].name if run.run_id in self._stored else run.folder for run in (*plan.runs, *timing)
        ]
        file = plan_file(self._inputs.hashes, tuple(names), self._number_format)
        if self._spec.until_settled and not plan.complete:
            file = file.model_copy(update={"open": True})
        self._dir.write_plan(file)

    def _write_frame(self, plan: StudyPlan) -> None:
        """Everything in a study folder that is known before the first run."""
        directory, dataset = self._dir, self._inputs.dataset
        check_folder(directory, self._spec, self._inputs.hashes, keep_earlier=self._inputs.hashes.earlier is not None)
        try:
            if self._budget is not None:  # first: without it, the next start would plan another study
                directory.write_budget(self._budget)
            directory.write_spec(self._spec)
            self._write_plan(plan)
        except OSError as error:
            message = f"{directory.path}: cannot be written ({error.strerror}); choose another --output"
            raise UserError(message) from error
        directory.write_documents(document_row(example, self._keep_texts) for example in dataset.test)
        directory.write_data(self._inputs.data_file(self._spec.data))
        dialect = RougeDialect.of(self._spec.score.words)
        directory.write_baselines(self._rows(baselines.extractive_rows(dataset.test, dialect)))
        outside = {
            name: baselines.outside_rows(texts, dataset.test, dialect) for name, texts in self._inputs.outside.items()
        }
        directory.write_outside(self._rows(outside))
        if self._shared:
            work = WorkFile(
                spec=self._spec,
                directory=str(Path.cwd()),
                keep_texts=self._keep_texts,
                number_format=self._number_format,
            )
            directory.write_work(work)
            Claims(directory.path, "").forget_failures()

    def _rows(self, rows: dict[str, list[Prediction]]) -> dict[str, list[Prediction]]:
        if self._keep_texts:
            return rows
        return {name: [row.without_text() for row in predictions] for name, predictions in rows.items()}


def _team_watched(
    executor: Executor, observer: Serialized, jobs: Mapping[str, Job], *, shared: bool
) -> contextlib.AbstractContextManager[None]:
    """Inside, look at who works every few seconds, in a thread, because `Executor.run` may wait for hours.

    The observer is informed, and whoever shows no sign of life is reported. One worker of this machine alone is not
    looked at. `jobs`: those that have not ended.
    """

    def watch(ended: threading.Event) -> None:
        try:
            said: set[tuple[str, str, str]] = set()
            team, pause = team_of(executor), _TEAM_SECONDS
            while (shared or (team.capacity or 1) > 1) and not ended.wait(pause):
                began = time.monotonic()
                team = team_of(executor)
                observer.team(team)
                folders = _by_folder(jobs)
                for worker in team.workers:
                    key = worker.name, worker.run, worker.state
                    if worker.state != "working" and key not in said and worker.run in folders:
                        observer.event(folders[worker.run], Note(text=_silence(worker)))
                        said.add(key)
                pause = max(_TEAM_SECONDS, _REST_AFTER_TEAM * (time.monotonic() - began))
        except Exception as error:  # of an executor of another package: its runs go on
            for job in list(_by_folder(jobs).values())[:1]:
                observer.event(job, Note(text=f"who works cannot be shown: {type(error).__name__}: {error}"))

    return beside(watch)


def _by_folder(jobs: Mapping[str, Job]) -> dict[str, Job]:
    return {job.dir.name: job for job in list(jobs.values())}


def _silence(worker: Worker) -> str:
    silent = f"{worker.label} has shown no sign of life for {format_duration(worker.silent_seconds)}"
    return silent if worker.state == "silent" else f"{silent} and counts as lost; the next free worker goes on with it"
