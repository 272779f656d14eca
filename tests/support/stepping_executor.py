"""An executor whose runs take steps, keep a state like a training does, and can be killed at any moment."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tuneoff.results.json_files import write_text_atomic
from tuneoff.results.run_claims import Worker
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import Record
from tuneoff.results.study_dir import StudyDir
from tuneoff.spec import RunSpec
from tuneoff.study.executor import Job, Observer
from tuneoff.study.launcher import Layout
from tuneoff.study.shared_folder import SharedFolderExecutor

STEPS = 4
LEASE = 0.6


class SteppingExecutor:
    """Each run takes `STEPS` steps of `seconds` s. Its record notes the steps that it took itself."""

    def __init__(self, _layout: Layout, *, seconds: float = 0.0, last_step: int = STEPS) -> None:
        """With a `last_step` before the last one, a run stops there, as if its process had died."""
        self._seconds, self._last_step = seconds, last_step
        self._at_work: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def capacity(self) -> int:
        return 1

    def health(self) -> list[Worker]:
        return self._at_work

    def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        for job in jobs:
            self._at_work = [Worker(f"process {os.getpid()}", job.dir.name)]
            observer.started(job)
            run = StoredRun(job.dir, self._carry_out(job))
            self._at_work = []
            observer.ended(job, run)
            yield run

    def _carry_out(self, job: Job) -> Record:
        state = job.dir.path / "checkpoint.safetensors"
        first = int(state.read_text()) if state.exists() else 0
        for step in range(first, STEPS):
            if step == self._last_step:
                raise KeyboardInterrupt
            time.sleep(self._seconds)
            write_text_atomic(state, str(step + 1))
        job.dir.write_predictions([])
        record = Record(
            run_id=job.run_id,
            name=job.name,
            status="finished",
            started_at="now",
            spec=job.spec,
            notes=(f"{first} to {STEPS}",),
        )
        job.dir.write_record(record)
        state.unlink(missing_ok=True)  # whoever publishes the run removes it too
        return record


def jobs_in(study: Path, count: int) -> list[Job]:
    spec = RunSpec.model_validate(
        {"model": {"name": "m"}, "prompt": {}, "method": {"name": "zero_shot"}, "data": {"source": "starter"}}
    )
    folder = StudyDir(study)
    return [
        Job(spec, f"{number:016x}", f"run{number}", folder.run_dir(f"run{number}-{number:016x}"))
        for number in range(count)
    ]


def shared_executor(lease: float = LEASE, **settings: float) -> SharedFolderExecutor:
    return SharedFolderExecutor(
        inner=lambda layout: SteppingExecutor(layout, **settings),  # type: ignore[arg-type]
        worker=f"worker {os.getpid()}",
        lease_seconds=lease,
        poll_seconds=0.02,
    )
