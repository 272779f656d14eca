"""Differences between methods when test documents and training seeds are both samples.

Every method writes a text for every document with every seed, so documents and seeds are crossed factors, and both are
shared by the methods, so differences are paired. For the difference of two methods, document group g and seed s:

    d[s, g] = difference + group[g] + seed[s] + residual[s, g]

With G groups and S seeds the mean of d has the variance V(group)/G + V(seed)/S + V(residual)/(S G), estimated from mean
squares (two-way random effects: Searle, Casella, McCulloch 1992, Variance Components, chapter 4; degrees of freedom:
Satterthwaite 1946, An approximate distribution of estimates of variance components).

Shapes: M methods, S seeds, N documents, G groups, P pairs of methods; `...` are studies judged at once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class Moments:
    """Mean score of every method, and the three parts of the variance of those means. Points and points squared.

    `documents` (..., M, M) holds what sampling groups adds (with its share of the residual); `seeds` what sampling
    seeds adds (with the same share of the residual); `residual` that share. The variance of the means is documents +
    seeds - residual. With one seed the last two are None: nothing is known about other seeds.
    """

    mean: Floats  # (..., M)
    documents: Floats  # (..., M, M)
    seeds: Floats | None
    residual: Floats | None
    varies: Booleans  # (M,) False for a method that writes the same texts whatever the seed
    n_groups: int
    n_seeds: int


@dataclass(frozen=True)
class Differences:
    """All pairs `first[p] - second[p]` with what is known about the error of each.

    `documents`, `seeds` and `residual` (..., P) are the parts of the variance as in `Moments`, after pooling the seed
    part; `seeds_df` (P,) counts its degrees of freedom (0: the pair has no seed part). `covariance` (..., M, M) of the
    method means gives the correlation between pairs, not their variance.
    """

    first: Integers
    second: Integers
    estimate: Floats
    documents: Floats
    seeds: Floats
    residual: Floats
    documents_df: int
    seeds_df: Floats
    covariance: Floats
    n_seeds: int

    @property
    def variance(self) -> Floats:
        """(..., P) squared standard errors; a negative estimate of the seed part counts as none."""
        total: Floats = self.documents + np.maximum(self.seeds - self.residual, 0.0)
        return total

    @property
    def df(self) -> Floats:
        """(..., P) Satterthwaite's degrees of freedom of `variance`."""
        counted = (self.seeds > self.residual) & (self.seeds_df > 0)
        parts = self.documents**2 / self.documents_df
        seeds_df = np.maximum(self.seeds_df, 1.0)
        residual_df = max(1, (self.n_seeds - 1) * self.documents_df)
        parts = parts + np.where(counted, self.seeds**2 / seeds_df + self.residual**2 / residual_df, 0.0)
        return np.divide(self.variance**2, parts, out=np.full_like(parts, float(self.documents_df)), where=parts > 0)

    def study(self, index: int) -> "Differences":
        """One study out of many judged at once."""
        return Differences(
            self.first,
            self.second,
            self.estimate[index],
            self.documents[index],
            self.seeds[index],
            self.residual[index],
            self.documents_df,
            self.seeds_df,
            self.covariance[index],
            self.n_seeds,
        )


def pairs(n_methods: int) -> tuple[Integers, Integers]:
    """Indices of all pairs i < j."""
    first, second = np.triu_indices(n_methods, 1)
    return first.astype(np.intp), second.astype(np.intp)


def contrast_variance(covariance: Floats, first: Integers, second: Integers) -> Floats:
    """(..., P) variance of `first - second` from a covariance matrix (..., M, M); never below zero."""
    variance = covariance[..., first, first] + covariance[..., second, second] - 2.0 * covariance[..., first, second]
    # What cancellation leaves of two equal columns is rounding, not variance.
    floor = 1e-12 * (covariance[..., first, first] + covariance[..., second, second])
    return np.where(variance > floor, variance, 0.0)


def group_table(scores: Floats, group_of: Integers) -> Floats:
    """Scores (..., M, S, N) of single documents as G equally weighted group contributions (..., M, S, G).

    Their mean is the mean over documents whatever the sizes of the groups, and their scatter is that of the ratio of
    group sums to group sizes (linearised; Cochran 1977, Sampling Techniques, section 9A.2), so that several documents
    of one group never count as independent.
    """
    n_groups = int(group_of.max()) + 1
    if n_groups == scores.shape[-1]:
        return scores
    mean = scores.mean(axis=-1, keepdims=True)
    order = np.argsort(group_of, kind="stable")
    starts = np.searchsorted(group_of[order], np.arange(n_groups))
    sums = np.add.reduceat((scores - mean)[..., order], starts, axis=-1)
    table: Floats = mean + sums * (n_groups / scores.shape[-1])
    return table


