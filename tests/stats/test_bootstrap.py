"""Bootstrap intervals: agreement with theory, whole groups, and invariances."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from tuneoff.stats.bootstrap import group_interval, resampled_means


def test_many_independent_documents_give_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(30.0, 10.0, 400)
    interval = group_interval(values, np.arange(400))
    assert interval is not None
    half = stats.norm.ppf(0.975) * values.std() / np.sqrt(400)
    assert interval == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15)


def test_equal_documents_of_one_group_count_once() -> None:
    values = np.random.default_rng(2).normal(size=50)
    once = group_interval(values, np.arange(50))
    tripled = group_interval(np.repeat(values, 3), np.repeat(np.arange(50), 3))
    assert tripled == pytest.approx(once)


def test_the_interval_is_about_documents_not_groups() -> None:
    values, group_of = np.array([0.0, 0.0, 0.0, 10.0]), np.array([0, 0, 0, 1])
    # Half of the resamples hold each group once: their mean is 2.5 over documents, 5 over groups.
    assert group_interval(values, group_of, level=0.4) == pytest.approx((2.5, 2.5))


def test_the_mean_of_a_constant_is_certain() -> None:
    assert group_interval(np.full(20, 7.0), np.arange(20)) == (7.0, 7.0)


def test_a_higher_level_is_wider() -> None:
    values = np.random.default_rng(3).normal(size=60)
    narrow, wide = (group_interval(values, np.arange(60), level) for level in (0.8, 0.99))
    assert narrow is not None
    assert wide is not None
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize("n_documents", [0, 1, 5])
def test_fewer_than_two_groups_have_no_interval(n_documents: int) -> None:
    assert group_interval(np.ones(n_documents), np.zeros(n_documents, dtype=np.intp)) is None


def test_the_same_values_give_the_same_interval() -> None:
    values = np.random.default_rng(4).normal(size=30)
    assert group_interval(values, np.arange(30)) == group_interval(values, np.arange(30))


def test_resampled_means_have_the_variance_of_crossed_samples() -> None:
    rng = np.random.default_rng(5)
    seeds, groups = rng.normal(size=(12, 1)), rng.normal(size=(1, 80))
    means = resampled_means((seeds + groups)[None], 4000, seed=1)
    assert means.shape == (4000, 1)
    assert means.mean() == pytest.approx((seeds + groups).mean(), abs=0.05)
    assert means.var() == pytest.approx(seeds.var() / 12 + groups.var() / 80, rel=0.1)


def test_rows_are_resampled_together() -> None:
    table = np.random.default_rng(6).normal(size=(1, 3, 40))
    means = resampled_means(np.concatenate([table, table + 2.0]), 50, seed=1)
    assert means[:, 1] - means[:, 0] == pytest.approx(np.full(50, 2.0))


def test_resamples_in_parts_are_those_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values, groups = np.random.default_rng(4).normal(size=90), np.repeat(np.arange(45), 2)
    whole = group_interval(values, groups)
    for draws in (1, 45 * 7, 45 * 1999):
        monkeypatch.setattr("tuneoff.stats.bootstrap._DRAWS_AT_ONCE", draws)
        assert group_interval(values, groups) == whole


def test_many_groups_need_little_memory() -> None:
    values = np.random.default_rng(5).normal(size=20_000)
    tracemalloc.start()
    try:
        assert group_interval(values, np.arange(20_000)) is not None
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
