"""Visible devices, their utilization and description, with a fake driver."""

import pytest

from support.fake_devices import FakeNvml, NoDriver
from tuneoff.profiling.nvidia import NvidiaDevices
from tuneoff.results.run_record import Accelerator


@pytest.fixture(autouse=True)
def all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


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
    assert nvidia.describe()[0].memory_bytes is None
    assert NvidiaDevices(FakeNvml()).describe()[1] == Accelerator(name="Fake 1", memory_bytes=8 << 30)


def test_energy_is_in_joules_and_its_failure_is_an_os_error() -> None:
    assert NvidiaDevices(FakeNvml()).energy_joules(1) == 5.0
    with pytest.raises(OSError, match="energy refused"):
        NvidiaDevices(FakeNvml(fails=("energy",))).energy_joules(0)


def test_without_a_driver_there_is_a_reason() -> None:
    nvidia = NvidiaDevices(NoDriver())
    assert (nvidia.count, nvidia.utilization(), nvidia.describe()) == (0, None, ())
    assert nvidia.reason == "no NVIDIA driver (no driver)"
