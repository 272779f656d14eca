"""Causal attention on a CPU, without masks where possible, and with dense matrix products for short rows in bf16.

- With a mask the flash kernel computes the upper half of the scores too. Rows that continue from a shared prefix need
  no mask.
- In bf16 the backward pass of the flash kernel is several times slower than dense products of short rows.
- With matrix units, a kernel that keeps no attention weights takes the place of both.
- For GPT-Neo transformers has only an implementation that stores all scores. It uses the flash kernel here.

docs/lab_log.md has the measurements. Rows padded on the left, dropout and other devices use PyTorch's attention.

Shapes: B rows, H query heads, K key-value heads, G = H / K, T queries, S >= T keys (the queries are the last T
positions), D width of a head.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask
from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoSelfAttention

from tuneoff.engine.kernels import fused, packed_layers

# Its name in transformers.
CAUSAL = "tuneoff_causal"
# Arguments with which attention is another function: those of PyTorch's that `_attend` does not have, and of others.
_CHANGES_SCORES = frozenset(inspect.signature(sdpa_attention_forward).parameters) - {
    "module", "query", "key", "value", "attention_mask", "dropout", "scaling", "is_causal", "kwargs",
} | {"position_bias", "softcap", "s_aux", "sinks"}  # fmt: skip
# With more keys, storing the attention weights (T x S for each head) costs more than it saves.
_MAX_DENSE_KEYS = 512


class DenseCausalAttention(torch.autograd.Function):
    """softmax(scale * q k' + causal mask) v. Query heads that share keys are computed in one matrix product."""

    @staticmethod
    def forward(ctx: Any, q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, scale: float) -> Tensor:
        rows, heads, width_T, width_D = q_BHTD.shape
        shared, width_S = k_BKSD.shape[1:3]
        grouped = (rows * shared, heads // shared * width_T, width_D)
        q = q_BHTD.reshape(grouped)
        k, v = (states.reshape(rows * shared, width_S, width_D) for states in (k_BKSD, v_BKSD))
        if _can_use_kernels(q, width_S, scale):
            weights = fused.causal_softmax_(torch.bmm(q, k.transpose(1, 2)), scale, width_T)
        else:
            mask = _causal_mask(width_T, width_S, heads // shared, q.dtype, q.device)
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
        if _can_use_kernels(q, weights.shape[-1], ctx.scale):
            grad_scores = fused.causal_softmax_backward_(grad_weights, weights, ctx.scale, shape_q[2])
        else:
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype).mul_(ctx.scale)
        grad_q = torch.bmm(grad_scores, k)
        grad_k = torch.bmm(grad_scores.transpose(1, 2), q)
        return grad_q.view(shape_q), grad_k.view(shape_k), grad_v.view(shape_k), None


def _can_use_kernels(q: Tensor, width_S: int, scale: float) -> bool:
    return fused.are_available(q.device) and width_S <= fused.MAX_KEYS and scale > 0


@functools.lru_cache(maxsize=8)
def _causal_mask(width_T: int, width_S: int, groups: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Mask (G * T, S) to be added to the scores: 0 or -inf."""
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
    """Attention function with the interface of transformers; returns (B, T, H, D)."""
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    plain = attention_mask is None and causal and 1 < query.shape[2] <= key.shape[2]
    plain = plain and all(kwargs.get(name) is None for name in _CHANGES_SCORES)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if plain and not dropout:
        quick = packed_layers.attention(query, key, value, scale)
        if quick is not None:
            return quick, None
    short = key.shape[2] <= _MAX_DENSE_KEYS and key.shape == value.shape and query.shape[3] == key.shape[3]
    if plain and short and not dropout and query.dtype == torch.bfloat16:
        heads: Tensor = DenseCausalAttention.apply(query, key, value, scale)  # type: ignore[no-untyped-call]
        return heads.transpose(1, 2).contiguous(), None
    # The flash kernel aligns queries with the first keys, so dummy queries are added for keys of earlier positions.
    before = key.shape[2] - query.shape[2] if plain else 0
    attended_BTHD: Tensor = sdpa_attention_forward(
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
    return attended_BTHD[:, before:], None


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """Mask function with the interface of transformers.

    None for queries at the last positions of the keys, which `_attend` computes without a mask.
    """
    plain = kwargs.get("mask_function") is causal_mask_function and kwargs.get("attention_mask") is None
    follows = kwargs.get("q_offset") == kwargs.get("kv_length", 0) - kwargs.get("q_length", 0)
    if plain and follows and kwargs.get("allow_is_causal_skip") and 1 < kwargs["q_length"] <= kwargs["kv_length"]:
        return None
    mask: Tensor | None = sdpa_mask(*args, **kwargs)
    return mask


def _attend_gpt_neo(
    module: GPTNeoSelfAttention, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
) -> tuple[Tensor, None]:
    """Replaces GPT-Neo's `_attn`; returns (B, H, T, D).

    As there, scores are fp32 and not scaled, and local layers see only the last `window_size` positions.
    `attention_mask` is None, or true where a query may attend.
    """
    width_T, width_S = query.shape[2], key.shape[2]
    dropout = module.attn_dropout.p if module.training else 0.0
    before, mask = 0, attention_mask
    if module.attention_type == "local" and width_S > module.config.window_size:
        window = module.bias[:, :, width_S - width_T : width_S, :width_S]
        mask = window if attention_mask is None else window & attention_mask
    elif attention_mask is None and width_T > 1:
        before = width_S - width_T  # dummy queries, as in `_attend`
    attended = F.scaled_dot_product_attention(
        F.pad(query, (0, 0, before, 0)).float() if before else query.float(),
        key.float(),
        value.float(),
        mask,
        dropout,
        is_causal=mask is None and width_T > 1,
        scale=1.0,
    )
    return attended[:, :, before:].to(value.dtype), None


def use_causal_attention(model: nn.Module, device: torch.device) -> bool:
    """Make `model` use the attention of this module on a CPU; returns whether it does.

    Models with an attention of their own (Falcon) do not change, except for GPT-Neo.
    """
    if device.type != "cpu":
        return False
    implementation = getattr(getattr(model, "config", None), "_attn_implementation", None)
    AttentionMaskInterface.register(CAUSAL, _mask)
    if implementation == "eager" and (
        layers := [layer for layer in model.modules() if type(layer) is GPTNeoSelfAttention]
    ):
        for layer in layers:
            layer._attn = functools.partial(_attend_gpt_neo, layer)  # type: ignore[assignment]
        model.config._attn_implementation = CAUSAL  # type: ignore[union-attr]  # GPT-Neo uses it for masks only
        return True
    if implementation != "sdpa":
        return False
    AttentionInterface.register(CAUSAL, _attend)
    model.set_attn_implementation(CAUSAL)  # type: ignore[operator]
    return bool(model.config._attn_implementation == CAUSAL)  # type: ignore[union-attr]
