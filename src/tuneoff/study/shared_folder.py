"""Runs of one study on any number of machines that see its folder: `--engine shared`, and `tuneoff work`.

Each process takes runs by claims (`tuneoff.results.run_claims`) and carries them out in a folder of its own,
`attempts/<run>.<number>`. A run counts when that folder has been renamed to `runs/<run>`, which succeeds once. If a
worker dies, the next one copies its last states and goes on from there.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
import shutil
import socket
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from tuneoff.errors import UserError
from tuneoff.results.events import Event, Note
from tuneoff.results.run_claims import BEATS_IN_A_LEASE, LEASE_SECONDS, Claim, Claims, Holder
from tuneoff.results.run_dir import RunDir, StoredRun
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import WorkFile
from tuneoff.study.compatibility import keeps_earlier_runs
from tuneoff.study.executor import Executor, LocalExecutor, Observer, closed_at_the_end
from tuneoff.study.inputs import StudyInputs
from tuneoff.study.jobs import Job, OpenJobs, longest_first, more_of
from tuneoff.study.launcher import WHOLE_MACHINE, Layout
from tuneoff.study.looks import StudyPlanner
from tuneoff.study.planner import PlannedRun
from tuneoff.study.runner import check_before_runs, jobs_of, prepare, stored_by_id

_POLL_SECONDS = 2.0
# With hundreds of workers, each looking at the runs of all others, a file server has more to do than the workers.
LOOKS = 10  # claims that are read in one look at the folder; of other claimed runs only whether they have ended is seen
_POLL_SHARE, _MOST_POLLS = 0.1, 8  # pause as a part of the time waited so far, up to so many usual pauses
_POLL_SECONDS_EACH = 0.03  # pause for each run that others carry out, where that is longer than the usual pause


@dataclass(frozen=True)
class RunState:
    """What one look at a run saw."""

    ended: bool
    """Whether the run has ended, or has failed and should not be tried again."""
    run: StoredRun | None
    """Its record, if there is one."""
    holder: Holder | None = None
    """Who claimed it last, if it has not ended."""


class SharedFolderExecutor:
    """Carries out the runs that no other process has claimed, and waits for those of the others.

    `--engine shared` of `compare`. All processes see the study's folder under the same path, and the data and models
    that it names.
    """

    def __init__(
        self,
        layout: Layout = WHOLE_MACHINE,
        *,
        inner: Callable[[Layout], Executor] = LocalExecutor,
        worker: str | None = None,
        lease_seconds: float = LEASE_SECONDS,
        poll_seconds: float = _POLL_SECONDS,
        may_take: Callable[[Job], bool] = lambda _job: True,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`inner` carries out the runs that this process has claimed.

        Args:
            layout: how these share the machine.
            inner: makes the executor.
            worker: what others see of this process; host and process id by default.
            lease_seconds: how long a claim of a process that shows no sign of life holds.
            poll_seconds: pause between two looks at the folder.
            may_take: whether this machine is fit for a run.
            clock: seconds of this process.
            sleep: waits for some of them.
        """
        self._inner = inner(layout)
        self._processes = layout.processes
        self.worker = worker or f"{socket.gethostname()}:{os.getpid()}"
        self._lease, self._poll = lease_seconds, poll_seconds
        self._may_take = may_take
        self._clock, self._sleep = clock, sleep
        self._claims: dict[Path, Claims] = {}
        self._reported: dict[str, int] = {}  # run -> number of the claim that was reported

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, trace)

    def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        """See `Executor.run`. A run that failed elsewhere is not tried again here."""
        waiting = {job.dir.name: job for job in jobs}  # runs that this process knows of and has not seen ended
        alone = True
        waited = 0.0  # since this process found a run to do
        held: dict[str, None] = {}  # runs that others carry out; the one that was looked at longest ago comes first
        while waiting:
            taken: list[tuple[Job, Claim]] = []
            done: list[str] = []  # not waiting any more; taken out at once, because a copy of all takes long
            looked_at = set(itertools.islice(held, LOOKS))
            for name, job in waiting.items():
                if len(taken) == self._processes:
                    break
                if name in held and name not in looked_at and not job.dir.has_record():
                    continue
                look = self.look_at(job)
                held.pop(name, None)
                if look.ended:
                    done.append(name)
                    if look.run is not None:
                        yield look.run
                elif self._may_take(job):
                    claims = self._claims_of(job)
                    is_held = look.holder is not None and claims.holds(look.holder)
                    claim = None if is_held else claims.take_after(look.holder, name, _now())
                    if claim is None:
                        held[name] = None
                        self.report(look, job, observer)
                        if alone:
                            break
                    else:
                        done.append(name)
                        taken.append((job, claim))
            for name in done:
                del waiting[name]
            meets_others = alone and bool(held)
            if meets_others:
                alone, waiting = False, self._from_own_place(waiting)
            if taken:
                yield from self._carry_out(taken, observer)
                waited = 0.0
            elif more := more_of(jobs):
                waiting |= self._from_own_place({job.dir.name: job for job in more})
                waited = 0.0
            elif held and not meets_others:
                pause = min(max(self._poll, waited * _POLL_SHARE), self._poll * _MOST_POLLS)
                pause = max(pause, _POLL_SECONDS_EACH * len(held))
                waited += pause
                self._sleep(pause)
            elif not held:  # what is left is for machines with more memory
                return

    def _from_own_place(self, waiting: dict[str, Job]) -> dict[str, Job]:
        """The runs of each kind, longest first; of those that take equally long, from another one on for each worker.

        If all began with the first one, each would have to look at the claims of all others before it finds a run.
        """
        part = zlib.crc32(self.worker.encode(errors="replace")) / 2**32
        found: list[Job] = []
        jobs = longest_first(waiting.values())
        for _, alike in itertools.groupby(jobs, key=lambda job: (job.kind, job.expected_seconds)):
            runs = list(alike)
            start = int(part * len(runs))
            found += runs[start:] + runs[:start]
        return {job.dir.name: job for job in found}

    def _claims_of(self, job: Job) -> Claims:
        study = study_of(job).path
        if study not in self._claims:
            self._claims[study] = Claims(study, self.worker, self._lease, self._clock)
        return self._claims[study]

    def look_at(self, job: Job) -> RunState:
        """What has become of a run, whoever carries it out."""
        run = accepted(job.dir)
        if run is not None and run.record.ended:
            self._claims_of(job).forget(job.dir.name)
            self._reported.pop(job.dir.name, None)
            return RunState(True, run)
        holder = self._claims_of(job).holder(job.dir.name)
        return RunState(holder is not None and holder.ended == "failed", run, holder)

    def report(self, look: RunState, job: Job, observer: Observer) -> None:
        """Say who carries out a run, once."""
        holder = look.holder
        if holder is not None and self._reported.get(job.dir.name) != holder.number:
            self._reported[job.dir.name] = holder.number
            observer.event(job, Note(text=f"carried out by {holder.worker} since {holder.since}"))

    def _carry_out(self, taken: Sequence[tuple[Job, Claim]], observer: Observer) -> Iterator[StoredRun]:
        """Carry out claimed runs, and yield those that count, whoever did them."""
        targets = {study_of(job).attempt_dir(job.dir.name, claim.number).name: (job, claim) for job, claim in taken}
        own: dict[str, Job] = {}
        with contextlib.ExitStack() as stack:
            for job, claim in taken:
                stack.enter_context(_beating(claim, self._lease / BEATS_IN_A_LEASE))
                stack.callback(_release_unless_ended, claim)
                attempt = _attempt(job, claim.number)
                if not _is_done(attempt):
                    own[attempt.name] = dataclasses.replace(job, dir=attempt)
                else:  # its process died between the end of the run and the rename
                    yield publish(attempt, job.dir)
                    claim.release()
            found = stack.enter_context(closed_at_the_end(self._inner.run(list(own.values()), observer)))
            for run in found:
                job, claim = targets[run.name]
                result = publish(run.dir, job.dir)
                claim.release("failed" if result.record.status == "failed" else "released")
                yield result


