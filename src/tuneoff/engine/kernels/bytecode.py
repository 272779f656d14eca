"""Recognizes functions that transformers copies from model to model, by their bytecode."""

from __future__ import annotations

import inspect
import types
from typing import Any


def is_same_function(one: Any, other: Any) -> bool:
    """Whether two functions have the same code, except for docstrings, and call functions with the same code.

    Helpers of the same name may differ: NanoChat's `rotate_half` rotates in the other direction. Decorators that keep
    the function, as that of layers with gradient checkpointing, are looked through.
    """
    one, other = inspect.unwrap(one), inspect.unwrap(other)
    if one is other:
        return True
    if not (isinstance(one, types.FunctionType) and isinstance(other, types.FunctionType)):
        return False
    if _code_key(one) != _code_key(other):
        return False
    called = [(one.__globals__.get(name), other.__globals__.get(name)) for name in one.__code__.co_names]
    return all(is_same_function(*pair) for pair in called if isinstance(pair[1], types.FunctionType))


def _code_key(function: types.FunctionType) -> tuple[object, ...]:
    code = function.__code__
    constants = [constant for constant in code.co_consts if not isinstance(constant, str)]
    return code.co_code, code.co_names, code.co_varnames, constants, function.__defaults__
