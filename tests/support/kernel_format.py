"""The number format that a test of the kernels computes in."""

import torch


class Format:
    """Set by the fixture `product_units`."""

    dtype = torch.bfloat16


def rounding(bf16: float, fp32: float) -> float:
    """An error that is allowed in the number format of the test."""
    return bf16 if Format.dtype == torch.bfloat16 else fp32
