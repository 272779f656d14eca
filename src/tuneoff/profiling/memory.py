"""Resident memory of this process and its peak between two moments.

The kernel's high-water mark sees every peak but counts from the start of the process. Linux resets it on request
(proc(5): writing 5 to /proc/self/clear_refs). Where that is refused, the mark still tells the peak of a stretch in
which it rose; in the other stretches the highest sample stands in.
"""

import sys
from pathlib import Path

import psutil

_RESET_HIGH_WATER = "5"
SYSTEM_PROC = Path("/proc/self")


class MemoryPeak:
    """Peak resident set, stretch by stretch. Not thread-safe: the meter holds its lock."""

    def __init__(self, proc: Path = SYSTEM_PROC) -> None:
        self._proc = proc
        self._process = psutil.Process()
        self._sampled = 0
        self.source = "highest sample of the resident set"
        self._resets = self._reset()
        self._mark = self._high_water()
        if self._mark is not None:
            self.source = (
                "high-water mark of the kernel, reset at each phase"
                if self._resets
                else "high-water mark of the kernel where it rose, else the highest sample"
            )

    def sample(self) -> int:
        """Resident set now, in bytes."""
        resident = int(self._process.memory_info().rss)
        self._sampled = max(self._sampled, resident)
        return resident

    def lap(self) -> int:
        """Peak in bytes since the last lap, and start the next one."""
        self.sample()
        mark = self._high_water()
        known = mark is not None and (self._resets or self._mark is None or mark > self._mark)
        peak = max(self._sampled, mark) if known and mark is not None else self._sampled
        if self._resets:
            self._resets = self._reset()
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
        """Bytes; None where the system has no such mark."""
        try:
            for line in (self._proc / "status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        except OSError:
            return _high_water_elsewhere() if not sys.platform.startswith("linux") else None
        return None


def _high_water_elsewhere() -> int | None:
    """macOS: getrusage(2) gives bytes. Windows: PeakWorkingSetSize."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None
