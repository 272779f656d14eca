"""A study as its folder shows it while this process, another one or another machine carries it out.

Everything is read, nothing is written. A file that is being written is read at the next look, so a look never fails for
what it finds.
"""

import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from tuneoff.errors import UserError
from tuneoff.metrics.registry import METRICS
from tuneoff.results.events import Follower
from tuneoff.results.json_files import LaterVersion
from tuneoff.results.run_claims import Claims, Team, Worker, WorkerState
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import Record
from tuneoff.results.study_dir import StoredStudy, StudyDir
from tuneoff.results.summary import Summary
from tuneoff.spec import StudySpec
from tuneoff.study import planner
from tuneoff.study.live_run import LiveRun
from tuneoff.text import format_duration, plural, sanitize
from tuneoff.verdict.summarize import summarize

# A verdict on hundreds of runs takes seconds. It is made again after this multiple of what the last one took. So it is
# with the claims of hundreds of workers.
_REST = 20.0
_QUIET_SECONDS = 300.0
_FAULT_SECONDS = 10.0  # a file that is being written is whole again sooner
_SHOWN_RUNS = 10
_FIRST: Mapping[WorkerState, int] = {"lost": 0, "silent": 1, "working": 2}  # in which order workers are shown
_SHOWN_ROWS = 8


@dataclass(frozen=True)
class WorkingRun:
    """A run without a record. `words` are phase, steps, loss, speed, time left."""

    name: str
    words: str
    done: int | None
    total: int | None
    worker: Worker | None = None
    """Who carries it out, in a study of several workers."""

    @property
    def title(self) -> str:
        """Its name, and who carries it out for how long."""
        return self.name if self.worker is None else self.worker.words(self.name)


@dataclass(frozen=True)
class ScoredRow:
    """A method so far: mean of the study's metric over its runs that are compared, with its own interval."""

    title: str
    mean: float
    low: float | None
    high: float | None
    runs: int


@dataclass(frozen=True)
class StudyView:
    """One look at a study. Texts may hold what strangers wrote; memory is in bytes."""

    name: str
    plan: str = ""
    done: int = 0
    failed: int = 0
    total: int = 0
    working: tuple[WorkingRun, ...] = ()
    metric: str = ""
    rows: tuple[ScoredRow, ...] = ()
    verdict: str = ""
    seconds_left: float | None = None
    memory_bytes: int | None = None
    begun: bool = False
    ended: bool = False
    quiet_seconds: float = 0.0
    """For how long nothing has changed, by the clock of this process."""
    fault: str = ""
    """Why the folder has not been readable for a while. All else is from the last look that could read it."""

    def headline(self) -> str:
        """Runs done and to do, and the time left."""
        if self.fault:
            return f"{self.name}: cannot be read: {self.fault}"
        if not self.begun:
            return f"{self.name}: no study there yet"
        parts = [f"{self.done} of {plural(self.total, 'run')} done"]
        parts += [f"{self.failed} failed"] if self.failed else []
        if self.ended:
            return f"{self.name}: {', '.join(parts)}; the study has ended"
        parts += [f"about {format_duration(self.seconds_left)} left"] if self.seconds_left is not None else []
        if self.quiet_seconds > _QUIET_SECONDS:
            parts.append(f"nothing has changed for {format_duration(self.quiet_seconds)}")
        return f"{self.name}: {', '.join(parts)}"

    def board(self) -> list[str]:
        """What works at the moment, memory, and `findings`: one line each."""
        return [*self._runs(self.working), *self._memory(), *self.findings()]

    def team_lines(self) -> list[str]:
        """Who carries out which run, in a study of several workers: one line each."""
        return self._runs([run for run in self.working if run.worker is not None])

    def assignments(self) -> list[tuple[str, str, str]]:
        """The same without what changes all the time: run, worker, and whether that shows a sign of life."""
        return [(run.name, run.worker.label, run.worker.state) for run in self.working if run.worker is not None]

    def _runs(self, runs: Sequence[WorkingRun]) -> list[str]:
        lines = [f"  {run.title}: {run.words}" for run in runs[:_SHOWN_RUNS]]
        if len(runs) > _SHOWN_RUNS:
            lines.append(f"  and {plural(len(runs) - _SHOWN_RUNS, 'other run')}")
        return [sanitize(line) for line in lines]

    def summary_lines(self) -> list[str]:
        """For a display that shows the only run at work by itself; none before the study has begun."""
        if not self.begun:
            return []
        if len(self.working) > 1 or any(run.worker is not None for run in self.working):
            return [sanitize(self.headline()), *self.board()]
        return [sanitize(self.headline()), *self._memory(), *self.findings()]

    def _memory(self) -> list[str]:
        return [f"memory: {self.memory_bytes / 1e9:.2f} GB in use by these runs"] if self.memory_bytes else []

    def findings(self) -> list[str]:
        """Plan, and scores and verdict so far."""
        lines = [self.plan] if self.plan else []
        if self.rows:
            lines.append(f"{self.metric} so far: {'; '.join(map(self._score, self.rows[:_SHOWN_ROWS]))}")
        if self.verdict:
            lines.append(f"verdict so far: {self.verdict}")
        return [sanitize(line) for line in lines]

    def as_data(self) -> dict[str, Any]:
        """For a page: JSON values."""
        return {
            "headline": self.headline(),
            "plan": self.plan,
            "done": self.done,
            "total": self.total,
            "working": [
                {"name": run.title, "words": run.words, "done": run.done, "total": run.total} for run in self.working
            ],
            "metric": self.metric,
            "rows": [{**vars(row), "text": self._score(row)} for row in self.rows],
            "verdict": self.verdict,
            "memory": None if self.memory_bytes is None else f"{self.memory_bytes / 1e9:.2f} GB",
            "ended": self.ended,
        }

    def _score(self, row: ScoredRow) -> str:
        interval = "" if row.low is None or row.high is None else f" ({row.low:.1f} to {row.high:.1f})"
        return f"{row.title} {row.mean:.1f}{interval}"


