"""A prompt cache: keys and values of prompts that training cannot change, computed once without a gradient.

If everything that trains follows the prompt, the keys and values of a prompt are the same at every step. They are
computed once and cached while memory allows. A training step then computes only the virtual tokens and the targets.
Prompts that do not fit in the cache are computed again at each step, which still saves the backward pass through them.

Shapes: B rows, S prompt positions (padded on the left), V virtual tokens, T target positions, X = V + T, D model width,
N target tokens of all rows, H key-value heads, W width of a head, vocab vocabulary size.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from tuneoff.engine.loss import VirtualTokenModel, forward_accepts, logits_at, summed_cross_entropy
from tuneoff.engine.memory import free_bytes
from tuneoff.engine.prefill import Prefiller, has_plain_kv_cache
from tuneoff.prompts import Encoded

# Fraction of the memory that is free when training starts. Activations and concurrent runs need the rest.
_FREE_MEMORY_FRACTION = 0.25

# One prompt's states, each (H, S, W): keys and values of the first layer, then of the second ...
_PromptStates = tuple[Tensor, ...]


class PromptCache:
    """Keys and values of prompts. Prompts are computed when first needed."""

    def __init__(
        self,
        adapted: VirtualTokenModel,
        rows: Iterable[Encoded],
        repeated: Iterable[Encoded],
        pad_id: int,
        device: torch.device,
        max_bytes: int,
    ) -> None:
        """`rows`: all rows that will come. Only prompts of `repeated` rows are cached, up to `max_bytes` bytes."""
        self._adapted, self._device, self._free_bytes = adapted, device, max_bytes
        self._repeated = {hash(row.prompt) for row in repeated}  # hashes, because there may be a million prompts
        self._cached: dict[tuple[int, ...], _PromptStates] = {}
        self._lock = threading.Lock()
        with torch.inference_mode(False), torch.no_grad():
            self._prefiller = Prefiller(adapted, rows, pad_id, device)

    @property
    def size(self) -> int:
        """Number of cached prompts."""
        return len(self._cached)

    def loss(self, rows: Sequence[Encoded]) -> Tensor:
        """Negative log likelihood in nats, summed over the target tokens of `rows`, in fp32."""
        targets_N = torch.tensor([token for row in rows for token in row.target], device=self._device)
        return summed_cross_entropy(self._logits(rows), targets_N)

    def _logits(self, rows: Sequence[Encoded]) -> Tensor:
        """Logits (N, vocab) at the positions that predict a target token, in row order."""
        model, suffix_VD = self._adapted.model, self._adapted.suffix()
        assert suffix_VD is not None
        virtual, width = len(suffix_VD), max(len(row.target) for row in rows) - 1  # the last token predicts nothing
        ids_BT = torch.zeros((len(rows), width), dtype=torch.long)
        predicts_BX = torch.zeros((len(rows), virtual + width), dtype=torch.bool)
        for index, row in enumerate(rows):
            ids_BT[index, : len(row.target) - 1] = torch.tensor(row.target[:-1])
            predicts_BX[index, virtual - 1 : virtual - 1 + len(row.target)] = True
        predicts_BX = predicts_BX.to(self._device)
        target_BTD = model.get_input_embeddings()(ids_BT.to(self._device))  # type: ignore[operator]
        cache, mask_BS = self._batch_cache(rows)
        positions_BX = mask_BS.sum(1, keepdim=True) + torch.arange(virtual + width, device=self._device)
        inputs: dict[str, object] = {
            "inputs_embeds": torch.cat([suffix_VD.to(target_BTD.dtype).expand(len(rows), -1, -1), target_BTD], dim=1),
            "position_ids": positions_BX,
            "attention_mask": F.pad(mask_BS, (0, virtual + width), value=1),
            "past_key_values": cache,
        }
        if forward_accepts(model, "use_cache"):
            inputs["use_cache"] = False
        return logits_at(model, predicts_BX, inputs)

    def _batch_cache(self, rows: Sequence[Encoded]) -> tuple[DynamicCache, Tensor]:
        """A KV cache with the prompts of `rows`, padded on the left, and its mask (B, S), 0 at padding."""
        prompts = [self._states(row) for row in rows]
        width = max(len(row.prompt) for row in rows)
        mask_BS = torch.zeros((len(rows), width), dtype=torch.long, device=self._device)
        blocks = [states.new_zeros(len(rows), states.shape[0], width, states.shape[2]) for states in prompts[0]]
        for index, (row, states) in enumerate(zip(rows, prompts, strict=True)):
            mask_BS[index, width - len(row.prompt) :] = 1
            for block_BHSW, states_HSW in zip(blocks, states, strict=True):
                block_BHSW[index, :, width - len(row.prompt) :] = states_HSW
        cache = DynamicCache(config=self._adapted.model.config)
        for index in range(0, len(blocks), 2):
            cache.update(blocks[index], blocks[index + 1], index // 2)
        return cache, mask_BS

    def _states(self, row: Encoded) -> _PromptStates:
        """Keys and values of one prompt.

        Each prompt is computed alone. Its last digits then depend neither on other rows nor on whether it was cached.
        """
        if row.prompt in self._cached:
            return self._cached[row.prompt]
        with torch.inference_mode(False), torch.no_grad():
            cache = self._prefiller.prefill_prompts([row], 0).cache
            states = tuple(each[0].clone() for layer in cache.layers for each in (layer.keys, layer.values))
        size = sum(each.nbytes for each in states)
        with self._lock:
            if hash(row.prompt) in self._repeated and row.prompt not in self._cached and size <= self._free_bytes:
                self._cached[row.prompt] = states
                self._free_bytes -= size
        return states


def make_prompt_cache(
    adapted: VirtualTokenModel,
    splits: Sequence[tuple[Sequence[Encoded], bool]],
    pad_id: int,
    device: torch.device,
) -> PromptCache | None:
    """A prompt cache for `splits`: pairs of rows and whether these rows are used more than once.

    None if training changes the prompts' keys and values, if no virtual tokens follow the prompts, or if the model's KV
    cache is not plain.
    """
    if adapted.suffix() is None or adapted.prefix() is not None or not has_plain_kv_cache(adapted.model):
        return None
    if any(parameter.requires_grad for parameter in adapted.model.parameters()):
        return None
    rows = itertools.chain.from_iterable(split for split, _ in splits)
    repeated = itertools.chain.from_iterable(split for split, is_repeated in splits if is_repeated)
    return PromptCache(adapted, rows, repeated, pad_id, device, int(_FREE_MEMORY_FRACTION * free_bytes(device)))
