"""A decoder layer of Llama as one autograd function, for processors that multiply bf16 fast.

Where products are fast, most of the time goes to the operations between them: Python, autograd, copies into another
order of dimensions, and sums that read and write everything once more (docs/lab_log.md). The function calls about
thirty kernels for a layer, forward and back. Keys and values keep the order in which their projections write them.

A layer is recognized by its bytecode, as in llama.py. Whatever the kernels do not support (padding on the left, other
adapters, dropout of attention weights) takes the layer's own path. This is decided at each call.

Shapes: B rows, T positions, P positions of a prefix in the cache, S = P + T, D model width, H query heads, K key-value
heads, W width of a head.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import DynamicCache
from transformers.activations import SiLUActivation
from transformers.cache_utils import DynamicLayer
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer, LlamaMLP, LlamaRMSNorm

from tuneoff.engine.kernels import fused, packed_layers
from tuneoff.engine.kernels.attention import CAUSAL
from tuneoff.engine.kernels.bytecode import is_same_function
from tuneoff.engine.kernels.low_rank import projection_of_module
from tuneoff.engine.kernels.packed_layers import Projection
from tuneoff.engine.kv_cache import PreallocatedLayer


def use_whole_layers(model: nn.Module, device: torch.device) -> int:
    """Replace the decoder layers of `model` that the kernels can compute; returns the number of replacements."""
    if not fused.are_available(device):
        return 0
    layers = [module for module in model.modules() if _is_llama_layer(module)]
    for layer in layers:
        layer.forward = functools.partial(_forward, layer, layer.forward)
    get_head = getattr(model, "get_output_embeddings", None)
    head = get_head() if layers and get_head is not None else None
    if type(head) is nn.Linear:
        head.forward = functools.partial(_head_forward, head, head.forward)  # type: ignore[method-assign]
    return len(layers)


def _head_forward(head: nn.Linear, original: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Replaces `forward` of the head. One that trains takes its own path: it may be the embeddings too."""
    y = None if head.weight.requires_grad else packed_layers.linear(Projection(head), x.contiguous())
    return original(x) if y is None else y


def _is_llama_layer(module: nn.Module) -> bool:
    expected = {
        "self_attn": LlamaAttention,
        "mlp": LlamaMLP,
        "input_layernorm": LlamaRMSNorm,
        "post_attention_layernorm": LlamaRMSNorm,
    }
    if {name for name, _ in module.named_children()} != expected.keys():
        return False
    pairs = [(module, LlamaDecoderLayer), *((getattr(module, name), kind) for name, kind in expected.items())]
    return all(is_same_function(type(one).forward, kind.forward) for one, kind in pairs) and isinstance(
        module.mlp.act_fn,  # type: ignore[union-attr]
        nn.SiLU | SiLUActivation,
    )


@functools.cache
def _is_llama_norm(kind: Any) -> bool:
    return is_same_function(kind.forward, LlamaRMSNorm.forward)


@dataclass(frozen=True)
class _Layer:
    """The parts of a layer: q, k, v, o, gate, up and down projections; the norms before attention and MLP."""

    projections: tuple[Projection, ...]
    norms: tuple[Any, Any]
    head_width: int
    scale: float

    @property
    def queries_per_key(self) -> int:
        """Heads of queries that share a head of keys."""
        return self.projections[0].layer.weight.shape[0] // self.projections[1].layer.weight.shape[0]

    def parameters(self) -> list[Tensor | None]:
        found = [norm.weight for norm in self.norms]
        return [*found, *(parameter for one in self.projections for parameter in one.parameters())]


def _layer(module: Any, x_BTD: Tensor) -> _Layer | None:
    """None if the kernels do not support the layer as it is now, or these inputs."""
    attention, mlp = module.self_attn, module.mlp
    modules = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    projections = [projection_of_module(one) for one in [*modules, mlp.gate_proj, mlp.up_proj, mlp.down_proj]]
    norms = (module.input_layernorm, module.post_attention_layernorm)
    kinds: list[Any] = [type(norm) for norm in norms]
    if not all(map(_is_llama_norm, kinds)):  # an adapter of the norm
        return None
    if any(one is None or not one.fits(x_BTD) for one in projections) or not fused.supports(
        x_BTD, *(norm.weight for norm in norms)
    ):
        return None
    if attention.config._attn_implementation != CAUSAL or (attention.training and attention.attention_dropout):
        return None
    if attention.head_dim % packed_layers.BLOCK or attention.scaling <= 0:
        return None
    return _Layer(tuple(one for one in projections if one is not None), norms, attention.head_dim, attention.scaling)


