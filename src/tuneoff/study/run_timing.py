"""What the events of a run say about its speed, also while it is still running."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median

from tuneoff.results.events import Event, Generated, PhaseStarted, StepDone, Validated
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import Record
from tuneoff.results.study_state import Speed
from tuneoff.study.executor import Job, Observer


class TimeIsUp(Exception):
    """The time for a measurement has ended; what is running is stopped."""


@dataclass(frozen=True)
class StepTimes:
    """Optimiser steps of one method. The first of a run warms up: it is none of the steady ones."""

    steady: tuple[float, ...] = ()
    """Seconds per token of each steady step."""
    first: tuple[float, float] | None = None
    """Seconds and tokens of the first step of a run."""

    def joined(self, other: "StepTimes | None") -> "StepTimes":
        """The steps of both, with the first step of this one."""
        return self if other is None else StepTimes(other.steady + self.steady, self.first or other.first)

    @property
    def spread(self) -> float:
        """(longest - shortest) / median of the steady steps; 0 for fewer than two."""
        if len(self.steady) < 2:
            return 0.0
        return (max(self.steady) - min(self.steady)) / max(median(self.steady), 1e-12)

    @property
    def per_token(self) -> float:
        """Seconds per token of a steady step; of the first step if there is no other; 0 without steps."""
        if self.steady:
            return median(self.steady)
        return self.first[0] / max(1.0, self.first[1]) if self.first else 0.0

    @property
    def warm_up(self) -> float:
        """How much longer the first step took than a steady one on its tokens."""
        if self.first is None or not self.steady:
            return 0.0
        return max(0.0, self.first[0] - self.per_token * self.first[1])


@dataclass
class RunTiming:
    """One run as its events describe it."""

    job: Job
    began: float
    boot: float | None = None
    """From the start of its process to the start of the run, imports included; None before the first event."""
    steps: StepTimes = StepTimes()
    trained_from: float | None = None
    checked: tuple[float, float] | None = None
    """Start and end of the evaluation."""
    wrote_from: float | None = None
    written: tuple[int, float] | None = None
    """Texts, and seconds since the start of the run."""
    first_work: float | None = None
    seconds: float | None = None
    """From the start of its process to its end; None while it runs."""
    record: Record | None = None
    _last_step: float | None = field(default=None, repr=False)
    _checking_since: float = field(default=0.0, repr=False)

    def take(self, event: Event) -> None:
        """Add an event."""
        if isinstance(event, PhaseStarted):
            if event.phase != "load" and self.first_work is None:
                self.first_work = event.seconds
            if event.phase == "train":
                self._last_step = event.seconds
            elif event.phase == "evaluate":
                self._checking_since = event.seconds
            elif event.phase == "generate":
                self.wrote_from = event.seconds
        elif isinstance(event, StepDone) and self._last_step is not None:
            took = event.seconds - self._last_step
            if self.steps.first is None:
                self.steps = StepTimes((), (took, float(event.tokens)))
            else:
                self.steps = StepTimes((*self.steps.steady, took / max(1, event.tokens)), self.steps.first)
            self._last_step = event.seconds
        elif isinstance(event, Validated):
            self.checked = (self._checking_since, event.seconds)
        elif isinstance(event, Generated):
            self.written = (event.done, event.seconds)

    @property
    def says_something(self) -> bool:
        """Whether a speed can be computed from it."""
        return self.steps.first is not None or self.checked is not None

    def speed(self, steps: StepTimes, tokens_per_step: float) -> Speed | None:
        """The speed of the method; None if nothing was measured. What a run that was stopped did not reach is guessed.

        `steps`: all steps of this method that were measured. The start is without that of the process.
        """
        if not self.says_something:
            return None
        train, step = self.job.spec.train, steps.per_token * tokens_per_step
        check, write = step / (3 * train.batch_size), step / train.batch_size
        phases: dict[str, float] = {}
        if self.record is not None and self.record.resources is not None:
            phases = {name: phase.wall_seconds for name, phase in self.record.resources.phases.items()}
        details = self.record.details if self.record is not None else None
        if details is not None and "evaluate" in phases:
            check = phases["evaluate"] / max(1, details.validation_examples or 1)
        elif self.checked is not None:
            check = (self.checked[1] - self.checked[0]) / max(1, self.job.spec.data.max_validation_documents or 1)
        if details is not None and "generate" in phases:
            write = phases["generate"] / max(1, details.test_examples or 1)
        elif self.written is not None and self.wrote_from is not None and self.written[0]:
            write = (self.written[1] - self.wrote_from) / self.written[0]
        start = self.first_work or 0.0
        if self.seconds is not None:
            measured = sum(phases.get(name, 0.0) for name in ("train", "evaluate", "generate"))
            start = self.seconds - (self.boot or 0.0) - measured
        return Speed(start=max(0.0, start), step=step, check=check, write=write, warm_up=steps.warm_up)


class TimingObserver:
    """Passes everything on to another observer, except ends, and remembers how long runs take.

    With a `deadline` (by `clock`), `TimeIsUp` is raised at the first event after it, but not before one run says
    something.
    """

    def __init__(
        self, observer: Observer, clock: Callable[[], float] = time.perf_counter, deadline: float | None = None
    ) -> None:
        self._observer, self._clock, self._deadline = observer, clock, deadline
        self._timings: dict[str, RunTiming] = {}
        self._boots: list[float] = []

    def started(self, job: Job) -> None:
        """A run starts."""
        self._timings[job.run_id] = RunTiming(job, self._clock())
        self._observer.started(job)

    def event(self, job: Job, event: Event) -> None:
        """A run reports something."""
        timing, now = self._timings[job.run_id], self._clock()
        seconds = getattr(event, "seconds", None)
        if timing.boot is None and seconds is not None:
            timing.boot = max(0.0, now - timing.began - seconds)
            self._boots.append(timing.boot)
        timing.take(event)
        self._observer.event(job, event)
        known = any(timing.says_something for timing in self._timings.values())
        if self._deadline is not None and known and now > self._deadline:
            raise TimeIsUp

    def ended(self, job: Job, run: StoredRun) -> None:
        """A run has ended."""
        timing = self._timings[job.run_id]
        timing.seconds, timing.record = self._clock() - timing.began, run.record

    def timing(self, run_id: str) -> RunTiming:
        """A run that was started."""
        return self._timings[run_id]

    def unfinished(self) -> Iterator[RunTiming]:
        """Runs that have not ended."""
        return (timing for timing in self._timings.values() if timing.seconds is None)

    def boot_seconds(self) -> float:
        """How long a process takes to start. The first one also starts the server that the others are forked from."""
        return min(self._boots) if len(self._boots) > 1 else 0.0
