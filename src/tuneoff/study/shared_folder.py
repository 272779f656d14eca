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

from tuneoff.beside import beside
from tuneoff.errors import UserError
from tuneoff.regular_files import check_filled, open_regular
from tuneoff.results.events import Event, Note
from tuneoff.results.json_files import TEMPORARY_PREFIX
from tuneoff.results.recovery import set_aside
from tuneoff.results.run_claims import BEATS_IN_A_LEASE, LEASE_SECONDS, Claim, Claims, Holder, Worker, worker_label
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
        self.may_take = may_take
        self._clock, self._sleep = clock, sleep
        self._claims: dict[Path, Claims] = {}
        self._watched: dict[Path, Claims] = {}  # the same for `health`, which another thread calls
        self._team: list[Worker] = []  # what that saw last
        self._ended: set[str] = set()  # runs
        self._reported: dict[str, tuple[int, str]] = {}  # run -> number and worker of the claim that was reported

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, trace)

    def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        """See `Executor.run`. A run that failed elsewhere is not tried again here."""
        search = _Search(self, jobs, observer)
        waited = 0.0  # since this process found a run to do
        while search.waiting:
            met_others = not search.alone
            ended, taken = search.claim(self._processes)
            yield from ended
            if taken:
                yield from self._carry_out(taken, search, observer)
                waited = 0.0
            elif search.look_for_more():
                waited = 0.0
            elif search.held and met_others:
                pause = min(max(self._poll, waited * _POLL_SHARE), self._poll * _MOST_POLLS)
                pause = max(pause, _POLL_SECONDS_EACH * len(search.held))
                waited += pause
                self._sleep(pause)
            elif not search.held:  # what is left is for machines with more memory
                return

    def capacity(self) -> int:
        """What this process can do, and the runs that others carried out when `health` looked last."""
        others = [worker for worker in self._team if worker.name != self.worker and worker.state != "lost"]
        return self._inner.capacity() + len(others)

    def health(self) -> list[Worker]:
        """By the claims of all workers: this one, `tuneoff work` on other machines, tasks of a cluster."""
        team: list[Worker] = []
        for study in list(self._claims):
            watched = self._watched.setdefault(study, Claims(study, self.worker, self._lease, self._clock))
            team += watched.workers(self._ended)
        self._team = team
        return team

    def claims_of(self, job: Job) -> Claims:
        """The claims of the study that a run belongs to."""
        study = study_of(job).path
        if study not in self._claims:
            self._claims[study] = Claims(study, self.worker, self._lease, self._clock)
        return self._claims[study]

    def look_at(self, job: Job) -> RunState:
        """What has become of a run, whoever carries it out."""
        run = accepted(job.dir)
        if run is not None and run.record.ended:
            self.claims_of(job).forget(job.dir.name)
            self.needs_no_look(job)
            return RunState(True, run)
        holder = self.claims_of(job).holder(job.dir.name)
        return RunState(holder is not None and holder.ended == "failed", run, holder)

    def needs_no_look(self, job: Job) -> None:
        """A run has ended: `health` leaves its claims out."""
        self._ended.add(job.dir.name)

    def report(self, look: RunState, job: Job, observer: Observer) -> None:
        """Say who carries out a run, once, and who was lost before; or how it has ended there."""
        holder, (reported, worker) = look.holder, self._reported.get(job.dir.name, (0, ""))
        if look.ended:
            self._reported.pop(job.dir.name, None)
            # Claims of runs that have ended are not read for that: every worker would read those of all others.
            worker = worker or next((each.name for each in self._team if each.run == job.dir.name), "")
            if look.run is not None and worker:
                text = f"{look.run.record.status}, carried out by {worker_label(worker)}"
                observer.event(job, Note(text=text))
        elif holder is not None and holder.number != reported:
            self._reported[job.dir.name] = holder.number, holder.worker
            text = f"carried out by {worker_label(holder.worker)} since {holder.since}"
            if (lost := self.claims_of(job).lost_before(job.dir.name, holder.number)) is not None:
                text += f"; {worker_label(lost)}, which had it before, was lost"
            observer.event(job, Note(text=text))

    def _carry_out(
        self, taken: Sequence[tuple[Job, Claim]], search: "_Search", observer: Observer
    ) -> Iterator[StoredRun]:
        """Carry out claimed runs, and yield those that count, whoever did them."""
        with contextlib.closing(_ClaimedJobs(taken, search, self._lease, self._poll, self._clock)) as claimed:
            yield from claimed.results()
            with closed_at_the_end(self._inner.run(claimed, observer)) as found:
                for run in found:
                    claimed.publish(run)
                    yield from claimed.results()
            yield from claimed.results()  # a free worker may have looked for more runs after the last one had ended


