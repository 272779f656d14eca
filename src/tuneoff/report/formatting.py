"""Numbers as text: few digits, the unit beside each number, an en dash for a number that does not exist."""

import math
from collections.abc import Callable, Sequence

from tuneoff.metrics.registry import METRICS
from tuneoff.results.summary import Interval
from tuneoff.verdict.rounding import interval_decimals, round_outwards

MISSING = "–"


def format_setting(value: object) -> str:
    """A setting without the syntax of a programming language: `all-linear`, `true`, `none`."""
    if isinstance(value, list | tuple):
        return ", ".join(map(format_setting, value)) or "none"
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def format_seconds(value: float) -> str:
    """Duration: `0.4 s`, `12 s`, `4 min 05 s`, `2 h 03 min`."""
    if not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0 s"
    if value < 0.1:
        return f"{value * 1000:.0f} ms"
    if value < 9.95:
        return f"{value:.1f} s"
    if value < 59.5:
        return f"{value:.0f} s"
    if value < 3599.5:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours:,} h {minutes:02d} min"


def _with_prefix(value: float, units: Sequence[str]) -> str:
    """Three significant digits, with the decimal prefix that keeps the number below 1000."""
    if not math.isfinite(value):
        return MISSING
    if value == 0:
        return f"0 {units[0]}".rstrip()
    exponent = min(len(units) - 1, max(0, int(math.log10(abs(value)) // 3)))
    if exponent + 1 < len(units) and abs(value) / 1000**exponent >= 999.5:
        exponent += 1
    number = value / 1000**exponent
    digits = 0 if exponent == 0 or abs(number) >= 99.95 else 1 if abs(number) >= 9.995 else 2
    return f"{number:,.{digits}f} {units[exponent]}".rstrip()


def format_bytes(value: float) -> str:
    """Bytes in decimal units: `512 B`, `3.69 MB`, `1.02 GB`."""
    return _with_prefix(value, ("B", "kB", "MB", "GB", "TB"))


def format_count(value: float) -> str:
    """A count: `9,216` in full below a hundred thousand, then `1.84 M`."""
    return f"{value:,.0f}" if abs(value) < 99_999.5 else _with_prefix(value, ("", "k", "M", "B"))


def format_joules(value: float) -> str:
    """Joules: `840 J`, `12.3 kJ`."""
    return _with_prefix(value, ("J", "kJ", "MJ", "GJ"))


def format_rate(value: float) -> str:
    """Tokens per second: `1,240 /s`."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:,.0f} /s" if value >= 99.5 else f"{value:.1f} /s"


_COST_FORMATS: dict[str, Callable[[float], str]] = {
    "train_seconds": format_seconds,
    "peak_memory_bytes": format_bytes,
    "artefact_bytes": format_bytes,
    "generate_seconds": format_seconds,
    "energy_joules": format_joules,
    "labelled_examples": format_count,
    "trainable_parameters": format_count,
    "tokens_per_second": format_rate,
}


def format_cost(axis: str, value: float | None) -> str:
    """A cost in the unit of its axis, as text."""
    return MISSING if value is None else _COST_FORMATS[axis](value)


def metric_title(metric: str) -> str:
    """The display name of a metric. One of somebody else's begins with a capital, unless it has capitals of its own."""
    known = METRICS.get(metric)
    if known:
        return known.title
    name = metric.replace("_", " ")
    return name[:1].upper() + name[1:] if name == name.lower() else name


def format_interval(metric: str, value: Interval, *, signed: bool = False) -> str:
    """`40.9 to 43.3`; empty without an interval.

    One of a difference (`signed`) is rounded outwards, as in the verdict. If it excludes zero, it has as many digits as
    it takes to show that.
    """
    if value.low is None or value.high is None:
        return ""
    digits, low, high = _digits(metric), value.low, value.high
    if signed:
        digits = interval_decimals(low, high, 0.0, digits)
        low, high = (round_outwards(bound, up=up, decimals=digits) for bound, up in ((low, False), (high, True)))
    return " to ".join(format_score(metric, bound, signed=signed, digits=digits) for bound in (low, high))


def _digits(metric: str) -> int:
    known = METRICS.get(metric)
    return known.digits if known else 2


def format_score(metric: str, value: float | None, *, signed: bool = False, digits: int | None = None) -> str:
    """A score without its unit, with as many digits as the table of metrics says unless `digits` are given."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:{'+' if signed else ''},.{_digits(metric) if digits is None else digits}f}"
    if not text.strip("+-0.,"):
        text = text.lstrip("+-")
    return text.replace("-", "\N{MINUS SIGN}")
