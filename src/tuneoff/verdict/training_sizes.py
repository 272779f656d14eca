"""How much of the training data was read at each fraction of it, and in how many steps.

A training set of 1988 examples that is trained on for 50 steps of 8 has taught the model 400 examples. A learning curve
over examples that nobody read would credit them with what more steps, or nothing, did.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tuneoff.results.run_record import Record


@dataclass(frozen=True)
class TrainingSize:
    """The training data at one fraction."""

    available: int
    """Training examples at that fraction."""
    read: int
    """How many of them were read by the training that read most."""
    steps: int | None = None
    """Optimiser steps of the longest training; None if unknown."""


def training_sizes(records: Iterable[Record], fractions: Iterable[float], examples: int) -> dict[float, TrainingSize]:
    """What the finished final runs among `records` read at each fraction of `examples` training examples.

    A fraction without a training run counts as read as a whole.
    """
    trained: dict[float, list[Record]] = {}
    for record in records:
        if record.status == "finished" and record.spec.role == "final" and record.curve.train:
            trained.setdefault(record.spec.fraction, []).append(record)
    return {fraction: _size(trained.get(fraction, ()), max(1, round(fraction * examples))) for fraction in fractions}


def _size(runs: Sequence[Record], examples: int) -> TrainingSize:
    steps = {record.run_id: record.curve.train[-1].step for record in runs}
    if not steps:
        return TrainingSize(examples, examples)
    read = [min(examples, steps[record.run_id] * record.spec.train.batch_size) for record in runs]
    return TrainingSize(examples, max(read), max(steps.values()))
