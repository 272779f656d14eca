"""Carries out runs, each in a process of its own, and makes sure that each leaves a record, whatever happens to it.

`Executor` is the protocol; `LocalExecutor` uses this machine. Other packages register theirs by the entry point group
`tuneoff.executors`.
"""

import contextlib
import os
import queue
import signal
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from tuneoff import stopping
from tuneoff.errors import UserError
from tuneoff.plugins import Registry
from tuneoff.profiling import usable_cores
from tuneoff.profiling.memory import out_of_memory_kills
from tuneoff.results.events import Event, Follower, Note, RunSoFar
from tuneoff.results.failures import no_room
from tuneoff.results.run_claims import Team, Worker
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import Failure, Record, Status
from tuneoff.study.jobs import Job as Job  # for executors of other packages
from tuneoff.study.jobs import longest_first, more_of
from tuneoff.study.launcher import (
    WHOLE_MACHINE,
    Launcher,
    Layout,
    NotStarted,
    Process,
    choose_start_method,
    launcher,
)
from tuneoff.study.worker import NO_ROOM
from tuneoff.text import did_you_mean, sanitize

TICK_SECONDS = 0.1
RETRY_PARTS = 2  # in which a run that the system has killed computes each micro-batch
_TAIL_BYTES, _TAIL_LINES = 4000, 15


class Observer(Protocol):
    """Is informed about runs. Its methods are never called concurrently."""

    def started(self, job: Job) -> None:
        """A run starts."""
        ...

    def event(self, job: Job, event: Event) -> None:
        """A run reports something."""
        ...

    def ended(self, job: Job, run: StoredRun) -> None:
        """A run has ended, in whatever way."""
        ...


@runtime_checkable
class TeamObserver(Protocol):
    """An observer that is also informed about who works."""

    def team(self, team: Team) -> None:
        """Who works now. Called every few seconds, also while no run reports anything."""
        ...


class SilentObserver:
    """Ignores everything."""

    def started(self, job: Job) -> None:
        pass

    def event(self, job: Job, event: Event) -> None:
        pass

    def ended(self, job: Job, run: StoredRun) -> None:
        pass


class Observers:
    """Several observers as one, informed in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def started(self, job: Job) -> None:
        for observer in self._observers:
            observer.started(job)

    def event(self, job: Job, event: Event) -> None:
        for observer in self._observers:
            observer.event(job, event)

    def ended(self, job: Job, run: StoredRun) -> None:
        for observer in self._observers:
            observer.ended(job, run)

    def team(self, team: Team) -> None:
        for observer in self._observers:
            if isinstance(observer, TeamObserver):
                observer.team(team)


class Executor(Protocol):
    """Carries out runs. A context: what it has started ends with it.

    An executor of another package needs `run` and the context; without `capacity` and `health`, the progress of a study
    does not show who works (`team_of`).
    """

    def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        """Carry out `jobs` and yield each run when it has ended; the order is that of the ends.

        A run that fails, crashes or is killed has a record that says so, and the next one starts. With a free worker
        an executor may ask `tuneoff.study.jobs.more_of(jobs)` for runs that have become possible by those that it has
        yielded.

        To cancel is to close the iterator (`closed_at_the_end` does), or to raise in it, as a signal does: the runs
        that it has started save their states and are stopped. They leave a record with the status `interrupted`, or,
        where others see the folder, a claim that is released. Workers of a batch system, which outlive this process, go
        on.
        """
        ...

    def capacity(self) -> int:
        """How many runs can be carried out at the same time now."""
        ...

    def health(self) -> Sequence[Worker]:
        """Who carries out which run. Called from a thread of its own, while `run` works and before."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def team_of(executor: object) -> Team:
    """Who works for an executor. One of another package may say nothing of that."""
    health, capacity = (getattr(executor, name, None) for name in ("health", "capacity"))
    workers = tuple(health()) if callable(health) else ()
    return Team(workers, capacity() if callable(capacity) else None)


@contextlib.contextmanager
def closed_at_the_end(runs: Iterator[StoredRun]) -> Iterator[Iterator[StoredRun]]:
    """`runs`, closed on the way out: an interrupt between two runs must stop those that work concurrently."""
    try:
        yield runs
    finally:
        if isinstance(runs, Generator):
            runs.close()


