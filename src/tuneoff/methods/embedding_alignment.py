"""Whether virtual tokens lie where the model's own tokens do.

A soft prompt that starts elsewhere (drawn at random, scaled otherwise than the embeddings) trains badly or not at all,
and no error says so (PEFT's issues 2815 and 2816).

Shapes: V virtual tokens, D width of the model, W words of the vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

_AT_ONCE = 8192  # words


class Place(NamedTuple):
    """Where virtual tokens lie, seen from the vocabulary."""

    norm_ratio: float  # mean norm of the virtual tokens over that of the words
    nearest_cosine: float  # to the word that points most alike; of the loneliest virtual token


@torch.no_grad()
def place(tokens_VD: Tensor, embedding: nn.Module, words: int) -> Place:
    """Compare with all `words` embeddings, asked of the module itself: Gemma 3 scales there, not in the weight."""
    tokens_VD = tokens_VD.detach().float()
    direction_VD = nn.functional.normalize(tokens_VD, dim=-1)
    nearest_V = torch.full((len(tokens_VD),), -1.0, device=tokens_VD.device)
    total = torch.zeros((), device=tokens_VD.device)
    for first in range(0, words, _AT_ONCE):
        ids = torch.arange(first, min(first + _AT_ONCE, words), device=tokens_VD.device)
        embeddings_WD = embedding(ids).float()
        total += embeddings_WD.norm(dim=-1).sum()
        cosines_VW = direction_VD @ nn.functional.normalize(embeddings_WD, dim=-1).T
        nearest_V = torch.maximum(nearest_V, cosines_VW.amax(dim=-1))
    ratio = tokens_VD.norm(dim=-1).mean() / (total / words).clamp_min(torch.finfo(torch.float32).tiny)
    return Place(float(ratio), float(nearest_V.min()))
