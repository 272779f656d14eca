"""Fused CPU kernels for the operations between the matrix products of a decoder layer.

The kernels are in fused.c, which is compiled when tuneoff is installed. PyTorch computes a norm, a rotation or an
activation as a chain of operations, and each of them reads and writes the whole tensor. Where matrix products are fast
(bf16 with AMX), those chains cost more than the products (docs/lab_log.md). Without a C compiler at installation,
or on another device, the layers of transformers are unchanged.

Shapes: B rows, H heads, T positions, D width of the last dimension, X all leading dimensions, S keys. Tensors without a
suffix have any leading dimensions.
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
_POINTER, _LONG, _FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_float
# Arguments of the C functions, before the last one, the number of threads.
_ARGUMENTS: dict[str, list[Any]] = {
    "normalize": [_POINTER] * 4 + [_LONG, _LONG, _FLOAT],
    "normalize_input": [_POINTER] * 5 + [_LONG] * 2,
    "normalize_weight": [_POINTER] * 4 + [_LONG] * 2,
    "rotate": [_POINTER] * 5 + [_LONG] * 6,
    "gate": [_POINTER] * 3 + [_LONG],
    "gate_back": [_POINTER] * 5 + [_LONG],
    "attend": [_POINTER, _FLOAT] + [_LONG] * 3,
    "attend_back": [_POINTER, _POINTER, _FLOAT] + [_LONG] * 3,
    "multiply": [_POINTER] * 3 + [_LONG],
    "add_product": [_POINTER] * 3 + [_LONG],
}
# Version of the functions in fused.c. A library built from another version is not used.
INTERFACE = 1
# One more thread costs about as much as computing this many elements.
_MIN_THREAD_ELEMENTS = 16384
# Largest number of keys that the attention kernels support.
MAX_KEYS = 1024


@functools.cache
def _compiled_kernels() -> dict[tuple[str, torch.dtype], Any]:
    """The functions of the compiled library by name and dtype; empty without a usable library."""
    found = importlib.util.find_spec("tuneoff.engine.kernels._fused")
    if found is None or found.origin is None:
        return {}
    try:
        library = ctypes.CDLL(found.origin)
        if library.fused_interface() != INTERFACE:
            return {}
        kernels: dict[tuple[str, torch.dtype], Any] = {
            (name, dtype): getattr(library, f"{name}_{suffix}")
            for name in _ARGUMENTS
            for dtype, suffix in _SUFFIXES.items()
        }
    except (OSError, AttributeError):  # compiled for another machine or by an old version
        return {}
    for (name, _), function in kernels.items():
        function.argtypes, function.restype = [*_ARGUMENTS[name], _LONG], None
    return kernels


def are_available(device: torch.device) -> bool:
    """Whether there are compiled kernels for `device`."""
    return device.type == "cpu" and bool(_compiled_kernels())


def supports(*tensors: Tensor) -> bool:
    """Whether the kernels can compute with these tensors: one supported dtype, on the CPU, contiguous."""
    first = tensors[0]
    return (
        first.dtype in _SUFFIXES
        and bool(_compiled_kernels())
        and all(one.dtype == first.dtype and one.device.type == "cpu" and one.is_contiguous() for one in tensors)
    )


def _support_equal_shapes(*tensors: Tensor) -> bool:
    """Whether an elementwise kernel can compute with these tensors: they may not be broadcast."""
    shape = tensors[0].shape
    return all(one.shape == shape for one in tensors) and supports(*tensors)


def _run(name: str, size: Tensor, *arguments: Any) -> None:
    """Run the kernel for the dtype of `size`. Its number of elements determines the number of threads.

    A kernel trusts the sizes that it is given, so the public functions check shapes, dtypes and devices before.
    """
    threads = min(torch.get_num_threads(), size.numel() // _MIN_THREAD_ELEMENTS + 1)
    pointers = [one.data_ptr() if isinstance(one, Tensor) else one for one in arguments]
    _compiled_kernels()[name, size.dtype](*pointers, threads)


class _RMSNorm(torch.autograd.Function):
    """y = w x / sqrt(mean(x^2) + epsilon): RMSNorm of Zhang and Sennrich 2019, arXiv:1910.07467."""

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
            grad_weight = norm_weight_gradient(gradient, x, weight_D, scale)
        return grad_x, grad_weight, None


def norm_weight_gradient(gradient: Tensor, x: Tensor, weight_D: Tensor, scale: Tensor) -> Tensor:
    """Gradient of the weight of an RMSNorm that multiplied x by `scale`, one factor a row, for supported tensors."""
    sums_D = torch.empty(x.shape[-1], dtype=torch.float32, device=x.device)
    _run("normalize_weight", x, gradient, x, scale, sums_D, len(scale), x.shape[-1])
    return sums_D.to(weight_D.dtype)


def rms_norm(x: Tensor, weight_D: Tensor, epsilon: float) -> Tensor | None:
    """RMSNorm over the last dimension, rounded as in Llama. None if the kernel does not support these tensors."""
    if not weight_D.numel() or weight_D.shape != x.shape[-1:] or not supports(x, weight_D):
        return None
    y: Tensor = _RMSNorm.apply(x, weight_D, epsilon)  # type: ignore[no-untyped-call]
    return y


class _Rotate(torch.autograd.Function):
    """y = x cos + rotate_half(x) sin: rotary embedding of Su et al. 2021, arXiv:2104.09864, as in Llama."""

    @staticmethod
    def forward(ctx: Any, x_BHTD: Tensor, cosines_BTD: Tensor, sines_BTD: Tensor) -> Tensor:
        ctx.save_for_backward(cosines_BTD, sines_BTD)
        return rotated(
            x_BHTD, torch.empty_like(x_BHTD, memory_format=torch.contiguous_format), cosines_BTD, sines_BTD, back=False
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0] if gradients[0].stride(-1) == 1 else gradients[0].contiguous()
        rows, heads, length, width = gradient.shape
        # The memory order in which the projection wrote its output: its backward pass then needs no copy.
        grad_x = gradient.new_empty((rows, length, heads, width)).transpose(1, 2)
        return rotated(gradient, grad_x, *ctx.saved_tensors, back=True), None, None


def rotated(x_BHTD: Tensor, y_BHTD: Tensor, cosines_BTD: Tensor, sines_BTD: Tensor, *, back: bool) -> Tensor:
    """Write the rotary embedding of x, or with `back` the gradient of x, to y, which may be x, and return it.

    For tensors that the kernel supports (`rotate`).
    """
    rows, heads, length, width = x_BHTD.shape
    strides = (ctypes.c_long * 6)(*x_BHTD.stride()[:3], *y_BHTD.stride()[:3])
    table_stride = 0 if len(cosines_BTD) == 1 else length * width
    sizes = (rows, heads, length, width, table_stride, int(back))
    _run("rotate", x_BHTD, x_BHTD, y_BHTD, cosines_BTD, sines_BTD, ctypes.addressof(strides), *sizes)
    return y_BHTD


def rotate(x_BHTD: Tensor, cosines_BTD: Tensor, sines_BTD: Tensor) -> Tensor | None:
    """Rotary embedding of queries or keys, contiguous. The tables may have one row for all rows of `x_BHTD`.

    None if the kernel does not support these tensors.
    """
    rows, _, length, width = x_BHTD.shape
    shape = cosines_BTD.shape
    fits = shape == sines_BTD.shape and shape[0] in (1, rows) and shape[1:] == (length, width) and width % 2 == 0
    if not fits or x_BHTD.stride(-1) != 1 or not supports(cosines_BTD, sines_BTD):
        return None
    if x_BHTD.dtype != cosines_BTD.dtype or x_BHTD.device.type != "cpu":
        return None
    y: Tensor = _Rotate.apply(x_BHTD, cosines_BTD, sines_BTD)  # type: ignore[no-untyped-call]
    return y


class _SiLUProduct(torch.autograd.Function):
    """y = silu(gate) * up of SwiGLU (Shazeer 2020, arXiv:2002.05202), with silu(x) = x / (1 + e^-x)."""

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


def silu_product(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up."""
    if not _support_equal_shapes(gate, up):
        return F.silu(gate) * up
    y: Tensor = _SiLUProduct.apply(gate, up)  # type: ignore[no-untyped-call]
    return y


