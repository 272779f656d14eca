"""A study as a person sees it: what will be done, progress, the table, and what to type next."""

import contextlib
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tuneoff import api, data
from tuneoff.api import Study
from tuneoff.cli.output import say, show
from tuneoff.cli.plans import longer_study_sentences, sensitivity_sentence
from tuneoff.cli.tables import summary_as_text
from tuneoff.cli.verdicts import describe_choice
from tuneoff.cli.watches import served
from tuneoff.errors import UserError
from tuneoff.prompts import field_names
from tuneoff.results.study_state import Effort
from tuneoff.spec import StudySpec
from tuneoff.study.executor import open_executor
from tuneoff.study.launcher import Layout
from tuneoff.study.progress import Progress
from tuneoff.study.runner import Limits, PreparedStudy, prepare
from tuneoff.study.speed_probe import speed_lines
from tuneoff.study.watching import StudyWatch
from tuneoff.text import format_duration, parse_duration, plural
from tuneoff.trackers import check_trackers, close_trackers, open_trackers


@dataclass(frozen=True)
class StudyFlags:
    """Flags of `compare` that are not part of the study, as typed."""

    budget: str | None = None
    equal: str = "examples"
    workers: str = "1"
    engine: str = "local"
    report_to: Sequence[str] = ()
    keep_texts: bool = True
    keep_earlier: bool = False
    quiet: bool = False
    page: bool = False

    def limits(self) -> Limits:
        """Raises `UserError` for a value that is not possible."""
        seconds = None if self.budget is None else parse_duration(self.budget)
        if self.budget is not None and seconds is None:
            raise UserError(f"--budget {self.budget}: a time such as 20m, 90s or 1h30m was expected")
        if self.equal not in get_args(Effort):
            raise UserError(f"--equal {self.equal}: examples or time")
        if self.workers != "auto" and not self.workers.isdecimal():
            raise UserError(f"--workers {self.workers}: a number of concurrent runs, or auto")
        equal: Effort = "time" if self.equal == "time" else "examples"
        workers = None if self.workers == "auto" else int(self.workers)
        check_trackers(self.report_to, workers, self.engine)
        return Limits(seconds, equal, workers)


def plan_study(
    spec: StudySpec, folder: Path, flags: StudyFlags, held: contextlib.ExitStack | None = None
) -> PreparedStudy:
    """The study as it will be carried out, fitted into its time limit. Writes nothing into the folder.

    `held` keeps the folder's lock, see `prepare`. Raises `UserError` for what cannot be carried out.
    """
    limits = flags.limits()
    open_executor(flags.engine, Layout(limits.workers or 1))  # its settings are checked before anything is measured
    with Progress(len(spec.models) * len(spec.methods), quiet=flags.quiet) as progress:
        prepared = prepare(
            spec,
            folder,
            limits,
            keep_earlier=flags.keep_earlier,
            observer=progress,
            held=held,
            notify=say,
            corrects=flags.engine == "local",
        )
    if not flags.quiet and prepared.speeds is not None:
        if prepared.speeds_age is not None:
            say(f"speeds measured {format_duration(prepared.speeds_age)} ago on this machine are used again")
        for line in speed_lines(prepared.speeds):
            say(line)
        if prepared.others is not None and (sentence := prepared.others.sentence()) is not None:
            say(f"CAUTION: {sentence}")
    if not flags.quiet and (fitted := prepared.fitted) is not None:
        for line in fitted.reduced:
            say(f"reduced to fit the time limit: {line}")
        if fitted.study.steps:
            steps = ", ".join(f"{name} {steps} steps" for name, steps in fitted.study.steps.items())
            say(f"equal time: {steps}")
        over = "" if fitted.fits else f", more than the {flags.budget} allowed: nothing smaller can be judged"
        at_most = "at most " if spec.until_settled else ""
        say(f"planned: {at_most}{plural(prepared.total, 'run')} in about {format_duration(fitted.seconds)}{over}")
        for line in longer_study_sentences(spec, fitted):
            say(line)
    return prepared


