"""Reading prompts into a key-value cache, before anything is written.

Prompts of similar length are read together in pieces, padded on the right and so without a mask; what all of them begin
with (virtual tokens, a system message, the shots of a few-shot prompt) is read once. In the cache every row ends at the
same place, its padding on the left. Models whose cache is no plain list of keys and values are read in one piece.

Shapes: B rows, T positions, S shared positions (virtual tokens V included), D width of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from tuneoff.engine.batching import micro_batches
from tuneoff.engine.cache import RoomyLayer, decoding_cache
from tuneoff.engine.forward import Trainable, accepts, keeps_masked, with_prefix
from tuneoff.prompts import Encoded

# Tokens of one piece. Larger ones fall out of the processor's caches (docs/performance.md).
_PIECE = 1024
# A shorter common beginning is not worth a pass of its own.
_WORTH_SHARING = 8


@dataclass
class Prefilled:
    """Prompts in a cache. `logits_BV` predict the first new token; `mask_BT` is 0 at padding."""

    logits_BV: Tensor
    cache: DynamicCache
    mask_BT: Tensor


class Reader:
    """Reads the batches of one generation. `prompts` are all prompts that will come."""

    def __init__(self, adapted: Trainable, prompts: Sequence[Encoded], pad_id: int, device: torch.device) -> None:
        self._adapted, self._pad_id, self._device = adapted, pad_id, device
        self._in_pieces = accepts(adapted.model, "position_ids") and _is_plain(adapted.model)
        self._shared_ids = 0
        self._shared: DynamicCache | None = None
        if self._in_pieces and prompts:
            self._read_shared(prompts)

    def read(self, rows: Sequence[Encoded], room: int) -> Prefilled:
        """Read `rows` into a cache with room for `room` more positions."""
        if not self._in_pieces:
            return self._read_at_once(rows, room)
        places = {id(row): place for place, row in enumerate(rows)}
        ends_first = max(len(row.prompt) for row in rows) - self._shared_ids
        shared = self._shared.get_seq_length() if self._shared is not None else 0
        width = shared + ends_first
        mask_BT = torch.zeros((len(rows), width), dtype=torch.long, device=self._device)
        layers: list[RoomyLayer] = []
        logits: list[Tensor | None] = [None] * len(rows)
        for piece in micro_batches(rows, _PIECE, -self._shared_ids):
            last_BV, cache = self._forward(piece)
            if not layers:
                layers = [RoomyLayer.empty(layer.keys, layer.values, len(rows), width, room) for layer in cache.layers]
            for index, row in enumerate(piece):
                place, length = places[id(row)], shared + len(row.prompt) - self._shared_ids
                for target, source in zip(layers, cache.layers, strict=True):
                    target.place(place, source.keys[index, :, :length], source.values[index, :, :length])
                mask_BT[place, width - length :] = 1
                logits[place] = last_BV[index]
        whole = DynamicCache(config=self._adapted.model.config)
        whole.layers = layers
        return Prefilled(torch.stack([row for row in logits if row is not None]), whole, mask_BT)

    def _read_shared(self, prompts: Sequence[Encoded]) -> None:
        first = prompts[0].prompt
        same = min(len(row.prompt) for row in prompts) - 1  # every row keeps a token that predicts the next
        for row in prompts[1:]:
            same = next((place for place in range(same) if row.prompt[place] != first[place]), same)
        if len(prompts) == 1 or same < _WORTH_SHARING:
            same = 0
        prefix_VD = self._adapted.prefix()
        if prefix_VD is None and not same:
            return
        model = self._adapted.model
        ids_1T = torch.tensor([first[:same]], dtype=torch.long, device=self._device)
        inputs = (
            {"input_ids": ids_1T} if prefix_VD is None else {"inputs_embeds": with_prefix(model, ids_1T, prefix_VD)}
        )
        keep = {"logits_to_keep": 1} if accepts(model, "logits_to_keep") else {}
        self._shared = DynamicCache(config=model.config)
        model(**inputs, **keep, past_key_values=self._shared, use_cache=True)
        self._shared_ids = same

    def _forward(self, piece: Sequence[Encoded]) -> tuple[Tensor, DynamicCache]:
        """Logits (rows, vocabulary) after the last token of each row, and the cache with padding on the right."""
        model, shared = self._adapted.model, 0
        cache = DynamicCache(config=model.config)
        if self._shared is not None:
            shared = self._shared.get_seq_length()
            for index, layer in enumerate(self._shared.layers):
                expanded = (states.expand(len(piece), -1, -1, -1) for states in (layer.keys, layer.values))
                cache.update(*expanded, index)
        own = [row.prompt[self._shared_ids :] for row in piece]
        width = max(map(len, own))
        ids_BT = torch.full((len(piece), width), self._pad_id, dtype=torch.long)
        last_BT = torch.zeros((len(piece), width), dtype=torch.bool)
        for index, ids in enumerate(own):
            ids_BT[index, : len(ids)] = torch.tensor(ids)
            last_BT[index, len(ids) - 1] = True
        ids_BT, last_BT = ids_BT.to(self._device), last_BT.to(self._device)
        positions_1T = torch.arange(shared, shared + width, device=self._device)[None]
        inputs = {"input_ids": ids_BT, "position_ids": positions_1T, "past_key_values": cache, "use_cache": True}
        if keeps_masked(model):
            return model(**inputs, logits_to_keep=last_BT).logits, cache
        return model(**inputs).logits[last_BT], cache

    def _read_at_once(self, rows: Sequence[Encoded], room: int) -> Prefilled:
        model = self._adapted.model
        inputs, mask_BT = left_padded(self._adapted, rows, self._pad_id, self._device)
        cache = decoding_cache(model, room)
        keep = {"logits_to_keep": 1} if accepts(model, "logits_to_keep") else {}
        output = model(
            **inputs, **positions(model, mask_BT), **keep, attention_mask=mask_BT, past_key_values=cache, use_cache=True
        )
        return Prefilled(output.logits[:, -1], cache, mask_BT)


def _is_plain(model: nn.Module) -> bool:
    """Every layer keeps all its keys and values, in order."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)


