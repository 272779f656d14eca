"""Workers of a shared study on two machines, which share nothing but the folder.

Each machine is a set of namespaces of its own: processes, network, host name. All workers there have the process id 1,
and the machines may have one name, as containers do.

To try a network file system, make two mounts of one of its folders, and name them in `TUNEOFF_NETWORK_MOUNTS`, as in
`/mnt/a:/mnt/b`.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.stepping_executor import LEASE, jobs_in
from tuneoff.results.manifest import MANIFEST

MACHINE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--net", "--uts", "--mount-proc")
WORKER = """
import socket, sys
from pathlib import Path
sys.path[:] = {path!r}
from support.shifted_clock import shift_clock
from support.stepping_executor import jobs_in, shared_executor
from tuneoff.study.executor import SilentObserver
shift_clock({clock})
socket.sethostname({host!r})
with shared_executor(seconds=0.05) as shared:
    list(shared.run(jobs_in(Path({study!r}), {runs}), SilentObserver()))
"""
RUNS = 6
# Two folders, divided by a colon: one folder of a server, mounted twice.
MOUNTS = "TUNEOFF_NETWORK_MOUNTS"


def _has_namespaces() -> bool:
    return shutil.which("unshare") is not None and subprocess.run([*MACHINE, "true"], check=False).returncode == 0


def _machine(study: Path, host: str, clock: int) -> "subprocess.Popen[bytes]":
    """A worker on a machine whose clock is `clock` seconds wrong."""
    code = WORKER.format(path=sys.path, host=host, clock=clock, study=str(study), runs=RUNS)
    return subprocess.Popen([*MACHINE, sys.executable, "-c", code], stderr=subprocess.PIPE)


needs_namespaces = pytest.mark.skipif(not _has_namespaces(), reason="namespaces of one's own are not allowed here")


def _check_trial(
    studies: Sequence[Path], hosts: Sequence[str], chance: random.Random, clocks: Sequence[int] = (0, 0)
) -> None:
    """Two machines, one of which is lost. `studies`: the study folder as each machine sees it."""
    machines = [_machine(*machine) for machine in zip(studies, hosts, clocks, strict=True)]
    while not any(studies[0].glob("attempts/*/*")):
        assert all(machine.poll() is None for machine in machines)
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 0.3))
    lost = chance.choice(machines)
    lost.kill()  # the machine is gone; its claims stay
    _, _ = lost.communicate()
    for machine in (*(one for one in machines if one is not lost), _machine(studies[1], hosts[1], clocks[1])):
        _, err = machine.communicate(timeout=60 + 10 * LEASE)
        assert machine.returncode == 0, err
    for job in jobs_in(studies[0], RUNS):
        record = job.dir.read_record()
        assert (record.status, record.run_id) == ("finished", job.run_id)
        assert sorted(path.name for path in job.dir.path.iterdir()) == [
            MANIFEST,
            "predictions.jsonl",
            "record.json",
        ]
        assert job.dir.fault(job.dir.covered.files) is None


@needs_namespaces
@pytest.mark.parametrize(
    ("hosts", "clocks"),
    [
        (("same", "same"), (0, 0)),
        pytest.param(("one", "other"), (0, 0), marks=pytest.mark.slow),
        pytest.param(("one", "other"), (300, -300), marks=pytest.mark.slow),
    ],
)
def test_two_machines_leave_one_result_a_run(
    hosts: tuple[str, str], clocks: tuple[int, int], full: bool, seed: int, tmp_path: Path
) -> None:
    for trial in range(10 if full else 1):
        _check_trial([tmp_path / str(trial)] * 2, hosts, random.Random(trial + seed), clocks)


@needs_namespaces
@pytest.mark.skipif(MOUNTS not in os.environ, reason="two mounts of one folder of a network file system are needed")
def test_two_clients_of_a_network_file_system_leave_one_result_a_run(full: bool, seed: int) -> None:
    """Each machine sees the folder through a client of its own, with that client's caches."""
    first, second = (Path(mount) for mount in os.environ[MOUNTS].split(":"))
    for trial in range(20 if full else 1):
        with tempfile.TemporaryDirectory(dir=first) as folder:
            while not (second / Path(folder).name).is_dir():
                time.sleep(0.1)
            studies = [mount / Path(folder).name / "study" for mount in (first, second)]
            _check_trial(studies, ("one", "other"), random.Random(trial + seed))