@contextlib.contextmanager
def _beating(claim: Claim, seconds: float) -> Iterator[None]:
    """Show in the claim that this process lives, every `seconds` seconds, from a thread."""
    ended = threading.Event()

    def beat() -> None:
        count = 1
        while True:
            with contextlib.suppress(OSError):  # a full disk, for example: others may take over
                claim.beat(count)
            count += 1
            if ended.wait(seconds):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _release_unless_ended(claim: Claim) -> None:
    if not (claim.folder / f"{claim.number}.ended").exists():
        with contextlib.suppress(OSError):
            claim.release()


def accepted(run: RunDir) -> StoredRun | None:
    """The run that counts, if there is one."""
    if not run.has_record():
        return None
    with contextlib.suppress(UserError):
        version = run.record_version()
        return StoredRun(run, run.read_record(), version)
    return None


def publish(attempt: RunDir, target: RunDir) -> StoredRun:
    """Make the folder of an attempt the run that counts, unless another attempt is that already; the run that counts.

    Renaming a folder is atomic and fails if the target holds anything, so of several attempts one is accepted.
    """
    target.path.parent.mkdir(exist_ok=True)
    with contextlib.suppress(OSError, UserError):
        attempt.remove_leftovers()  # its process may have been killed between the end of the run and this
    with contextlib.suppress(OSError):
        attempt.path.rename(target.path)
    run = accepted(target)
    if run is None:
        raise UserError(f"{attempt.path}: cannot be moved to {target.path}; look at what is there, then start again")
    return run


