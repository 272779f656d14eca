"""Differences between methods when both test documents and training seeds are samples.

Every method generates a text for every document with every seed. Documents and seeds are therefore crossed factors.
All methods share both, so differences are paired. For the difference of two methods, document group g and seed s:

    d[s, g] = difference + group[g] + seed[s] + residual[s, g]

With G groups and S seeds the mean of d has the variance V(group)/G + V(seed)/S + V(residual)/(S G). It is estimated
from mean squares (two-way random effects: Searle, Casella, McCulloch 1992, Variance Components, chapter 4). Degrees of
freedom: Satterthwaite 1946, An approximate distribution of estimates of variance components.

Shapes: M methods, S seeds, N documents, G groups, P pairs of methods. A leading `...` holds independent studies.
Scores are in points, variances in points squared.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class MeanEstimates:
    """Mean score of every method, and the parts of the covariance of these means.

    The covariance is `documents` + `seeds` - `residual`, because the first two each contain the residual part once.
    With one seed `seeds` and `residual` are None: the variance between seeds is unknown.
    """

    mean: Floats  # (..., M)
    documents: Floats  # (..., M, M) from sampling groups, residual included
    seeds: Floats | None  # (..., M, M) from sampling seeds, residual included
    residual: Floats | None  # (..., M, M)
    varies: Booleans  # (M,) False for a method whose texts do not depend on the seed
    n_groups: int
    n_seeds: int


@dataclass(frozen=True)
class PairwiseDifferences:
    """Estimated differences `first[p]` - `second[p]` of all pairs of methods, and the parts of their variance."""

    first: Integers  # (P,) method index
    second: Integers  # (P,) method index, above `first`
    estimate: Floats  # (..., P)
    documents: Floats  # (..., P) as in `MeanEstimates`
    seeds: Floats  # (..., P) pooled over pairs, or the pair's own where that is larger
    residual: Floats  # (..., P)
    documents_df: int
    seeds_df: Floats  # (P,) degrees of freedom of `seeds`; 0: the pair has no seed part
    covariance: Floats  # (..., M, M) of the method means; used only for the correlation between pairs
    n_seeds: int

    @property
    def variance(self) -> Floats:
        """(..., P) squared standard errors. A negative estimate of the seed part counts as zero."""
        total: Floats = self.documents + np.maximum(self.seeds - self.residual, 0.0)
        return total

    @property
    def df(self) -> Floats:
        """(..., P) Satterthwaite degrees of freedom of `variance`."""
        counted = (self.seeds > self.residual) & (self.seeds_df > 0)
        parts = self.documents**2 / self.documents_df
        seeds_df = np.maximum(self.seeds_df, 1.0)
        residual_df = max(1, (self.n_seeds - 1) * self.documents_df)
        parts = parts + np.where(counted, self.seeds**2 / seeds_df + self.residual**2 / residual_df, 0.0)
        return np.divide(self.variance**2, parts, out=np.full_like(parts, float(self.documents_df)), where=parts > 0)

    def study(self, index: int) -> "PairwiseDifferences":
        """The differences of one study, by its index in the leading axis."""
        return PairwiseDifferences(
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


def pair_indices(n_methods: int) -> tuple[Integers, Integers]:
    """(P,) and (P,) method indices of all pairs i < j, in lexicographic order."""
    first, second = np.triu_indices(n_methods, 1)
    return first.astype(np.intp), second.astype(np.intp)


def contrast_variance(covariance: Floats, first: Integers, second: Integers) -> Floats:
    """(..., P) variance of `first - second` from a covariance matrix (..., M, M); never negative."""
    variance = covariance[..., first, first] + covariance[..., second, second] - 2.0 * covariance[..., first, second]
    # Two equal columns cancel to a rounding error, which must not count as variance.
    floor = 1e-12 * (covariance[..., first, first] + covariance[..., second, second])
    return np.where(variance > floor, variance, 0.0)


def group_contributions(scores: Floats, group_of: Integers) -> Floats:
    """Turn document scores (..., M, S, N) into G equally weighted group contributions (..., M, S, G).

    The contributions have the same mean as the documents, whatever the group sizes. Their variance is that of the ratio
    of group sums to group sizes (linearised; Cochran 1977, Sampling Techniques, section 9A.2). Documents of one group
    therefore never count as independent. `group_of` (N,) holds group indices from 0 to G - 1.
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


