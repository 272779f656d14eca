"""Hyper-parameters of methods: fields with bounds, and the check of their values."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from dataclasses import dataclass
from typing import Any, TypeVar

from tuneoff.errors import UserError
from tuneoff.spec.run import Scalar

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Bounds:
    """The values that a numeric hyper-parameter may have; an absent bound is None."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    description: str | None = None  # for messages; by default it is derived from the bounds

    def contain(self, value: float) -> bool:
        """Whether `value` is finite and within all bounds."""
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    def describe(self, number_type: type) -> str:
        """What a value must be, such as "above 0 and at most 100" or "a whole number from 1 to 64"."""
        if self.description is not None:
            return self.description
        whole = "a whole number " if number_type is int else ""
        if self.at_least is not None and (self.at_most is not None or self.below is not None):
            upper = f"{self.at_most:g}" if self.at_most is not None else f"below {self.below:g}"
            return f"{whole}{'from ' if whole else ''}{self.at_least:g} to {upper}"
        named = {"above": self.above, "at least": self.at_least, "below": self.below, "at most": self.at_most}
        bounds = [f"{words} {bound:g}" for words, bound in named.items() if bound is not None]
        return whole + (" and ".join(bounds) or "a finite number")


def bounded(
    default: Number,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    description: str | None = None,
    later: bool = False,
) -> Number:
    """A dataclass field for a number with bounds.

    Args:
        default: Its default value.
        above, at_least, below, at_most: The bounds, checked when a method is constructed.
        description: What a value must be, for messages. By default it is derived from the bounds.
        later: The hyper-parameter was added to a method that users already had results of. Its default changes
            nothing, and it counts in a run's id only where it differs from the default.
    """
    metadata = {"bounds": Bounds(above, at_least, below, at_most, description), "later": later}
    return dataclasses.field(default=default, metadata=metadata)


@functools.cache
def types_of(method: type) -> dict[str, Any]:
    """The declared type of every hyper-parameter of a method class: int, float, bool, str, `tuple[str, ...]` or Any."""
    declared = typing.get_type_hints(method)
    return {field.name: declared[field.name] for field in dataclasses.fields(method)}


def check_value(method: str, field: dataclasses.Field[Any], declared: Any, value: Any) -> Scalar:
    """`value` as the declared type.

    Raises:
        UserError: The value has another type or is out of bounds. The message names method and hyper-parameter.
    """
    if declared is Any:  # a setting of PEFT, which checks it
        return tuple(value) if isinstance(value, list) else value
    where = f"{method}.{field.name} = {value!r}"
    if typing.get_origin(declared) is tuple:
        return _as_names(where, value)
    if declared is bool:
        if not isinstance(value, bool):
            raise UserError(f"{where}: expected true or false")
        return value
    if declared is str:
        if not isinstance(value, str):
            raise UserError(f"{where}: expected a text")
        return value
    if declared not in (int, float):
        raise TypeError(f"{where}: a hyper-parameter cannot be declared as {declared}")
    return _as_number(where, declared, field.metadata.get("bounds", Bounds()), value)


def _as_names(where: str, value: Any) -> tuple[str, ...]:
    items = (value,) if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not items or not all(isinstance(item, str) and item for item in items):
        raise UserError(f'{where}: expected one or more names, such as ["q_proj", "v_proj"]')
    return tuple(items)


def _as_number(where: str, declared: type[int] | type[float], bounds: Bounds, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or (declared is int and not float(value).is_integer()):
        raise UserError(f"{where}: expected {'a whole number' if declared is int else 'a number'}")
    if not bounds.contain(value):
        raise UserError(f"{where}: must be {bounds.describe(declared)}")
    return declared(value)
