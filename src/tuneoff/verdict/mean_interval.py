"""The interval of one mean, as tables show it: it describes, and no decision is based on it."""

import numpy as np

from tuneoff.stats.bootstrap import group_interval
from tuneoff.stats.power import FEWEST_GROUPS
from tuneoff.stats.variance_components import Floats, Integers


def mean_interval(values: Floats, group_of: Integers) -> tuple[float, float] | None:
    """The bootstrap interval (95 %) over groups of the mean of `values` (N,); `group_of` (N,) is any numbering.

    None with few groups, or without any spread: it would be far too short.
    """
    groups = np.unique(group_of, return_inverse=True)[1]
    if len(np.unique(groups)) < FEWEST_GROUPS or np.ptp(values) == 0:
        return None
    return group_interval(values, groups)
