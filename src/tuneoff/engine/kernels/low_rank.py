"""LoRA: a linear layer with a low-rank product, as one autograd function.

PEFT computes the base product, the low-rank product, its scaled copy and their sum one after the other, and autograd
keeps the intermediate results. Here the low-rank product is added in place to the base product, the input is kept once,
and dropout costs one multiplication.

Shapes: N tokens (all leading dimensions flattened), I input features, O output features, R rank.
"""

from __future__ import annotations

import functools
import math
import random
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tuneoff.engine.kernels import fused, packed_layers
from tuneoff.engine.parallel import current_attempt, current_micro_batch, current_part

if TYPE_CHECKING:
    from collections.abc import Callable


class DropoutPool:
    """Dropout masks for all layers of a model: windows, at random offsets, of one pool of random factors.

    A factor is 0 with probability p, otherwise 1 / (1 - p). The factors of one mask are independent. Masks of different
    layers may overlap in the pool. A pool is used because drawing a mask for every layer from the CPU's random
    generator costs more than the matrix products of the layer.

    Each micro-batch has its own pool. It depends on the seed, the step and the index of the micro-batch, and not on
    other threads.
    """

    def __init__(self, p: float, seed: int) -> None:
        self.p = p
        self._seed = seed
        self._step = 0
        self._local = threading.local()

    def next_step(self) -> None:
        """Draw new factors from now on. Call it once per optimizer step."""
        self._step += 1

    def kept(self, like: Tensor) -> Tensor:
        """A mask as bits: 1 for each number that is kept, from the lowest bit of a byte on.

        They are drawn with a probability that is a multiple of 2^-16. The last dimension of `like` must be a multiple
        of 8.
        """
        local, (shape, rows, width) = self._stream(), _whole_shape(like)
        size = math.prod(shape)
        if local.bits is None or 8 * len(local.bits) < 2 * size:
            words = np.random.SFC64(local.offsets.getrandbits(63)).random_raw(size // 2 + 1)
            limit = max(1, round((1 - self.p) * 2**16))
            is_kept = words.view(np.uint16) <= limit - 1
            local.bits = torch.from_numpy(np.packbits(is_kept, bitorder="little"))
        # Words of 64 bits.
        start = 8 * local.offsets.randrange((8 * len(local.bits) - size) // 64 + 1)
        packed = local.bits[start : start + size // 8].view(*shape[:-1], shape[-1] // 8)
        bits: Tensor = packed[rows, :width] if like.ndim == 3 else packed
        return bits.contiguous()

    def mask(self, like: Tensor) -> Tensor:
        """Factors with the shape of `like`, and the dtype and device of the first call in a micro-batch.

        Those of a part of a micro-batch are a part of the whole micro-batch's.
        """
        local, (shape, rows, width) = self._stream(), _whole_shape(like)
        size = math.prod(shape)
        if local.factors is None or len(local.factors) < 2 * size:
            is_kept = torch.empty(2 * size).bernoulli_(1 - self.p, generator=local.generator)
            local.factors = is_kept.div_(1 - self.p).to(like.device, like.dtype)
        start = local.offsets.randrange(len(local.factors) - size + 1)
        factors = local.factors[start : start + size].view(shape)
        mask: Tensor = factors[rows, :width] if like.ndim == 3 else factors
        return mask

    def _stream(self) -> Any:
        """What this thread has drawn for its micro-batch."""
        local, stream = self._local, f"dropout/{self._seed}/{self._step}/{current_micro_batch()}"
        state = (stream, current_part(), current_attempt())
        if getattr(local, "stream", None) != state:
            local.stream, local.offsets = state, random.Random(stream)
            local.generator = torch.Generator().manual_seed(local.offsets.getrandbits(63))
            local.factors = local.bits = None
        return local


def _whole_shape(like: Tensor) -> tuple[tuple[int, ...], slice, int]:
    """The shape of the whole micro-batch that `like` is of, and the rows and the width of `like` in it."""
    part, shape = current_part(), tuple(like.shape)
    if like.ndim != 3 or part is None:
        return shape, slice(None), shape[1] if like.ndim == 3 else 0
    whole = (part.rows, shape[1] + part.missing_width, shape[2])
    return whole, slice(part.first_row, part.first_row + shape[0]), shape[1]


class _LowRankLinear(torch.autograd.Function):
    """y = x W' + b + scale * (m * x) A' B', where m are the dropout factors and ' is the transpose.

    Hu et al. 2021, arXiv:2106.09685.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_NI: Tensor,
        weight_OI: Tensor,
        bias_O: Tensor | None,
        a_RI: Tensor,
        b_OR: Tensor,
        factors_NI: Tensor | None,
        scale: float,
    ) -> Tensor:
        dropped_NI = x_NI if factors_NI is None else fused.multiply(x_NI, factors_NI)
        hidden_NR = dropped_NI @ a_RI.T
        y_NO = torch.nn.functional.linear(x_NI, weight_OI, bias_O)
        y_NO.addmm_(hidden_NR, b_OR.T, alpha=scale)
        ctx.save_for_backward(x_NI, weight_OI, a_RI, b_OR, factors_NI, hidden_NR)
        ctx.scale = scale
        return y_NO

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient_NO,) = gradients
        x_NI, weight_OI, a_RI, b_OR, factors_NI, hidden_NR = ctx.saved_tensors
        scaled_NR = (gradient_NO @ b_OR).mul_(ctx.scale)
        grad_b_OR = (gradient_NO.T @ hidden_NR).mul_(ctx.scale)
        dropped_NI = x_NI if factors_NI is None else fused.multiply(x_NI, factors_NI)
        grad_a_RI = scaled_NR.T @ dropped_NI
        grad_x_NI = None
        if ctx.needs_input_grad[0]:
            grad_x_NI = gradient_NO @ weight_OI
            if factors_NI is None:
                grad_x_NI.addmm_(scaled_NR, a_RI)
            else:
                fused.add_product_(grad_x_NI, scaled_NR @ a_RI, factors_NI)
        return grad_x_NI, None, None, grad_a_RI, grad_b_OR, None, None


def _lora_forward(layer: Any, peft_forward: Callable[..., Tensor], pool: DropoutPool | None, x: Tensor) -> Tensor:
    if layer.disable_adapters or layer.merged:
        return peft_forward(x)
    (name,) = layer.active_adapters
    base = layer.base_layer
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    scale, masks = layer.scaling[name], pool if layer.training else None
    quick = packed_layers.linear(projection_of(layer, pool), x)
    if quick is not None:
        return quick
    flat_NI = x.reshape(-1, x.shape[-1])
    factors_NI = None if masks is None else masks.mask(x).reshape(flat_NI.shape)
    y_NO: Tensor = _LowRankLinear.apply(  # type: ignore[no-untyped-call]
        flat_NI, base.weight, base.bias, a, b, factors_NI, scale
    )
    return y_NO.view(*x.shape[:-1], y_NO.shape[-1])


def projection_of(layer: Any, pool: DropoutPool | None) -> packed_layers.Projection:
    """A plain LoRA layer for the kernels of matrix units. `pool`: its dropout masks, if any."""
    (name,) = layer.active_adapters
    a, b, scale = layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
    if pool is None or not layer.training:
        return packed_layers.Projection(layer.base_layer, a, b, scale)
    return packed_layers.Projection(layer.base_layer, a, b, scale / (1 - pool.p), pool.kept)


def projection_of_module(module: nn.Module) -> packed_layers.Projection | None:
    """A linear layer, or a plain LoRA layer that `fuse_lora_layers` has replaced; None for all others."""
    forward = module.__dict__.get("forward")
    if type(module) is nn.Linear and forward is None:
        return packed_layers.Projection(module)
    if isinstance(forward, functools.partial) and forward.func is _lora_forward:
        layer, _, pool = forward.args
        return None if layer.disable_adapters or layer.merged else projection_of(layer, pool)
    return None


def fuse_lora_layers(model: nn.Module, dropout: float, seed: int) -> DropoutPool | None:
    """Replace the forward pass of every plain LoRA layer on an `nn.Linear`; returns the dropout masks, if any.

    All other layers keep PEFT's forward pass: transposed weights, DoRA and other variants, several adapters, trainable
    biases.
    """
    from peft.tuners.lora import Linear as LoraLinear

    pool = DropoutPool(dropout, seed) if dropout else None
    for layer in model.modules():
        if type(layer) is LoraLinear and _is_plain(layer):
            layer.forward = functools.partial(_lora_forward, layer, layer.forward, pool)
    return pool


def _is_plain(layer: Any) -> bool:
    if type(layer.base_layer) is not nn.Linear or layer.fan_in_fan_out or layer.lora_variant:
        return False
    if len(layer.active_adapters) != 1 or any(each.requires_grad for each in layer.base_layer.parameters()):
        return False
    (name,) = layer.active_adapters
    a, b = layer.lora_A[name], layer.lora_B[name]
    return b.bias is None and a.weight.dtype == layer.base_layer.weight.dtype
