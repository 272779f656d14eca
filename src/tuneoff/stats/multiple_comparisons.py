"""One simultaneous procedure for all pairs of methods, and comparisons with the unknown best.

Intervals: max-|t| over all pairs with the estimated correlation of the pairs (Hothorn, Bretz, Westfall 2008,
Simultaneous Inference in General Parametric Models). Pairs differ in how well their error is known, so each has a
critical value from its own error distribution (Hasler, Hothorn 2008, Multiple Contrast Tests in the Presence of
Heteroscedasticity). Decisions are read off the intervals: a pair differs when its interval excludes zero.

How well an error is known: a standard error has a document part with many degrees of freedom and a seed part with few.
One Satterthwaite t is too short whenever few seeds happen to agree by chance, so each part keeps its own chi-square:
the half-width is the quantile of |Z| sqrt(documents df/chi2 + seeds df'/chi2' - residual), a generalised pivotal
quantity (Weerahandi 1993, Generalized Confidence Intervals). With one part it is the t interval exactly.

The best: Hsu's multiple comparisons with the best, unconstrained and with unequal errors (Hsu 1996, Multiple
Comparisons, chapter 4).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import chdtri, ndtr, ndtri
from scipy.stats import qmc

from tuneoff.stats.variance_components import Differences, Floats, Integers

LEVEL = 0.95
# Sobol points for the distribution of the maximum: the critical value is then right to about 0.5 %.
DRAWS = 4096
_SEED = 20240229


@dataclass(frozen=True)
class _Spread:
    """Distribution of an error's true size over its estimate, as K weighted points for each of P pairs."""

    ratio: Floats  # (P, K)
    weight: Floats  # (K,)


def half_widths(found: Differences, level: float = LEVEL) -> Floats:
    """(P,) half-widths of simultaneous two-sided intervals of one study, in points. Zero where there is no error."""
    return _widths(found, found.first, found.second, np.arange(len(found.first)), level, two_sided=True)


def single_half_widths(found: Differences, level: float = LEVEL) -> Floats:
    """(P,) half-widths of two-sided intervals that each hold for their own pair alone, not for the family."""
    known = np.flatnonzero(found.variance > 0)
    widths = np.zeros(len(found.first))
    if len(known):
        critical = _critical(None, _spread(found, known), level, two_sided=True)
        widths[known] = np.sqrt(found.variance[known]) * critical
    return widths


def one_sided_widths(found: Differences, control: int, level: float = LEVEL) -> tuple[Integers, Floats]:
    """The other methods (M-1,) and the widths d of simultaneous bounds: mean[control] - mean[other] is at most its
    estimate + d, and at the same time for all others (Dunnett's comparisons with one control)."""
    involved = np.flatnonzero((found.first == control) | (found.second == control))
    others = np.where(found.first[involved] == control, found.second[involved], found.first[involved])
    controls = np.full_like(others, control)
    return others, _widths(found, controls, others, involved, level, two_sided=False)


def losses(found: Differences, mean: Floats, level: float = LEVEL) -> Floats:
    """(M,) bounds, for all methods at once with probability `level`, on how far each true mean lies under the best one.

    If k is the true best, then with that probability every mean[k] - mean[j] lies below its one-sided bound. Then no
    bound of k is negative, so k is among the candidates, and each method's loss is under its bound against one of them.
    """
    n_methods = len(mean)
    bounds = np.full((n_methods, n_methods), -np.inf)  # [k, i]: upper bound of mean[k] - mean[i]
    for control in range(n_methods):
        others, widths = one_sided_widths(found, control, level)
        bounds[control, others] = mean[control] - mean[others] + widths
    np.fill_diagonal(bounds, 0.0)
    candidates = np.flatnonzero(bounds.min(axis=1) >= 0)
    upper: Floats = np.maximum(bounds[candidates].max(axis=0), 0.0)
    return upper


