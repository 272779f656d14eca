"""A study inside a budget of time: a short probe measures what each method costs, then the study gives way until it
fits.

What gives way, in this order, each down to a floor: validation documents (100), test documents (200), trials (3),
shares of the data below 1 (the largest first), validation documents (40), test documents (100), trials (2), optimiser
steps (50), test documents (50), steps (20), trials (1), validation documents (16), test documents (25), steps (10),
test documents (16), seeds (2), trials (0: every method keeps its default setting), test documents (10). A third seed
goes late: two hardly tell how far seeds lie apart. At the first rung that fits, test documents come back as far as the
budget allows, for they too decide how small a difference can be seen. When not even the last rung fits, it is done.
"""

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Literal

from tuneoff import data, models
from tuneoff.engine.batching import evaluation_steps, row_lengths, steps_per_epoch, total_steps
from tuneoff.errors import RunFailure, UserError
from tuneoff.prompts import Prompter
from tuneoff.results.events import Event
from tuneoff.results.run_record import Record
from tuneoff.spec import TIMED_STEPS, TIMED_TEXTS, ModelSpec, StudySpec
from tuneoff.study import planner
from tuneoff.study.budget_file import Equal, Plan, Speed, Speeds, as_data
from tuneoff.study.executor import Job, Outcome, execute
from tuneoff.study.halving import rungs
from tuneoff.study.launcher import WHOLE_MACHINE, Layout
from tuneoff.study.planner import Repeated
from tuneoff.study.runner import Prepared, prepare

_STEPS = 3
# Texts are written in two batches side by side, as a study's are; fewer in a batch take longer each.
_PROBED_EXAMPLES = {"validation": 16, "test": 24}
# Lengths are averaged over so many training examples.
_SAMPLE = 200


def fit(
    prepared: Prepared,
    seconds: float | None,
    *,
    equal: Equal = "examples",
    layout: Layout = WHOLE_MACHINE,
    on_start: Callable[[Job], None] | None = None,
    on_event: Callable[[Job, Event], None] = lambda _job, _event: None,
) -> tuple[Prepared, Plan]:
    """The study inside `seconds` from now on, the probe included (None: as it is, with an estimate).

    `equal="time"` gives every trained method the same training time instead of the same examples, for one model on all
    the data. Raises `UserError` where there is more, and `RunFailure` when a method cannot be run at all.
    """
    if equal == "time" and len(prepared.study.fractions) * len(prepared.study.models) > 1:
        raise UserError("--equal time: plans one model on all the data; leave out --fractions and further models")
    asked, kept = prepared.study, prepared.contents.earlier is not None
    began = time.perf_counter()
    speeds = probe(prepared, layout, on_start, on_event)
    if equal == "time":
        prepared = prepare(equal_time(prepared, speeds), prepared.folder, keep_earlier=kept)
    spent = time.perf_counter() - began
    plan = choose(prepared, speeds, None if seconds is None else seconds - spent, layout.processes)
    fitted = prepare(plan.study, prepared.folder, keep_earlier=kept)
    return dataclasses.replace(fitted, budget=as_data(plan, asked, seconds, equal, speeds)), plan


def probe(
    prepared: Prepared,
    layout: Layout = WHOLE_MACHINE,
    on_start: Callable[[Job], None] | None = None,
    on_event: Callable[[Job, Event], None] = lambda _job, _event: None,
) -> Speeds:
    """A few optimiser steps, validation and test examples of every method, in runs like those of the study."""
    test, validation = prepared.dataset.test, prepared.dataset.validation
    few = {
        f"max_{name}_documents": max(1, math.ceil(_PROBED_EXAMPLES[name] * data.count_documents(split) / len(split)))
        for name, split in (("test", test), ("validation", validation))
    }
    began: dict[str, float] = {}
    took: dict[str, float] = {}

    def start(job: Job) -> None:
        began[job.run_id] = time.perf_counter()
        if on_start is not None:
            on_start(job)

    def finish(outcome: Outcome) -> None:
        took[outcome.job.run_id] = time.perf_counter() - began[outcome.job.run_id]

    with tempfile.TemporaryDirectory(prefix="tuneoff-") as folder:
        bare = prepared.study.model_copy(update={"trials": 0, "fractions": (1.0,), "seeds": 1})
        jobs = []
        for run in planner.expand(bare, prepared.contents).runs:
            train = run.spec.train.model_copy(update={"max_steps": _STEPS, "min_steps": None, "eval_steps": None})
            spec = run.spec.model_copy(update={"train": train, "data": run.spec.data.model_copy(update=few)})
            jobs.append(Job(spec, run.run_id, f"probe of {run.name}", Path(folder) / run.run_id))
        outcomes = execute(jobs, on_event=on_event, on_start=start, on_outcome=finish, layout=layout)
    tokens = {model.name: _mean_length(prepared, model) for model in prepared.study.models}
    return {
        (outcome.job.spec.model.name, outcome.job.spec.method.name): _speed(
            outcome.record, took[outcome.job.run_id], tokens[outcome.job.spec.model.name]
        )
        for outcome in outcomes
    }


