"""Prompts that training cannot change, read without a gradient and kept.

Where all that trains stands after the prompt, the model makes the same keys and values of a prompt at every step. They
are read once and kept as long as there is room; a step then computes virtual tokens and targets alone. What finds no
room is read anew each time, which still spares the gradient through the prompt.

Shapes: B rows, S prompt positions (padding on the left), V virtual tokens, T target positions, X = V + T,
D width of the model, N target tokens of all rows, H heads of keys, W width of a head.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Sequence

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from tuneoff.engine.loss import Trainable, accepts, logits_where, loss_at
from tuneoff.engine.prefill import Reader, reads_in_pieces
from tuneoff.prompts import Encoded

# Share of the memory that is free at the beginning; the rest is for activations and for other runs beside this one.
_SHARE = 0.25

Layers = tuple[Tensor, ...]  # of one prompt, each (H, S, W): key and value of the first layer, of the second ...


class HeldPrompts:
    """The prompts of `rows`; those of `again` are worth keeping, up to `room` bytes."""

    def __init__(
        self,
        adapted: Trainable,
        rows: Iterable[Encoded],
        again: Iterable[Encoded],
        pad_id: int,
        device: torch.device,
        room: int,
    ) -> None:
        self._adapted, self._device, self._room = adapted, device, room
        self._again = {hash(row.prompt) for row in again}  # not the prompts: there may be a million
        self._kept: dict[tuple[int, ...], Layers] = {}
        self._keeping = threading.Lock()
        with torch.inference_mode(False), torch.no_grad():
            self._reader = Reader(adapted, rows, pad_id, device)

    @property
    def kept(self) -> int:
        """Prompts in memory."""
        return len(self._kept)

    def loss(self, rows: Sequence[Encoded]) -> Tensor:
        """Sum over the target tokens of `rows` of their negative log likelihood, in nats, in fp32."""
        targets_N = torch.tensor([token for row in rows for token in row.target], device=self._device)
        return loss_at(self._logits(rows), targets_N)

    def _logits(self, rows: Sequence[Encoded]) -> Tensor:
        """Logits (N, vocabulary) at the positions that predict a target token, row by row."""
        model, suffix_VD = self._adapted.model, self._adapted.suffix()
        assert suffix_VD is not None
        virtual, width = len(suffix_VD), max(len(row.target) for row in rows) - 1  # the last one predicts nothing
        ids_BT = torch.zeros((len(rows), width), dtype=torch.long)
        predicts_BX = torch.zeros((len(rows), virtual + width), dtype=torch.bool)
        for index, row in enumerate(rows):
            ids_BT[index, : len(row.target) - 1] = torch.tensor(row.target[:-1])
            predicts_BX[index, virtual - 1 : virtual - 1 + len(row.target)] = True
        predicts_BX = predicts_BX.to(self._device)
        target_BTD = model.get_input_embeddings()(ids_BT.to(self._device))  # type: ignore[operator]
        cache, mask_BS = self._past(rows)
        positions_BX = mask_BS.sum(1, keepdim=True) + torch.arange(virtual + width, device=self._device)
        inputs: dict[str, object] = {
            "inputs_embeds": torch.cat([suffix_VD.to(target_BTD.dtype).expand(len(rows), -1, -1), target_BTD], dim=1),
            "position_ids": positions_BX,
            "attention_mask": F.pad(mask_BS, (0, virtual + width), value=1),
            "past_key_values": cache,
        }
        if accepts(model, "use_cache"):
            inputs["use_cache"] = False
        return logits_where(model, predicts_BX, inputs)

    def _past(self, rows: Sequence[Encoded]) -> tuple[DynamicCache, Tensor]:
        """A cache of the prompts, every row ending at the same place, and the mask (B, S) of what is real in it."""
        read = [self._layers(row) for row in rows]
        width = max(len(row.prompt) for row in rows)
        mask_BS = torch.zeros((len(rows), width), dtype=torch.long, device=self._device)
        blocks = [states.new_zeros(len(rows), states.shape[0], width, states.shape[2]) for states in read[0]]
        for index, (row, layers) in enumerate(zip(rows, read, strict=True)):
            mask_BS[index, width - len(row.prompt) :] = 1
            for block_BHSW, states_HSW in zip(blocks, layers, strict=True):
                block_BHSW[index, :, width - len(row.prompt) :] = states_HSW
        cache = DynamicCache(config=self._adapted.model.config)
        for place in range(0, len(blocks), 2):
            cache.update(blocks[place], blocks[place + 1], place // 2)
        return cache, mask_BS

    def _layers(self, row: Encoded) -> Layers:
        """Keys and values of one prompt. It is read alone: their last digits then depend neither on other rows nor on
        whether they were kept."""
        if row.prompt in self._kept:
            return self._kept[row.prompt]
        with torch.inference_mode(False), torch.no_grad():
            read = self._reader.read_prompts([row], 0).cache
            layers = tuple(states[0].clone() for layer in read.layers for states in (layer.keys, layer.values))
        size = sum(states.nbytes for states in layers)
        with self._keeping:
            if hash(row.prompt) in self._again and row.prompt not in self._kept and size <= self._room:
                self._kept[row.prompt] = layers
                self._room -= size
        return layers


def hold(
    adapted: Trainable, splits: Sequence[tuple[Sequence[Encoded], bool]], pad_id: int, device: torch.device
) -> HeldPrompts | None:
    """For the rows of `splits`, each with whether its rows will come more than once.

    None where prompts change with training, where nothing follows them, or where the model's cache is not plain.
    """
    if adapted.suffix() is None or adapted.prefix() is not None or not reads_in_pieces(adapted.model):
        return None
    if any(parameter.requires_grad for parameter in adapted.model.parameters()):
        return None
    rows = itertools.chain.from_iterable(split for split, _ in splits)
    again = itertools.chain.from_iterable(split for split, often in splits if often)
    return HeldPrompts(adapted, rows, again, pad_id, device, int(_SHARE * _free(device)))


def _free(device: torch.device) -> int:
    """Free bytes where the model computes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
