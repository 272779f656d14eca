"""A scheduler like SLURM, for this machine: `sbatch`, `squeue` and `srun` on the path, which really run an array.

A submitted script runs with bash, in the folder and the environment of the one who submits it, once for each task of
its array and two at a time. One task can be preempted: it gets SIGTERM in the middle of a run, and is queued again.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.live_claims import process_of, steps_taken
from tuneoff.results.run_claims import Claims

_AT_ONCE = 2
_POLL_SECONDS = 0.02
_GRACE_SECONDS = 60.0  # between SIGTERM and SIGKILL
_STEPS = 2  # of the run that is preempted


@dataclass(frozen=True)
class FakeSlurm:
    """What the scheduler keeps in its folder, for tests."""

    folder: Path

    def preempt(self, study: Path, run: str) -> None:
        """Let one task be preempted: the first one that trains a run of `study` whose name begins with `run`."""
        (self.folder / "preempt").write_text(json.dumps([str(study), run]))

    @property
    def ended(self) -> list[dict[str, int]]:
        """How each start of a task has ended: `task`, `restarts`, `code`, and `preempted`, which is 0 or 1."""
        return [json.loads(line) for line in _lines_of(self.folder / "ended")]

    def has_tasks(self) -> bool:
        """Whether a task is waiting or running."""
        return any(path.read_text() for path in self.folder.glob("*.queue"))


@contextlib.contextmanager
def fake_slurm(folder: Path) -> Iterator[FakeSlurm]:
    """Put the commands on the path. What still runs at the end is killed."""
    folder.mkdir()
    own = shlex.join([sys.executable, __file__])
    commands = {
        "sbatch": f"exec {own} sbatch {shlex.quote(str(folder))}",
        "squeue": f'exec {own} squeue {shlex.quote(str(folder))} "$@"',
        # Its own options come first. The script's process becomes that of the command, as after the `exec` of a script.
        "srun": 'while [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"',
    }
    for name, text in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(stat.S_IRWXU)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        try:
            yield FakeSlurm(folder)
        finally:
            for path in folder.glob("*.array"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(path.read_text()), signal.SIGTERM)
            while list(folder.glob("*.array")):  # it kills its tasks, and then removes the file
                time.sleep(_POLL_SECONDS)


# ---- the commands, each in a process of its own -----------------------------------------------------------------


def _sbatch(folder: Path) -> None:
    """Keep a script and start its array; print the number of the job."""
    number = len(list(folder.glob("*.script"))) + 1
    script = folder / f"{number}.script"
    script.write_text(sys.stdin.read())
    tasks = range(int(_options(script)["array"].removeprefix("0-")) + 1)
    (folder / f"{number}.queue").write_text(" ".join(map(str, tasks)))
    array = subprocess.Popen(
        [sys.executable, __file__, "array", str(folder), str(number)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    (folder / f"{number}.array").write_text(str(array.pid))
    print(f"{number};cluster")


def _squeue(folder: Path, jobs: str) -> None:
    """Print a line for each task of the job that is left."""
    number = jobs.removeprefix("--jobs=")
    for task in (folder / f"{number}.queue").read_text().split():
        print(f"{number}_{task} R")


@dataclass
class _Task:
    number: int
    restarts: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    preempted: bool = False


@dataclass
class _Array:
    """The tasks of one script."""

    folder: Path
    number: str
    waiting: deque[_Task] = field(default_factory=deque)
    running: list[_Task] = field(default_factory=list)

    def run(self) -> None:
        script = self.folder / f"{self.number}.script"
        queue = self.folder / f"{self.number}.queue"
        self.waiting = deque(_Task(int(task)) for task in queue.read_text().split())
        try:
            while self.waiting or self.running:
                while self.waiting and len(self.running) < _AT_ONCE:
                    task = self.waiting.popleft()
                    task.process = self._start(task, script)
                    self.running.append(task)
                self._preempt_one()
                for task in [each for each in self.running if each.process and each.process.poll() is not None]:
                    self._end(task)
                queue.write_text(" ".join(str(task.number) for task in (*self.running, *self.waiting)))
                time.sleep(_POLL_SECONDS)
        finally:
            for task in self.running:
                _kill_all(task)
            queue.write_text("")
            (self.folder / f"{self.number}.array").unlink()

    def _start(self, task: _Task, script: Path) -> "subprocess.Popen[bytes]":
        options = _options(script)
        variables = {
            "SLURM_JOB_ID": f"{self.number}{task.number:03}",
            "SLURM_JOB_NAME": options["job-name"],
            "SLURM_ARRAY_JOB_ID": self.number,
            "SLURM_ARRAY_TASK_ID": str(task.number),
            "SLURM_RESTART_COUNT": str(task.restarts),
            **({"SLURM_CPUS_PER_TASK": options["cpus-per-task"]} if "cpus-per-task" in options else {}),
        }
        fields = {"%%": "%", "%A": self.number, "%a": str(task.number), "%x": options["job-name"]}
        log = re.sub("%.", lambda found: fields[found[0]], options["output"])
        with Path(log).open("ab") as stream:
            return subprocess.Popen(
                ["bash", str(script)],
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,  # all processes of a task get its signals
            )

    def _preempt_one(self) -> None:
        wanted = self.folder / "preempt"
        if not wanted.exists():
            return
        study, run = json.loads(wanted.read_text())
        for holder in Claims(Path(study), "").holders():
            tasks = [each for each in self.running if each.process and each.process.pid == process_of(holder)]
            is_wanted = holder.ended is None and holder.run.startswith(run)
            if is_wanted and tasks and steps_taken(Path(study), holder) >= _STEPS:
                [task] = tasks
                wanted.unlink()
                task.preempted = True
                assert task.process is not None
                os.killpg(task.process.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    task.process.wait(_GRACE_SECONDS)
                return

    def _end(self, task: _Task) -> None:
        """Note how a task has ended. One that was preempted is queued again, as its script asks for."""
        _kill_all(task)
        self.running.remove(task)
        assert task.process is not None
        ended = {"task": task.number, "restarts": task.restarts, "code": task.process.returncode}
        with (self.folder / "ended").open("a") as stream:
            stream.write(json.dumps({**ended, "preempted": int(task.preempted)}) + "\n")
        if task.preempted and "requeue" in _options(self.folder / f"{self.number}.script"):
            self.waiting.append(_Task(task.number, task.restarts + 1))


def _kill_all(task: _Task) -> None:
    assert task.process is not None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(task.process.pid, signal.SIGKILL)
    task.process.wait()


def _options(script: Path) -> dict[str, str]:
    """What the lines `#SBATCH --name=value` of a script say."""
    lines = [line for line in script.read_text().splitlines() if line.startswith("#SBATCH --")]
    words = [shlex.split(line.removeprefix("#SBATCH --"))[0].partition("=") for line in lines]
    return {name: value for name, _, value in words}


def _lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


if __name__ == "__main__":
    command, where, *more = sys.argv[1:]
    if command == "array":
        signal.signal(signal.SIGTERM, lambda *_signal: sys.exit(1))
        _Array(Path(where), more[0]).run()
    elif command == "squeue":
        _squeue(Path(where), more[-1])
    else:
        _sbatch(Path(where))
