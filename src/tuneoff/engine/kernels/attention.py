"""Causal attention on a CPU: no masks where rows go on from keys that were read before, dense products where they pay.

A mask makes the flash kernel compute the upper half of the scores too; rows that go on from a common beginning need
none. In bf16 its backward pass costs several times what dense products of short rows cost. Measured in
docs/performance.md; rows with padding on the left, dropout and other devices keep the usual path. GPT-Neo, for which
transformers has only an attention that writes all scores down, gets the kernel.

Shapes: B rows, H query heads, K key-value heads, G = H / K, T queries, S >= T keys (the queries are the last T),
D width of a head.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask
from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoSelfAttention

from tuneoff.engine.kernels import fused

_NAME = "tuneoff_causal"
# Above this the probabilities (T x T for each head) cost more than they save.
_LONGEST = 512


class ShortCausal(torch.autograd.Function):
    """softmax(scale * q k' + causal mask) v. Heads that share keys lie beside each other in one product."""

    @staticmethod
    def forward(ctx: Any, q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, scale: float) -> Tensor:
        rows, heads, width_T, width_D = q_BHTD.shape
        shared, width_S = k_BKSD.shape[1:3]
        grouped = (rows * shared, heads // shared * width_T, width_D)
        q = q_BHTD.reshape(grouped)
        k, v = (states.reshape(rows * shared, width_S, width_D) for states in (k_BKSD, v_BKSD))
        if _kernels_take(q, width_S, scale):
            weights = fused.attend_(torch.bmm(q, k.transpose(1, 2)), scale, width_T)
        else:
            mask = _causal(width_T, width_S, heads // shared, q.dtype, q.device)
            weights = torch.softmax(torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scale), -1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale, ctx.shape = scale, (q_BHTD.shape, k_BKSD.shape)
        return torch.bmm(weights, v).view(q_BHTD.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        shape_q, shape_k = ctx.shape
        gradient = gradients[0].reshape(q.shape)
        grad_v = torch.bmm(weights.transpose(1, 2), gradient)
        grad_weights = torch.bmm(gradient, v.transpose(1, 2))
        if _kernels_take(q, weights.shape[-1], ctx.scale):
            grad_scores = fused.attend_back_(grad_weights, weights, ctx.scale, shape_q[2])
        else:
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype).mul_(ctx.scale)
        grad_q = torch.bmm(grad_scores, k)
        grad_k = torch.bmm(grad_scores.transpose(1, 2), q)
        return grad_q.view(shape_q), grad_k.view(shape_k), grad_v.view(shape_k), None


def _kernels_take(q: Tensor, width_S: int, scale: float) -> bool:
    return fused.are_here(q.device) and width_S <= fused.LONGEST and scale > 0


@functools.lru_cache(maxsize=8)
def _causal(width_T: int, width_S: int, groups: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Mask (G * T, S) that is added to the scores."""
    with torch.inference_mode(False):
        mask = torch.full((width_T, width_S), float("-inf"), device=device).triu(1 + width_S - width_T)
        return mask.to(dtype).repeat(groups, 1)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The form in which transformers calls attention; returns (B, T, H, D)."""
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    plain = attention_mask is None and causal and 1 < query.shape[2] <= key.shape[2]
    short = key.shape[2] <= _LONGEST and key.shape == value.shape and query.shape[3] == key.shape[3]
    if plain and short and not dropout and query.dtype == torch.bfloat16:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        heads: Tensor = ShortCausal.apply(query, key, value, scale)  # type: ignore[no-untyped-call]
        return heads.transpose(1, 2).contiguous(), None
    # The kernel's causal rows begin at the first key: queries that nobody asked for stand in for those read before.
    before = key.shape[2] - query.shape[2] if plain else 0
    usual_BTHD: Tensor = sdpa_attention_forward(
        module,
        F.pad(query, (0, 0, before, 0)) if before else query,
        key,
        value,
        attention_mask,
        dropout=dropout,
        scaling=scaling,
        is_causal=is_causal,
        **kwargs,
    )[0]
    return usual_BTHD[:, before:], None


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """No mask for queries that follow keys which were read before: `_attend` knows what to do."""
    plain = kwargs.get("mask_function") is causal_mask_function and kwargs.get("attention_mask") is None
    follows = kwargs.get("q_offset") == kwargs.get("kv_length", 0) - kwargs.get("q_length", 0)
    if plain and follows and kwargs.get("allow_is_causal_skip") and 1 < kwargs["q_length"] <= kwargs["kv_length"]:
        return None
    mask: Tensor | None = sdpa_mask(*args, **kwargs)
    return mask


def _attend_gpt_neo(
    module: GPTNeoSelfAttention, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
) -> tuple[Tensor, None]:
    """In the place of its `_attn`: in fp32 without a scale, and every other layer sees the last `window_size` positions
    only. `attention_mask`: None, or true where a query may look. Returns (B, H, T, D)."""
    width_T, width_S = query.shape[2], key.shape[2]
    dropout = module.attn_dropout.p if module.training else 0.0
    before, seen = 0, attention_mask
    if module.attention_type == "local" and width_S > module.config.window_size:
        window = module.bias[:, :, width_S - width_T : width_S, :width_S]
        seen = window if attention_mask is None else window & attention_mask
    elif attention_mask is None and width_T > 1:
        before = width_S - width_T  # see `_attend`
    attended = F.scaled_dot_product_attention(
        F.pad(query, (0, 0, before, 0)).float() if before else query.float(),
        key.float(),
        value.float(),
        seen,
        dropout,
        is_causal=seen is None and width_T > 1,
        scale=1.0,
    )
    return attended[:, :, before:].to(value.dtype), None


def use_causal_attention(model: nn.Module, device: torch.device) -> bool:
    """Let `model` attend as this module does, on a CPU. True when it does from now on.

    Models whose attention transformers cannot exchange (Falcon) stay as they are, but for GPT-Neo.
    """
    if device.type != "cpu":
        return False
    usual = getattr(getattr(model, "config", None), "_attn_implementation", None)
    AttentionMaskInterface.register(_NAME, _mask)
    if usual == "eager" and (layers := [layer for layer in model.modules() if type(layer) is GPTNeoSelfAttention]):
        for layer in layers:
            layer._attn = functools.partial(_attend_gpt_neo, layer)  # type: ignore[assignment]
        model.config._attn_implementation = _NAME  # type: ignore[union-attr]  # of it GPT-Neo asks for masks alone
        return True
    if usual != "sdpa":
        return False
    AttentionInterface.register(_NAME, _attend)
    model.set_attn_implementation(_NAME)  # type: ignore[operator]
    return bool(model.config._attn_implementation == _NAME)  # type: ignore[union-attr]
