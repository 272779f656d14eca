"""What a task of Ray does: it carries out one run on the node that it was sent to, as `tuneoff work` does.

A task receives and returns JSON, so nothing of tuneoff is pickled but the name of `carry_out_task`. The run is claimed
in the study's folder, and its result is accepted by one rename (`tuneoff.study.shared_folder`): a task that Ray takes
for lost, and that goes on all the same, changes nothing.
"""

import functools
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tuneoff import data, models
from tuneoff.engine.precision import NumberFormat
from tuneoff.errors import RunFailure, UserError
from tuneoff.prompts import field_names
from tuneoff.results.run_claims import Worker
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import NUMERICS_VERSION
from tuneoff.results.study_dir import StudyDir
from tuneoff.spec import DataSpec, ModelSpec, RunSpec
from tuneoff.spec.run import Frozen
from tuneoff.study.executor import Executor, Job, LocalExecutor, Observer, SilentObserver
from tuneoff.study.launcher import Layout
from tuneoff.study.run_id import run_id_of
from tuneoff.study.shared_folder import SharedFolderExecutor


class RayTask(Frozen):
    """One run, and how its node is to carry it out."""

    directory: str
    """Where the study was begun: relative paths of data and models start there."""
    study: str
    """The study's folder, which all nodes see under this path."""
    spec: RunSpec
    run_id: str
    name: str
    keep_texts: bool
    number_format: NumberFormat | None
    worker: str
    """What the claims of this task are called. No other task has this name."""
    threads: int
    processes: int
    """Tasks that share the node."""
    numerics: int = NUMERICS_VERSION

    @property
    def job(self) -> Job:
        """The run as an executor takes it."""
        folder = StudyDir(Path(self.study)).run_dir(f"{self.name}-{self.run_id}")
        return Job(self.spec, self.run_id, self.name, folder, self.keep_texts, self.number_format)


class RayAnswer(Frozen):
    """How a task has ended."""

    node: str
    refused: str | None = None
    """Why the node cannot carry out the run, as a sentence; None if it did."""


def carry_out_task(task: str) -> str:
    """Carry out the `RayTask` in the JSON text `task`; the JSON text of a `RayAnswer`. Called in a process of Ray."""
    return answer_to(task, _check_node, _warm_executor)


def answer_to(task: str, check: Callable[[RayTask], None], inner: Callable[[Layout], Executor]) -> str:
    """As `carry_out_task`. `check` raises `UserError` for a run that does not suit this node; `inner` does the run."""
    asked, node = RayTask.model_validate_json(task), socket.gethostname()
    worker, layout = f"{asked.worker} {node}:{os.getpid()}", Layout(asked.processes, asked.threads)
    try:
        check(asked)
        with SharedFolderExecutor(inner=lambda _layout: inner(layout), worker=worker) as shared:
            for _ in shared.run([asked.job], SilentObserver()):
                pass
    except (UserError, RunFailure) as error:
        return RayAnswer(node=node, refused=str(error)).model_dump_json()
    return RayAnswer(node=node).model_dump_json()


def _check_node(asked: RayTask) -> None:
    """Raise `UserError` unless a run here has the same inputs and the same numerics as one where the study began."""
    if asked.numerics != NUMERICS_VERSION:
        raise UserError(
            f"has version {NUMERICS_VERSION} of tuneoff's numerics, and the study has version {asked.numerics}; "
            "install the same tuneoff on all nodes"
        )
    if not StudyDir(Path(asked.study)).is_begun():
        raise UserError(f"does not see {asked.study}; the study's folder must be on a disk that all nodes share")
    try:
        os.chdir(asked.directory)
    except OSError as error:
        raise UserError(
            f"cannot open {asked.directory} ({error.strerror}), where the study was begun; data and models must be "
            "there under the same paths"
        ) from error
    hashes = _model_hash(asked.spec.model), _data_hash(asked.spec.data, asked.spec.prompt.instruction)
    if run_id_of(asked.spec, *hashes) != asked.run_id:
        raise UserError("finds other data or another model than the study was begun with; copy them there again")


@functools.lru_cache(maxsize=8)
def _model_hash(spec: ModelSpec) -> str:
    return models.model_content_hash(spec)


@functools.lru_cache(maxsize=8)
def _data_hash(spec: DataSpec, instruction: str) -> str:
    return data.load_dataset(spec, field_names(instruction)).content_hash


def _warm_executor(layout: Layout) -> Executor:
    # Ray gives each task devices of its own, and a process of Ray does one task after another.
    return _Warm.executor(layout, os.environ.get("CUDA_VISIBLE_DEVICES"))


class _Warm:
    """An executor that stays open for the next task: the imports of its process take seconds."""

    _kept: "tuple[tuple[Layout, str | None], _Warm] | None" = None

    def __init__(self, layout: Layout) -> None:
        self._local = LocalExecutor(alone=layout)

    @classmethod
    def executor(cls, layout: Layout, devices: str | None) -> "_Warm":
        """The open executor, or a new one if it has another layout or other devices."""
        if cls._kept is None or cls._kept[0] != (layout, devices):
            cls._close()
            cls._kept = (layout, devices), cls(layout)
        return cls._kept[1]

    @classmethod
    def _close(cls) -> None:
        if cls._kept is not None:
            cls._kept[1]._local.__exit__(None, None, None)
            cls._kept = None

    def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        return self._local.run(jobs, observer)

    def capacity(self) -> int:
        return self._local.capacity()

    def health(self) -> Sequence[Worker]:
        return self._local.health()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._close()
