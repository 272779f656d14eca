"""Fakes of NVML and torch.cuda."""

from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    pass


class FakeNvml:
    """An NVML library with `count` devices. Set `millijoules` and `busy`; the functions in `fails` raise an error."""

    NVMLError = NVMLError

    def __init__(self, count: int = 2, fails: tuple[str, ...] = ()) -> None:
        self.count, self.fails = count, fails
        self.millijoules = {0: 1000, 1: 5000}
        self.busy = {0: 50, 1: 100}

    def _guard(self, name: str) -> None:
        if name in self.fails:
            raise NVMLError(f"{name} refused")

    def nvmlInit(self) -> None:  # noqa: N802
        self._guard("init")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index >= self.count:
            raise NVMLError("invalid device")
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:  # noqa: N802
        return {"GPU-a": 0, "GPU-b": 1}[uuid]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:  # noqa: N802
        self._guard("energy")
        return self.millijoules[handle]

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        self._guard("use")
        return SimpleNamespace(gpu=self.busy[handle])

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return f"Fake {handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        self._guard("memory")
        return SimpleNamespace(total=8 << 30)


class NoDriver:
    """An NVML library without a driver."""

    class NVMLError(Exception):
        pass

    def nvmlInit(self) -> None:  # noqa: N802
        raise self.NVMLError("no driver")


class FakeCuda:
    """A torch.cuda with two devices. Set `peak`; it is kept until it is reset, as in torch."""

    def __init__(self) -> None:
        self.peak = {0: 0, 1: 7}

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 2

    def max_memory_allocated(self, device: int) -> int:
        return self.peak[device]

    def reset_peak_memory_stats(self, device: int) -> None:
        self.peak[device] = 0
