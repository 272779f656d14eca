"""Numbers as people read them: few digits, the unit beside each. A number that does not exist is an en dash."""

import math

from tuneoff.metrics.registry import METRICS

MISSING = "–"


def plain(value: object) -> str:
    """A setting or a fact without the marks of a programming language: `all-linear`, `true`, `none`."""
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "none"
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def seconds(value: float) -> str:
    """Duration: `0.4 s`, `12 s`, `4 min 05 s`, `2 h 03 min`."""
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


def _scaled(value: float, steps: tuple[str, ...]) -> str:
    """Three significant digits with the decimal prefix that keeps the number below 1000."""
    if value == 0:
        return f"0 {steps[0]}".rstrip()
    exponent = min(len(steps) - 1, max(0, int(math.log10(abs(value)) // 3)))
    if exponent + 1 < len(steps) and abs(value) / 1000**exponent >= 999.5:
        exponent += 1
    number = value / 1000**exponent
    digits = 0 if exponent == 0 or abs(number) >= 99.95 else 1 if abs(number) >= 9.995 else 2
    return f"{number:,.{digits}f} {steps[exponent]}".rstrip()


def size(value: float) -> str:
    """Bytes in decimal units: `512 B`, `3.69 MB`, `1.02 GB`."""
    return _scaled(value, ("B", "kB", "MB", "GB", "TB"))


def count(value: float) -> str:
    """A count: `9,216` in full below a hundred thousand, then `1.84 M`."""
    return f"{value:,.0f}" if abs(value) < 99_999.5 else _scaled(value, ("", "k", "M", "B"))


def energy(value: float) -> str:
    """Joules: `840 J`, `12.3 kJ`."""
    return _scaled(value, ("J", "kJ", "MJ", "GJ"))


def rate(value: float) -> str:
    """Tokens per second: `1,240 /s`."""
    return f"{value:,.0f} /s" if value >= 99.5 else f"{value:.1f} /s"


def title(metric: str) -> str:
    """A score's name for people."""
    known = METRICS.get(metric)
    return known.title if known else metric.replace("_", " ").capitalize()


def score(metric: str, value: float | None, *, signed: bool = False) -> str:
    """One score with the digits that the table of metrics gives it, without its unit."""
    if value is None or not math.isfinite(value):
        return MISSING
    known = METRICS.get(metric)
    text = f"{value:{'+' if signed else ''},.{known.digits if known else 2}f}"
    if not text.strip("+-0.,"):
        text = text.lstrip("+-")
    return text.replace("-", "\N{MINUS SIGN}")
