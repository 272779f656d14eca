"""Critical values against known distributions, and bounds on the regret against the best method."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tuneoff.stats.multiple_comparisons import (
    bound_widths,
    compare_bounds,
    compare_with_best,
    one_sided_p_values,
    one_sided_widths,
    rejected_by_holm,
    simultaneous_half_widths,
    single_half_widths,
)
from tuneoff.stats.variance_components import PairwiseDifferences, pair_indices


def independent(methods: int, df: int, variance: float = 1.0) -> PairwiseDifferences:
    """Pairs of methods with independent means of one variance that is known with `df` degrees of freedom."""
    first, second = pair_indices(methods)
    none = np.zeros(len(first))
    return PairwiseDifferences(
        first, second, none, none + 2 * variance, none, none, df, none, np.eye(methods) * variance, n_seeds=1
    )


@pytest.mark.parametrize(("methods", "df"), [(3, 10), (4, 30), (6, 200)])
def test_equal_errors_give_the_studentized_range_of_tukey(methods: int, df: int) -> None:
    expected = stats.studentized_range.ppf(0.95, methods, df)
    assert simultaneous_half_widths(independent(methods, df)) == pytest.approx(
        np.full(methods * (methods - 1) // 2, expected), rel=0.01
    )


def test_contrasts_in_blocks_have_the_same_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    found = independent(6, 20)
    expected = simultaneous_half_widths(found)
    monkeypatch.setattr("tuneoff.stats.multiple_comparisons._CONTRASTS_AT_ONCE", 4)
    assert simultaneous_half_widths(found).tolist() == pytest.approx(expected.tolist(), rel=1e-12)


def test_comparisons_with_a_control_are_those_of_dunnett() -> None:
    others, widths = one_sided_widths(independent(4, 20), control=1)
    assert sorted(others.tolist()) == [0, 2, 3]
    # Table of one-sided Dunnett critical values (Dunnett 1955): 3 comparisons, 20 degrees of freedom, 5 %: 2.19.
    assert widths == pytest.approx(np.full(3, 2.19 * np.sqrt(2)), rel=0.01)


def test_family_is_wider_than_a_single_pair_and_narrower_than_bonferroni() -> None:
    found = independent(5, 40)
    family, single = simultaneous_half_widths(found), single_half_widths(found)
    assert single == pytest.approx(np.full(10, stats.t.ppf(0.975, 40) * np.sqrt(2)), rel=1e-3)
    assert (single < family).all()
    assert (family < stats.t.ppf(1 - 0.025 / 10, 40) * np.sqrt(2)).all()


def test_few_seeds_widen_an_interval() -> None:
    first, second = pair_indices(2)
    one = np.ones(1)

    def width(seeds_df: float) -> float:
        differences = PairwiseDifferences(first, second, 0 * one, one, one, 0 * one, 600, seeds_df * one, np.eye(2), 3)
        return float(simultaneous_half_widths(differences)[0])

    normal = stats.norm.ppf(0.975) * np.sqrt(2)
    assert width(10_000) == pytest.approx(normal, rel=0.01)
    assert normal < width(8) < width(2)


def test_identical_methods_have_an_interval_of_zero_width() -> None:
    found = independent(2, 10, variance=0.0)
    assert simultaneous_half_widths(found).tolist() == [0.0]
    assert compare_with_best(found, np.array([3.0, 3.0])).regret.tolist() == [0.0, 0.0]


def test_regret_of_clear_winners_and_of_ties() -> None:
    found = independent(3, 100, variance=0.01)
    clear = compare_with_best(found, np.array([10.0, 5.0, 5.0])).regret
    assert clear[0] == 0
    assert 5 < clear[1] < 5.5
    tie = compare_with_best(found, np.array([10.0, 10.0, 5.0])).regret
    assert 0 < tie[0] < 0.5
    assert tie[0] == pytest.approx(tie[1], rel=0.02)
    assert 5 < tie[2] < 5.5


def test_regret_ignores_methods_that_cannot_be_the_best() -> None:
    # The erratic third method is far below the others, so its large error must not widen their bounds.
    first, second = pair_indices(3)
    variance = np.diag([0.01, 0.01, 4.0])
    parts = np.array([0.02, 4.01, 4.01])
    none = np.zeros(3)
    found = PairwiseDifferences(first, second, none, parts, none, none, 500, none, variance, 1)
    assert compare_with_best(found, np.array([30.0, 29.9, 10.0])).regret[1] < 0.5
    assert compare_with_best(found, np.array([30.0, 29.9, 29.0])).regret[1] > 2


def test_a_higher_level_is_wider() -> None:
    found = independent(3, 50)
    assert (simultaneous_half_widths(found, 0.99) > simultaneous_half_widths(found, 0.95)).all()


def test_one_pair_needs_no_correction() -> None:
    found = independent(2, 15)
    assert simultaneous_half_widths(found) == pytest.approx(single_half_widths(found))


def test_widths_scale_with_the_error() -> None:
    assert simultaneous_half_widths(independent(4, 30, variance=9.0)) == pytest.approx(
        3.0 * simultaneous_half_widths(independent(4, 30))
    )


def test_a_common_error_of_all_methods_cancels() -> None:
    found = independent(4, 30)
    shared = replace(found, covariance=found.covariance + 100.0)
    assert simultaneous_half_widths(shared) == pytest.approx(simultaneous_half_widths(found), rel=1e-6)


def test_regret_bounds_cover_the_truth() -> None:
    """95 % of 400 experiments, judged by the 99.9 % binomial band."""
    rng = np.random.default_rng(2)
    truth = np.array([10.0, 9.8, 9.0])
    found = independent(3, 100_000, variance=0.04)
    studies = [compare_with_best(found, truth + rng.normal(0, 0.2, 3)) for _ in range(400)]
    covered = sum(bool((study.regret >= truth.max() - truth).all()) for study in studies)
    assert covered >= stats.binom.ppf(0.0005, 400, 0.95)
    assert sum(bool(study.candidates[0]) for study in studies) >= stats.binom.ppf(0.0005, 400, 0.95)


def test_no_interval_of_a_pair_excludes_a_method_that_may_be_the_best() -> None:
    rng = np.random.default_rng(4)
    found = independent(5, 12, variance=0.25)
    fewer = 0
    for _ in range(200):
        mean = rng.normal(0, 1, 5)
        leads = mean[found.first] - mean[found.second]
        shown = np.abs(leads) > simultaneous_half_widths(found)
        beaten = set(np.where(leads > 0, found.second, found.first)[shown].tolist())
        candidates = set(np.flatnonzero(compare_with_best(found, mean).candidates).tolist())
        assert not candidates & beaten
        fewer += len(candidates) < 5 - len(beaten)
    assert fewer > 20


def test_bounds_are_those_against_each_control() -> None:
    found = independent(3, 12, variance=0.25)
    widths = bound_widths(found)
    assert np.diag(widths).tolist() == [0.0] * 3
    for control in range(3):
        others, expected = one_sided_widths(found, control)
        assert widths[control, others] == pytest.approx(expected)
    mean = np.array([3.0, 2.5, 0.0])
    compared = compare_with_best(found, mean)
    again = compare_bounds(mean[:, None] - mean + widths)
    assert again.candidates.tolist() == compared.candidates.tolist()
    assert again.regret == pytest.approx(compared.regret)


def test_one_sided_p_values_are_those_of_the_t_test() -> None:
    found = replace(independent(2, 15, variance=0.5), estimate=np.array([2.0]))
    assert one_sided_p_values(found, 0.0) == pytest.approx([stats.t.sf(2.0, 15)], rel=1e-3)
    assert one_sided_p_values(found, -0.5) == pytest.approx([stats.t.sf(2.5, 15)], rel=1e-3)
    certain = independent(2, 15, variance=0.0)
    assert one_sided_p_values(certain, 0.0).tolist() == [0.5]
    assert one_sided_p_values(certain, 0.5).tolist() == [1.0]
    assert one_sided_p_values(certain, -0.5).tolist() == [0.0]


def test_few_seeds_raise_the_p_value() -> None:
    """It agrees with the interval of the pair: p is 2.5 % at its end."""
    first, second = pair_indices(2)
    one = np.ones(1)
    found = PairwiseDifferences(first, second, 0 * one, one, one, 0 * one, 600, 2 * one, np.eye(2), 3)
    at_the_end = replace(found, estimate=single_half_widths(found))
    assert one_sided_p_values(at_the_end, 0.0) == pytest.approx([0.025], rel=1e-3)


def test_holm_rejects_step_by_step() -> None:
    # Holm 1979: the smallest against 5 %/3, the next against 5 %/2, the last against 5 %.
    assert rejected_by_holm([0.04, 0.016, 0.024]) == [True, True, True]
    assert rejected_by_holm([0.04, 0.016, 0.026]) == [False, True, False]
    assert rejected_by_holm([0.001, 0.017]) == [True, True]
    assert rejected_by_holm([0.03, 0.04]) == [False, False]
    assert rejected_by_holm([]) == []