class _Search:
    """The runs that one call of `SharedFolderExecutor.run` knows of and has not seen ended."""

    def __init__(self, executor: SharedFolderExecutor, jobs: Sequence[Job], observer: Observer) -> None:
        self._executor, self._jobs, self._observer = executor, jobs, observer
        self.waiting = {job.dir.name: job for job in jobs}
        self.alone = True
        """Whether no other process has been met."""
        self.held: dict[str, None] = {}
        """Runs that others carry out; the one that was looked at longest ago comes first."""

    def has_later_claim(self, job: Job, claim: Claim) -> bool:
        """Whether another process has taken a run over, because this one showed no sign of life."""
        holder = self._executor.claims_of(job).holder(job.dir.name)
        return holder is not None and holder.number > claim.number

    def needs_no_look(self, job: Job) -> None:
        """A run has ended here."""
        self._executor.needs_no_look(job)

    def report_taken_over(self, job: Job, claim: Claim) -> None:
        """Say that this process goes on with a run, if the worker before was lost."""
        if (lost := self._executor.claims_of(job).lost_before(claim.run, claim.number)) is not None:
            text = f"{worker_label(lost)}, which had it before, was lost; {self._executor.worker} goes on with it"
            self._observer.event(job, Note(text=text))

    def claim(self, most: int) -> tuple[list[StoredRun], list[tuple[Job, Claim]]]:
        """Look through the runs once: those that have ended, and up to `most` that are claimed now."""
        ended: list[StoredRun] = []
        taken: list[tuple[Job, Claim]] = []
        done: list[str] = []  # not waiting any more; taken out at once, because a copy of all takes long
        if self.waiting:
            look_at_server(next(iter(self.waiting.values())).dir.path.parent)
        looked_at = set(itertools.islice(self.held, LOOKS))
        for name, job in self.waiting.items():
            if len(taken) == most:
                break
            if name in self.held and name not in looked_at and not job.dir.has_record():
                continue
            look = self._executor.look_at(job)
            self.held.pop(name, None)
            if look.ended:
                done.append(name)
                self._executor.report(look, job, self._observer)
                if look.run is not None:
                    ended.append(look.run)
            elif self._executor.may_take(job):
                claims = self._executor.claims_of(job)
                is_held = look.holder is not None and claims.holds(look.holder)
                claim = None if is_held else claims.take_after(look.holder, name, _now())
                if claim is None:
                    self.held[name] = None
                    self._executor.report(look, job, self._observer)
                    if self.alone:
                        break
                else:
                    done.append(name)
                    taken.append((job, claim))
        for name in done:
            del self.waiting[name]
        if self.alone and self.held:
            self.alone, self.waiting = False, self._from_own_place(self.waiting)
        return ended, taken

    def wait_for(self, job: Job) -> None:
        """A run that was claimed here is carried out by another process now."""
        self.waiting[job.dir.name] = job

    def look_for_more(self) -> bool:
        """Add runs that have become possible; whether there are any."""
        more = more_of(self._jobs)
        self.waiting |= self._from_own_place({job.dir.name: job for job in more})
        return bool(more)

    def _from_own_place(self, waiting: dict[str, Job]) -> dict[str, Job]:
        """The runs of each kind, longest first; of those that take equally long, from another one on for each worker.

        If all began with the first one, each would have to look at the claims of all others before it finds a run.
        """
        part = zlib.crc32(self._executor.worker.encode(errors="replace")) / 2**32
        found: list[Job] = []
        jobs = longest_first(waiting.values())
        for _, alike in itertools.groupby(jobs, key=lambda job: (job.kind, job.expected_seconds)):
            runs = list(alike)
            start = int(part * len(runs))
            found += runs[start:] + runs[:start]
        return {job.dir.name: job for job in found}


