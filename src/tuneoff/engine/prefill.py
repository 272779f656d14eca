"""Reading prompts into a key-value cache, before anything is written.

Prompts of similar length are read together in pieces, padded on the right and so without a mask; what all of them begin
with (virtual tokens, a system message, the shots of a few-shot prompt) is read once. In the cache every row ends at the
same place, its padding on the left. Models whose cache is no plain list of keys and values are read in one piece.

Shapes: B rows, T positions, S shared positions (virtual tokens V included), D width of the model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from tuneoff.engine.batching import even_pieces
from tuneoff.engine.kv_cache import RoomyLayer, decoding_cache
from tuneoff.engine.loss import Past, Trainable, accepts, logits_where, virtual_tokens, with_prefix
from tuneoff.prompts import Encoded

# Tokens of one piece. Larger ones fall out of the processor's caches (docs/performance.md).
_PIECE = 1024
# A shorter common beginning is not worth a pass of its own.
_WORTH_SHARING = 8
_WORTH_SHARING_ELSEWHERE = 64  # accelerators: a pass costs its launch, not its tokens


@dataclass
class Prefilled:
    """Prompts in a cache. `logits_BV` predict the first new token; `mask_BT` is 0 at padding."""

    logits_BV: Tensor
    cache: DynamicCache
    mask_BT: Tensor


@dataclass(frozen=True)
class Shared:
    """What all prompts of a set begin with, read: `ids` token ids, after the virtual tokens if there are any."""

    model: nn.Module
    ids: int
    cache: DynamicCache

    @property
    def positions(self) -> int:
        """S, virtual tokens included."""
        return int(self.cache.get_seq_length())

    def states(self) -> list[Tensor]:
        """Keys and values (1, heads, S, width) of every layer, one after the other."""
        return [states for layer in self.cache.layers for states in (layer.keys, layer.values)]

    def with_states(self, states: Sequence[Tensor]) -> Shared:
        """The same with other tensors in the place of `states()`."""
        cache = DynamicCache(config=self.model.config)
        for index, layer in enumerate(cache.layers):
            keys, values = states[2 * index : 2 * index + 2]
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
        return dataclasses.replace(self, cache=cache)

    def rest(self, row: Encoded) -> Encoded:
        """A row without what was read."""
        return dataclasses.replace(row, prompt=row.prompt[self.ids :])

    def logits(self, ids_BT: Tensor, wanted_BT: Tensor) -> tuple[Tensor, DynamicCache]:
        """Logits (N, vocabulary) at the wanted positions of rows that go on from here, padded on the right; and the
        cache after them."""
        cache = DynamicCache(config=self.model.config)
        for index, layer in enumerate(self.cache.layers):
            expanded = (states.expand(len(ids_BT), -1, -1, -1) for states in (layer.keys, layer.values))
            cache.update(*expanded, index)
        return _logits(self.model, ids_BT, wanted_BT, cache, self.positions), cache


def read_beginning(adapted: Trainable, rows: Sequence[Encoded], device: torch.device) -> Shared | None:
    """Read what all prompts of `rows` begin with, for their losses. None where that does not pay, or where virtual
    tokens stand after the prompts: `target_loss` puts them there."""
    if adapted.suffix() is not None:
        return None
    worth = _WORTH_SHARING if device.type == "cpu" else _WORTH_SHARING_ELSEWHERE
    return read_shared(adapted, rows, device, worth=worth)


def read_shared(
    adapted: Trainable, rows: Iterable[Encoded], device: torch.device, *, worth: int, virtual_alone: bool = False
) -> Shared | None:
    """Read what all prompts of `rows` begin with; each row is asked for once and not held.

    None when that is under `worth` ids (`virtual_alone`: and there are no virtual tokens), or when the model's cache is
    no plain one.
    """
    model = adapted.model
    if not reads_in_pieces(model):
        return None
    first: tuple[int, ...] = ()
    same = count = 0
    for count, row in enumerate(rows, 1):
        if count == 1:
            first, same = row.prompt, len(row.prompt)
        same = min(same, len(row.prompt) - 1)  # every row keeps a token that predicts the next
        if row.prompt[:same] != first[:same]:
            same = next(place for place in range(same) if row.prompt[place] != first[place])
    if not count:
        return None
    if count == 1 or same < worth:
        same = 0
    prefix = adapted.prefix()
    if not same and (prefix is None or not virtual_alone):
        return None
    ids_1T = torch.tensor([first[:same]], dtype=torch.long, device=device)
    cache = prefix.cache(model, 1) if isinstance(prefix, Past) else DynamicCache(config=model.config)
    if not same and isinstance(prefix, Past):
        return Shared(model, 0, cache)
    start = cache.get_seq_length()
    inputs = (
        {"inputs_embeds": with_prefix(model, ids_1T, prefix)}
        if isinstance(prefix, Tensor)
        else {"input_ids": ids_1T, "position_ids": torch.arange(start, start + same, device=device)[None]}
    )
    keep = {"logits_to_keep": 1} if accepts(model, "logits_to_keep") else {}
    model(**inputs, **keep, past_key_values=cache, use_cache=True)
    return Shared(model, same, cache)


def _logits(model: nn.Module, ids_BT: Tensor, wanted_BT: Tensor, cache: DynamicCache, start: int) -> Tensor:
    positions_1T = torch.arange(start, start + ids_BT.shape[1], device=ids_BT.device)[None]
    inputs = {"input_ids": ids_BT, "position_ids": positions_1T, "past_key_values": cache, "use_cache": True}
    return logits_where(model, wanted_BT, inputs)


class Reader:
    """Reads the batches of one generation. `prompts` are all prompts that will come."""

    def __init__(self, adapted: Trainable, prompts: Iterable[Encoded], pad_id: int, device: torch.device) -> None:
        self._adapted, self._pad_id, self._device = adapted, pad_id, device
        self._shared = read_shared(adapted, prompts, device, worth=_WORTH_SHARING, virtual_alone=True)

    def read(self, rows: Sequence[Encoded], room: int) -> Prefilled:
        """Read `rows`, virtual tokens included, into a cache with room for `room` more positions."""
        if not reads_in_pieces(self._adapted.model):
            return self._read_at_once(rows, room)
        suffix = self._adapted.suffix()
        if suffix is None:
            return self.read_prompts(rows, room)
        return self._append(self.read_prompts(rows, room + len(suffix)), suffix)

    def read_prompts(self, rows: Sequence[Encoded], room: int) -> Prefilled:
        """Read `rows` without the virtual tokens after them. For models that are read in pieces."""
        skipped, shared = (self._shared.ids, self._shared.positions) if self._shared else (0, 0)
        width = shared + max(len(row.prompt) for row in rows) - skipped
        mask_BT = torch.zeros((len(rows), width), dtype=torch.long, device=self._device)
        layers: list[RoomyLayer] = []
        logits: list[Tensor | None] = [None] * len(rows)
        for piece in even_pieces(rows, _PIECE, -skipped, 1).places:
            last_BV, cache = self._forward([rows[place].prompt[skipped:] for place in piece])
            if not layers:
                layers = [RoomyLayer.empty(layer.keys, layer.values, len(rows), width, room) for layer in cache.layers]
            for index, place in enumerate(piece):
                length = shared + len(rows[place].prompt) - skipped
                for target, source in zip(layers, cache.layers, strict=True):
                    target.place(place, source.keys[index, :, :length], source.values[index, :, :length])
                mask_BT[place, width - length :] = 1
                logits[place] = last_BV[index]
        whole = DynamicCache(config=self._adapted.model.config)
        whole.layers = layers
        return Prefilled(torch.stack([row for row in logits if row is not None]), whole, mask_BT)

    def _append(self, start: Prefilled, suffix_VD: Tensor) -> Prefilled:
        """Read the virtual tokens after prompts that are in the cache."""
        model, mask_BT = self._adapted.model, F.pad(start.mask_BT, (0, len(suffix_VD)), value=1)
        dtype = model.get_input_embeddings().weight.dtype  # type: ignore[operator]
        after_BVD = suffix_VD.to(dtype).repeat(len(mask_BT), 1, 1)  # a copy: models may scale their input in place
        keep = {"logits_to_keep": 1} if accepts(model, "logits_to_keep") else {}
        output = model(
            **keep,
            inputs_embeds=after_BVD,
            position_ids=positions(model, mask_BT)["position_ids"][:, -len(suffix_VD) :],
            attention_mask=mask_BT,
            past_key_values=start.cache,
            use_cache=True,
        )
        return Prefilled(output.logits[:, -1], start.cache, mask_BT)

    def _forward(self, piece: Sequence[tuple[int, ...]]) -> tuple[Tensor, DynamicCache]:
        """Logits (rows, vocabulary) after the last token of each row, and the cache with padding on the right."""
        width = max(map(len, piece))
        ids_BT = torch.full((len(piece), width), self._pad_id, dtype=torch.long)
        last_BT = torch.zeros((len(piece), width), dtype=torch.bool)
        for index, ids in enumerate(piece):
            ids_BT[index, : len(ids)] = torch.tensor(ids)
            last_BT[index, len(ids) - 1] = True
        ids_BT, last_BT = ids_BT.to(self._device), last_BT.to(self._device)
        if self._shared is not None:
            return self._shared.logits(ids_BT, last_BT)
        cache = DynamicCache(config=self._adapted.model.config)
        return _logits(self._adapted.model, ids_BT, last_BT, cache, 0), cache

    def _read_at_once(self, rows: Sequence[Encoded], room: int) -> Prefilled:
        model = self._adapted.model
        inputs, mask_BT = left_padded(self._adapted, rows, self._pad_id, self._device)
        cache, places = decoding_cache(model, room), positions(model, mask_BT)
        keep = {"logits_to_keep": 1} if accepts(model, "logits_to_keep") else {}
        output = model(**inputs, **places, **keep, attention_mask=mask_BT, past_key_values=cache, use_cache=True)
        return Prefilled(output.logits[:, -1], cache, mask_BT)


def reads_in_pieces(model: nn.Module) -> bool:
    """It takes positions, and every layer keeps all its keys and values, in order."""
    return accepts(model, "position_ids") and all(
        type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers
    )


def positions(model: nn.Module, mask_BT: Tensor) -> dict[str, Tensor]:
    """Position ids of rows that are padded on the left, for models that take them."""
    if not accepts(model, "position_ids"):
        return {}
    return {"position_ids": (mask_BT.cumsum(-1) - 1).clamp(min=0)}


def left_padded(
    adapted: Trainable, rows: Sequence[Encoded], pad_id: int, device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    """Ids or embeddings with padding on the left, and the mask of what is real.

    Virtual tokens stand between the padding and the text, or after it, so they are beside the text in every row.
    """
    width = max(len(row.prompt) for row in rows)
    prefix, suffix = adapted.prefix(), adapted.suffix()
    assert not isinstance(prefix, Past)  # its models are read in pieces
    if prefix is None and suffix is None:
        ids_BT = torch.full((len(rows), width), pad_id, dtype=torch.long)
        mask_BT = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            ids_BT[index, width - len(row.prompt) :] = torch.tensor(row.prompt)
            mask_BT[index, width - len(row.prompt) :] = 1
        return {"input_ids": ids_BT.to(device)}, mask_BT.to(device)
    mask_BT = torch.zeros((len(rows), virtual_tokens(adapted) + width), dtype=torch.long, device=device)
    pieces = []
    for index, row in enumerate(rows):
        ids_1T = torch.tensor([row.prompt], device=device)
        text_TD = adapted.model.get_input_embeddings()(ids_1T)[0]  # type: ignore[operator]
        row_XD = torch.cat([part.to(text_TD.dtype) for part in (prefix, text_TD, suffix) if part is not None])
        pieces.append(F.pad(row_XD, (0, 0, width - len(row.prompt), 0)))
        mask_BT[index, width - len(row.prompt) :] = 1
    return {"inputs_embeds": torch.stack(pieces)}, mask_BT
