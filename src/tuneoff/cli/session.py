"""A study as a person sees it: what is going to be done, progress, trackers, the report, the table."""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneoff import data, models, report
from tuneoff.cli import DONE, FAILED, SOME_FAILED
from tuneoff.cli.show import foresight, result_as_text
from tuneoff.cli.verdicts import handed_over
from tuneoff.errors import UserError
from tuneoff.profiling import usable_cores
from tuneoff.prompts import field_names
from tuneoff.results.events import Event
from tuneoff.results.run_record import Prediction, Record, read_predictions
from tuneoff.spec import StudySpec
from tuneoff.study import concurrency
from tuneoff.study.budget import fit
from tuneoff.study.budget_file import Equal, earlier
from tuneoff.study.duration import parse_duration
from tuneoff.study.executor import Job, Outcome
from tuneoff.study.launcher import WHOLE_MACHINE, Layout
from tuneoff.study.printable import printable
from tuneoff.study.progress import Progress, duration
from tuneoff.study.runner import Prepared, carry_out, check_prompts, prepare
from tuneoff.trackers import Tracker, open_tracker
from tuneoff.verdict.selection import Winner


@dataclass(frozen=True)
class StudyResult:
    """A study that was carried out."""

    folder: Path
    records: tuple[Record, ...]
    folders: tuple[Path, ...]  # of the runs, in the order of the records
    summary: dict[str, Any]
    complete: bool = True  # no final run is missing for want of a trial that did not end

    @property
    def exit_code(self) -> int:
        """0 when all final runs finished, 3 when some did not, 1 when none did. A trial may diverge."""
        finals = [record for record in self.records if record.spec.role == "final"]
        finished = sum(record.status == "finished" for record in finals)
        if finals and finished == len(finals) and self.complete:
            return DONE
        return SOME_FAILED if finished else FAILED


def run_study(
    spec: StudySpec,
    folder: Path,
    *,
    report_to: Sequence[str] | None = None,
    keep_texts: bool = True,
    quiet: bool = False,
    workers: str = "1",
    budget: str | None = None,
    equal: str = "examples",
    keep_earlier: bool = False,
) -> StudyResult:
    """Prepare a study, carry it out, draw its report. Messages on stderr, the table on stdout; `quiet` leaves both out.

    Raises `UserError` before anything is done when something asked for cannot be.
    """
    trackers = [open_tracker(name, folder) for name in report_to or () if name != "none"]
    began = time.perf_counter()
    prepared, side_by_side = planned(
        spec,
        folder,
        workers=workers,
        budget=budget,
        equal=equal,
        keep_earlier=keep_earlier,
        quiet=quiet,
        alone=bool(trackers),
    )
    if not quiet:
        _announce(prepared)
        if side_by_side.processes > 1:
            _tell(f"{side_by_side.processes} runs at a time, {side_by_side.threads} threads each")
            _tell("what methods cost is measured afterwards, one at a time")
    done = len(prepared.runs) - len(prepared.missing)
    timing = len(spec.models) * len(spec.methods) if side_by_side.processes > 1 else 0
    with Progress(prepared.total + timing, done_before=done, quiet=quiet) as progress:
        watch = _Watch(spec.name, progress, trackers, keep_texts)
        done_now = carry_out(
            prepared,
            on_start=watch.start,
            on_event=watch.event,
            on_outcome=watch.finish,
            keep_texts=keep_texts,
            layout=side_by_side,
        )
    page = report.render(folder)[0]
    for record in done_now.records:
        if quiet and record.failure is not None:
            _tell(f"{record.name} {record.status}: {record.failure.message}")
    if not quiet:
        if budget is not None:
            _tell(f"the whole took {duration(time.perf_counter() - began)} of a budget of {budget}")
        if problem := (done_now.summary["budget"] or {}).get("problem"):
            _tell(problem)
        print(result_as_text(folder))
        print(f"report: {page}")
        if done_now.summary["use"] is not None:
            fields = "".join(f" --field {name}=VALUE" for name in field_names(spec.prompt.instruction))
            print(printable(f"to use: tuneoff summarize {shlex.quote(str(folder))} FILE{fields}"))
            print(printable(f"        {handed_over(Winner.model_validate(done_now.summary['use']))}"))
    return StudyResult(folder, done_now.records, done_now.folders, done_now.summary, done_now.complete)


