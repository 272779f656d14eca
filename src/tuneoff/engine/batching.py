"""Batches of training rows, and their split into micro-batches that fit in memory."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from tuneoff.prompts import Encoded, EncodedRows
from tuneoff.spec import TrainSpec

# Rows are sorted by length within windows of this many batches: little padding, still a random order.
_WINDOW_BATCHES = 16


def row_length(row: Encoded) -> int:
    """Number of tokens of prompt and target."""
    return len(row.prompt) + len(row.target)


def row_lengths(rows: Sequence[Encoded]) -> list[int]:
    """Length of every row; `EncodedRows` knows them without building the rows."""
    if isinstance(rows, EncodedRows):
        known: list[int] = rows.lengths.tolist()
        return known
    return [row_length(row) for row in rows]


@dataclass(frozen=True)
class Batches(Sequence[list[Encoded]]):
    """A sequence of batches. The rows of a batch are built when the batch is indexed."""

    rows: Sequence[Encoded]
    indices: list[list[int]]  # for each batch, the indices of its rows in `rows`

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, at: int) -> list[Encoded]: ...
    @overload
    def __getitem__(self, at: slice) -> Batches: ...
    def __getitem__(self, at: int | slice) -> list[Encoded] | Batches:
        if isinstance(at, slice):
            return Batches(self.rows, self.indices[at])
        return [self.rows[index] for index in self.indices[at]]


def epoch_batches(rows: Sequence[Encoded], batch_size: int, seed: int, epoch: int) -> Batches:
    """All rows once, in batches of `batch_size` rows of similar length, in random order.

    One batch may be smaller. The order depends on `seed` and `epoch` only.
    """
    rng = random.Random(f"{seed}/{epoch}")
    order = list(range(len(rows)))
    rng.shuffle(order)
    lengths = row_lengths(rows)
    window_rows = batch_size * _WINDOW_BATCHES
    batches: list[list[int]] = []
    for start in range(0, len(order), window_rows):
        window = sorted(order[start : start + window_rows], key=lengths.__getitem__)
        batches += [window[first : first + batch_size] for first in range(0, len(window), batch_size)]
    rng.shuffle(batches)
    return Batches(rows, batches)


def split_micro_batches(batch: Sequence[Encoded], tokens: int, overhead: int, multiple: int) -> Batches:
    """Split a batch into micro-batches of nearly equal size, the largest first.

    Args:
        batch: the rows to split.
        tokens: limit for the tokens of a micro-batch, padding and `overhead` included. If `multiple` is above 1, the
            limit is 25 % higher, because that may save several micro-batches.
        overhead: virtual tokens added to each row; negative if a shared prefix of the rows is computed elsewhere.
        multiple: the number of micro-batches is a multiple of this number if the batch has enough rows.

    A row that exceeds the limit is a micro-batch of its own, and its length becomes the limit for the others.
    """
    lengths = row_lengths(batch)
    order = sorted(range(len(batch)), key=lengths.__getitem__, reverse=True)

    def fill(limit: int) -> list[list[int]]:
        parts: list[list[int]] = []
        for index in order:
            if parts and (len(parts[-1]) + 1) * (lengths[parts[-1][0]] + overhead) <= limit:
                parts[-1].append(index)
            else:
                parts.append([index])
        return parts

    def padded_tokens(part: Sequence[int]) -> int:
        return len(part) * (lengths[part[0]] + overhead)

    limit = tokens if multiple == 1 else tokens * 5 // 4
    count = math.ceil(len(fill(limit)) / multiple) * multiple
    longest = lengths[order[0]] + overhead
    low, high = longest, max(limit, longest)
    while low < high:  # binary search for the smallest limit that needs at most `count` micro-batches
        middle = (low + high) // 2
        low, high = (low, middle) if len(fill(middle)) <= count else (middle + 1, high)
    parts = fill(low)
    while len(parts) % multiple and any(len(part) > 1 for part in parts):
        largest = max((part for part in parts if len(part) > 1), key=padded_tokens)
        parts.remove(largest)
        half = len(largest) // 2  # longer rows come first
        parts += [largest[:half], largest[half:]]
    return Batches(batch, sorted(parts, key=padded_tokens, reverse=True))


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Optimizer steps in one epoch."""
    return math.ceil(examples / batch_size)


def total_steps(
    examples: int, batch_size: int, epochs: float, max_steps: int | None, min_steps: int | None = None
) -> int:
    """Optimizer steps of a run: `epochs` epochs, at least `min_steps` and at most `max_steps`; never fewer than one.

    `max_steps` takes precedence over `min_steps`.
    """
    steps = max(1, min_steps or 1, round(steps_per_epoch(examples, batch_size) * epochs))
    return steps if max_steps is None else min(steps, max_steps)


def evaluation_steps(steps: int, epoch_steps: int, spec: TrainSpec) -> frozenset[int]:
    """Steps after which the validation loss is computed.

    These are `spec.evaluations_per_epoch` evenly spaced steps in each epoch (its last step included), every
    `spec.eval_steps` steps, and always the last step of the run.
    """
    evenly_spaced = {
        round(epoch_steps * (epoch + part / spec.evaluations_per_epoch))
        for epoch in range(math.ceil(steps / epoch_steps))
        for part in range(1, spec.evaluations_per_epoch + 1)
    }
    every = set(range(spec.eval_steps, steps, spec.eval_steps)) if spec.eval_steps else set()
    return frozenset(step for step in evenly_spaced | every | {steps} if 0 < step <= steps)
