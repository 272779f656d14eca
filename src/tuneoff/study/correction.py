"""Corrects the plan of a study with a time limit while it runs, from the durations of its finished runs. Pure.

What is left is estimated again after each run. Seeds and test documents are then chosen like those of a new plan, so
that the study ends in time and detects the smallest difference. Settings of training and trials never change, because
runs that are done were carried out with them. Scores are never looked at, and all methods get the same:

- Before the first final run, seeds and documents may grow and shrink.
- The first final run scores up to twice as many documents as planned, so that the plan can keep as many if it was fast.
- Afterwards only seeds may grow, because finished runs have no texts for more documents. If the time is short, runs
  to come score fewer documents, or a seed is left out. A finished run keeps its texts: methods are compared on the
  documents that all runs have.
- A study that stops when it is settled has the seeds of one of its looks, at least those of the first. From that look
  on its documents stay, and it gets as many of the further looks as fit.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from tuneoff.methods import method_class
from tuneoff.results.run_record import Record
from tuneoff.results.study_state import Speed
from tuneoff.spec import StudySpec
from tuneoff.study.allocation import FLOOR_DOCUMENTS, SMALLEST, Size, size_of, smallest_difference
from tuneoff.study.duration import Cell, DataSizes, DoneRuns, Speeds
from tuneoff.study.planner import PlannedRun

# A plan is kept if another one detects a difference that is not smaller by more than this.
_WORTH_A_CHANGE = 0.03
_RECENT_RUNS = 3
# How many times the planned documents the first final run scores.
_HEADROOM = 2.0


def done_runs(runs: Iterable[PlannedRun], enough: Mapping[tuple[str, str], int] | None = None) -> DoneRuns:
    """`runs` that have ended, or that will not be repeated, as an estimate needs them. `enough`: see `DoneRuns`."""
    trials: Counter[Cell] = Counter()
    looks: Counter[Cell] = Counter()
    seeds: dict[Cell, set[int]] = {}
    for run in runs:
        spec = run.spec
        cell = spec.model.name, spec.method.name, spec.fraction
        if spec.role == "trial":
            (looks if spec.writes_validation else trials)[cell] += 1
        else:
            seeds.setdefault(cell, set()).add(spec.seed)
    return DoneRuns(trials, looks, seeds, enough or {})


@dataclass(frozen=True)
class SecondsLeft:
    """Until a study should end."""

    grow: float
    """For a plan in which something grows."""
    keep: float
    """For a plan in which nothing does: a little more, because a reduction costs more than some seconds."""


def corrected(
    study: StudySpec,
    asked: StudySpec,
    sizes: DataSizes,
    done: DoneRuns,
    needed: Callable[[StudySpec], float],
    left: SecondsLeft,
) -> StudySpec:
    """`study` with the seeds and documents that detect the smallest difference in the time that is left.

    `needed` estimates what is left of a study. A seed is left out only if it does not fit with the documents of the
    floor; after the first final run, documents are not reduced below the floor.
    """
    now, whole = size_of(study, sizes), size_of(asked, sizes)
    begun = any(done.seeds.values())
    most = now.documents if begun else whole.documents
    # The number of the first final run was raised by the headroom.
    first = max(study.scored_documents, default=now.documents)
    smallest = min(SMALLEST.documents, now.documents)
    floor = max(smallest, min(FLOOR_DOCUMENTS, now.documents, math.ceil(first / _HEADROOM)))
    least = floor if begun else smallest
    possible = asked.possible_seeds
    complete = _complete_seeds(study, done)
    looked = study.until_settled and complete >= possible[0]
    # Outside systems wrote texts for exactly these documents, and looks are compared with each other.
    if study.predictions or looked:
        least = most = now.documents
    complete = max(complete, possible[0])

    def fits(size: Size) -> bool:
        grows = size.documents > now.documents or size.seeds > now.seeds
        return needed(_sized(study, size, whole, begun=begun)) <= (left.grow if grows else left.keep)

    def most_documents(seeds: int) -> Size | None:
        low, high = least - 1, most
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(replace(now, documents=middle, seeds=seeds)) else (low, middle - 1)
        return None if low < least else replace(now, documents=low, seeds=seeds)

    more = [seeds for seeds in possible if now.seeds <= seeds <= whole.seeds]
    found = [size for seeds in more if (size := most_documents(seeds)) is not None]
    if not any(size.documents >= floor for size in found):
        fewer = [seeds for seeds in possible if complete <= seeds < now.seeds]
        found += [size for seeds in fewer if (size := most_documents(seeds)) is not None]
    if not found:
        found = [replace(now, documents=least, seeds=min(seeds for seeds in possible if seeds >= complete))]
    best = min(found, key=lambda size: (smallest_difference(study, size.documents, size.seeds), -size.seeds))
    worth = smallest_difference(study, now.documents, now.seeds) * (1 - _WORTH_A_CHANGE)
    # After a look, its results say whether further seeds are worth it.
    if not looked and fits(now) and smallest_difference(study, best.documents, best.seeds) > worth:
        return study
    return _sized(study, best, whole, begun=begun)


def with_headroom(study: StudySpec, asked: StudySpec, sizes: DataSizes, speeds: Speeds, seconds: float) -> StudySpec:
    """`study` as its first final run is carried out: with more documents, which the plan keeps if that run is fast.

    At most twice as many as planned, and as many more as are written in `seconds`.
    """
    now, whole = size_of(study, sizes), size_of(asked, sizes)
    each = max(speed.write for speed in speeds.values()) * sizes.test_examples / max(1, sizes.test_documents)
    more = int(min((_HEADROOM - 1) * now.documents, seconds / max(each, 1e-9)))
    if study.predictions:
        return study
    return _sized(study, replace(now, documents=min(whole.documents, now.documents + more)), whole, begun=False)


def _complete_seeds(study: StudySpec, done: DoneRuns) -> int:
    """How many seeds every method has, at least one: these are never left out."""
    cells = [
        (done.seeds.get((model.name, name, 1.0), ()), done.enough.get((model.name, name), math.inf))
        for model in study.models
        for name in study.methods
        if method_class(name).seeded
    ]
    complete = 1  # a method that was stopped at a look has the seeds that it gets
    while complete < study.seeds and cells and all(complete in cell or complete >= most for cell, most in cells):
        complete += 1
    return complete


def _sized(study: StudySpec, size: Size, whole: Size, *, begun: bool) -> StudySpec:
    """`study` with other seeds and documents. `begun`: some runs have texts for the documents that it had before."""
    scored = study.scored_documents
    if not begun:
        scored = () if size.documents == whole.documents else (size.documents,)
    elif size.documents != (scored[-1] if scored else whole.documents):
        scored = (*(scored or (whole.documents,)), size.documents)
    return study.model_copy(update={"seeds": size.seeds, "scored_documents": scored})


def speeds_so_far(probed: Speeds, records: Sequence[Record]) -> Speeds:
    """The speeds of the study's own finished runs; for what they do not show, those of the probe, in proportion.

    `records` in the order of their ends: if the last ones were faster or slower than the mean of their methods, those
    to come are expected half-way between.
    """
    finished = [record for record in records if record.status == "finished" and record.resources is not None]
    if not finished:
        return probed
    general = _ratio(probed, finished)
    speeds = {}
    for key, speed in probed.items():
        own = [record for record in finished if (record.spec.model.name, record.spec.method.name) == key]
        speeds[key] = _measured(scaled(speed, general), own)
    recent = _ratio(speeds, finished[-_RECENT_RUNS:])
    return {key: scaled(speed, (1 + min(3.0, recent)) / 2) for key, speed in speeds.items()}


def _ratio(speeds: Speeds, records: Sequence[Record]) -> float:
    """How long runs took, relative to these speeds."""
    expected = sum(_expected(speeds[record.spec.model.name, record.spec.method.name], record) for record in records)
    return sum(map(run_seconds, records)) / expected if expected > 0 else 1.0


def _expected(speed: Speed, record: Record) -> float:
    """Seconds that the work of a run takes at this speed."""
    steps, details = record.curve.steps, record.details
    checks = (details.validation_examples or 0) * len(record.curve.validation)
    train = speed.warm_up + steps * speed.step if steps else 0.0
    return speed.start + train + checks * speed.check + _texts(record) * speed.write


def _texts(record: Record) -> int:
    """Texts that a run wrote."""
    details = record.details
    return (details.validation_examples if record.spec.writes_validation else details.test_examples) or 0


def scaled(speed: Speed, factor: float) -> Speed:
    """A machine that needs `factor` times as long."""
    return Speed(**{name: factor * value for name, value in speed.model_dump().items()})


def _measured(expected: Speed, runs: Sequence[Record]) -> Speed:
    """The mean of a method's runs; `expected` for what none of them did."""
    found = expected.model_dump()
    train, steps = _seconds(runs, "train"), sum(run.curve.steps for run in runs)
    if steps:
        found |= {"step": train / steps, "warm_up": 0.0}  # the first step is in the mean
    checks = sum((run.details.validation_examples or 0) * len(run.curve.validation) for run in runs)
    if checks:
        found["check"] = _seconds(runs, "evaluate") / checks
    texts = sum(map(_texts, runs))
    if texts:
        found["write"] = _seconds(runs, "generate") / texts
    if runs:
        work = sum(_seconds(runs, phase) for phase in ("train", "evaluate", "generate"))
        found["start"] = max(0.0, sum(map(run_seconds, runs)) - work) / len(runs)
    return Speed.model_validate(found)


def _seconds(runs: Iterable[Record], phase: str) -> float:
    phases = [run.resources.phases for run in runs if run.resources is not None]
    return sum(found[phase].wall_seconds for found in phases if phase in found)


def run_seconds(record: Record) -> float:
    """How long a run took; the time between two time stamps if that is longer than all its phases."""
    phases = 0.0 if record.resources is None else record.resources.total_seconds
    try:
        span = datetime.fromisoformat(record.finished_at or "") - datetime.fromisoformat(record.started_at)
    except (TypeError, ValueError):
        return phases
    return max(phases, span.total_seconds())
