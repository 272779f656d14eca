from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuneoff.profiling import energy
from tuneoff.profiling.energy import EnergyMeter, nvidia_counters, rapl_counters
from tuneoff.profiling.nvidia import NvidiaDevices

MAX_RANGE = 262_143_328_850  # micro-joules, a common value


def zone(powercap: Path, folder: str, name: str, micro_joules: int, max_range: int = MAX_RANGE) -> Path:
    path = powercap / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{micro_joules}\n")
    (path / "max_energy_range_uj").write_text(f"{max_range}\n")
    return path


class NVMLError(Exception):
    pass


class FakeNvml:
    """Two devices; `joules` and `busy` can be set, `fails` names functions that refuse."""

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


@pytest.fixture
def no_nvidia() -> NvidiaDevices:
    return NvidiaDevices(FakeNvml(fails=("init",)))


@pytest.fixture(autouse=True)
def all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_packages_are_added_and_nothing_is_counted_twice(tmp_path: Path, no_nvidia: NvidiaDevices) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 2_000_000)
    others = [
        zone(tmp_path, "intel-rapl:0:0", "core", 0),
        zone(tmp_path, "intel-rapl:2", "psys", 0),
        zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0),
    ]
    meter = EnergyMeter(tmp_path, no_nvidia)
    assert meter.joules() == 0.0
    (first / "energy_uj").write_text("4000000")
    (second / "energy_uj").write_text("2500000")
    for other in others:
        (other / "energy_uj").write_text("999000000")
    assert meter.joules() == pytest.approx(3.5)
    reading = meter.reading(3.5)
    assert (reading.value, reading.unit, reading.reason) == (3.5, "J", None)
    assert reading.source == "RAPL package-0 + RAPL package-1, whole machine"


def test_a_counter_that_wraps_goes_on(tmp_path: Path, no_nvidia: NvidiaDevices) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", MAX_RANGE - 1_000_000)
    meter = EnergyMeter(tmp_path, no_nvidia)
    for wraps in range(1, 4):
        (package / "energy_uj").write_text("2000000")
        assert meter.joules() == pytest.approx(3.0 * wraps)
        (package / "energy_uj").write_text(str(MAX_RANGE - 1_000_000))
        meter._last[0] = (MAX_RANGE - 1_000_000) / 1e6


def test_no_rapl_is_a_reason_and_no_number(tmp_path: Path, no_nvidia: NvidiaDevices) -> None:
    meter = EnergyMeter(tmp_path / "none", no_nvidia)
    assert meter.joules() is None
    reading = meter.reading(None)
    assert reading.value is None
    assert reading.reason is not None
    assert "no RAPL counter" in reading.reason
    assert "no NVIDIA driver" in reading.reason


def test_root_only_counters_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1)

    def refuse(path: Path) -> Any:
        def read() -> float:
            raise PermissionError(13, "Permission denied", str(path))

        return read

    monkeypatch.setattr(energy, "_joule_reader", refuse)  # root reads every file, so the mode bits cannot be used here
    counters, reason = rapl_counters(tmp_path)
    assert counters == []
    assert reason is not None
    assert "only root may read" in reason


@pytest.mark.parametrize("damage", ["energy_uj", "max_energy_range_uj", "name"])
def test_a_zone_with_a_missing_or_odd_file_is_a_reason(tmp_path: Path, damage: str) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (package / damage).unlink()
    counters, reason = rapl_counters(tmp_path)
    assert counters == []
    assert reason is not None
    if damage != "name":
        (package / damage).write_text("not a number")
        assert "cannot be read" in (rapl_counters(tmp_path)[1] or "")


def test_a_counter_that_dies_on_the_way_takes_the_number_with_it(tmp_path: Path, no_nvidia: NvidiaDevices) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    meter = EnergyMeter(tmp_path, no_nvidia)
    (package / "energy_uj").unlink()
    assert meter.joules() is None
    (package / "energy_uj").write_text("5")
    assert meter.joules() is None
    assert "could no longer be read" in (meter.reading(None).reason or "")


def test_devices_are_added_to_packages_with_both_named(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    nvml = FakeNvml()
    meter = EnergyMeter(tmp_path, NvidiaDevices(nvml))
    (package / "energy_uj").write_text("1000000")
    nvml.millijoules = {0: 1500, 1: 7000}
    assert meter.joules() == pytest.approx(1.0 + 0.5 + 2.0)
    assert meter.reading(1.0).source == "RAPL package-0 + NVML GPU 0 + NVML GPU 1, whole machine"


def test_devices_without_a_readable_processor_tell_what_is_missing(tmp_path: Path) -> None:
    reading = EnergyMeter(tmp_path, NvidiaDevices(FakeNvml())).reading(2.0)
    assert reading.value == 2.0
    assert reading.reason is not None
    assert "no RAPL counter" in reading.reason


def test_old_devices_have_no_energy_counter() -> None:
    counters, reason = nvidia_counters(NvidiaDevices(FakeNvml(fails=("energy",))))
    assert counters == []
    assert reason is not None
    assert "refused" in reason


@pytest.mark.parametrize(("visible", "use"), [("1", 1.0), ("GPU-a", 0.5), ("0,1", 0.75), ("1,-1,0", 1.0)])
def test_only_visible_devices_count(monkeypatch: pytest.MonkeyPatch, visible: str, use: float) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert NvidiaDevices(FakeNvml()).utilization() == use


@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_devices_are_a_reason(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    nvidia = NvidiaDevices(FakeNvml())
    assert (nvidia.count, nvidia.utilization(), nvidia.reason) == (0, None, "no NVIDIA device is visible")


def test_use_that_cannot_be_read_is_none_and_memory_too() -> None:
    nvidia = NvidiaDevices(FakeNvml(fails=("use", "memory")))
    assert nvidia.utilization() is None
    assert nvidia.describe()[0]["memory_bytes"] is None
    assert NvidiaDevices(FakeNvml()).describe()[1] == {"name": "Fake 1", "memory_bytes": 8 << 30}
