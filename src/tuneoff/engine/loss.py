"""Loss over target tokens.

Shapes: B rows, T positions (padding on the right), V virtual tokens, D width, H heads of keys, W width of a head,
N target tokens of the whole batch.
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
class Past:
    """Keys and values (each H, V, W) of every layer, as if V tokens had been read before the prompt."""

    layers: Sequence[tuple[Tensor, Tensor]]

    def __len__(self) -> int:
        return int(self.layers[0][0].shape[1])

    def cache(self, model: nn.Module, rows: int) -> DynamicCache:
        """A cache of `model` for `rows` rows that holds nothing else. Gradients flow through it."""
        cache = DynamicCache(config=model.config)
        dtype = next(model.parameters()).dtype
        for index, states in enumerate(self.layers):
            keys, values = (each_HVW.to(dtype).expand(rows, -1, -1, -1) for each_HVW in states)
            cache.update(keys, values, index)
        return cache


class Trainable(Protocol):
    """What the engine needs to know of an adapted model."""

    model: nn.Module

    def prefix(self) -> Tensor | Past | None: ...

    def suffix(self) -> Tensor | None: ...


def virtual_tokens(adapted: Trainable) -> int:
    """Virtual tokens of a row, in front of the prompt or after it."""
    return sum(len(part) for part in (adapted.prefix(), adapted.suffix()) if part is not None)


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right. With causal attention no token sees what comes after it, so no mask is needed."""

    ids_BT: Tensor
    predicts_BT: Tensor  # bool: the next token is a target token
    targets_N: Tensor  # in row order
    tokens: int  # prompt and target tokens, no padding, no virtual tokens


def collate(rows: Sequence[Encoded], pad_id: int, device: torch.device) -> Batch:
    """Pad rows to the longest of them."""
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


def accepts(model: nn.Module, parameter: str) -> bool:
    """True when the model's `forward` has a parameter of that name."""
    return parameter in _parameters_of_forward(type(model))  # type: ignore[arg-type]


@functools.cache
def _parameters_of_forward(model_class: Any) -> frozenset[str]:
    return frozenset(inspect.signature(model_class.forward).parameters)


def keeps_masked(model: nn.Module) -> bool:
    """True when `logits_to_keep` may be a mask (newer transformers), which spares the head at every other position."""
    return hasattr(transformers.modeling_utils, "slice_logits_to_keep") and accepts(model, "logits_to_keep")


def with_prefix(model: nn.Module, ids_BT: Tensor, prefix_VD: Tensor) -> Tensor:
    """Embeddings (B, V + T, D) of the virtual tokens followed by those of `ids_BT`."""
    embeddings_BTD = model.get_input_embeddings()(ids_BT)  # type: ignore[operator]
    prefix_BVD = prefix_VD.to(embeddings_BTD.dtype).expand(len(ids_BT), -1, -1)
    return torch.cat([prefix_BVD, embeddings_BTD], dim=1)


def with_suffix(model: nn.Module, batch: Batch, suffix_VD: Tensor) -> Tensor:
    """Embeddings (B, T + V, D) of a batch, in each row the virtual tokens between its prompt and its target."""
    text_BTD = model.get_input_embeddings()(batch.ids_BT)  # type: ignore[operator]
    rows, width, depth = text_BTD.shape
    virtual = len(suffix_VD)
    both = torch.cat([text_BTD, suffix_VD.to(text_BTD.dtype).expand(rows, -1, -1)], dim=1)
    starts_B1 = batch.predicts_BT.int().argmax(1, keepdim=True) + 1  # where the target begins
    places = torch.arange(width + virtual, device=text_BTD.device)[None]
    after = torch.where(places < starts_B1 + virtual, places - starts_B1 + width, places - virtual)
    from_BP = torch.where(places < starts_B1, places, after)
    return both.gather(1, from_BP[..., None].expand(-1, -1, depth))


def target_logits(adapted: Trainable, batch: Batch) -> Tensor:
    """Logits (N, vocabulary) at the positions that predict a target token, row by row."""
    model = adapted.model
    prefix, suffix = adapted.prefix(), adapted.suffix()
    inputs: dict[str, object] = {"input_ids": batch.ids_BT}
    predicts_BT = batch.predicts_BT
    if isinstance(prefix, Past):
        rows, width = batch.ids_BT.shape
        inputs["past_key_values"] = prefix.cache(model, rows)
        inputs["position_ids"] = torch.arange(len(prefix), len(prefix) + width, device=batch.ids_BT.device)[None]
    elif prefix is not None:
        inputs = {"inputs_embeds": with_prefix(model, batch.ids_BT, prefix)}
        predicts_BT = F.pad(predicts_BT, (len(prefix), 0))
    elif suffix is not None:
        inputs = {"inputs_embeds": with_suffix(model, batch, suffix)}
        predicts_BT = F.pad(predicts_BT, (len(suffix), 0))
    if accepts(model, "use_cache"):
        inputs["use_cache"] = False
    return logits_where(model, predicts_BT, inputs)


def logits_where(model: nn.Module, wanted_BT: Tensor, inputs: Mapping[str, object]) -> Tensor:
    """Logits (N, vocabulary) at the wanted positions, row by row; the head is spared the others where it can be."""
    if keeps_masked(model):
        logits: Tensor = model(**inputs, logits_to_keep=wanted_BT).logits
        return logits
    all_logits: Tensor = model(**inputs).logits
    return all_logits[wanted_BT]


def target_loss(adapted: Trainable, batch: Batch) -> Tensor:
    """Sum over the target tokens of their negative log likelihood, in nats, in fp32."""
    return loss_at(target_logits(adapted, batch), batch.targets_N)


def loss_at(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """The same from logits (N, vocabulary)."""
    return F.cross_entropy(logits_NV.float(), targets_N, reduction="sum")
