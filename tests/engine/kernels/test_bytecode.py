"""Functions are the same if their code is, and that of the functions that they call."""

import functools
import types
from typing import Any

from tuneoff.engine.kernels.bytecode import is_same_function


def scaled(x: float) -> float:
    """Twice."""
    return 2 * x


def negated(x: float) -> float:
    return -x


def of_scaled(x: float) -> float:
    return scaled(x) + 1


def copy_of(function: Any, **names: object) -> types.FunctionType:
    """The function as another module would have it, with other globals."""
    return types.FunctionType(function.__code__, {**function.__globals__, **names}, function.__name__)


def test_a_copy_is_the_same_and_its_docstring_does_not_matter() -> None:
    def twice(x: float) -> float:
        """In other words."""
        return 2 * x

    assert is_same_function(scaled, scaled)
    assert is_same_function(copy_of(of_scaled), of_scaled)
    assert is_same_function(twice, scaled)


def test_other_constants_names_and_helpers_differ() -> None:
    def thrice(x: float) -> float:
        return 3 * x

    assert not is_same_function(thrice, scaled)
    assert not is_same_function(negated, scaled)
    assert not is_same_function(copy_of(of_scaled, scaled=negated), of_scaled)
    assert not is_same_function(len, scaled)


def test_decorators_are_looked_through() -> None:
    @functools.wraps(of_scaled)
    def decorated(x: float) -> float:
        return of_scaled(x)

    assert is_same_function(decorated, copy_of(of_scaled))