def _forward(
    module: Any,
    original: Callable[..., Tensor],
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    past_key_values: Any = None,
    use_cache: bool | None = False,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    **kwargs: Any,
) -> Tensor:
    """Replaces `forward` of the layer, with the same arguments."""

    def own_path() -> Tensor:
        return original(
            hidden_states,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            position_embeddings=position_embeddings,
            **kwargs,
        )

    if hidden_states.dim() == 3 and hidden_states.shape[1] == 1 and position_embeddings is not None:
        new = _forward_new(module, hidden_states, attention_mask, past_key_values, position_embeddings)
        return own_path() if new is None else new
    if (
        attention_mask is not None
        or position_embeddings is None
        or hidden_states.dim() != 3
        or module.gradient_checkpointing
    ):
        return own_path()
    x_BTD = hidden_states.contiguous()
    prefix = _prefix(past_key_values, module.self_attn.layer_idx)
    length = x_BTD.shape[1]
    fits = prefix is not None and 1 < length <= length + prefix.width <= packed_layers.MAX_KEYS
    layer = _layer(module, x_BTD) if fits else None
    if layer is not None and prefix is not None:
        keys = length + prefix.width
        layer = layer if packed_layers.weights_fit(layer.queries_per_key, length, keys, layer.head_width) else None
    tables = None if layer is None else _tables(position_embeddings, x_BTD, layer.head_width)
    if layer is None or prefix is None or tables is None:
        return own_path()
    y_BTD, keys, values = _WholeLayer.apply(  # type: ignore[no-untyped-call]
        x_BTD, *tables, prefix.keys, prefix.values, layer, *layer.parameters()
    )
    if prefix.cache is not None:
        if not prefix.cache.is_initialized:
            prefix.cache.lazy_initialization(keys, values)
        prefix.cache.keys, prefix.cache.values = keys, values
    result: Tensor = y_BTD
    return result


def _forward_new(
    module: Any, x_B1D: Tensor, mask: Tensor | None, cache: Any, position_embeddings: tuple[Tensor, Tensor]
) -> Tensor | None:
    """The output for one new position a row, which is appended to the cache; None if the kernels do not support it."""
    index = module.self_attn.layer_idx
    states = cache.layers[index] if type(cache) is DynamicCache and index < len(cache.layers) else None
    if type(states) is not PreallocatedLayer or not states.is_initialized or torch.is_grad_enabled():
        return None
    keys = states.get_seq_length() + 1
    starts_B = _starts.of(mask, len(x_B1D), keys)
    x = x_B1D.contiguous()
    layer = _layer(module, x)
    if layer is None or starts_B is None or layer.queries_per_key > packed_layers.MAX_GROUP:
        return None
    tables = _tables(position_embeddings, x, layer.head_width)
    if tables is None:
        return None
    q, k, v, o, gate, up, down = layer.projections
    attention_norm, mlp_norm = layer.norms
    normed = packed_layers.normed(x, attention_norm.weight, attention_norm.variance_epsilon)[0]
    queries, new_keys, new_values = (_by_head(one.forward(normed)[0], layer.head_width) for one in (q, k, v))
    for new in (queries, new_keys):
        fused.rotated(new, new, tables[0], tables[1], back=False)
    all_keys, all_values = states.update(new_keys, new_values)
    attended = packed_layers.attended_new(queries[:, :, 0], all_keys, all_values, starts_B, layer.scale)
    middle = o.forward(attended.view(len(x), 1, -1), x)[0]
    normed = packed_layers.normed(middle, mlp_norm.weight, mlp_norm.variance_epsilon)[0]
    product = packed_layers.gated(gate.forward(normed)[0], up.forward(normed)[0])
    return down.forward(product, middle)[0]


