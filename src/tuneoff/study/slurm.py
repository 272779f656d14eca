"""Runs of one study by an array of workers that SLURM starts: `--engine slurm`.

The array runs `tuneoff work` on the study's folder, which must be on a file system that the nodes share. This process
submits it and waits for the records. A task that is preempted saves its state and is queued again.
"""

import itertools
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from tuneoff.errors import UserError
from tuneoff.regular_files import read_limited
from tuneoff.results.events import Note
from tuneoff.results.json_files import write_text_atomic
from tuneoff.results.run_claims import Worker
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.study_dir import StudyDir
from tuneoff.study.executor import Job, Observer
from tuneoff.study.launcher import Layout
from tuneoff.study.shared_folder import SharedFolderExecutor, look_at_server, study_of
from tuneoff.text import parse_duration, plural, sanitize

_POLL_SECONDS = 2.0
# The queue is asked rarely: every user of a cluster asks the same daemon.
_QUEUE_SECONDS = 60.0
_SEEN_SECONDS = 60.0  # until a client of a network file system shows what workers left last
_NUMBER = re.compile(r"[1-9][0-9]*")
_MEMORY = re.compile(r"[1-9][0-9]*[KMGT]B?", re.IGNORECASE)
_MOST_BYTES = 100  # of the number of a job
_LOOKS = 100  # runs that are looked at in one look at the folder
_WARNING_SECONDS = 60  # before the time limit; a run needs up to 30 s to save its state


