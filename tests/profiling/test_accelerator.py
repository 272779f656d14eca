"""Peak memory of accelerators, read from a fake torch."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from support.fake_devices import FakeCuda
from tuneoff.profiling.accelerator import NO_ACCELERATOR, AcceleratorPeak, higher_peak
from tuneoff.results.run_record import Reading


def test_cuda_peaks_are_added_and_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    torch: Any = SimpleNamespace(cuda=cuda)
    monkeypatch.setitem(sys.modules, "torch", torch)
    peak = AcceleratorPeak()
    cuda.peak = {0: 100, 1: 20}
    assert peak.read_and_reset() == Reading(value=120, unit="B", source="torch.cuda.max_memory_allocated")
    assert peak.read_and_reset().value == 0


def test_the_peak_on_mps_is_the_highest_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    used = iter([50, 300, 80, 40])
    torch: Any = SimpleNamespace(
        cuda=SimpleNamespace(is_initialized=lambda: False),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: True)),
        mps=SimpleNamespace(current_allocated_memory=lambda: next(used)),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(sys, "platform", "darwin")
    peak = AcceleratorPeak()
    peak.sample()
    peak.sample()
    assert peak.read_and_reset().value == 300
    assert peak.read_and_reset().value == 40


@pytest.mark.parametrize("is_imported", [False, True])
def test_without_an_accelerator_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, is_imported: bool) -> None:
    torch: Any = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: False))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(sys, "platform", "linux")
    if not is_imported:
        monkeypatch.delitem(sys.modules, "torch")
    assert AcceleratorPeak().read_and_reset() == NO_ACCELERATOR


def test_a_reading_without_a_value_is_never_the_higher_one() -> None:
    low, high = (Reading(value=value, unit="B") for value in (1, 2))
    assert higher_peak(low, high) == higher_peak(high, low) == high
    assert higher_peak(NO_ACCELERATOR, low) == higher_peak(low, NO_ACCELERATOR) == low
    assert higher_peak(NO_ACCELERATOR, NO_ACCELERATOR) == NO_ACCELERATOR
