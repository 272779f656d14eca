"""Successive halving inside one method's search: where a trial is looked at early, and when it is stopped there. Pure.

Trials go one after the other, each on its full schedule; nothing is resumed. At a quarter and at half of its steps (the
rungs) a trial is stopped when its loss is not among the better half of the losses that the method's earlier trials and
itself had there: the stopping form of asynchronous successive halving (Li et al. 2020, *A System for Massively Parallel
Hyperparameter Tuning*) with a reduction factor of 2. The first trial is never stopped. Earlier trials that diverged or
failed set no limit, whatever they had at a rung: one that is dead must not stop one that lives.
"""

import math
from collections.abc import Mapping, Sequence

from tuneoff.spec import CutAbove
from tuneoff.spec.run import Scalar

SHARES = (1 / 4, 1 / 2)
# A loss after fewer steps tells how a rate warms up, not where it leads.
MIN_STEPS = 5


def rungs(steps: int, warmup: float) -> tuple[int, ...]:
    """The steps after which a trial of `steps` steps may be stopped: behind the warm-up, not before `MIN_STEPS`."""
    first = max(MIN_STEPS, math.ceil(warmup * steps) + 1)
    return tuple(sorted({step for share in SHARES if first <= (step := math.ceil(share * steps)) < steps}))


def limit(losses: Sequence[float]) -> float | None:
    """The highest loss with which one more trial is among the better half, itself and its equals included; None where
    there is nothing to compare it with."""
    kept = math.ceil((len(losses) + 1) / 2)
    return sorted(losses)[kept - 1] if losses else None


def cut_above(steps: int, warmup: float, earlier: Sequence[Mapping[int, float]]) -> CutAbove:
    """The limits of a trial, from the losses by step that earlier trials of the same method had."""
    return tuple((step, limit([losses[step] for losses in earlier if step in losses])) for step in rungs(steps, warmup))


def from_the_middle(values: Sequence[Scalar]) -> tuple[Scalar, ...]:
    """The middle of the range first, so that a good limit is known early; then outwards, of two the lower first."""
    middle = (len(values) - 1) / 2
    return tuple(values[place] for place in sorted(range(len(values)), key=lambda place: (abs(place - middle), place)))