class SlurmExecutor:
    """Submits an array of workers, and yields the runs that they carry out.

    The workers go on when this process ends; the same command waits for them again, and submits new ones only if none
    is left in the queue.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        workers: str = "4",
        time: str = "4h",
        memory: str | None = None,
        cpus: str | None = None,
        partition: str | None = None,
        account: str | None = None,
        poll_seconds: float = _POLL_SECONDS,
        queue_seconds: float = _QUEUE_SECONDS,
    ) -> None:
        """Raises `UserError` for a setting that is not possible, or without `sbatch`.

        Args:
            layout: must be one run at a time: concurrent runs are more workers.
            workers: tasks of the array, at most one for each run.
            time: limit of a task, such as 4h.
            memory: of a task, such as 16G; runs that need more are left for others.
            cpus: processors of a task.
            partition: of the cluster.
            account: that the time is charged to.
            poll_seconds: pause between two looks at the folder.
            queue_seconds: time between two looks at the queue.
        """
        if layout.processes > 1:
            raise UserError("--workers: with --engine slurm, set the number of tasks: --engine slurm:workers=8")
        if not _NUMBER.fullmatch(workers) or int(workers) > 10_000:
            raise UserError(f"--engine slurm: workers={workers}: a number of tasks was expected")
        if cpus is not None and not _NUMBER.fullmatch(cpus):
            raise UserError(f"--engine slurm: cpus={cpus}: a number of processors was expected")
        seconds = parse_duration(time)
        if not seconds:
            raise UserError(f"--engine slurm: time={time}: a time such as 4h or 90m was expected")
        # A number without a unit is megabytes for SLURM and bytes for `tuneoff work`. SLURM reads no fractions.
        if memory is not None and not _MEMORY.fullmatch(memory):
            raise UserError(f"--engine slurm: memory={memory}: a whole number with a unit was expected, such as 16G")
        for name, value in (("partition", partition), ("account", account)):
            if value is not None and not re.fullmatch(r"[A-Za-z0-9._-]+", value):
                raise UserError(f"--engine slurm: {name}={value}: only letters, digits, '.', '_' and '-' are possible")
        if shutil.which("sbatch") is None:
            raise UserError("--engine slurm: there is no sbatch on this machine; use a login node of the cluster")
        self._workers, self._seconds = int(workers), seconds
        self._memory, self._cpus, self._partition, self._account = memory, cpus, partition, account
        self._poll, self._queue = poll_seconds, queue_seconds
        self._watched = SharedFolderExecutor(may_take=lambda _job: False)
        self._team: list[Worker] = []  # what `health` saw last

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        """See `Executor.run`. Closing the iterator stops no worker: `scancel` does.

        Raises `UserError` if the workers end before the runs do.
        """
        if not jobs:
            return
        study = study_of(jobs[0])
        waiting = {job.dir.name: job for job in jobs}
        number = self._number_in_queue(study) or self._submit(study, min(self._workers, len(jobs)))
        observer.event(jobs[0], Note(text=f"SLURM job {number}; `scancel {number}` stops its workers"))
        asked = time.monotonic()
        gone: float | None = None  # since when the job is not in the queue
        while True:
            look_at_server(study.path / "runs")
            for name in list(itertools.islice(waiting, _LOOKS)):
                job = waiting.pop(name)
                look = self._watched.look_at(job)
                self._watched.report(look, job, observer)
                if not look.ended:
                    waiting[name] = job  # after those that were not looked at yet
                elif look.run is not None:
                    yield look.run
            if not waiting:
                return
            time.sleep(self._poll)
            if time.monotonic() - asked >= self._queue:
                asked = time.monotonic()
                if _is_in_queue(number) or any(self._watched.look_at(job).ended for job in waiting.values()):
                    gone = None
                elif gone is None:
                    gone = asked
                elif asked - gone >= _SEEN_SECONDS:
                    raise UserError(
                        f"SLURM job {number} has ended and {plural(len(waiting), 'run')} left to do; its logs are in "
                        f"{study.slurm}; the same command submits new workers"
                    )

    def capacity(self) -> int:
        """The workers that were at work when `health` looked last; before the first of them, those that are wanted."""
        return sum(worker.state != "lost" for worker in self._team) or self._workers

    def health(self) -> list[Worker]:
        """By the claims of the workers; those that wait in the queue have none."""
        self._team = self._watched.health()
        return self._team

    def script(self, study: StudyDir, tasks: int) -> str:
        """What is given to `sbatch`. Raises `UserError` for a folder that SLURM cannot name."""
        settings = {
            "job-name": "tuneoff",
            "array": f"0-{tasks - 1}",
            "time": str(max(1, round(self._seconds / 60))),  # minutes
            "mem": self._memory,
            "cpus-per-task": self._cpus,
            "partition": self._partition,
            "account": self._account,
            "signal": f"TERM@{_WARNING_SECONDS}",
            "output": _log_pattern(str(study.slurm)),
        }
        lines = [f"#SBATCH --{name}={shlex.quote(value)}" for name, value in settings.items() if value is not None]
        threads = 'export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"\n' if self._cpus is not None else ""
        memory = [] if self._memory is None else ["--memory", self._memory]
        # -P: modules are not looked for in the folder that the job starts in, which may be a stranger's.
        # srun of SLURM 22.05 to 23.02 does not inherit this option from sbatch.
        cpus = [] if self._cpus is None else [f"--cpus-per-task={self._cpus}"]
        command = shlex.join(["srun", *cpus, sys.executable, "-P", "-m", "tuneoff", "work", str(study.path), *memory])
        return "\n".join(["#!/bin/bash", *lines, "#SBATCH --requeue", f"{threads}exec {command}", ""])

    def _submit(self, study: StudyDir, tasks: int) -> str:
        (study.slurm).mkdir(exist_ok=True)
        done = subprocess.run(
            ["sbatch", "--parsable"],  # noqa: S607 - the scheduler of this cluster
            input=self.script(study, tasks),
            capture_output=True,
            text=True,
            check=False,
        )
        number = done.stdout.strip().partition(";")[0]
        if done.returncode or not number.isdecimal():
            said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UserError(f"--engine slurm: sbatch refuses the workers: {said}")
        write_text_atomic(study.slurm / "job", f"{number}\n")
        return number

    def _number_in_queue(self, study: StudyDir) -> str | None:
        """The array that an earlier start of this study has submitted, if a task of it is left."""
        try:
            number = read_limited(study.slurm / "job", _MOST_BYTES).decode("ascii", "replace").strip()
        except (OSError, UserError):
            return None
        return number if number.isdecimal() and _is_in_queue(number) else None


def _log_pattern(folder: str) -> str:
    """The log file of each task. Raises `UserError` for a folder that SLURM cannot name.

    In quotes, `get_argument` of sbatch drops backslashes and line breaks, and `expand_stdio_fields` reads `%` as the
    start of a field (SLURM at 284c3b9).
    """
    if "\\" in folder or "\n" in folder:
        raise UserError(
            f"--engine slurm: {sanitize(folder)}: SLURM cannot write logs to a folder with a backslash or a line break "
            "in its name; choose another --output"
        )
    return f"{folder.replace('%', '%%')}/%A_%a.log"


def _is_in_queue(number: str) -> bool:
    """Whether a task of the array is waiting or running. If the queue does not answer, it is taken to be so."""
    done = subprocess.run(  # noqa: S603 - fixed words and a number
        ["squeue", "--noheader", f"--jobs={number}"],  # noqa: S607 - the scheduler of this cluster
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return "Invalid job id" not in done.stderr
    return bool(done.stdout.strip())
