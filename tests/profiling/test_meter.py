"""Time, memory and energy of phases, and the sampled timeline."""

import json
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.fake_devices import FakeCuda, NoDriver
from support.memory import MB, touch
from tuneoff.profiling import Meter
from tuneoff.profiling.meter import PROCESSES_VARIABLE, merge_pairs
from tuneoff.profiling.nvidia import NvidiaDevices
from tuneoff.results.events import Event, PhaseStarted, Sampled
from tuneoff.results.run_record import TimelinePoint


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1000))


def test_phases_add_up_to_wall_time_and_the_innermost_is_charged() -> None:
    with Meter() as meter:
        start = time.perf_counter()
        with meter.phase("load"):
            time.sleep(0.05)
        with meter.phase("train"):
            for _ in range(3):
                time.sleep(0.05)
                with meter.phase("evaluate"):
                    time.sleep(0.1)
        with meter.phase("evaluate"):
            time.sleep(0.05)
        wall = time.perf_counter() - start
    phases = meter.resources().phases
    assert list(phases) == ["load", "train", "evaluate"]
    assert sum(phase.wall_seconds for phase in phases.values()) == pytest.approx(wall, abs=0.01)
    # what each slept by itself is a lower bound; with the sum above it is an upper bound for the others too
    assert phases["load"].wall_seconds >= 0.05
    assert phases["train"].wall_seconds >= 0.15
    assert phases["evaluate"].wall_seconds >= 0.35


def test_cpu_time_is_that_of_the_phase() -> None:
    with Meter() as meter:
        with meter.phase("load"):
            time.sleep(0.2)
        with meter.phase("train"):
            burn(0.2)
    phases = meter.resources().phases
    assert phases["load"].cpu_seconds < 0.1
    assert 0.2 <= phases["train"].cpu_seconds < 0.4


def test_tokens_are_kept_and_none_stays_none() -> None:
    with Meter() as meter:
        with meter.phase("load"):
            pass
        for _ in range(2):
            with meter.phase("train") as train:
                train.tokens += 5
    phases = meter.resources().phases
    assert phases["train"].tokens == 10
    assert phases["load"].tokens is None


def test_each_phase_has_its_own_memory_peak() -> None:
    with Meter() as meter:
        with meter.phase("load"):
            del_me = touch(120)
            del del_me
        with meter.phase("train"):
            time.sleep(0.01)
        with meter.phase("generate"):
            small = touch(40)
            del small
    resources = meter.resources()
    peaks = {name: phase.peak_memory_bytes for name, phase in resources.phases.items()}
    assert peaks["load"] - peaks["train"] > 100 * MB
    assert 30 * MB < peaks["generate"] - peaks["train"] < 60 * MB
    assert resources.peak_memory_bytes == peaks["load"]
    assert resources.memory_source is not None


def test_the_timeline_is_sampled_and_emitted() -> None:
    emitted: list[Event] = []
    with Meter(emitted.append, interval=0.01) as meter:
        with meter.phase("train"):
            burn(0.2)
        with meter.phase("generate"):
            time.sleep(0.1)
    timeline = meter.resources().timeline
    assert 5 <= len(timeline) <= meter.elapsed() / 0.01
    assert [point.seconds for point in timeline] == sorted(point.seconds for point in timeline)
    assert {point.phase for point in timeline} >= {"train", "generate"}
    assert all(point.memory_bytes > 5 * MB for point in timeline)
    busy = [point.cpu for point in timeline if point.phase == "train"][1:-1]
    idle = [point.cpu for point in timeline if point.phase == "generate"][2:-1]
    assert max(busy) > 0.3
    assert min(idle) < 0.3
    sampled = [event for event in emitted if isinstance(event, Sampled)]
    assert [event.seconds for event in sampled] == [point.seconds for point in timeline]


def test_the_timeline_never_grows_beyond_its_limit_and_spans_the_run() -> None:
    with Meter(interval=0.002, max_points=20) as meter, meter.phase("train"):
        time.sleep(0.5)
    timeline = meter.resources().timeline
    assert 8 <= len(timeline) <= 20
    assert timeline[-1].seconds > 0.35
    assert timeline[0].seconds < 0.1


def test_merged_pairs_keep_peaks_and_means() -> None:
    points = [
        TimelinePoint(seconds=float(n), phase="train", memory_bytes=memory, cpu=cpu, accelerator=use)
        for n, (memory, cpu, use) in enumerate(
            [(5, 1.0, None), (3, 2.0, 0.5), (1, 0.0, 0.2), (9, 1.0, 0.4), (4, 7.0, None)]
        )
    ]
    first, second, odd = merge_pairs(points)
    assert (first.seconds, first.memory_bytes, first.cpu, first.accelerator) == (1.0, 5, 1.5, 0.5)
    assert (second.seconds, second.memory_bytes, second.cpu) == (3.0, 9, 0.5)
    assert second.accelerator == pytest.approx(0.3)
    assert odd == points[-1]


def test_returning_to_a_phase_is_emitted() -> None:
    emitted: list[Event] = []
    with Meter(emitted.append) as meter, meter.phase("train"), meter.phase("evaluate"):
        pass
    assert [event.phase for event in emitted if isinstance(event, PhaseStarted)] == ["train", "evaluate", "train"]


