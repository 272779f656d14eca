"""Learning curves: the mean score as a power law of the training set size.

The curve is a - b n^-c with b >= 0, where n is the number of training examples (Viering, Loog 2023, The Shape of
Learning Curves). It is fitted by least squares.

Shapes: D curves, each with F training set sizes.
"""

from dataclasses import dataclass

import numpy as np

from tuneoff.stats.variance_components import Floats

_EXPONENTS = np.linspace(0.05, 2.0, 40)
# A curve is not extrapolated beyond this many times the largest training set.
_EXTRAPOLATION_LIMIT = 100


@dataclass(frozen=True)
class PowerLaws:
    """D curves asymptote - scale n^-exponent; each field is (D,). A `scale` of 0 is a constant."""

    asymptote: Floats
    scale: Floats
    exponent: Floats


def fit_power_laws(sizes: Floats, means: Floats) -> PowerLaws:
    """Fit one curve to each row of `means` (D, F), measured at `sizes` (F,).

    For each exponent of a grid, the best a and b are a linear regression on n^-c. Of these regressions with b >= 0 and
    the constant, the one with the smallest squared error is kept.
    """
    centred = means - means.mean(axis=1, keepdims=True)
    best = np.stack([means.mean(axis=1), np.zeros(len(means)), np.ones(len(means))], axis=1)
    smallest = (centred**2).sum(axis=1)
    for exponent in _EXPONENTS:
        powers = sizes**-exponent
        deviations = powers - powers.mean()
        slope = centred @ deviations / (deviations @ deviations)
        error = ((centred - slope[:, None] * deviations) ** 2).sum(axis=1)
        better = (slope <= 0) & (error < smallest)
        asymptote = means.mean(axis=1) - slope * powers.mean()
        candidate = np.stack([asymptote, -slope, np.full(len(means), exponent)], axis=1)
        best = np.where(better[:, None], candidate, best)
        smallest = np.where(better, error, smallest)
    return PowerLaws(best[:, 0], best[:, 1], best[:, 2])


def gain_of_doubling(curves: PowerLaws, size: float) -> Floats:
    """(D,) predicted increase of the mean from `size` to twice as many examples, in the unit of the means."""
    gain: Floats = curves.scale * size**-curves.exponent * (1.0 - 2.0**-curves.exponent)
    return gain


def size_where_doubling_stops_paying(curves: PowerLaws, margin: float, largest: float) -> list[int | None]:
    """Training set size from which doubling gains less than `margin`, for each of the D curves.

    0 for a constant curve. None for a margin of 0, and for a size more than 100 times the `largest` measured one.
    """
    return [
        _stops_paying(scale, exponent, margin, largest)
        for scale, exponent in zip(curves.scale, curves.exponent, strict=True)
    ]


def _stops_paying(scale: float, exponent: float, margin: float, largest: float) -> int | None:
    if margin <= 0:
        return None
    if scale <= 0:
        return 0
    size = (scale * (1.0 - 2.0**-exponent) / margin) ** (1.0 / exponent)
    return round(size) if size <= _EXTRAPOLATION_LIMIT * largest else None