def moments(table: Floats, varies: Booleans) -> Moments:
    """Means and variance parts of group contributions (..., M, S, G). Needs at least two groups.

    A method with `varies` False must carry the same numbers for every seed.
    """
    *_, n_seeds, n_groups = table.shape
    if n_groups < 2:
        raise ValueError("at least two document groups are needed")
    by_group = table.mean(axis=-2)
    by_seed = table.mean(axis=-1)
    mean = by_seed.mean(axis=-1)
    documents = _scatter(by_group - mean[..., None]) / ((n_groups - 1) * n_groups)
    if n_seeds == 1:
        return Moments(mean, documents, None, None, varies, n_groups, n_seeds)
    seeds = _scatter(by_seed - mean[..., None]) / ((n_seeds - 1) * n_seeds)
    rest = table - by_group[..., None, :] - by_seed[..., None] + mean[..., None, None]
    rest = rest.reshape(*rest.shape[:-2], n_seeds * n_groups)
    residual = _scatter(rest) / ((n_seeds - 1) * (n_groups - 1) * n_seeds * n_groups)
    return Moments(mean, documents, seeds, residual, varies, n_groups, n_seeds)


def _scatter(deviations: Floats) -> Floats:
    """Sums of squares and products (..., M, M) of deviations (..., M, K)."""
    products: Floats = deviations @ np.swapaxes(deviations, -1, -2)
    return products


def differences(found: Moments) -> Differences:
    """All pairwise differences; the seed part is the pooled one, or the pair's own where that is larger.

    A pair has only S - 1 degrees of freedom for its own seed variance, far too few at three seeds. Pooled over the T
    methods that vary, pairs of them have (T - 1)(S - 1) (the method x seed interaction: seeds are paired), and a method
    against one without seeds has T(S - 1). One method may be far more erratic than the others, and pooling alone would
    then claim too much for it; the larger of both never does.
    """
    first, second = pairs(found.mean.shape[-1])
    estimate = found.mean[..., first] - found.mean[..., second]
    documents = contrast_variance(found.documents, first, second)
    none = np.zeros_like(documents)
    if found.seeds is None or found.residual is None or not found.varies.any():
        return Differences(
            first,
            second,
            estimate,
            documents,
            none,
            none,
            found.n_groups - 1,
            np.zeros(len(first)),
            found.documents,
            found.n_seeds,
        )
    both = found.varies[first] & found.varies[second]
    one = found.varies[first] ^ found.varies[second]
    own = contrast_variance(found.seeds, first, second)
    residual = contrast_variance(found.residual, first, second)
    single = np.diagonal(found.seeds, axis1=-2, axis2=-1)[..., found.varies].mean(axis=-1, keepdims=True)
    double = own[..., both].mean(axis=-1, keepdims=True) if both.any() else 2.0 * single
    pooled = np.where(both, double, np.where(one, single, 0.0))
    n_varying = int(found.varies.sum())
    seeds_df = np.where(both, n_varying - 1, np.where(one, n_varying, 0)) * float(found.n_seeds - 1)
    return Differences(
        first,
        second,
        estimate,
        documents,
        np.maximum(own, pooled),
        residual,
        found.n_groups - 1,
        seeds_df,
        found.documents + _seed_covariance(found, single[..., 0], double[..., 0], both),
        found.n_seeds,
    )


def _seed_covariance(found: Moments, single: Floats, double: Floats, both: Booleans) -> Floats:
    """(..., M, M) seed part of the covariance of the means: one variance and one covariance for all varying methods."""
    assert found.residual is not None
    first, second = pairs(found.mean.shape[-1])
    diagonal = np.diagonal(found.residual, axis1=-2, axis2=-1)[..., found.varies].mean(axis=-1)
    variance = np.maximum(single - diagonal, 0.0)
    if both.any():
        between = contrast_variance(found.residual, first, second)[..., both].mean(axis=-1)
        shared = variance - np.maximum(double - between, 0.0) / 2.0
    else:
        shared = np.zeros_like(variance)
    # Bounds within which such a matrix has no negative eigenvalue.
    shared = np.clip(shared, -variance / max(1, int(found.varies.sum()) - 1), variance)
    block = np.outer(found.varies, found.varies)
    identity = np.diag(found.varies)
    return np.where(identity, variance[..., None, None], np.where(block, shared[..., None, None], 0.0))
