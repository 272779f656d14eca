"""Simultaneous intervals for all pairs of methods, and bounds on the regret against the unknown best method.

Intervals: max-|t| over all pairs with the estimated correlation of the pairs (Hothorn, Bretz, Westfall 2008,
Simultaneous Inference in General Parametric Models). Pairs differ in their degrees of freedom, so each pair has its own
critical value (Hasler, Hothorn 2008, Multiple Contrast Tests in the Presence of Heteroscedasticity). Two methods differ
significantly when their interval excludes zero.

Standard errors: the document part has many degrees of freedom, the seed part few. A single Satterthwaite t interval is
too short when few seeds agree by chance. Therefore each part keeps its own chi-square, and the half-width is the
quantile of |Z| sqrt(documents df/chi2 + seeds df'/chi2' - residual), a generalised pivotal quantity (Weerahandi 1993,
Generalized Confidence Intervals). With only one part this is exactly the t interval.

The best method and the regret: Hsu's multiple comparisons with the best, unconstrained and with unequal errors (Hsu
1996, Multiple Comparisons, chapter 4).

Shapes: M methods, P pairs of methods. Scores and widths are in points.

SciPy is imported inside functions: it takes a second, and a study that is refused needs no statistics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tuneoff.stats.variance_components import Booleans, Floats, Integers, PairwiseDifferences

LEVEL = 0.95
# Draws give the critical value to about 0.5 %. 4,096 Sobol points do too, but `scipy.stats`, which has them, takes a
# second to load.
_DRAWS = 16384
_SEED = 20240229
_CONTRASTS_AT_ONCE = 256
_NO_DIFFERENCE = 1e-9  # points; what rounding leaves of equal means


@dataclass(frozen=True)
class _ErrorRatio:
    """Distribution of true over estimated standard error: K weighted points for each of P pairs."""

    ratio: Floats  # (P, K)
    weight: Floats  # (K,)


def simultaneous_half_widths(differences: PairwiseDifferences, level: float = LEVEL) -> Floats:
    """(P,) half-widths of two-sided intervals that hold for all pairs at once. Zero for a pair without error."""
    every = np.arange(len(differences.first))
    return _family_widths(differences, differences.first, differences.second, every, level, two_sided=True)


def single_half_widths(differences: PairwiseDifferences, level: float = LEVEL) -> Floats:
    """(P,) half-widths of two-sided intervals that each hold only for their own pair, without correction."""
    known = np.flatnonzero(differences.variance > 0)
    widths = np.zeros(len(differences.first))
    if len(known):
        critical = _critical_values(None, _error_ratio(differences, known), level, two_sided=True)
        widths[known] = np.sqrt(differences.variance[known]) * critical
    return widths


def one_sided_p_values(differences: PairwiseDifferences, least: float) -> Floats:
    """(P,) p-values of the hypotheses that the true difference is at most `least` (points), each for its own pair.

    A pair without error whose difference is `least` shows nothing in either direction.
    """
    from scipy.special import ndtr

    above = differences.estimate - least
    found = np.select([above > _NO_DIFFERENCE, above < -_NO_DIFFERENCE], [0.0, 1.0], 0.5)
    known = np.flatnonzero(differences.variance > 0)
    if len(known):
        error = _error_ratio(differences, known)
        distance = (differences.estimate[known] - least) / np.sqrt(differences.variance[known])
        found[known] = ndtr(-distance[:, None] / np.maximum(error.ratio, 1e-300)) @ error.weight
    return found


def rejected_by_holm(p_values: Sequence[float], error: float = 1.0 - LEVEL) -> list[bool]:
    """The hypotheses that are rejected, with an error probability of `error` for all of them together (Holm 1979)."""
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > error / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


def one_sided_widths(differences: PairwiseDifferences, control: int, level: float = LEVEL) -> tuple[Integers, Floats]:
    """Widths of simultaneous upper bounds for one `control` method against all others (Dunnett 1955).

    Returns the indices of the other methods (M-1,) and widths (M-1,). With probability `level`, for all others at once,
    mean[control] - mean[other] is at most its estimate plus the width.
    """
    involved = np.flatnonzero((differences.first == control) | (differences.second == control))
    others = np.where(differences.first[involved] == control, differences.second[involved], differences.first[involved])
    controls = np.full_like(others, control)
    return others, _family_widths(differences, controls, others, involved, level, two_sided=False)


@dataclass(frozen=True)
class ComparisonWithBest:
    """M methods compared with the unknown best one. Both statements hold at once with the level of the comparison."""

    candidates: Booleans  # (M,) the truly best method is among these
    regret: Floats  # (M,) upper bounds on how far each true mean lies below the best one


def compare_with_best(differences: PairwiseDifferences, mean: Floats, level: float = LEVEL) -> ComparisonWithBest:
    """Compare all methods with the unknown best one; `mean` (M,) holds the estimated means.

    If method k is the true best, then with probability `level` every mean[k] - mean[j] lies below its one-sided bound.
    None of the bounds of k is then negative, so k is among the candidates, and the regret of each method is below its
    bound against one of them. The simultaneous intervals of all pairs never exclude a candidate, because one-sided
    bounds against one method are narrower.
    """
    return compare_bounds(mean[:, None] - mean + bound_widths(differences, level))


def bound_widths(differences: PairwiseDifferences, level: float = LEVEL) -> Floats:
    """(M, M) widths of the upper bounds of mean[k] - mean[i], simultaneous for all i with each k; zero for k = i."""
    n_methods = int(differences.second.max()) + 1 if len(differences.second) else 1
    found = np.zeros((n_methods, n_methods))
    for control in range(n_methods):
        others, widths = one_sided_widths(differences, control, level)
        found[control, others] = widths
    return found


def compare_bounds(bounds: Floats) -> ComparisonWithBest:
    """The comparison with the best that follows from upper bounds (M, M) of mean[k] - mean[i]."""
    candidates = bounds.min(axis=1) >= 0
    return ComparisonWithBest(candidates, np.maximum(bounds[candidates].max(axis=0), 0.0))


def _family_widths(
    differences: PairwiseDifferences,
    first: Integers,
    second: Integers,
    index: Integers,
    level: float,
    *,
    two_sided: bool,
) -> Floats:
    """Widths for the contrasts `first - second`; `index` gives the pair in `differences` of each contrast."""
    variance = differences.variance[index]
    known = variance > 0
    widths = np.zeros(len(index))
    if not known.any():
        return widths
    ratio = _error_ratio(differences, index[known])
    errors = np.sqrt(variance[known])
    if known.sum() == 1:
        widths[known] = errors * _critical_values(None, ratio, level, two_sided=two_sided)
        return widths
    maxima = _sampled_maxima(differences.covariance, first[known], second[known], two_sided=two_sided)
    widths[known] = errors * _critical_values(maxima, ratio, level, two_sided=two_sided)
    return widths


def _sampled_maxima(covariance: Floats, first: Integers, second: Integers, *, two_sided: bool) -> Floats:
    """(_DRAWS,) sorted samples of the largest of the correlated standard normal contrasts."""
    # What all methods share cancels in every contrast. Without it, and with the symmetric root, the samples of a pair
    # depend only on the differences.
    centred = covariance - covariance.mean(axis=0, keepdims=True)
    centred = centred - centred.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh((centred + centred.T) / 2.0)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    loadings = root[first] - root[second]
    norms = np.linalg.norm(loadings, axis=1, keepdims=True)
    loadings = np.divide(loadings, norms, out=np.zeros_like(loadings), where=norms > 0)
    draws = _normal_draws(covariance.shape[-1])
    largest = np.full(_DRAWS, -np.inf)
    for start in range(0, len(loadings), _CONTRASTS_AT_ONCE):
        contrasts = loadings[start : start + _CONTRASTS_AT_ONCE] @ draws
        np.maximum(largest, (np.abs(contrasts) if two_sided else contrasts).max(axis=0), out=largest)
    return np.sort(largest)


@lru_cache(maxsize=32)
def _normal_draws(dimensions: int) -> Floats:
    """(dimensions, _DRAWS) standard normals, always the same, with a mean of exactly 0 and covariance of exactly 1.

    Without equal moments, twice as many draws are needed for the same error of a quantile.
    """
    draws = np.random.default_rng(_SEED).standard_normal((dimensions, _DRAWS))
    draws -= draws.mean(axis=1, keepdims=True)
    matched: Floats = np.linalg.solve(np.linalg.cholesky(draws @ draws.T / _DRAWS), draws)
    return matched


@lru_cache(maxsize=256)
def _chi_square_ratios(df: float, points: int) -> tuple[Floats, Floats]:
    """Values of df / chi-square(df) at `points` nodes, and their weights.

    Gauss-Legendre quadrature over the square root of the probability: it has many nodes where the ratio is unbounded.
    """
    from scipy.special import chdtri

    nodes, weights = np.polynomial.legendre.leggauss(points)
    root = (nodes + 1.0) / 2.0
    return df / chdtri(df, 1.0 - root**2), weights * root


def _error_ratio(differences: PairwiseDifferences, index: Integers) -> _ErrorRatio:
    """Of the pairs at `index`, all of which have a positive variance."""
    estimated = np.sqrt(differences.variance[index])[:, None]
    if not differences.seeds_df.any():
        ratio, weight = _chi_square_ratios(differences.documents_df, 32)
        return _ErrorRatio(np.sqrt(differences.documents[index, None] * ratio) / estimated, weight)
    points = 3 if differences.documents_df > 200 else 6 if differences.documents_df > 30 else 16
    ratio, weight = _chi_square_ratios(differences.documents_df, points)
    per_df = {df: _chi_square_ratios(df, 32) for df in set(differences.seeds_df[index].tolist()) if df > 0}
    seed_weight = _chi_square_ratios(1.0, 32)[1]
    none = np.zeros(32)
    seed_ratio = np.stack([per_df[df][0] if df > 0 else none for df in differences.seeds_df[index].tolist()])
    seeds = np.maximum(differences.seeds[index, None] * seed_ratio - differences.residual[index, None], 0.0)
    total = (differences.documents[index, None] * ratio)[:, :, None] + seeds[:, None, :]
    return _ErrorRatio(np.sqrt(total.reshape(len(index), -1)) / estimated, np.outer(weight, seed_weight).ravel())


def _critical_values(maxima: Floats | None, error: _ErrorRatio, level: float, *, two_sided: bool) -> Floats:
    """(P,) values c with P(largest contrast x error ratio <= c) = level, found by bisection.

    `maxima` None: a single contrast, computed without sampling.
    """
    from scipy.special import ndtr

    inverse = 1.0 / np.maximum(error.ratio, 1e-300)

    def probability_below(value: Floats) -> Floats:
        scaled = value[:, None] * inverse
        if maxima is not None:
            conditional = maxima.searchsorted(scaled, side="right") / len(maxima)
        else:
            conditional = 2.0 * ndtr(scaled) - 1.0 if two_sided else ndtr(scaled)
        probability: Floats = conditional @ error.weight
        return probability

    low = np.zeros(len(error.ratio))
    high = np.full(len(error.ratio), 4.0)
    for _ in range(20):
        short = probability_below(high) < level
        if not np.any(short):
            break
        high = np.where(short, 2.0 * high, high)
    for _ in range(26):
        middle = (low + high) / 2.0
        enough = probability_below(middle) >= level
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high
