"""Kernels for what stands between the matrix products of a decoder layer: fused.c, built when tuneoff is installed.

PyTorch computes a norm, a rotation or an activation as a chain of operations, and each reads and writes the whole
tensor; where products are fast (bf16 with AMX) those chains cost more than the products (docs/performance.md). Where
there was no C compiler at the installation, or on another device, everything stays as transformers wrote it.

Shapes: any leading dimensions, D width; B rows, H heads, T positions.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_SUFFIXES = {torch.float32: "float", torch.bfloat16: "bfloat16"}
_POINTER, _COUNT, _NUMBER = ctypes.c_void_p, ctypes.c_long, ctypes.c_float
_ARGUMENTS: dict[str, list[Any]] = {
    "normalize": [_POINTER] * 4 + [_COUNT, _COUNT, _NUMBER],
    "normalize_input": [_POINTER] * 5 + [_COUNT] * 2,
    "normalize_weight": [_POINTER] * 4 + [_COUNT] * 2,
    "rotate": [_POINTER] * 5 + [_COUNT] * 6,
    "gate": [_POINTER] * 3 + [_COUNT],
    "gate_back": [_POINTER] * 5 + [_COUNT],
    "attend": [_POINTER, _NUMBER] + [_COUNT] * 3,
    "attend_back": [_POINTER, _POINTER, _NUMBER] + [_COUNT] * 3,
    "multiply": [_POINTER] * 3 + [_COUNT],
    "add_product": [_POINTER] * 3 + [_COUNT],
}
# As in fused.c: a library that was built of another version of it is left alone.
INTERFACE = 1
# A thread more costs about as much as so many elements.
_WORTH_A_THREAD = 16384
# The longest row of attention weights that the kernels take.
LONGEST = 1024


@functools.cache
def _kernels() -> dict[tuple[str, torch.dtype], Any]:
    """The functions of the built library by name and type; empty where there is none."""
    found = importlib.util.find_spec("tuneoff.engine.kernels._fused")
    if found is None or found.origin is None:
        return {}
    try:
        library = ctypes.CDLL(found.origin)
        interface = library.fused_interface()
    except (OSError, AttributeError):  # built for another machine, or long ago
        return {}
    if interface != INTERFACE:
        return {}
    kernels: dict[tuple[str, torch.dtype], Any] = {}
    for name, arguments in _ARGUMENTS.items():
        for dtype, suffix in _SUFFIXES.items():
            function = getattr(library, f"{name}_{suffix}")
            function.argtypes, function.restype = [*arguments, _COUNT], None
            kernels[name, dtype] = function
    return kernels


def are_here(device: torch.device) -> bool:
    """Whether kernels for `device` were built."""
    return device.type == "cpu" and bool(_kernels())


def take(*tensors: Tensor) -> bool:
    """Whether kernels can compute with these tensors."""
    first = tensors[0]
    return (
        first.dtype in _SUFFIXES
        and bool(_kernels())
        and all(one.dtype == first.dtype and one.device.type == "cpu" and one.is_contiguous() for one in tensors)
    )


def _run(name: str, size: Tensor, *arguments: Any) -> None:
    """Run a kernel for the type of `size`, whose number of elements is the work's."""
    threads = min(torch.get_num_threads(), size.numel() // _WORTH_A_THREAD + 1)
    pointers = [one.data_ptr() if isinstance(one, Tensor) else one for one in arguments]
    _kernels()[name, size.dtype](*pointers, threads)


class _Normalize(torch.autograd.Function):
    """y = w x / sqrt(mean(x^2) + epsilon), RMSNorm of Zhang and Sennrich 2019, arXiv:1910.07467."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        width = x.shape[-1]
        rows = x.numel() // width
        y, scale = torch.empty_like(x), torch.empty(rows, dtype=torch.float32, device=x.device)
        _run("normalize", x, x, weight_D, y, scale, rows, width, epsilon)
        ctx.save_for_backward(x, weight_D, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_D, scale = ctx.saved_tensors
        gradient, width = gradients[0].contiguous(), x.shape[-1]
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            _run("normalize_input", x, gradient, x, weight_D, scale, grad_x, len(scale), width)
        if ctx.needs_input_grad[1]:
            sums_D = torch.empty(width, dtype=torch.float32, device=x.device)
            _run("normalize_weight", x, gradient, x, scale, sums_D, len(scale), width)
            grad_weight = sums_D.to(weight_D.dtype)
        return grad_x, grad_weight, None


def normalize(x: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
    """RMSNorm over the last dimension, rounded where Llama's rounds. All must be tensors that `take` takes."""
    y: Tensor = _Normalize.apply(x, weight_D, epsilon)  # type: ignore[no-untyped-call]
    return y


class _Rotate(torch.autograd.Function):
    """y = x cos + rotate_half(x) sin: rotary positions of Su et al. 2021, arXiv:2104.09864, halves side by side."""

    @staticmethod
    def forward(ctx: Any, x_BHTD: Tensor, cosines_BTD: Tensor, sines_BTD: Tensor) -> Tensor:
        ctx.save_for_backward(cosines_BTD, sines_BTD)
        return _rotated(
            x_BHTD, torch.empty_like(x_BHTD, memory_format=torch.contiguous_format), cosines_BTD, sines_BTD, back=False
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0] if gradients[0].stride(-1) == 1 else gradients[0].contiguous()
        rows, heads, length, width = gradient.shape
        # In the order in which the projection before wrote it: its backward pass needs no copy.
        grad_x = gradient.new_empty((rows, length, heads, width)).transpose(1, 2)
        return _rotated(gradient, grad_x, *ctx.saved_tensors, back=True), None, None


def _rotated(x_BHTD: Tensor, y_BHTD: Tensor, cosines_BTD: Tensor, sines_BTD: Tensor, *, back: bool) -> Tensor:
    rows, heads, length, width = x_BHTD.shape
    strides = (ctypes.c_long * 6)(*x_BHTD.stride()[:3], *y_BHTD.stride()[:3])
    table_stride = 0 if len(cosines_BTD) == 1 else length * width
    sizes = (rows, heads, length, width, table_stride, int(back))
    _run("rotate", x_BHTD, x_BHTD, y_BHTD, cosines_BTD, sines_BTD, ctypes.addressof(strides), *sizes)
    return y_BHTD


def rotate(x_BHTD: Tensor, cosines_BTD: Tensor, sines_BTD: Tensor) -> Tensor | None:
    """Queries or keys with their positions, contiguous; the tables may have a single row. None: not for these."""
    rows, _, length, width = x_BHTD.shape
    table = cosines_BTD.shape
    fits = table == sines_BTD.shape and table[0] in (1, rows) and table[1:] == (length, width) and width % 2 == 0
    if not fits or x_BHTD.stride(-1) != 1 or not take(cosines_BTD, sines_BTD) or x_BHTD.dtype != cosines_BTD.dtype:
        return None
    y: Tensor = _Rotate.apply(x_BHTD, cosines_BTD, sines_BTD)  # type: ignore[no-untyped-call]
    return y


class _Gate(torch.autograd.Function):
    """y = silu(gate) up, the middle of SwiGLU (Shazeer 2020, arXiv:2002.05202); silu(x) = x / (1 + e^-x)."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        y = torch.empty_like(gate)
        _run("gate", gate, gate, up, y, gate.numel())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(up)
        _run("gate_back", gate, gradients[0].contiguous(), gate, up, grad_gate, grad_up, gate.numel())
        return grad_gate, grad_up


def gate(gate_states: Tensor, up: Tensor) -> Tensor:
    """silu(gate) up."""
    if not take(gate_states, up):
        return F.silu(gate_states) * up
    y: Tensor = _Gate.apply(gate_states, up)  # type: ignore[no-untyped-call]
    return y


def attend_(scores_XS: Tensor, scale: float, queries: int) -> Tensor:
    """softmax(scale * scores) in place, causal: every `queries` rows end at the last of the S <= `LONGEST` keys.

    `scale` must be positive.
    """
    keys = scores_XS.shape[-1]
    _run("attend", scores_XS, scores_XS, scale, scores_XS.numel() // keys, queries, keys)
    return scores_XS


def attend_back_(gradient_XS: Tensor, weights_XS: Tensor, scale: float, queries: int) -> Tensor:
    """The gradient of `attend_`'s scores from that of its weights, in place."""
    keys = weights_XS.shape[-1]
    _run("attend_back", weights_XS, gradient_XS, weights_XS, scale, weights_XS.numel() // keys, queries, keys)
    return gradient_XS


def multiply(x: Tensor, factors: Tensor) -> Tensor:
    """x * factors, of equal shapes."""
    if not take(x, factors):
        return x * factors
    y = torch.empty_like(x)
    _run("multiply", x, x, factors, y, x.numel())
    return y


def add_product_(total: Tensor, x: Tensor, factors: Tensor) -> Tensor:
    """total += x * factors, of equal shapes."""
    if not take(total, x, factors):
        return total.addcmul_(x, factors)
    _run("add_product", total, total, x, factors, total.numel())
    return total
