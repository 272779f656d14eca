"""Fits a study into a time limit, and keeps the plan. Pure. The rule is in `allocation`."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import fmean

from tuneoff.errors import UserError
from tuneoff.methods import method_class
from tuneoff.metrics import METRICS
from tuneoff.results.study_state import BudgetFile, Effort, MeasuredSpeed, ReducedSettings
from tuneoff.spec import StudySpec, json_hash
from tuneoff.stats.power import FEWEST_GROUPS
from tuneoff.study.allocation import allocate, floor_of, resized, size_of, smallest_difference
from tuneoff.study.duration import DataSizes, Speeds, estimate, steps_of
from tuneoff.study.search import can_prune

HOUR = 3600.0
VALIDATION = "validation documents "  # begins the sentence on them


@dataclass(frozen=True)
class LongerStudy:
    """What the same study would detect in a longer time."""

    time: str
    seconds: float
    difference: float
    """In points of the study's metric."""
    documents: int
    seeds: int


@dataclass(frozen=True)
class FittedStudy:
    """A study that fits, or the smallest one. `reduced` says in words what was reduced; `seconds` is the estimate."""

    study: StudySpec
    seconds: float
    reduced: tuple[str, ...]
    fits: bool
    floor_seconds: float | None = field(default=None, compare=False)
    """What a study of the floor would take, if that does not fit."""
    longer: tuple[LongerStudy, ...] = field(default=(), compare=False)


def fit(
    study: StudySpec,
    sizes: DataSizes,
    speeds: Speeds,
    seconds: float | None,
    *,
    equal: Effort = "examples",
    processes: int = 1,
) -> FittedStudy:
    """The study in at most `seconds` (None: as it is, with an estimate).

    `equal="time"` gives every trained method the same training time instead of the same number of examples.
    """
    asked = with_equal_time(study, sizes, speeds) if equal == "time" else study

    def needed(one: StudySpec) -> float:
        return estimate(one, sizes, speeds, processes)

    if seconds is None:
        return FittedStudy(asked, needed(asked), (), True)
    fitted = resized(asked, allocate(asked, sizes, functools.partial(_lasts, needed=needed, seconds=seconds)), sizes)
    floor = needed(resized(asked, floor_of(asked, sizes), sizes))
    return FittedStudy(
        fitted,
        needed(fitted),
        tuple(reductions(asked, fitted, sizes)),
        needed(fitted) <= seconds,
        floor_seconds=floor if floor > seconds else None,
        longer=tuple(_longer(asked, fitted, sizes, seconds, needed)),
    )


def _longer(
    asked: StudySpec, fitted: StudySpec, sizes: DataSizes, seconds: float, needed: Callable[[StudySpec], float]
) -> Iterator[LongerStudy]:
    """What an hour and a night would detect, if that is more time and less than the fitted study detects."""
    metric = METRICS.get(asked.metric)
    if metric is None or metric.paired_sd is None or len(asked.methods) + len(asked.predictions) < 2:
        return
    size = size_of(fitted, sizes)
    known = smallest_difference(asked, size.documents, size.seeds)
    for name, limit in (("an hour", HOUR), ("a night of 10 hours", 10 * HOUR)):
        if limit <= seconds or fitted == asked:
            continue
        size = allocate(asked, sizes, functools.partial(_lasts, needed=needed, seconds=limit))
        found = smallest_difference(asked, size.documents, size.seeds)
        if size.documents >= FEWEST_GROUPS and found < known:
            yield LongerStudy(name, limit, found, size.documents, size.seeds)
            known = found


def _lasts(study: StudySpec, needed: Callable[[StudySpec], float], seconds: float) -> bool:
    """Whether a study takes at most `seconds`."""
    return needed(study) <= seconds


def check_limits(study: StudySpec, seconds: float | None, equal: Effort) -> None:
    """Raise `UserError` for a study that cannot be planned with equal time, or with a time limit."""
    if study.data.folds is not None and (seconds is not None or equal == "time"):
        flag = "--budget" if seconds is not None else "--equal time"
        raise UserError(f"{flag}: does not plan the runs of --folds; leave it out, and set --max-steps and --seeds")
    if equal == "time" and len(study.fractions) * len(study.models) > 1:
        raise UserError("--equal time: plans one model on all the data; leave out --fractions and further models")


def with_equal_time(study: StudySpec, sizes: DataSizes, speeds: Speeds) -> StudySpec:
    """Steps for each trained method, so that all train as long as they do on average with equal examples."""
    [model] = study.models
    trained = [name for name in study.methods if method_class(name).trains]
    steps = {name: steps_of(study, sizes, name) for name in trained}
    each = fmean(steps[name] * speeds[model.name, name].step for name in trained) if trained else 0.0
    equal = {name: max(1, round(each / speeds[model.name, name].step)) for name in trained}
    return study.model_copy(update={"steps": equal})


