"""Energy of processor packages and devices, from fake counters."""

from pathlib import Path
from typing import Any

import pytest

from support.fake_devices import FakeNvml
from tuneoff.profiling import energy
from tuneoff.profiling.energy import EnergyMeter, nvidia_counters, rapl_counters
from tuneoff.profiling.nvidia import NvidiaDevices

MAX_RANGE = 262_143_328_850  # microjoules, a common value


def zone(powercap: Path, folder: str, name: str, micro_joules: int, max_range: int = MAX_RANGE) -> Path:
    path = powercap / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{micro_joules}\n")
    (path / "max_energy_range_uj").write_text(f"{max_range}\n")
    return path


@pytest.fixture
def no_nvidia() -> NvidiaDevices:
    return NvidiaDevices(FakeNvml(fails=("init",)))


@pytest.fixture(autouse=True)
def all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_packages_are_added_and_no_zone_is_counted_twice(tmp_path: Path, no_nvidia: NvidiaDevices) -> None:
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


def test_a_counter_may_wrap(tmp_path: Path, no_nvidia: NvidiaDevices) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", MAX_RANGE - 1_000_000)
    meter = EnergyMeter(tmp_path, no_nvidia)
    for wraps in range(1, 4):
        (package / "energy_uj").write_text("2000000")
        assert meter.joules() == pytest.approx(3.0 * wraps)
        (package / "energy_uj").write_text(str(MAX_RANGE - 1_000_000))
        meter._last[0] = (MAX_RANGE - 1_000_000) / 1e6


def test_without_a_counter_there_is_a_reason_and_no_value(tmp_path: Path, no_nvidia: NvidiaDevices) -> None:
    meter = EnergyMeter(tmp_path / "none", no_nvidia)
    assert meter.joules() is None
    reading = meter.reading(None)
    assert reading.value is None
    assert reading.reason is not None
    assert "no RAPL counter" in reading.reason
    assert "no NVIDIA driver" in reading.reason


def test_counters_for_root_only_are_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_after_a_failure_of_a_counter_there_is_no_value(tmp_path: Path, no_nvidia: NvidiaDevices) -> None:
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


def test_a_value_without_processor_names_what_is_missing(tmp_path: Path) -> None:
    reading = EnergyMeter(tmp_path, NvidiaDevices(FakeNvml())).reading(2.0)
    assert reading.value == 2.0
    assert reading.reason is not None
    assert "no RAPL counter" in reading.reason


def test_old_devices_have_no_energy_counter() -> None:
    counters, reason = nvidia_counters(NvidiaDevices(FakeNvml(fails=("energy",))))
    assert counters == []
    assert reason is not None
    assert "refused" in reason
