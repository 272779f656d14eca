"""Measures what each method costs on this machine: a few steps and texts of each, in runs like those of the study."""

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from tuneoff import data, models
from tuneoff.engine.batching import row_lengths
from tuneoff.engine.precision import NumberFormat
from tuneoff.errors import RunFailure
from tuneoff.prompts import Prompter
from tuneoff.results.events import Event
from tuneoff.results.run_dir import RunDir, StoredRun
from tuneoff.results.run_record import Record
from tuneoff.results.study_state import Speed
from tuneoff.spec import ModelSpec, StudySpec
from tuneoff.study import planner
from tuneoff.study.duration import Speeds
from tuneoff.study.executor import Executor, Job, Observer
from tuneoff.study.inputs import StudyInputs

_STEPS = 3
# Texts are written in two concurrent batches, as a study's are; fewer in a batch take longer each.
_PROBED_EXAMPLES = {"validation": 16, "test": 24}
# Lengths are averaged over so many training examples.
_SAMPLE = 200


def measure_speeds(
    study: StudySpec,
    inputs: StudyInputs,
    executor: Executor,
    observer: Observer,
    number_format: NumberFormat | None = None,
) -> Speeds:
    """Seconds that each method needs on each model. Raises `RunFailure` if a method cannot be run at all."""
    test, validation = inputs.dataset.test, inputs.dataset.validation
    few = {
        f"max_{name}_documents": max(1, math.ceil(_PROBED_EXAMPLES[name] * data.count_documents(split) / len(split)))
        for name, split in (("test", test), ("validation", validation))
    }
    clock = _Stopwatch(observer)
    with tempfile.TemporaryDirectory(prefix="tuneoff-") as folder:
        bare = study.model_copy(update={"trials": 0, "fractions": (1.0,), "seeds": 1})
        jobs = []
        for run in planner.plan(bare, inputs.hashes, {}).runs:
            train = run.spec.train.model_copy(update={"max_steps": _STEPS, "min_steps": None, "eval_steps": None})
            spec = run.spec.model_copy(update={"train": train, "data": run.spec.data.model_copy(update=few)})
            run_dir = RunDir(Path(folder) / run.run_id)
            jobs.append(Job(spec, run.run_id, f"probe of {run.name}", run_dir, number_format=number_format))
        records = [run.record for run in executor.run(jobs, clock)]
    tokens = {model.name: _mean_length(study, inputs, model) for model in study.models}
    return {
        (record.spec.model.name, record.spec.method.name): _speed(
            record, clock.seconds[record.run_id], tokens[record.spec.model.name]
        )
        for record in records
    }


class _Stopwatch:
    """Passes everything on to another observer, and measures how long each run takes."""

    def __init__(self, observer: Observer, clock: Callable[[], float] = time.perf_counter) -> None:
        self._observer, self._clock = observer, clock
        self._began: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def started(self, job: Job) -> None:
        self._began[job.run_id] = self._clock()
        self._observer.started(job)

    def event(self, job: Job, event: Event) -> None:
        self._observer.event(job, event)

    def ended(self, job: Job, run: StoredRun) -> None:  # noqa: ARG002 - a probe is not a run of the study
        self.seconds[job.run_id] = self._clock() - self._began[job.run_id]


def _speed(record: Record, wall: float, tokens: float) -> Speed:
    if record.status != "finished" or record.resources is None:
        reason = record.failure.message if record.failure else record.status
        raise RunFailure(f"the {record.name} ended early ({reason}), so nothing can be planned; leave out --budget")
    phases = record.resources.phases
    known = {name: phases[name].wall_seconds if name in phases else 0.0 for name in ("train", "evaluate", "generate")}
    points = record.curve.train
    step = 0.0
    if len(points) > 1:  # the first step warms up
        per_token = (points[-1].seconds - points[0].seconds) / sum(point.tokens for point in points[1:])
        step = per_token * tokens * record.spec.train.batch_size
    elif points:
        step = points[0].seconds - phases["load"].wall_seconds
    return Speed(
        start=max(0.0, wall - sum(known.values())),
        step=step,
        check=known["evaluate"] / max(1, record.details.validation_examples or 1),
        write=known["generate"] / max(1, record.details.test_examples or 1),
    )


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