@dataclass
class _Followed:
    """The event log of a run that works."""

    follower: Follower
    state: LiveRun = field(default_factory=LiveRun)


class StudyWatch:
    """Looks at the folder of a study again and again. Threads may share it."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.dir = StudyDir(folder)
        self._clock = clock
        self._lock = threading.Lock()
        self._stored: dict[str, StoredRun] = {}
        self._followed: dict[str, _Followed] = {}
        self._claims = Claims(folder, "", clock=clock)
        self._claimed: tuple[Worker, ...] = ()
        self._claims_after = 0.0
        self._summary: Summary | None = None
        self._judged = -1  # runs behind the summary
        self._judge_after = 0.0
        self._changed = clock()
        self._fault: tuple[float, str] | None = None  # since when the folder is unreadable, and why
        self._seen: object = None
        self._last: StudyView | None = None

    def look(self, team: Team | None = None) -> StudyView:
        """The study at this moment. Raises `UserError` for one that a later version of tuneoff carries out.

        `team`: who works, as the executor of the study says; else the claims in the folder show it.
        """
        with self._lock:
            self._last = self._look(team or Team())
            return self._last

    def _look(self, team: Team) -> StudyView:
        name = self.dir.path.name or str(self.dir.path)
        stored = self._load()
        if stored is None or stored.spec is None:  # a file may be being written
            return replace(self._last or StudyView(name), fault=self._lasting_fault())
        records = stored.records
        ended = {folder for folder, run in self._stored.items() if run.record.ended}
        workers = [worker for worker in team.workers or self._workers(ended) if worker.run not in ended]
        working = self._working(stored, {worker.run: worker for worker in workers})
        done = [record for record in records if record.status not in ("running", "interrupted")]
        summary = self._judge(stored, len(done), ended=stored.complete)
        sample = [log.state.memory_bytes for log in self._followed.values()]
        at_once = sum(worker.state != "lost" for worker in workers) or len(working) or team.capacity or 1
        self._notice((len(done), [(run.name, run.words) for run in working]))
        rows = _rows(summary) if summary else ()
        return StudyView(
            name=stored.name,
            plan=_plan_words(stored.spec),
            done=len(done),
            failed=sum(record.status == "failed" for record in done),
            total=max(len(stored.plan.runs or ()), planner.count(stored.spec)),
            working=working,
            metric=_title(summary.primary_metric if summary else stored.spec.metric),
            rows=rows,
            verdict=next(iter(summary.sentences), "") if summary else "",
            seconds_left=_seconds_left(stored.spec, stored.plan.runs or (), done, at_once),
            memory_bytes=sum(filter(None, sample)) or None,
            begun=True,
            ended=stored.complete,
            quiet_seconds=self._clock() - self._changed,
        )

    def _load(self) -> StoredStudy | None:
        """The folder; None where there is no study yet, or a file of it is being written.

        Raises `LaterVersion` for a file that no later look could read.
        """
        found = None
        try:
            if self.dir.is_begun():
                runs = self.dir.read_runs(skip_damaged=True, known=self._stored.values())
                self._stored = {run.name: run for run in runs}
                found = self.dir.load(runs)
        except LaterVersion:
            raise
        except (UserError, OSError, ValueError) as error:
            since = self._clock() if self._fault is None else self._fault[0]
            self._fault = since, sanitize(str(error))
            return None
        self._fault = None
        return found

    def _lasting_fault(self) -> str:
        if self._fault is None:
            return ""
        since, why = self._fault
        return why if self._clock() - since >= _FAULT_SECONDS else ""

    def _workers(self, ended: Container[str]) -> tuple[Worker, ...]:
        """By the claims of a study that several processes share; `ended`: runs that need no look."""
        began = self._clock()
        if began >= self._claims_after:
            self._claimed = tuple(self._claims.workers(ended))
            self._claims_after = self._clock() + _REST * (self._clock() - began)
        return self._claimed

    def _working(self, stored: StoredStudy, workers: Mapping[str, Worker]) -> tuple[WorkingRun, ...]:
        """The runs at work; those whose worker shows no sign of life come first."""
        logs = {} if stored.complete else self.dir.logs_in_progress()
        self._followed = {run: self._followed.get(run) or _Followed(Follower(log)) for run, log in logs.items()}
        for run, followed in self._followed.items():
            followed.follower.follow(logs[run])
            try:
                for event in followed.follower.poll():
                    followed.state.take(event)
            except (OSError, UserError):
                continue
        states = {run: followed.state for run, followed in self._followed.items()}
        # A run whose last claim has ended waits for the next worker.
        holders = {run: self._claims.holder(run) for run in states if run not in workers}
        at_work = {run for run in states if (holder := holders.get(run)) is None or holder.ended is None}
        first = {run: _FIRST[worker.state] for run, worker in workers.items()}
        names = sorted(at_work.union(workers), key=lambda run: (first.get(run, len(_FIRST)), run))
        return tuple(_working_run(run, states.get(run, LiveRun()), workers.get(run)) for run in names)

    def _judge(self, stored: StoredStudy, done: int, *, ended: bool) -> Summary | None:
        """What was found so far. Made again where a run has ended, but not all the time."""
        if done != self._judged and done and (ended or self._clock() >= self._judge_after):
            began = self._clock()
            try:
                self._summary = summarize(stored)
            except (UserError, OSError, ValueError):  # no scored run yet, or a file that is being written
                self._summary = None
            self._judged = done
            self._judge_after = self._clock() + _REST * (self._clock() - began)
        return self._summary

    def _notice(self, seen: object) -> None:
        if seen != self._seen:
            self._seen, self._changed = seen, self._clock()


def _working_run(run: str, state: LiveRun, worker: Worker | None) -> WorkingRun:
    done, total = state.done or (None, None)
    return WorkingRun(run.rpartition("-")[0] or run, ", ".join(state.words()), done, total, worker)


def _title(metric: str) -> str:
    return METRICS[metric].title if metric in METRICS else metric


def _rows(summary: Summary) -> tuple[ScoredRow, ...]:
    metric = summary.primary_metric
    found = [(row, row.score(metric)) for row in summary.rows if row.kind == "method"]
    several = len({row.model for row, _ in found}) > 1
    rows = [
        ScoredRow(
            f"{row.title} on {row.model}" if several else row.title,
            score.mean,
            score.low,
            score.high,
            row.compared_runs,
        )
        for row, score in found
        if score.mean is not None
    ]
    higher = metric not in METRICS or METRICS[metric].higher_is_better is not False
    return tuple(sorted(rows, key=lambda row: row.mean, reverse=higher))


def _plan_words(spec: StudySpec) -> str:
    parts = [plural(len(spec.methods), "method"), plural(spec.seeds, "seed")]
    parts += [plural(len(spec.models), "model")] if len(spec.models) > 1 else []
    parts += [f"{len(spec.fractions)} amounts of data"] if len(spec.fractions) > 1 else []
    parts += [f"{plural(spec.trials, 'trial')} and a refinement trial each"] if spec.trials else []
    return f"plan: {', '.join(parts)}"


def _seconds_left(spec: StudySpec, planned: Sequence[str], done: Sequence[Record], at_once: int) -> float | None:
    """Of the runs to do, at the mean time of the runs of their kind; None before the first run has ended.

    `at_once` of them are carried out at the same time, as long as so many are left.
    """
    times: dict[tuple[str, str], list[float]] = {}
    for record in done:
        if record.finished_at is not None and (taken := _seconds(record)) is not None:
            times.setdefault((record.spec.method.name, record.spec.role), []).append(taken)
    if not times:
        return None
    mean: Mapping[tuple[str, str], float] = {kind: fmean(values) for kind, values in times.items()}
    every = fmean(mean.values())
    counted: dict[tuple[str, str], int] = {}
    for record in done:
        kind = (record.spec.method.name, record.spec.role)
        counted[kind] = counted.get(kind, 0) + 1
    total, left = 0.0, 0
    for group in planner.outline(spec):
        kind = (group.method, group.role)
        number = group.number * len(spec.models)
        already = min(number, counted.get(kind, 0))
        counted[kind] = counted.get(kind, 0) - already
        total += (number - already) * mean.get(kind, every)
        left += number - already
    timing = sum(kind[1] == "timing" for kind in counted)
    others = max(0, len(planned) - planner.count(spec) - timing)
    total += others * every
    return total / max(1, min(at_once, left + others))


def _seconds(record: Record) -> float | None:
    try:
        return (
            datetime.fromisoformat(record.finished_at or "") - datetime.fromisoformat(record.started_at)
        ).total_seconds()
    except (ValueError, TypeError):
        return None