def causal_softmax_(scores_XS: Tensor, scale: float, queries: int) -> Tensor:
    """softmax(scale * scores) with a causal mask, in place. `scale` must be positive.

    Each group of `queries` consecutive rows of `scores_XS` belongs to the last `queries` positions of the
    S <= `MAX_KEYS` keys. Raises `ValueError` for tensors or sizes that the kernel does not support.
    """
    keys = _check_scores(queries, scores_XS)
    _run("attend", scores_XS, scores_XS, scale, scores_XS.numel() // keys, queries, keys)
    return scores_XS


def causal_softmax_backward_(gradient_XS: Tensor, weights_XS: Tensor, scale: float, queries: int) -> Tensor:
    """Gradient of the scores of `causal_softmax_` from the gradient of its weights, in place.

    Raises `ValueError` for tensors or sizes that the kernel does not support.
    """
    keys = _check_scores(queries, gradient_XS, weights_XS)
    _run("attend_back", weights_XS, gradient_XS, weights_XS, scale, weights_XS.numel() // keys, queries, keys)
    return gradient_XS


def _check_scores(queries: int, *tensors: Tensor) -> int:
    """The number of keys of attention scores. Raises `ValueError` for what the attention kernels do not support."""
    keys = tensors[0].shape[-1]
    fits = 1 <= queries <= keys <= MAX_KEYS and tensors[0].numel() % (queries * keys) == 0
    if not fits or not _support_equal_shapes(*tensors):
        listed = ", ".join(_described(one) for one in tensors)
        raise ValueError(f"causal softmax: {queries} queries and {listed} do not fit the kernel")
    return keys


def _described(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"


def multiply(x: Tensor, factors: Tensor) -> Tensor:
    """x * factors elementwise."""
    if not _support_equal_shapes(x, factors):
        return x * factors
    y = torch.empty_like(x)
    _run("multiply", x, x, factors, y, x.numel())
    return y


def add_product_(total: Tensor, x: Tensor, factors: Tensor) -> Tensor:
    """total += x * factors elementwise."""
    if not _support_equal_shapes(total, x, factors):
        return total.addcmul_(x, factors)
    _run("add_product", total, total, x, factors, total.numel())
    return total
