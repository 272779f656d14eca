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
    if not isinstance(value, str | bool | int | float):
        raise ValueError(f"a {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError("too large") from error
    except ValueError:
        text = str(value).strip().lower()
        if text in _MISSING:
            return None
        if text not in _TRUTH:
            raise
        return _TRUTH[text]
    if math.isinf(number):
        raise ValueError("infinite")
    return None if math.isnan(number) else number


def name_of(value: object) -> str:
    """A cell as a name: `1` for 1.0, which pandas writes for integers next to missing cells. Empty if it is missing."""
    if isinstance(value, str):  # most cells of a file
        text = value.strip()
    elif value is None or (isinstance(value, float) and math.isnan(value)):
        text = ""
    else:
        text = str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()
    # A byte that could not be decoded is a lone surrogate, which no file and no terminal takes.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def group_of(values: Mapping[str, object], column: str | None) -> str | None:
    """The group in a column, which may be inside of objects (`doc.title`); None without it."""
    if column is None:
        return None
    return name_of(with_nested(values, [column]).get(column)) or None
