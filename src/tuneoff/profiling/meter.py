"""Measures a run from within its process: time, memory and energy of each phase, and a sampled timeline.

Costs are charged to exactly one phase at a time, the innermost open one. An evaluation during training, for example,
is charged to "evaluate", and training continues afterwards. If phases cover a whole run, their times add up to its wall
time.
"""

import contextlib
import dataclasses
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tuneoff.profiling.accelerator import NO_ACCELERATOR, AcceleratorPeak, higher_peak
from tuneoff.profiling.energy import SYSTEM_POWERCAP, EnergyMeter
from tuneoff.profiling.memory import SYSTEM_PROC, MemoryPeak
from tuneoff.profiling.nvidia import NvidiaDevices
from tuneoff.results.events import Event, PhaseStarted, Sampled
from tuneoff.results.run_record import Phase, PhaseResources, Reading, Resources, TimelinePoint

SAMPLE_SECONDS = 0.25
TIMELINE_POINTS = 600
OUTSIDE = "outside"
PROCESSES_VARIABLE = "TUNEOFF_PROCESSES"  # environment variable: number of concurrent runs, including this one


@dataclass
class PhaseMeter:
    """Costs of a phase so far. The code inside the phase adds to `tokens`, without padding."""

    tokens: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    accelerator: Reading = NO_ACCELERATOR
    joules: float | None = 0.0

    def add(self, other: "PhaseMeter") -> None:
        """Add the costs of an earlier attempt at the same phase."""
        self.tokens += other.tokens
        self.wall_seconds += other.wall_seconds
        self.cpu_seconds += other.cpu_seconds
        self.peak_memory_bytes = max(self.peak_memory_bytes, other.peak_memory_bytes)
        self.accelerator = higher_peak(self.accelerator, other.accelerator)
        known = self.joules is not None and other.joules is not None
        self.joules = self.joules + other.joules if known else None  # type: ignore[operator]


