"""Which device and which arithmetic this machine is good at, found by trying it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

# A GEMM of this width takes about 1 ms on one modern core and is large enough to reach the kernels that matter.
_PROBE_WIDTH = 256
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


def gemm_rate(dtype: torch.dtype, device: torch.device, width: int = _PROBE_WIDTH, repeats: int = 5) -> float:
    """Best rate of a square matrix product, in floating-point operations a second."""
    import torch

    left = torch.ones(width, width, dtype=dtype, device=device)
    right = torch.ones(width, width, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        product = left @ right
        product[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * width**3 / best


def has_fast_bf16(device: torch.device) -> bool:
    """True when bf16 products are clearly faster than fp32 ones here. Some CPUs emulate bf16 a hundred times slower."""
    import torch

    return gemm_rate(torch.bfloat16, device) >= _WORTH_IT * gemm_rate(torch.float32, device)


def choose_dtype(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> torch.dtype:
    """The dtype of weights and products for this run."""
    import torch

    if precision == "auto":
        return torch.bfloat16 if has_fast_bf16(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32