def test_an_error_inside_a_phase_passes_and_the_phase_is_charged() -> None:
    meter = Meter()

    def fail() -> None:
        with meter, meter.phase("train"), meter.phase("evaluate"):
            time.sleep(0.05)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert meter.resources().phases["evaluate"].wall_seconds > 0.04
    assert not [thread for thread in threading.enumerate() if thread.name == "tuneoff-meter"]


def test_an_error_of_the_event_callback_is_not_swallowed() -> None:
    def refuse(event: Event) -> None:
        if isinstance(event, Sampled):
            raise OSError(28, "No space left on device")

    entered = []

    def run() -> None:
        with Meter(refuse, interval=0.01) as meter:
            with meter.phase("load"):
                time.sleep(0.2)
            with meter.phase("train"):
                entered.append("train")

    with pytest.raises(OSError, match="No space left"):
        run()
    assert entered == []


def test_energy_is_charged_to_the_phase_in_which_it_was_spent(tmp_path: Path) -> None:
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "name").write_text("package-0")
    (package / "energy_uj").write_text("9000000")
    (package / "max_energy_range_uj").write_text("10000000")
    with Meter(powercap=tmp_path, nvidia=NvidiaDevices(NoDriver())) as meter, meter.phase("train"):
        (package / "energy_uj").write_text("9500000")
        with meter.phase("evaluate"):
            (package / "energy_uj").write_text("1500000")  # wrapped
        (package / "energy_uj").write_text("1750000")
    phases = meter.resources().phases
    assert phases["train"].energy.value == pytest.approx(0.75)
    assert phases["evaluate"].energy.value == pytest.approx(2.0)
    assert phases["train"].energy.source == "RAPL package-0, whole machine"


def test_a_wrap_inside_a_long_phase_is_seen_by_the_samples(tmp_path: Path) -> None:
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "name").write_text("package-0")
    (package / "energy_uj").write_text("5000000")
    (package / "max_energy_range_uj").write_text("10000000")
    with Meter(interval=0.01, powercap=tmp_path, nvidia=NvidiaDevices(NoDriver())) as meter, meter.phase("train"):
        for micro_joules in (9_000_000, 3_000_000, 8_000_000, 2_000_000):
            replacement = tmp_path / "new"  # replaced atomically: a sample must never see an empty file
            replacement.write_text(str(micro_joules))
            replacement.replace(package / "energy_uj")
            time.sleep(0.1)
    assert meter.resources().phases["train"].energy.value == pytest.approx(4 + 4 + 5 + 4)


def test_unreadable_energy_is_none_with_a_reason(tmp_path: Path) -> None:
    with Meter(powercap=tmp_path, nvidia=NvidiaDevices(NoDriver())) as meter, meter.phase("train"):
        pass
    energy = meter.resources().phases["train"].energy
    assert energy.value is None
    assert energy.reason


def test_accelerator_peaks_are_per_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    torch: Any = SimpleNamespace(cuda=cuda, get_num_threads=lambda: 3)
    monkeypatch.setitem(sys.modules, "torch", torch)
    with Meter() as meter, meter.phase("train"):
        cuda.peak[0] = 100
        with meter.phase("evaluate"):
            cuda.peak = {0: 30, 1: 5}
        cuda.peak[0] = 60
    resources = meter.resources()
    assert resources.phases["train"].accelerator_peak_bytes.value == 100
    assert resources.phases["evaluate"].accelerator_peak_bytes.value == 35
    assert resources.phases["train"].accelerator_peak_bytes.source == "torch.cuda.max_memory_allocated"
    assert resources.threads == 3


def test_no_accelerator_is_a_reason() -> None:
    with Meter() as meter, meter.phase("train"):
        pass
    reading = meter.resources().phases["train"].accelerator_peak_bytes
    assert (reading.value, reading.reason) == (None, "no accelerator in use")


def test_an_open_phase_can_be_read() -> None:
    with Meter() as meter, meter.phase("train"):
        time.sleep(0.05)
        assert meter.resources().phases["train"].wall_seconds >= 0.05
        assert meter.elapsed() >= 0.05


def test_a_resumed_run_adds_the_costs_of_the_first_attempt() -> None:
    with Meter(interval=0.01) as first, first.phase("train") as training:
        training.tokens += 5
        burn(0.1)
        state = json.loads(json.dumps(first.state()))
        burn(0.1)  # lost with the process, and computed again
    with Meter(interval=0.01) as second:
        with second.phase("load"):
            time.sleep(0.05)
        with second.phase("train") as training:
            second.resume(state)
            assert second.elapsed() >= state["seconds"] + 0.05
            training.tokens += 2
            burn(0.1)
        measured = second.resources()
    train, load = measured.phases["train"], measured.phases["load"]
    assert (train.tokens, load.tokens) == (7, None)
    assert train.cpu_seconds == pytest.approx(0.2, abs=0.05)
    assert (
        train.wall_seconds >= state["phases"]["train"]["wall_seconds"] + 0.05
    )  # other threads also use processor time
    assert train.peak_memory_bytes >= state["phases"]["train"]["peak_memory_bytes"]
    seconds = [point.seconds for point in measured.timeline]
    assert seconds == sorted(seconds)
    assert len(seconds) > len(state["timeline"])


def test_a_resumed_run_keeps_the_higher_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROCESSES_VARIABLE, "2")
    with Meter() as first, first.phase("train"):
        state = json.loads(json.dumps(first.state()))
    monkeypatch.setenv(PROCESSES_VARIABLE, "1")
    with Meter() as second, second.phase("train"):
        assert second.resources().processes == 1
        second.resume(state)
        assert second.resources().processes == 2