def reductions(asked: StudySpec, study: StudySpec, sizes: DataSizes) -> Iterator[str]:
    """What differs in size between a study and the one that was asked for, as `name before -> after`."""
    before, after = (size_of(one, sizes) for one in (asked, study))
    if after.validation != before.validation:
        yield f"{VALIDATION}{before.validation} -> {after.validation}"
    if after.documents != before.documents:
        yield f"test documents {before.documents} -> {after.documents}"
    if study.trials < asked.trials:
        rest = "(and a refinement trial)" if study.trials else "(every method keeps its default setting)"
        yield f"trials {asked.trials} -> {study.trials} {rest}"
    if asked.halving and study.trials and not study.halving:
        yield "no trial is pruned: each has too few steps"
    if study.fractions != asked.fractions:
        listed = (", ".join(f"{fraction:g}" for fraction in one.fractions) for one in (asked, study))
        yield f"fractions of the data {' -> '.join(listed)}"
    first = next((name for name in asked.methods if method_class(name).trains), None)
    if first is not None:
        steps = [steps_of(one, sizes, first) for one in (asked, study)]
        if steps[1] < steps[0]:
            yield f"optimiser steps {steps[0]} -> {steps[1]}" + (f" ({first})" if study.steps else "")
    if study.seeds != asked.seeds:
        yield f"seeds {asked.seeds} -> {study.seeds}"


def budget_file(
    fitted: FittedStudy, asked: StudySpec, seconds: float | None, equal: Effort, speeds: Speeds
) -> BudgetFile:
    """What `budget.json` holds: the plan, what was measured for it, and the request that it answers."""
    return BudgetFile(
        asked=_request(asked, seconds, equal),
        budget_seconds=seconds,
        equal=equal,
        seconds=fitted.seconds,
        fits=fitted.fits,
        given_up=fitted.reduced,
        measured=tuple(MeasuredSpeed.of(*key, speed) for key, speed in speeds.items()),
        settings=ReducedSettings.of(fitted.study),
    )


def earlier_plan(
    stored: BudgetFile | None, study: StudySpec, seconds: float | None, equal: Effort
) -> FittedStudy | None:
    """The plan that a folder stores for the same request, so that an interrupted study continues; else None."""
    if stored is None or stored.asked != _request(study, seconds, equal):
        return None
    return FittedStudy(_with_settings(study, stored.settings), stored.seconds, stored.given_up, stored.fits)


def continued(stored: BudgetFile, begun: StudySpec, study: StudySpec) -> BudgetFile:
    """What `budget.json` says once the study `begun` goes on as `study`, with more seeds and without a time limit."""
    update: dict[str, object] = {
        "settings": ReducedSettings.of(study),
        "given_up": tuple(line for line in stored.given_up if not line.startswith("seeds ")),
    }
    if study.seeds != begun.seeds:
        text = f"continued without a time limit: seeds {begun.seeds} -> {study.seeds}"
        update["corrections"] = (*stored.corrections, text)
    return stored.model_copy(update=update)


def with_settings_of(begun: StudySpec, study: StudySpec) -> StudySpec:
    """The study with what was planned for its folder, whose `study.json` is `begun`."""
    return _with_settings(study, ReducedSettings.of(begun))


def plan_of(
    planned: StudySpec,
    study: StudySpec,
    sizes: DataSizes,
    speeds: Speeds,
    seconds: float | None,
    *,
    equal: Effort,
    processes: int = 1,
) -> FittedStudy:
    """The plan that `planned` is for `study`, with an estimate."""
    asked = with_equal_time(study, sizes, speeds) if equal == "time" else study
    needed = estimate(planned, sizes, speeds, processes)
    return FittedStudy(planned, needed, tuple(reductions(asked, planned, sizes)), seconds is None or needed <= seconds)


def _with_settings(study: StudySpec, settings: ReducedSettings) -> StudySpec:
    data = study.data.model_copy(
        update={name: getattr(settings, name) for name in ("max_validation_documents", "max_test_documents")}
    )
    train = study.train.model_copy(update={name: getattr(settings, name) for name in ("max_steps", "min_steps")})
    own = {
        name: getattr(settings, name)
        for name in ("trials", "step_floor", "seeds", "steps", "fractions", "scored_documents")
    }
    own["halving"] = study.halving and settings.trials > 0
    own["choose_by"] = study.choose_by if settings.trials > 0 else "loss"
    found = study.model_copy(update={**own, "data": data, "train": train})
    return found.model_copy(update={"halving": found.halving and can_prune(found)})


def _request(study: StudySpec, seconds: float | None, equal: Effort) -> str:
    asked = study.without_paths().model_dump(mode="json")
    if not study.halving:  # plans from before there was such a setting are kept
        asked.pop("halving")
    return json_hash({"study": asked, "seconds": seconds, "equal": equal})
