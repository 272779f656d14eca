"""Which examples meet in a batch, and how a batch is cut into pieces that fit."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from tuneoff.prompts import Encoded, EncodedRows
from tuneoff.spec import TrainSpec

# Batches are drawn from windows of this many batches sorted by length: little padding, still a random order.
_WINDOW_BATCHES = 16


def length(row: Encoded) -> int:
    """Tokens of prompt and target."""
    return len(row.prompt) + len(row.target)


def lengths(rows: Sequence[Encoded]) -> list[int]:
    """`length` of every row, which rows that are put together when asked for know before."""
    if isinstance(rows, EncodedRows):
        known: list[int] = rows.lengths.tolist()
        return known
    return [length(row) for row in rows]


@dataclass(frozen=True)
class Batches(Sequence[list[Encoded]]):
    """Batches of rows, which are put together when the batch is asked for."""

    rows: Sequence[Encoded]
    places: list[list[int]]

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, at: int) -> list[Encoded]: ...
    @overload
    def __getitem__(self, at: slice) -> Batches: ...
    def __getitem__(self, at: int | slice) -> list[Encoded] | Batches:
        if isinstance(at, slice):
            return Batches(self.rows, self.places[at])
        return [self.rows[place] for place in self.places[at]]


def epoch_batches(rows: Sequence[Encoded], batch_size: int, seed: int, epoch: int) -> Batches:
    """All rows once, in batches of `batch_size` (the last one may be smaller) of similar length, in random order."""
    rng = random.Random(f"{seed}/{epoch}")
    order = list(range(len(rows)))
    rng.shuffle(order)
    known = lengths(rows)
    window = batch_size * _WINDOW_BATCHES
    batches: list[list[int]] = []
    for start in range(0, len(order), window):
        part = sorted(order[start : start + window], key=known.__getitem__)
        batches += [part[first : first + batch_size] for first in range(0, len(part), batch_size)]
    rng.shuffle(batches)
    return Batches(rows, batches)


def even_pieces(batch: Sequence[Encoded], tokens: int, overhead: int, multiple: int) -> Batches:
    """Cut a batch into pieces as equal as can be, in a multiple of so many if there are rows enough; the largest first.

    A piece holds at most `tokens` tokens, padding and `overhead` virtual tokens a row included, or a quarter more where
    that may spare several pieces. A row that is longer than that stands alone, and its tokens are the limit for others.
    """
    known = lengths(batch)
    order = sorted(range(len(batch)), key=known.__getitem__, reverse=True)

    def cut(most: int) -> list[list[int]]:
        pieces: list[list[int]] = []
        for place in order:
            if pieces and (len(pieces[-1]) + 1) * (known[pieces[-1][0]] + overhead) <= most:
                pieces[-1].append(place)
            else:
                pieces.append([place])
        return pieces

    def cost(piece: Sequence[int]) -> int:
        return len(piece) * (known[piece[0]] + overhead)

    most = tokens if multiple == 1 else tokens * 5 // 4
    count = math.ceil(len(cut(most)) / multiple) * multiple
    low, high = known[order[0]] + overhead, max(most, known[order[0]] + overhead)
    while low < high:  # the smallest limit that makes do with `count` pieces
        middle = (low + high) // 2
        low, high = (low, middle) if len(cut(middle)) <= count else (middle + 1, high)
    pieces = cut(low)
    while len(pieces) % multiple and any(len(piece) > 1 for piece in pieces):
        largest = max((piece for piece in pieces if len(piece) > 1), key=cost)
        pieces.remove(largest)
        half = len(largest) // 2  # the longer rows lie in front
        pieces += [largest[:half], largest[half:]]
    return Batches(batch, sorted(pieces, key=cost, reverse=True))


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Optimiser steps in one pass over the data."""
    return math.ceil(examples / batch_size)


def total_steps(
    examples: int, batch_size: int, epochs: float, max_steps: int | None, min_steps: int | None = None
) -> int:
    """Optimiser steps of a run: the passes asked for, not under `min_steps` and not over `max_steps`; at least one."""
    steps = max(1, min_steps or 1, round(steps_per_epoch(examples, batch_size) * epochs))
    return steps if max_steps is None else min(steps, max_steps)


def evaluation_steps(steps: int, an_epoch: int, spec: TrainSpec) -> frozenset[int]:
    """The last step always; each epoch's end; the evenly spaced steps inside an epoch; every `eval_steps`."""
    inside = {
        round(an_epoch * (epoch + part / spec.evaluations_per_epoch))
        for epoch in range(math.ceil(steps / an_epoch))
        for part in range(1, spec.evaluations_per_epoch + 1)
    }
    every = set(range(spec.eval_steps, steps, spec.eval_steps)) if spec.eval_steps else set()
    return frozenset(step for step in inside | every | {steps} if 0 < step <= steps)