class _Starts(threading.local):
    """First position that each row sees. Each thread keeps it for its last mask, which all layers of a pass share."""

    def __init__(self) -> None:
        self._mask: weakref.ref[Tensor] | None = None
        self._starts_B: Tensor | None = None

    def of(self, mask: Tensor | None, rows: int, keys: int) -> Tensor | None:
        """None for a mask that is not padding on the left."""
        if mask is None:
            return torch.zeros(rows, dtype=torch.int64)
        if self._mask is None or self._mask() is not mask:
            self._mask, self._starts_B = weakref.ref(mask), self._read(mask, rows, keys)
        return self._starts_B

    def _read(self, mask: Tensor, rows: int, keys: int) -> Tensor | None:
        if mask.dtype != torch.bool or mask.shape not in ((rows, 1, 1, keys), (1, 1, 1, keys)):
            return None
        seen = mask[:, 0, 0].expand(rows, keys)
        starts_B = keys - seen.sum(-1)
        is_left_padding = torch.arange(keys) >= starts_B[:, None]
        return starts_B if torch.equal(is_left_padding, seen) and bool((starts_B < keys).all()) else None


_starts = _Starts()


def _tables(position_embeddings: tuple[Tensor, Tensor], x_BTD: Tensor, head_width: int) -> list[Tensor] | None:
    """Cosines and sines, contiguous; None if the rotation's kernel does not support them."""
    rows, length, _ = x_BTD.shape
    tables = [one.contiguous() for one in position_embeddings]
    fit = all(one.shape in ((1, length, head_width), (rows, length, head_width)) for one in tables)
    return tables if fit and tables[0].shape == tables[1].shape and fused.supports(x_BTD, *tables) else None


@dataclass(frozen=True)
class _Prefix:
    """What the cache holds of a layer: keys and values (B, K, P, W), or nothing."""

    cache: Any = None
    keys: Tensor | None = None
    values: Tensor | None = None

    @property
    def width(self) -> int:
        return 0 if self.keys is None else self.keys.shape[2]


def _prefix(cache: Any, index: int) -> _Prefix | None:
    """None for a cache that is not plain keys and values."""
    if cache is None:
        return _Prefix()
    if type(cache) is not DynamicCache or index >= len(cache.layers) or type(cache.layers[index]) is not DynamicLayer:
        return None
    layer = cache.layers[index]
    if not layer.is_initialized:
        return _Prefix(layer)
    return _Prefix(layer, layer.keys, layer.values) if layer.keys.numel() else _Prefix(layer)


