"""Workers of a shared study on two machines, which share nothing but the folder.

Each machine is a set of namespaces of its own: processes, network, host name. All workers there have the process id 1,
and the machines may have one name, as containers do.
"""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.stepping_executor import LEASE, jobs_in
from tuneoff.results.manifest import MANIFEST

MACHINE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--net", "--uts", "--mount-proc")
WORKER = """
import socket, sys
from pathlib import Path
sys.path[:] = {path!r}
from support.stepping_executor import jobs_in, shared_executor
from tuneoff.study.executor import SilentObserver
socket.sethostname({host!r})
with shared_executor(seconds=0.05) as shared:
    list(shared.run(jobs_in(Path({study!r}), {runs}), SilentObserver()))
"""
RUNS = 6


def _has_namespaces() -> bool:
    return shutil.which("unshare") is not None and subprocess.run([*MACHINE, "true"], check=False).returncode == 0


def _machine(study: Path, host: str) -> "subprocess.Popen[bytes]":
    code = WORKER.format(path=sys.path, host=host, study=str(study), runs=RUNS)
    return subprocess.Popen([*MACHINE, sys.executable, "-c", code], stderr=subprocess.PIPE)


@pytest.mark.skipif(not _has_namespaces(), reason="namespaces of one's own are not allowed here")
@pytest.mark.parametrize("hosts", [("same", "same"), pytest.param(("one", "other"), marks=pytest.mark.slow)])
def test_two_machines_leave_one_result_a_run(hosts: tuple[str, str], full: bool, seed: int, tmp_path: Path) -> None:
    for trial in range(10 if full else 1):
        study, chance = tmp_path / str(trial), random.Random(trial + seed)
        machines = [_machine(study, host) for host in hosts]
        while not any(study.glob("attempts/*/*")):
            assert all(machine.poll() is None for machine in machines)
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        lost = chance.choice(machines)
        lost.kill()  # the machine is gone; its claims stay
        _, _ = lost.communicate()
        for machine in (*(one for one in machines if one is not lost), _machine(study, hosts[1])):
            _, err = machine.communicate(timeout=60 + 10 * LEASE)
            assert machine.returncode == 0, err
        for job in jobs_in(study, RUNS):
            record = job.dir.read_record()
            assert (record.status, record.run_id) == ("finished", job.run_id)
            assert sorted(path.name for path in job.dir.path.iterdir()) == [
                MANIFEST,
                "predictions.jsonl",
                "record.json",
            ]
            assert job.dir.fault(job.dir.covered.files) is None
