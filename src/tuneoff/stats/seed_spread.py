"""Methods whose trainings differ far more than those of other methods, found over several sets of trainings.

A method that fails in 3 of 10 trainings shows no failure in 3 of them in one study of three, and its variance then
looks small. The trainings at other fractions of the data are further looks at the same method. A method is erratic if
its variance between seeds, pooled over all of them, exceeds that of the other methods by more than chance (F test with
a Bonferroni correction for the number of methods). Its intervals use that variance, if it is larger.

Shapes: C sets of trainings (fractions of the data), M methods, P pairs of methods. Scores are in points.
"""

from dataclasses import dataclass, replace

import numpy as np

from tuneoff.stats.variance_components import Booleans, Floats, PairwiseDifferences

# Error probability of the test, for all methods together.
_FALSE_ALARMS = 0.01


@dataclass(frozen=True)
class SeedSpread:
    """Variances of a training's mean score between seeds, pooled over sets of trainings."""

    variance: Floats  # (M,) 0 for a method that does not vary
    others: Floats  # (M,) the same, pooled over the other varying methods
    df: int  # degrees of freedom of each method's variance
    trainings: int  # of each varying method
    erratic: Booleans  # (M,)


def seed_spread(variances: Floats, df: Floats, varies: Booleans) -> SeedSpread:
    """Pool `variances` (C, M), which have `df` (C,) degrees of freedom for each method.

    Without a second varying method, no method is erratic.
    """
    total = int(df.sum())
    trainings = total + len(df)
    pooled = np.where(varies, df @ variances / max(1, total), 0.0)
    count = int(varies.sum())
    if count < 2 or total < 1:
        return SeedSpread(pooled, np.zeros_like(pooled), total, trainings, np.zeros_like(varies))
    others = np.where(varies, (pooled.sum() - pooled) / (count - 1), 0.0)
    from scipy.special import fdtri  # here, because a command that is refused needs no SciPy

    limit = float(fdtri(total, (count - 1) * total, 1.0 - _FALSE_ALARMS / count))
    return SeedSpread(pooled, others, total, trainings, varies & (pooled > limit * others))


def widen_erratic(differences: PairwiseDifferences, spread: SeedSpread) -> PairwiseDifferences:
    """The differences with at least the variance that erratic methods have over all sets of trainings.

    Without another set than that of the differences, nothing changes: each pair already has its own variance where that
    is larger than the pooled one.
    """
    if not spread.erratic.any() or spread.df < differences.n_seeds:
        return differences
    calm = spread.variance > 0
    calm &= ~spread.erratic
    ordinary = spread.variance[calm].mean() if calm.any() else 0.0
    of_method = np.where(spread.erratic, spread.variance, np.where(calm, ordinary, 0.0))
    least = (of_method[differences.first] + of_method[differences.second]) / differences.n_seeds
    concerned = spread.erratic[differences.first] | spread.erratic[differences.second]
    wider = concerned & (least > differences.seeds)
    return replace(
        differences,
        seeds=np.where(wider, least, differences.seeds),
        seeds_df=np.where(wider, float(spread.df), differences.seeds_df),
    )