def _speed(record: Record, wall: float, tokens: float) -> Speed:
    if record.status != "finished" or record.resources is None:
        reason = record.failure.message if record.failure else record.status
        raise RunFailure(f"the {record.name} ended early ({reason}), so nothing can be planned; leave out --budget")
    phases = record.resources.phases
    known = {name: phases[name].wall_seconds if name in phases else 0.0 for name in ("train", "evaluate", "generate")}
    points = record.curve.train
    step = 0.0
    if len(points) > 1:  # the first step warms up
        of_a_token = (points[-1].seconds - points[0].seconds) / sum(point.tokens for point in points[1:])
        step = of_a_token * tokens * record.spec.train.batch_size
    elif points:
        step = points[0].seconds - phases["load"].wall_seconds
    return Speed(
        start=max(0.0, wall - sum(known.values())),
        step=step,
        check=known["evaluate"] / max(1, int(record.details["validation_examples"])),
        write=known["generate"] / max(1, int(record.details["test_examples"])),
    )


def _mean_length(prepared: Prepared, model: ModelSpec) -> float:
    """Tokens of a training example with its target, as they are after cutting."""
    study, train = prepared.study, prepared.dataset.train
    prompter = Prompter(
        models.load_tokenizer(model),
        study.prompt,
        max_new_tokens=study.generate.max_new_tokens,
        reserved_tokens=max(method.overhead_tokens for method in prepared.methods.values()),
    )
    rows, _ = prompter.encode(train[:: max(1, len(train) // _SAMPLE)], with_target=True)
    return fmean(row_lengths(rows)) if rows else float(study.prompt.max_length)


def equal_time(prepared: Prepared, speeds: Speeds) -> StudySpec:
    """Steps for each trained method, so that all train as long as they do on average with equal examples."""
    study = prepared.study
    [model] = study.models
    trained = [name for name in study.methods if prepared.methods[name].trains]
    steps = {name: _steps(study, prepared, Repeated(name, 1.0, "final", 1)) for name in trained}
    each = fmean(steps[name] * speeds[model.name, name].step for name in trained) if trained else 0.0
    equal = {name: max(1, round(each / speeds[model.name, name].step)) for name in trained}
    return study.model_copy(update={"steps": equal})


def estimate(study: StudySpec, prepared: Prepared, speeds: Speeds, processes: int = 1) -> float:
    """Seconds that `study` takes on the data of `prepared`, of which it may use fewer documents, if no trial is cut."""
    validation, test = _examples(study, prepared, "validation"), _examples(study, prepared, "test")
    total = 0.0
    one_by_one: list[float] = []  # one trial of each halved search
    for model in study.models:
        for runs in planner.outline(study):
            speed = speeds[model.name, runs.method]
            checks = 1
            halved = False
            seconds = speed.start
            if prepared.methods[runs.method].trains:
                steps = _steps(study, prepared, runs)
                an_epoch = steps_per_epoch(_train_examples(prepared, runs.fraction), study.train.batch_size)
                halved = study.halving and runs.role == "trial"
                early = rungs(steps, study.train.warmup) if halved else ()
                checks = len(evaluation_steps(steps, an_epoch, study.train).union(early))
                seconds += steps * speed.step
            seconds += checks * max(1, round(validation * runs.fraction)) * speed.check
            seconds += test * speed.write if runs.role == "final" else 0.0
            if halved:
                one_by_one.append(seconds)
            else:
                total += runs.number * seconds
    # A round of halved trials waits for its longest.
    rounds = max([sum(one_by_one) / processes, *one_by_one]) * (study.trials + 1)
    return rounds + total / processes + (_timing(study, prepared, speeds) if processes > 1 else 0.0)


def _timing(study: StudySpec, prepared: Prepared, speeds: Speeds) -> float:
    """Runs that share the machine are followed by a timing run of each method."""
    texts = min(TIMED_TEXTS, _examples(study, prepared, "validation"))
    total = 0.0
    for model in study.models:
        for name in study.methods:
            speed = speeds[model.name, name]
            steps = TIMED_STEPS if prepared.methods[name].trains else 0
            total += speed.start + steps * speed.step + texts * (speed.check + speed.write)
    return total


def _steps(study: StudySpec, prepared: Prepared, runs: Repeated) -> int:
    train = planner.effort(study, runs.method, runs.fraction, len(prepared.dataset.train))
    examples = _train_examples(prepared, runs.fraction)
    return total_steps(examples, train.batch_size, train.epochs, train.max_steps, train.min_steps)


def _train_examples(prepared: Prepared, fraction: float) -> int:
    return max(1, round(len(prepared.dataset.train) * fraction))


def _documents(prepared: Prepared, split: Literal["validation", "test"]) -> int:
    rows = prepared.dataset.validation if split == "validation" else prepared.dataset.test
    return data.count_documents(rows)


def _examples(study: StudySpec, prepared: Prepared, split: Literal["validation", "test"]) -> int:
    """Examples of as many documents as the study takes."""
    there, wanted = _documents(prepared, split), getattr(study.data, f"max_{split}_documents")
    kept = there if wanted is None else min(there, wanted)
    return round(prepared.counts[split] * kept / there)


def choose(prepared: Prepared, speeds: Speeds, seconds: float | None, processes: int = 1) -> Plan:
    """The first rung of the ladder that fits into `seconds`, with as many test documents as it has room for. Pure."""
    asked = study = prepared.study
    if seconds is not None:
        for rung in _ladder(prepared):
            if estimate(study, prepared, speeds, processes) <= seconds:
                break
            study = rung(study)
        study = _more_documents(study, prepared, speeds, seconds, processes)
    needed = estimate(study, prepared, speeds, processes)
    return Plan(study, needed, tuple(_given_up(asked, study, prepared)), seconds is None or needed <= seconds)


def _ladder(prepared: Prepared) -> Iterator[Callable[[StudySpec], StudySpec]]:
    def documents(split: Literal["validation", "test"], most: int) -> Callable[[StudySpec], StudySpec]:
        def fewer(study: StudySpec) -> StudySpec:
            name = f"max_{split}_documents"
            if split == "test" and study.predictions:  # outside systems wrote texts for just these documents
                return study
            if min(getattr(study.data, name) or most + 1, _documents(prepared, split)) <= most:
                return study
            return study.model_copy(update={"data": study.data.model_copy(update={name: most})})

        return fewer

    def trials(most: int) -> Callable[[StudySpec], StudySpec]:
        def fewer(study: StudySpec) -> StudySpec:
            kept = min(study.trials, most)
            return study.model_copy(update={"trials": kept, "halving": study.halving and kept > 0})

        return fewer

    def share(study: StudySpec) -> StudySpec:
        return study.model_copy(update={"fractions": (*study.fractions[:-2], 1.0)})

    def steps(most: int) -> Callable[[StudySpec], StudySpec]:
        def fewer(study: StudySpec) -> StudySpec:
            if study.steps:  # equal time: all methods in proportion
                highest = max(study.steps.values())
                kept = {name: max(1, round(own * min(1.0, most / highest))) for name, own in study.steps.items()}
                return study.model_copy(update={"steps": kept})
            if _steps(study, prepared, Repeated(study.methods[0], 1.0, "final", 1)) <= most:
                return study
            train = study.train.model_copy(update={"max_steps": most, "min_steps": None})
            return study.model_copy(update={"train": train, "step_floor": min(study.step_floor, most)})

        return fewer

    yield documents("validation", 100)
    yield documents("test", 200)
    yield trials(3)
    for _ in prepared.study.fractions[1:]:
        yield share
    yield documents("validation", 40)
    yield documents("test", 100)
    yield trials(2)
    for most in (200, 100, 50):
        yield steps(most)
    yield documents("test", 50)
    for most in (35, 20):
        yield steps(most)
    yield trials(1)
    yield documents("validation", 16)
    yield documents("test", 25)
    yield steps(10)
    yield documents("test", 16)
    # Little is seen from here on, but more than the time that was given is worse.
    yield lambda study: study.model_copy(update={"seeds": min(study.seeds, 2)})
    yield trials(0)
    yield documents("test", 10)


def _more_documents(study: StudySpec, prepared: Prepared, speeds: Speeds, seconds: float, processes: int) -> StudySpec:
    """As many test documents as fit, never fewer than the rung has."""

    def at(documents: int) -> StudySpec:
        data = study.data.model_copy(update={"max_test_documents": documents})
        return study.model_copy(update={"data": data})

    low, high = study.data.max_test_documents, prepared.study.data.max_test_documents or _documents(prepared, "test")
    if low is None or low >= high:
        return study
    while low < high:
        middle = (low + high + 1) // 2
        if estimate(at(middle), prepared, speeds, processes) <= seconds:
            low = middle
        else:
            high = middle - 1
    return at(low)


def _given_up(asked: StudySpec, study: StudySpec, prepared: Prepared) -> Iterator[str]:
    for split in ("validation", "test"):
        name = f"max_{split}_documents"
        before, after = (getattr(one.data, name) for one in (asked, study))
        there = _documents(prepared, split)
        if after is not None and after < min(before or there, there):
            yield f"{split} documents {min(before or there, there)} -> {after}"
    if study.trials < asked.trials:
        rest = "(and a reserve one)" if study.trials else "(every method keeps its default setting)"
        yield f"trials {asked.trials} -> {study.trials} {rest}"
    if study.fractions != asked.fractions:
        before, after = (", ".join(f"{share:g}" for share in one.fractions) for one in (asked, study))
        yield f"shares of the data {before} -> {after}"
    first = next((name for name in asked.methods if prepared.methods[name].trains), None)
    if first is not None:
        before, after = (_steps(one, prepared, Repeated(first, 1.0, "final", 1)) for one in (asked, study))
        if after < before:
            yield f"optimiser steps {before} -> {after}" + (f" ({first})" if study.steps else "")
    if study.seeds < asked.seeds:
        yield f"seeds {asked.seeds} -> {study.seeds}"
