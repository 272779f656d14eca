"""Intervals that hold at every look: a study that stops when its question is answered looks at its results repeatedly.

Each look at 95 % intervals is another chance to be wrong. Repeated confidence intervals (Jennison, Turnbull 2000, Group
Sequential Methods, chapter 9) are wider, such that the intervals of all looks hold at once with 95 %. They stay valid
whatever ends the study. How much of the 5 % each look may use follows from the information at that look, relative to
the last one (Lan, DeMets 1983, Discrete Sequential Boundaries for Clinical Trials).

The test documents are the same at every look, only training seeds are added. So looks are strongly correlated, the
information at the first look is already high, and little is lost by looking. With documents D and one training V, a
difference over S seeds has the variance D + V/S, and its means over S < S' seeds have the covariance D + V/S'.

Shapes: M methods, T methods that vary, P pairs of methods, L looks, K draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tuneoff.stats.moderation import StudyDifferences, study_differences
from tuneoff.stats.multiple_comparisons import LEVEL, bound_widths, simultaneous_half_widths
from tuneoff.stats.variance_components import (
    Booleans,
    Floats,
    MeanEstimates,
    contrast_variance,
    estimate_means,
    pair_indices,
)

FIRST_LOOK = 3
MOST_LOOKS = 4
# With this part of the information of the last look, intervals would become at most 5 % narrower by further seeds.
ENOUGH_INFORMATION = 0.9
_DRAWS = 8192
_SEED = 20261128


@dataclass(frozen=True)
class Look:
    """What one look at the M methods that still get seeds shows."""

    level: float  # of the intervals at this look
    information: float  # relative to the last look
    means: MeanEstimates
    found: StudyDifferences
    widths: Floats  # (P,) half-widths of the intervals of all pairs
    bounds: Floats  # (M, M) upper bounds of mean[k] - mean[i], simultaneous for all i with each k
    upper: Floats  # (M, M) upper ends of the intervals of mean[k] - mean[i]
    candidates: Booleans  # (M,) may be the best
    stopped: Booleans  # (M,) shown to lose more than the margin: no further seeds
    settled: bool  # nothing is left to be shown among the methods that go on
    documents_limit: bool  # further seeds would hardly narrow the intervals: only more test documents would


def look(table: Floats, varies: Booleans, looks: Sequence[int], used: Sequence[float], margin: float) -> Look:
    """Judge the methods that still get seeds, and say which of them need more.

    A method is stopped if, under the assumption that it is the best, a bound of the comparison with the best shows that
    it lies below another method by more than the margin. The truly best method is stopped at any look with a
    probability of at most 5 %.

    Args:
        table: group contributions (M, S, G) of these methods, S being the number of seeds of this look.
        varies: (M,) False for a method whose texts do not depend on the seed.
        looks: numbers of seeds of all looks of the study.
        used: levels at the looks so far.
        margin: difference that does not matter in practice, points.
    """
    means = estimate_means(table, varies)
    estimated = study_differences(means, [table.mean(axis=-1)])
    found = estimated.differences
    documents, training = _components(means)
    level = level_of_look(documents, training, looks, used)
    information = float(information_at(documents, training, looks)[len(used)])
    apart = means.mean[:, None] - means.mean
    widths = simultaneous_half_widths(found, level)
    upper = apart.copy()
    upper[found.first, found.second] += widths
    upper[found.second, found.first] += widths
    bounds = apart + bound_widths(found, level)
    lowest = bounds.min(axis=1)
    stopped = lowest < -margin
    left = ~stopped
    settled = left.sum() == 1 or not varies[left].any() or bool((upper[np.ix_(left, left)] <= margin).all())
    limited = information >= ENOUGH_INFORMATION
    return Look(level, information, means, estimated, widths, bounds, upper, lowest >= 0, stopped, settled, limited)


def _components(means: MeanEstimates) -> tuple[Floats, Floats]:
    """The covariance (M, M) of the means from documents, and the variance (M,) of one training, pooled over methods."""
    assert means.seeds is not None
    assert means.residual is not None
    variance = np.diag(means.seeds)[means.varies].mean() * means.n_seeds if means.varies.any() else 0.0
    return means.documents - means.residual, np.where(means.varies, variance, 0.0)


def look_seeds(most: int) -> tuple[int, ...]:
    """The numbers of seeds after which a study of at most `most` seeds is judged: from 3 on, at most four looks.

    Raises `ValueError` for fewer than 4 seeds, which leave nothing to stop.
    """
    if most <= FIRST_LOOK:
        raise ValueError(f"a study that stops when it is settled needs more than {FIRST_LOOK} seeds")
    looks = min(MOST_LOOKS, most - FIRST_LOOK + 1)
    return tuple(round(seeds) for seeds in np.linspace(FIRST_LOOK, most, looks))


def spent(information: float, error: float) -> float:
    """The part of `error` that looks up to this one may use, by the part (0 to 1) of the information that it has.

    The function of Pocock's kind (Lan, DeMets 1983): an early look may use much.
    """
    return error * float(np.log1p((np.e - 1.0) * min(1.0, information)))


def information_at(documents: Floats, training: Floats, looks: Sequence[int]) -> Floats:
    """(L,) information of the looks relative to the last: the mean over pairs of methods with a seed part.

    `documents` (M, M) is the covariance of the means from sampling documents, `training` (M,) the variance of a
    method's mean score between trainings.
    """
    first, second = pair_indices(len(training))
    varies = (training[first] > 0) | (training[second] > 0)
    if not varies.any():
        return np.ones(len(looks))
    each = (training[first] + training[second])[varies]
    shared = contrast_variance(documents, first, second)[varies]
    variance = shared[:, None] + each[:, None] / np.array(looks, dtype=float)
    relative: Floats = (variance[:, -1:] / variance).mean(axis=0)
    return relative


def level_of_look(
    documents: Floats,
    training: Floats,
    looks: Sequence[int],
    used: Sequence[float],
    level: float = LEVEL,
) -> float:
    """The confidence level of the intervals at the next look, such that those of all looks hold at once with `level`.

    Args:
        documents: (M, M) covariance of the means from sampling documents.
        training: (M,) variance of a method's mean score between trainings.
        looks: numbers of seeds of all looks of the study.
        used: levels at the looks so far; the next look is number `len(used)`.
        level: level of all looks together.

    The level is that of the intervals of all pairs. With fewer or one-sided comparisons, looks depend more on each
    other, so it is sufficient for them too.
    """
    index = len(used)
    information = information_at(documents, training, looks)
    allowed = spent(float(information[index]), 1.0 - level) if index < len(looks) - 1 else 1.0 - level
    largest = _largest_contrasts(documents, training, tuple(looks[: index + 1]))
    crossed = np.zeros(largest.shape[1], dtype=bool)
    for row, earlier in zip(largest, used, strict=False):
        crossed |= row > np.quantile(row, earlier)
    # Of the draws that crossed no earlier limit, as many of the largest as the error still allows may cross this one.
    free = np.sort(largest[index, ~crossed])[::-1]
    number = max(0, int(allowed * largest.shape[1]) - int(crossed.sum()))
    return float((largest[index] <= free[number]).mean())


def _largest_contrasts(documents: Floats, training: Floats, looks: tuple[int, ...]) -> Floats:
    """(L, K) draws of the largest standardised contrast at each look, without any true difference."""
    methods = len(training)
    first, second = pair_indices(methods)
    values, vectors = np.linalg.eigh(documents)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    normal = _normal_draws(methods * (len(looks) + 1))
    by_document = root @ normal[:methods]
    sums, before, found = np.zeros_like(by_document), 0, []
    shared = contrast_variance(documents, first, second)
    for number, seeds in enumerate(looks):
        steps = normal[(number + 1) * methods : (number + 2) * methods]
        sums = sums + np.sqrt((seeds - before) * training)[:, None] * steps
        before = seeds
        means = by_document + sums / seeds
        variance = shared + (training[first] + training[second]) / seeds
        known = variance > 0
        contrasts = (means[first[known]] - means[second[known]]) / np.sqrt(variance[known])[:, None]
        found.append(np.abs(contrasts).max(axis=0, initial=0.0))
    return np.array(found)


@lru_cache(maxsize=8)
def _normal_draws(dimensions: int) -> Floats:
    return np.random.default_rng(_SEED).standard_normal((dimensions, _DRAWS))
