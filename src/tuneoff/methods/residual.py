"""Residual reparameterisation of a soft prompt (Razdaibiedina et al. 2023, arXiv:2305.03937): each virtual token is
its own vector plus what a shallow network, one for all tokens, makes of it.

The network is for training only: its results are what is kept.

Shapes: V virtual tokens, D width of the model, K width of the bottleneck.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def network(width: int, bottleneck: int, device: torch.device) -> dict[str, torch.nn.Parameter]:
    """Fresh weights, in fp32, from torch's generator, as torch starts such layers; the authors' program does the same.

    The norm's gain is 1 at the start, so what the network adds to a token then has mean 0 and variance 1.
    """
    import torch

    down, up = torch.nn.Linear(width, bottleneck), torch.nn.Linear(bottleneck, width)
    weights = {
        "down.weight": down.weight,
        "down.bias": down.bias,
        "up.weight": up.weight,
        "up.bias": up.bias,
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    return {name: torch.nn.Parameter(tensor.detach().float().to(device)) for name, tensor in weights.items()}


def projected(tokens_VD: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """The virtual tokens (V, D) plus the network's results: down, ReLU, up, layer norm."""
    import torch.nn.functional as F

    hidden_VK = F.relu(F.linear(tokens_VD, weights["down.weight"], weights["down.bias"]))
    up_VD = F.linear(hidden_VK, weights["up.weight"], weights["up.bias"])
    return tokens_VD + F.layer_norm(up_VD, up_VD.shape[-1:], weights["norm.weight"], weights["norm.bias"])
