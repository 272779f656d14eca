"""Detectable differences of a planned study: by hand, and how they depend on its size."""

import numpy as np
import pytest
from scipy import stats

from tuneoff.stats.power import (
    VarianceComponents,
    expected_differences,
    narrowing_by_doubling,
    planned_difference,
    planned_sensitivity,
)
from tuneoff.stats.variance_components import PairwiseDifferences, pair_indices

FOUR = np.array([False, True, True, True])


def test_two_methods_and_one_seed_by_hand() -> None:
    varies = np.array([True, True])
    components = VarianceComponents(np.eye(2) * 50.0, np.zeros(2), np.eye(2) * 30.0)
    found = planned_sensitivity(varies, 101, 1, components)
    error = np.sqrt(2 * 80.0 / 101)
    assert found.smallest_difference == pytest.approx((stats.t.ppf(0.975, 100) + 0.8416) * error, rel=1e-3)
    assert found.smallest_margin == pytest.approx((stats.t.ppf(0.95, 100) + 0.8416) * error, rel=1e-3)


def test_typical_components_reproduce_the_measured_error_of_618_documents() -> None:
    one_run = expected_differences(
        VarianceComponents.typical(np.array([True, True]), seed_sd=0.0), np.array([True, True]), 618, 1
    )
    assert 0.47 < float(np.sqrt(one_run.variance[0])) < 0.58


def test_the_spread_of_the_metric_scales_what_is_detected() -> None:
    half = planned_sensitivity(FOUR, 100, 3, VarianceComponents.typical(FOUR, 13.0 / 2)).smallest_difference
    assert half == pytest.approx(planned_sensitivity(FOUR, 100, 3).smallest_difference / 2)


def test_more_documents_or_seeds_detect_smaller_differences() -> None:
    base = planned_sensitivity(FOUR, 100, 3)
    assert planned_sensitivity(FOUR, 400, 3).smallest_difference < base.smallest_difference
    assert planned_sensitivity(FOUR, 100, 5).smallest_difference < base.smallest_difference
    assert base.smallest_margin < base.smallest_difference


def test_seed_variance_limits_the_gain_from_documents() -> None:
    many_documents = planned_sensitivity(FOUR, 1_000_000, 3, VarianceComponents.typical(FOUR, seed_sd=1.0))
    assert many_documents.smallest_difference > 2 * np.sqrt(2 / 3)


def test_an_erratic_method_needs_a_larger_difference() -> None:
    components = VarianceComponents(np.eye(3) * 50.0, np.array([0.01, 0.01, 4.0]), np.eye(3) * 20.0)
    calm, erratic, also = planned_sensitivity(np.ones(3, dtype=bool), 600, 3, components).detectable
    assert calm < erratic
    assert erratic == pytest.approx(also, rel=0.01)


def test_impossible_plans_are_rejected() -> None:
    with pytest.raises(ValueError, match="two document groups"):
        planned_sensitivity(FOUR, 1, 3)


def test_one_seed_does_not_seem_to_detect_more_than_three() -> None:
    """Intervals of one seed leave the seeds' variance out, so they cannot be compared with those of three."""
    of_runs = planned_sensitivity(FOUR, 600, 1).smallest_difference
    assert of_runs < planned_difference(FOUR, 600, 3) < planned_difference(FOUR, 600, 1)
    two = np.array([False, True])
    assert planned_difference(two, 50, 3) < planned_difference(two, 50, 1)
    for seeds in (2, 3):
        expected = planned_sensitivity(FOUR, 100, seeds).smallest_difference
        assert planned_difference(FOUR, 100, seeds) == pytest.approx(expected)


def test_the_added_variance_of_one_seed_by_hand() -> None:
    """So many documents that only the seeds count; their variance has 4 degrees of freedom: 2 methods, three seeds."""
    components = VarianceComponents(np.eye(2) * 1e-6, np.array([1.0, 3.0]), np.zeros((2, 2)))
    found = planned_difference(np.array([True, True]), 1000, 1, components)
    assert found == pytest.approx((stats.t.ppf(0.975, 4) + 0.8416) * 2.0, rel=1e-3)


def test_seeds_of_different_methods_are_independent_as_in_the_verdict() -> None:
    """By hand, where only the seeds count: two methods, three seeds, a pooled variance with 4 degrees of freedom."""
    components = VarianceComponents(np.eye(2) * 1e-6, np.array([1.5, 1.5]), np.zeros((2, 2)))
    found = planned_sensitivity(np.array([True, True]), 1000, 3, components).smallest_difference
    assert found == pytest.approx((stats.t.ppf(0.975, 4) + 0.8416) * 1.0, rel=0.03)


def test_a_single_method_is_planned_by_the_error_of_its_mean() -> None:
    components = VarianceComponents(np.eye(1) * 50.0, np.array([2.0]), np.eye(1) * 30.0)
    found = planned_difference(np.array([True]), 100, 2, components)
    assert found == pytest.approx(np.sqrt(50 / 100 + 30 / 200 + 2 / 2))
    assert planned_difference(np.array([True]), 1, 2) == np.inf


def test_doubling_halves_the_parts_that_it_concerns() -> None:
    # Documents 3, residual 1, seeds 4: with twice the seeds 3 + 0.5 + 2, with twice the documents 1.5 + 0.5 + 4.
    first, second = pair_indices(2)
    one = np.ones(1)
    found = PairwiseDifferences(first, second, 0 * one, 4 * one, 5 * one, one, 100, 4 * one, np.eye(2), 3)
    assert found.variance.tolist() == [8.0]
    gained = narrowing_by_doubling(found)
    assert gained.seeds == pytest.approx([1 - np.sqrt(5.5 / 8)])
    assert gained.documents == pytest.approx([1 - np.sqrt(6 / 8)])
    none = narrowing_by_doubling(
        PairwiseDifferences(first, second, 0 * one, 0 * one, 0 * one, 0 * one, 100, 0 * one, np.eye(2), 3)
    )
    assert [*none.seeds, *none.documents] == [0.0, 0.0]
