"""Energy counters of the machine, added up: processor packages (RAPL) and NVIDIA devices.

They count whatever the machine does, not this process alone. A counter that cannot be read makes no 0: the reading
says which counters are in it and why others are not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tuneoff.profiling.nvidia import Nvidia
from tuneoff.results.run_record import Reading

SYSTEM_POWERCAP = Path("/sys/class/powercap")


@dataclass
class Counter:
    """A growing number of joules. `wraps_at` is the number after which it starts again at 0, if it does."""

    source: str
    read: Callable[[], float]
    wraps_at: float | None = None


def rapl_counters(powercap: Path = SYSTEM_POWERCAP) -> tuple[list[Counter], str | None]:
    """One counter a processor package, or none and the reason.

    Linux powercap documentation: `energy_uj` counts micro-joules and wraps after `max_energy_range_uj`. Only the
    package zones are taken: core and uncore lie inside a package, `psys` around it, and intel-rapl-mmio repeats it.
    """
    zones = sorted(zone for zone in powercap.glob("intel-rapl:*") if zone.name.count(":") == 1)
    counters = []
    for zone in zones:
        try:
            name = (zone / "name").read_text().strip()
            if not name.startswith("package"):
                continue
            wraps_at = int((zone / "max_energy_range_uj").read_text()) / 1e6
            counter = Counter(f"RAPL {name}", _joules_of(zone / "energy_uj"), wraps_at)
            counter.read()
        except PermissionError:
            return [], f"RAPL counters are there but only root may read {zone / 'energy_uj'}"
        except (OSError, ValueError) as error:
            return [], f"RAPL counter {zone.name} cannot be read ({type(error).__name__})"
        counters.append(counter)
    if not counters:
        return [], "no RAPL counter of a processor package on this machine"
    return counters, None


def _joules_of(path: Path) -> Callable[[], float]:
    return lambda: int(path.read_text()) / 1e6


def nvidia_counters(nvidia: Nvidia) -> tuple[list[Counter], str | None]:
    """One counter a visible NVIDIA device (Volta and later), or none and the reason."""
    if nvidia.reason is not None:
        return [], nvidia.reason
    counters = [
        Counter(f"NVML GPU {number}", lambda number=number: nvidia.joules(number))  # type: ignore[misc]
        for number in range(nvidia.count)
    ]
    try:
        for counter in counters:
            counter.read()
    except OSError as error:
        return [], f"NVIDIA energy counter cannot be read ({error})"
    return counters, None


class EnergyMeter:
    """Joules since it was made. Read it more often than its counters wrap (minutes). Not thread-safe."""

    def __init__(self, powercap: Path = SYSTEM_POWERCAP, nvidia: Nvidia | None = None) -> None:
        rapl, no_rapl = rapl_counters(powercap)
        nvidia = nvidia if nvidia is not None else Nvidia()
        devices, no_devices = nvidia_counters(nvidia)
        self._counters = rapl + devices
        if self._counters and nvidia.count == 0:
            no_devices = None  # nothing is missing from the sum
        self._reasons = [reason for reason in (no_rapl, no_devices) if reason is not None]
        self._last = [counter.read() for counter in self._counters]
        self._joules = 0.0
        self._broken = False

    def joules(self) -> float | None:
        """Energy so far; None without a counter, or for good after one has failed."""
        if self._broken or not self._counters:
            return None
        for number, counter in enumerate(self._counters):
            try:
                now = counter.read()
            except (OSError, ValueError) as error:
                self._broken = True
                self._reasons.append(f"{counter.source} stopped answering ({type(error).__name__})")
                return None
            spent = now - self._last[number]
            if spent < 0 and counter.wraps_at is not None:
                spent += counter.wraps_at
            self._joules += max(spent, 0.0)  # a counter without a known end that fell was reset by its driver
            self._last[number] = now
        return self._joules

    def reading(self, joules: float | None) -> Reading:
        """`joules`, a difference of two calls of `joules()`, with sources and reasons."""
        reason = "; ".join(self._reasons) or None
        if joules is None or not self._counters:
            return Reading(value=None, unit="J", reason=reason or "no energy counter")
        source = " + ".join(counter.source for counter in self._counters)
        return Reading(value=joules, unit="J", source=f"{source}, whole machine", reason=reason)
