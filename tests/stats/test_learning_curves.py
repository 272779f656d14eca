"""Learning curves: exact power laws are recovered, and no curve falls with more data."""

import numpy as np
import pytest

from tuneoff.stats.learning_curves import fit_power_laws, gain_of_doubling, size_where_doubling_stops_paying

SIZES = np.array([100.0, 300.0, 1000.0, 3000.0])


def power_law(asymptote: float, scale: float, exponent: float) -> np.ndarray:
    return asymptote - scale * SIZES**-exponent


@pytest.mark.parametrize("exponent", [0.05, 0.5, 1.0, 2.0])
def test_an_exact_power_law_is_recovered(exponent: float) -> None:
    curves = fit_power_laws(SIZES, power_law(50.0, 40.0, exponent)[None])
    assert curves.asymptote == pytest.approx([50.0], rel=1e-6)
    assert curves.scale == pytest.approx([40.0], rel=1e-6)
    assert curves.exponent == pytest.approx([exponent])


def test_the_gain_of_doubling_is_the_rise_of_the_curve() -> None:
    curves = fit_power_laws(SIZES, power_law(50.0, 40.0, 0.5)[None])
    assert gain_of_doubling(curves, 1000.0) == pytest.approx([40.0 * (1000.0**-0.5 - 2000.0**-0.5)])


def test_rows_are_fitted_independently() -> None:
    rows = np.stack([power_law(50.0, 40.0, 0.5), power_law(30.0, 5.0, 1.0), np.full(4, 20.0)])
    together = fit_power_laws(SIZES, rows)
    for index, row in enumerate(rows):
        alone = fit_power_laws(SIZES, row[None])
        assert (together.asymptote[index], together.scale[index], together.exponent[index]) == pytest.approx(
            (alone.asymptote[0], alone.scale[0], alone.exponent[0])
        )


def test_a_falling_or_constant_mean_is_fitted_by_a_constant() -> None:
    curves = fit_power_laws(SIZES, np.array([[45.0, 44.0, 43.0, 42.0], [40.0, 40.0, 40.0, 40.0]]))
    assert curves.scale.tolist() == [0.0, 0.0]
    assert curves.asymptote == pytest.approx([43.5, 40.0])
    assert gain_of_doubling(curves, 3000.0).tolist() == [0.0, 0.0]


def test_shifting_or_scaling_the_means_shifts_or_scales_the_curve() -> None:
    means = np.random.default_rng(1).normal(40.0, 3.0, (20, 4))
    base, moved = fit_power_laws(SIZES, means), fit_power_laws(SIZES, 2.0 * means + 7.0)
    assert moved.asymptote == pytest.approx(2.0 * base.asymptote + 7.0)
    assert gain_of_doubling(moved, 3000.0) == pytest.approx(2.0 * gain_of_doubling(base, 3000.0))
    assert (gain_of_doubling(base, 3000.0) >= 0).all()


def test_at_the_stopping_size_doubling_gains_the_margin() -> None:
    curves = fit_power_laws(SIZES, power_law(50.0, 40.0, 0.5)[None])
    [size] = size_where_doubling_stops_paying(curves, 0.5, 3000.0)
    assert size is not None
    assert gain_of_doubling(curves, float(size)) == pytest.approx([0.5], rel=1e-3)


def test_stopping_size_of_constant_and_of_slow_curves() -> None:
    curves = fit_power_laws(SIZES, np.stack([np.full(4, 40.0), power_law(80.0, 60.0, 0.05)]))
    assert size_where_doubling_stops_paying(curves, 0.5, 3000.0) == [0, None]
    assert size_where_doubling_stops_paying(curves, 0.0, 3000.0) == [None, None]
