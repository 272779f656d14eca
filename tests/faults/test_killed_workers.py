"""Workers of a shared study are killed, and put to sleep for longer than their claims hold."""

import datetime
import os
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from support.shifted_clock import shift_clock
from support.stepping_executor import LEASE, jobs_in, shared_executor
from tuneoff.results.manifest import MANIFEST
from tuneoff.results.run_claims import Claims
from tuneoff.study.executor import Job, SilentObserver

MINUTES = 60


def _work(jobs: list[Job], clock: int) -> int:
    """A process that carries out jobs, whose clock is `clock` seconds wrong; its id."""
    child = os.fork()
    if not child:
        code = 1
        try:
            if clock:
                shift_clock(clock)
            with shared_executor(seconds=0.03) as shared:
                list(shared.run(jobs, SilentObserver()))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def test_kills_and_sleeps_leave_one_result_a_run(tmp_path: Path, full: bool, seed: int) -> None:
    faults = Counter[str]()
    for trial in range(125 if full else 1):
        faults += _one_round(tmp_path / str(trial), random.Random(trial + seed))
        print(trial + 1, dict(faults), flush=True)


def test_clocks_that_differ_leave_one_result_a_run(tmp_path: Path, full: bool, seed: int) -> None:
    """Machines that are ten minutes apart, a thousand leases: no claim may be taken for an old or a future one."""
    faults = Counter[str]()
    for trial in range(125 if full else 1):
        study = tmp_path / str(trial)
        faults += _one_round(study, random.Random(f"clocks {trial + seed}"), (5 * MINUTES, -5 * MINUTES))
        now = datetime.datetime.now(datetime.UTC)
        seen = [datetime.datetime.fromisoformat(holder.since) - now for holder in Claims(study, "").holders()]
        apart = {round(each / datetime.timedelta(minutes=5)) for each in seen}  # the clocks were what they should be
        assert apart <= {-1, 1}
        assert {path.stat().st_mtime > now.timestamp() - 2 * MINUTES for path in study.rglob("*.json")} == {True}
        faults.update({f"studies with clocks {sorted(apart)}": 1})
        print(trial + 1, dict(faults), flush=True)


def _one_round(study: Path, chance: random.Random, clocks: Sequence[int] = (0,)) -> Counter[str]:
    """Four faults; how many of each kind. Workers have these clocks in turn."""
    jobs = jobs_in(study, 8)
    workers = {_work(jobs, clocks[number % len(clocks)]) for number in range(4)}
    started = set(workers)
    asleep: list[int] = []
    killed: list[int] = []
    for _ in range(4):
        time.sleep(chance.uniform(0.02, 0.15))
        victim = chance.choice(sorted(workers))
        if chance.random() < 0.4:
            os.kill(victim, signal.SIGSTOP)
            asleep.append(victim)
        else:
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
        workers.discard(victim)
        worker = _work(jobs, chance.choice(clocks))
        workers.add(worker)
        started.add(worker)
    time.sleep(1.2 * LEASE)  # the others take over what the sleeping ones hold
    for victim in asleep:
        os.kill(victim, signal.SIGCONT)
    for worker in started:  # not all children: servers that tests share are among them
        code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
        assert code == 0 or (worker in killed and code == -signal.SIGKILL)
    for job in jobs:
        record = job.dir.read_record()
        assert (record.status, record.run_id) == ("finished", job.run_id)
        assert sorted(path.name for path in job.dir.path.iterdir()) == [MANIFEST, "predictions.jsonl", "record.json"]
        assert job.dir.fault(job.dir.covered.files) is None
    assert sorted(path.name for path in (study / "runs").iterdir()) == sorted(job.dir.name for job in jobs)
    return Counter({"killed": len(killed), "asleep": len(asleep)})
