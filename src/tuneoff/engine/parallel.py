"""Several pieces of work at once on a CPU, each computed by threads of its own.

Threads that share every product wait for each other at each of the thousands of operations of a step; with a piece each
they do not (docs/performance.md). Results do not depend on which thread was quicker: gradients are added up in the
order of the pieces (`Turns`), and what is random asks for the piece that it is in (`current_piece`).
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")

# More would cut a batch into pieces too small for products to run at full speed.
_MOST = 4

_here = threading.local()


def current_piece() -> int | None:
    """Number of the piece that this thread computes; None outside of pieces."""
    piece: int | None = getattr(_here, "piece", None)
    return piece


class Lanes:
    """`count` lanes that share the threads torch may use. One lane on anything but a CPU: it is the caller itself."""

    def __init__(self, device: torch.device) -> None:
        self._threads = torch.get_num_threads()
        # Into so many pieces, or a multiple, work is cut: not into as many as there are lanes, for what is random in a
        # piece (dropout masks) must be the same whatever the machine.
        self.pieces = _MOST if device.type == "cpu" else 1
        self.count = min(self._threads, self.pieces)
        # A forward pass holds this share of the tokens that the settings allow: what two lanes hold together is all.
        self.share = 2 if self.pieces > 1 else 1
        self._each = max(1, self._threads // self.count)

    def map(self, work: Callable[[Item], Result], items: Sequence[Item], *, alone: bool = False) -> list[Result]:
        """`work` of every item, in the order of `items`, which are begun in that order. `alone`: one after the other.

        After an error nothing new is begun. When all that was begun has ended, the first error in the order of items is
        raised.
        """
        if alone or self.count == 1 or len(items) < 2:
            return [_numbered(work, items, number) for number in range(len(items))]
        torch.set_num_threads(self._each)
        try:
            pool = _pool(self.count, self._each)
            waiting = [pool.submit(_numbered, work, items, number) for number in range(len(items))]
            try:
                wait(waiting, return_when=FIRST_EXCEPTION)
            finally:
                for one in waiting:  # after an error or Ctrl-C the process would else do all of it before it ends
                    one.cancel()
            wait(waiting)
            return [one.result() for one in waiting]
        finally:
            torch.set_num_threads(self._threads)


@functools.cache
def _pool(count: int, threads: int) -> ThreadPoolExecutor:
    """Kept for the life of the process: the products' libraries hold buffers for each thread that ever was."""
    return ThreadPoolExecutor(count, "lane", initializer=torch.set_num_threads, initargs=(threads,))


def _numbered(work: Callable[[Item], Result], items: Sequence[Item], number: int) -> Result:
    with as_piece(number):
        return work(items[number])  # items may be put together when they are asked for


@contextlib.contextmanager
def as_piece(number: int) -> Iterator[None]:
    """What is done inside is piece `number`. Pieces of a batch count from 0."""
    _here.piece = number
    try:
        yield
    finally:
        _here.piece = None


class Turns:
    """Lets the pieces of a batch add to each tensor's gradient in the order of the pieces.

    Floating-point sums depend on their order, and threads come in any. A piece waits only for pieces before it, which
    were begun before it, so no two wait for each other.
    """

    def __init__(self, tensors: Iterable[Tensor], added: Callable[[int], None]) -> None:
        """`tensors`: leaves that will be watched until `close`. `added`: told the place of each among them whenever a
        backward pass has added to its `grad`, before the next piece may."""
        self._told = added
        self._changed = threading.Condition()
        self._added: list[set[int]] = []
        self._ended: set[int] = set()
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self.watch(tensors)
        self._lasting = len(self._added)

    def watch(self, tensors: Iterable[Tensor]) -> None:
        """Watch more leaves, until the next `begin`."""
        for tensor in tensors:
            place = len(self._added)
            self._added.append(set())
            waits, passes = functools.partial(self._wait, place), functools.partial(self._pass, place)
            self._handles += [
                tensor.register_hook(waits),  # type: ignore[no-untyped-call]
                tensor.register_post_accumulate_grad_hook(passes),  # type: ignore[no-untyped-call]
            ]

    def begin(self) -> None:
        """A new batch."""
        for handle in self._handles[2 * self._lasting :]:
            handle.remove()
        del self._handles[2 * self._lasting :], self._added[self._lasting :]
        self._ended.clear()
        for added in self._added:
            added.clear()

    def close(self) -> None:
        """Leave the tensors alone."""
        for handle in self._handles:
            handle.remove()

    @contextlib.contextmanager
    def piece(self) -> Iterator[None]:
        """Around the backward pass of the piece that this thread computes."""
        piece = current_piece()
        assert piece is not None
        try:
            yield
        finally:
            with self._changed:  # also after an error: nobody waits for what will not come
                self._ended.add(piece)
                self._changed.notify_all()

    def _wait(self, place: int, _gradient: Tensor) -> None:
        piece = current_piece()
        if piece is None:
            return
        added = self._added[place]
        with self._changed:
            self._changed.wait_for(lambda: all(one in added or one in self._ended for one in range(piece)))

    def _pass(self, place: int, _tensor: Tensor) -> None:
        if place < self._lasting:
            self._told(place)
        piece = current_piece()
        if piece is not None:
            with self._changed:
                self._added[place].add(piece)
                self._changed.notify_all()
