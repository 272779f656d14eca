"""Workers of a shared study are killed, and put to sleep for longer than their claims hold."""

import os
import random
import signal
import time
from pathlib import Path

from support.stepping_executor import LEASE, jobs_in, shared_executor
from tuneoff.results.manifest import MANIFEST
from tuneoff.study.executor import Job, SilentObserver


def _work(jobs: list[Job]) -> int:
    """A process that carries out jobs; its id."""
    child = os.fork()
    if not child:
        try:
            with shared_executor(seconds=0.03) as shared:
                list(shared.run(jobs, SilentObserver()))
        finally:
            os._exit(0)
    return child


def test_kills_and_sleeps_leave_one_result_a_run(tmp_path: Path, full: bool) -> None:
    for trial in range(15 if full else 2):
        _one_round(tmp_path / str(trial), random.Random(trial))


def _one_round(study: Path, chance: random.Random) -> None:
    jobs = jobs_in(study, 8)
    workers = {_work(jobs) for _ in range(4)}
    started = set(workers)
    asleep: list[int] = []
    for _ in range(4):
        time.sleep(chance.uniform(0.02, 0.15))
        victim = chance.choice(sorted(workers))
        if chance.random() < 0.4:
            os.kill(victim, signal.SIGSTOP)
            asleep.append(victim)
        else:
            os.kill(victim, signal.SIGKILL)
            os.kill(victim, signal.SIGCONT)
        workers.discard(victim)
        worker = _work(jobs)
        workers.add(worker)
        started.add(worker)
    time.sleep(1.2 * LEASE)  # the others take over what the sleeping ones hold
    for victim in asleep:
        os.kill(victim, signal.SIGCONT)
    for worker in started:  # not all children: servers that tests share are among them
        os.waitpid(worker, 0)
    for job in jobs:
        record = job.dir.read_record()
        assert (record.status, record.run_id) == ("finished", job.run_id)
        assert sorted(path.name for path in job.dir.path.iterdir()) == [MANIFEST, "predictions.jsonl", "record.json"]
        assert job.dir.fault(job.dir.covered.files) is None
    assert sorted(path.name for path in (study / "runs").iterdir()) == sorted(job.dir.name for job in jobs)
