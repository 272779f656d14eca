"""Variance of paired differences: tables computed by hand, known tests as special cases, invariances, pooling."""

import numpy as np
import pytest
from scipy import stats

from tuneoff.stats.multiple_comparisons import simultaneous_half_widths, single_half_widths
from tuneoff.stats.variance_components import estimate_means, group_contributions, pairwise_differences


def random_table(methods: int, seeds: int, groups: int, seed: int = 0, seed_sd: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(methods, 1, groups))
        + seed_sd * rng.normal(size=(methods, seeds, 1))
        + rng.normal(size=(methods, seeds, groups))
    )


def test_mean_squares_of_a_small_table_by_hand() -> None:
    # d = first - second: seed 0 gives 1, 2, 3; seed 1 gives 3, 2, 7. Means: groups 2, 2, 5; seeds 2, 4; all 3.
    table = np.zeros((2, 2, 3))
    table[0] = [[1, 2, 3], [3, 2, 7]]
    found = pairwise_differences(estimate_means(table, np.array([True, True])))
    assert found.estimate == pytest.approx([3.0])
    # MS(groups) = 2 * (1 + 1 + 4) / 2 = 6, MS(seeds) = 3 * (1 + 1) / 1 = 6; the residuals are +-(0, 1, 1):
    # MS(residual) = 4 / 2 = 2. Variance of the mean: (6 + 6 - 2) / (2 * 3).
    assert found.variance == pytest.approx([10 / 6])
    # Satterthwaite: 10^2 / (6^2 / 2 + 6^2 / 1 + 2^2 / 2).
    assert found.df == pytest.approx([100 / (18 + 36 + 2)])


def test_one_seed_and_two_methods_is_the_paired_t_test() -> None:
    table = random_table(2, 1, 12)
    found = pairwise_differences(estimate_means(table, np.array([True, True])))
    expected = stats.ttest_rel(table[0, 0], table[1, 0]).confidence_interval(0.95)
    for width in (simultaneous_half_widths(found), single_half_widths(found)):
        assert found.estimate - width == pytest.approx([expected.low], abs=1e-3)
        assert found.estimate + width == pytest.approx([expected.high], abs=1e-3)
    assert found.df == pytest.approx([11.0])


def test_two_methods_without_document_noise_are_the_paired_t_test_over_seeds() -> None:
    by_seed = np.array([[1.0, 4.0, 2.0], [0.5, 1.0, 2.5]])
    table = np.repeat(by_seed[:, :, None], 20, axis=2)
    found = pairwise_differences(estimate_means(table, np.array([True, True])))
    expected = stats.ttest_rel(by_seed[0], by_seed[1]).confidence_interval(0.95)
    assert found.estimate + simultaneous_half_widths(found) == pytest.approx([expected.high], rel=2e-3)


def test_seed_variance_is_pooled_and_never_below_a_pairs_own() -> None:
    table = random_table(4, 3, 50, seed=3)
    varies = np.array([False, True, True, True])
    table[0] = table[0, :1]
    found = pairwise_differences(estimate_means(table, varies))
    by_seed = table.mean(axis=2)
    own = {(i, j): np.var(by_seed[i] - by_seed[j], ddof=1) / 3 for i, j in zip(found.first, found.second, strict=True)}
    between = np.mean([value for (i, _), value in own.items() if i > 0])
    against_fixed = np.mean([value for (i, _), value in own.items() if i == 0])
    for index, (pair, value) in enumerate(own.items()):
        pooled = against_fixed if pair[0] == 0 else between
        assert found.seeds[index] == pytest.approx(max(value, pooled))
    # Two of three varying methods: interaction, (3 - 1)(3 - 1); one of them against the fixed one: 3 (3 - 1).
    assert found.seeds_df.tolist() == [6, 6, 6, 4, 4, 4]


def test_fixed_methods_have_no_seed_part() -> None:
    table = np.repeat(random_table(2, 1, 30), 4, axis=1)
    found = pairwise_differences(estimate_means(table, np.array([False, False])))
    expected = stats.ttest_rel(table[0, 0], table[1, 0]).confidence_interval(0.95)
    assert found.estimate + simultaneous_half_widths(found) == pytest.approx([expected.high], abs=1e-3)


def test_pooling_does_not_hide_an_erratic_method() -> None:
    table = random_table(4, 3, 100, seed=5, seed_sd=0.0)
    table[3] += np.array([-6.0, 0.0, 6.0])[:, None]
    found = pairwise_differences(estimate_means(table, np.ones(4, dtype=bool)))
    erratic = (found.first == 3) | (found.second == 3)
    assert found.variance[erratic].min() > 10
    assert found.variance[~erratic].max() < found.variance[erratic].min()


