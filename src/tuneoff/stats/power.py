"""The smallest differences that a study of a given size can detect, before it runs and from its results.

Shapes: M methods, P pairs of methods. Scores are in points, variances in points squared.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from tuneoff.stats.multiple_comparisons import LEVEL, one_sided_widths, simultaneous_half_widths
from tuneoff.stats.variance_components import (
    Booleans,
    Floats,
    MeanEstimates,
    PairwiseDifferences,
    contrast_variance,
    pairwise_differences,
)

POWER = 0.80
# With fewer document groups no difference is reported: their spread is hardly known, and one document decides.
FEWEST_GROUPS = 10
_SEED_SHARE = 0.6 / 13.0
_RESAMPLES = 2000
_SEEDS_OF_A_GUESS = 3
_SEED = 20240229


@dataclass(frozen=True)
class VarianceComponents:
    """True variances of the scores of M methods."""

    documents: Floats  # (M, M) covariance between methods of a document group's mean score
    seeds: Floats  # (M,) variance of a method's mean score between trainings
    residual: Floats  # (M, M) covariance of the effect of one training on one group, beyond the other two

    @classmethod
    def typical(cls, varies: Booleans, paired_sd: float = 13.0, seed_sd: float | None = None) -> "VarianceComponents":
        """Assumptions for a study without results.

        On 618 SciTLDR abstracts the paired standard error of a ROUGE-1 difference was 0.47-0.58, thus about 13 points
        per document. Half of that variance is attributed to the document and half to the single training. The standard
        deviation between seeds of a small model was about 0.6 points of ROUGE-1, and in proportion for other ROUGEs.

        Args:
            varies: (M,) False for a method whose texts do not depend on the seed.
            paired_sd: standard deviation over documents of the difference of two single trainings, points.
            seed_sd: standard deviation of a method's mean score between seeds, points; None for a share of `paired_sd`.
        """
        identity = np.eye(len(varies))
        each = paired_sd**2 / 4.0  # of each of two methods, for the document and again for the training
        seeds = np.where(varies, (paired_sd * _SEED_SHARE if seed_sd is None else seed_sd) ** 2, 0.0)
        return cls(identity * each, seeds, np.diag(np.where(varies, each, 0.0)))


@dataclass(frozen=True)
class Sensitivity:
    """What a study can detect with 80 % power. Pairs are in the order of `variance_components.pair_indices`."""

    detectable: Floats  # (P,) smallest true difference whose interval excludes zero
    margin: Floats  # (P,) smallest margin at which a method equal to the best is shown to be within the margin

    @property
    def smallest_difference(self) -> float:
        """The smallest difference that is detected for every pair. NaN without a pair."""
        return float(self.detectable.max()) if len(self.detectable) else math.nan

    @property
    def smallest_margin(self) -> float:
        """The smallest margin that is sufficient for every pair. NaN without a pair."""
        return float(self.margin.max()) if len(self.margin) else math.nan


def expected_differences(
    components: VarianceComponents, varies: Booleans, n_groups: int, n_seeds: int
) -> PairwiseDifferences:
    """Differences of zero with the variance estimates that a study of this size obtains on average.

    As in the verdict, seeds of different methods are independent: `components` has no effect that they share.

    Raises `ValueError` for fewer than two groups or no seed.
    """
    if n_groups < 2 or n_seeds < 1:
        raise ValueError("a plan needs at least two document groups and one seed")
    n_methods = len(varies)
    residual = components.residual / (n_seeds * n_groups)
    documents = components.documents / n_groups + residual
    mean = np.zeros(n_methods)
    if n_seeds == 1:
        return pairwise_differences(MeanEstimates(mean, documents, None, None, varies, n_groups, n_seeds))
    # The larger of two estimates is on average above both, so the seed part is averaged over simulated seed means.
    values, vectors = np.linalg.eigh(np.diag(components.seeds) + components.residual / n_groups)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    drawn = root @ np.random.default_rng(_SEED).standard_normal((_RESAMPLES, n_methods, n_seeds))
    drawn -= drawn.mean(axis=-1, keepdims=True)
    seeds = drawn @ np.swapaxes(drawn, -1, -2) / ((n_seeds - 1) * n_seeds)

    def with_seeds(seeds: Floats) -> PairwiseDifferences:
        shape = seeds.shape[:-2]
        return pairwise_differences(
            MeanEstimates(
                np.broadcast_to(mean, (*shape, n_methods)),
                np.broadcast_to(documents, seeds.shape),
                seeds,
                np.broadcast_to(residual, seeds.shape),
                varies,
                n_groups,
                n_seeds,
            ),
            paired_seeds=False,
        )

    return replace(with_seeds(seeds.mean(axis=0)), seeds=with_seeds(seeds).seeds.mean(axis=0))


def sensitivity(differences: PairwiseDifferences, level: float = LEVEL, power: float = POWER) -> Sensitivity:
    """The smallest differences and margins that can be shown with standard errors like these.

    A difference is detected when its estimate exceeds the half-width of its interval. The estimate exceeds
    truth - z standard errors with probability `power`. The detectable difference is therefore the half-width plus
    z standard errors (Cohen 1988, Statistical Power Analysis, chapter 2, with the simultaneous critical value in place
    of the single one).
    """
    slack = _slack(differences, power)
    margin = np.zeros(len(differences.first))
    for control in range(int(differences.second.max()) + 1 if len(differences.second) else 0):
        others, widths = one_sided_widths(differences, control, level)
        for other, width in zip(others.tolist(), widths.tolist(), strict=True):
            pair = (differences.first == min(control, other)) & (differences.second == max(control, other))
            margin = np.where(pair, np.maximum(margin, width), margin)
    return Sensitivity(_detectable(differences, level, power), margin + slack)


@dataclass(frozen=True)
class Narrowing:
    """By which part (0 to 1) the standard errors of P pairs shrink when the study grows."""

    seeds: Floats  # (P,) with twice as many seeds on the same documents
    documents: Floats  # (P,) with twice as many documents and the same seeds


def narrowing_by_doubling(differences: PairwiseDifferences) -> Narrowing:
    """What is gained by twice as many seeds or documents. Zero for a pair without error.

    Twice as many seeds halve the part of the seeds and the residual, twice as many documents that of the documents and
    the residual.
    """
    variance = differences.variance
    seeds = np.maximum(differences.seeds - differences.residual, 0.0)
    residual = np.minimum(differences.residual, differences.documents)
    of_documents = differences.documents - residual

    def gain(left: Floats) -> Floats:
        part = np.divide(left, variance, out=np.ones_like(variance), where=variance > 0)
        return np.asarray(1.0 - np.sqrt(part))

    return Narrowing(gain(of_documents + (seeds + residual) / 2.0), gain(differences.documents / 2.0 + seeds))


def planned_sensitivity(
    varies: Booleans, n_groups: int, n_seeds: int, components: VarianceComponents | None = None
) -> Sensitivity:
    """What a study of this size will be able to detect. `components`: None assumes typical ones.

    `varies` (M,) is False for a method whose texts do not depend on the seed, such as a zero-shot prompt.
    """
    assumed = VarianceComponents.typical(varies) if components is None else components
    return sensitivity(expected_differences(assumed, varies, n_groups, n_seeds))


def planned_difference(
    varies: Booleans, n_groups: int, n_seeds: int, components: VarianceComponents | None = None
) -> float:
    """The smallest difference between methods for which every pair is detected, for a choice between study sizes.

    A study of one seed is about its training runs, so its intervals leave the seeds' variance out, and one seed would
    seem to detect more than three. Here the assumed variance between seeds is added, with the degrees of freedom of
    three seeds, because it is a guess. Infinite for fewer than two document groups. Of a single method it is the
    standard error of its mean.
    """
    assumed = VarianceComponents.typical(varies) if components is None else components
    if n_groups < 2:
        return math.inf
    if len(varies) < 2:
        of_documents = (assumed.documents + assumed.residual / n_seeds) / n_groups
        return float(np.sqrt(of_documents[0, 0] + assumed.seeds[0] / n_seeds))
    differences = expected_differences(assumed, varies, n_groups, n_seeds)
    if n_seeds == 1:
        first, second = differences.first, differences.second
        residual = contrast_variance(assumed.residual / n_groups, first, second)
        differences = replace(
            differences,
            seeds=assumed.seeds[first] + assumed.seeds[second] + residual,
            residual=residual,
            seeds_df=expected_differences(assumed, varies, n_groups, _SEEDS_OF_A_GUESS).seeds_df,
            covariance=differences.covariance + np.diag(assumed.seeds),
        )
    return float(_detectable(differences, LEVEL, POWER).max())


def _detectable(differences: PairwiseDifferences, level: float, power: float) -> Floats:
    """(P,) the true differences that are shown with probability `power`."""
    return simultaneous_half_widths(differences, level) + _slack(differences, power)


def _slack(differences: PairwiseDifferences, power: float) -> Floats:
    """(P,) how far an estimate falls below the truth with probability 1 - `power`, at most."""
    from scipy.special import ndtri

    slack: Floats = float(ndtri(power)) * np.sqrt(differences.variance)
    return slack