class _ClaimedJobs(OpenJobs):
    """Claimed runs as an executor takes them, each in the folder of an attempt. A free worker of it claims another.

    Their claims show that this process lives, until a run has ended, or until `close`.
    """

    def __init__(
        self,
        taken: Sequence[tuple[Job, Claim]],
        search: _Search,
        lease: float,
        poll: float,
        clock: Callable[[], float],
    ) -> None:
        super().__init__((), plan=lambda: ())
        self._search, self._lease, self._poll, self._clock = search, lease, poll, clock
        self._claims: dict[str, tuple[Job, Claim, contextlib.ExitStack]] = {}  # by the name of the attempt
        self._results: list[StoredRun] = []
        self._next_look = 0.0
        try:
            self.extend(self._begun(taken))
        except BaseException:
            self.close()
            raise

    def more(self) -> Sequence[Job]:
        """Another run, if one can be claimed; the folder is looked at as often as by a process that waits."""
        if self._clock() < self._next_look:
            return ()
        ended, taken = self._search.claim(1)
        if not taken and self._search.look_for_more():
            further, taken = self._search.claim(1)
            ended += further
        self._results += ended
        self._next_look = self._clock() + (0.0 if taken else self._poll)
        return self._begun(taken)

    def publish(self, run: StoredRun) -> None:
        """Let a run that has ended here count, unless another process goes on with it."""
        job, claim, stack = self._claims.pop(run.name)
        with stack:
            if not run.record.ended and self._search.has_later_claim(job, claim):
                self._search.wait_for(job)
                return
            # On a full disk a run leaves no record.
            result = publish(run.dir, job.dir) if run.dir.has_record() else StoredRun(job.dir, run.record)
            self._results.append(result)
            if result.record.ended:
                self._search.needs_no_look(job)
            has_failed = not result.record.ended and result.record.status != "interrupted"
            with contextlib.suppress(OSError):
                claim.release("failed" if has_failed else "released")

    def results(self) -> list[StoredRun]:
        """Runs that have ended since the last call, here or elsewhere."""
        found, self._results = self._results, []
        return found

    def close(self) -> None:
        """End the claims of runs that have not ended: others need not wait for a lease."""
        with contextlib.ExitStack() as every:
            for _, _, stack in self._claims.values():
                every.push(stack)
            self._claims.clear()

    def _begun(self, taken: Sequence[tuple[Job, Claim]]) -> list[Job]:
        jobs = []
        for job, claim in taken:
            with contextlib.ExitStack() as stack:
                stack.enter_context(_beating(claim, self._lease / BEATS_IN_A_LEASE))
                stack.callback(_release_unless_ended, claim)
                look_at_server(job.dir.path.parent)
                if (run := accepted(job.dir)) is not None and run.record.ended:  # just before it was claimed here
                    self._results.append(run)
                    continue
                attempt = _attempt(job, claim.number)
                if _is_done(attempt):  # its process died between the end of the run and the rename
                    self._results.append(publish(attempt, job.dir))
                else:
                    self._search.report_taken_over(job, claim)
                    self._claims[attempt.name] = job, claim, stack.pop_all()
                    jobs.append(dataclasses.replace(job, dir=attempt))
        return jobs


def _beating(claim: Claim, seconds: float) -> contextlib.AbstractContextManager[None]:
    """Inside, the claim shows every `seconds` seconds that this process lives."""

    def beat(ended: threading.Event) -> None:
        count = 1
        while True:
            with contextlib.suppress(OSError):  # a full disk, for example: others may take over
                claim.beat(count)
            count += 1
            if ended.wait(seconds):
                return

    return beside(beat)


def look_at_server(folder: Path) -> None:
    """Have a client of NFS ask its server for the names in a folder; for some time, it trusts what it has not found."""
    with contextlib.suppress(OSError):
        os.close(os.open(folder, os.O_RDONLY))


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

    Renaming a folder is atomic and fails if the target holds anything, so of several attempts one is accepted. A run
    that has ended takes the place of one that has failed or was interrupted.
    """
    target.path.parent.mkdir(exist_ok=True)
    with contextlib.suppress(OSError, UserError):
        attempt.remove_leftovers()  # its process may have been killed between the end of the run and this
    with contextlib.suppress(OSError):
        attempt.path.rename(target.path)
    look_at_server(target.path.parent)
    run = accepted(target)
    if run is not None and not run.record.ended and _is_done(attempt):
        with contextlib.suppress(OSError):
            target.path.rename(attempt.path.with_name(f"{attempt.name}-other"))
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
    if job.dir.has_record() and accepted(job.dir) is None:
        set_aside(study_of(job), job.dir.path)  # damaged, so it is kept
    if job.dir.path.exists():
        # Perhaps a result that another attempt has left there just now.
        job.dir.path.rename(attempt_dir(f"{number}-before").path)
    # What was in the way of an attempt is older than its own states.
    before = [attempt_dir(f"{number}-before")]
    for each in range(number - 1, 0, -1):
        before += [attempt_dir(each), attempt_dir(f"{each}-before")]
    done = next((each for each in before if _is_done(each)), None)
    if done is not None:
        attempt.path.rmdir()
        with contextlib.suppress(FileNotFoundError):  # a process that slept has moved it just now
            done.path.rename(attempt.path)
            return attempt
        attempt.path.mkdir()
    # One whose process was killed while it copied states has none that training resumes from.
    source = next((each for each in before if any(map(_is_state, each.states()))), None)
    if source is not None:
        for path in sorted(source.states(), key=lambda path: (_is_state(path), path.name)):
            part = attempt.path / f"{TEMPORARY_PREFIX}{path.name}"
            # Its process may still live, and save a newer one. A link and a hole are left where they are.
            with contextlib.suppress(OSError, UserError):
                if not path.is_symlink():
                    _copy_file(path, part)
                    part.replace(attempt.path / path.name)
    return attempt


def _copy_file(path: Path, target: Path) -> None:
    """Copy a regular file. Raises `OSError`, and `UserError` for anything else and for a file that is mostly a hole."""
    with open_regular(path) as stream, target.open("wb") as copy:
        check_filled(path.name, stream.fileno())
        shutil.copyfileobj(stream, copy, 1 << 20)
    shutil.copymode(path, target)


def _is_state(path: Path) -> bool:
    """Whether training resumes from this file; the best weights alone are not enough."""
    return path.name.startswith("checkpoint")


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