class LocalExecutor:
    """Runs on this machine: one after another, or as many concurrently as the layout has processes.

    `target` is the function (`module:name`) that each process calls with (spec, folder, run_id, name) and that writes
    `record.json`; `parts` is given too to a run that the system has killed because memory ran out, `keep_texts=False`
    to runs without texts, and `number_format` where a study has decided on one. `help_target` is called in the other
    processes of a run that several train together. What a run prints goes into `log.txt` of its folder. On Ctrl-C,
    SIGTERM and SIGHUP the current runs save their state, are stopped and recorded as interrupted; then
    KeyboardInterrupt or SystemExit (128 + the number of the signal) is raised.
    """

    def __init__(
        self,
        layout: Layout = WHOLE_MACHINE,
        *,
        preload: tuple[str, ...] = ("tuneoff.run",),
        start_method: str | None = None,
        target: str = "tuneoff.run:run",
        help_target: str = "tuneoff.run:help_to_train",
        alone: Layout = WHOLE_MACHINE,
    ) -> None:
        """Raises `UserError` for an unknown start method.

        `alone`: for runs that are carried out one after another, how they share the machine with other programs.
        """
        self._layout, self._preload, self._alone = layout, preload, alone
        self._target, self._help_target = target, help_target
        self._method = choose_start_method(start_method)
        # A launcher's imports take seconds, so each is kept until the end: one for single runs, the others for workers.
        self._launcher: Launcher | None = None
        self._idle: deque[Launcher] = deque()
        self._resources = contextlib.ExitStack()
        self._at_work: dict[str, _AtWork] = {}  # by the name of the run's folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._launcher = None
        self._idle.clear()
        self._resources.close()

    def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        """See `Executor.run`. Raises `RunFailure` if no process can be started at all."""
        with stopping.signals_raise():
            if self._layout.processes > 1 and len(jobs) > 1:
                yield from self._run_concurrently(jobs, Serialized(observer))
                return
            never = threading.Event()
            for job in jobs:
                if self._launcher is None:
                    opened = launcher(self._method, self._preload, self._alone)
                    self._launcher = self._resources.enter_context(opened)
                yield self._carry_out(job, self._launcher, observer, never)

    def capacity(self) -> int:
        """See `Executor.capacity`."""
        return self._layout.processes

    def health(self) -> list[Worker]:
        """The process of each run. Its end is noticed at once, so none is silent, however long it reports nothing."""
        host, now = socket.gethostname(), time.monotonic()
        return [
            Worker(f"{host}:{each.pid}", run, now - each.began, now - each.heard)
            for run, each in list(self._at_work.items())
        ]

    @contextlib.contextmanager
    def _worker_launcher(self) -> Iterator[Launcher]:
        """A launcher that no other worker uses. It is idle again afterwards; after an error it is closed."""
        try:
            started = self._idle.popleft()
        except IndexError:
            started = self._resources.enter_context(launcher(self._method, self._preload, self._layout))
        try:
            yield started
        except BaseException:
            started.close()
            raise
        self._idle.append(started)

    def _run_concurrently(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        """Each run is watched by a thread, which uses one launcher. The first error of one ends all and is raised."""
        waiting = deque(longest_first(jobs))
        stop = threading.Event()
        results: queue.SimpleQueue[StoredRun | BaseException | None] = queue.SimpleQueue()  # None: was stopped
        threads: list[threading.Thread] = []
        working, failure = 0, None

        def carry_out(job: Job) -> None:
            result: StoredRun | BaseException | None = None
            try:
                with self._worker_launcher() as started:
                    result = self._carry_out(job, started, observer, stop)
            except _Stopped:
                pass
            except BaseException as error:
                stop.set()
                result = error
            finally:
                results.put(result)

        def start_runs() -> None:
            nonlocal working
            while waiting and working < self._layout.processes and not stop.is_set():
                threads.append(threading.Thread(target=carry_out, args=(waiting.popleft(),)))
                threads[-1].start()
                working += 1

        try:
            start_runs()
            while working:
                stopping.raise_again()
                try:
                    # Not `join`: an interrupted one takes a thread that is still working for ended (CPython 3.11).
                    result = results.get(timeout=TICK_SECONDS)
                except queue.Empty:
                    pass
                else:
                    working -= 1
                    start_runs()
                    if isinstance(result, BaseException):
                        failure = failure or result
                    elif result is not None:
                        yield result
                if not waiting and working < self._layout.processes and not stop.is_set():
                    waiting.extend(longest_first(more_of(jobs)))
                    start_runs()
        finally:
            with stopping.signals_ignored():
                stop.set()
                for thread in threads:
                    with contextlib.suppress(RuntimeError):  # a signal came before it was started
                        thread.join()
        if failure is not None:
            raise failure

    def _carry_out(self, job: Job, started: Launcher, observer: Observer, stop: threading.Event) -> StoredRun:
        observer.started(job)
        with contextlib.ExitStack() as stack:
            # The other processes of a run that several train together.
            helpers = [stack.enter_context(self._worker_launcher()) for _ in range(job.processes - 1)]
            threads = max(1, (self._alone.threads or usable_cores()) // job.processes)
            group = _Group(helpers, threads, self._help_target) if helpers else None
            at_work = self._at_work[job.dir.name] = _AtWork()
            stack.callback(self._at_work.pop, job.dir.name)
            record = _carry_out(job, started, observer.event, self._target, stop, group, at_work)
        run = StoredRun(job.dir, record)
        observer.ended(job, run)
        return run


@dataclass
class _AtWork:
    """A run that a process carries out now. Times are those of the monotonic clock."""

    began: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    """When it reported something last."""
    pid: int = field(default_factory=os.getpid)
    """This process, until that of the run has started."""


class Serialized:
    """Calls an observer from several threads, one call at a time."""

    def __init__(self, observer: Observer) -> None:
        self._observer, self._lock = observer, threading.Lock()

    def started(self, job: Job) -> None:
        with self._lock:
            self._observer.started(job)

    def event(self, job: Job, event: Event) -> None:
        with self._lock:
            self._observer.event(job, event)

    def ended(self, job: Job, run: StoredRun) -> None:
        with self._lock:
            self._observer.ended(job, run)

    def team(self, team: Team) -> None:
        if isinstance(self._observer, TeamObserver):
            with self._lock:
                self._observer.team(team)


class _Stopped(Exception):
    """Another thread ended the study."""


def _carry_out(
    job: Job,
    started: Launcher,
    on_event: Callable[[Job, Event], None],
    target: str,
    stop: threading.Event,
    group: "_Group | None",
    at_work: _AtWork,
) -> Record:
    attempt = _Attempt(job, started, on_event, target, stop, group, at_work)
    record = attempt.carry_out()
    if record is None and attempt.ran_out_of_memory:
        on_event(job, Note(text="the system killed the run because memory ran out; it is tried once more, in parts"))
        attempt = _Attempt(job, started, on_event, target, stop, group, at_work, parts=RETRY_PARTS)
        record = attempt.carry_out()
    if record is None:
        record = attempt.salvaged(*attempt.autopsy())
        with contextlib.suppress(OSError):  # the disk is full, for example: the next start does this run again
            job.dir.write_record(record)
    return record


@dataclass(frozen=True)
class _Group:
    """The other processes of a run that several train together."""

    launchers: Sequence[Launcher]
    threads: int
    target: str

    @contextlib.contextmanager
    def started(self, message: Mapping[str, Any], log: Path) -> Iterator[Mapping[str, Any]]:
        """`message` for the first process, while the others are there. They end with it. Raises `NotStarted`."""
        with tempfile.TemporaryDirectory(prefix="tuneoff-") as folder, contextlib.ExitStack() as stack:

            def part(rank: int) -> dict[str, Any]:
                size, meeting = len(self.launchers) + 1, str(Path(folder) / "meeting")
                return {"group": {"rank": rank, "size": size, "meeting": meeting, "threads": self.threads}}

            for rank, started in enumerate(self.launchers, 1):
                process = started.start({**message, **part(rank), "target": self.target}, log)
                stack.callback(process.stop)
            yield {**message, **part(0)}


class _Attempt:
    """One process of a run, from its start to its end."""

    def __init__(
        self,
        job: Job,
        started: Launcher,
        on_event: Callable[[Job, Event], None],
        target: str,
        stop: threading.Event,
        group: "_Group | None",
        at_work: _AtWork,
        parts: int = 1,
    ) -> None:
        self._job, self._launcher, self._on_event, self._stop, self._group = job, started, on_event, stop, group
        self._at_work = at_work
        self._message = {
            "spec": job.spec.model_dump(mode="json"),
            "run_id": job.run_id,
            "name": job.name,
            "folder": str(job.dir.path),
            "target": target,
            **({"parts": parts} if parts > 1 else {}),
            **({} if job.keep_texts else {"keep_texts": False}),
            **({} if job.number_format is None else {"number_format": job.number_format}),
        }
        self._parts = parts
        self._so_far = RunSoFar()
        self._began = _now()
        self._kills_before = out_of_memory_kills()
        self._process: Process | None = None
        self._code: int | None = None
        self._not_started: str | None = None

    def carry_out(self) -> Record | None:
        """The record that the run has written; None if it has ended without one."""
        job = self._job
        job.dir.path.mkdir(parents=True, exist_ok=True)
        job.dir.discard_results()  # an earlier attempt's must not be taken for this one's
        follower = Follower(job.dir.events)
        try:
            with self._in_group() as received:
                self._process = self._launcher.start(received, job.dir.log)
                self._at_work.pid = self._process.pid
                self._wait(self._process, follower)
        except NotStarted as error:
            self._not_started = str(error)
        except (KeyboardInterrupt, SystemExit, _Stopped) as reason:
            if not isinstance(reason, _Stopped):
                stopping.begin_ending()
            self._take(follower)
            if _own_record(job) is None:
                message = f"stopped {_by(reason)} {_where(self._so_far)}"
                job.dir.write_record(self.salvaged("interrupted", Failure(type="Interrupted", message=message)))
            raise
        return _own_record(job)

    def _wait(self, process: Process, follower: Follower) -> None:
        """Wait for the end of the run's process. What interrupts that ends it, before the others of its group."""
        try:
            while self._code is None:
                if self._stop.is_set():
                    raise _Stopped
                stopping.raise_again()
                self._code = process.wait(TICK_SECONDS)
                self._take(follower)
        except (KeyboardInterrupt, SystemExit, _Stopped) as reason:
            if not isinstance(reason, _Stopped):
                stopping.begin_ending()
            self._end(process, reason)
            raise

    def _in_group(self) -> AbstractContextManager[Mapping[str, Any]]:
        """What the run's process receives, while the others that train with it are there."""
        if self._group is None:
            return contextlib.nullcontext(self._message)
        return self._group.started(self._message, self._job.dir.log)

    def _take(self, follower: Follower) -> None:
        for event in follower.poll():
            self._at_work.heard = time.monotonic()
            self._so_far.take(event)
            self._on_event(self._job, event)

    def _end(self, process: Process, reason: BaseException) -> None:
        if not isinstance(reason, _Stopped):
            seconds = f"{stopping.GRACE_SECONDS:.0f}"
            self._on_event(self._job, Note(text=f"stopping; the run has up to {seconds} s to save its state"))
        process.stop()

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether the system ended the process because there was no memory, as far as that can be known."""
        if self._code is None or self._parts > 1 or (self._process is not None and self._process.server_died):
            return False
        if self._code == -signal.SIGKILL:
            kills = out_of_memory_kills()
            return kills is None or self._kills_before is None or kills > self._kills_before
        return self._code != 0 and _is_want_of_memory(self._job.dir.log_tail(_TAIL_BYTES))

    def salvaged(self, status: Status, failure: Failure) -> Record:
        """A record of what the events tell."""
        job = self._job
        return Record(
            run_id=job.run_id,
            name=job.name,
            status=status,
            spec=job.spec.without_paths(),
            started_at=self._began,
            finished_at=_now(),
            failure=failure,
            curve=self._so_far.curve(),
            notes=tuple(self._so_far.notes),
        )

    def autopsy(self) -> tuple[Status, Failure]:
        """Status and reason for a process that ended without a record."""
        code, where = self._code, _where(self._so_far)
        if code is None:
            return "failed", Failure(type="NotStarted", message=f"{self._not_started}; run the same command again")
        status: Status = "failed"
        if code in stopping.EXIT_CODES.values():  # a run that was asked to end
            code = 128 - code
        if self._process is not None and self._process.server_died:
            kind, message = "ServerDied", f"the process that starts runs was killed, and the run with it, {where}"
        elif code in NO_ROOM and (room := no_room(code, where, self._job.dir.path)) is not None:
            return status, Failure(type="DiskFull", message=room)
        elif code < 0:
            kind = _signal_name(-code)
            message = f"the run's process was killed by {kind} {where}"
            if kind == "SIGKILL":
                message += f"; most often the system does this when memory runs out{_last_memory(self._so_far)}"
                if self._parts > 1:
                    message += f", here also with each micro-batch in {self._parts} parts"
            elif kind in stopping.NAMES:
                status = "interrupted"
        else:
            kind, message = "ProcessEnded", f"the run's process ended with code {code} and left no record {where}"
        run_dir = self._job.dir
        tail = _last_lines(run_dir.log_tail(_TAIL_BYTES))
        if tail:
            message += f"\nlast lines of {run_dir.log.name}:\n{tail}"
        return status, Failure(type=kind, message=message)


def _by(reason: BaseException) -> str:
    """What ended a study, in words."""
    if isinstance(reason, KeyboardInterrupt):
        return "by Ctrl-C"
    if isinstance(reason, SystemExit):
        return f"by {next((name for name, code in stopping.EXIT_CODES.items() if code == reason.code), 'an exit')}"
    return "with the whole study"


def _is_want_of_memory(log: str) -> bool:
    return any(words in log for words in ("MemoryError", "allocate memory", "bad_alloc"))


def _own_record(job: Job) -> Record | None:
    """The record that the run itself has written, unless it is missing, damaged or not final."""
    try:
        record = job.dir.read_record()
    except UserError:
        return None
    return record if record.status != "running" else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _where(so_far: RunSoFar) -> str:
    """How far the run had come, in words."""
    if so_far.phase is None:
        return "before its first phase"
    step = so_far.step
    after = f", after step {step.step} of {step.steps}" if step is not None else ""
    return f"in phase {so_far.phase}{after}"


def _last_memory(so_far: RunSoFar) -> str:
    sample = so_far.sample
    return "" if sample is None else f" (it held {sample.memory_bytes / 1e9:.2f} GB when last seen)"


def _last_lines(text: str) -> str:
    """The last lines of a log, harmless for a terminal; progress bars redraw a line, its last state counts."""
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return "\n".join([sanitize(line.rstrip()) for line in lines if line.strip()][-_TAIL_LINES:])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


MakeExecutor = Callable[..., Executor]  # takes a layout, and settings as keywords


def _check_executor(name: str, found: object) -> MakeExecutor:
    if not callable(found):
        raise ValueError(f"{name} is not a function that takes a layout and returns an executor")
    return found


def _shared(layout: Layout) -> Executor:
    from tuneoff.study.shared_folder import SharedFolderExecutor

    return SharedFolderExecutor(layout)


def _slurm(layout: Layout, **settings: str) -> Executor:
    from tuneoff.study.slurm import SlurmExecutor

    return SlurmExecutor(layout, **settings)  # type: ignore[arg-type]  # `open_executor` has checked the names


def _ray(layout: Layout, **settings: str) -> Executor:
    from tuneoff.study.ray_engine import RayExecutor

    return RayExecutor(layout, **settings)  # type: ignore[arg-type]  # `open_executor` has checked the names


SHARED = "shared"
SLURM = "slurm"
RAY = "ray"
_SETTINGS = {
    SLURM: ("workers", "time", "memory", "cpus", "partition", "account"),
    RAY: ("address", "cpus", "memory", "gpus"),
}
EXECUTORS: Registry[MakeExecutor] = Registry(
    "tuneoff.executors", {"local": LocalExecutor, SHARED: _shared, SLURM: _slurm, RAY: _ray}, _check_executor
)


def open_executor(engine: str, layout: Layout) -> Executor:
    """The executor `engine`, `NAME` or `NAME:SETTING=VALUE,...`, for runs that share the machine as `layout` says.

    Nothing begins before it is entered, so its settings can be checked with this. Raises `UserError` for an unknown
    name or setting, or for an executor or package that cannot be used here.
    """
    name, _, text = (engine, "", "") if engine in EXECUTORS else engine.partition(":")
    if name not in EXECUTORS:
        raise UserError(f"--engine: unknown executor {name!r}{did_you_mean(name, EXECUTORS)}")
    make, known = EXECUTORS[name], _SETTINGS.get(name, ())
    settings = {}
    for setting in text.split(",") if text else ():
        key, equals, value = setting.partition("=")
        if key not in known or not equals:
            listed = f"{', '.join(known)}" if known else "none"
            raise UserError(f"--engine {engine}: {name} does not have the setting {setting!r} (it has: {listed})")
        settings[key] = value
    return make(layout, **settings)


def is_shared(engine: str) -> bool:
    """Whether runs are carried out by processes that see the study's folder."""
    return engine.partition(":")[0] in (SHARED, SLURM, RAY)


def with_address(engine: str, address: str | None) -> str:
    """`engine` with the address of its cluster. Raises `UserError` for an engine that has none."""
    if address is None:
        return engine
    name, _, settings = engine.partition(":")
    if name != RAY:
        raise UserError(f"--address {address}: is for --engine ray, and this is --engine {engine}; leave it out")
    return f"{name}:{','.join([*filter(None, [settings]), f'address={address}'])}"
