"""Concurrent micro-batches on a CPU: several workers, each with its own torch threads.

If all threads share every matrix product, they synchronize thousands of times per step. With one micro-batch per worker
they do not (docs/lab_log.md). But workers wait for Python's lock, which costs more where products are fast: with
matrix units for bf16 there is one worker with all threads, and micro-batches are larger.

Results do not depend on the timing of the workers: gradients are accumulated in the order of the micro-batches
(`OrderedGradients`), and random draws depend on the index of the micro-batch (`current_micro_batch`).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from tuneoff.engine.precision import has_matrix_units

Item = TypeVar("Item")
Result = TypeVar("Result")

# With more workers, micro-batches are too small for matrix products to run at full speed.
_MAX_WORKERS = 4
# Index of a forward pass that is not a micro-batch. It must not change the dropout masks of the batch.
TRIAL_PASS = -1

_thread_state = threading.local()
_attempts = itertools.count(1)


def current_micro_batch() -> int | None:
    """Index of the micro-batch that this thread computes; None outside of micro-batches."""
    index: int | None = getattr(_thread_state, "micro_batch", None)
    return index


def current_attempt() -> int:
    """A number of its own for each time that a thread began a micro-batch: if it does so again, it draws the same."""
    number: int = getattr(_thread_state, "attempt", 0)
    return number


@dataclass(frozen=True)
class MicroBatchPart:
    """Where the rows of a part are in its micro-batch: a mask for the part is a part of the micro-batch's mask."""

    first_row: int
    end_row: int
    rows: int
    """Rows of the whole micro-batch."""
    missing_width: int
    """Positions that the whole micro-batch is wider."""


def current_part() -> MicroBatchPart | None:
    """The part of a micro-batch that this thread computes; None for a whole micro-batch."""
    part: MicroBatchPart | None = getattr(_thread_state, "part", None)
    return part


@contextlib.contextmanager
def part_of_micro_batch(part: MicroBatchPart) -> Iterator[None]:
    """Set `current_part` of this thread."""
    _thread_state.part = part
    try:
        yield
    finally:
        _thread_state.part = None


