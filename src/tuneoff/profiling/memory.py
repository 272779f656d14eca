"""Resident memory of this process, and its peak within an interval.

The kernel's high-water mark includes every peak since the process started. Linux resets it on request (proc(5): write 5
to /proc/self/clear_refs). Where the reset is refused, the mark is the peak of an interval only if it rose within that
interval. Otherwise the peak is the highest sample.
"""

import sys
from pathlib import Path

import psutil

_RESET_HIGH_WATER = "5"
SYSTEM_PROC = Path("/proc/self")


def out_of_memory_kills(vmstat: Path = Path("/proc/vmstat")) -> int | None:
    """How many processes the system has killed since it started because memory ran out; None if it does not say."""
    try:
        lines = vmstat.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


class MemoryPeak:
    """Peak resident set between two calls of `read_and_reset`. Not thread-safe."""

    def __init__(self, proc: Path = SYSTEM_PROC) -> None:
        self._proc = proc
        self._process = psutil.Process()
        self._sampled = 0
        self.source = "highest sample of the resident set"
        self._can_reset = self._reset()
        self._mark = self._high_water()
        if self._mark is not None:
            self.source = (
                "high-water mark of the kernel, reset at each phase"
                if self._can_reset
                else "high-water mark of the kernel where it rose, else the highest sample"
            )

    def sample(self) -> int:
        """The current resident set in bytes."""
        resident = int(self._process.memory_info().rss)
        self._sampled = max(self._sampled, resident)
        return resident

    def read_and_reset(self) -> int:
        """Peak in bytes since the last call."""
        self.sample()
        mark = self._high_water()
        is_peak = mark is not None and (self._can_reset or self._mark is None or mark > self._mark)
        peak = max(self._sampled, mark) if is_peak and mark is not None else self._sampled
        if self._can_reset:
            self._can_reset = self._reset()
            mark = self._high_water()
        self._mark = mark
        self._sampled = 0
        self.sample()
        return peak

    def _reset(self) -> bool:
        try:
            (self._proc / "clear_refs").write_text(_RESET_HIGH_WATER)
        except OSError:
            return False
        return True

    def _high_water(self) -> int | None:
        """High-water mark in bytes; None if the system has none."""
        try:
            for line in (self._proc / "status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        except OSError:
            return _high_water_other_systems() if not sys.platform.startswith("linux") else None
        return None


def _high_water_other_systems() -> int | None:
    """In bytes: getrusage(2) on macOS, PeakWorkingSetSize on Windows."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None
