"""Energy counters of the machine: processor packages (RAPL) and NVIDIA devices. Their values are added.

They count the whole machine, not this process only. A counter that cannot be read does not count as 0: the reading
names the counters it includes, and the reason why others are missing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tuneoff.profiling.nvidia import NvidiaDevices
from tuneoff.results.run_record import Reading

SYSTEM_POWERCAP = Path("/sys/class/powercap")


@dataclass
class EnergyCounter:
    """An increasing number of joules. If `wraps_at` is given, the counter continues from 0 after that value."""

    source: str
    read: Callable[[], float]
    wraps_at: float | None = None


def rapl_counters(powercap: Path = SYSTEM_POWERCAP) -> tuple[list[EnergyCounter], str | None]:
    """One counter for each processor package; or an empty list and the reason.

    `energy_uj` counts microjoules and wraps after `max_energy_range_uj` (Linux powercap documentation). Only package
    zones are used. Core and uncore zones are part of a package, `psys` includes it, and intel-rapl-mmio repeats it.
    """
    zones = sorted(zone for zone in powercap.glob("intel-rapl:*") if zone.name.count(":") == 1)
    counters = []
    for zone in zones:
        try:
            name = (zone / "name").read_text().strip()
            if not name.startswith("package"):
                continue
            wraps_at = int((zone / "max_energy_range_uj").read_text()) / 1e6
            counter = EnergyCounter(f"RAPL {name}", _joule_reader(zone / "energy_uj"), wraps_at)
            counter.read()
        except PermissionError:
            return [], f"RAPL counters exist, but only root may read {zone / 'energy_uj'}"
        except (OSError, ValueError) as error:
            return [], f"RAPL counter {zone.name} cannot be read ({type(error).__name__})"
        counters.append(counter)
    if not counters:
        return [], "no RAPL counter of a processor package on this machine"
    return counters, None


def _joule_reader(path: Path) -> Callable[[], float]:
    return lambda: int(path.read_text()) / 1e6


def nvidia_counters(nvidia: NvidiaDevices) -> tuple[list[EnergyCounter], str | None]:
    """One counter for each visible NVIDIA device (Volta and later); or an empty list and the reason."""
    if nvidia.reason is not None:
        return [], nvidia.reason
    counters = [
        EnergyCounter(f"NVML GPU {number}", lambda number=number: nvidia.energy_joules(number))  # type: ignore[misc]
        for number in range(nvidia.count)
    ]
    try:
        for counter in counters:
            counter.read()
    except OSError as error:
        return [], f"NVIDIA energy counter cannot be read ({error})"
    return counters, None


class EnergyMeter:
    """Joules since the meter was created. Read it every minute, because counters wrap. Not thread-safe."""

    def __init__(self, powercap: Path = SYSTEM_POWERCAP, nvidia: NvidiaDevices | None = None) -> None:
        rapl, no_rapl = rapl_counters(powercap)
        nvidia = nvidia if nvidia is not None else NvidiaDevices()
        devices, no_devices = nvidia_counters(nvidia)
        self._counters = rapl + devices
        if self._counters and nvidia.count == 0:
            no_devices = None  # there is no device, so nothing is missing from the sum
        self._reasons = [reason for reason in (no_rapl, no_devices) if reason is not None]
        self._last = [counter.read() for counter in self._counters]
        self._joules = 0.0
        self._failed = False

    def joules(self) -> float | None:
        """Energy so far. None without a counter; also None from the first failure of a counter on."""
        if self._failed or not self._counters:
            return None
        for number, counter in enumerate(self._counters):
            try:
                now = counter.read()
            except (OSError, ValueError) as error:
                self._failed = True
                self._reasons.append(f"{counter.source} could no longer be read ({type(error).__name__})")
                return None
            spent = now - self._last[number]
            if spent < 0 and counter.wraps_at is not None:
                spent += counter.wraps_at
            self._joules += max(spent, 0.0)  # a driver may reset a counter
            self._last[number] = now
        return self._joules

    def reading(self, joules: float | None) -> Reading:
        """A reading of `joules`, a difference between two calls of `joules()`, with sources and reasons."""
        reason = "; ".join(self._reasons) or None
        if joules is None or not self._counters:
            return Reading(value=None, unit="J", reason=reason or "no energy counter")
        source = " + ".join(counter.source for counter in self._counters)
        return Reading(value=joules, unit="J", source=f"{source}, whole machine", reason=reason)
