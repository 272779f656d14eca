"""The table for people and the JSON line for programs that every bench ends with."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One target: what was reached, and whether that meets it."""

    id: str
    target: str
    reached: float
    met: bool


def at_least(name: str, target: float, reached: float) -> Row:
    """A row whose value should be `target` or more."""
    return _row(name, ">=", target, reached, operator.ge)


def at_most(name: str, target: float, reached: float) -> Row:
    """A row whose value should be `target` or less."""
    return _row(name, "<=", target, reached, operator.le)


def _row(name: str, sign: str, target: float, reached: float, holds: Callable[[float, float], bool]) -> Row:
    return Row(name, f"{sign} {target:g}", float(f"{reached:.4g}"), holds(reached, target))


def show(rows: Sequence[Row]) -> None:
    """Print the table, then all rows as one line of JSON."""
    width = max(len(row.id) for row in rows)
    print(f"{'measure':{width}}  {'target':>9}  {'reached':>9}  met")
    for row in rows:
        print(f"{row.id:{width}}  {row.target:>9}  {row.reached:>9.4g}  {'yes' if row.met else 'NO'}")
    print(json.dumps({"rows": [vars(row) for row in rows]}), flush=True)
