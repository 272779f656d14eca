"""The gradient of a batch: concurrent micro-batches, with the shared prefix of all rows computed once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from tuneoff import stopping
from tuneoff.engine.batching import row_length, split_micro_batches
from tuneoff.engine.kernels.packed_layers import check_packed_weights
from tuneoff.engine.loss import (
    VirtualTokenModel,
    collate,
    count_virtual_tokens,
    dtype_of,
    summed_cross_entropy,
    target_loss,
)
from tuneoff.engine.optimizer import MasterAdamW
from tuneoff.engine.parallel import (
    TRIAL_PASS,
    MicroBatchPart,
    OrderedGradients,
    ParallelWorkers,
    micro_batch_index,
    part_of_micro_batch,
)
from tuneoff.engine.prefill import SharedPrefix, changes_frequencies, shared_prefix_for_loss
from tuneoff.engine.process_group import ALONE, ProcessGroup
from tuneoff.prompts import Encoded


class ComputedBefore(Protocol):
    """A part of the forward pass that training does not change: a prompt cache, or a frozen trunk."""

    def loss(self, rows: Sequence[Encoded]) -> Tensor:
        """Negative log likelihood in nats, summed over the target tokens of `rows`, in fp32."""
        ...


def batch_loss(
    adapted: VirtualTokenModel,
    rows: Sequence[Encoded],
    shared: SharedPrefix | None,
    computed: ComputedBefore | None,
    pad_id: int,
    device: torch.device,
) -> Tensor:
    """`target_loss` of `rows`, with what was `computed` before, or the beginning of prompts from `shared`, if given."""
    if computed is not None:
        return computed.loss(rows)
    if shared is None:
        return target_loss(adapted, collate(rows, pad_id, device))
    batch = collate([shared.strip(row) for row in rows], pad_id, device)
    return summed_cross_entropy(shared.logits(batch.ids_BT, batch.predicts_BT)[0], batch.targets_N)


def _parts(micro_batch: Sequence[Encoded], count: int) -> Iterator[Sequence[Encoded]]:
    """The rows of a micro-batch in `count` parts, each with its position in it for dropout masks."""
    rows, longest = len(micro_batch), max(map(row_length, micro_batch))
    count = min(count, rows)
    if count == 1:
        yield micro_batch
        return
    for index in range(count):
        first, end = rows * index // count, rows * (index + 1) // count
        part = micro_batch[first:end]
        with part_of_micro_batch(MicroBatchPart(first, end, rows, longest - max(map(row_length, part)))):
            yield part


class GradientAccumulator:
    """Accumulates the gradients of batches for one optimizer. Call `close` when training ends.

    The shared prefix of the rows of a batch (virtual tokens, system message, instruction) is computed once. With
    dropout, all rows of the batch then share the mask at those positions.
    """

    def __init__(
        self,
        adapted: VirtualTokenModel,
        optimizer: MasterAdamW,
        *,
        pad_id: int,
        device: torch.device,
        tokens: int,
        computed: ComputedBefore | None = None,
        parts: int = 1,
        group: ProcessGroup = ALONE,
    ) -> None:
        """Accumulate into the gradients of `optimizer`.

        Args:
            adapted: the model.
            optimizer: of the tensors that train.
            pad_id: token of the padding.
            device: of the model.
            tokens: limit for the tokens, padding included, that two concurrent forward passes hold together.
            computed: what training does not change, if anything was computed before.
            parts: number of parts that each micro-batch is computed in, if it has as many rows.
            group: the processes that share the micro-batches of a batch.
        """
        check_packed_weights(adapted.model)
        self._adapted, self._pad_id, self._device = adapted, pad_id, device
        self._computed = computed
        self._workers = ParallelWorkers(device, dtype_of(adapted.model), alone=changes_frequencies(adapted.model))
        self._optimizer, self._parts, self._group = optimizer, parts, group
        # Each process has as much to do, where that is possible.
        self._multiple = math.lcm(self._workers.multiple, group.size)
        self._tokens = max(1, tokens // self._workers.token_divisor)
        self._ordered = OrderedGradients(optimizer.parameters, optimizer.accumulate)
        self._draws_random_numbers: bool | None = None

    def close(self) -> None:
        """Remove all hooks from the trainable tensors."""
        self._ordered.close()

    def begin_again(self, parts: int) -> None:
        """Drop the gradients of a batch that failed, and compute each micro-batch in `parts` parts from now on.

        The parts are computed one after the other. The masks of our dropout are those of the whole micro-batch, so the
        loss stays the same up to rounding.
        """
        self._optimizer.discard_gradients()
        self._parts = parts

    def add(self, examples: Sequence[Encoded]) -> tuple[float, int]:
        """Add the gradient of the mean loss over the target tokens of a batch.

        Returns that loss and the number of tokens processed, without padding and virtual tokens.
        """
        targets = sum(len(row.target) for row in examples)
        if self._draws_random_numbers is None:
            self._draws_random_numbers = self._detect_random_draws(min(examples, key=row_length))
        self._ordered.begin_batch()
        with self._shared_prefix(examples) as shared:

            def work(micro_batch: Sequence[Encoded]) -> Tensor:
                losses = []
                with self._ordered.micro_batch():
                    for rows in _parts(micro_batch, self._parts):
                        stopping.check()
                        summed = batch_loss(self._adapted, rows, shared, self._computed, self._pad_id, self._device)
                        loss = summed / targets
                        loss.backward()  # type: ignore[no-untyped-call]
                        losses.append(loss.detach())
                return torch.stack(losses).sum() if len(losses) > 1 else losses[0]

            overhead = count_virtual_tokens(self._adapted) if shared is None else -shared.tokens
            micro_batches = split_micro_batches(examples, self._tokens, overhead, self._multiple)
            in_order = self._draws_random_numbers or self._parts > 1
            own = self._group.share(len(micro_batches))
            self._ordered.leave_out(index for index in range(len(micro_batches)) if index not in own)
            losses = self._workers.map(work, micro_batches, own, sequential=in_order)
        self._group.sum_gradients(self._optimizer.accumulators)
        # Converted to floats last: reading a value earlier would make an accelerator wait.
        [loss] = self._group.sum(sum(float(loss) for loss in losses))
        return loss, sum(len(row.prompt) + len(row.target) for row in examples)

    def _detect_random_draws(self, row: Encoded) -> bool:
        """Whether a forward pass draws from torch's global generator, as `nn.Dropout` does.

        All threads share that generator. Such a model must compute its micro-batches one after the other to draw the
        same numbers in every run.
        """
        if self._workers.multiple == 1:  # sequential anyway; an accelerator's generator would not be restored here
            return True
        before = torch.get_rng_state()
        with torch.no_grad(), micro_batch_index(TRIAL_PASS):
            target_loss(self._adapted, collate([row], self._pad_id, self._device))
        drawn = not torch.equal(before, torch.get_rng_state())
        torch.set_rng_state(before)
        return drawn

    @contextlib.contextmanager
    def _shared_prefix(self, examples: Sequence[Encoded]) -> Iterator[SharedPrefix | None]:
        """The shared prefix of `examples`. Its backward pass runs after those of the micro-batches."""
        with micro_batch_index(None):
            shared = shared_prefix_for_loss(self._adapted, examples, self._device) if self._computed is None else None
        if shared is None:
            yield None
            return
        states = shared.key_values()
        leaves = [state.detach().requires_grad_(state.requires_grad) for state in states]
        trainable = [(state, leaf) for state, leaf in zip(states, leaves, strict=True) if state.requires_grad]
        self._ordered.watch(leaf for _, leaf in trainable)
        yield shared.with_key_values(leaves)
        trainable = [(state, leaf) for state, leaf in trainable if leaf.grad is not None]  # of no micro-batch here
        if trainable:
            torch.autograd.backward([state for state, _ in trainable], [leaf.grad for _, leaf in trainable])
