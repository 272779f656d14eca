"""A disk that is full, or a limit on the size of files, in the command or in its runs; then there is room again."""

import errno
import os
import random
import resource
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from support.file_operations import changed_path
from support.study_folders import read_record
from support.warm_command import Role, Running
from support.warm_study import WarmStudy, states_at_each_step
from tuneoff.results.events import Event, EventWriter

_LARGEST_FILE = 200_000  # more than any file of the study has


@dataclass
class FullDisk:
    """The file operation `at` of each process of this role, below a folder, finds no room; if it lasts, all later ones.

    To remove a file needs none.
    """

    role: Role
    at: int
    folder: str
    lasting: bool
    count: int = 0
    pid: int = 0

    def __call__(self, role: Role) -> None:
        states_at_each_step(role)
        if role == self.role:
            self.pid = os.getpid()
            sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        path = changed_path(event, arguments)
        if os.getpid() != self.pid:  # a fork of it has the hook too
            return
        if event == "os.remove" or path is None or not path.startswith(self.folder):
            return
        self.count += 1
        if self.count == self.at or (self.lasting and self.count > self.at):
            raise OSError(errno.ENOSPC, "No space left on device", path)


@dataclass(frozen=True)
class SmallFiles:
    """No file of a process of this role may have more than so many bytes."""

    role: Role
    most_bytes: int

    def __call__(self, role: Role) -> None:
        states_at_each_step(role)
        if role == self.role:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.most_bytes, resource.RLIM_INFINITY))


@dataclass
class FullEvents:
    """The file of events is on a full disk from the event `at` of each run on. It is open, so no operation is seen."""

    at: int
    count: int = 0

    def __call__(self, role: Role) -> None:
        states_at_each_step(role)
        if role == "run":
            real = EventWriter.append

            def append(writer: EventWriter, event: Event) -> None:
                self.count += 1
                if self.count == self.at:
                    os.dup2(os.open("/dev/full", os.O_WRONLY), writer._stream.fileno())
                real(writer, event)

            EventWriter.append = append  # type: ignore[method-assign,assignment]


def says_where(study: WarmStudy, running: Running) -> bool:
    """Whether a path below the study is in what was said, or in the record of a run."""
    records = [read_record(path.parent) for path in study.folder.glob("runs/*/record.json")]
    texts = [running.said, *(record.failure.message for record in records if record.failure)]
    texts += [note for record in records for note in record.notes]
    return any(str(study.folder) in text for text in texts)


@pytest.mark.slow
def test_a_full_disk_is_said_and_costs_no_result(warm_study: WarmStudy, full: bool, seed: int) -> None:
    draw, codes = random.Random(28 + seed), Counter[int | None]()
    operations = Counter(mark.role for mark in warm_study.marks)
    events = sum(mark.what.startswith("event ") for mark in warm_study.marks) // 2
    trials = 60 if full else 1
    for trial in range(trials):
        role: Role = ("parent", "run")[trial % 2]
        most = operations[role] // (2 if role == "run" else 1)  # each of the two runs has half of them
        fault: FullDisk | SmallFiles | FullEvents = SmallFiles(role, draw.randrange(_LARGEST_FILE))
        if trial % 5 == 4:
            fault = FullEvents(draw.randint(1, events))
        elif trial % 5 < 3:
            fault = FullDisk(role, draw.randint(1, most), str(warm_study.folder), lasting=draw.random() < 0.5)
        running = warm_study.command.carry_out(fault)
        where = f"trial {trial}, {fault}"
        assert running.code in (0, 1, 2, 3), f"{where}: {running.code}, {running.said}"
        assert "Traceback" not in running.said, f"{where}: {running.said}"
        assert running.code == 0 or says_where(warm_study, running), f"{where}: {running.said}"
        last = warm_study.finished(states_at_each_step)
        assert last.code == 0, f"{where}: {last.said}"
        assert "damaged" not in last.said, f"{where}: {last.said}"
        assert not warm_study.faults(), f"{where}: {warm_study.faults()}"
        warm_study.remove()
        print(f"{where}: {running.code}", flush=True)
        codes[running.code] += 1
    print(f"{trials} trials, exit codes {dict(codes)}")
