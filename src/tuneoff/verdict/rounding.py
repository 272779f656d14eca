"""Numbers of the verdict as text: bounds are rounded outwards, and rounding never contradicts a decision.

Outward rounding alone could show an interval that includes zero beside "better", or one that exceeds the margin beside
"tie". An interval therefore has as many decimals as its decision needs.
"""

import math

_MOST_DECIMALS = 6


def round_outwards(value: float, *, up: bool, decimals: int = 1) -> float:
    """The next number with so many decimals, above or below."""
    factor = float(10**decimals)
    scaled = value * factor
    # A bound that has so many decimals, up to an error of representation, stays as it is.
    return (math.ceil(scaled - 1e-9) if up else math.floor(scaled + 1e-9)) / factor


def interval_decimals(low: float, high: float, margin: float, decimals: int = 1) -> int:
    """The number of decimals, `decimals` or more, with which an interval rounded outwards has the same decision."""
    decided = _sides(low, high, margin)
    for more in range(decimals, _MOST_DECIMALS):
        rounded = round_outwards(low, up=False, decimals=more), round_outwards(high, up=True, decimals=more)
        if _sides(*rounded, margin) == decided:
            return more
    return _MOST_DECIMALS


def _sides(low: float, high: float, margin: float) -> tuple[bool, ...]:
    """Every comparison that a decision about an interval makes."""
    return low > 0, high < 0, low > margin, high < -margin, low >= -margin, high <= margin


def interval_text(difference: float, low: float, high: float, margin: float, decimals: int = 1) -> str:
    """`+0.6 points, −0.8 to +2.0`."""
    decimals = interval_decimals(low, high, margin, decimals)
    lower = round_outwards(low, up=False, decimals=decimals)
    upper = round_outwards(high, up=True, decimals=decimals)
    return f"{signed(difference, decimals)} points, {signed(lower, decimals)} to {signed(upper, decimals)}"


def signed(value: float, decimals: int = 1) -> str:
    """A difference with its sign; zero has a plus."""
    return f"{round(value, decimals) + 0.0:+.{decimals}f}".replace("-", "−")


def bound_text(value: float, decimals: int = 1) -> str:
    """A bound of at least 0, rounded up."""
    return f"{round_outwards(value, up=True, decimals=decimals):.{decimals}f}"
