"""Peaks of resident memory, with and without a resettable high-water mark."""

import sys
from pathlib import Path

import pytest

from support.memory import MB, touch
from tuneoff.profiling.memory import MemoryPeak, out_of_memory_kills


def test_the_kernel_sees_peaks_between_samples() -> None:
    peak = MemoryPeak()
    if "reset" not in peak.source:
        pytest.skip("this system refuses to reset the high-water mark")
    peak.read_and_reset()
    before = peak.read_and_reset()
    block = touch(100)
    del block
    assert peak.read_and_reset() - before > 90 * MB
    assert peak.read_and_reset() - before < 20 * MB


def test_without_reset_the_mark_is_used_only_if_it_rose(tmp_path: Path) -> None:
    huge = 1 << 44
    (tmp_path / "clear_refs").mkdir()  # writing to it fails
    (tmp_path / "status").write_text(f"Name:\tx\nVmHWM:\t{huge // 1024} kB\n")
    peak = MemoryPeak(tmp_path)
    assert "where it rose" in peak.source
    assert peak.read_and_reset() < huge  # an older peak is not charged to this interval
    (tmp_path / "status").write_text(f"VmHWM:\t{huge // 512} kB\n")
    assert peak.read_and_reset() == huge * 2
    assert 0 < peak.read_and_reset() < huge


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have a mark without proc files")
def test_without_a_mark_the_highest_sample_is_used(tmp_path: Path) -> None:
    peak = MemoryPeak(tmp_path / "none")
    assert peak.source == "highest sample of the resident set"
    block = touch(50)
    peak.sample()
    del block
    assert peak.read_and_reset() - peak.read_and_reset() > 40 * MB


def test_kills_for_want_of_memory_are_read_from_the_system(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("nr_free_pages 5\noom_kill 12\n")
    assert out_of_memory_kills(tmp_path / "vmstat") == 12
    (tmp_path / "vmstat").write_text("nr_free_pages 5\n")
    assert out_of_memory_kills(tmp_path / "vmstat") is None
    assert out_of_memory_kills(tmp_path / "none") is None
