"""A Ray cluster loses processes, nodes and drivers; each run ends with one result all the same."""

import contextlib
import os
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from support import ray_stepping
from support.ray_cluster import RayCluster, ray_cluster, variables
from support.stepping_executor import STEPS, jobs_in
from tuneoff.results.manifest import MANIFEST
from tuneoff.results.run_claims import Claims
from tuneoff.study.executor import Job, SilentObserver
from tuneoff.study.launcher import WHOLE_MACHINE
from tuneoff.study.ray_engine import RayExecutor

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray`")  # not imported: this test forks

STEP_SECONDS = 0.1


def _drive(jobs: list[Job], address: str) -> int:
    """A driver of its own; its process id."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.environ.update(variables())
            ray = RayExecutor(
                WHOLE_MACHINE, address=address, cpus="1", memory="1M", poll_seconds=0.1, task=ray_stepping.carry_out
            )
            with ray as cluster:
                list(cluster.run(jobs, SilentObserver()))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def _working(study: Path) -> list[int]:
    """The processes that carry out runs."""
    claims = (holder.worker for holder in Claims(study, "").holders() if holder.ended is None)
    found = (int(worker.rpartition(":")[2]) for worker in claims if ":" in worker)
    return [process for process in found if Path(f"/proc/{process}").exists()]


def _until(found: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_each_run_has_one_result(tmp_path: Path, full: bool, seed: int) -> None:
    kinds = ["process", "node", "driver"]
    faults = Counter[str]()
    with ray_cluster(**{ray_stepping.SECONDS_VARIABLE: str(STEP_SECONDS)}) as cluster:
        nodes = [cluster.add_node(), cluster.add_node()]
        for trial in range(7 if full else 1):
            chance = random.Random(f"{seed}/{trial}")
            chosen = kinds[: 2 if trial == 6 else 3]  # 20 in all
            faults += _one_round(tmp_path / str(trial), chance, cluster, nodes, chosen)
    print(dict(faults))


def _one_round(
    study: Path, chance: random.Random, cluster: RayCluster, nodes: list[str], kinds: list[str]
) -> Counter[str]:
    """One fault of each kind, in random order and at random moments; how many of each."""
    jobs = jobs_in(study, 8)
    study.mkdir()
    driver = _drive(jobs, cluster.address)
    for kind in chance.sample(kinds, len(kinds)):
        _until(lambda current=driver: bool(_working(study)) or _ended(current))  # type: ignore[misc]
        time.sleep(chance.uniform(0, 2 * STEP_SECONDS))
        if kind == "process" and (working := _working(study)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(working), signal.SIGKILL)
        elif kind == "node":
            cluster.remove_node(nodes.pop(chance.randrange(len(nodes))))
            nodes.append(cluster.add_node())
        elif kind == "driver":
            os.kill(driver, signal.SIGKILL)
            os.waitpid(driver, 0)
            driver = _drive(jobs, cluster.address)
    assert os.waitstatus_to_exitcode(os.waitpid(driver, 0)[1]) == 0
    for job in jobs:
        record = job.dir.read_record()
        assert (record.status, record.run_id) == ("finished", job.run_id)
        assert record.notes[0].endswith(f"to {STEPS}")
        assert sorted(path.name for path in job.dir.path.iterdir()) == [MANIFEST, "predictions.jsonl", "record.json"]
        assert job.dir.fault(job.dir.covered.files) is None
    assert sorted(path.name for path in (study / "runs").iterdir()) == sorted(job.dir.name for job in jobs)
    return Counter(kinds)


def _ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
