"""Values of cells as scores and as names."""

import math
from collections.abc import Mapping

from tuneoff.data.nested import with_nested

_MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "-"))
_TRUTH = {"true": 1.0, "false": 0.0}


def score_of(value: object) -> float | None:
    """The number in a cell; None if it is missing. Raises `ValueError` for anything else, infinity included."""
    if value is None:
        return None
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _MISSING:
            return None
        cell: str | float = _TRUTH.get(text, text)
    elif isinstance(value, bool | int | float):
        cell = value
    else:
        raise ValueError(f"a {type(value).__name__}")
    try:
        number = float(cell)
    except OverflowError as error:
        raise ValueError("too large") from error
    if math.isinf(number):
        raise ValueError("infinite")
    return None if math.isnan(number) else number


def name_of(value: object) -> str:
    """A cell as a name: `1` for 1.0, which pandas writes for integers next to missing cells. Empty if it is missing."""
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        value = int(value) if value.is_integer() else value
    text = "" if value is None else str(value).strip()
    # A byte that could not be decoded is a lone surrogate, which no file and no terminal takes.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def group_of(values: Mapping[str, object], column: str | None) -> str | None:
    """The group in a column, which may be inside of objects (`doc.title`); None without it."""
    if column is None:
        return None
    return name_of(with_nested(values, [column]).get(column)) or None
