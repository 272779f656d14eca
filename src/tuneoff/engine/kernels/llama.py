"""Fused kernels for the layers of Llama and of the models that transformers derives from it.

transformers copies the same few functions into the file of each model (Llama, Qwen, Mistral, SmolLM ...). A function is
therefore recognized by its bytecode, whatever its class is called.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm, apply_rotary_pos_emb

from tuneoff.engine.kernels import fused
from tuneoff.engine.kernels.bytecode import is_same_function

_ROTARY = apply_rotary_pos_emb.__name__


def use_fused_layers(model: nn.Module, device: torch.device) -> int:
    """Replace the layers of `model` that the kernels can compute; returns the number of replacements.

    Without kernels for `device` nothing is replaced.
    """
    if not fused.are_available(device):
        return 0
    replaced = 0
    for module in model.modules():
        original = type(module).forward
        if is_same_function(original, LlamaRMSNorm.forward):
            module.forward = functools.partial(_rms_norm_forward, module, module.forward)
        elif is_same_function(original, LlamaMLP.forward) and isinstance(module.act_fn, (nn.SiLU, SiLUActivation)):
            module.forward = functools.partial(_mlp_forward, module)
        elif _ROTARY in getattr(getattr(original, "__code__", None), "co_names", ()):
            rotary = original.__globals__.get(_ROTARY)
            if not is_same_function(rotary, apply_rotary_pos_emb):
                continue
            module.forward = types.MethodType(_with_global(original, _ROTARY, _apply_rotary), module)
        else:
            continue
        replaced += 1
    return replaced


def _with_global(function: Any, name: str, value: Any) -> Callable[..., Any]:
    """A copy of `function` for which the global `name` is `value`. The function's module does not change."""
    copy = types.FunctionType(
        function.__code__,
        {**function.__globals__, name: value},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _rms_norm_forward(module: Any, original: Callable[[Tensor], Tensor], hidden_states: Tensor) -> Tensor:
    y = fused.rms_norm(hidden_states, module.weight, module.variance_epsilon)
    return original(hidden_states) if y is None else y


def _mlp_forward(module: Any, x: Tensor) -> Tensor:
    y: Tensor = module.down_proj(fused.silu_product(module.gate_proj(x), module.up_proj(x)))
    return y


def _apply_rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """Replaces `apply_rotary_pos_emb` of transformers, with the same arguments."""
    if unsqueeze_dim == 1 and cos.dim() == 3:
        rotated = fused.rotate(q, cos, sin), fused.rotate(k, cos, sin)
        if rotated[0] is not None and rotated[1] is not None:
            return rotated[0], rotated[1]
    original: tuple[Tensor, Tensor] = apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=unsqueeze_dim)
    return original
