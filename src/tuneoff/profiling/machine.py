"""What this machine is and which of its sensors answer. Needs no torch."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil

from tuneoff.profiling.energy import SYSTEM_POWERCAP, nvidia_counters, rapl_counters
from tuneoff.profiling.memory import SYSTEM_PROC, MemoryPeak
from tuneoff.profiling.nvidia import Nvidia
from tuneoff.results.run_record import Machine, Reading
from tuneoff.spec.run import Frozen


class Sensor(Frozen):
    """A sensor by name and what it says now (energy: its counter, in joules since some moment in the past)."""

    name: str
    reading: Reading


def machine(nvidia: Nvidia | None = None) -> Machine:
    """The machine for a record's provenance. Memory in bytes; `usable_cores` is what this process may run on.

    Holds no name of the host or of its user.
    """
    nvidia = nvidia if nvidia is not None else Nvidia()
    return Machine(
        cpu=cpu_model(),
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=psutil.cpu_count(),
        usable_cores=usable_cores(),
        memory_bytes=psutil.virtual_memory().total,
        architecture=platform.machine(),
        os=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        accelerators=nvidia.describe(),
    )


def usable_cores() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as the system tells it; its architecture where the system tells none."""
    try:
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    except OSError:
        if sys.platform == "darwin":
            asked = subprocess.run(
                ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
            )
            if asked.stdout.strip():
                return asked.stdout.strip()
    return platform.processor() or platform.machine()


def sensors(
    *, proc: Path = SYSTEM_PROC, powercap: Path = SYSTEM_POWERCAP, nvidia: Nvidia | None = None
) -> list[Sensor]:
    """Every sensor that a run would read, each with its value now or the reason why it has none."""
    nvidia = nvidia if nvidia is not None else Nvidia()
    memory = MemoryPeak(proc)
    found = [
        Sensor(name="memory", reading=Reading(value=memory.sample(), unit="B", source="resident set of this process")),
        Sensor(name="memory peak", reading=Reading(value=memory.lap(), unit="B", source=memory.source)),
        _accelerator_use(nvidia),
    ]
    for name, (counters, reason) in (
        ("processor energy", rapl_counters(powercap)),
        ("accelerator energy", nvidia_counters(nvidia)),
    ):
        if reason is not None:
            found.append(Sensor(name=name, reading=Reading(value=None, unit="J", reason=reason)))
        for counter in counters:
            found.append(Sensor(name=name, reading=Reading(value=counter.read(), unit="J", source=counter.source)))
    return found


def _accelerator_use(nvidia: Nvidia) -> Sensor:
    use = nvidia.use()
    if use is None:
        reading = Reading(value=None, unit="1", reason=nvidia.reason or "the NVIDIA driver does not tell its use")
    else:
        reading = Reading(value=use, unit="1", source="NVML")
    return Sensor(name="accelerator use", reading=reading)
