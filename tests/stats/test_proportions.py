"""Wilson's interval against published values."""

import pytest

from tuneoff.stats.proportions import wilson_interval


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    # Newcombe 1998, Two-sided confidence intervals for the single proportion, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_published_intervals(successes: int, count: int, low: float, high: float) -> None:
    assert wilson_interval(successes / count, count) == pytest.approx((low, high), abs=5e-5)


def test_one_case_says_little() -> None:
    assert wilson_interval(1.0, 1) == pytest.approx((0.2065, 1.0), abs=1e-4)
