"""Carries out runs, each in a process of its own, and makes sure that each leaves a record, whatever happens to it.

`Executor` is the protocol; `LocalExecutor` uses this machine. Other packages register theirs by the entry point group
`tuneoff.executors`.
"""

import contextlib
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol, Self

from tuneoff.errors import UserError
from tuneoff.plugins import Registry
from tuneoff.results.events import Event, Follower, RunSoFar
from tuneoff.results.run_dir import RunDir, StoredRun
from tuneoff.results.run_record import Failure, Record, Status
from tuneoff.spec import RunSpec
from tuneoff.study.launcher import WHOLE_MACHINE, Launcher, Layout, choose_start_method, launcher
from tuneoff.text import did_you_mean, sanitize

TICK_SECONDS = 0.1
SIGTERM_EXIT = 128 + 15
_TAIL_BYTES, _TAIL_LINES = 4000, 15
_ASKED_TO_STOP = {"SIGTERM", "SIGINT", "SIGHUP"}


@dataclass(frozen=True)
class Job:
    """A run to carry out, with the folder that it writes into."""

    spec: RunSpec
    run_id: str
    name: str
    dir: RunDir


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


class Executor(Protocol):
    """Carries out runs. A context: what it has started ends with it."""

    def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        """Carry out `jobs` and yield each run when it has ended; the order is that of the ends.

        A run that fails, crashes or is killed has a record that says so, and the next one starts.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LocalExecutor:
    """Runs on this machine: one after another, or as many concurrently as the layout has processes.

    `target` is the function (`module:name`) that each process calls with (spec, folder, run_id, name) and that writes
    `record.json`. What a run prints goes into `log.txt` of its folder. On Ctrl-C and SIGTERM the current runs are
    stopped and recorded as interrupted; then KeyboardInterrupt or SystemExit(143) is raised.
    """

    def __init__(
        self,
        layout: Layout = WHOLE_MACHINE,
        *,
        preload: tuple[str, ...] = ("tuneoff.run",),
        start_method: str | None = None,
        target: str = "tuneoff.run:run",
    ) -> None:
        """Raises `UserError` for an unknown start method."""
        self._layout, self._preload, self._target = layout, preload, target
        self._method = choose_start_method(start_method)
        # A launcher's imports take seconds, so each is kept until the end: one for single runs, the others for workers.
        self._launcher: Launcher | None = None
        self._idle: deque[Launcher] = deque()
        self._resources = contextlib.ExitStack()

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
        with sigterm_raises():
            if self._layout.processes > 1 and len(jobs) > 1:
                yield from self._run_concurrently(jobs, _Serialized(observer))
                return
            never = threading.Event()
            for job in jobs:
                if self._launcher is None:
                    opened = launcher(self._method, self._preload, WHOLE_MACHINE)
                    self._launcher = self._resources.enter_context(opened)
                yield self._carry_out(job, self._launcher, observer, never)

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
        """Each worker is a thread that uses one launcher. The first error of a worker ends all and is raised."""
        waiting = deque(jobs)
        stop = threading.Event()
        results: queue.SimpleQueue[StoredRun | BaseException | None] = queue.SimpleQueue()  # None: a worker has ended

        def work() -> None:
            try:
                with self._worker_launcher() as started:
                    while not stop.is_set():
                        try:
                            job = waiting.popleft()
                        except IndexError:
                            return
                        results.put(self._carry_out(job, started, observer, stop))
            except _Stopped:
                pass
            except BaseException as error:
                stop.set()
                results.put(error)
            finally:
                results.put(None)

        threads = [threading.Thread(target=work) for _ in range(min(self._layout.processes, len(jobs)))]
        for thread in threads:
            thread.start()
        working, failure = len(threads), None
        try:
            while working:
                try:
                    # Not `join`: an interrupted one takes a thread that is still working for ended (CPython 3.11).
                    result = results.get(timeout=TICK_SECONDS)
                except queue.Empty:
                    continue
                if result is None:
                    working -= 1
                elif isinstance(result, BaseException):
                    failure = failure or result
                else:
                    yield result
        finally:
            with _interrupts_ignored():
                stop.set()
                for thread in threads:
                    thread.join()
        if failure is not None:
            raise failure

    def _carry_out(self, job: Job, started: Launcher, observer: Observer, stop: threading.Event) -> StoredRun:
        observer.started(job)
        run = StoredRun(job.dir, _carry_out(job, started, observer.event, self._target, stop))
        observer.ended(job, run)
        return run


class _Serialized:
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


class _Stopped(Exception):
    """Another thread ended the study."""


def _carry_out(
    job: Job,
    started: Launcher,
    on_event: Callable[[Job, Event], None],
    target: str,
    stop: threading.Event,
) -> Record:
    job.dir.path.mkdir(parents=True, exist_ok=True)
    job.dir.discard_results()  # an earlier attempt's must not be taken for this one's
    began = _now()
    follower = Follower(job.dir.events)
    so_far = RunSoFar()

    def pump() -> None:
        for event in follower.poll():
            so_far.take(event)
            on_event(job, event)

    message = {
        "spec": job.spec.model_dump(mode="json"),
        "run_id": job.run_id,
        "name": job.name,
        "folder": str(job.dir.path),
        "target": target,
    }
    process = None
    try:
        process = started.start(message, job.dir.log)
        code = None
        while code is None:
            if stop.is_set():
                raise _Stopped
            code = process.wait(TICK_SECONDS)
            pump()
    except (KeyboardInterrupt, SystemExit, _Stopped) as reason:
        with _interrupts_ignored():
            if process is not None:
                process.stop()
            for event in follower.poll():
                so_far.take(event)
            by = {KeyboardInterrupt: "by Ctrl-C", SystemExit: "by SIGTERM"}.get(type(reason), "with the whole study")
            failure = Failure(type="Interrupted", message=f"stopped {by} {_where(so_far)}")
            if _own_record(job) is None:
                job.dir.write_record(_salvaged(job, began, so_far, "interrupted", failure))
        raise
    record = _own_record(job)
    if record is None:
        status, failure = _autopsy(code, so_far, job.dir)
        record = _salvaged(job, began, so_far, status, failure)
        job.dir.write_record(record)
    return record


def _own_record(job: Job) -> Record | None:
    """The record that the run itself has written, unless it is missing, damaged or not final."""
    try:
        record = job.dir.read_record()
    except UserError:
        return None
    return record if record.status != "running" else None


def _salvaged(job: Job, began: str, so_far: RunSoFar, status: Status, failure: Failure) -> Record:
    return Record(
        run_id=job.run_id,
        name=job.name,
        status=status,
        spec=job.spec.without_paths(),
        started_at=began,
        finished_at=_now(),
        failure=failure,
        curve=so_far.curve(),
        notes=tuple(so_far.notes),
    )


def _autopsy(code: int, so_far: RunSoFar, run_dir: RunDir) -> tuple[Status, Failure]:
    """Status and reason for a process that ended without a record."""
    status: Status = "failed"
    if code < 0:
        kind = _signal_name(-code)
        message = f"the run's process was killed by {kind} {_where(so_far)}"
        if kind == "SIGKILL":
            message += f"; most often the system does this when memory runs out{_last_memory(so_far)}"
        elif kind in _ASKED_TO_STOP:
            status = "interrupted"
    else:
        kind = "ProcessEnded"
        message = f"the run's process ended with code {code} and left no record {_where(so_far)}"
    tail = _last_lines(run_dir.log_tail(_TAIL_BYTES))
    if tail:
        message += f"\nlast lines of {run_dir.log.name}:\n{tail}"
    return status, Failure(type=kind, message=message)


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


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """SIGTERM becomes SystemExit(143) inside, so that the current run is stopped and recorded first. May be nested."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(_number: int, _frame: Any) -> None:
        raise SystemExit(SIGTERM_EXIT)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """A second Ctrl-C must not stop the first one from being recorded."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


MakeExecutor = Callable[[Layout], Executor]


def _check_executor(name: str, found: object) -> MakeExecutor:
    if not callable(found):
        raise ValueError(f"{name} is not a function that takes a layout and returns an executor")
    return found


EXECUTORS: Registry[MakeExecutor] = Registry("tuneoff.executors", {"local": LocalExecutor}, _check_executor)


def check_executor(name: str) -> MakeExecutor:
    """What makes the executor `name`. Raises `UserError` for an unknown name, or for a package that cannot be used."""
    if name not in EXECUTORS:
        raise UserError(f"--engine: unknown executor {name!r}{did_you_mean(name, EXECUTORS)}")
    return EXECUTORS[name]


def open_executor(name: str, layout: Layout) -> Executor:
    """The executor `name` for runs that share the machine as `layout` says. Raises `UserError` as `check_executor`."""
    return check_executor(name)(layout)
