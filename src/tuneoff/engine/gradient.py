"""The gradient of a batch: cut into pieces, several at once; what all rows begin with is computed once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tuneoff.engine.batching import even_pieces
from tuneoff.engine.forward import Trainable, collate, loss_at, overhead_of, target_loss
from tuneoff.engine.lanes import Lanes, Turns
from tuneoff.engine.optimizer import MasterAdamW
from tuneoff.engine.prefill import Shared, read_shared, worth_sharing
from tuneoff.prompts import Encoded


class Gradients:
    """Adds the gradients of batches to what `optimizer` moves. One for each training; close it.

    The common beginning of a batch's rows (virtual tokens, a system message, the instruction) is computed once. With
    dropout all rows of the batch then share the mask at those positions.
    """

    def __init__(
        self, adapted: Trainable, optimizer: MasterAdamW, *, pad_id: int, device: torch.device, tokens: int
    ) -> None:
        """`tokens`: how many the forward passes that are under way may hold in all, padding included."""
        self._adapted, self._pad_id, self._device = adapted, pad_id, device
        self._lanes = Lanes(device)
        self._tokens = max(1, tokens // self._lanes.count)
        self._turns = Turns(optimizer.parameters, optimizer.take)
        # torch has one random generator for all threads: a model that draws from it (dropout) gets one piece after the
        # other, so that it draws the same numbers each time. The first batch shows whether it does.
        self._draws: bool | None = None

    def close(self) -> None:
        """Leave the trainable tensors alone."""
        self._turns.close()

    def add(self, examples: Sequence[Encoded]) -> tuple[float, int]:
        """Add the gradient of the batch's mean loss over target tokens; returns that loss and the tokens processed."""
        targets = sum(len(row.target) for row in examples)
        before = torch.get_rng_state() if self._draws is None else None
        self._turns.begin()
        with self._beginning(examples) as shared:

            def work(piece: Sequence[Encoded]) -> float:
                with self._turns.piece():
                    loss = self._loss(piece, shared) / targets
                    loss.backward()  # type: ignore[no-untyped-call]
                    return float(loss.detach())

            rest = examples if shared is None else [shared.rest(row) for row in examples]
            overhead = overhead_of(self._adapted) if shared is None else 0
            pieces = even_pieces(rest, self._tokens, overhead, self._lanes.count)
            loss = sum(self._lanes.map(work, pieces, alone=self._draws is not False))
        if before is not None:
            self._draws = not torch.equal(before, torch.get_rng_state())
        return loss, sum(len(row.prompt) + len(row.target) for row in examples)

    def _loss(self, piece: Sequence[Encoded], shared: Shared | None) -> Tensor:
        batch = collate(piece, self._pad_id, self._device)
        if shared is None:
            return target_loss(self._adapted, batch)
        return loss_at(shared.logits(batch.ids_BT, batch.predicts_BT)[0], batch.targets_N)

    @contextlib.contextmanager
    def _beginning(self, examples: Sequence[Encoded]) -> Iterator[Shared | None]:
        """What all rows begin with, read. Its own backward pass follows the pieces', once its gradient is known."""
        shared = read_shared(self._adapted, examples, self._device, worth=worth_sharing(self._device))
        if shared is None:
            yield None
            return
        states = shared.states()
        leaves = [state.detach().requires_grad_(state.requires_grad) for state in states]
        learned = [(state, leaf) for state, leaf in zip(states, leaves, strict=True) if state.requires_grad]
        self._turns.watch(leaf for _, leaf in learned)
        yield shared.with_states(leaves)
        if learned:
            torch.autograd.backward([state for state, _ in learned], [leaf.grad for _, leaf in learned])
