"""Times as people type them."""

import re
from collections.abc import Iterator

from tuneoff.errors import UserError

_DURATION = re.compile(r"(?:(?P<h>[0-9.]+)h)?(?:(?P<m>[0-9.]+)m(?:in)?)?(?:(?P<s>[0-9.]+)s)?")


def parse_duration(text: str) -> float:
    """`20m`, `1h30m`, `90s` or `1.5h` in seconds. Raises `UserError`."""
    found = _DURATION.fullmatch(text.replace(" ", ""))
    try:
        seconds = sum(float(part) * {"h": 3600, "m": 60, "s": 1}[unit] for unit, part in _parts(found))
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise UserError(f"--budget {text}: a time such as 20m, 90s or 1h30m was expected")
    return seconds


def _parts(found: re.Match[str] | None) -> Iterator[tuple[str, str]]:
    return ((unit, part) for unit, part in (found.groupdict() if found else {}).items() if part)
