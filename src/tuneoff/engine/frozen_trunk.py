"""A frozen trunk: the outputs of blocks that training cannot change, computed once for each row.

If everything that trains comes after some block, the states that this block receives are the same at every step. They
are computed once, without a gradient, and kept: in the cache folder, where the other runs of a study find them, else in
memory, else they are computed again. A training step then computes only the blocks above.

Whether a model can be cut there is seen from the model itself: autograd says where training begins, and one row is
computed in both ways, which must give the same bits.

Shapes: B rows, T positions (padded on the right), D model width, N target tokens of all rows, vocab vocabulary size.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tuneoff.engine.batching import row_length, row_lengths
from tuneoff.engine.loss import VirtualTokenModel, collate, dtype_of, summed_cross_entropy, target_logits, target_loss
from tuneoff.engine.memory import free_bytes
from tuneoff.engine.parallel import TRIAL_PASS, micro_batch_index
from tuneoff.prompts import Encoded
from tuneoff.row_cache import RowCache

# Fraction of the memory that is free when training starts. Activations and concurrent runs need the rest.
_FREE_MEMORY_FRACTION = 0.25
# Below this fraction of frozen blocks, reading the states saves too little.
_MIN_FROZEN_FRACTION = 0.25


class _TrunkComputed(Exception):
    """Ends a forward pass at the first block that trains."""

    def __init__(self, states_BTD: Tensor) -> None:
        super().__init__()
        self.states_BTD = states_BTD


def list_of_blocks(model: nn.Module) -> nn.ModuleList | None:
    """The decoder's blocks in order: the longest list of modules; None if there is none."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len, default=None)


@dataclass(frozen=True)
class _Cut:
    """Where training begins: `frozen` blocks, then the block `first`, which receives their states."""

    frozen: Sequence[nn.Module]
    first: nn.Module
    in_tuple: bool
    """Whether blocks return a tuple."""


