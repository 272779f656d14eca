"""Carries out runs, each in a process of its own, and sees to it that each leaves a record whatever happens to it."""

import contextlib
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuneoff.errors import UserError
from tuneoff.results.events import Event, Follower, Note, PhaseStarted, Sampled, StepDone, curve_of
from tuneoff.results.run_record import Failure, Record, Status, read_record, write_record
from tuneoff.spec import RunSpec
from tuneoff.study.launcher import WHOLE_MACHINE, Launcher, Layout, choose_start_method, launcher
from tuneoff.study.printable import printable

TICK_SECONDS = 0.1
LOG_FILE = "log.txt"
SIGTERM_EXIT = 128 + 15
_TAIL_BYTES, _TAIL_LINES = 4000, 15
# Files of an earlier attempt that must not be taken for this one's.
_STALE = ("record.json", "events.jsonl", "predictions.jsonl", LOG_FILE)
_ASKED_TO_STOP = {"SIGTERM", "SIGINT", "SIGHUP"}


@dataclass(frozen=True)
class Job:
    """A run to carry out: its folder is the run's own."""

    spec: RunSpec
    run_id: str
    name: str
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """A job and its record, which also stands in the job's folder."""

    job: Job
    record: Record


def execute(
    jobs: Sequence[Job],
    *,
    on_event: Callable[[Job, Event], None],
    on_start: Callable[[Job], None] | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
    preload: tuple[str, ...] = ("tuneoff.run",),
    start_method: str | None = None,
    target: str = "tuneoff.run:run",
    layout: Layout = WHOLE_MACHINE,
    more: Callable[[], Sequence[Job]] = tuple,
) -> list[Outcome]:
    """Do `jobs` one after the other, or as many at a time as `layout` has processes; the callbacks are never called at
    the same time. When all are done, `more` says which jobs have become known by them, until there are none.
    `target` is the function (`module:name`) that each process calls with (spec, folder, run_id, name) and that writes
    `record.json`.

    A run that fails, crashes or is killed has a record that says so, and the next one starts. On Ctrl-C and SIGTERM
    the current run is stopped and recorded as interrupted; then KeyboardInterrupt or SystemExit(143) is raised.
    What a run prints goes into `log.txt` of its folder. Raises `UserError` for an unknown start method and
    `RunFailure` when no process can be started at all.
    """
    method = choose_start_method(start_method)
    one_at_a_time = threading.Lock()
    never = threading.Event()

    def tell(job: Job, event: Event) -> None:
        with one_at_a_time:
            on_event(job, event)

    def do(job: Job, started: Launcher, stop: threading.Event) -> Outcome:
        if on_start is not None:
            with one_at_a_time:
                on_start(job)
        outcome = Outcome(job, _carry_out(job, started, tell, target, stop))
        if on_outcome is not None:
            with one_at_a_time:
                on_outcome(outcome)
        return outcome

    outcomes: list[Outcome] = []
    started: Launcher | None = None  # its imports take seconds: once is enough
    with _sigterm_raises(), contextlib.ExitStack() as opened:
        while jobs:
            if layout.processes > 1 and len(jobs) > 1:
                outcomes += _side_by_side(jobs, do, lambda: launcher(method, preload, layout), layout.processes)
            else:
                started = started or opened.enter_context(launcher(method, preload, WHOLE_MACHINE))
                outcomes += [do(job, started, never) for job in jobs]
            jobs = more()
    return outcomes


class _Stopped(Exception):
    """Another thread wants the runs to end."""


def _side_by_side(
    jobs: Sequence[Job],
    do: Callable[[Job, Launcher, threading.Event], Outcome],
    open_launcher: Callable[[], contextlib.AbstractContextManager[Launcher]],
    workers: int,
) -> list[Outcome]:
    """Each worker is a thread with a launcher of its own. The first error of any worker ends all and is raised."""
    waiting = deque(enumerate(jobs))
    outcomes: dict[int, Outcome] = {}
    errors: list[BaseException] = []
    stop = threading.Event()

    def work() -> None:
        try:
            with open_launcher() as started:
                while not stop.is_set():
                    try:
                        place, job = waiting.popleft()
                    except IndexError:
                        return
                    outcomes[place] = do(job, started, stop)
        except _Stopped:
            pass
        except BaseException as error:
            errors.append(error)
            stop.set()
        finally:
            ended.release()

    threads = [threading.Thread(target=work) for _ in range(min(workers, len(jobs)))]
    ended = threading.Semaphore(0)
    for thread in threads:
        thread.start()
    try:
        # Not `join`: one that is interrupted takes a thread that still works for ended (CPython 3.11).
        for _ in threads:
            while not ended.acquire(timeout=TICK_SECONDS):
                pass
    except (KeyboardInterrupt, SystemExit):
        with _interrupts_ignored():
            stop.set()
            for thread in threads:
                thread.join()
        raise
    if errors:
        raise errors[0]
    return [outcomes[place] for place in sorted(outcomes)]