def planned(
    spec: StudySpec,
    folder: Path,
    *,
    workers: str = "1",
    budget: str | None = None,
    equal: str = "examples",
    keep_earlier: bool = False,
    quiet: bool = False,
    alone: bool = False,
) -> tuple[Prepared, Layout]:
    """The study as it will be done, fitted into its budget; and how many runs at a time. Writes nothing.

    `keep_earlier`: see `prepare`.

    Raises `UserError` for what cannot be.
    """
    seconds = None if budget is None else parse_duration(budget)
    if equal not in ("examples", "time"):
        raise UserError(f"--equal {equal}: examples or time")
    same: Equal = "time" if equal == "time" else "examples"
    plan = earlier(folder, spec, seconds, same)
    prepared = prepare(plan.study if plan else spec, folder, keep_earlier=keep_earlier)
    side_by_side = _layout(prepared, workers, alone=alone)
    if seconds is None and same == "examples":
        return prepared, side_by_side
    if plan is None:
        check_prompts(prepared)
        with Progress(len(spec.models) * len(spec.methods), quiet=quiet) as progress:
            prepared, plan = fit(
                prepared,
                seconds,
                equal=same,
                layout=side_by_side,
                on_start=progress.start,
                on_event=progress.event,
            )
    if not quiet:
        for line in plan.given_up:
            _tell(f"to save time: {line}")
        if plan.study.steps:
            _tell("equal time: " + ", ".join(f"{name} {steps} steps" for name, steps in plan.study.steps.items()))
        over = "" if plan.fits else f", more than the {budget} allowed: nothing smaller can be judged"
        _tell(f"planned: {prepared.total} runs in about {duration(plan.seconds)}{over}")
    return prepared, side_by_side


def _layout(prepared: Prepared, workers: str, *, alone: bool) -> Layout:
    """How many runs at a time. Raises `UserError` for a number that cannot be."""
    if workers == "1":
        return WHOLE_MACHINE
    if alone:
        raise UserError(f"--workers {workers}: a tracker follows one run at a time; leave out --workers or --report-to")
    cores = usable_cores()
    if workers == "auto":
        import psutil

        need = max(concurrency.memory_of_a_run(models.locate(model)) for model in prepared.study.models)
        return concurrency.choose(len(prepared.missing), need, psutil.virtual_memory().available, cores)
    if not workers.isdecimal() or not 1 <= int(workers) <= cores:
        raise UserError(f"--workers {workers}: a number from 1 to {cores} (the processors here), or auto")
    return Layout(int(workers), max(1, cores // int(workers)))


@dataclass(frozen=True)
class _Watch:
    """Passes on what runs tell: to the progress display, then to the trackers."""

    group: str
    progress: Progress
    trackers: Sequence[Tracker]
    keep_texts: bool

    def start(self, job: Job) -> None:
        self.progress.start(job)
        for tracker in self.trackers:
            tracker.start(job.name, self.group, job.spec)

    def event(self, job: Job, event: Event) -> None:
        self.progress.event(job, event)
        for tracker in self.trackers:
            tracker.event(event)

    def finish(self, outcome: Outcome) -> None:
        self.progress.finish(outcome)
        finished, folder = outcome.record.status == "finished", outcome.job.folder

        def figures() -> list[Path]:
            return [path for path in report.run_figures(folder) if path.suffix == ".png"] if finished else []

        def predictions() -> list[Prediction]:
            return read_predictions(folder) if self.keep_texts else []

        for tracker in self.trackers:
            tracker.finish(outcome.record, figures, predictions)


def _announce(prepared: Prepared) -> None:
    _tell(prepared.dataset.description)
    for line in data.cleaning_report(prepared.dataset):
        _tell(line)
    if prepared.unread.caution:
        _tell(f"CAUTION: {prepared.unread.caution}")
    total, missing = prepared.total, prepared.total - len(prepared.runs) + len(prepared.missing)
    there = f", {total - missing} of them done already" if missing < total else ""
    if (sees := foresight(prepared)) is not None:
        _tell(sees)
    _tell(f"{total} run{'' if total == 1 else 's'}{there}; folder {prepared.folder}")


def _tell(message: str) -> None:
    print(printable(" ".join(message.split())), file=sys.stderr)
