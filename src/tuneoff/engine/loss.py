"""Cross entropy over the target tokens of a batch.

Shapes: B rows, T positions (padded on the right), V virtual tokens, P = T + V positions, D model width, H key-value
heads, W width of a head, N target tokens of the whole batch, vocab vocabulary size.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
import transformers.modeling_utils
from torch import Tensor
from transformers import DynamicCache

from tuneoff.prompts import Encoded

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class KeyValuePrefix:
    """Keys and values, each (H, V, W), of every layer. They act as V virtual tokens in front of the prompt."""

    layers: Sequence[tuple[Tensor, Tensor]]

    def __len__(self) -> int:
        return int(self.layers[0][0].shape[1])

    def cache(self, model: nn.Module, rows: int) -> DynamicCache:
        """A cache of `model` that holds this prefix for each of `rows` rows. Gradients flow through it."""
        cache = DynamicCache(config=model.config)
        dtype = dtype_of(model)
        for index, states in enumerate(self.layers):
            keys, values = (each_HVW.to(dtype).expand(rows, -1, -1, -1) for each_HVW in states)
            cache.update(keys, values, index)
        return cache


class VirtualTokenModel(Protocol):
    """What a forward pass needs to know of an adapted model: the model and its virtual tokens."""

    model: nn.Module

    def prefix(self) -> Tensor | KeyValuePrefix | None:
        """Virtual tokens directly in front of the prompt: embeddings (V, D), or keys and values."""
        ...

    def suffix(self) -> Tensor | None:
        """Embeddings (V, D) of virtual tokens between the prompt and the target."""
        ...


def dtype_of(model: nn.Module) -> torch.dtype:
    """The number format of the model's weights and products."""
    return next(model.parameters()).dtype


def count_virtual_tokens(adapted: VirtualTokenModel) -> int:
    """Number of virtual tokens added to each row, in front of the prompt or after it."""
    return sum(len(part) for part in (adapted.prefix(), adapted.suffix()) if part is not None)


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right. They need no attention mask: causal attention never sees later positions."""

    ids_BT: Tensor
    predicts_BT: Tensor  # bool: the next token is a target token
    targets_N: Tensor  # in row order
    tokens: int  # prompt and target tokens, without padding and virtual tokens


def collate(rows: Sequence[Encoded], pad_id: int, device: torch.device) -> Batch:
    """Pad all rows to the length of the longest row."""
    width = max(len(row.prompt) + len(row.target) for row in rows)
    ids_BT = torch.full((len(rows), width), pad_id, dtype=torch.long)
    predicts_BT = torch.zeros((len(rows), width), dtype=torch.bool)
    targets: list[int] = []
    for index, row in enumerate(rows):
        start, end = len(row.prompt), len(row.prompt) + len(row.target)
        ids_BT[index, :end] = torch.tensor(row.prompt + row.target)
        predicts_BT[index, start - 1 : end - 1] = True
        targets += row.target
    return Batch(
        ids_BT.to(device),
        predicts_BT.to(device),
        torch.tensor(targets, dtype=torch.long, device=device),
        sum(len(row.prompt) + len(row.target) for row in rows),
    )


def forward_accepts(model: nn.Module, parameter: str) -> bool:
    """Whether the model's `forward` has a parameter of that name."""
    return parameter in _forward_parameters(type(model))  # type: ignore[arg-type]


@functools.cache
def _forward_parameters(model_class: Any) -> frozenset[str]:
    return frozenset(inspect.signature(model_class.forward).parameters)


def supports_logits_mask(model: nn.Module) -> bool:
    """Whether `logits_to_keep` may be a mask, as in newer transformers. Then the head skips all other positions."""
    return hasattr(transformers.modeling_utils, "slice_logits_to_keep") and forward_accepts(model, "logits_to_keep")


def embed_with_prefix(model: nn.Module, ids_BT: Tensor, prefix_VD: Tensor) -> Tensor:
    """Embeddings (B, V + T, D): the virtual tokens, then the tokens `ids_BT`."""
    embeddings_BTD = model.get_input_embeddings()(ids_BT)  # type: ignore[operator]
    prefix_BVD = prefix_VD.to(embeddings_BTD.dtype).expand(len(ids_BT), -1, -1)
    return torch.cat([prefix_BVD, embeddings_BTD], dim=1)


def embed_with_suffix(model: nn.Module, batch: Batch, suffix_VD: Tensor) -> Tensor:
    """Embeddings (B, T + V, D): in each row the virtual tokens are between prompt and target."""
    text_BTD = model.get_input_embeddings()(batch.ids_BT)  # type: ignore[operator]
    rows, width, depth = text_BTD.shape
    virtual = len(suffix_VD)
    both_BPD = torch.cat([text_BTD, suffix_VD.to(text_BTD.dtype).expand(rows, -1, -1)], dim=1)
    starts_B1 = batch.predicts_BT.int().argmax(1, keepdim=True) + 1  # first target position
    positions_1P = torch.arange(width + virtual, device=text_BTD.device)[None]
    after_BP = torch.where(positions_1P < starts_B1 + virtual, positions_1P - starts_B1 + width, positions_1P - virtual)
    source_BP = torch.where(positions_1P < starts_B1, positions_1P, after_BP)
    return both_BPD.gather(1, source_BP[..., None].expand(-1, -1, depth))


def target_logits(adapted: VirtualTokenModel, batch: Batch) -> Tensor:
    """Logits (N, vocab) at the positions that predict a target token, in row order."""
    model = adapted.model
    prefix, suffix = adapted.prefix(), adapted.suffix()
    inputs: dict[str, object] = {"input_ids": batch.ids_BT}
    predicts_BT = batch.predicts_BT
    if isinstance(prefix, KeyValuePrefix):
        rows, width = batch.ids_BT.shape
        inputs["past_key_values"] = prefix.cache(model, rows)
        inputs["position_ids"] = torch.arange(len(prefix), len(prefix) + width, device=batch.ids_BT.device)[None]
    elif prefix is not None:
        inputs = {"inputs_embeds": embed_with_prefix(model, batch.ids_BT, prefix)}
        predicts_BT = F.pad(predicts_BT, (len(prefix), 0))
    elif suffix is not None:
        inputs = {"inputs_embeds": embed_with_suffix(model, batch, suffix)}
        predicts_BT = F.pad(predicts_BT, (len(suffix), 0))
    if forward_accepts(model, "use_cache"):
        inputs["use_cache"] = False
    return logits_at(model, predicts_BT, inputs)


def logits_at(model: nn.Module, wanted_BT: Tensor, inputs: Mapping[str, object]) -> Tensor:
    """Logits (N, vocab) at the positions where `wanted_BT` is true, in row order.

    Where the model supports it, the head is not applied to other positions.
    """
    if supports_logits_mask(model):
        logits: Tensor = model(**inputs, logits_to_keep=wanted_BT).logits
        return logits
    all_logits: Tensor = model(**inputs).logits
    return all_logits[wanted_BT]


def target_loss(adapted: VirtualTokenModel, batch: Batch) -> Tensor:
    """Negative log likelihood in nats, summed over the target tokens of the batch, in fp32."""
    return summed_cross_entropy(target_logits(adapted, batch), batch.targets_N)


def summed_cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Negative log likelihood of `targets_N` in nats, summed, in fp32. `logits_NV` has shape (N, vocab)."""
    return F.cross_entropy(logits_NV.float(), targets_N, reduction="sum")
