"""Equal trials for every method: what is tried, which setting the final runs take, and how trials are pruned. Pure.

Each method has one searched hyper-parameter: a rate on a log scale (`Method.search`) or a list (`Method.choices`).
With `trials = T` every method tries T settings, then one refinement trial: one step outwards if the best rate lies on
the edge of what was tried, else between the best rate and its better neighbour; for a list, the next entry. With two
rates both are edges, so they are placed inside the range, and the refinement trial takes the end next to the better
one. The lowest validation loss wins, for prompts and for trained methods. A value that the study sets is not searched.

With `choose_by = "text"` the two settings with the lowest losses are trained once more, with another seed, and write
texts for the validation documents (`choose_by_text`).

Pruning (`halving`) is the stopping form of asynchronous successive halving (Li et al. 2020, *A System for Massively
Parallel Hyperparameter Tuning*) with a reduction factor of 2. Trials run one after another, each on its full schedule;
none is resumed. At a quarter and at half of its steps (the rungs), a trial stops if its loss is not in the better half
of the losses that it and the earlier trials of its method had there. The first trial is never pruned. Earlier trials
that diverged or failed set no limit. A pruned trial is never chosen; if the refinement trial depends on which of two
neighbours is better, their losses at the last rung that both reached are compared.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tuneoff.errors import UserError
from tuneoff.methods import method_class
from tuneoff.results.run_record import Record
from tuneoff.results.study_state import PruningSavings
from tuneoff.spec import CutAbove, StudySpec
from tuneoff.spec.run import Scalar
from tuneoff.spec.task import Task

# Seeds of final runs begin at 0. A trial never has the order or the subset of a final run.
TRIAL_SEED = 1_000_000
SECOND_LOOK_SEED = TRIAL_SEED + 1

_RUNG_FRACTIONS = (1 / 4, 1 / 2)
# A loss after fewer steps depends on how a rate warms up, not on where it leads.
MIN_STEPS_TO_PRUNE = 5


@dataclass(frozen=True)
class Trial:
    """A value that was tried.

    `loss` is NaN before the trial has ended, and infinite if it diverged, failed or was pruned. `rungs` maps steps to
    the validation losses of a trial that finished or was pruned, as far as it went.
    """

    value: Scalar
    loss: float
    rungs: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Schedule:
    """A run that is not stopped early: its optimiser steps, and those after which it validates."""

    steps: int
    checks: frozenset[int]


def searched_hyperparameter(method: str, fixed: Mapping[str, Scalar]) -> str | None:
    """The hyper-parameter that trials vary; None if the study fixes it or the method has none."""
    kind = method_class(method)
    return next((name for name in (*kind.search, *kind.choices) if name not in fixed), None)


def grid(method: str, name: str, trials: int, task: Task = "summary") -> tuple[Scalar, ...]:
    """The first `trials` values: evenly spaced on a log scale, from three on with both ends; or the first of a list.

    Raises `UserError` if a list has no entry left for the refinement trial.
    """
    kind = method_class(method)
    if name in kind.choices:
        values = kind.values_to_try(name, task)
        if trials + 1 > len(values):
            raise UserError(
                f"{method} has {len(values)} choices of {name}, one of them for the refinement trial; "
                f"set --trials to {len(values) - 1} or less"
            )
        return values[:trials]
    low, high = kind.search[name]
    if trials == 1:
        return (_rounded(math.sqrt(low * high)),)
    if trials == 2:
        quarter = (high / low) ** 0.25
        return _rounded(low * quarter), _rounded(high / quarter)
    step = (high / low) ** (1 / (trials - 1))
    return tuple(_rounded(low * step**index) for index in range(trials))


def refinement_value(method: str, name: str, tried: Sequence[Trial], task: Task = "summary") -> tuple[Scalar, str]:
    """The value of the refinement trial, and why it is this one."""
    kind = method_class(method)
    if name in kind.choices:
        return kind.values_to_try(name, task)[len(tried)], "the next of the list"
    rates = sorted(tried, key=lambda trial: _number(trial.value))
    values = [_number(trial.value) for trial in rates]
    low, high = kind.search[name]
    step = values[-1] / values[-2] if len(values) > 1 else math.sqrt(high / low)
    best = min(range(len(rates)), key=lambda index: rates[index].loss)
    if len(rates) == 2:
        step = math.sqrt(step)
    if math.isinf(rates[best].loss):
        return _rounded(values[0] / step), "every trial diverged: lower"
    if best == 0:
        return _rounded(values[0] / step), "the best is on the lower edge: outwards"
    if best == len(rates) - 1:
        return _rounded(values[-1] * step), "the best is on the upper edge: outwards"
    neighbour = best + 1 if _is_better(rates[best + 1], rates[best - 1]) else best - 1
    return _rounded(math.sqrt(values[best] * values[neighbour])), "the best is inside: towards its better neighbour"


def _is_better(one: Trial, other: Trial) -> bool:
    """Whether `one` has the lower loss: at the end or, if one was pruned, at the last rung that both reached."""
    pruned = [trial for trial in (one, other) if math.isinf(trial.loss) and trial.rungs]
    shared = one.rungs.keys() & other.rungs.keys()
    if pruned and shared:
        return one.rungs[max(shared)] < other.rungs[max(shared)]
    return one.loss < other.loss or (one in pruned and other not in pruned and math.isinf(other.loss))


@dataclass(frozen=True)
class SecondLook:
    """A second training with one of the two best settings, which wrote texts for the validation documents.

    `loss` and `score` are NaN before it has ended. If it diverged or failed, the loss is infinite and the score too,
    below zero.
    """

    value: Scalar
    first_loss: float
    loss: float
    score: float

    @property
    def losses(self) -> tuple[float, float]:
        """Of both trainings."""
        return self.first_loss, self.loss


def two_best(tried: Sequence[Trial]) -> tuple[Trial, ...]:
    """The two trials with the lowest losses, the better first; fewer if fewer have a loss."""
    known = sorted((trial for trial in tried if math.isfinite(trial.loss)), key=lambda trial: trial.loss)
    return tuple(known[:2])


def choose_by_text(
    first: SecondLook, second: SecondLook, *, seeded: bool
) -> tuple[SecondLook, Literal["loss", "text"]]:
    """The better of two settings, and what decided.

    The loss decides only if both trainings of one setting have lower losses than both of the other: the difference is
    then larger than what another seed changes. Otherwise the higher mean score of the texts decides, and the lower loss
    if the scores are equal. Without seeds, both trainings of a setting are the same, so the texts decide.
    """
    if seeded or math.isinf(first.loss) or math.isinf(second.loss):
        for one, other in ((first, second), (second, first)):
            if max(one.losses) < min(other.losses) or (math.isinf(other.loss) and math.isfinite(one.loss)):
                return one, "loss"
    best = min((first, second), key=lambda look: (-look.score, sum(look.losses)))
    return best, "text"


def within_noise(chosen: SecondLook, looks: Sequence[SecondLook], tried: Sequence[Trial]) -> tuple[Scalar, ...]:
    """The other settings whose loss is within what another seed changes, by the two trainings of the two best.

    The difference of two trainings of one setting has twice the variance of one. The noise of a comparison is taken as
    twice its standard deviation, which two pairs of trainings give roughly.
    """
    pairs = [look.losses for look in looks if math.isfinite(look.loss)]
    if not pairs:
        return ()
    variance = sum((one - other) ** 2 / 2 for one, other in pairs) / len(pairs)
    limit = chosen.first_loss + 2 * math.sqrt(2 * variance)
    return tuple(trial.value for trial in tried if trial.value != chosen.value and trial.loss <= limit)


def best_trial(tried: Sequence[Trial]) -> Trial:
    """The lowest loss; the earlier of two that are equal."""
    return min(tried, key=lambda trial: trial.loss)


def is_on_edge(method: str, name: str, tried: Sequence[Trial], chosen: Scalar) -> bool:
    """Whether the chosen rate is the lowest or highest of all that were tried: the optimum may lie beyond."""
    if name in method_class(method).choices:
        return False
    values = [_number(trial.value) for trial in tried]
    if len(values) < 3:
        return False  # of two values, both are on the edge
    return _number(chosen) in (min(values), max(values))


def can_prune(study: StudySpec) -> bool:
    """Whether trials of a limited number of steps have one at which they may be pruned; also true without a limit."""
    most = max(study.steps.values(), default=study.train.max_steps)
    return most is None or bool(rungs(most, study.train.warmup))


def rungs(steps: int, warmup: float) -> tuple[int, ...]:
    """The steps at which a trial of `steps` steps may be pruned: after the warm-up, not before MIN_STEPS_TO_PRUNE."""
    first = max(MIN_STEPS_TO_PRUNE, math.ceil(warmup * steps) + 1)
    return tuple(sorted({step for part in _RUNG_FRACTIONS if first <= (step := math.ceil(part * steps)) < steps}))


def rung_limit(losses: Sequence[float]) -> float | None:
    """The highest loss with which one more trial is in the better half, ties included; None without other losses."""
    kept = math.ceil((len(losses) + 1) / 2)
    return sorted(losses)[kept - 1] if losses else None


def pruning_limits(steps: int, warmup: float, earlier: Sequence[Mapping[int, float]]) -> CutAbove:
    """The limits of a trial, from the losses by step of the earlier trials of the same method."""
    return tuple(
        (step, rung_limit([losses[step] for losses in earlier if step in losses])) for step in rungs(steps, warmup)
    )


def from_the_middle(values: Sequence[Scalar]) -> tuple[Scalar, ...]:
    """The middle of the range first, so that a good limit is known early; then outwards, the lower of two first."""
    middle = (len(values) - 1) / 2
    return tuple(values[index] for index in sorted(range(len(values)), key=lambda index: (abs(index - middle), index)))


def pruning_savings(trials: Sequence[tuple[Record, Schedule]]) -> PruningSavings:
    """Steps and seconds that pruned trials would have needed to their end, at each trial's own speed.

    The cost of validations at rungs outside the schedule is subtracted, so the seconds may be negative. They are None
    if a trial recorded no times.
    """
    steps, seconds = 0, 0.0
    for record, schedule in trials:
        curve = record.curve
        extra = sum(point.step not in schedule.checks for point in curve.validation)
        left = 0 if curve.cut_at is None else schedule.steps - curve.cut_at
        spared = 0 if curve.cut_at is None else sum(step > curve.cut_at for step in schedule.checks)
        steps += left
        seconds += left * _seconds_each(record, "train", curve.steps)
        seconds += (spared - extra) * _seconds_each(record, "evaluate", len(curve.validation))
    return PruningSavings(steps=steps, seconds=None if math.isnan(seconds) else seconds)


def _seconds_each(record: Record, phase: str, times: int) -> float:
    """Seconds of a phase divided by the `times` it was carried out; NaN without a reading."""
    if not times:
        return 0.0
    if record.resources is None or phase not in record.resources.phases:
        return math.nan
    return record.resources.phases[phase].wall_seconds / times


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _number(value: Scalar) -> float:
    assert isinstance(value, int | float)
    return float(value)
