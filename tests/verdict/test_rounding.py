"""Rounded numbers never contradict the decision beside them."""

import pytest

from tuneoff.verdict.rounding import bound_text, interval_text


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.72, 1.91, "+0.6 points, −0.8 to +2.0"),  # outwards
        (0.08, 3.68, "+1.88 points, +0.08 to +3.68"),  # better: one decimal would include zero
        (-3.68, -0.001, "−1.841 points, −3.680 to −0.001"),
        (0.53, 4.41, "+2.47 points, +0.53 to +4.41"),  # beyond the margin of 0.5: one decimal would reach it
        (-0.46, 0.43, "+0.0 points, −0.5 to +0.5"),  # a tie: within the margin, which may be reached
        (-0.1, 0.5, "+0.2 points, −0.1 to +0.5"),
    ],
)
def test_an_interval_has_the_decimals_that_its_decision_needs(low: float, high: float, expected: str) -> None:
    assert interval_text((low + high) / 2, low, high, margin=0.5) == expected


def test_a_margin_between_two_decimals_is_not_exceeded_beside_a_tie() -> None:
    assert interval_text(0.0, -0.24, 0.23, margin=0.25) == "+0.00 points, −0.24 to +0.23"


def test_a_bound_is_rounded_up() -> None:
    assert (bound_text(1.51), bound_text(0.5), bound_text(0.5001), bound_text(1.5701, 2)) == (
        "1.6",
        "0.5",
        "0.6",
        "1.58",
    )