def has_one_worker(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether micro-batches are computed one after the other, by all threads."""
    return device.type != "cpu" or (dtype == torch.bfloat16 and has_matrix_units())


class ParallelWorkers:
    """Workers that divide the torch threads among themselves.

    One worker, the caller, has all threads on other devices than a CPU, and for products in bf16 by matrix units.

    Attributes:
        count: number of workers.
        multiple: work is split into a multiple of this many micro-batches. It does not depend on the number of threads,
            because the random draws of a micro-batch (dropout masks) must be the same for every number.
        token_divisor: a forward pass may hold the configured number of tokens divided by this number. Two concurrent
            passes then hold the configured number.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, *, alone: bool = False) -> None:
        """`dtype`: of the products. `alone`: no two micro-batches at a time; they would change what both use."""
        self._threads = torch.get_num_threads()
        self.multiple = 1 if has_one_worker(device, dtype) else _MAX_WORKERS
        self.count = 1 if alone else min(self._threads, self.multiple)
        self.token_divisor = 2 if self.multiple > 1 else 1
        self._threads_per_worker = max(1, self._threads // self.count)

    def map(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        indices: Sequence[int] | None = None,
        *,
        sequential: bool = False,
    ) -> list[Result]:
        """Apply `work` to all items and return the results in the order of `items`. Items start in that order.

        With `indices`, only these items are taken.
        With `sequential`, the caller computes one item after the other. After an error no further item starts. When all
        started items have ended, the error of the first failed item is raised.
        """
        indices = range(len(items)) if indices is None else indices
        if sequential or self.count == 1 or len(indices) < 2:
            return [_run_item(work, items, index) for index in indices]
        torch.set_num_threads(self._threads_per_worker)
        try:
            pool = _thread_pool(self.count, self._threads_per_worker)
            futures = [pool.submit(_run_item, work, items, index) for index in indices]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                for future in futures:  # otherwise all items would still be computed after an error or Ctrl-C
                    future.cancel()
            wait(futures)
            return [future.result() for future in futures]
        finally:
            torch.set_num_threads(self._threads)


@functools.cache
def _thread_pool(count: int, threads: int) -> ThreadPoolExecutor:
    """Kept until the process ends, because the math libraries hold buffers for every thread that ever existed."""
    return ThreadPoolExecutor(count, "tuneoff-worker", initializer=torch.set_num_threads, initargs=(threads,))


def _run_item(work: Callable[[Item], Result], items: Sequence[Item], index: int) -> Result:
    with micro_batch_index(index):
        return work(items[index])  # indexing may build the item, so it happens in the worker


@contextlib.contextmanager
def micro_batch_index(index: int | None) -> Iterator[None]:
    """Set `current_micro_batch` of this thread. The micro-batches of a batch count from 0.

    None for a pass outside of them that must draw the same numbers when it is repeated.
    """
    _thread_state.micro_batch = index
    _thread_state.attempt = next(_attempts)
    try:
        yield
    finally:
        _thread_state.micro_batch = None


class OrderedGradients:
    """Makes concurrent micro-batches accumulate each gradient in the order of their indices.

    A floating-point sum depends on the order of its terms. A micro-batch waits only for those with a lower index, and
    these started earlier, so there is no deadlock.
    """

    def __init__(self, tensors: Iterable[Tensor], on_accumulated: Callable[[int], None]) -> None:
        """Watch `tensors`, which must be leaves, until `close`.

        `on_accumulated` receives the index of a tensor after each backward pass that has added to its `grad`, before
        the next micro-batch adds to it.
        """
        self._on_accumulated = on_accumulated
        self._changed = threading.Condition()
        self._accumulated: list[set[int]] = []  # for each tensor, the micro-batches that have added to it
        self._ended: set[int] = set()
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self.watch(tensors)
        self._permanent = len(self._accumulated)

    def watch(self, tensors: Iterable[Tensor]) -> None:
        """Watch more leaves, until the next `begin_batch`."""
        for tensor in tensors:
            index = len(self._accumulated)
            self._accumulated.append(set())
            before, after = functools.partial(self._await_turn, index), functools.partial(self._end_turn, index)
            self._handles += [
                tensor.register_hook(before),  # type: ignore[no-untyped-call]
                tensor.register_post_accumulate_grad_hook(after),  # type: ignore[no-untyped-call]
            ]

    def begin_batch(self) -> None:
        """Start a new batch, whose micro-batches count from 0 again."""
        for handle in self._handles[2 * self._permanent :]:
            handle.remove()
        del self._handles[2 * self._permanent :], self._accumulated[self._permanent :]
        self._ended.clear()
        for micro_batches in self._accumulated:
            micro_batches.clear()

    def close(self) -> None:
        """Remove all hooks from the tensors."""
        for handle in self._handles:
            handle.remove()

    def leave_out(self, micro_batches: Iterable[int]) -> None:
        """Expect nothing of these micro-batches, which another process computes."""
        self._ended.update(micro_batches)

    @contextlib.contextmanager
    def micro_batch(self) -> Iterator[None]:
        """Context for the backward pass of the micro-batch that this thread computes."""
        micro_batch = current_micro_batch()
        assert micro_batch is not None
        try:
            yield
        finally:
            with self._changed:  # after an error too: later micro-batches must not wait forever
                self._ended.add(micro_batch)
                self._changed.notify_all()

    def _await_turn(self, index: int, _gradient: Tensor) -> None:
        micro_batch = current_micro_batch()
        if micro_batch is None:
            return
        done = self._accumulated[index]
        with self._changed:
            self._changed.wait_for(lambda: all(one in done or one in self._ended for one in range(micro_batch)))

    def _end_turn(self, index: int, _tensor: Tensor) -> None:
        if index < self._permanent:
            self._on_accumulated(index)
        micro_batch = current_micro_batch()
        if micro_batch is not None:
            with self._changed:
                self._accumulated[index].add(micro_batch)
                self._changed.notify_all()
