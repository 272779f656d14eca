"""How a limited time is shared between documents, seeds, steps and trials. Pure.

Documents and seeds decide how small a difference a study can detect, steps and trials how well each method is trained.
The rows of `_ROWS` say how much of the latter comes before more of the former:

1. The last row that fits is taken: its documents and seeds, with its steps, trials and validation documents.
2. The time that is left buys the documents and seeds with the smallest detectable difference, up to the next row.
3. What is left then buys trials, steps, fractions of the data and validation documents, in this order; and then
   documents, as long as the next row does not detect less.

So more time never gives a larger smallest difference. Nothing exceeds what was asked for. Scores are never looked at.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from tuneoff.engine.batching import steps_per_epoch
from tuneoff.methods import method_class
from tuneoff.metrics import METRICS
from tuneoff.spec import StudySpec
from tuneoff.stats.power import VarianceComponents, planned_difference
from tuneoff.study.duration import DataSizes, steps_of
from tuneoff.study.search import can_prune

FLOOR_DOCUMENTS, FLOOR_STEPS = 30, 50
_ENOUGH_SEEDS = 3


@dataclass(frozen=True)
class Size:
    """How large a study is, in everything that a time limit may reduce."""

    documents: int
    """Test documents."""
    seeds: int
    steps: int
    """Optimiser steps of the method that takes most of them, on all the data; 0 if no method is trained."""
    trials: int
    validation: int
    """Validation documents."""
    fractions: int
    """How many fractions of the data, the whole included. The largest ones below 1 are left out first."""

    def at_most(self, other: "Size") -> "Size":
        """The smaller of both in everything."""
        return Size(**{name: min(getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__})


_MUCH = 10**9
SMALLEST = Size(documents=10, seeds=1, steps=10, trials=0, validation=16, fractions=1)
FLOOR = Size(FLOOR_DOCUMENTS, 1, FLOOR_STEPS, 0, 16, 1)
# Steps of a row are never more than an epoch.
_ROWS = (
    SMALLEST,
    Size(FLOOR_DOCUMENTS, 1, 20, 0, 16, 1),
    FLOOR,
    Size(100, _ENOUGH_SEEDS, 50, 1, 20, 1),
    Size(100, _ENOUGH_SEEDS, 100, 2, 40, 1),
    Size(200, _ENOUGH_SEEDS, 200, 3, 100, _MUCH),
    Size(200, _ENOUGH_SEEDS, 500, 3, 100, _MUCH),
)


def size_of(study: StudySpec, sizes: DataSizes) -> Size:
    """The size of a study on data of `sizes`."""
    limits = [sizes.test_documents, study.data.max_test_documents, *study.scored_documents[-1:]]
    validation = [sizes.validation_documents, study.data.max_validation_documents]
    trained = [name for name in study.methods if method_class(name).trains]
    return Size(
        documents=min(limit for limit in limits if limit is not None),
        seeds=study.seeds,
        steps=max((steps_of(study, sizes, name) for name in trained), default=0),
        trials=study.trials,
        validation=min(limit for limit in validation if limit is not None),
        fractions=len(study.fractions),
    )


def resized(study: StudySpec, size: Size, sizes: DataSizes) -> StudySpec:
    """`study` reduced to `size`. Steps by method (equal time) keep their proportions."""
    whole = size_of(study, sizes)
    change: dict[str, Any] = {}
    if size.documents < whole.documents:
        change["scored_documents"] = (size.documents,)
    if size.validation < whole.validation:
        change["data"] = study.data.model_copy(update={"max_validation_documents": size.validation})
    if size.trials < whole.trials:
        change |= {
            "trials": size.trials,
            "halving": study.halving and size.trials > 0,
            "choose_by": study.choose_by if size.trials > 0 else "loss",
        }
    if size.fractions < whole.fractions:
        change["fractions"] = (*study.fractions[: size.fractions - 1], 1.0)
    if size.seeds < whole.seeds:
        change["seeds"] = size.seeds
    if size.steps < whole.steps:
        if study.steps:
            part = size.steps / max(study.steps.values())
            change["steps"] = {name: max(1, round(own * min(1.0, part))) for name, own in study.steps.items()}
        else:
            change["train"] = study.train.model_copy(update={"max_steps": size.steps, "min_steps": None})
            change["step_floor"] = min(study.step_floor, size.steps)
    found = study.model_copy(update=change)
    return found.model_copy(update={"halving": found.halving and can_prune(found)})


def floor_of(study: StudySpec, sizes: DataSizes) -> Size:
    """The smallest size of a study that compares methods: what is asked for, or the floor where that is less."""
    return _rows(study, sizes)[_ROWS.index(FLOOR)]


def smallest_difference(study: StudySpec, documents: int, seeds: int) -> float:
    """The difference between methods that a study of this size detects, in points of its metric, as far as is known
    before it. For a metric without a known spread, and for a single method, a figure that only compares sizes.
    """
    varies = tuple(method_class(name).seeded for name in study.methods) + (False,) * len(study.predictions)
    metric = METRICS.get(study.metric)
    spread = None if metric is None else metric.paired_sd
    seeds = seeds if any(varies) else 1
    return min(
        _difference(varies, documents, fewer, 1.0 if spread is None else spread) for fewer in range(1, seeds + 1)
    )


def _difference(varies: tuple[bool, ...], documents: int, seeds: int, spread: float) -> float:
    """Between computed points, its square is taken as linear in 1 / documents, which it nearly is."""
    if documents < SMALLEST.documents:
        return _computed_difference(varies, documents, seeds, spread)
    low = SMALLEST.documents << int(math.log2(documents / SMALLEST.documents))
    below, above = (_computed_difference(varies, count, seeds, spread) for count in (low, 2 * low))
    part = 2 * (1 - low / documents)  # 0 at `low`, 1 at twice as many
    return math.sqrt((1 - part) * below**2 + part * above**2)


@lru_cache(maxsize=4096)
def _computed_difference(varies: tuple[bool, ...], documents: int, seeds: int, spread: float) -> float:
    mask = np.array(varies)
    return planned_difference(mask, documents, seeds, VarianceComponents.typical(mask, spread))


def allocate(study: StudySpec, sizes: DataSizes, fits: Callable[[StudySpec], bool]) -> Size:
    """The size that `study` is reduced to. `fits` says whether a study takes too long; more of anything takes longer.

    If not even the smallest size fits, it is taken all the same.
    """
    whole = size_of(study, sizes)
    if fits(study):
        return whole

    def reachable(size: Size) -> bool:
        return fits(resized(study, size, sizes))

    rows = [*_rows(study, sizes), whole]
    reached = [index for index, row in enumerate(rows) if reachable(_best_seeds(study, row))]
    if not reached:
        return _best_seeds(study, rows[0])
    following = rows[min(max(reached) + 1, len(rows) - 1)]
    size = _most_precise(study, rows[max(reached)], following, reachable)
    if not any(method_class(name).seeded for name in study.methods):
        size = replace(size, seeds=whole.seeds)  # one run, whatever their number
    for name in ("trials", "steps", "fractions", "validation"):
        size = _raised(size, name, getattr(whole, name), reachable)
    # Only what can be kept when there is more time: the next row must not detect less.
    least = smallest_difference(study, following.documents, following.seeds)
    return _raised(
        size,
        "documents",
        whole.documents,
        lambda larger: reachable(larger) and smallest_difference(study, larger.documents, larger.seeds) >= least,
    )


def _rows(study: StudySpec, sizes: DataSizes) -> list[Size]:
    """The rows for this study: nothing beyond what was asked for, and no more steps than an epoch has."""
    whole = size_of(study, sizes)
    epoch = steps_per_epoch(sizes.train_examples, study.train.batch_size)
    rows = [row.at_most(replace(whole, steps=min(whole.steps, epoch))) for row in _ROWS]
    first = _ROWS.index(FLOOR) + 1  # three seeds of half an epoch are more than one seed of an epoch
    rows[first] = replace(rows[first], steps=min(rows[first].steps, max(1, math.ceil(epoch / 2))))
    rows = [replace(row, seeds=_seeds_up_to(study, row.seeds)[-1]) for row in rows]
    if study.predictions:  # outside systems wrote texts for exactly these documents
        rows = [replace(row, documents=whole.documents) for row in rows]
    return rows


def _seeds_up_to(study: StudySpec, most: int) -> list[int]:
    """The numbers of seeds up to `most` that are planned; the smallest one if all are larger.

    Two are passed over, unless that is what was asked for: they hardly show how much seeds differ.
    """
    planned = [seeds for seeds in study.possible_seeds if seeds != 2 or study.seeds == 2]
    return [seeds for seeds in planned if seeds <= most] or planned[:1]


def _best_seeds(study: StudySpec, row: Size) -> Size:
    """A row with the fewest seeds that detect as small a difference as any number up to its own."""
    wanted = smallest_difference(study, row.documents, row.seeds)
    fewest = next(
        seeds for seeds in _seeds_up_to(study, row.seeds) if smallest_difference(study, row.documents, seeds) <= wanted
    )
    return replace(row, seeds=fewest)


def _most_precise(study: StudySpec, row: Size, limit: Size, fits: Callable[[Size], bool]) -> Size:
    """The documents and seeds up to `limit` that fit with the effort of `row` and detect the smallest difference.

    For more seeds than those of the row, the steps of `limit` are enough.
    """
    found = []
    for seeds in _seeds_up_to(study, limit.seeds):
        size = replace(row, seeds=seeds, steps=row.steps if seeds <= row.seeds else min(row.steps, limit.steps))
        if fits(size):
            found.append(_raised(size, "documents", limit.documents, fits))
    return min(found, key=lambda size: (smallest_difference(study, size.documents, size.seeds), size.seeds))


def _raised(size: Size, name: str, most: int, fits: Callable[[Size], bool]) -> Size:
    """`size` with as much of `name` as fits, up to `most`; never less than it has."""
    low, high = getattr(size, name), most
    while low < high:
        middle = (low + high + 1) // 2
        if fits(replace(size, **{name: middle})):
            low = middle
        else:
            high = middle - 1
    return replace(size, **{name: low})
