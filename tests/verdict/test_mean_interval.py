"""The interval of one mean."""

import numpy as np

from tuneoff.stats.bootstrap import group_interval
from tuneoff.verdict.mean_interval import mean_interval


def test_it_is_the_bootstrap_interval_whatever_the_numbering() -> None:
    values, groups = np.random.default_rng(1).normal(size=60), np.repeat(np.arange(20), 3)
    assert mean_interval(values, groups) == group_interval(values, groups)
    assert mean_interval(values, 7 * groups + 3) == group_interval(values, groups)


def test_few_groups_and_equal_values_have_none() -> None:
    values = np.random.default_rng(1).normal(size=18)
    assert mean_interval(values, np.repeat(np.arange(9), 2)) is None
    assert mean_interval(np.ones(60), np.arange(60)) is None
