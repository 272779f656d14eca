"""Bootstrap over groups of documents and over training seeds (Efron 1979, Bootstrap Methods).

These intervals describe; no decision is based on them. Decisions use `tuneoff.stats.multiple_comparisons`.
"""

import numpy as np

from tuneoff.stats.variance_components import Floats, Integers

_RESAMPLES = 2000
_DRAWS_AT_ONCE = 1 << 20
# Fixed, so that the same scores always give the same interval.
_SEED = 20260101


def group_interval(values: Floats, group_of: Integers, level: float = 0.95) -> tuple[float, float] | None:
    """Percentile interval for the mean of `values` when whole groups are resampled.

    Args:
        values: (N,) one value per document.
        group_of: (N,) index of each document's group, from 0 to G - 1.
        level: coverage of the interval, in (0, 1).

    Returns:
        Lower and upper end, in the unit of `values`; None with fewer than two groups.
    """
    n_groups = int(group_of.max()) + 1 if len(group_of) else 0
    if n_groups < 2:
        return None
    sums = np.bincount(group_of, weights=values, minlength=n_groups)
    counts = np.bincount(group_of, minlength=n_groups).astype(float)
    rng = np.random.default_rng(_SEED)
    means = np.empty(_RESAMPLES)
    at_once = max(1, _DRAWS_AT_ONCE // n_groups)
    for start in range(0, _RESAMPLES, at_once):  # the same draws as all at once, in less memory
        part = means[start : start + at_once]
        drawn = rng.integers(n_groups, size=(len(part), n_groups))
        part[:] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resampled_means(table: Floats, resamples: int, seed: int) -> Floats:
    """(resamples, F) means of `table` (F, S, G) over resampled seeds and groups.

    A resample draws S seeds and G groups with replacement, the same ones for each of the F rows, so that the means of
    one resample belong together.
    """
    n_rows, n_seeds, n_groups = table.shape
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, n_rows))
    for index in range(resamples):
        chosen = table[:, rng.integers(n_seeds, size=n_seeds)][:, :, rng.integers(n_groups, size=n_groups)]
        means[index] = chosen.mean(axis=(1, 2))
    return means