def estimate_means(table: Floats, varies: Booleans) -> MeanEstimates:
    """Means and their variance parts from group contributions (..., M, S, G).

    A method with `varies` False must have the same scores for every seed. Raises `ValueError` for fewer than two
    groups.
    """
    *_, n_seeds, n_groups = table.shape
    if n_groups < 2:
        raise ValueError("at least two document groups are needed")
    by_group = table.mean(axis=-2)
    by_seed = table.mean(axis=-1)
    mean = by_seed.mean(axis=-1)
    documents = _cross_products(by_group - mean[..., None]) / ((n_groups - 1) * n_groups)
    if n_seeds == 1:
        return MeanEstimates(mean, documents, None, None, varies, n_groups, n_seeds)
    seeds = _cross_products(by_seed - mean[..., None]) / ((n_seeds - 1) * n_seeds)
    rest = table - by_group[..., None, :] - by_seed[..., None] + mean[..., None, None]
    rest = rest.reshape(*rest.shape[:-2], n_seeds * n_groups)
    residual = _cross_products(rest) / ((n_seeds - 1) * (n_groups - 1) * n_seeds * n_groups)
    return MeanEstimates(mean, documents, seeds, residual, varies, n_groups, n_seeds)


def _cross_products(deviations: Floats) -> Floats:
    """(..., M, M) sums of squares and products of deviations (..., M, K)."""
    products: Floats = deviations @ np.swapaxes(deviations, -1, -2)
    return products


def pairwise_differences(means: MeanEstimates, *, paired_seeds: bool = True) -> PairwiseDifferences:
    """All pairwise differences. The seed part is pooled, or the pair's own where that is larger.

    A pair has only S - 1 degrees of freedom for its own seed variance, which is far too few at three seeds. Therefore
    it is pooled over the T methods that vary. Pooling alone would understate the error of a method that is far more
    erratic than the others; the larger of the two estimates does not.

    Args:
        means: the means to compare.
        paired_seeds: whether a seed has an effect that all methods share, which cancels in a pair of methods that vary.
            The pooled variance of such a pair then has (T - 1)(S - 1) degrees of freedom (the method x seed
            interaction). Without such an effect the seeds of methods are independent, which gives T(S - 1).
    """
    first, second = pair_indices(means.mean.shape[-1])
    estimate = means.mean[..., first] - means.mean[..., second]
    documents = contrast_variance(means.documents, first, second)
    none = np.zeros_like(documents)
    if means.seeds is None or means.residual is None or not means.varies.any():
        return PairwiseDifferences(
            first,
            second,
            estimate,
            documents,
            none,
            none,
            means.n_groups - 1,
            np.zeros(len(first)),
            means.documents,
            means.n_seeds,
        )
    both = means.varies[first] & means.varies[second]
    one = means.varies[first] ^ means.varies[second]
    seeds = means.seeds if paired_seeds else means.seeds * np.eye(means.mean.shape[-1])
    own = contrast_variance(seeds, first, second)
    residual = contrast_variance(means.residual, first, second)
    single = np.diagonal(seeds, axis1=-2, axis2=-1)[..., means.varies].mean(axis=-1, keepdims=True)
    double = own[..., both].mean(axis=-1, keepdims=True) if both.any() else 2.0 * single
    pooled = np.where(both, double, np.where(one, single, 0.0))
    n_varying = int(means.varies.sum())
    both_df = n_varying - 1 if paired_seeds else n_varying
    seeds_df = np.where(both, both_df, np.where(one, n_varying, 0)) * float(means.n_seeds - 1)
    return PairwiseDifferences(
        first,
        second,
        estimate,
        documents,
        np.maximum(own, pooled),
        residual,
        means.n_groups - 1,
        seeds_df,
        means.documents + _seed_covariance(means, single[..., 0], double[..., 0], both),
        means.n_seeds,
    )


def _seed_covariance(means: MeanEstimates, single: Floats, double: Floats, both: Booleans) -> Floats:
    """(..., M, M) seed part of the covariance of the means: one variance and one covariance for all varying methods."""
    assert means.residual is not None
    first, second = pair_indices(means.mean.shape[-1])
    diagonal = np.diagonal(means.residual, axis1=-2, axis2=-1)[..., means.varies].mean(axis=-1)
    variance = np.maximum(single - diagonal, 0.0)
    if both.any():
        between = contrast_variance(means.residual, first, second)[..., both].mean(axis=-1)
        shared = variance - np.maximum(double - between, 0.0) / 2.0
    else:
        shared = np.zeros_like(variance)
    # Within these bounds the matrix has no negative eigenvalue.
    shared = np.clip(shared, -variance / max(1, int(means.varies.sum()) - 1), variance)
    block = np.outer(means.varies, means.varies)
    identity = np.diag(means.varies)
    return np.where(identity, variance[..., None, None], np.where(block, shared[..., None, None], 0.0))