class Meter:
    """Measures the phases of a run::

        with Meter(writer.append) as meter, meter.phase("train") as phase:
            ...
            phase.tokens += n

    Open phases from one thread only. `events` is also called from the sampling thread. If it raises an error there,
    sampling stops, and the next change of phase raises that error.
    """

    def __init__(
        self,
        events: Callable[[Event], None] | None = None,
        *,
        interval: float = SAMPLE_SECONDS,
        max_points: int = TIMELINE_POINTS,
        proc: Path = SYSTEM_PROC,
        powercap: Path = SYSTEM_POWERCAP,
        nvidia: NvidiaDevices | None = None,
    ) -> None:
        self._events = events
        self._interval = interval
        self._max_points = max_points
        self._proc = proc
        self._powercap = powercap
        self._nvidia = nvidia
        self._phases: dict[str, PhaseMeter] = {}
        self._outside = PhaseMeter()
        self._open: list[str] = []
        self.last_phase: str | None = None
        """The outermost phase that was entered last."""
        self._timeline: list[TimelinePoint] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._processes = int(os.environ.get(PROCESSES_VARIABLE, "1"))

    def __enter__(self) -> Self:
        self._nvidia = self._nvidia if self._nvidia is not None else NvidiaDevices()
        self._energy = EnergyMeter(self._powercap, self._nvidia)
        self._memory = MemoryPeak(self._proc)
        self._accelerator = AcceleratorPeak()
        self._accelerator.read_and_reset()
        self._joules = self._energy.joules()
        self._start = self._wall = self._sample_wall = time.perf_counter()
        self._cpu = self._sample_cpu = time.process_time()
        self._thread = threading.Thread(target=self._sample_until_stopped, name="tuneoff-meter", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        with self._lock:
            self._charge()
        if error is None:
            self._raise_failure()

    def elapsed(self) -> float:
        """Seconds since the meter was entered."""
        return time.perf_counter() - self._start

    def state(self) -> dict[str, Any]:
        """All measurements so far as JSON, for the `resume` of a later attempt at this run."""
        with self._lock:
            self._charge()
            return {
                "seconds": self.elapsed(),
                "processes": self._processes,
                "phases": {
                    name: {**dataclasses.asdict(phase), "accelerator": phase.accelerator.model_dump()}
                    for name, phase in self._phases.items()
                },
                "timeline": [point.model_dump() for point in self._timeline],
            }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Add the measurements of an earlier attempt, as returned by its `state`."""
        with self._lock:
            self._start -= state["seconds"]
            # If either attempt had concurrent runs, the sum is not the time of a run alone.
            self._processes = max(self._processes, state.get("processes", 1))
            for name, values in state["phases"].items():
                phase = self._phases.setdefault(name, PhaseMeter())
                phase.add(PhaseMeter(**{**values, "accelerator": Reading.model_validate(values["accelerator"])}))
            own = (point.model_copy(update={"seconds": point.seconds + state["seconds"]}) for point in self._timeline)
            self._timeline = [*(TimelinePoint.model_validate(point) for point in state["timeline"]), *own]

    @contextlib.contextmanager
    def phase(self, name: Phase) -> Iterator[PhaseMeter]:
        """Charge everything inside to phase `name`. A phase may be opened several times; its costs add up."""
        self._enter(name)
        try:
            yield self._phases[name]
        finally:
            self._leave()

    def resources(self) -> Resources:
        """All measurements so far, including those of open phases up to now."""
        with self._lock:
            if not self._stop.is_set():
                self._charge()
            phases = {name: self._read(phase) for name, phase in self._phases.items()}
            peaks = [phase.peak_memory_bytes for phase in (*self._phases.values(), self._outside)]
            return Resources(
                phases=phases,
                peak_memory_bytes=max(peaks),
                memory_source=self._memory.source,
                threads=_threads(),
                processes=self._processes,
                timeline=tuple(self._timeline),
            )

    def _enter(self, name: Phase) -> None:
        self._raise_failure()
        with self._lock:
            self._charge()
            self._phases.setdefault(name, PhaseMeter())
            self._open.append(name)
            self.last_phase = self._open[0]
        self._emit(PhaseStarted(phase=name, seconds=self.elapsed()))

    def _leave(self) -> None:
        with self._lock:
            self._charge()
            left = self._open.pop()
            current = self._open[-1] if self._open else None
        if current is not None and current != left:
            self._emit(PhaseStarted.model_validate({"phase": current, "seconds": self.elapsed()}))

    def _charge(self) -> None:
        """Charge the costs since the last call to the innermost open phase. The caller holds the lock."""
        phase = self._phases[self._open[-1]] if self._open else self._outside
        wall, cpu, joules = time.perf_counter(), time.process_time(), self._energy.joules()
        phase.wall_seconds += wall - self._wall
        phase.cpu_seconds += cpu - self._cpu
        phase.peak_memory_bytes = max(phase.peak_memory_bytes, self._memory.read_and_reset())
        phase.accelerator = higher_peak(phase.accelerator, self._accelerator.read_and_reset())
        if joules is None or self._joules is None or phase.joules is None:
            phase.joules = None
        else:
            phase.joules += joules - self._joules
        self._wall, self._cpu, self._joules = wall, cpu, joules

    def _read(self, phase: PhaseMeter) -> PhaseResources:
        return PhaseResources(
            wall_seconds=phase.wall_seconds,
            cpu_seconds=phase.cpu_seconds,
            tokens=phase.tokens or None,
            peak_memory_bytes=phase.peak_memory_bytes,
            accelerator_peak_bytes=phase.accelerator,
            energy=self._energy.reading(phase.joules),
        )

    def _emit(self, event: Event) -> None:
        if self._events is not None:
            self._events(event)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _sample_until_stopped(self) -> None:
        try:
            while not self._stop.wait(self._interval):
                with self._lock:
                    point = self._sample()
                self._emit(Sampled.model_validate(point.model_dump()))
        except Exception as error:
            self._failure = error

    def _sample(self) -> TimelinePoint:
        wall, cpu = time.perf_counter(), time.process_time()
        self._energy.joules()  # read regularly, because counters wrap after minutes
        self._accelerator.sample()
        point = TimelinePoint(
            seconds=wall - self._start,
            phase=self._open[-1] if self._open else OUTSIDE,
            memory_bytes=self._memory.sample(),
            cpu=(cpu - self._sample_cpu) / (wall - self._sample_wall),
            accelerator=self._nvidia.utilization() if self._nvidia is not None else None,
        )
        self._sample_wall, self._sample_cpu = wall, cpu
        self._timeline.append(point)
        if len(self._timeline) > self._max_points:
            self._timeline = merge_pairs(self._timeline)
            self._interval *= 2
        return point


def merge_pairs(timeline: list[TimelinePoint]) -> list[TimelinePoint]:
    """Merge each pair of neighbours into one point: the later time and phase, the higher memory, the mean utilization.

    Both points cover intervals of equal length, so the mean needs no weights. An odd last point is kept.
    """
    pairs = zip(timeline[::2], timeline[1::2], strict=False)
    merged = [
        TimelinePoint(
            seconds=second.seconds,
            phase=second.phase,
            memory_bytes=max(first.memory_bytes, second.memory_bytes),
            cpu=(first.cpu + second.cpu) / 2,
            accelerator=_mean_of_known(first.accelerator, second.accelerator),
        )
        for first, second in pairs
    ]
    return merged + timeline[len(merged) * 2 :]


def _mean_of_known(one: float | None, other: float | None) -> float | None:
    known = [value for value in (one, other) if value is not None]
    return sum(known) / len(known) if known else None


def _threads() -> int:
    """Number of threads that torch uses, or would use if it were imported."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else os.cpu_count() or 1
