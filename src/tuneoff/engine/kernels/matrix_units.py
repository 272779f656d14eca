"""Linear layers on the matrix units of x86 processors (AMX), with the low-rank product of LoRA in the same pass.

The kernels are in matrix_units.c, which is compiled when tuneoff is installed. The products themselves are as fast as
oneDNN's; what they save is everything else. The thin products of LoRA, its dropout and its sums take most of a layer's
time when they are separate operations (docs/lab_log.md). Weights that do not train are packed once, for the
output and for the gradient of the input. Without such a processor, Linux and GCC, layers compute as before.

Shapes: N tokens, I input features, O output features, R rank, P rank rounded up to a multiple of 32. In attention: B
rows, H query heads, K key-value heads, T queries, which are the last of S keys, W width of a head.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Callable

_POINTER, _LONG, _FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_float
# Arguments of the C functions, before the last one, the number of threads.
_ARGUMENTS: dict[str, list[Any]] = {
    "pack_weights": [_POINTER] * 2 + [_LONG] * 2,
    "pack_transposed": [_POINTER] * 2 + [_LONG] * 2,
    "linear": [_POINTER] * 5 + [_LONG] * 3,
    "low_rank": [_POINTER] * 6 + [_FLOAT] + [_POINTER] * 3 + [_LONG] * 4,
    "low_rank_back": [_POINTER] * 6 + [_FLOAT] + [_POINTER] * 5 + [_LONG] * 4,
    "attention": [_POINTER] * 6 + [_FLOAT] + [_LONG] * 6,
    "attention_of_new": [_POINTER] * 6 + [_FLOAT] + [_LONG] * 5,
    "attention_back": [_POINTER] * 7 + [_FLOAT] + [_POINTER] * 3 + [_LONG] * 6,
    "gate_product": [_POINTER] * 3 + [_LONG],
    "gate_product_back": [_POINTER] * 5 + [_LONG],
    "norm": [_POINTER] * 4 + [_FLOAT] + [_LONG] * 2,
    "norm_back": [_POINTER] * 6 + [_LONG] * 2,
    "weight_gradient": [_POINTER] * 3 + [_LONG] * 3,
}
# Version of the functions in matrix_units.c. A library built from another version is not used.
INTERFACE = 1
# Widths are multiples of this number.
BLOCK = 32
# Largest number of heads that share keys, for new queries: columns of a tile.
MAX_GROUP = 16
# Largest number of keys of the attention kernels: they hold a group's weights for all queries.
MAX_KEYS = 1024


@functools.cache
def _compiled_kernels() -> dict[str, Any]:
    """The functions of the compiled library; empty without a usable library or without matrix units."""
    found = importlib.util.find_spec("tuneoff.engine.kernels._matrix_units")
    if found is None or found.origin is None:
        return {}
    try:
        library = ctypes.CDLL(found.origin)
        if library.matrix_units_interface() != INTERFACE or not library.matrix_units_start():
            return {}
    except (OSError, AttributeError):  # compiled for another machine or by an old version
        return {}
    kernels = {}
    for name, arguments in _ARGUMENTS.items():
        kernels[name] = function = getattr(library, name)
        function.argtypes, function.restype = [*arguments, _LONG], None
    return kernels


def are_usable() -> bool:
    """Whether this processor has matrix units that the compiled kernels can use."""
    return bool(_compiled_kernels())


def _run(name: str, *arguments: Any) -> None:
    """Run a kernel with the threads of torch. It trusts the sizes it is given: callers check them."""
    plain = [one.data_ptr() if isinstance(one, Tensor) else one for one in arguments]
    _compiled_kernels()[name](*plain, torch.get_num_threads())


class _Packed:
    """A weight in the order in which the kernels read it, packed when it is first used and again when it changes."""

    def __init__(self, weight_OI: Tensor) -> None:
        self.weight = weight_OI
        self._packed: dict[str, tuple[tuple[int, int], Tensor]] = {}

    def forward(self) -> Tensor:
        """For the output."""
        return self._get("pack_weights")

    def backward(self) -> Tensor:
        """For the gradient of the input."""
        return self._get("pack_transposed")

    def _get(self, kernel: str) -> Tensor:
        weight_OI = self.weight
        state = (weight_OI.data_ptr(), weight_OI._version)
        found = self._packed.get(kernel)
        if found is None or found[0] != state:
            with torch.inference_mode(False):
                packed = torch.empty(weight_OI.numel(), dtype=torch.bfloat16)
            _run(kernel, weight_OI, packed, *weight_OI.shape)
            self._packed[kernel] = found = (state, packed)
        return found[1]


_packed_weights: weakref.WeakKeyDictionary[nn.Linear, _Packed] = weakref.WeakKeyDictionary()


def _packed(layer: nn.Linear) -> _Packed:
    """The packed weight of `layer`; forgotten with the layer."""
    found = _packed_weights.get(layer)
    if found is None or found.weight is not layer.weight:
        found = _packed_weights[layer] = _Packed(layer.weight)
    return found


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear layer, y = x W' + b + scale * (m * x) A' B', where m is 1 or 0 (dropout) and ' is the transpose.

    The low-rank product is that of LoRA (Hu et al. 2021, arXiv:2106.09685).
    """

    layer: nn.Linear
    a_RI: Tensor | None = None
    b_OR: Tensor | None = None
    scale: float = 1.0
    """Of the low-rank product, the factor of dropout included."""
    draw_kept: Callable[[Tensor], Tensor] | None = None
    """Draws a bit for each number of an input."""

    def fits(self, like: Tensor) -> bool:
        """Whether the kernels can compute this layer for an input of the dtype, device and leading sizes of `like`."""
        bias, low_rank = self.layer.bias, (self.a_RI, self.b_OR)
        weight_OI = self.layer.weight
        tensors = [one for one in (like, weight_OI, bias, *low_rank) if one is not None]
        return (
            are_usable()
            and all(one.dtype == torch.bfloat16 and one.device.type == "cpu" for one in tensors)
            and all(one.is_contiguous() for one in tensors)
            and not any(width % BLOCK for width in weight_OI.shape)
            and not (bias is not None and bias.requires_grad)
            and not (self.a_RI is not None and weight_OI.requires_grad)
            and like.numel() > 0
        )

    def parameters(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What may train."""
        return self.layer.weight, self.a_RI, self.b_OR

    def forward(self, x_BTI: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """`before` + y, the bits that were drawn, and what else the backward pass needs."""
        features_O, features_I = self.layer.weight.shape
        tokens, packed, bias = x_BTI.numel() // features_I, _packed(self.layer).forward(), self.layer.bias
        y = x_BTI.new_empty((*x_BTI.shape[:-1], features_O))
        if self.a_RI is None:
            _run("linear", x_BTI, packed, bias, before, y, tokens, features_I, features_O)
            return y, None, None
        rank = len(self.a_RI)
        kept = None if self.draw_kept is None else self.draw_kept(x_BTI)
        narrow_NP = x_BTI.new_empty((tokens, -(-rank // BLOCK) * BLOCK))
        given = (x_BTI, packed, bias, self.a_RI, self.b_OR, kept, self.scale, before)
        _run("low_rank", *given, y, narrow_NP, tokens, features_I, features_O, rank)
        return y, kept, narrow_NP

    def backward(
        self,
        gradient: Tensor,
        x: Tensor,
        drawn: tuple[Tensor | None, Tensor | None],
        grad_x: Tensor | None,
        *,
        add: bool = False,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Write the gradient of `x` to `grad_x`, or `add` it there; returns the gradients of the parameters.

        `drawn`: what `forward` returned after y.
        """
        kept, narrow_NP = drawn
        features_O, features_I = self.layer.weight.shape
        tokens, before = x.numel() // features_I, grad_x if add else None
        if self.a_RI is None:
            if grad_x is not None:
                packed = _packed(self.layer).backward()
                _run("linear", gradient, packed, None, before, grad_x, tokens, features_O, features_I)
            if not self.layer.weight.requires_grad:
                return None, None, None
            grad_weight_OI = torch.empty_like(self.layer.weight)
            _run("weight_gradient", gradient, x, grad_weight_OI, tokens, features_I, features_O)
            return grad_weight_OI, None, None
        assert self.b_OR is not None
        grad_a_RI, grad_b_OR = torch.empty_like(self.a_RI), torch.empty_like(self.b_OR)
        given = (gradient, x, _packed(self.layer).backward(), self.a_RI, self.b_OR, kept, self.scale, narrow_NP, before)
        sizes = (tokens, features_I, features_O, len(self.a_RI))
        _run("low_rank_back", *given, grad_x, grad_a_RI, grad_b_OR, *sizes)
        return None, grad_a_RI, grad_b_OR


class _Linear(torch.autograd.Function):
    """The output of a projection. The parameters are given so that autograd sees them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, projection: Projection, *parameters: Tensor | None) -> Tensor:  # noqa: ARG004
        y, kept, narrow_NP = projection.forward(x)
        ctx.projection = projection
        ctx.save_for_backward(x, kept, narrow_NP)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, kept, narrow_NP = ctx.saved_tensors
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        found = ctx.projection.backward(gradients[0].contiguous(), x, (kept, narrow_NP), grad_x)
        return grad_x, None, *found


def linear(projection: Projection, x: Tensor) -> Tensor | None:
    """The output of `projection`; None if the kernels do not support these tensors."""
    if not projection.fits(x) or x.shape[-1] != projection.layer.weight.shape[1]:
        return None
    y: Tensor = _Linear.apply(x, projection, *projection.parameters())  # type: ignore[no-untyped-call]
    return y


def normed(x: Tensor, weight_D: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """y = w x / sqrt(mean(x^2) + epsilon), RMSNorm of Zhang and Sennrich 2019, arXiv:1910.07467; and the factor of x.

    Rounded as in Llama. Contiguous bf16 with a width that is a multiple of 32.
    """
    y, rows = torch.empty_like(x), x.numel() // x.shape[-1]
    scale = torch.empty(rows, dtype=torch.float32)
    _run("norm", x, weight_D, y, scale, epsilon, rows, x.shape[-1])
    return y, scale


def normed_back(before: Tensor, gradient: Tensor, x: Tensor, weight_D: Tensor, scale: Tensor) -> Tensor:
    """`before` plus the gradient of x."""
    grad_x = torch.empty_like(x)
    _run("norm_back", gradient, x, weight_D, scale, before, grad_x, len(scale), x.shape[-1])
    return grad_x


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up of SwiGLU (Shazeer 2020, arXiv:2002.05202), with silu(x) = x / (1 + e^-x).

    A multiple of 32 numbers in contiguous bf16.
    """
    y = torch.empty_like(gate)
    _run("gate_product", gate, up, y, gate.numel())
    return y


def gated_back(gradient: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of gate and up."""
    grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(up)
    _run("gate_product_back", gradient, gate, up, grad_gate, grad_up, gate.numel())
    return grad_gate, grad_up


def attended(q_BHTW: Tensor, k_BKSW: Tensor, v_BKSW: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """y = softmax(scale * q k' + causal mask) v, and what the backward pass needs of the weights.

    y (B, H, T, W) is in the memory order (B, T, H, W). The tensors must be supported (`attends`).
    """
    rows, heads, queries, width = q_BHTW.shape
    y_BHTW = q_BHTW.new_empty((rows, queries, heads, width)).transpose(1, 2)
    logs_BHT = torch.empty((rows, heads, queries), dtype=torch.float32)
    tensors = (q_BHTW, k_BKSW, v_BKSW, y_BHTW)
    strides = _strides(*tensors)
    _run("attention", *tensors, logs_BHT, ctypes.addressof(strides), scale, *_sizes(q_BHTW, k_BKSW))
    return y_BHTW, logs_BHT


def attended_back(
    gradient_BHTW: Tensor,
    q_BHTW: Tensor,
    k_BKSW: Tensor,
    v_BKSW: Tensor,
    y_BHTW: Tensor,
    logs_BHT: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v, in the memory order (B, T, H, W): projections then need no copies."""
    tensors = (q_BHTW, k_BKSW, v_BKSW, y_BHTW)
    order = torch.contiguous_format
    grads = [torch.empty_like(one.transpose(1, 2), memory_format=order).transpose(1, 2) for one in tensors[:3]]
    strides = _strides(*tensors, *grads, gradient_BHTW)
    given = (gradient_BHTW, *tensors, logs_BHT, ctypes.addressof(strides), scale, *grads)
    _run("attention_back", *given, *_sizes(q_BHTW, k_BKSW))
    return grads[0], grads[1], grads[2]


def attended_new(q_BHW: Tensor, k_BKSW: Tensor, v_BKSW: Tensor, starts_B: Tensor, scale: float) -> Tensor:
    """y (B, H, W) of one new query a row, the last of the S positions, of which it sees those from `starts_B` on.

    q is contiguous, and `starts_B` holds integers of 64 bits below S. At most `MAX_GROUP` heads share keys.
    """
    rows, heads, width = q_BHW.shape
    _, shared, keys, _ = k_BKSW.shape
    y_BHW = torch.empty_like(q_BHW)
    strides = _strides(k_BKSW, v_BKSW)
    given = (q_BHW, k_BKSW, v_BKSW, y_BHW, ctypes.addressof(strides), starts_B, scale)
    _run("attention_of_new", *given, rows, heads, shared, keys, width)
    return y_BHW


def _sizes(q_BHTW: Tensor, k_BKSW: Tensor) -> tuple[int, ...]:
    rows, heads, queries, width = q_BHTW.shape
    return rows, heads, k_BKSW.shape[1], queries, k_BKSW.shape[2], width


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_BHTW: Tensor, k_BKSW: Tensor, v_BKSW: Tensor, scale: float) -> Tensor:
        y_BHTW, logs_BHT = attended(q_BHTW, k_BKSW, v_BKSW, scale)
        ctx.save_for_backward(q_BHTW, k_BKSW, v_BKSW, y_BHTW, logs_BHT)
        ctx.scale = scale
        return y_BHTW.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0] if gradients[0].stride(-1) == 1 else gradients[0].contiguous()
        q, k, v, y, logs = ctx.saved_tensors
        return *attended_back(gradient.transpose(1, 2), q, k, v, y, logs, ctx.scale), None


def _strides(*tensors: Tensor) -> Any:
    flat = [stride for one in tensors for stride in one.stride()[:3]]
    return (ctypes.c_long * len(flat))(*flat)


def attention(q_BHTW: Tensor, k_BKSW: Tensor, v_BKSW: Tensor, scale: float) -> Tensor | None:
    """Causal attention (B, T, H, W) of the last T positions; None if the kernels do not support these tensors."""
    rows, heads, queries, width = q_BHTW.shape
    fits = (
        are_usable()
        and all(one.dtype == torch.bfloat16 and one.device.type == "cpu" for one in (q_BHTW, k_BKSW, v_BKSW))
        and all(one.stride(-1) == 1 for one in (q_BHTW, k_BKSW, v_BKSW))
        and k_BKSW.shape == v_BKSW.shape
        and k_BKSW.shape[0] == rows
        and k_BKSW.shape[-1] == width
        and not width % BLOCK
        and 0 < queries <= k_BKSW.shape[2] <= MAX_KEYS
        and not heads % k_BKSW.shape[1]
        and scale > 0
    )
    if not fits:
        return None
    y_BTHW: Tensor = _Attention.apply(q_BHTW, k_BKSW, v_BKSW, scale)  # type: ignore[no-untyped-call]
    return y_BTHW
