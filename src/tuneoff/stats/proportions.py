"""Intervals for one proportion."""

import math

from tuneoff.stats.multiple_comparisons import LEVEL


def wilson_interval(share: float, count: float, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of the proportion `share` (0..1) of `count` independent cases (Wilson 1927).

    It is never empty: the share of one case, 0 or 1, has an interval of four fifths of the range.
    """
    from scipy.special import ndtri

    z = float(ndtri((1 + level) / 2))
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)
