"""Device and number format of a run. A short benchmark decides whether bf16 is used."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

# Width of the matrices. A product takes about 1 ms on a modern core and is large enough to use the fast kernels.
_CPU_WIDTH = 256
# Accelerators finish the small product before it can be timed; this one takes them milliseconds.
_ACCELERATOR_WIDTH = 4096
# bf16 halves the memory traffic of weights but costs accuracy, so it must be clearly faster.
_MIN_BF16_SPEEDUP = 1.5


def pick_device() -> torch.device:
    """The accelerator that torch finds, otherwise the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def gemm_rate(dtype: torch.dtype, device: torch.device, width: int | None = None, repeats: int = 5) -> float:
    """Rate of a square matrix product on all threads, in FLOP/s: the best of `repeats` measurements."""
    default = _CPU_WIDTH if device.type == "cpu" else _ACCELERATOR_WIDTH
    return _rate(dtype, device, width or default, repeats, time.perf_counter)


def _rate(dtype: torch.dtype, device: torch.device, width: int, repeats: int, clock: Callable[[], float]) -> float:
    import torch

    left = torch.ones(width, width, dtype=dtype, device=device)
    right = torch.ones(width, width, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(repeats):
        start = clock()
        product = left @ right
        product[0, 0].item()  # synchronizes with the device
        best = min(best, clock() - start)
    return 2 * width**3 / max(best, 1e-9)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 products are clearly faster than fp32 products. Some CPUs emulate bf16 a hundred times slower.

    On a CPU the measure is the processor time of one thread. Other processes do not disturb it, so all runs of a study
    get the same answer.
    """
    import torch

    dtypes = [torch.bfloat16, torch.float32]
    if device.type != "cpu":
        bf16, fp32 = (gemm_rate(dtype, device) for dtype in dtypes)
        return bf16 >= _MIN_BF16_SPEEDUP * fp32
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        bf16, fp32 = (_rate(dtype, device, _CPU_WIDTH, 5, time.thread_time) for dtype in dtypes)
    finally:
        torch.set_num_threads(threads)
    return bf16 >= _MIN_BF16_SPEEDUP * fp32


def choose_dtype(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> torch.dtype:
    """The dtype of weights and matrix products for this run."""
    import torch

    if precision == "auto":
        return torch.bfloat16 if has_fast_bf16(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32
