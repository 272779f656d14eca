"""How long a study takes, from the sizes of its data and the measured speed of each method. Pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tuneoff.engine.batching import evaluation_steps, steps_per_epoch, total_steps
from tuneoff.methods import method_class
from tuneoff.results.study_state import Speed
from tuneoff.spec import TIMED_STEPS, TIMED_TEXTS, StudySpec
from tuneoff.study import planner
from tuneoff.study.planner import RunGroup
from tuneoff.study.search import rungs

Speeds = Mapping[tuple[str, str], Speed]  # (model, method)
Cell = tuple[str, str, float]  # model, method, fraction of the data


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
        scored = study.scored_documents[-1:] if split == "test" else ()
        kept: int = min([there, *scored, *([] if wanted is None else [wanted])])
        total = self.validation_examples if split == "validation" else self.test_examples
        return round(total * kept / there)

    def train_examples_at(self, fraction: float) -> int:
        """Training examples of a fraction of the data, about."""
        return max(1, round(self.train_examples * fraction))


@dataclass(frozen=True)
class DoneRuns:
    """Runs of a study that need no more time, by (model, method, fraction of the data)."""

    trials: Mapping[Cell, int] = field(default_factory=dict)
    looks: Mapping[Cell, int] = field(default_factory=dict)
    """Second trials, which write validation texts."""
    seeds: Mapping[Cell, Collection[int]] = field(default_factory=dict)
    """Of final runs."""
    enough: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(model, method) -> seeds on all the data, of methods that a look gives no further seeds."""

    def left(self, model: str, runs: RunGroup) -> int:
        """How many runs of a group are still to do."""
        cell = model, runs.method, runs.fraction
        if runs.role == "trial":
            return max(0, runs.number - (self.looks if runs.writes_validation else self.trials).get(cell, 0))
        done = self.seeds.get(cell, ())
        number = (
            min(runs.number, self.enough.get((model, runs.method), runs.number)) if runs.fraction == 1 else runs.number
        )
        return sum(seed not in done for seed in range(number))


NOTHING_DONE = DoneRuns()


def estimate(
    study: StudySpec, sizes: DataSizes, speeds: Speeds, processes: int = 1, done: DoneRuns = NOTHING_DONE
) -> float:
    """Seconds that what is not done of `study` takes if no trial is pruned.

    Concurrent runs are carried out in batches, and the next one waits for the longest run of each.
    """
    batches: dict[tuple[object, ...], list[float]] = {}
    sequential: list[float] = []  # one trial of each search with pruning
    rounds = 0
    for model in study.models:
        for runs in planner.outline(study):
            seconds = _run_seconds(study, sizes, speeds[model.name, runs.method], runs)
            left = done.left(model.name, runs)
            if _is_pruned(study, runs):
                sequential.append(seconds)
                rounds = max(rounds, left)
            else:
                for key in _batches_of(runs, left):
                    batches.setdefault(key, []).append(seconds)
    # A round of trials with pruning waits for its longest.
    searches = max([sum(sequential) / processes, *sequential]) * rounds if sequential else 0.0
    total = sum(max(sum(batch) / processes, *batch) for batch in batches.values())
    return searches + total + (_timing(study, sizes, speeds) if processes > 1 else 0.0)


def _batches_of(runs: RunGroup, left: int) -> Iterator[tuple[object, ...]]:
    """The batch of each run of a group that is left: `BudgetKeeper.next_batch` and the search make the same."""
    for number in range(left):
        if runs.role == "final":
            yield "final", runs.fraction, number  # one seed of every method
        elif runs.writes_validation:
            yield ("second looks",)
        else:
            yield ("trials",) if number else ("refinements",)


def _is_pruned(study: StudySpec, runs: RunGroup) -> bool:
    return study.halving and runs.role == "trial" and not runs.writes_validation and method_class(runs.method).trains


def _run_seconds(study: StudySpec, sizes: DataSizes, speed: Speed, runs: RunGroup) -> float:
    """Seconds of one run of a group."""
    checks, seconds = 1, speed.start
    if method_class(runs.method).trains:
        steps = steps_of(study, sizes, runs.method, runs.fraction)
        an_epoch = steps_per_epoch(sizes.train_examples_at(runs.fraction), study.train.batch_size)
        early = rungs(steps, study.train.warmup) if _is_pruned(study, runs) else ()
        checks = len(evaluation_steps(steps, an_epoch, study.train).union(early))
        seconds += speed.warm_up + steps * speed.step
    validation = sizes.examples(study, "validation") * runs.fraction
    seconds += checks * max(1, round(validation)) * speed.check
    seconds += validation * speed.write if runs.writes_validation else 0.0
    return seconds + (sizes.examples(study, "test") * speed.write if runs.role == "final" else 0.0)


def _timing(study: StudySpec, sizes: DataSizes, speeds: Speeds) -> float:
    """Concurrent runs are followed by a timing run of each method."""
    texts = min(TIMED_TEXTS, sizes.examples(study, "validation"))
    total = 0.0
    for model in study.models:
        for name in study.methods:
            speed = speeds[model.name, name]
            train = speed.warm_up + TIMED_STEPS * speed.step if method_class(name).trains else 0
            total += speed.start + train + texts * (speed.check + speed.write)
    return total


def steps_of(study: StudySpec, sizes: DataSizes, method: str, fraction: float = 1.0) -> int:
    """Optimiser steps of a run of a trained method."""
    train = planner.effort(study, method, fraction, sizes.train_examples)
    examples = sizes.train_examples_at(fraction)
    return total_steps(examples, train.batch_size, train.epochs, train.max_steps, train.min_steps)
