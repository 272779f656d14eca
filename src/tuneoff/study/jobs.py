"""The runs that an executor is given, and in which order several workers take them."""

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from time import monotonic

from tuneoff.engine.precision import NumberFormat
from tuneoff.methods import method_class
from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Record
from tuneoff.spec import RunSpec

PLANNING_SHARE = 0.02  # of the time of a process that waits for runs, spent on planning


@dataclass(frozen=True, slots=True)
class Job:
    """A run to carry out, with the folder that it writes into."""

    spec: RunSpec
    run_id: str
    name: str
    dir: RunDir
    keep_texts: bool = True
    """Whether generated texts may be written into the folder."""
    number_format: NumberFormat | None = None
    """For a model whose precision is `auto`; None: the run decides."""
    expected_seconds: float | None = None
    """How long runs like it took; None if there was none."""

    @property
    def processes(self) -> int:
        """Processes that train together; a method that trains nothing needs no other."""
        count = self.spec.train.processes
        return count if count > 1 and method_class(self.spec.method.name).trains else 1

    @property
    def kind(self) -> tuple[str, float]:
        """Runs of one kind may be carried out in any order; final runs on all the data come before those on less."""
        return self.spec.role, self.spec.fraction if self.spec.role == "final" else 1.0


class OpenJobs(list[Job]):
    """Runs that are possible now; `more` returns those that become possible while they are carried out.

    An executor with a free worker calls `more`. One that does not know it carries out the list, and is then called
    again with what has become possible.
    """

    def __init__(self, jobs: Iterable[Job], plan: Callable[[], Sequence[Job]]) -> None:
        """`plan` returns the runs that are possible now, without those that it has returned before."""
        super().__init__(jobs)
        self._plan = plan
        self._changed = False
        self._not_before = 0.0

    def changed(self) -> None:
        """A run has ended on which others depend."""
        self._changed = True

    def more(self) -> Sequence[Job]:
        """Runs that have become possible since the last call; none if planning them again would take too much time."""
        began = monotonic()
        if not self._changed or began < self._not_before:
            return ()
        self._changed = False
        found = self._plan()
        ended = monotonic()
        self._not_before = ended + (ended - began) / PLANNING_SHARE
        return found


def more_of(jobs: Sequence[Job]) -> Sequence[Job]:
    """The runs that have become possible since `jobs` were handed out."""
    return jobs.more() if isinstance(jobs, OpenJobs) else ()


def longest_first(jobs: Iterable[Job]) -> list[Job]:
    """For several workers: of each kind the runs that take longest first, so that none is left alone with one at the
    end. Runs of unknown length come before them, in their order.
    """
    return [
        job
        for _, alike in itertools.groupby(jobs, key=lambda job: job.kind)
        for job in sorted(alike, key=lambda job: -math.inf if job.expected_seconds is None else -job.expected_seconds)
    ]


class Durations:
    """How long runs took, by what they do."""

    def __init__(self, completed: Mapping[str, Record]) -> None:
        """`completed`: records by run id."""
        seconds: dict[Hashable, dict[float, list[float]]] = {}
        for record in completed.values():
            if record.ended and record.resources is not None:
                by_fraction = seconds.setdefault(_like(record.spec), {})
                by_fraction.setdefault(record.spec.fraction, []).append(record.resources.total_seconds)
        self._seconds = {
            like: {fraction: fmean(values) for fraction, values in by_fraction.items()}
            for like, by_fraction in seconds.items()
        }

    def expected(self, spec: RunSpec) -> float | None:
        """Seconds of a run, by those of the same method on the nearest fraction of the data; None if there are none."""
        known = self._seconds.get(_like(spec))
        if not known:
            return None
        nearest = min(known, key=lambda fraction: abs(fraction - spec.fraction))
        return known[nearest] * spec.fraction / nearest


def _like(spec: RunSpec) -> Hashable:
    return spec.model.name, spec.method.name, spec.role