def _widths(
    found: Differences, first: Integers, second: Integers, index: Integers, level: float, *, two_sided: bool
) -> Floats:
    """Widths for the contrasts `first - second`, whose error parts stand at `index` of `found`."""
    variance = found.variance[index]
    known = variance > 0
    widths = np.zeros(len(index))
    if not known.any():
        return widths
    spread = _spread(found, index[known])
    errors = np.sqrt(variance[known])
    if known.sum() == 1:
        widths[known] = errors * _critical(None, spread, level, two_sided=two_sided)
        return widths
    maxima = _maxima(found.covariance, first[known], second[known], two_sided=two_sided)
    widths[known] = errors * _critical(maxima, spread, level, two_sided=two_sided)
    return widths


def _maxima(covariance: Floats, first: Integers, second: Integers, *, two_sided: bool) -> Floats:
    """(DRAWS,) sorted draws of the largest of the correlated standard normal contrasts."""
    # What all methods share cancels in every contrast; without it, and with the one symmetric root, the draws of a pair
    # depend on nothing but the differences.
    centred = covariance - covariance.mean(axis=0, keepdims=True)
    centred = centred - centred.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh((centred + centred.T) / 2.0)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    loadings = root[first] - root[second]
    norms = np.linalg.norm(loadings, axis=1, keepdims=True)
    loadings = np.divide(loadings, norms, out=np.zeros_like(loadings), where=norms > 0)
    draws = loadings @ _normal_draws(covariance.shape[-1])
    largest: Floats = np.sort((np.abs(draws) if two_sided else draws).max(axis=0))
    return largest


@lru_cache(maxsize=32)
def _normal_draws(dimensions: int) -> Floats:
    """(dimensions, DRAWS) standard normals from a scrambled Sobol sequence with a fixed seed."""
    points = qmc.Sobol(dimensions, scramble=True, rng=_SEED).random(DRAWS)
    normal: Floats = ndtri(points.T)
    return normal


@lru_cache(maxsize=256)
def _chi_square_ratios(df: float, points: int) -> tuple[Floats, Floats]:
    """df / chi-square(df) at `points` nodes with weights: Gauss-Legendre over the square root of the probability,
    which puts nodes where the ratio grows without bound."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    root = (nodes + 1.0) / 2.0
    return df / chdtri(df, 1.0 - root**2), weights * root


def _spread(found: Differences, index: Integers) -> _Spread:
    estimated = np.sqrt(found.variance[index])[:, None]
    if not found.seeds_df.any():
        ratio, weight = _chi_square_ratios(found.documents_df, 32)
        return _Spread(np.sqrt(found.documents[index, None] * ratio) / estimated, weight)
    ratio, weight = _chi_square_ratios(found.documents_df, 6 if found.documents_df > 30 else 16)
    per_df = {df: _chi_square_ratios(df, 32) for df in set(found.seeds_df[index].tolist()) if df > 0}
    seed_weight = _chi_square_ratios(1.0, 32)[1]
    none = np.zeros(32)
    seed_ratio = np.stack([per_df[df][0] if df > 0 else none for df in found.seeds_df[index].tolist()])
    seeds = np.maximum(found.seeds[index, None] * seed_ratio - found.residual[index, None], 0.0)
    total = (found.documents[index, None] * ratio)[:, :, None] + seeds[:, None, :]
    return _Spread(np.sqrt(total.reshape(len(index), -1)) / estimated, np.outer(weight, seed_weight).ravel())


def _critical(maxima: Floats | None, spread: _Spread, level: float, *, two_sided: bool) -> Floats:
    """(P,) c with P(largest contrast x spread <= c) = level. `maxima` None: a single contrast, without sampling."""

    def share_below(value: Floats) -> Floats:
        scaled = value[:, None] / np.maximum(spread.ratio, 1e-300)
        if maxima is not None:
            share = np.searchsorted(maxima, scaled, side="right") / len(maxima)
        else:
            share = 2.0 * ndtr(scaled) - 1.0 if two_sided else ndtr(scaled)
        probability: Floats = share @ spread.weight
        return probability

    low = np.zeros(len(spread.ratio))
    high = np.full(len(spread.ratio), 4.0)
    for _ in range(20):
        short = share_below(high) < level
        if not np.any(short):
            break
        high = np.where(short, 2.0 * high, high)
    for _ in range(26):
        middle = (low + high) / 2.0
        enough = share_below(middle) >= level
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high
