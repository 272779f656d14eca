"""An executor that writes records and predictions without any process: what a run would leave, in no time."""

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from support.planned import curve_of, resources_of
from tuneoff.results.run_claims import Worker
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import (
    NUMERICS_VERSION,
    Artefact,
    Failure,
    Prediction,
    Provenance,
    Record,
    Status,
)
from tuneoff.study.executor import Job, Observer
from tuneoff.study.jobs import more_of

TEXT = "words that a model wrote"


def finished(_job: Job) -> Status:
    return "finished"


class FakeExecutor:
    """Carries out jobs at once. `status` decides how each ends; `test_ids` are what final runs write texts for.

    `scores`: (N,) ROUGE-1 of the N texts of a job. `interrupt_at`: name of the run that is written and then not
    yielded, because Ctrl-C comes.
    """

    def __init__(
        self,
        test_ids: Sequence[str] = (),
        *,
        status: Callable[[Job], Status] = finished,
        scores: Callable[[Job], Sequence[float]] | None = None,
        processes: int = 1,
        interrupt_at: str | None = None,
    ) -> None:
        self._test_ids, self._status, self._processes = test_ids, status, processes
        self._scores = scores or (lambda _job: [10.0] * len(self._test_ids))
        self._interrupt_at = interrupt_at
        self.rounds: list[list[str]] = []
        self._at_work: list[Worker] = []

    @property
    def names(self) -> list[str]:
        """Names of all runs in the order in which they were carried out."""
        return [name for names in self.rounds for name in names]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def capacity(self) -> int:
        return self._processes

    def health(self) -> list[Worker]:
        return self._at_work

    def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        self.rounds.append([])
        for job in jobs:
            self.rounds[-1].append(job.name)
            self._at_work = [Worker("fake", job.dir.name)]
            observer.started(job)
            run = StoredRun(job.dir, self._carry_out(job))
            self._at_work = []
            if job.name == self._interrupt_at:
                raise KeyboardInterrupt
            observer.ended(job, run)
            yield run

    def _carry_out(self, job: Job) -> Record:
        status = self._status(job)
        rate = job.spec.method.hyperparameters.get("learning_rate")
        loss = 1.0 + abs(float(rate) - 1e-3) if isinstance(rate, float) else 1.0
        done = status == "finished"
        record = Record(
            run_id=job.run_id,
            name=job.name,
            status=status,
            spec=job.spec.without_paths(),
            started_at="2026-01-01T00:00:00+00:00",
            finished_at="2026-01-01T00:00:01+00:00",
            failure=None if done else Failure(type="Test", message=f"made to be {status}"),
            curve=curve_of({1: loss} if done else {}),
            resources=resources_of(processes=self._processes, train=1.0, evaluate=1.0, generate=1.0),
            artefact=self._artefact(job) if done and job.spec.role == "final" else None,
            provenance=Provenance(numerics_version=NUMERICS_VERSION),
        )
        if done and job.spec.role == "final":
            job.dir.write_predictions(
                Prediction(id=each, text=f"{TEXT} {score:g}", scores={"rouge1": score, "empty": 0.0})
                for each, score in zip(self._test_ids, self._scores(job), strict=True)
            )
        job.dir.write_record(record)
        return record

    def _artefact(self, job: Job) -> Artefact:
        if job.spec.method.name != "few_shot":
            return Artefact(format="none", bytes=0)
        job.dir.artefact.mkdir(parents=True, exist_ok=True)
        (job.dir.artefact / "prompt.json").write_text(f'"{TEXT}"')
        return Artefact(format="prompt", bytes=1, files=("prompt.json",))


class EagerExecutor(FakeExecutor):
    """Asks for more runs after each, and takes the newest first: the order that is farthest from the planned one."""

    def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        waiting = list(jobs)
        while waiting:
            yield from super().run([waiting.pop()], observer)
            waiting += more_of(jobs)
