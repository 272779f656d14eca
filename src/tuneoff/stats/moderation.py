"""Moderated seed variances: the variance between seeds of each method, drawn towards those of the whole study.

Three trainings say little about how much the trainings of a method differ. A study that trains M methods at C fractions
of the data has C x M such sets of trainings (cells). Their variances follow s0^2 F(df, d0) if the true variances are
scaled inverse chi-squares: s0^2 is the typical variance, and d0 says how similar the cells are. Both are estimated from
the cells by the moments of their logarithms. The moderated variance (d0 s0^2 + df s^2) / (d0 + df) of a cell then has
d0 + df degrees of freedom (Smyth 2004, Linear Models and Empirical Bayes Methods for Assessing Differential Expression
in Microarray Experiments, section 6).

A prior that is too sharp or too small makes intervals too short, so both parameters err on the careful side.

Shapes: C sets of trainings (fractions of the data), M methods, T methods that vary, S seeds, P pairs of methods.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuneoff.stats.seed_spread import SeedSpread, seed_spread, widen_erratic
from tuneoff.stats.variance_components import (
    Floats,
    MeanEstimates,
    PairwiseDifferences,
    contrast_variance,
    pair_indices,
    pairwise_differences,
)

# With fewer cells the prior is too uncertain.
FEWEST_CELLS = 15
# Bounds of d0: so few cells show neither that the variances are equal nor that they have nothing in common.
_LEAST_DF, _MOST_DF = 1.0, 20.0
# The typical variance is raised by this number of standard errors of its logarithm.
_CAREFUL = 1.0
# Error probability of the test for an effect of the seed that all methods share.
_SHARED = 0.01
# Variances below this part of the median say nothing but that means agree to many digits.
_FLOOR = 1e-4


@dataclass(frozen=True)
class SeedPrior:
    """What the cells of a study say about the variance between seeds of any method."""

    variance: float  # s0^2, points squared
    df: float  # d0
    cells: int


@dataclass(frozen=True)
class StudyDifferences:
    """The differences between the methods of a study, and what their seed part rests on."""

    differences: PairwiseDifferences
    spread: SeedSpread
    prior: SeedPrior | None  # None: too few cells, or seeds move all methods together
    shared: bool  # whether seeds move all methods together


def study_differences(means: MeanEstimates, trainings: Sequence[Floats]) -> StudyDifferences:
    """All pairwise differences, with the seed part estimated from every training of the study.

    Args:
        means: the means to compare.
        trainings: mean score of each training (M, S), one array for each set of trainings; the seeds of the compared
            means are one of them. Rows of methods that do not vary are not read.
    """
    varies = means.varies
    known = [one[varies] for one in trainings if one.shape[1] > 1]
    variances = np.zeros((len(known), len(varies)))
    for row, one in zip(variances, known, strict=True):
        row[varies] = one.var(axis=1, ddof=1)
    df = np.array([one.shape[1] - 1.0 for one in known])
    spread = seed_spread(variances, df, varies)
    shared = seeds_move_together(known)
    # A method that is known to be erratic has its own variance; it must not widen those of the others.
    prior = None if shared else seed_prior(variances[:, varies & ~spread.erratic], df)
    if prior is None or means.seeds is None:
        found = pairwise_differences(means, paired_seeds=shared)
    else:
        found = _moderated(means, prior)
    return StudyDifferences(widen_erratic(found, spread), spread, prior, shared)


def seed_prior(variances: Floats, df: Floats) -> SeedPrior | None:
    """The prior from variances (C, T) that have `df` (C,) degrees of freedom; None with fewer than 15 of them."""
    from scipy.special import digamma, polygamma  # here, because a command that is refused needs no SciPy

    cells = variances.size
    if cells < FEWEST_CELLS or not np.median(variances) > 0:
        return None
    half = np.broadcast_to(df[:, None] / 2.0, variances.shape)
    logs = np.log(np.maximum(variances, _FLOOR * np.median(variances))) - digamma(half) + np.log(half)
    spread = float(logs.var(ddof=1))
    d0 = float(np.clip(2.0 * _inverse_trigamma(spread - float(polygamma(1, half).mean())), _LEAST_DF, _MOST_DF))
    log_variance = float(logs.mean()) + float(digamma(d0 / 2.0)) - float(np.log(d0 / 2.0))
    return SeedPrior(float(np.exp(log_variance + _CAREFUL * np.sqrt(spread / cells))), d0, cells)


def _inverse_trigamma(value: float) -> float:
    """x with trigamma(x) = `value`; infinite for a value that is not positive. Newton's method on 1 / trigamma."""
    from scipy.special import polygamma

    if value <= 1e-6:
        return float("inf")
    x = 0.5 + 1.0 / value
    for _ in range(20):
        trigamma = float(polygamma(1, x))
        x += trigamma * (1.0 - trigamma / value) / float(polygamma(2, x))
    return x


def seeds_move_together(trainings: Sequence[Floats]) -> bool:
    """Whether the same seed is good or bad for all methods at once, by an F test.

    `trainings` holds mean scores (T, S) of the methods that vary, one array for each set of trainings.
    """
    usable = [one for one in trainings if min(one.shape) > 1]
    if not usable:
        return False
    from scipy.special import fdtri

    between = inside = between_df = inside_df = 0.0
    for one in usable:
        methods, seeds = one.shape
        seed_means = one.mean(axis=0)
        rest = one - one.mean(axis=1, keepdims=True) - seed_means + one.mean()
        between += methods * float(((seed_means - one.mean()) ** 2).sum())
        inside += float((rest**2).sum())
        between_df += seeds - 1
        inside_df += (methods - 1) * (seeds - 1)
    return between / between_df > float(fdtri(between_df, inside_df, 1.0 - _SHARED)) * inside / inside_df


def _moderated(means: MeanEstimates, prior: SeedPrior) -> PairwiseDifferences:
    """Differences whose seed part is the sum of the moderated variances of the two methods."""
    assert means.seeds is not None
    assert means.residual is not None
    first, second = pair_indices(means.mean.shape[-1])
    own_df = means.n_seeds - 1.0
    own = np.diagonal(means.seeds, axis1=-2, axis2=-1)
    moderated = (prior.df * prior.variance / means.n_seeds + own_df * own) / (prior.df + own_df)
    variance = np.where(means.varies, moderated, 0.0)
    one, other = variance[..., first], variance[..., second]
    squares = one**2 + other**2
    df = np.divide((one + other) ** 2, squares, out=np.zeros_like(squares), where=squares > 0) * (prior.df + own_df)
    residual = np.diagonal(means.residual, axis1=-2, axis2=-1)
    part = np.maximum(variance - residual, 0.0)
    return PairwiseDifferences(
        first,
        second,
        means.mean[..., first] - means.mean[..., second],
        contrast_variance(means.documents, first, second),
        one + other,
        contrast_variance(means.residual, first, second),
        means.n_groups - 1,
        df,
        means.documents + part[..., None] * np.eye(len(means.varies)),
        means.n_seeds,
    )
