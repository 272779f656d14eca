"""A real study of tiny trainings, carried out once undisturbed, that can be started again and again in a second."""

import functools
import math
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from support.study_folders import read_record
from support.study_results import differences, results_of
from support.warm_command import Mark, Prepare, Role, Running, WarmCommand, nothing, without_drawing
from tuneoff import api, cli, run
from tuneoff.engine import checkpoint
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.verification import verify
from tuneoff.study.executor import Job, Observer

_STARTS = 3
_RESUMED = re.compile(r"training resumed after step (\d+)")


class HereExecutor:
    """Carries out runs in this process, so that all that they import is there for its forks."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        for job in jobs:
            observer.started(job)
            stored = StoredRun(job.dir, run.run(job.spec, job.dir.path, job.run_id, job.name))
            observer.ended(job, stored)
            yield stored


def import_all(arguments: Sequence[str], folder: Path) -> None:
    """Carry out a command in this process once."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), without_drawing():
        warnings.simplefilter("ignore")  # as the program does
        patch.setattr(api, "open_executor", lambda *_arguments: HereExecutor())
        patch.setattr(sys, "stdout", sys.__stdout__)
        code = cli.main([*arguments, f"--output={folder}", "--quiet"])
    assert code == 0, f"an undisturbed study ended with {code}"
    shutil.rmtree(folder)


def states_at_each_step(_role: Role) -> None:
    """Training keeps a state at each step; otherwise it does so once a minute, so tiny ones would have none."""
    vars(run)["Checkpoints"] = functools.partial(checkpoint.Checkpoints, min_seconds=-math.inf)
    checkpoint._MAX_TIME_FRACTION = math.inf


@dataclass(frozen=True)
class WarmStudy:
    """A study, what it leaves if nothing disturbs it, and the marks that it then writes."""

    flags: tuple[str, ...]
    folder: Path
    output: Path
    results: Mapping[str, bytes] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()

    @classmethod
    def carried_out(cls, flags: Sequence[str], scratch: Path, prepare: Prepare = nothing) -> "WarmStudy":
        """Carry it out below `scratch`, and remove its folder."""
        study = cls(tuple(flags), scratch / "study", scratch / "output")
        whole = study.command.carry_out(prepare)
        assert whole.code == 0, whole.said
        results = results_of(study.folder)
        study.remove()
        return cls(study.flags, study.folder, study.output, results, tuple(whole.marks))

    @property
    def command(self) -> WarmCommand:
        """The command of the study."""
        arguments = ("compare", *self.flags, f"--output={self.folder}", "--quiet")
        return WarmCommand(arguments, self.folder, self.output)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def finished(self, prepare: Prepare = nothing) -> Running:
        """Give the same command until no run is missing: a run that failed is repeated by the next start only."""
        for _ in range(_STARTS):
            last = self.command.carry_out(prepare)
            if last.code not in (cli.FAILED, cli.SOME_FAILED):
                break
        return last

    def resumed_after(self, name: str) -> int:
        """The step after which the training of the run in the folder `name` was resumed; 0 if it was not."""
        notes = read_record(self.folder / "runs" / name).notes
        return next((int(found[1]) for note in notes if (found := _RESUMED.search(note))), 0)

    def faults(self) -> list[str]:
        """What of the folder is not as if nothing had happened: results, leftovers, files that are not whole."""
        found = differences(dict(self.results), self.folder)
        if not found:
            states = {file.path: file.state for file in verify(self.folder)}
            found = [f"{path}: {state}" for path, state in states.items() if state not in ("whole", "left out")]
        return found
