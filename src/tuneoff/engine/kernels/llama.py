"""Layers of Llama and of all models that transformers derives from it, computed by the kernels of `fused`.

transformers writes the same few functions into each model's file (Llama, Qwen, Mistral, SmolLM ...), so a function is
taken for Llama's when its bytecode is Llama's, whatever its class is called.
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

_ROTATION = apply_rotary_pos_emb.__name__


def use_fused_layers(model: nn.Module, device: torch.device) -> int:
    """Exchange what the kernels can compute in `model`; returns how many modules were changed. 0 without kernels."""
    if not fused.are_here(device):
        return 0
    changed = 0
    for module in model.modules():
        usual = type(module).forward
        if _is_the_same(usual, LlamaRMSNorm.forward):
            module.forward = functools.partial(_normalize, module, module.forward)
        elif _is_the_same(usual, LlamaMLP.forward) and isinstance(module.act_fn, (nn.SiLU, SiLUActivation)):
            module.forward = functools.partial(_gated, module)
        elif _ROTATION in getattr(getattr(usual, "__code__", None), "co_names", ()):
            rotation = usual.__globals__.get(_ROTATION)
            if not _is_the_same(rotation, apply_rotary_pos_emb):
                continue
            module.forward = types.MethodType(_with_global(usual, _ROTATION, _rotate), module)
        else:
            continue
        changed += 1
    return changed


def _is_the_same(one: Any, other: Any) -> bool:
    """Whether two functions were written alike but for their descriptions, and the functions that they call too.

    Models differ in helpers of the same name: NanoChat's `rotate_half` turns the other way.
    """
    if one is other:
        return True
    if not (isinstance(one, types.FunctionType) and isinstance(other, types.FunctionType)):
        return False
    if _written(one) != _written(other):
        return False
    called = [(one.__globals__.get(name), other.__globals__.get(name)) for name in one.__code__.co_names]
    return all(_is_the_same(*pair) for pair in called if isinstance(pair[1], types.FunctionType))


def _written(function: types.FunctionType) -> tuple[object, ...]:
    code = function.__code__
    constants = [constant for constant in code.co_consts if not isinstance(constant, str)]
    return code.co_code, code.co_names, code.co_varnames, constants, function.__defaults__


def _with_global(function: Any, name: str, value: Any) -> Callable[..., Any]:
    """The same function that finds `value` under `name` in its module, which itself stays as it is."""
    copy = types.FunctionType(
        function.__code__,
        {**function.__globals__, name: value},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _normalize(module: Any, usual: Callable[[Tensor], Tensor], hidden_states: Tensor) -> Tensor:
    if not fused.take(hidden_states, module.weight):
        return usual(hidden_states)
    return fused.normalize(hidden_states, module.weight, module.variance_epsilon)


def _gated(module: Any, x: Tensor) -> Tensor:
    y: Tensor = module.down_proj(fused.gate(module.gate_proj(x), module.up_proj(x)))
    return y


def _rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """In the place of transformers' function, and with its arguments."""
    if unsqueeze_dim == 1 and cos.dim() == 3:
        rotated = fused.rotate(q, cos, sin), fused.rotate(k, cos, sin)
        if rotated[0] is not None and rotated[1] is not None:
            return rotated[0], rotated[1]
    usual: tuple[Tensor, Tensor] = apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=unsqueeze_dim)
    return usual
