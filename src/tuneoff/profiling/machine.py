"""Description of the machine and its sensors. Does not import torch."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil

from tuneoff.profiling.energy import SYSTEM_POWERCAP, nvidia_counters, rapl_counters
from tuneoff.profiling.memory import SYSTEM_PROC, MemoryPeak
from tuneoff.profiling.nvidia import NvidiaDevices
from tuneoff.results.run_record import Machine, Reading
from tuneoff.spec.run import Frozen

_ACCELERATOR_FILES = ("nvidia*", "nvhost*", "nvmap", "kfd", "dxg")


class Sensor(Frozen):
    """A sensor and its current reading. Energy counters count joules from an arbitrary time."""

    name: str
    reading: Reading


def describe_machine(nvidia: NvidiaDevices | None = None) -> Machine:
    """Hardware, operating system and Python version, for the provenance of a record.

    Contains neither the host name nor the user name.
    """
    nvidia = nvidia if nvidia is not None else NvidiaDevices()
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
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def may_have_accelerator(devices: Path = Path("/dev")) -> bool:
    """Whether torch could find an accelerator. False is certain: Linux has no device file of NVIDIA, AMD or WSL."""
    return sys.platform != "linux" or any(any(devices.glob(pattern)) for pattern in _ACCELERATOR_FILES)


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, or its architecture if the system reports no name."""
    try:
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    except OSError:
        if sys.platform == "darwin":
            sysctl = subprocess.run(
                ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
            )
            if sysctl.stdout.strip():
                return sysctl.stdout.strip()
    return platform.processor() or platform.machine()


def read_sensors(
    *, proc: Path = SYSTEM_PROC, powercap: Path = SYSTEM_POWERCAP, nvidia: NvidiaDevices | None = None
) -> list[Sensor]:
    """All sensors that a run reads, each with its current value or the reason why it has none."""
    nvidia = nvidia if nvidia is not None else NvidiaDevices()
    memory = MemoryPeak(proc)
    found = [
        Sensor(name="memory", reading=Reading(value=memory.sample(), unit="B", source="resident set of this process")),
        Sensor(name="memory peak", reading=Reading(value=memory.read_and_reset(), unit="B", source=memory.source)),
        _accelerator_utilization(nvidia),
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


def _accelerator_utilization(nvidia: NvidiaDevices) -> Sensor:
    utilization = nvidia.utilization()
    if utilization is None:
        reading = Reading(value=None, unit="1", reason=nvidia.reason or "the NVIDIA driver does not report utilization")
    else:
        reading = Reading(value=utilization, unit="1", source="NVML")
    return Sensor(name="accelerator use", reading=reading)
