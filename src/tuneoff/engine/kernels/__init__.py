"""Faster implementations of transformers' layers. They compute the same functions, and each has a plain fallback."""

from __future__ import annotations

import torch
from torch import nn

from tuneoff.engine.kernels import fused, packed_layers
from tuneoff.engine.kernels.activation import use_fused_activations
from tuneoff.engine.kernels.attention import use_causal_attention
from tuneoff.engine.kernels.decoder_layer import use_whole_layers
from tuneoff.engine.kernels.llama import use_fused_layers
from tuneoff.engine.kernels.packed_layers import use_packed_weights


def use_fast_paths(model: nn.Module, device: torch.device) -> str:
    """Replace the layers of `model` for which there is a faster implementation; returns which ones may be used.

    `torch`: only those of PyTorch. `tuneoff`: those in C. `matrix units`, `AVX-512 bf16`, `AVX2`: also whole layers,
    whose products use these. Results differ through the order of floating-point operations, and dropout draws other
    numbers.
    """
    use_fused_activations(model)
    use_fused_layers(model, device)
    packed = use_packed_weights(model, device)
    if packed:
        use_whole_layers(model, device)
    use_causal_attention(model, device)
    if not fused.are_available(device):
        return "torch"
    return (packed and packed_layers.units(next(model.parameters()).dtype)) or "tuneoff"
