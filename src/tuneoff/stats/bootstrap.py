"""A percentile interval for the mean score of one method over documents (Efron 1979). No decision is drawn from it:
decisions come from the one simultaneous procedure of `verdict.decide`."""

from collections.abc import Mapping

import numpy as np

_RESAMPLES = 2000
_SEED = 20260101  # fixed: the same records give the same report


def group_interval(
    values: Mapping[str, float], groups: Mapping[str, str], level: float = 0.95
) -> tuple[float, float] | None:
    """Interval for the mean of `values` (document id -> score) when whole groups are drawn anew.

    An id without a group is its own group. None with fewer than two groups: nothing can be drawn then.
    """
    names = sorted({groups.get(key, key) for key in values})
    if len(names) < 2:
        return None
    place = {name: index for index, name in enumerate(names)}
    sums, counts = np.zeros(len(names)), np.zeros(len(names))
    for key, value in values.items():
        index = place[groups.get(key, key)]
        sums[index] += value
        counts[index] += 1
    drawn = np.random.default_rng(_SEED).integers(len(names), size=(_RESAMPLES, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
