"""Measures what each method costs on this machine: a few steps and texts of each, in runs like those of the study.

The first step of a run is its warm-up. It is not a steady step, and is measured by itself: each run of the study has it
once. If the steady steps of a method differ by more than `_NOISY`, its training is measured again, with twice as many
steps. The probe ends when its time is up, but not before something of one method is measured; what is not measured is
taken from the other methods.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tuneoff import data, models
from tuneoff.engine.batching import row_lengths
from tuneoff.engine.precision import NumberFormat
from tuneoff.errors import RunFailure
from tuneoff.methods import method_class
from tuneoff.profiling.other_programs import OtherProgramsMeter
from tuneoff.prompts import Prompter
from tuneoff.results.events import Note
from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Record
from tuneoff.results.study_state import Speed
from tuneoff.spec import ModelSpec, StudySpec
from tuneoff.study import planner
from tuneoff.study.duration import Speeds
from tuneoff.study.executor import Executor, Job, LocalExecutor, Observer
from tuneoff.study.inputs import StudyInputs
from tuneoff.study.kept_speeds import KeptSpeeds, keep_speeds, read_kept_speeds, speeds_key
from tuneoff.study.launcher import Layout
from tuneoff.study.planner import PlannedRun
from tuneoff.study.run_timing import RunTiming, StepTimes, TimeIsUp, TimingObserver
from tuneoff.temporary_folder import temporary_folder
from tuneoff.text import format_duration, plural

SHARE_OF_BUDGET = 0.1
_NOISY = 0.3  # (longest - shortest) / median of the steady steps, by token
# Lengths are averaged over so many training examples.
_SAMPLE = 200


@dataclass(frozen=True)
class _Amount:
    """What is measured of a method."""

    steps: int
    validation: int
    test: int


# Texts are written in two concurrent batches, as a study's are; fewer in a batch take longer each.
_USUAL = _Amount(steps=4, validation=16, test=24)
_LEAST = _Amount(steps=2, validation=4, test=4)
_SHORT_SECONDS = 30.0  # with less time for each method, the first is measured with the least amount


def measure_speeds(
    study: StudySpec,
    inputs: StudyInputs,
    executor: Executor,
    observer: Observer,
    number_format: NumberFormat | None = None,
    seconds: float | None = None,
    processes: int = 1,
) -> Speeds:
    """Seconds that each method needs on each model, measured in at most about `seconds` (None: no limit).

    Raises `RunFailure` if a method cannot be run at all, `UserError` if no temporary file can be written.
    """
    with temporary_folder() as folder:
        probe = _Probe(study, inputs, executor, observer, number_format, seconds, folder)
        return probe.measure(processes)


def kept_or_measured(
    study: StudySpec,
    inputs: StudyInputs,
    layout: Layout,
    observer: Observer,
    number_format: NumberFormat | None,
    seconds: float | None,
) -> KeptSpeeds:
    """Speeds that were measured before, else those of a probe of at most about `seconds`, which are then kept.

    Raises `RunFailure` as `measure_speeds` does.
    """
    key = speeds_key(study, inputs.hashes, layout, number_format)
    kept = read_kept_speeds(key, seconds)
    if kept is not None:
        return kept
    meter = OtherProgramsMeter()
    with LocalExecutor(layout) as executor:
        speeds = measure_speeds(study, inputs, executor, observer, number_format, seconds, layout.processes)
        others = meter.measure()  # while the server of the runs is there, which knows their processor time
    keep_speeds(key, speeds, seconds, others)
    return KeptSpeeds(speeds, None, others)


class _Probe:
    def __init__(
        self,
        study: StudySpec,
        inputs: StudyInputs,
        executor: Executor,
        observer: Observer,
        number_format: NumberFormat | None,
        seconds: float | None,
        folder: Path,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._study, self._inputs, self._executor, self._folder = study, inputs, executor, folder
        self._number_format, self._seconds, self._clock = number_format, seconds, clock
        self._began = clock()
        self._observer = observer
        self._watch = TimingObserver(observer, clock, None if seconds is None else self._began + seconds)
        self._tokens = {model.name: _mean_length(study, inputs, model) for model in study.models}
        self._steps: dict[tuple[str, str], StepTimes] = {}
        self._found: dict[tuple[str, str], Speed] = {}

    def measure(self, processes: int) -> Speeds:
        bare = self._study.model_copy(update={"trials": 0, "fractions": (1.0,), "seeds": 1, "scored_documents": ()})
        runs = list(planner.plan(bare, self._inputs.hashes, {}).runs)
        runs.sort(
            key=lambda run: not method_class(run.spec.method.name).trains
        )  # what is trained takes most of the time
        try:
            if processes > 1:  # as in the study: at the same time
                self._measure([self._job(run, self._amount(len(runs))) for run in runs])
            else:
                for index, run in enumerate(runs):
                    if (amount := self._amount(len(runs) - index)) is not None:
                        self._measure([self._job(run, amount)])
                self._measure_noisy_ones(runs)
        except TimeIsUp:
            for timing in self._watch.unfinished():
                self._take(timing)
        keys = [(model.name, name) for model in self._study.models for name in bare.methods]
        boot = self._watch.boot_seconds()
        measured = {key: speed.model_copy(update={"start": speed.start + boot}) for key, speed in self._found.items()}
        return {key: measured[key] if key in measured else _like_others(measured, *key) for key in keys}

    def _left(self) -> float:
        return math.inf if self._seconds is None else self._seconds - (self._clock() - self._began)

    def _amount(self, methods_left: int) -> _Amount | None:
        """How much of the next method fits into its share of the time; None if not even the least does."""
        share = self._left() / methods_left
        if not self._found:
            return _USUAL if share >= _SHORT_SECONDS else _LEAST
        if math.isinf(share):
            return _USUAL
        known = _mean_speed(list(self._found.values()))
        free = share - known.start - known.warm_up

        def fitting(part: float, each: float, least: int, most: int) -> int:
            return max(least, min(most, int(part * free / max(each, 1e-9))))

        amount = _Amount(
            steps=fitting(0.5, known.step, _LEAST.steps, _USUAL.steps),
            validation=fitting(0.1, known.check, _LEAST.validation, _USUAL.validation),
            test=fitting(0.4, known.write, _LEAST.test, _USUAL.test),
        )
        least = _LEAST.steps * known.step + _LEAST.validation * known.check + _LEAST.test * known.write
        return None if known.start + known.warm_up + least > self._left() else amount

    def _job(self, run: PlannedRun, amount: _Amount | None, suffix: str = "") -> Job:
        amount = amount or _LEAST
        test, validation = self._inputs.dataset.test, self._inputs.dataset.validation
        few = {
            f"max_{name}_documents": max(1, math.ceil(number * data.count_documents(split) / len(split)))
            for name, split, number in (("test", test, amount.test), ("validation", validation, amount.validation))
        }
        train = run.spec.train.model_copy(update={"max_steps": amount.steps, "min_steps": None, "eval_steps": None})
        spec = run.spec.model_copy(update={"train": train, "data": run.spec.data.model_copy(update=few)})
        run_dir = RunDir(self._folder / f"{run.run_id}{suffix}")
        return Job(spec, run.run_id, f"probe of {run.name}", run_dir, number_format=self._number_format)

    def _measure(self, jobs: Sequence[Job]) -> None:
        if not self._found:
            limit = "" if self._seconds is None else f", for at most about {format_duration(self._seconds)}"
            methods = plural(len(self._study.methods), "method")
            self._observer.event(jobs[0], Note(text=f"measures how fast this machine is with {methods}{limit}"))
        for run in self._executor.run(jobs, self._watch):
            _check_ended(run.record)
            self._take(self._watch.timing(run.record.run_id))

    def _take(self, timing: RunTiming) -> None:
        key = timing.job.spec.model.name, timing.job.spec.method.name
        steps = timing.steps.joined(self._steps.get(key))
        self._steps[key] = steps
        per_step = self._tokens[key[0]] * timing.job.spec.train.batch_size
        if key in self._found:  # measured again for its steps
            self._found[key] = self._found[key].model_copy(update={"step": steps.per_token * per_step})
            return
        found = timing.speed(steps, per_step)
        if found is not None:
            self._found[key] = found

    def _measure_noisy_ones(self, runs: Sequence[PlannedRun]) -> None:
        for run in runs:
            steps, speed = self._steps.get(_key(run)), self._found.get(_key(run))
            if steps is None or speed is None or steps.spread <= _NOISY:
                continue
            amount = _Amount(2 * _USUAL.steps, _LEAST.validation, _LEAST.test)
            needed = speed.start + speed.warm_up + amount.steps * speed.step
            needed += amount.validation * speed.check + amount.test * speed.write
            if needed > self._left():
                continue
            job = self._job(run, amount, "-again")
            text = f"steps differ by {100 * steps.spread:.0f} %; {amount.steps} more are measured"
            self._observer.event(job, Note(text=text))
            self._measure([job])


def _key(run: PlannedRun) -> tuple[str, str]:
    return run.spec.model.name, run.spec.method.name


def _check_ended(record: Record) -> None:
    if record.status != "finished" or record.resources is None:
        reason = record.failure.message if record.failure else record.status
        raise RunFailure(f"the {record.name} ended early ({reason}), so nothing can be planned; leave out --budget")


def _mean_speed(speeds: Sequence[Speed]) -> Speed:
    trained = [speed for speed in speeds if speed.step > 0] or speeds
    return Speed(
        start=fmean(speed.start for speed in speeds),
        step=fmean(speed.step for speed in trained),
        check=fmean(speed.check for speed in speeds),
        write=fmean(speed.write for speed in speeds),
        warm_up=fmean(speed.warm_up for speed in trained),
    )


def _like_others(found: Speeds, model: str, method: str) -> Speed:
    """The speed of a method for which there was no time: the mean of those on its model, or on all."""
    known = [speed for (name, _), speed in found.items() if name == model] or list(found.values())
    mean = _mean_speed(known)
    return mean if method_class(method).trains else mean.model_copy(update={"step": 0.0, "warm_up": 0.0})


def speed_lines(speeds: Speeds) -> Iterator[str]:
    """What was measured, for people: one line a method."""
    several = len({model for model, _ in speeds}) > 1
    for (model, name), speed in speeds.items():
        words = [f"{speed.write:.2g} s a text", f"{speed.start:.1f} s to start"]
        if speed.step:
            words.insert(0, f"{speed.step:.2g} s a step ({speed.warm_up:.2g} s more for the first)")
        yield f"{f'{model}, ' if several else ''}{name}: {', '.join(words)}"


def _mean_length(study: StudySpec, inputs: StudyInputs, model: ModelSpec) -> float:
    """Tokens of a training example with its target, after truncation."""
    train = inputs.dataset.train
    prompter = Prompter(
        models.load_tokenizer(model),
        study.prompt,
        max_new_tokens=study.generate.max_new_tokens,
        reserved_tokens=planner.reserved_tokens(study),
    )
    rows, _ = prompter.encode(train[:: max(1, len(train) // _SAMPLE)], with_target=True)
    return fmean(row_lengths(rows)) if rows else float(study.prompt.max_length)
