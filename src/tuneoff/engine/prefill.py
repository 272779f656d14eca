"""Prefill: prompts are read into a KV cache before any token is generated.

Prompts of similar length are read together in micro-batches. They are padded on the right, so no attention mask is
needed. The shared prefix of all prompts (virtual tokens, a system message, few-shot examples) is read once. In the
resulting cache the rows are padded on the left, so all end at the same position. Models with other caches than plain
keys and values read a batch in one pass.

Shapes: B rows, T positions, S positions of the shared prefix (virtual tokens included), V virtual tokens, X = V + T,
D model width, H key-value heads, W width of a head, N wanted positions, vocab vocabulary size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from tuneoff.engine.batching import split_micro_batches
from tuneoff.engine.kv_cache import PreallocatedLayer, preallocated_cache
from tuneoff.engine.loss import (
    KeyValuePrefix,
    VirtualTokenModel,
    count_virtual_tokens,
    dtype_of,
    embed_with_prefix,
    forward_accepts,
    logits_at,
)
from tuneoff.engine.parallel import has_one_worker
from tuneoff.prompts import Encoded

# Tokens of a micro-batch. Larger ones exceed the processor's caches (docs/lab_log.md).
_MICRO_BATCH_TOKENS = 1024
# A shorter shared prefix is not worth a forward pass of its own.
_MIN_SHARED_TOKENS = 8
_MIN_SHARED_TOKENS_FAST = 64  # where products are fast, a pass of its own costs more than so few tokens


@dataclass
class PrefilledBatch:
    """Prompts in a cache. `logits_BV` (B, vocab) predict the first new token; `mask_BT` is 0 at padding."""

    logits_BV: Tensor
    cache: DynamicCache
    mask_BT: Tensor


@dataclass(frozen=True)
class SharedPrefix:
    """Keys and values of the longest common prefix of several prompts: virtual tokens, if any, then `tokens` tokens."""

    model: nn.Module
    tokens: int
    cache: DynamicCache

    @property
    def positions(self) -> int:
        """Number of positions S, virtual tokens included."""
        return int(self.cache.get_seq_length())

    def key_values(self) -> list[Tensor]:
        """Keys and values (1, H, S, W) of all layers: keys and values of the first layer, then of the second ..."""
        return [states for layer in self.cache.layers for states in (layer.keys, layer.values)]

    def with_key_values(self, states: Sequence[Tensor]) -> SharedPrefix:
        """A copy that holds `states`, given in the order of `key_values()`."""
        cache = DynamicCache(config=self.model.config)
        for index, layer in enumerate(cache.layers):
            keys, values = states[2 * index : 2 * index + 2]
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
        return dataclasses.replace(self, cache=cache)

    def strip(self, row: Encoded) -> Encoded:
        """The row without the tokens of the shared prefix."""
        return dataclasses.replace(row, prompt=row.prompt[self.tokens :])

    def logits(self, ids_BT: Tensor, wanted_BT: Tensor) -> tuple[Tensor, DynamicCache]:
        """Continue from the shared prefix with rows that are padded on the right.

        Returns the logits (N, vocab) at the positions where `wanted_BT` is true, and the cache after the rows.
        """
        cache = DynamicCache(config=self.model.config)
        for index, layer in enumerate(self.cache.layers):
            expanded = (states.expand(len(ids_BT), -1, -1, -1) for states in (layer.keys, layer.values))
            cache.update(*expanded, index)
        return _logits_after(self.model, ids_BT, wanted_BT, cache, self.positions), cache


def shared_prefix_for_loss(
    adapted: VirtualTokenModel, rows: Sequence[Encoded], device: torch.device
) -> SharedPrefix | None:
    """Read the shared prefix of `rows` to compute their losses.

    None where that does not pay, or if virtual tokens follow the prompts: `target_loss` inserts those.
    """
    if adapted.suffix() is not None:
        return None
    fast = has_one_worker(device, dtype_of(adapted.model))
    min_tokens = _MIN_SHARED_TOKENS_FAST if fast else _MIN_SHARED_TOKENS
    return read_shared_prefix(adapted, rows, device, min_tokens=min_tokens)


def read_shared_prefix(
    adapted: VirtualTokenModel,
    rows: Iterable[Encoded],
    device: torch.device,
    *,
    min_tokens: int,
    virtual_tokens_suffice: bool = False,
) -> SharedPrefix | None:
    """Read the longest common prefix of all prompts of `rows`. Iterates over `rows` once and keeps no row.

    None if the model's cache is not plain (`has_plain_kv_cache`), or if the prefix has fewer than `min_tokens` tokens.
    With `virtual_tokens_suffice`, virtual tokens in front of the prompts are read even if the prompts share no prefix.
    """
    model = adapted.model
    if not has_plain_kv_cache(model):
        return None
    first: tuple[int, ...] = ()
    shared = count = 0
    for count, row in enumerate(rows, 1):
        if count == 1:
            first, shared = row.prompt, len(row.prompt)
        shared = min(shared, len(row.prompt) - 1)  # every row keeps a token, which predicts the next one
        if row.prompt[:shared] != first[:shared]:
            shared = next(index for index in range(shared) if row.prompt[index] != first[index])
    if not count:
        return None
    if count == 1 or shared < min_tokens:
        shared = 0
    prefix = adapted.prefix()
    if not shared and (prefix is None or not virtual_tokens_suffice):
        return None
    ids_1T = torch.tensor([first[:shared]], dtype=torch.long, device=device)
    cache = prefix.cache(model, 1) if isinstance(prefix, KeyValuePrefix) else DynamicCache(config=model.config)
    if not shared and isinstance(prefix, KeyValuePrefix):
        return SharedPrefix(model, 0, cache)
    start = cache.get_seq_length()
    inputs = (
        {"inputs_embeds": embed_with_prefix(model, ids_1T, prefix)}
        if isinstance(prefix, Tensor)
        else {"input_ids": ids_1T, "position_ids": torch.arange(start, start + shared, device=device)[None]}
    )
    keep = {"logits_to_keep": 1} if forward_accepts(model, "logits_to_keep") else {}
    model(**inputs, **keep, past_key_values=cache, use_cache=True)
    return SharedPrefix(model, shared, cache)


def _logits_after(model: nn.Module, ids_BT: Tensor, wanted_BT: Tensor, cache: DynamicCache, start: int) -> Tensor:
    positions_1T = torch.arange(start, start + ids_BT.shape[1], device=ids_BT.device)[None]
    inputs = {"input_ids": ids_BT, "position_ids": positions_1T, "past_key_values": cache, "use_cache": True}
    return logits_at(model, wanted_BT, inputs)


class Prefiller:
    """Reads the batches of one generation. Pass all their prompts, so that the shared prefix can be found."""

    def __init__(
        self, adapted: VirtualTokenModel, prompts: Iterable[Encoded], pad_id: int, device: torch.device
    ) -> None:
        self._adapted, self._pad_id, self._device = adapted, pad_id, device
        self._shared = read_shared_prefix(
            adapted, prompts, device, min_tokens=_MIN_SHARED_TOKENS, virtual_tokens_suffice=True
        )

    def prefill(self, rows: Sequence[Encoded], extra_positions: int) -> PrefilledBatch:
        """Read `rows` and all virtual tokens into a cache with space for `extra_positions` more positions."""
        if not has_plain_kv_cache(self._adapted.model):
            return self._prefill_in_one_pass(rows, extra_positions)
        suffix = self._adapted.suffix()
        if suffix is None:
            return self.prefill_prompts(rows, extra_positions)
        return self._append_suffix(self.prefill_prompts(rows, extra_positions + len(suffix)), suffix)

    def prefill_prompts(self, rows: Sequence[Encoded], extra_positions: int) -> PrefilledBatch:
        """Read `rows` without the virtual tokens after the prompts. The model must have a plain KV cache."""
        skipped, shared = (self._shared.tokens, self._shared.positions) if self._shared else (0, 0)
        width = shared + max(len(row.prompt) for row in rows) - skipped
        mask_BT = torch.zeros((len(rows), width), dtype=torch.long, device=self._device)
        layers: list[PreallocatedLayer] = []
        logits: list[Tensor | None] = [None] * len(rows)
        for micro_batch in split_micro_batches(rows, _MICRO_BATCH_TOKENS, -skipped, 1).indices:
            last_BV, cache = self._forward([rows[row].prompt[skipped:] for row in micro_batch])
            if not layers:
                layers = [
                    PreallocatedLayer.zeros(layer.keys, layer.values, len(rows), width, extra_positions)
                    for layer in cache.layers
                ]
            for index, row in enumerate(micro_batch):
                length = shared + len(rows[row].prompt) - skipped
                for target, source in zip(layers, cache.layers, strict=True):
                    target.write_row(row, source.keys[index, :, :length], source.values[index, :, :length])
                mask_BT[row, width - length :] = 1
                logits[row] = last_BV[index]
        result = DynamicCache(config=self._adapted.model.config)
        result.layers = layers
        return PrefilledBatch(torch.stack([row for row in logits if row is not None]), result, mask_BT)

    def _append_suffix(self, start: PrefilledBatch, suffix_VD: Tensor) -> PrefilledBatch:
        """Read the virtual tokens that follow the prompts of `start`."""
        model, mask_BT = self._adapted.model, F.pad(start.mask_BT, (0, len(suffix_VD)), value=1)
        dtype = model.get_input_embeddings().weight.dtype  # type: ignore[operator]
        suffix_BVD = suffix_VD.to(dtype).repeat(len(mask_BT), 1, 1)  # copied: models may scale their input in place
        keep = {"logits_to_keep": 1} if forward_accepts(model, "logits_to_keep") else {}
        output = model(
            **keep,
            inputs_embeds=suffix_BVD,
            position_ids=position_inputs(model, mask_BT)["position_ids"][:, -len(suffix_VD) :],
            attention_mask=mask_BT,
            past_key_values=start.cache,
            use_cache=True,
        )
        return PrefilledBatch(output.logits[:, -1], start.cache, mask_BT)

    def _forward(self, prompts: Sequence[tuple[int, ...]]) -> tuple[Tensor, DynamicCache]:
        """Logits (B, vocab) after the last token of each prompt, and the cache, padded on the right."""
        width = max(map(len, prompts))
        ids_BT = torch.full((len(prompts), width), self._pad_id, dtype=torch.long)
        last_BT = torch.zeros((len(prompts), width), dtype=torch.bool)
        for index, ids in enumerate(prompts):
            ids_BT[index, : len(ids)] = torch.tensor(ids)
            last_BT[index, len(ids) - 1] = True
        ids_BT, last_BT = ids_BT.to(self._device), last_BT.to(self._device)
        if self._shared is not None:
            return self._shared.logits(ids_BT, last_BT)
        cache = DynamicCache(config=self._adapted.model.config)
        return _logits_after(self._adapted.model, ids_BT, last_BT, cache, 0), cache

    def _prefill_in_one_pass(self, rows: Sequence[Encoded], extra_positions: int) -> PrefilledBatch:
        model = self._adapted.model
        inputs, mask_BT = left_padded_inputs(self._adapted, rows, self._pad_id, self._device)
        cache, positions = preallocated_cache(model, extra_positions), position_inputs(model, mask_BT)
        keep = {"logits_to_keep": 1} if forward_accepts(model, "logits_to_keep") else {}
        output = model(**inputs, **positions, **keep, attention_mask=mask_BT, past_key_values=cache, use_cache=True)
        return PrefilledBatch(output.logits[:, -1], cache, mask_BT)


def has_plain_kv_cache(model: nn.Module) -> bool:
    """Whether `model` takes position ids, and every layer keeps all keys and values, in order, as they are."""
    return why_no_plain_kv_cache(model) is None


def why_no_plain_kv_cache(model: nn.Module) -> str | None:
    """What a model lacks, in words that follow its name; None if it has a plain KV cache."""
    if not forward_accepts(model, "position_ids"):
        return "takes no position ids"
    if changes_frequencies(model):
        return "has rotary frequencies that depend on the length of the text (longrope, dynamic NTK)"
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=model.config).layers):
        return "does not keep all keys and values of every layer (sliding windows, say)"
    return None


def changes_frequencies(model: nn.Module) -> bool:
    """Whether the rotary frequencies of `model` depend on the longest position of a pass (longrope, dynamic NTK).

    transformers then changes them in place. Keys of a prefix would have other frequencies than those of a whole row.
    """
    config: Any = model.config
    settings = getattr(config.get_text_config(), "rope_parameters", None)
    if not isinstance(settings, Mapping):
        return False
    by_kind = [settings, *(value for value in settings.values() if isinstance(value, Mapping))]
    kinds = [str(one.get("rope_type")) for one in by_kind]
    return any(kind == "longrope" or "dynamic" in kind for kind in kinds)


def position_inputs(model: nn.Module, mask_BT: Tensor) -> dict[str, Tensor]:
    """Position ids of rows that are padded on the left, as a keyword argument; empty if the model takes none."""
    if not forward_accepts(model, "position_ids"):
        return {}
    return {"position_ids": (mask_BT.cumsum(-1) - 1).clamp(min=0)}


def left_padded_inputs(
    adapted: VirtualTokenModel, rows: Sequence[Encoded], pad_id: int, device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    """Input ids, or embeddings if there are virtual tokens, padded on the left; and the mask, 0 at padding.

    Virtual tokens are adjacent to the text: behind the padding or after the prompt.
    """
    width = max(len(row.prompt) for row in rows)
    prefix, suffix = adapted.prefix(), adapted.suffix()
    assert not isinstance(prefix, KeyValuePrefix)  # requires a plain KV cache
    if prefix is None and suffix is None:
        ids_BT = torch.full((len(rows), width), pad_id, dtype=torch.long)
        mask_BT = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            ids_BT[index, width - len(row.prompt) :] = torch.tensor(row.prompt)
            mask_BT[index, width - len(row.prompt) :] = 1
        return {"input_ids": ids_BT.to(device)}, mask_BT.to(device)
    mask_BX = torch.zeros((len(rows), count_virtual_tokens(adapted) + width), dtype=torch.long, device=device)
    embeddings = []
    for index, row in enumerate(rows):
        ids_1T = torch.tensor([row.prompt], device=device)
        text_TD = adapted.model.get_input_embeddings()(ids_1T)[0]  # type: ignore[operator]
        row_XD = torch.cat([part.to(text_TD.dtype) for part in (prefix, text_TD, suffix) if part is not None])
        embeddings.append(F.pad(row_XD, (0, 0, width - len(row.prompt), 0)))
        mask_BX[index, width - len(row.prompt) :] = 1
    return {"inputs_embeds": torch.stack(embeddings)}, mask_BX
