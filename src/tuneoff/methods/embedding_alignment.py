"""Whether virtual tokens resemble the embeddings of the model's own tokens.

A soft prompt that is initialized off the embedding manifold (at random, or on another scale) trains badly or not at
all, and without an error (PEFT's issues 2815 and 2816).

Shapes: V virtual tokens, D width of the model, W words of the vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

_WORDS_AT_ONCE = 8192


class Alignment(NamedTuple):
    """Virtual tokens compared with the vocabulary."""

    norm_ratio: float  # mean norm of the virtual tokens divided by that of the words
    nearest_cosine: float  # cosine similarity to the most similar word; the lowest over the virtual tokens


@torch.no_grad()
def measure_alignment(tokens_VD: Tensor, embedding: nn.Module, words: int) -> Alignment:
    """Compare virtual tokens with the embeddings of all `words` token ids.

    The embedding module is called, instead of reading its weight, because Gemma 3 scales in the module.
    """
    tokens_VD = tokens_VD.detach().float()
    direction_VD = nn.functional.normalize(tokens_VD, dim=-1)
    nearest_V = torch.full((len(tokens_VD),), -1.0, device=tokens_VD.device)
    total = torch.zeros((), device=tokens_VD.device)
    for first in range(0, words, _WORDS_AT_ONCE):
        ids = torch.arange(first, min(first + _WORDS_AT_ONCE, words), device=tokens_VD.device)
        embeddings_WD = embedding(ids).float()
        total += embeddings_WD.norm(dim=-1).sum()
        cosines_VW = direction_VD @ nn.functional.normalize(embeddings_WD, dim=-1).T
        nearest_V = torch.maximum(nearest_V, cosines_VW.amax(dim=-1))
    ratio = tokens_VD.norm(dim=-1).mean() / (total / words).clamp_min(torch.finfo(torch.float32).tiny)
    return Alignment(float(ratio), float(nearest_V.min()))
