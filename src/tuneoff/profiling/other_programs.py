"""How many processor cores other programs use while something is measured."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

# Of all cores. Less is what any system does on the side.
_BUSY = 0.15


@dataclass(frozen=True)
class ProcessorTimes:
    """Readings of one moment, in seconds."""

    clock: float
    busy: float
    """Processor time of all programs, on the cores that this process may use."""
    own: float
    """Processor time of this process and its descendants, also of those that have ended."""
    cores: int


def read_processor_times() -> ProcessorTimes | None:
    """What the system says now; None outside Linux, which alone reports the time of descendants that have ended."""
    if sys.platform != "linux":
        return None
    usable = os.sched_getaffinity(0)
    times = [each for core, each in enumerate(psutil.cpu_times(percpu=True)) if core in usable]
    busy = sum(each.user + each.nice + each.system + each.irq + each.softirq + each.steal for each in times)
    own = 0.0
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        try:
            used = process.cpu_times()
        except psutil.Error:  # it has just ended
            continue
        own += used.user + used.system + used.children_user + used.children_system
    return ProcessorTimes(time.perf_counter(), busy, own, len(times))


@dataclass(frozen=True)
class OtherPrograms:
    """What other programs used: `cores` on average, of `of_cores`."""

    cores: float
    of_cores: int

    @property
    def are_busy(self) -> bool:
        """Whether they used enough to change what was measured."""
        return self.of_cores > 0 and self.cores / self.of_cores >= _BUSY

    def sentence(self) -> str | None:
        """For people; None if it is little."""
        if not self.are_busy:
            return None
        return (
            f"other programs used {self.cores:.1f} of {self.of_cores} processor cores while this was measured; without "
            "them more fits into the same time"
        )


class OtherProgramsMeter:
    """Measures what other programs use from when it is made. Runs must be descendants of this process."""

    def __init__(self, read: Callable[[], ProcessorTimes | None] = read_processor_times) -> None:
        self._read = read
        self._first = read()

    def measure(self) -> OtherPrograms | None:
        """The mean until now; None if it is not known."""
        first, last = self._first, self._read()
        if first is None or last is None or last.clock <= first.clock:
            return None
        used = (last.busy - first.busy) - (last.own - first.own)
        return OtherPrograms(max(0.0, used / (last.clock - first.clock)), last.cores)
