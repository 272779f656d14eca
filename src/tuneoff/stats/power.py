"""What a study of a given size can see, computed when it is planned and again from what it found."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from tuneoff.stats.multiple_comparisons import LEVEL, half_widths, one_sided_widths
from tuneoff.stats.variance_components import Booleans, Differences, Floats, Moments, differences

POWER = 0.80
_DRAWS = 2000
_SEED = 20240229


@dataclass(frozen=True)
class Components:
    """Spread of scores in points squared, for M methods.

    `documents` (M, M): covariance between methods of a document group's mean score. `seeds` (M,): variance of a
    method's mean score between trainings. `residual` (M, M): covariance of what one training does to one group beyond
    both.
    """

    documents: Floats
    seeds: Floats
    residual: Floats

    @classmethod
    def typical(cls, varies: Booleans, document_sd: float = 9.2, seed_sd: float = 0.6) -> "Components":
        """What to expect before anything was run. On 618 SciTLDR abstracts the paired standard error of a ROUGE-1
        difference was 0.47-0.58, thus about 13 points a document. Half of that variance is taken to be the document's
        and half that of the single training; 0.6 points is a middling spread between seeds of a small model.

        `document_sd`: standard deviation over documents of a difference of two methods, points, training aside.
        """
        identity = np.eye(len(varies))
        each = document_sd**2 / 2.0
        seeds = np.where(varies, seed_sd**2, 0.0)
        return cls(identity * each, seeds, np.diag(np.where(varies, each, 0.0)))


@dataclass(frozen=True)
class Sensitivity:
    """What a study can see, in points. One number per pair (P,), in the order of `crossed.pairs`.

    `detectable`: the smallest true difference that is shown with 80 % probability. `margin`: the smallest margin for
    which a method that equals the best is shown, with 80 % probability, not to be worse than it by more.
    """

    detectable: Floats
    margin: Floats

    @property
    def smallest_difference(self) -> float:
        """Any two methods that differ by this much are told apart with 80 % probability. NaN without a pair."""
        return float(self.detectable.max()) if len(self.detectable) else math.nan

    @property
    def smallest_margin(self) -> float:
        """The margin that can be settled for every pair. NaN without a pair."""
        return float(self.margin.max()) if len(self.margin) else math.nan


def expected(components: Components, varies: Booleans, n_groups: int, n_seeds: int) -> Differences:
    """The differences, all zero, as a study of this size estimates their errors on average."""
    if n_groups < 2 or n_seeds < 1:
        raise ValueError("a plan needs at least two document groups and one seed")
    n_methods = len(varies)
    residual = components.residual / (n_seeds * n_groups)
    documents = components.documents / n_groups + residual
    mean = np.zeros(n_methods)
    if n_seeds == 1:
        return differences(Moments(mean, documents, None, None, varies, n_groups, n_seeds))
    # The larger of two estimates lies above both on average, so the seed part is averaged over drawn seed means.
    values, vectors = np.linalg.eigh(np.diag(components.seeds) + components.residual / n_groups)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    drawn = root @ np.random.default_rng(_SEED).standard_normal((_DRAWS, n_methods, n_seeds))
    drawn -= drawn.mean(axis=-1, keepdims=True)
    seeds = drawn @ np.swapaxes(drawn, -1, -2) / ((n_seeds - 1) * n_seeds)

    def of(seeds: Floats) -> Differences:
        shape = seeds.shape[:-2]
        return differences(
            Moments(
                np.broadcast_to(mean, (*shape, n_methods)),
                np.broadcast_to(documents, seeds.shape),
                seeds,
                np.broadcast_to(residual, seeds.shape),
                varies,
                n_groups,
                n_seeds,
            )
        )

    return replace(of(seeds.mean(axis=0)), seeds=of(seeds).seeds.mean(axis=0))


def sensitivity(found: Differences, level: float = LEVEL, power: float = POWER) -> Sensitivity:
    """The smallest differences and margins that errors like these allow.

    A difference is shown when its estimate exceeds the half-width of its interval, and an estimate lies above
    (truth - z standard errors) with probability `power`, so the sum of the two is needed (Cohen 1988, Statistical Power
    Analysis, chapter 2, with the simultaneous critical value in place of the single one).
    """
    slack = float(ndtri(power)) * np.sqrt(found.variance)
    margin = np.zeros(len(found.first))
    for control in range(int(found.second.max()) + 1 if len(found.second) else 0):
        others, widths = one_sided_widths(found, control, level)
        for other, width in zip(others.tolist(), widths.tolist(), strict=True):
            pair = (found.first == min(control, other)) & (found.second == max(control, other))
            margin = np.where(pair, np.maximum(margin, width), margin)
    return Sensitivity(half_widths(found, level) + slack, margin + slack)


def plan(varies: Booleans, n_groups: int, n_seeds: int, components: Components | None = None) -> Sensitivity:
    """What a planned study can see. `varies` (M,) is False for methods without seeds, such as a zero-shot prompt."""
    spread = Components.typical(varies) if components is None else components
    return sensitivity(expected(spread, varies, n_groups, n_seeds))
