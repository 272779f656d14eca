"""Equal trials for every method: what is tried, the reserve trial, and which setting the final runs take.

Each method has one searched hyper-parameter: a rate on a log scale (`Method.search`) or a list (`Method.choices`).
With `trials = T` every method tries T settings, then one reserve setting: one step outwards when the best rate lies on
the edge of what was tried, else between the best and its better neighbour; for a list, its next entry. Two rates alone
are both edges, so they stand inside the range, and the reserve trial takes the end beside the better one. The lowest
validation loss wins, for prompts and trained methods alike. A value that the study sets itself is fixed.

With halving (see `study.halving`) a trial that was cut is never chosen; where the reserve trial asks which of two
neighbours is better, they are compared at the last rung that both reached.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tuneoff.errors import UserError
from tuneoff.methods import method_class
from tuneoff.spec.run import Scalar

# Far from the seeds of final runs, which begin at 0: no final run repeats a trial's order or subset.
TRIAL_SEED = 1_000_000


@dataclass(frozen=True)
class Trial:
    """A value that was tried; `loss` is infinite where training diverged or failed, and where it was cut.

    `rungs`: validation losses by step of a halved trial that lived (finished or cut), as far as it went.
    """

    value: Scalar
    loss: float
    rungs: Mapping[int, float] = field(default_factory=dict)


def searched(method: str, fixed: Mapping[str, Scalar]) -> str | None:
    """The hyper-parameter that trials vary; None where the study fixes it or there is none."""
    kind = method_class(method)
    return next((name for name in (*kind.search, *kind.choices) if name not in fixed), None)


def grid(method: str, name: str, trials: int) -> tuple[Scalar, ...]:
    """The first `trials` values: spread evenly on a log scale over the range, from three on with its ends; or the
    list's first.

    Raises `UserError` when a list has no entry left for the reserve trial.
    """
    kind = method_class(method)
    if name in kind.choices:
        values = kind.choices[name]
        if trials + 1 > len(values):
            raise UserError(
                f"{method} has {len(values)} choices of {name}, one of them for the reserve trial; "
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
    return tuple(_rounded(low * step**place) for place in range(trials))


def reserve(method: str, name: str, tried: Sequence[Trial]) -> tuple[Scalar, str]:
    """The value of the reserve trial, and why it is this one."""
    kind = method_class(method)
    if name in kind.choices:
        return kind.choices[name][len(tried)], "the next of the list"
    rates = sorted(tried, key=lambda trial: _number(trial.value))
    values = [_number(trial.value) for trial in rates]
    low, high = kind.search[name]
    step = values[-1] / values[-2] if len(values) > 1 else math.sqrt(high / low)
    best = min(range(len(rates)), key=lambda place: rates[place].loss)
    if len(rates) == 2:
        step = math.sqrt(step)
    if math.isinf(rates[best].loss):
        return _rounded(values[0] / step), "every trial diverged: lower"
    if best == 0:
        return _rounded(values[0] / step), "the best lies on the lower edge: outwards"
    if best == len(rates) - 1:
        return _rounded(values[-1] * step), "the best lies on the upper edge: outwards"
    beside = best + 1 if _better(rates[best + 1], rates[best - 1]) else best - 1
    return _rounded(math.sqrt(values[best] * values[beside])), "the best lies inside: towards its better neighbour"


def _better(one: Trial, other: Trial) -> bool:
    """Whether `one` has the lower loss: at the end or, where one was cut, at the last rung that both reached."""
    cut = [trial for trial in (one, other) if math.isinf(trial.loss) and trial.rungs]
    shared = one.rungs.keys() & other.rungs.keys()
    if cut and shared:
        return one.rungs[max(shared)] < other.rungs[max(shared)]
    return one.loss < other.loss or (one in cut and other not in cut and math.isinf(other.loss))


def choose(tried: Sequence[Trial]) -> Trial:
    """The lowest loss; the earlier of two that are equal."""
    return min(tried, key=lambda trial: trial.loss)


def on_edge(method: str, name: str, tried: Sequence[Trial]) -> bool:
    """Whether the chosen rate is the lowest or highest of all that were tried: the optimum may lie beyond."""
    if name in method_class(method).choices:
        return False
    values = [_number(trial.value) for trial in tried]
    if len(values) < 3:
        return False  # of two values each is the outermost
    return _number(choose(tried).value) in (min(values), max(values))


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _number(value: Scalar) -> float:
    assert isinstance(value, int | float)
    return float(value)
