"""The list of `tuneoff check` as text."""

from collections.abc import Sequence

from tuneoff.study.checklist import Item
from tuneoff.text import sanitize

_TICKS = {True: "✓", False: "✗", None: "–"}
_ASCII = {True: "ok", False: "NO", None: "--"}


def items_as_text(items: Sequence[Item], encoding: str | None) -> str:
    """One line for each item, with ASCII instead of ticks where `encoding` has none."""
    try:
        "".join(_TICKS.values()).encode(encoding or "ascii")
        ticks = _TICKS
    except (UnicodeEncodeError, LookupError):
        ticks = _ASCII
    width = max(len(item.name) for item in items)
    return "\n".join(sanitize(f"{ticks[item.passed]} {item.name:<{width}}  {item.text}") for item in items)
