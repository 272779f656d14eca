"""Faster implementations of transformers' layers. They compute the same functions, and each has a plain fallback."""

from __future__ import annotations

import torch
from torch import nn

from tuneoff.engine.kernels.activation import use_fused_activations
from tuneoff.engine.kernels.attention import use_causal_attention
from tuneoff.engine.kernels.decoder_layer import use_whole_layers
from tuneoff.engine.kernels.llama import use_fused_layers
from tuneoff.engine.kernels.matrix_units import use_packed_weights


def use_fast_paths(model: nn.Module, device: torch.device) -> None:
    """Replace the layers of `model` for which there is a faster implementation.

    Results differ only through the order of floating-point operations.
    """
    use_fused_activations(model)
    use_fused_layers(model, device)
    if use_packed_weights(model, device):
        use_whole_layers(model, device)
    use_causal_attention(model, device)
