"""Runs that somebody carries out right now: how far they are, and their processes, stopped in the middle of one."""

import os
import random
import signal
import time
from pathlib import Path

from tuneoff.results.run_claims import Claims, Holder
from tuneoff.results.study_dir import StudyDir


def steps_taken(study: Path, holder: Holder) -> int:
    """Steps of training that an attempt has reported."""
    events = StudyDir(study).attempt_dir(holder.run, holder.number).events
    return sum('"kind":"step"' in line for line in events.read_text().splitlines()) if events.exists() else 0


def process_of(holder: Holder) -> int:
    return int(holder.worker.rpartition(":")[2])


def frozen_holder(study: Path, chance: random.Random, least_steps: int = 0) -> Holder | None:
    """A claim whose process does not move any more (SIGSTOP), before its run has a result; None if there is none.

    Whoever kills that process now can be sure that a run is hit. `least_steps`: of training that the run has taken.
    """
    holders = [holder for holder in Claims(study, "").holders() if holder.ended is None and ":" in holder.worker]
    for holder in chance.sample(holders, len(holders)):
        if steps_taken(study, holder) >= least_steps and freeze(process_of(holder)):
            now = Claims(study, "").holder(holder.run)
            assert now is not None
            if (now.number, now.ended) == (holder.number, None) and not StudyDir(study).run_dir(
                holder.run
            ).has_record():
                return now
            os.kill(process_of(holder), signal.SIGCONT)  # the run has ended meanwhile
    return None


def freeze(process: int) -> bool:
    """Stop a process; whether it lives."""
    try:
        os.kill(process, signal.SIGSTOP)
        while (state := _state_letter(process)) not in ("T", "Z", "X"):
            time.sleep(0.001)
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state == "T"


def _state_letter(process: int) -> str:
    """The letter of `proc(5)`, behind the name of the program."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