def _carry_out(
    job: Job,
    started: Launcher,
    on_event: Callable[[Job, Event], None],
    target: str,
    stop: threading.Event,
) -> Record:
    job.folder.mkdir(parents=True, exist_ok=True)
    for name in _STALE:
        (job.folder / name).unlink(missing_ok=True)
    began = _now()
    follower = Follower(job.folder / "events.jsonl")
    events: list[Event] = []

    def pump() -> None:
        for event in follower.poll():
            events.append(event)
            on_event(job, event)

    message = {
        "spec": job.spec.model_dump(mode="json"),
        "run_id": job.run_id,
        "name": job.name,
        "folder": str(job.folder),
        "target": target,
    }
    process = None
    try:
        process = started.start(message, job.folder / LOG_FILE)
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
            events += follower.poll()
            by = {KeyboardInterrupt: "by Ctrl-C", SystemExit: "by SIGTERM"}.get(type(reason), "with the whole study")
            failure = Failure(type="Interrupted", message=f"stopped {by} {_where(events)}")
            if _own_record(job) is None:
                write_record(job.folder, _salvaged(job, began, events, "interrupted", failure))
        raise
    record = _own_record(job)
    if record is None:
        status, failure = _autopsy(code, events, job.folder / LOG_FILE)
        record = _salvaged(job, began, events, status, failure)
        write_record(job.folder, record)
    return record


def _own_record(job: Job) -> Record | None:
    """The record that the run itself has written, unless it is missing, damaged or not final."""
    try:
        record = read_record(job.folder)
    except UserError:
        return None
    return record if record.status != "running" else None


def _salvaged(job: Job, began: str, events: Sequence[Event], status: Status, failure: Failure) -> Record:
    return Record(
        run_id=job.run_id,
        name=job.name,
        status=status,
        spec=job.spec.without_paths(),
        started_at=began,
        finished_at=_now(),
        failure=failure,
        curve=curve_of(events),
        notes=tuple(event.text for event in events if isinstance(event, Note)),
    )


def _autopsy(code: int, events: Sequence[Event], log: Path) -> tuple[Status, Failure]:
    """Status and reason for a process that ended without a record."""
    status: Status = "failed"
    if code < 0:
        kind = _signal_name(-code)
        message = f"the run's process was killed by {kind} {_where(events)}"
        if kind == "SIGKILL":
            message += f"; most often the system does this when memory runs out{_last_memory(events)}"
        elif kind in _ASKED_TO_STOP:
            status = "interrupted"
    else:
        kind = "ProcessEnded"
        message = f"the run's process ended with code {code} and left no record {_where(events)}"
    tail = _tail(log)
    if tail:
        message += f"\nlast lines of {log.name}:\n{tail}"
    return status, Failure(type=kind, message=message)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _where(events: Sequence[Event]) -> str:
    """How far the run had come, in words."""
    phase = next((event.phase for event in reversed(events) if isinstance(event, PhaseStarted)), None)
    step = next((event for event in reversed(events) if isinstance(event, StepDone)), None)
    if phase is None:
        return "before its first phase"
    after = f", after step {step.step} of {step.steps}" if step is not None else ""
    return f"in phase {phase}{after}"


def _last_memory(events: Sequence[Event]) -> str:
    sample = next((event for event in reversed(events) if isinstance(event, Sampled)), None)
    return "" if sample is None else f" (it held {sample.memory_bytes / 1e9:.2f} GB when last seen)"


def _tail(log: Path) -> str:
    """The last lines of a log, harmless for a terminal; progress bars redraw a line, its last state counts."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return "\n".join([printable(line.rstrip()) for line in lines if line.strip()][-_TAIL_LINES:])


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM becomes SystemExit(143) inside, so that the current run is stopped and recorded first."""
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
