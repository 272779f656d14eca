"""Layers in C for x86 processors: linear layers, attention, and what is between them, in bf16 or fp32.

They are in bf16.c and fp32.c, which are compiled when tuneoff is installed. Products in bf16 use matrix units (AMX), or
without them AVX-512's instruction for bf16; in fp32 they use AVX2, where that is as fast as AVX-512 would be. The
products themselves are about as fast as oneDNN's. The gain is around them: as separate operations, the thin products of
LoRA, its dropout and its sums take much of a layer's time (docs/lab_log.md). Weights are packed when they change, for
the output and for the gradient of the input. Without such a processor, Linux and GCC, layers compute as before.

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

from tuneoff.memory_limits import total_memory

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
# Version of the functions in bf16.c and fp32.c. A library built from another version is not used.
INTERFACE = 3
_LIBRARIES = {torch.bfloat16: "_bf16", torch.float32: "_fp32"}
# What computes products, from slow to fast, as records name it. The libraries number it in this order, from 1.
UNITS = {torch.bfloat16: ("AVX-512 bf16", "matrix units"), torch.float32: ("AVX2",)}
# Widths are multiples of this number.
BLOCK = 32
# Packed copies may take a sixth of the memory: those of SmolLM2-135M in fp32 fit into 8 GB.
_MEMORY_DIVISOR = 6
# Largest number of heads that share keys, for new queries: columns of a tile.
MAX_GROUP = 16
# Largest number of keys of the attention kernels: they hold a group's weights for all queries.
MAX_KEYS = 1024
# And most bytes of them in each thread, which keeps that memory: of many heads that share keys, they are more.
_MAX_WEIGHTS = 2**25


@functools.cache
def _library(dtype: torch.dtype) -> Any:
    """The compiled library; None without one that can be used."""
    found = importlib.util.find_spec(f"tuneoff.engine.kernels.{_LIBRARIES[dtype]}")
    if found is None or found.origin is None:
        return None
    try:
        library = ctypes.CDLL(found.origin)
        return library if library.kernels_interface() == INTERFACE else None
    except (OSError, AttributeError):  # compiled for another machine or by an old version
        return None


@functools.cache
def started(dtype: torch.dtype) -> int:
    """The number of the fastest units of this processor, which are used from now on; 0 if the kernels have none."""
    return 0 if _library(dtype) is None else use_units(dtype, len(UNITS[dtype]))


def use_units(dtype: torch.dtype, fastest: int) -> int:
    """Compute products by the units of this number, or by slower ones if the processor has none; returns the number."""
    return int(_library(dtype).kernels_start(fastest))


@functools.cache
def _compiled_kernels() -> dict[torch.dtype, dict[str, Any]]:
    """The functions of the libraries that this processor can run."""
    found = {}
    for dtype in _LIBRARIES:
        if not started(dtype):
            continue
        try:
            kernels = {name: getattr(_library(dtype), name) for name in _ARGUMENTS}
        except AttributeError:  # compiled by an old version
            continue
        for name, function in kernels.items():
            function.argtypes, function.restype = [*_ARGUMENTS[name], _LONG], _LONG
        found[dtype] = kernels
    return found


def are_usable(dtype: torch.dtype) -> bool:
    """Whether this processor can run the kernels for `dtype`."""
    return dtype in _compiled_kernels()


def units(dtype: torch.dtype) -> str | None:
    """What computes the products, as records name it; None if the kernels are not usable."""
    return UNITS[dtype][started(dtype) - 1] if are_usable(dtype) else None


def _fit_kernels(*tensors: Tensor) -> bool:
    """Whether there are kernels for tensors of this dtype and device."""
    dtype = tensors[0].dtype
    return are_usable(dtype) and all(one.dtype == dtype and one.device.type == "cpu" for one in tensors)


def _require(fits: bool, name: str, *tensors: Tensor | None) -> None:
    """Raise `ValueError` unless a kernel may compute with these tensors. It trusts the sizes that it is given."""
    given = [one for one in tensors if one is not None]
    if fits and _fit_kernels(*given):
        return
    listed = ", ".join(f"{tuple(one.shape)} {one.dtype} on {one.device}" for one in given)
    raise ValueError(f"{name}: these tensors do not fit the kernel: {listed}")


def _are_contiguous(*tensors: Tensor | None) -> bool:
    return all(one is None or one.is_contiguous() for one in tensors)


def _run(name: str, *arguments: Any) -> None:
    """Run the kernel for the dtype of the first argument, with the threads of torch.

    Raises `MemoryError` if there is no memory for what it computes in between.
    """
    plain = [one.data_ptr() if isinstance(one, Tensor) else one for one in arguments]
    if _compiled_kernels()[arguments[0].dtype][name](*plain, torch.get_num_threads()):
        raise MemoryError(f"no memory for the kernel {name}")


class _Packed:
    """A weight in the order in which the kernels read it, packed when it is first used and again when it changes."""

    def __init__(self, weight_OI: Tensor) -> None:
        self.weight = weight_OI
        self._packed: dict[str, tuple[tuple[int, int], Tensor]] = {}
        self._sum: int | None = None  # of the weight's numbers when it was packed; not taken of one that trains

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
                packed = torch.empty(weight_OI.numel(), dtype=weight_OI.dtype)
            _run(kernel, weight_OI, packed, *weight_OI.shape)
            self._packed[kernel] = found = (state, packed)
            self._sum = None if weight_OI.requires_grad else _sum_of_bits(weight_OI)
        return found[1]

    def check(self) -> None:
        """Forget what was packed unless the weight has the same numbers still. See `check_packed_weights`."""
        if self._packed and (self._sum is None or self._sum != _sum_of_bits(self.weight)):
            self._packed.clear()


def _sum_of_bits(weight_OI: Tensor) -> int:
    return int(weight_OI.detach().view(torch.int64).sum())


# Of the layers that the kernels may compute; forgotten with the layer.
_packed_weights: weakref.WeakKeyDictionary[nn.Linear, _Packed] = weakref.WeakKeyDictionary()


def use_packed_weights(model: nn.Module, device: torch.device, memory: int | None = None) -> int:
    """Let the kernels compute the linear layers of `model`; returns the number of layers.

    0 on other devices than a CPU, on other processors, and where two packed copies of all weights are more than a
    sixth of `memory` bytes (by default, of what this process may use): the model and its activations need the rest.
    """
    if device.type != "cpu":
        return 0
    layers = [one for one in model.modules() if type(one) is nn.Linear and are_usable(one.weight.dtype)]
    size = 2 * sum(layer.weight.numel() * layer.weight.element_size() for layer in layers)
    if size > (total_memory() if memory is None else memory) / _MEMORY_DIVISOR:
        return 0
    for layer in layers:
        _packed_weights[layer] = _Packed(layer.weight)
    return len(layers)


def check_packed_weights(model: nn.Module) -> None:
    """Pack weights of `model` again that have changed since they were packed. Call it before a task begins.

    The version counter of a tensor does not say all: PEFT merges adapters into `weight.data`, which it does not count.
    """
    for layer in model.modules():
        if type(layer) is nn.Linear and (packed := _packed_weights.get(layer)) is not None:
            packed.check()


def _packed(layer: nn.Linear) -> _Packed:
    found = _packed_weights[layer]
    if found.weight is not layer.weight:
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
        """Whether the kernels can compute this layer for an input that is stored like `like`."""
        bias, low_rank = self.layer.bias, (self.a_RI, self.b_OR)
        weight_OI = self.layer.weight
        tensors = [one for one in (like, weight_OI, bias, *low_rank) if one is not None]
        return (
            self.layer in _packed_weights
            and _fit_kernels(*tensors)
            and all(one.is_contiguous() for one in tensors)
            and not any(width % BLOCK for width in weight_OI.shape)
            and not (bias is not None and bias.requires_grad)
            and not (self.a_RI is not None and weight_OI.requires_grad)
            and like.numel() > 0
        )

    def parameters(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What may train."""
        return self.layer.weight, self.a_RI, self.b_OR

    @property
    def trains(self) -> bool:
        """Whether the backward pass needs the input; otherwise only its shape."""
        return self.a_RI is not None or self.layer.weight.requires_grad

    def forward(self, x_BTI: Tensor, residual: Tensor | None = None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """`residual` + y, the bits that were drawn, and what else the backward pass needs."""
        features_O, features_I = self.layer.weight.shape
        shape = (*x_BTI.shape[:-1], features_O)
        fits = x_BTI.shape[-1] == features_I and (residual is None or residual.shape == shape)
        _require(fits and self.fits(x_BTI) and _are_contiguous(residual), "linear", x_BTI, residual)
        tokens, packed, bias = x_BTI.numel() // features_I, _packed(self.layer).forward(), self.layer.bias
        y = x_BTI.new_empty(shape)
        if self.a_RI is None:
            _run("linear", x_BTI, packed, bias, residual, y, tokens, features_I, features_O)
            return y, None, None
        rank = len(self.a_RI)
        kept = None if self.draw_kept is None else self.draw_kept(x_BTI)
        if kept is not None and kept.numel() * 8 != x_BTI.numel():
            raise ValueError(f"linear: {8 * kept.numel()} bits for {x_BTI.numel()} numbers")
        narrow_NP = x_BTI.new_empty((tokens, -(-rank // BLOCK) * BLOCK))
        given = (x_BTI, packed, bias, self.a_RI, self.b_OR, kept, self.scale, residual)
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

        `drawn`: what `forward` returned after y. Unless the projection `trains`, `x` may be any tensor of its shape.
        """
        kept, narrow_NP = drawn
        features_O, features_I = self.layer.weight.shape
        fits = gradient.shape == (*x.shape[:-1], features_O) and (grad_x is None or grad_x.shape == x.shape)
        _require(fits and _are_contiguous(gradient, x, grad_x), "linear", gradient, x, grad_x)
        tokens, residual = x.numel() // features_I, grad_x if add else None
        if self.a_RI is None:
            if grad_x is not None:
                packed = _packed(self.layer).backward()
                _run("linear", gradient, packed, None, residual, grad_x, tokens, features_O, features_I)
            if not self.layer.weight.requires_grad:
                return None, None, None
            grad_weight_OI = torch.empty_like(self.layer.weight)
            _run("weight_gradient", gradient, x, grad_weight_OI, tokens, features_I, features_O)
            return grad_weight_OI, None, None
        assert self.b_OR is not None
        grad_a_RI, grad_b_OR = torch.empty_like(self.a_RI), torch.empty_like(self.b_OR)
        given = (
            gradient,
            x,
            _packed(self.layer).backward(),
            self.a_RI,
            self.b_OR,
            kept,
            self.scale,
            narrow_NP,
            residual,
        )
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

    Rounded as in Llama. Contiguous, with a width that is a multiple of 32.
    """
    fits = weight_D.shape == x.shape[-1:] and not x.shape[-1] % BLOCK and x.numel() > 0
    _require(fits and _are_contiguous(x, weight_D), "norm", x, weight_D)
    y, rows = torch.empty_like(x), x.numel() // x.shape[-1]
    scale = torch.empty(rows, dtype=torch.float32)
    _run("norm", x, weight_D, y, scale, epsilon, rows, x.shape[-1])
    return y, scale


def normed_back(residual: Tensor, gradient: Tensor, x: Tensor, weight_D: Tensor, scale: Tensor) -> Tensor:
    """`residual` plus the gradient of x."""
    fits = residual.shape == gradient.shape == x.shape and weight_D.shape == x.shape[-1:] and not x.shape[-1] % BLOCK
    fits = fits and len(scale) * x.shape[-1] == x.numel()
    _require(fits and _are_contiguous(residual, gradient, x, weight_D), "norm", residual, gradient, x, weight_D)
    grad_x = torch.empty_like(x)
    _run("norm_back", gradient, x, weight_D, scale, residual, grad_x, len(scale), x.shape[-1])
    return grad_x


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up of SwiGLU (Shazeer 2020, arXiv:2002.05202), with silu(x) = x / (1 + e^-x).

    A multiple of 32 numbers, contiguous.
    """
    fits = gate.shape == up.shape and not gate.numel() % BLOCK
    _require(fits and _are_contiguous(gate, up), "gate", gate, up)
    y = torch.empty_like(gate)
    _run("gate_product", gate, up, y, gate.numel())
    return y


def gated_back(gradient: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of gate and up."""
    fits = gradient.shape == gate.shape == up.shape and not gate.numel() % BLOCK
    _require(fits and _are_contiguous(gradient, gate, up), "gate", gradient, gate, up)
    grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(up)
    _run("gate_product_back", gradient, gate, up, grad_gate, grad_up, gate.numel())
    return grad_gate, grad_up


def attended(q_BHTW: Tensor, k_BKSW: Tensor, v_BKSW: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """y = softmax(scale * q k' + causal mask) v, and what the backward pass needs of the weights.

    y (B, H, T, W) is in the memory order (B, T, H, W). Raises `ValueError` for tensors that do not fit the kernel.
    """
    _require(supports_attention(q_BHTW, k_BKSW, v_BKSW) and scale > 0, "attention", q_BHTW, k_BKSW, v_BKSW)
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
    fits = supports_attention(q_BHTW, k_BKSW, v_BKSW) and gradient_BHTW.shape == y_BHTW.shape == q_BHTW.shape
    fits = fits and logs_BHT.shape == q_BHTW.shape[:3] and gradient_BHTW.stride(-1) == y_BHTW.stride(-1) == 1
    _require(fits, "attention", gradient_BHTW, q_BHTW, k_BKSW, v_BKSW, y_BHTW)
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
    fits = supports_attention(q_BHW[:, :, None], k_BKSW, v_BKSW, most_keys=None) and q_BHW.is_contiguous()
    fits = fits and heads // shared <= MAX_GROUP and starts_B.shape == (rows,) and starts_B.dtype == torch.int64
    fits = fits and bool(((starts_B >= 0) & (starts_B < keys)).all()) and scale > 0
    _require(fits, "attention", q_BHW, k_BKSW, v_BKSW)
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


def weights_fit(heads_per_key: int, queries: int, keys: int, width: int) -> bool:
    """Whether a thread may hold what the gradient of attention needs of one head of keys, as bf16.c does."""
    padded_queries, padded_keys = (-(-count // BLOCK) * BLOCK for count in (queries, keys))
    return 4 * heads_per_key * padded_queries * (width + padded_keys) <= _MAX_WEIGHTS


def supports_attention(q_BHTW: Tensor, k_BKSW: Tensor, v_BKSW: Tensor, most_keys: int | None = MAX_KEYS) -> bool:
    """Whether the attention kernels support queries, keys and values of these shapes."""
    rows, heads, queries, width = q_BHTW.shape
    shape = k_BKSW.shape
    return (
        shape == v_BKSW.shape
        and shape[0] == rows > 0
        and shape[3] == width
        and not width % BLOCK
        and 0 < queries <= shape[2]
        and (most_keys is None or shape[2] <= most_keys)
        and shape[1] > 0
        and heads > 0
        and not heads % shape[1]
        and (most_keys is None or weights_fit(heads // shape[1], queries, shape[2], width))
        and all(one.stride(-1) == 1 for one in (q_BHTW, k_BKSW, v_BKSW))
    )


def _strides(*tensors: Tensor) -> Any:
    flat = [stride for one in tensors for stride in one.stride()[:3]]
    return (ctypes.c_long * len(flat))(*flat)


def attention(q_BHTW: Tensor, k_BKSW: Tensor, v_BKSW: Tensor, scale: float) -> Tensor | None:
    """Causal attention (B, T, H, W) of the last T positions; None if the kernels do not support these tensors."""
    tensors = (q_BHTW, k_BKSW, v_BKSW)
    if not _fit_kernels(*tensors) or not supports_attention(*tensors) or scale <= 0:
        return None
    y_BTHW: Tensor = _Attention.apply(q_BHTW, k_BKSW, v_BKSW, scale)  # type: ignore[no-untyped-call]
    return y_BTHW
