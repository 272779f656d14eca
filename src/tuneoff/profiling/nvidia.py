"""NVIDIA devices: utilization, energy and names from the driver's library (NVML). Does not import torch."""

import importlib
import os
from types import ModuleType
from typing import Any

from tuneoff.results.run_record import Accelerator

_JOULES_PER_MILLIJOULE = 1e-3


class NvidiaDevices:
    """The visible devices, numbered from 0. Without devices, `count` is 0 and `reason` is not None.

    `CUDA_VISIBLE_DEVICES` is respected. It may contain numbers (in PCI order) and ids that start with GPU-.
    """

    def __init__(self, library: ModuleType | Any = None) -> None:
        self.reason: str | None = None
        self._devices: list[Any] = []
        try:
            self._nvml: Any = library if library is not None else importlib.import_module("pynvml")
        except ImportError:
            self.reason = "no NVIDIA library (package nvidia-ml-py)"
            return
        try:
            self._nvml.nvmlInit()
            self._devices = self._visible()
        except self._nvml.NVMLError as error:
            self.reason = f"no NVIDIA driver ({error})"
            return
        if not self._devices:
            self.reason = "no NVIDIA device is visible"

    @property
    def count(self) -> int:
        """Number of visible devices."""
        return len(self._devices)

    def _visible(self) -> list[Any]:
        wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
        if wanted is None:
            return [self._nvml.nvmlDeviceGetHandleByIndex(number) for number in range(self._nvml.nvmlDeviceGetCount())]
        devices = []
        for word in (part.strip() for part in wanted.split(",")):
            if word.isdecimal():
                devices.append(self._nvml.nvmlDeviceGetHandleByIndex(int(word)))
            elif word.startswith("GPU-"):
                devices.append(self._nvml.nvmlDeviceGetHandleByUUID(word))
            else:
                break  # as CUDA does: all entries from the first invalid one on are ignored
        return devices

    def utilization(self) -> float | None:
        """Fraction of recent time in which a device was busy, 0 to 1, averaged over devices; None if unreadable."""
        if not self._devices:
            return None
        try:
            busy = [self._nvml.nvmlDeviceGetUtilizationRates(device).gpu for device in self._devices]
        except self._nvml.NVMLError:
            return None
        return float(sum(busy)) / len(busy) / 100

    def energy_joules(self, number: int) -> float:
        """Energy of device `number` in joules since its driver was loaded. Raises `OSError` if it cannot be read."""
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._devices[number])) * _JOULES_PER_MILLIJOULE
        except self._nvml.NVMLError as error:
            raise OSError(str(error)) from error

    def describe(self) -> tuple[Accelerator, ...]:
        """Name and memory of each device. Memory is in bytes, or None if the driver does not report it."""
        described = []
        for device in self._devices:
            try:
                name = self._nvml.nvmlDeviceGetName(device)
                memory: int | None = int(self._nvml.nvmlDeviceGetMemoryInfo(device).total)
            except self._nvml.NVMLError as error:
                name, memory = f"NVIDIA device ({error})", None
            described.append(Accelerator(name=name, memory_bytes=memory))
        return tuple(described)
