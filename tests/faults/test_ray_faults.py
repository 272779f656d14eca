"""A Ray cluster loses processes, nodes and drivers; each run ends with one result all the same.

Only faults that hit a run are counted: its process is first stopped (SIGSTOP), and is lost if the run has no result.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from support import ray_stepping
from support.engine_results import engine_differences, quality_of
from support.live_claims import freeze, frozen_holder, process_of
from support.ray_cluster import RayCluster, ray_cluster, variables
from support.stepping_executor import STEPS, jobs_in
from tuneoff.api import load_study
from tuneoff.cli.verification import is_whole
from tuneoff.results.manifest import MANIFEST
from tuneoff.results.run_claims import Claims, Holder
from tuneoff.results.verification import verify
from tuneoff.study.executor import Job, SilentObserver
from tuneoff.study.launcher import WHOLE_MACHINE
from tuneoff.study.ray_engine import RayExecutor

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray`")  # not imported: this test forks

STEP_SECONDS = 0.1
KINDS = ("process", "node", "driver")
_MOST_ROUNDS = 3  # for each that is needed if every fault hits


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


def _ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


@dataclass
class _RayNodes:
    """The nodes of a cluster that take tasks."""

    cluster: RayCluster
    names: list[str] = field(default_factory=list)

    def add(self) -> None:
        self.names.append(self.cluster.add_node())

    def lose_the_one_of(self, process: int) -> None:
        """The machine of a process that is stopped loses its power; another one comes."""
        parents = {parent.pid for parent in psutil.Process(process).parents()}
        [name] = [each for each in self.names if self.cluster.main_process(each) in parents]
        self.names.remove(name)
        self.cluster.remove_node(name)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        self.add()


def test_each_run_has_one_result(tmp_path: Path, full: bool, seed: int) -> None:
    wanted = Counter({"process": 7, "node": 7, "driver": 6} if full else dict.fromkeys(KINDS, 1))
    hit = Counter[str]()
    with ray_cluster(**{ray_stepping.SECONDS_VARIABLE: str(STEP_SECONDS)}) as cluster:
        nodes = _RayNodes(cluster)
        for _ in range(2):
            nodes.add()
        for trial in range(_MOST_ROUNDS * max(wanted.values())):
            missing = [kind for kind in KINDS if hit[kind] < wanted[kind]]
            if missing:
                hit += _Round(tmp_path / str(trial), random.Random(f"{seed}/{trial}"), nodes).carried_out(missing)
                print(trial + 1, dict(hit), flush=True)
    assert hit == wanted


class _Round:
    """One study and its driver."""

    def __init__(self, study: Path, chance: random.Random, nodes: _RayNodes) -> None:
        self._study, self._chance, self._nodes = study, chance, nodes
        self._jobs = jobs_in(study, 8)
        self._lost: list[Holder] = []
        study.mkdir()

    def carried_out(self, kinds: Sequence[str]) -> Counter[str]:
        """One fault of each kind, in random order and at random moments; how many of each have hit."""
        self._driver = _drive(self._jobs, self._nodes.cluster.address)
        hit = Counter(kind for kind in self._chance.sample(kinds, len(kinds)) if self._strike(kind))
        assert os.waitstatus_to_exitcode(os.waitpid(self._driver, 0)[1]) == 0
        self._check()
        return hit

    def _strike(self, kind: str) -> bool:
        """Whether the fault has hit; it cannot when the study has ended before."""
        time.sleep(self._chance.uniform(0, 2 * STEP_SECONDS))
        end = time.monotonic() + 60
        while (holder := frozen_holder(self._study, self._chance)) is None:
            if _ended(self._driver):
                return False
            assert time.monotonic() < end
            time.sleep(0.02)
        process = process_of(holder)
        if kind == "driver":
            hits = freeze(self._driver)  # while a run has no result, because its process does not move
            os.kill(process, signal.SIGCONT)
            if hits:
                os.kill(self._driver, signal.SIGKILL)
                os.waitpid(self._driver, 0)
                self._driver = _drive(self._jobs, self._nodes.cluster.address)
            return hits
        self._lost.append(holder)
        if kind == "node":
            self._nodes.lose_the_one_of(process)
        else:
            os.kill(process, signal.SIGKILL)
        return True

    def _check(self) -> None:
        """Each run has one whole result, and those that were hit were carried out by others."""
        for job in self._jobs:
            record = job.dir.read_record()
            assert (record.status, record.run_id) == ("finished", job.run_id)
            assert record.notes[0].endswith(f"to {STEPS}")
            names = sorted(path.name for path in job.dir.path.iterdir())
            assert names == [MANIFEST, "predictions.jsonl", "record.json"]
            assert job.dir.fault(job.dir.covered.files) is None
        assert sorted(path.name for path in (self._study / "runs").iterdir()) == sorted(
            job.dir.name for job in self._jobs
        )
        assert all(_later_claim(self._study, lost) for lost in self._lost)


# ---- real trainings ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_study_that_loses_trainings_has_the_results_of_a_local_one(
    tiny_model: Callable[[str], Path], tiny_data: dict[str, Path], tmp_path: Path, seed: int
) -> None:
    """A process and then a node are lost in the middle of a training, and another one takes over what it did."""
    command = [
        *(sys.executable, "-m", "tuneoff", "compare", f"--model={tiny_model('llama')}"),
        *(f"--{split}-file={path}" for split, path in tiny_data.items()),
        *("--methods=zero_shot,lora,full", "--seeds=2", "--trials=0", "--max-steps=40", "--epochs=20"),
        *("--max-length=128", "--max-new-tokens=4", "--precision=fp32", "--quiet"),
    ]
    environment = {**os.environ, **variables(), "OMP_NUM_THREADS": "1"}
    local, folder, chance = tmp_path / "local", tmp_path / "ray", random.Random(seed)
    subprocess.run([*command, f"--output={local}"], check=True, env=environment)
    with ray_cluster(OMP_NUM_THREADS="1") as cluster:
        nodes = _RayNodes(cluster)
        for _ in range(2):
            nodes.add()
        engine = f"--engine=ray:cpus=1,memory=100M,address={cluster.address}"
        driver = subprocess.Popen([*command, engine, f"--output={folder}"], env=environment)
        for kind in ("process", "node"):
            lost = _found_while_driven(lambda: frozen_holder(folder, chance, least_steps=2), driver)
            if kind == "node":
                nodes.lose_the_one_of(process_of(lost))
            else:
                os.kill(process_of(lost), signal.SIGKILL)
            _found_while_driven(lambda before=lost: _later_claim(folder, before), driver)  # type: ignore[misc]
        assert driver.wait(600) == 0
    assert engine_differences(local, folder) == []
    assert quality_of(load_study(local).summary) == quality_of(load_study(folder).summary)
    assert is_whole(list(verify(folder)))


def _found_while_driven(look: Callable[[], Holder | None], driver: "subprocess.Popen[bytes]") -> Holder:
    """What `look` finds while the driver works."""
    end = time.monotonic() + 300
    while (found := look()) is None:
        assert driver.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def _later_claim(study: Path, lost: Holder) -> Holder | None:
    holder = Claims(study, "").holder(lost.run)
    return holder if holder is not None and holder.number > lost.number else None