class FrozenTrunk:
    """Computes losses from the states that the first trained block receives. Call `close` at the end."""

    def __init__(
        self,
        adapted: VirtualTokenModel,
        cut: _Cut,
        pad_id: int,
        device: torch.device,
        max_bytes: int,
        rows: RowCache | None,
    ) -> None:
        """At most `max_bytes` bytes of states are kept in memory. `rows`: the place on disk, if any."""
        self._adapted, self._cut, self._pad_id, self._device = adapted, cut, pad_id, device
        self._dtype = dtype_of(adapted.model)
        self._in_memory: dict[bytes, Tensor] = {}
        self._free_bytes, self._on_disk = max_bytes, rows
        self._threads = torch.get_num_threads()
        self._lock, self._thread = threading.Lock(), threading.local()
        self._trusted = False  # whether a row on disk was the one that is computed here
        self.reused_seconds = 0.0
        """Seconds that computing what was read from the disk had taken in other runs."""
        self._without_dropout = _modules_before(adapted.model, cut)
        self._originals = [(block, block.__dict__.get("forward")) for block in (*cut.frozen, cut.first)]
        for block in cut.frozen:
            block.forward = self._skip_or(block.forward)
        cut.first.forward = self._end_or(cut.first.forward)

    def close(self) -> None:
        """Make the model as it was."""
        for block, forward in self._originals:
            if forward is None:
                del block.forward
            else:
                block.forward = forward

    @property
    def kept(self) -> int:
        """Number of rows in memory."""
        return len(self._in_memory)

    def reader(self, *, repeated: bool) -> TrunkReader:
        """The trunk for the rows of one split. Rows that are used once only are not kept in memory."""
        return TrunkReader(self, repeated)

    def loss(self, rows: Sequence[Encoded], *, repeated: bool) -> Tensor:
        """Negative log likelihood in nats, summed over the target tokens of `rows`, in fp32."""
        batch = collate(rows, self._pad_id, self._device)
        if any(module.training for module in self._without_dropout):  # the states are random
            return target_loss(self._adapted, batch)
        states = [self._states(row, repeated) for row in rows]
        states_BTD = states[0].new_zeros(*batch.ids_BT.shape, states[0].shape[-1])
        for row_TD, each_TD in zip(states_BTD, states, strict=True):
            row_TD[: len(each_TD)] = each_TD
        with self._given(states_BTD):
            return summed_cross_entropy(target_logits(self._adapted, batch), batch.targets_N)

    def agrees(self, row: Encoded) -> bool:
        """Whether a row has the same logits, bit by bit, with the trunk's states as without them."""
        batch = collate([row], self._pad_id, self._device)
        with torch.no_grad():
            with self._given(self._compute(row)[None]):
                mine = target_logits(self._adapted, batch)
            return torch.equal(mine, target_logits(self._adapted, batch))

    def _states(self, row: Encoded, repeated: bool) -> Tensor:
        """The states (T, D) of one row.

        Each row is computed alone. Its last digits then depend neither on other rows nor on where it was kept.
        """
        digest = hashlib.sha256(array("I", row.prompt + row.target)).digest()
        kept = self._in_memory.get(digest)
        if kept is not None:
            return kept
        found = self._read(digest, row)
        if found is not None:
            return found
        start = time.perf_counter()
        states_TD = self._compute(row)
        # Of the machine: workers that compute other rows at the same time have the other threads.
        seconds = (time.perf_counter() - start) * torch.get_num_threads() / self._threads
        on_disk = self._on_disk is not None and self._on_disk.add(digest, _as_bytes(states_TD), seconds)
        if repeated and not on_disk:
            with self._lock:
                if digest not in self._in_memory and states_TD.nbytes <= self._free_bytes:
                    self._in_memory[digest] = states_TD
                    self._free_bytes -= states_TD.nbytes
        return states_TD

    def _read(self, digest: bytes, row: Encoded) -> Tensor | None:
        """The states of a row from the disk. The first one is computed too: other weights would give other states."""
        found = None if self._on_disk is None else self._on_disk.get(digest)
        if found is None:
            return None
        states_TD = _from_bytes(found.content, row_length(row), self._dtype, self._device)
        with self._lock:
            if not self._trusted:
                if states_TD is None or not torch.equal(states_TD, self._compute(row)):
                    self._on_disk = None
                    return None
                self._trusted = True
            self.reused_seconds += 0.0 if found.written_here else found.seconds
        return states_TD

    def _compute(self, row: Encoded) -> Tensor:
        self._thread.ends = True
        try:
            with torch.inference_mode(False), torch.no_grad():
                target_loss(self._adapted, collate([row], self._pad_id, self._device))
        except _TrunkComputed as reached:
            return reached.states_BTD[0].clone()
        finally:
            self._thread.ends = False
        raise AssertionError("no block was reached")

    @contextlib.contextmanager
    def _given(self, states_BTD: Tensor) -> Iterator[None]:
        """In this thread, the frozen blocks return these states."""
        self._thread.states_BTD = states_BTD
        try:
            yield
        finally:
            self._thread.states_BTD = None

    def _skip_or(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            states_BTD = getattr(self._thread, "states_BTD", None)
            if states_BTD is None:
                return forward(*arguments, **named)
            return (states_BTD,) if self._cut.in_tuple else states_BTD

        return call

    def _end_or(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if getattr(self._thread, "ends", False):
                raise _TrunkComputed(arguments[0])
            return forward(*arguments, **named)

        return call


@dataclass(frozen=True)
class TrunkReader:
    """A frozen trunk for the rows of one split."""

    trunk: FrozenTrunk
    repeated: bool

    def loss(self, rows: Sequence[Encoded]) -> Tensor:
        """Negative log likelihood in nats, summed over the target tokens of `rows`, in fp32."""
        return self.trunk.loss(rows, repeated=self.repeated)


def make_frozen_trunk(
    adapted: VirtualTokenModel,
    splits: Sequence[tuple[Sequence[Encoded], bool]],
    pad_id: int,
    device: torch.device,
    open_rows: Callable[[int], RowCache] | None = None,
) -> FrozenTrunk | None:
    """A frozen trunk for `splits`: pairs of rows and whether these rows are used more than once.

    `open_rows` opens the place on disk for a number of frozen blocks. None if training changes too many blocks, if
    there are virtual tokens, if no row is used twice, or if the model cannot be cut between two blocks. Puts the model
    into evaluation mode.
    """
    repeated = open_rows is not None or any(is_repeated for _, is_repeated in splits)
    if adapted.prefix() is not None or adapted.suffix() is not None or not repeated:
        return None
    rows = splits[0][0]
    lengths = row_lengths(rows)
    shortest = rows[lengths.index(min(lengths))]
    adapted.model.eval()
    with _nothing_drawn(device), micro_batch_index(TRIAL_PASS):
        cut = _find_cut(adapted, shortest, pad_id, device)
        if cut is None:
            return None
        budget = int(_FREE_MEMORY_FRACTION * free_bytes(device))
        place = None if open_rows is None else open_rows(len(cut.frozen))
        trunk = FrozenTrunk(adapted, cut, pad_id, device, budget, place)
        with contextlib.suppress(Exception):  # blocks of a model may be anything
            if trunk.agrees(shortest):
                return trunk
        trunk.close()
    return None


def _find_cut(adapted: VirtualTokenModel, row: Encoded, pad_id: int, device: torch.device) -> _Cut | None:
    """Where autograd says that training begins; None if too little comes before."""
    blocks = list(list_of_blocks(adapted.model) or ())
    inputs: list[Any] = []
    outputs: list[Any] = []

    def before(_block: nn.Module, arguments: tuple[Any, ...]) -> None:
        inputs.append(arguments[0] if arguments else None)

    def after(_block: nn.Module, _arguments: tuple[Any, ...], output: Any) -> None:
        outputs.append(output)

    with contextlib.ExitStack() as stack:
        for block in blocks:
            stack.callback(block.register_forward_pre_hook(before).remove)
            stack.callback(block.register_forward_hook(after).remove)
        target_loss(adapted, collate([row], pad_id, device))
    if len(inputs) != len(blocks) or not all(isinstance(each, Tensor) for each in inputs):
        return None
    untrained = [not each.requires_grad for each in inputs]
    frozen = untrained.index(False) - 1 if False in untrained else len(blocks) - 1
    if frozen < 1 or frozen < _MIN_FROZEN_FRACTION * len(blocks):
        return None
    return _Cut(blocks[:frozen], blocks[frozen], isinstance(outputs[0], tuple))


def _modules_before(model: nn.Module, cut: _Cut) -> list[nn.Module]:
    """The modules whose dropout would change the states: those of frozen blocks, and dropout outside of all blocks."""
    frozen = [module for block in cut.frozen for module in block.modules()]
    inside = {id(module) for block in list_of_blocks(model) or () for module in block.modules()}
    dropout = (nn.Dropout, nn.Dropout1d, nn.AlphaDropout)
    return frozen + [each for each in model.modules() if isinstance(each, dropout) and id(each) not in inside]


@contextlib.contextmanager
def _nothing_drawn(device: torch.device) -> Iterator[None]:
    """Restore torch's random generators afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _as_bytes(states_TD: Tensor) -> bytes:
    return states_TD.cpu().contiguous().view(torch.uint8).numpy().tobytes()


def _from_bytes(content: bytes, width: int, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """The inverse of `_as_bytes` for `width` positions; None for bytes that cannot be that."""
    if not content or len(content) % (width * dtype.itemsize):
        return None
    numbers = torch.frombuffer(bytearray(content), dtype=dtype)
    return numbers.view(width, -1).to(device)