def positions(model: nn.Module, mask_BT: Tensor) -> dict[str, Tensor]:
    """Position ids of rows that are padded on the left, for models that take them."""
    if not accepts(model, "position_ids"):
        return {}
    return {"position_ids": (mask_BT.cumsum(-1) - 1).clamp(min=0)}


def left_padded(
    adapted: Trainable, rows: Sequence[Encoded], pad_id: int, device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    """Ids or embeddings with padding on the left, and the mask of what is real.

    Virtual tokens stand between the padding and the text, so they are beside the text in every row.
    """
    width = max(len(row.prompt) for row in rows)
    prefix_VD = adapted.prefix()
    if prefix_VD is None:
        ids_BT = torch.full((len(rows), width), pad_id, dtype=torch.long)
        mask_BT = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            ids_BT[index, width - len(row.prompt) :] = torch.tensor(row.prompt)
            mask_BT[index, width - len(row.prompt) :] = 1
        return {"input_ids": ids_BT.to(device)}, mask_BT.to(device)
    virtual = len(prefix_VD)
    mask_BT = torch.zeros((len(rows), virtual + width), dtype=torch.long, device=device)
    pieces = []
    for index, row in enumerate(rows):
        ids_1T = torch.tensor([row.prompt], device=device)
        text_1XD = with_prefix(adapted.model, ids_1T, prefix_VD)
        pieces.append(F.pad(text_1XD, (0, 0, width - len(row.prompt), 0)))
        mask_BT[index, width - len(row.prompt) :] = 1
    return {"inputs_embeds": torch.cat(pieces)}, mask_BT