class _WholeLayer(torch.autograd.Function):
    """The output of a layer, and keys and values (B, K, S, W), the prefix included.

    The parameters are given so that autograd sees them; the kernels find them in `layer`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_BTD: Tensor,
        cosines: Tensor,
        sines: Tensor,
        prefix_keys: Tensor | None,
        prefix_values: Tensor | None,
        layer: _Layer,
        *parameters: Tensor | None,  # noqa: ARG004
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        q, k, v, o, gate, up, down = layer.projections
        attention_norm, mlp_norm = layer.norms
        drawn: list[Tensor | None] = []

        def project(projection: Projection, x: Tensor, residual: Tensor | None = None) -> Tensor:
            y, *needed = projection.forward(x, residual)
            drawn.extend(needed)
            return y

        normed, scales = packed_layers.normed(x_BTD, attention_norm.weight, attention_norm.variance_epsilon)
        queries = _by_head(project(q, normed), layer.head_width)
        new_keys, new_values = (_by_head(project(one, normed), layer.head_width) for one in (k, v))
        del normed
        for states in (queries, new_keys):
            fused.rotated(states, states, cosines, sines, back=False)
        keys, values = _joined(prefix_keys, new_keys), _joined(prefix_values, new_values)
        attended, logs = packed_layers.attended(queries, keys, values, layer.scale)
        middle = project(o, _flat(attended), x_BTD)
        normed, middle_scales = packed_layers.normed(middle, mlp_norm.weight, mlp_norm.variance_epsilon)
        gates, ups = project(gate, normed), project(up, normed)
        del normed
        product = packed_layers.gated(gates, ups)
        y = project(down, product, middle)
        ctx.layer = layer
        ctx.has_prefix = prefix_keys is not None
        input_of_down = product if down.trains else gates  # of the same shape
        states_kept = [x_BTD, scales, queries, keys, values, attended, logs, middle, middle_scales, gates, ups]
        states_kept.append(input_of_down)
        ctx.save_for_backward(*states_kept, cosines, sines, *drawn)
        return y, keys, values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        x_BTD, scales, queries, keys, values, attended, logs, middle, middle_scales, gates, ups = saved[:11]
        input_of_down = saved[11]
        cosines, sines, *kept = saved[12:]
        layer: _Layer = ctx.layer
        (q, k, v, o, gate, up, down), (attention_norm, mlp_norm) = layer.projections, layer.norms
        found: dict[int, tuple[Tensor | None, ...]] = {}

        def back(projection: Projection, gradient: Tensor, x: Tensor, grad_x: Tensor, *, add: bool = False) -> None:
            index = layer.projections.index(projection)
            found[index] = projection.backward(gradient, x, (kept[2 * index], kept[2 * index + 1]), grad_x, add=add)

        def normed_for(projections: Sequence[Projection], x: Tensor, norm: Any) -> Tensor:
            if not any(one.trains for one in projections):
                return x  # only its shape is needed
            return packed_layers.normed(x, norm.weight, norm.variance_epsilon)[0]

        # None after a last layer of which only keys and values are used.
        grad_y = torch.zeros_like(x_BTD) if gradients[0] is None else gradients[0].contiguous()
        grad_product = torch.empty_like(gates)
        back(down, grad_y, input_of_down, grad_product)
        grad_gates, grad_ups = packed_layers.gated_back(grad_product, gates, ups)
        grad_normed = torch.empty_like(middle)
        normed = normed_for((gate, up), middle, mlp_norm)
        back(gate, grad_gates, normed, grad_normed)
        back(up, grad_ups, normed, grad_normed, add=True)
        del grad_product, grad_gates, grad_ups
        grad_middle, grad_mlp_norm = _norm_back(grad_y, grad_normed, middle, mlp_norm.weight, middle_scales)
        grad_attended = torch.empty_like(_flat(attended))
        back(o, grad_middle, _flat(attended), grad_attended)
        grad_queries, grad_keys, grad_values = packed_layers.attended_back(
            _by_head(grad_attended, layer.head_width), queries, keys, values, attended, logs, layer.scale
        )
        for grad, more in ((grad_keys, gradients[1]), (grad_values, gradients[2])):
            if more is not None:
                grad += more
        width = keys.shape[2] - queries.shape[2]
        new_keys, new_values = (_latest(grad, width) for grad in (grad_keys, grad_values))
        for grad in (grad_queries, new_keys):
            fused.rotated(grad, grad, cosines, sines, back=True)
        normed = normed_for((q, k, v), x_BTD, attention_norm)
        back(q, _flat(grad_queries), normed, grad_normed)
        back(k, _flat(new_keys), normed, grad_normed, add=True)
        back(v, _flat(new_values), normed, grad_normed, add=True)
        grad_x, grad_attention_norm = _norm_back(grad_middle, grad_normed, x_BTD, attention_norm.weight, scales)
        prefixes = (grad_keys[:, :, :width], grad_values[:, :, :width]) if ctx.has_prefix else (None, None)
        parameters = [grad_attention_norm, grad_mlp_norm, *(one for index in range(len(found)) for one in found[index])]
        return grad_x, None, None, *prefixes, None, *parameters


def _norm_back(
    grad_sum: Tensor, gradient: Tensor, x: Tensor, weight_D: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Gradients of x, which is also part of a sum with the gradient `grad_sum`, and of the weight."""
    grad_x = packed_layers.normed_back(grad_sum, gradient, x, weight_D, scale)
    return grad_x, fused.norm_weight_gradient(gradient, x, weight_D, scale) if weight_D.requires_grad else None


def _by_head(x_BTD: Tensor, width: int) -> Tensor:
    """(B, H, T, W), in the memory order (B, T, H, W)."""
    return x_BTD.view(*x_BTD.shape[:2], -1, width).transpose(1, 2)


def _flat(x_BHTW: Tensor) -> Tensor:
    """(B, T, H * W) of what `_by_head` returned."""
    return x_BHTW.transpose(1, 2).flatten(2)


def _joined(prefix_BKPW: Tensor | None, new_BKTW: Tensor) -> Tensor:
    if prefix_BKPW is None:
        return new_BKTW
    return torch.cat([prefix_BKPW.transpose(1, 2), new_BKTW.transpose(1, 2)], dim=1).transpose(1, 2)


def _latest(gradient_BKSW: Tensor, width: int) -> Tensor:
    """The positions after the first `width`, in a memory of their own if there are others."""
    if not width:
        return gradient_BKSW
    return gradient_BKSW[:, :, width:].transpose(1, 2).contiguous().transpose(1, 2)
