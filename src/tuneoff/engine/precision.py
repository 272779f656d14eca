"""Which device and which arithmetic this machine is good at, found by trying it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

# A product of this width takes about 1 ms on one modern core and is large enough to reach the kernels that matter.
_PROBE_WIDTH = 256
# On an accelerator that one would be over before it could be timed: this one takes it milliseconds.
_ACCELERATOR_WIDTH = 4096
# bf16 halves the traffic of weights, but its rounding costs accuracy: it must be clearly faster to be worth it.
_WORTH_IT = 1.5


def pick_device() -> torch.device:
    """The accelerator torch knows of, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def gemm_rate(dtype: torch.dtype, device: torch.device, width: int | None = None, repeats: int = 5) -> float:
    """Best rate of a square matrix product on all threads, in floating-point operations a second."""
    standard = _PROBE_WIDTH if device.type == "cpu" else _ACCELERATOR_WIDTH
    return _rate(dtype, device, width or standard, repeats, time.perf_counter)


def _rate(dtype: torch.dtype, device: torch.device, width: int, repeats: int, clock: Callable[[], float]) -> float:
    import torch

    left = torch.ones(width, width, dtype=dtype, device=device)
    right = torch.ones(width, width, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(repeats):
        start = clock()
        product = left @ right
        product[0, 0].item()  # waits for the device
        best = min(best, clock() - start)
    return 2 * width**3 / max(best, 1e-9)


def has_fast_bf16(device: torch.device) -> bool:
    """True when bf16 products are clearly faster than fp32 ones here. Some CPUs emulate bf16 a hundred times slower.

    A CPU is timed by the processor time of one thread, which other programs on the machine do not disturb: all runs of
    a study must come to the same answer.
    """
    import torch

    rates = [torch.bfloat16, torch.float32]
    if device.type != "cpu":
        bf16, fp32 = (gemm_rate(dtype, device) for dtype in rates)
        return bf16 >= _WORTH_IT * fp32
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        bf16, fp32 = (_rate(dtype, device, _PROBE_WIDTH, 5, time.thread_time) for dtype in rates)
    finally:
        torch.set_num_threads(threads)
    return bf16 >= _WORTH_IT * fp32


def choose_dtype(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> torch.dtype:
    """The dtype of weights and products for this run."""
    import torch

    if precision == "auto":
        return torch.bfloat16 if has_fast_bf16(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32