def study_of(job: Job) -> StudyDir:
    """The study that a run belongs to."""
    return StudyDir(job.dir.path.parent.parent)


def _attempt(job: Job, number: int) -> RunDir:
    """The folder of a new attempt, with the states of the one before it, or a finished one that was not accepted.

    Only the process with the latest claim comes here. What is in the way of a result is moved aside.
    """
    attempt_dir = functools.partial(study_of(job).attempt_dir, job.dir.name)
    attempt = attempt_dir(number)
    attempt.path.mkdir(parents=True, exist_ok=True)
    before = [attempt_dir(each) for each in range(number - 1, 0, -1)]
    if job.dir.path.exists():
        aside = attempt_dir(f"{number}-before")
        job.dir.path.rename(aside.path)
        before.append(aside)  # perhaps a result that another attempt has left there just now
    done = next((each for each in before if _is_done(each)), None)
    if done is not None:
        attempt.path.rmdir()
        done.path.rename(attempt.path)
        return attempt
    source = next((each for each in before if each.states()), None)
    if source is not None:
        for path in source.states():
            with contextlib.suppress(OSError):  # its process may still live, and save a newer one
                shutil.copy2(path, attempt.path / path.name)
    return attempt


def _is_done(run: RunDir) -> bool:
    found = accepted(run)
    return found is not None and found.record.ended


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Worked:
    """What one worker did."""

    done: int
    """Runs that this process carried out."""
    left: int
    """Known runs that nobody has carried out."""


def take_part(
    folder: Path,
    executor: SharedFolderExecutor,
    observer: Observer,
    *,
    trust_remote_code: bool = False,
    notify: Callable[[str], None] = warnings.warn,
) -> Worked:
    """Carry out runs of a shared study until none is left that this machine may take.

    Changes the working directory to the one that the study was begun in. Code of a model runs only with
    `trust_remote_code`, whatever the folder says. Raises `UserError` for a folder without a shared study, or if this
    machine cannot read what the study is about, or finds other contents there.
    """
    directory = StudyDir(folder.absolute())
    work = directory.read_work()
    if work is None and directory.is_study() and directory.load().complete:
        return Worked(0, 0)
    if work is None:
        raise UserError(
            f"{folder}: no study that is shared; start `tuneoff compare ... --engine shared --output {folder}` once, "
            "on any machine (it may be stopped again)"
        )
    directory.check_links()
    if any(model.trust_remote_code for model in work.spec.models) and not trust_remote_code:
        raise UserError(
            f"{folder}: asks to run code that comes with its model, which a folder cannot allow; add "
            "--trust-remote-code if you trust its authors"
        )
    try:
        os.chdir(work.directory)
    except (OSError, ValueError) as error:  # a null character is a ValueError
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"{folder}: was begun in {work.directory}, which this machine cannot open ({why}); data and models must be "
            "there under the same paths"
        ) from error
    counted = _Counting(observer)
    plan = directory.read_plan()
    prepared = prepare(work.spec, directory.path, keep_earlier=keeps_earlier_runs(plan), notify=notify)
    check_before_runs(prepared)
    left = take_runs(directory, work, prepared.inputs, executor, counted, prepared.stored)
    return Worked(counted.count, left)


def take_runs(
    directory: StudyDir,
    work: WorkFile,
    inputs: StudyInputs,
    executor: Executor,
    observer: Observer,
    stored: tuple[StoredRun, ...] = (),
) -> int:
    """Plan and carry out runs until none is left that this machine may take; how many known runs are left to others.

    `stored`: runs that were read before.
    """
    attempted: set[str] = set()
    planner = StudyPlanner(work.spec, directory, inputs.hashes, inputs.dataset)
    known = stored_by_id(directory.read_runs(skip_damaged=True, known=stored))
    missing: tuple[PlannedRun, ...] = ()

    def possible() -> list[Job]:
        nonlocal missing
        completed = {run_id: run.record for run_id, run in known.items()}
        missing = planner.plan(known).missing(completed)
        untried = [run for run in missing if run.run_id not in attempted]
        attempted.update(run.run_id for run in untried)
        return jobs_of(
            untried, directory, keep_texts=work.keep_texts, number_format=work.number_format, completed=completed
        )

    while jobs := OpenJobs(possible(), possible):
        with closed_at_the_end(executor.run(jobs, observer)) as runs:
            for run in runs:
                known[run.record.run_id] = run
                if planner.opens_others(run):
                    jobs.changed()
    return len(missing)


class _Counting:
    """Passes everything on, and counts the runs that ended here."""

    def __init__(self, observer: Observer) -> None:
        self._observer, self.count = observer, 0

    def started(self, job: Job) -> None:
        self._observer.started(job)

    def event(self, job: Job, event: Event) -> None:
        self._observer.event(job, event)

    def ended(self, job: Job, run: StoredRun) -> None:
        self.count += run.record.ended
        self._observer.ended(job, run)
