"""A signal that asks a study to end, at any moment of its trainings, once or twice; then the same command again."""

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass

from support.study_folders import read_record
from support.warm_command import Role, Running
from support.warm_study import WarmStudy
from tuneoff import stopping
from tuneoff.results.events import RunSoFar, read_events
from tuneoff.results.run_dir import RunDir

_MOST_LATE_SECONDS = 0.03
_MOST_SECONDS = 10.0


@dataclass(frozen=True)
class Stop:
    """A signal, whom it is sent to, and the pause before a second one."""

    name: str
    to: str
    pause: float | None

    def send(self, running: Running) -> None:
        running.kill(self.to, getattr(signal, self.name))  # type: ignore[arg-type]
        if self.pause is not None:
            time.sleep(self.pause)
            running.kill(self.to, getattr(signal, self.name))  # type: ignore[arg-type]


def interrupted(study: WarmStudy) -> dict[str, int]:
    """The last step that each interrupted run has reported, by the name of its folder."""
    folders = [path.parent for path in study.folder.glob("runs/*/record.json")]
    return {
        folder.name: step.step
        for folder in folders
        if read_record(folder).status == "interrupted"
        and (step := RunSoFar(read_events(RunDir(folder).events)).step) is not None
    }


def test_a_stopped_study_keeps_its_work(warm_study: WarmStudy, full: bool, seed: int) -> None:
    """States are kept once a minute here, so a state is there only if the signal made it."""
    draw = random.Random(4 + seed)
    roles: tuple[Role, ...] = ("parent", "server", "run")
    most = sum("checkpoint" not in mark.what for mark in warm_study.marks)
    trials, codes, kept = 100 if full else 1, Counter[int | None](), 0
    names = stopping.NAMES
    for trial in range(trials):
        stop = Stop(
            names[trial % len(names)],
            ("parent", "group")[trial // len(names) % 2],
            draw.choice((None, None, 0.0, 0.05, 0.3)),
        )
        running = warm_study.command.start()
        mark = running.wait_for(draw.randint(1, most), roles)
        time.sleep(draw.choice((0.0, draw.uniform(0.0, _MOST_LATE_SECONDS))))
        began = time.monotonic()
        stop.send(running)
        code = running.wait()
        where = f"trial {trial}, {stop} at {mark}"
        assert time.monotonic() - began < _MOST_SECONDS, where
        # A signal that comes when the work is done changes nothing.
        assert code in (stopping.EXIT_CODES[stop.name], 0), f"{where}: {code}, {running.said}"
        assert running.all_ended(), f"{where}: a process is still there"
        assert "Traceback" not in running.said, f"{where}: {running.said}"
        assert code == 0 or running.said.strip().splitlines()[-1].endswith("run the same command to continue"), where
        reported = interrupted(warm_study)
        last = warm_study.finished()
        assert last.code == 0, f"{where}: {last.said}"
        assert "damaged" not in last.said, f"{where}: {last.said}"
        for name, step in reported.items():
            assert warm_study.resumed_after(name) >= step, f"{where}: {name} was at step {step}"
        assert not warm_study.faults(), f"{where}: {warm_study.faults()}"
        warm_study.remove()
        print(f"{where}: {code}", flush=True)
        codes[code] += 1
        kept += len(reported)
    print(f"{trials} trials, exit codes {dict(codes)}, {kept} trainings were continued")