def test_effects_that_all_methods_share_and_permutations_change_nothing() -> None:
    rng = np.random.default_rng(7)
    table = random_table(3, 3, 25, seed=8)
    varies = np.ones(3, dtype=bool)
    base = pairwise_differences(estimate_means(table, varies))
    hardness = rng.normal(size=25) * 30 + 40
    luck = rng.normal(size=(3, 1))
    for other in (table + hardness, table + luck, table[:, :, rng.permutation(25)], table[:, [2, 0, 1]]):
        moved = pairwise_differences(estimate_means(other, varies))
        assert moved.estimate == pytest.approx(base.estimate)
        assert moved.variance == pytest.approx(base.variance)
        assert simultaneous_half_widths(moved) == pytest.approx(simultaneous_half_widths(base), rel=1e-6)


def test_permuted_methods_get_the_same_intervals() -> None:
    table = random_table(4, 3, 30, seed=9)
    order = [2, 0, 3, 1]
    varies = np.array([True, True, True, False])
    table[3] = table[3, :1]
    widths: dict[frozenset[int], float] = {}
    moved: dict[frozenset[int], float] = {}
    for store, rows, flags, names in (
        (widths, table, varies, [0, 1, 2, 3]),
        (moved, table[order], varies[order], order),
    ):
        found = pairwise_differences(estimate_means(rows, flags))
        for i, j, width in zip(found.first, found.second, simultaneous_half_widths(found), strict=True):
            store[frozenset((names[i], names[j]))] = width
    assert widths.keys() == moved.keys()
    for pair, width in widths.items():
        # Only the fixed draws behind the critical value differ.
        assert moved[pair] == pytest.approx(width, rel=0.01)


def test_group_contributions_by_hand() -> None:
    scores = np.array([[[1.0, 3.0, 8.0, 4.0, 4.0]]])
    table = group_contributions(scores, np.array([0, 0, 1, 2, 2]))
    assert table.shape == (1, 1, 3)
    assert table.mean() == pytest.approx(scores.mean())
    # Group 0: two documents with a mean 2 under the overall mean 4: 4 + 3/5 * (1 - 4 + 3 - 4).
    assert table[0, 0] == pytest.approx([4 - 2.4, 4 + 2.4, 4.0])


def test_documents_of_one_group_do_not_count_as_independent() -> None:
    alone = random_table(2, 1, 20, seed=4)
    tripled = np.repeat(alone, 3, axis=2)
    varies = np.ones(2, dtype=bool)
    grouped = pairwise_differences(estimate_means(group_contributions(tripled, np.repeat(np.arange(20), 3)), varies))
    assert grouped.variance == pytest.approx(pairwise_differences(estimate_means(alone, varies)).variance)
    assert pairwise_differences(estimate_means(tripled, varies)).variance < 0.4 * grouped.variance


def test_studies_in_one_array_equal_studies_one_by_one() -> None:
    tables = np.stack([random_table(3, 3, 15, seed=seed) for seed in range(4)])
    varies = np.array([True, True, True])
    together = pairwise_differences(estimate_means(tables, varies))
    for index, table in enumerate(tables):
        single = pairwise_differences(estimate_means(table, varies))
        assert together.study(index).variance == pytest.approx(single.variance)
        assert together.study(index).covariance == pytest.approx(single.covariance)


def test_one_group_is_rejected() -> None:
    with pytest.raises(ValueError, match="two document groups"):
        estimate_means(np.zeros((2, 1, 1)), np.array([True, True]))


def test_one_trained_method_against_a_fixed_one_is_the_t_test_over_seeds() -> None:
    table = np.zeros((2, 3, 40))
    table[1] += np.array([1.0, 2.0, 4.5])[:, None]
    found = pairwise_differences(estimate_means(table, np.array([False, True])))
    expected = stats.ttest_1samp([-1.0, -2.0, -4.5], 0).confidence_interval(0.95)
    assert found.estimate + simultaneous_half_widths(found) == pytest.approx([expected.high], rel=2e-3)
    assert found.seeds_df.tolist() == [2.0]


def test_the_variance_is_unbiased() -> None:
    """2,000 studies with known components: 1/G + 2 (0.25/S + 1/(S G)) for a difference of two methods."""
    rng = np.random.default_rng(12)
    n_groups, n_seeds = 20, 4
    table = (
        rng.normal(size=(2000, 2, 1, n_groups)) * np.sqrt(0.5)
        + 0.5 * rng.normal(size=(2000, 2, n_seeds, 1))
        + rng.normal(size=(2000, 2, n_seeds, n_groups))
    )
    found = pairwise_differences(estimate_means(table, np.array([True, True])))
    truth = 1 / n_groups + 2 * (0.25 / n_seeds + 1 / (n_seeds * n_groups))
    assert found.estimate.var() == pytest.approx(truth, rel=0.1)
    assert (found.documents + found.seeds - found.residual).mean() == pytest.approx(truth, rel=0.05)
