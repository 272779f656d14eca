"""Peak memory of accelerators, as reported by torch's allocator. Uses torch only if the run has already imported it."""

import sys
from typing import Any

from tuneoff.results.run_record import Reading

NO_ACCELERATOR = Reading(value=None, unit="B", reason="no accelerator in use")


class AcceleratorPeak:
    """Peak memory of this process on its accelerators, between two calls of `read_and_reset`. Not thread-safe."""

    def __init__(self) -> None:
        self._sampled: int | None = None

    def sample(self) -> None:
        """Sample the memory in use, because torch's MPS allocator does not record a peak."""
        now = _mps_bytes()
        if now is not None:
            self._sampled = max(self._sampled or 0, now)

    def read_and_reset(self) -> Reading:
        """Peak in bytes since the last call. The peaks of several CUDA devices are added."""
        self.sample()
        sampled, self._sampled = self._sampled, None
        cuda = _cuda_in_use()
        if cuda is not None:
            devices = range(cuda.device_count())
            peak = sum(int(cuda.max_memory_allocated(device)) for device in devices)
            for device in devices:
                cuda.reset_peak_memory_stats(device)
            return Reading(value=peak, unit="B", source="torch.cuda.max_memory_allocated")
        if sampled is not None:
            return Reading(value=sampled, unit="B", source="torch.mps.current_allocated_memory, highest sample")
        return NO_ACCELERATOR


def _cuda_in_use() -> Any | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    # Unlike is_available, is_initialized never creates a CUDA context.
    return torch.cuda if torch.cuda.is_initialized() else None


def _mps_bytes() -> int | None:
    torch = sys.modules.get("torch")
    if torch is None or sys.platform != "darwin" or not torch.backends.mps.is_available():
        return None
    return int(torch.mps.current_allocated_memory()) or None


def higher_peak(one: Reading, other: Reading) -> Reading:
    """The higher of two peaks. A reading without a value counts as lower."""
    if one.value is None:
        return other
    if other.value is None or other.value <= one.value:
        return one
    return other
