"""The gradient of a batch: cut into pieces, several at once; what all rows begin with is computed once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tuneoff.engine.batching import even_pieces, length
from tuneoff.engine.loss import Trainable, collate, loss_at, target_loss, virtual_tokens
from tuneoff.engine.optimizer import MasterAdamW
from tuneoff.engine.parallel import Lanes, Turns, as_piece
from tuneoff.engine.prefill import Shared, read_beginning
from tuneoff.engine.prompt_cache import HeldPrompts
from tuneoff.prompts import Encoded

_LOOK = -1  # the number of a pass that is no piece of a batch


def loss_of(
    adapted: Trainable,
    rows: Sequence[Encoded],
    shared: Shared | None,
    held: HeldPrompts | None,
    pad_id: int,
    device: torch.device,
) -> Tensor:
    """`target_loss` of rows whose common beginning, or whose whole prompts, may have been read before."""
    if held is not None:
        return held.loss(rows)
    if shared is None:
        return target_loss(adapted, collate(rows, pad_id, device))
    batch = collate([shared.rest(row) for row in rows], pad_id, device)
    return loss_at(shared.logits(batch.ids_BT, batch.predicts_BT)[0], batch.targets_N)


class Gradients:
    """Adds the gradients of batches to what `optimizer` moves. One for each training; close it.

    The common beginning of a batch's rows (virtual tokens, a system message, the instruction) is computed once. With
    dropout all rows of the batch then share the mask at those positions.
    """

    def __init__(
        self,
        adapted: Trainable,
        optimizer: MasterAdamW,
        *,
        pad_id: int,
        device: torch.device,
        tokens: int,
        held: HeldPrompts | None = None,
    ) -> None:
        """`tokens`: how many a forward pass may hold, or two side by side together, padding included. `held`: prompts
        that do not change."""
        self._held = held
        self._adapted, self._pad_id, self._device = adapted, pad_id, device
        self._lanes = Lanes(device)
        self._tokens = max(1, tokens // self._lanes.share)
        self._turns = Turns(optimizer.parameters, optimizer.take)
        self._draws: bool | None = None

    def close(self) -> None:
        """Leave the trainable tensors alone."""
        self._turns.close()

    def add(self, examples: Sequence[Encoded]) -> tuple[float, int]:
        """Add the gradient of the batch's mean loss over target tokens; returns that loss and the tokens processed."""
        targets = sum(len(row.target) for row in examples)
        if self._draws is None:
            self._draws = self._draws_numbers(min(examples, key=length))
        self._turns.begin()
        with self._beginning(examples) as shared:

            def work(piece: Sequence[Encoded]) -> Tensor:
                with self._turns.piece():
                    loss = loss_of(self._adapted, piece, shared, self._held, self._pad_id, self._device) / targets
                    loss.backward()  # type: ignore[no-untyped-call]
                    return loss.detach()

            overhead = virtual_tokens(self._adapted) if shared is None else -shared.ids
            pieces = even_pieces(examples, self._tokens, overhead, self._lanes.pieces)
            losses = self._lanes.map(work, pieces, alone=self._draws)
        # Numbers at the end: to ask for one earlier makes an accelerator wait.
        return sum(float(loss) for loss in losses), sum(len(row.prompt) + len(row.target) for row in examples)

    def _draws_numbers(self, row: Encoded) -> bool:
        """Whether a pass draws from torch's generator (dropout). All threads share it, so such a model gets one piece
        after the other: only then it draws the same numbers each time."""
        if self._lanes.pieces == 1:  # so it is anyway; and an accelerator's generator would not be put back here
            return True
        before = torch.get_rng_state()
        with torch.no_grad(), as_piece(_LOOK):  # the masks of the batch must not depend on this
            target_loss(self._adapted, collate([row], self._pad_id, self._device))
        drawn = not torch.equal(before, torch.get_rng_state())
        torch.set_rng_state(before)
        return drawn

    @contextlib.contextmanager
    def _beginning(self, examples: Sequence[Encoded]) -> Iterator[Shared | None]:
        """What all rows begin with, read. Its own backward pass follows the pieces', once its gradient is known."""
        shared = read_beginning(self._adapted, examples, self._device)
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