def run_study(spec: StudySpec, folder: Path, flags: StudyFlags) -> Study:
    """Prepare a study, carry it out, write its report. Messages go to stderr, the table to stdout; `quiet` omits both.

    Raises `UserError` before anything is done if something cannot be carried out.
    """
    with contextlib.ExitStack() as held:
        return _run_study(spec, folder, flags, held)


def _run_study(spec: StudySpec, folder: Path, flags: StudyFlags, held: contextlib.ExitStack) -> Study:
    trackers = open_trackers(flags.report_to, folder, flags.limits().workers, flags.engine)
    began = time.perf_counter()
    prepared = plan_study(spec, folder, flags, held)
    layout = prepared.layout
    if not flags.quiet:
        _announce(prepared)
        if layout.processes > 1:
            say(f"{layout.processes} concurrent runs, {layout.threads} threads each")
            say("costs are measured afterwards, one run at a time")
    timing = len(spec.models) * len(spec.methods) if layout.processes > 1 else 0
    done_before = len(prepared.plan.runs) - len(prepared.missing)
    # A plan that is corrected while it runs has no fixed number of runs, and one with looks neither.
    total = None if flags.budget is not None or spec.until_settled else prepared.total + timing
    watched = StudyWatch(prepared.dir.path)
    with (
        served(watched) if flags.page else contextlib.nullcontext(),
        Progress(
            total,
            done_before=done_before,
            quiet=flags.quiet,
            metric=prepared.spec.metric,
            board=lambda: watched.look(progress.workers).summary_lines(),
        ) as progress,
    ):
        study = api.carry_out(
            prepared,
            progress,
            engine=flags.engine,
            trackers=trackers,
            keep_texts=flags.keep_texts,
        )
    if flags.quiet:
        for record in study.runs():
            if record.failure is not None:
                say(f"{record.name} {record.status}: {record.failure.message}")
    else:
        if flags.budget is not None:
            say(f"took {format_duration(time.perf_counter() - began)} of a time limit of {flags.budget}")
        _print_result(study)
    for words in close_trackers(trackers):
        if not flags.quiet:
            say(words)
    return study


def _print_result(study: Study) -> None:
    summary = study.summary
    if summary.budget and summary.budget.problem:
        say(summary.budget.problem)
    show(summary_as_text(summary))
    show(f"report: {study.stored.dir.report}")
    if study.report_problem is not None:
        again = f"to write it again: tuneoff report {shlex.quote(str(study.path))}"
        say(f"not all of the report could be written: {study.report_problem}; {again}")
    if summary.winner is not None:
        needed = field_names(study.spec.prompt.instruction)
        fields = "".join(f" --field {shlex.quote(f'{name}=VALUE')}" for name in needed)
        show(f"to use: tuneoff summarize {shlex.quote(str(study.path))} FILE{fields}")
        show(f"        {describe_choice(summary.winner, study.path)}")
    elif summary.no_winner is not None:
        command = f"tuneoff summarize {shlex.quote(str(study.path))} FILE --method NAME"
        show(f"no model is handed over; to use one all the same: {command}")


def _announce(prepared: PreparedStudy) -> None:
    inputs = prepared.inputs
    say(inputs.dataset.description)
    for line in data.cleaning_report(inputs.dataset):
        say(line)
    for caution in inputs.cautions:
        say(f"CAUTION: {caution}")
    if (sentence := sensitivity_sentence(prepared)) is not None:
        say(sentence)
    total, missing = prepared.total, prepared.total - len(prepared.plan.runs) + len(prepared.missing)
    there = f", {total - missing} of them already done" if missing < total else ""
    at_most = "at most " if prepared.spec.until_settled else ""
    say(f"{at_most}{plural(total, 'run')}{there}; folder {prepared.dir.path}")
