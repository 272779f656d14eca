"""Several processes that train one model together (data parallel), with the batch and the losses of one process.

Each process holds the whole model and computes its share of the micro-batches of every batch. Their gradients are
summed before the optimizer's step, so all processes have the same weights after it. The first process leads: it alone
writes, and does everything but the training.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor

from tuneoff import stopping
from tuneoff.errors import RunFailure

_BUCKET = 2**24  # numbers that are summed at once: they are copied
# The leader may write a large state to a slow disk meanwhile. A process that dies is noticed at once.
_PATIENCE = timedelta(hours=2)
_LATER_SECONDS = 0.5


@dataclass(frozen=True)
class ProcessGroup:
    """`size` processes, of which this one is number `rank`. A group of one communicates with nobody."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """The indices of this process among `count` items. Neighbours, which are of similar size, are spread."""
        return range(self.rank, count, self.size)

    def sum(self, *numbers: float) -> list[float]:
        """The sums of each number over all processes, the same in all of them."""
        if self.size == 1:
            return list(numbers)
        found = torch.tensor(numbers, dtype=torch.float64)
        self._reduce(found)
        return [float(number) for number in found]

    def sum_gradients(self, tensors: Sequence[Tensor]) -> None:
        """Replace the gradient of each tensor by its sum over all processes.

        Where no process has one, there is none afterwards: such a tensor is not to decay either.
        """
        if self.size == 1:
            return
        counts = self.sum(*(float(tensor.grad is not None) for tensor in tensors))
        bucket: list[Tensor] = []
        for tensor in (tensor for tensor, count in zip(tensors, counts, strict=True) if count):
            if tensor.grad is None:
                tensor.grad = torch.zeros_like(tensor)
            if bucket and sum(each.numel() for each in bucket) + tensor.numel() > _BUCKET:
                self._sum_bucket(bucket)
                bucket = []
            bucket.append(tensor.grad)
        if bucket:
            self._sum_bucket(bucket)

    def _sum_bucket(self, gradients: Sequence[Tensor]) -> None:
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        self._reduce(flat)
        for gradient, summed in zip(gradients, torch.split(flat, [each.numel() for each in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def in_turn(self, action: Callable[[], None]) -> None:
        """Do `action` in the leader first, and then in the others."""
        if self.leads:
            action()
        self.sum(0.0)
        if not self.leads:
            action()

    def _reduce(self, tensor: Tensor) -> None:
        import torch.distributed as dist

        try:
            dist.all_reduce(tensor)
        except RuntimeError as error:
            time.sleep(_LATER_SECONDS)
            stopping.check()  # all processes of a job are asked to end at once, and one was faster
            raise RunFailure("another process of this run has ended; its log says why") from error


ALONE = ProcessGroup()


@contextlib.contextmanager
def joined(rank: int, size: int, meeting: str) -> Iterator[ProcessGroup]:
    """Join the processes that meet at the file `meeting`, which does not exist before, as number `rank` of `size`.

    They talk to each other on this machine only. Raises `RunFailure` if they do not meet.
    """
    import torch.distributed as dist

    name = "lo0" if sys.platform == "darwin" else "lo"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
    try:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise RunFailure(f"the {size} processes of this run do not reach each other ({error})") from error
    try:
        yield ProcessGroup(rank, size)
    finally:
        with contextlib.suppress(RuntimeError):  # the others may be gone
            dist.destroy_process_group()
