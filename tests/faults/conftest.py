"""Faults that are injected into the program: a few in `make test`, many in `make faults`."""

import os
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

Trial = TypeVar("Trial")
FULL = "TUNEOFF_FULL_FAULTS"


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether all trials are wanted."""
    return bool(os.environ.get(FULL))


@pytest.fixture
def some_of(full: bool) -> Callable[[Sequence[Trial], int], list[Trial]]:
    """`some_of(trials, short)`: all of them in `make faults`, else `short` of them, always the same ones."""

    def choose(trials: Sequence[Trial], short: int) -> list[Trial]:
        if full or len(trials) <= short:
            return list(trials)
        return random.Random(0).sample(list(trials), short)

    return choose
