"""Device and number format of a run. The processor's features, or else a short benchmark, decide about bf16."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

NumberFormat = Literal["fp32", "bf16"]

# Width of the matrices. A product takes about 1 ms on a modern core and is large enough to use the fast kernels.
_CPU_WIDTH = 256
# Accelerators finish the small product before it can be timed; this one takes them milliseconds.
_ACCELERATOR_WIDTH = 4096
# bf16 halves the memory traffic of weights but costs accuracy, so it must be clearly faster.
_MIN_BF16_SPEEDUP = 1.5
# Three ratios are enough if all are beyond this factor of the minimum; else the median of nine decides.
_CLEAR_MARGIN = 1.3
_FEWEST_RATIOS, _MOST_RATIOS = 3, 9


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


def bf16_by_processor(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str | None = None) -> bool | None:
    """Whether bf16 products are fast, as far as the processor's features say: no noise can change that.

    True with matrix units for bf16 (AMX), False for an x86 processor without any instruction for bf16. None if it has
    to be measured. Needs no torch.
    """
    if (machine or platform.machine()).lower() not in ("x86_64", "amd64"):
        return None
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    if "amx_bf16" in flags:
        return True
    return None if "avx512_bf16" in flags or not flags else False


def has_matrix_units() -> bool:
    """Whether this processor has matrix units for bf16 (AMX): products are then fast compared with all the rest."""
    return bf16_by_processor() is True


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 products are clearly faster than fp32 products. Some CPUs emulate bf16 a hundred times slower.

    The processor's features decide where they can. Otherwise rates are compared several times, and the median counts.
    """
    known = bf16_by_processor() if device.type == "cpu" else None
    if known is not None:
        return known
    ratios = [_bf16_speedup(device) for _ in range(_FEWEST_RATIOS)]
    if not _is_clear(ratios):
        ratios += [_bf16_speedup(device) for _ in range(_MOST_RATIOS - _FEWEST_RATIOS)]
    return median(ratios) >= _MIN_BF16_SPEEDUP


def _is_clear(ratios: list[float]) -> bool:
    """Whether all ratios are far above, or all far below, what decides."""
    return min(ratios) > _CLEAR_MARGIN * _MIN_BF16_SPEEDUP or max(ratios) < _MIN_BF16_SPEEDUP / _CLEAR_MARGIN


def _bf16_speedup(device: torch.device) -> float:
    """Rate of bf16 products over that of fp32 products, measured one after the other.

    On a CPU the measure is the processor time of one thread, which other processes hardly disturb.
    """
    import torch

    dtypes = [torch.bfloat16, torch.float32]
    if device.type != "cpu":
        bf16, fp32 = (gemm_rate(dtype, device) for dtype in dtypes)
        return bf16 / fp32
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        bf16, fp32 = (_rate(dtype, device, _CPU_WIDTH, 5, time.thread_time) for dtype in dtypes)
    finally:
        torch.set_num_threads(threads)
    return bf16 / fp32


FORMAT_OF: Mapping[str | None, NumberFormat] = {"float32": "fp32", "bfloat16": "bf16"}
"""The number format of a dtype, as records name it."""


def format_to_keep(known: NumberFormat, *, on_cpu: bool) -> NumberFormat:
    """The format of finished runs for what follows them, unless this processor has no instructions for it."""
    return "fp32" if known == "bf16" and on_cpu and bf16_by_processor() is False else known


def choose_dtype(precision: Literal["auto"] | NumberFormat, device: torch.device) -> torch.dtype:
    """The dtype of weights and matrix products for this run."""
    import torch

    if precision == "auto":
        return torch.bfloat16 if has_fast_bf16(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32
