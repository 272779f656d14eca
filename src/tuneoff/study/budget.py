"""Fits a study into a time limit: the settings are reduced step by step until the estimate fits. Pure.

What is reduced, in this order, each down to a floor: validation documents (100), test documents (200), trials (3),
fractions of the data below 1 (the largest first), validation documents (40), test documents (100), trials (2),
optimiser steps (50), test documents (50), steps (20), trials (1), validation documents (16), test documents (25), steps
(10), test documents (16), seeds (2), trials (0: every method keeps its default setting), test documents (10). The third
seed is kept long: two seeds hardly show how much seeds differ. At the first step that fits, test documents are added
back as far as the limit allows, because their number too decides how small a difference can be detected. If not even
the last step fits, it is used all the same.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from tuneoff.engine.batching import evaluation_steps, steps_per_epoch, total_steps
from tuneoff.errors import UserError
from tuneoff.methods import method_class
from tuneoff.results.study_state import BudgetFile, Effort, MeasuredSpeed, ReducedSettings, Speed
from tuneoff.spec import TIMED_STEPS, TIMED_TEXTS, StudySpec, json_hash
from tuneoff.study import planner
from tuneoff.study.search import rungs

Speeds = Mapping[tuple[str, str], Speed]  # (model, method)
Reduction = Callable[[StudySpec], StudySpec]


@dataclass(frozen=True)
class DataSizes:
    """Numbers of examples and of distinct documents in a data set, before a budget reduces it."""

    train_examples: int
    validation_examples: int
    validation_documents: int
    test_examples: int
    test_documents: int

    def documents(self, split: Literal["validation", "test"]) -> int:
        """Distinct documents of a split."""
        return self.validation_documents if split == "validation" else self.test_documents

    def examples(self, study: StudySpec, split: Literal["validation", "test"]) -> int:
        """Examples of as many documents as the study uses."""
        there, wanted = self.documents(split), getattr(study.data, f"max_{split}_documents")
        kept = there if wanted is None else min(there, wanted)
        total = self.validation_examples if split == "validation" else self.test_examples
        return round(total * kept / there)

    def train_examples_at(self, fraction: float) -> int:
        """Training examples of a fraction of the data, about."""
        return max(1, round(self.train_examples * fraction))


@dataclass(frozen=True)
class FittedStudy:
    """A study that fits, or the smallest one. `reduced` says in words what was reduced; `seconds` is the estimate."""

    study: StudySpec
    seconds: float
    reduced: tuple[str, ...]
    fits: bool


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
    fitted = asked
    if seconds is not None:
        for reduce in _reductions(asked, sizes):
            if estimate(fitted, sizes, speeds, processes) <= seconds:
                break
            fitted = reduce(fitted)
        fitted = _with_more_test_documents(fitted, asked, sizes, speeds, seconds, processes)
    needed = estimate(fitted, sizes, speeds, processes)
    return FittedStudy(fitted, needed, tuple(_reduced(asked, fitted, sizes)), seconds is None or needed <= seconds)


def check_equal(study: StudySpec, equal: Effort) -> None:
    """Raise `UserError` for a study that cannot be planned with equal time."""
    if equal == "time" and len(study.fractions) * len(study.models) > 1:
        raise UserError("--equal time: plans one model on all the data; leave out --fractions and further models")


def with_equal_time(study: StudySpec, sizes: DataSizes, speeds: Speeds) -> StudySpec:
    """Steps for each trained method, so that all train as long as they do on average with equal examples."""
    [model] = study.models
    trained = [name for name in study.methods if method_class(name).trains]
    steps = {name: _steps(study, sizes, name, 1.0) for name in trained}
    each = fmean(steps[name] * speeds[model.name, name].step for name in trained) if trained else 0.0
    equal = {name: max(1, round(each / speeds[model.name, name].step)) for name in trained}
    return study.model_copy(update={"steps": equal})


def estimate(study: StudySpec, sizes: DataSizes, speeds: Speeds, processes: int = 1) -> float:
    """Seconds that `study` takes if no trial is pruned."""
    validation, test = sizes.examples(study, "validation"), sizes.examples(study, "test")
    total = 0.0
    sequential: list[float] = []  # one trial of each search with pruning
    for model in study.models:
        for runs in planner.outline(study):
            speed = speeds[model.name, runs.method]
            checks = 1
            pruned = False
            seconds = speed.start
            if method_class(runs.method).trains:
                steps = _steps(study, sizes, runs.method, runs.fraction)
                an_epoch = steps_per_epoch(sizes.train_examples_at(runs.fraction), study.train.batch_size)
                pruned = study.halving and runs.role == "trial"
                early = rungs(steps, study.train.warmup) if pruned else ()
                checks = len(evaluation_steps(steps, an_epoch, study.train).union(early))
                seconds += steps * speed.step
            seconds += checks * max(1, round(validation * runs.fraction)) * speed.check
            seconds += test * speed.write if runs.role == "final" else 0.0
            if pruned:
                sequential.append(seconds)
            else:
                total += runs.number * seconds
    # A round of trials with pruning waits for its longest.
    rounds = max([sum(sequential) / processes, *sequential]) * (study.trials + 1)
    return rounds + total / processes + (_timing(study, sizes, speeds) if processes > 1 else 0.0)


def _timing(study: StudySpec, sizes: DataSizes, speeds: Speeds) -> float:
    """Concurrent runs are followed by a timing run of each method."""
    texts = min(TIMED_TEXTS, sizes.examples(study, "validation"))
    total = 0.0
    for model in study.models:
        for name in study.methods:
            speed = speeds[model.name, name]
            steps = TIMED_STEPS if method_class(name).trains else 0
            total += speed.start + steps * speed.step + texts * (speed.check + speed.write)
    return total


def _steps(study: StudySpec, sizes: DataSizes, method: str, fraction: float) -> int:
    train = planner.effort(study, method, fraction, sizes.train_examples)
    examples = sizes.train_examples_at(fraction)
    return total_steps(examples, train.batch_size, train.epochs, train.max_steps, train.min_steps)


def _reductions(asked: StudySpec, sizes: DataSizes) -> Iterator[Reduction]:
    def documents(split: Literal["validation", "test"], most: int) -> Reduction:
        def fewer(study: StudySpec) -> StudySpec:
            name = f"max_{split}_documents"
            if split == "test" and study.predictions:  # outside systems wrote texts for exactly these documents
                return study
            if min(getattr(study.data, name) or most + 1, sizes.documents(split)) <= most:
                return study
            return study.model_copy(update={"data": study.data.model_copy(update={name: most})})

        return fewer

    def trials(most: int) -> Reduction:
        def fewer(study: StudySpec) -> StudySpec:
            kept = min(study.trials, most)
            return study.model_copy(update={"trials": kept, "halving": study.halving and kept > 0})

        return fewer

    def one_fraction_less(study: StudySpec) -> StudySpec:
        return study.model_copy(update={"fractions": (*study.fractions[:-2], 1.0)})

    def steps(most: int) -> Reduction:
        def fewer(study: StudySpec) -> StudySpec:
            if study.steps:  # equal time: all methods in proportion
                highest = max(study.steps.values())
                kept = {name: max(1, round(own * min(1.0, most / highest))) for name, own in study.steps.items()}
                return study.model_copy(update={"steps": kept})
            if _steps(study, sizes, study.methods[0], 1.0) <= most:
                return study
            train = study.train.model_copy(update={"max_steps": most, "min_steps": None})
            return study.model_copy(update={"train": train, "step_floor": min(study.step_floor, most)})

        return fewer

    yield documents("validation", 100)
    yield documents("test", 200)
    yield trials(3)
    for _ in asked.fractions[1:]:
        yield one_fraction_less
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
    # From here on a study detects little, but exceeding the limit would be worse.
    yield lambda study: study.model_copy(update={"seeds": min(study.seeds, 2)})
    yield trials(0)
    yield documents("test", 10)


def _with_more_test_documents(
    study: StudySpec, asked: StudySpec, sizes: DataSizes, speeds: Speeds, seconds: float, processes: int
) -> StudySpec:
    """As many test documents as fit, never fewer than the study has."""

    def at(documents: int) -> StudySpec:
        return study.model_copy(update={"data": study.data.model_copy(update={"max_test_documents": documents})})

    low, high = study.data.max_test_documents, asked.data.max_test_documents or sizes.test_documents
    if low is None or low >= high:
        return study
    while low < high:
        middle = (low + high + 1) // 2
        if estimate(at(middle), sizes, speeds, processes) <= seconds:
            low = middle
        else:
            high = middle - 1
    return at(low)


def _reduced(asked: StudySpec, study: StudySpec, sizes: DataSizes) -> Iterator[str]:
    for split in ("validation", "test"):
        name = f"max_{split}_documents"
        before, after = (getattr(one.data, name) for one in (asked, study))
        there = sizes.documents(split)
        if after is not None and after < min(before or there, there):
            yield f"{split} documents {min(before or there, there)} -> {after}"
    if study.trials < asked.trials:
        rest = "(and a refinement trial)" if study.trials else "(every method keeps its default setting)"
        yield f"trials {asked.trials} -> {study.trials} {rest}"
    if study.fractions != asked.fractions:
        before, after = (", ".join(f"{fraction:g}" for fraction in one.fractions) for one in (asked, study))
        yield f"fractions of the data {before} -> {after}"
    first = next((name for name in asked.methods if method_class(name).trains), None)
    if first is not None:
        before, after = (_steps(one, sizes, first, 1.0) for one in (asked, study))
        if after < before:
            yield f"optimiser steps {before} -> {after}" + (f" ({first})" if study.steps else "")
    if study.seeds < asked.seeds:
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
        measured=tuple(
            MeasuredSpeed(model=model, method=method, **speed.model_dump()) for (model, method), speed in speeds.items()
        ),
        settings=ReducedSettings.of(fitted.study),
    )


def earlier_plan(
    stored: BudgetFile | None, study: StudySpec, seconds: float | None, equal: Effort
) -> FittedStudy | None:
    """The plan that a folder stores for the same request, so that an interrupted study continues; else None."""
    if stored is None or stored.asked != _request(study, seconds, equal):
        return None
    kept = stored.settings
    data = study.data.model_copy(
        update={name: getattr(kept, name) for name in ("max_validation_documents", "max_test_documents")}
    )
    train = study.train.model_copy(update={name: getattr(kept, name) for name in ("max_steps", "min_steps")})
    own = {name: getattr(kept, name) for name in ("trials", "step_floor", "seeds", "steps", "fractions")}
    planned = study.model_copy(update={**own, "data": data, "train": train})
    return FittedStudy(planned, stored.seconds, stored.given_up, stored.fits)


def _request(study: StudySpec, seconds: float | None, equal: Effort) -> str:
    asked = study.without_paths().model_dump(mode="json")
    if not study.halving:  # plans from before there was such a setting are kept
        asked.pop("halving")
    return json_hash({"study": asked, "seconds": seconds, "equal": equal})
