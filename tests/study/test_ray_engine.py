"""Runs as tasks of Ray. Most tests have a cluster of their own making, whose tasks are calls of a function."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from support.engine_results import quality_of
from support.fake_executor import FakeExecutor
from support.ray_cluster import ray_cluster, variables
from support.ray_stepping import ERRORS, FakeRay
from support.stepping_executor import STEPS, jobs_in
from tuneoff.api import load_study
from tuneoff.cli.verification import is_whole
from tuneoff.errors import UserError
from tuneoff.results.events import Event, Note
from tuneoff.results.run_claims import Claim, Claims
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.verification import verify
from tuneoff.study.executor import Job, SilentObserver, closed_at_the_end, open_executor
from tuneoff.study.jobs import OpenJobs
from tuneoff.study.launcher import WHOLE_MACHINE, Layout
from tuneoff.study.ray_engine import RayExecutor
from tuneoff.study.ray_task import RayAnswer, answer_to


class Noting(SilentObserver):
    def __init__(self) -> None:
        self.said: list[str] = []

    def started(self, job: Job) -> None:
        self.said.append(f"{job.name} starts")

    def event(self, job: Job, event: Event) -> None:
        if isinstance(event, Note):
            self.said.append(f"{job.name}: {event.text}")

    def ended(self, job: Job, run: StoredRun) -> None:
        self.said.append(f"{job.name} {run.record.status}")


@pytest.fixture(autouse=True)
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def executor(ray: FakeRay, **settings: Any) -> RayExecutor:
    return RayExecutor(WHOLE_MACHINE, connect=ray.connected, poll_seconds=0.01, **{"memory": "1M", **settings})


def names(runs: Iterator[StoredRun]) -> list[str]:
    return sorted(run.record.name for run in runs)


def test_each_run_is_one_task(tmp_path: Path) -> None:
    jobs, observer, ray = jobs_in(tmp_path, 3), Noting(), FakeRay()
    with executor(ray) as cluster:
        assert names(cluster.run(jobs, observer)) == ["run0", "run1", "run2"]
    assert [task.run_id for task in ray.tasks] == [job.run_id for job in jobs]
    assert observer.said == [words for number in range(3) for words in (f"run{number} starts", f"run{number} finished")]
    assert {option["max_retries"] for option in ray.options} == {0}
    assert ray.most_at_once == 2  # twice as many as the cluster can run


@pytest.mark.parametrize("fault", ["WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "ObjectLostError"])
def test_a_lost_task_is_sent_again_and_need_not_wait_for_a_lease(fault: str, tmp_path: Path) -> None:
    jobs, observer = jobs_in(tmp_path, 2), Noting()
    ray = FakeRay(faults=[fault, None, fault])
    with executor(ray) as cluster:
        assert names(cluster.run(jobs, observer)) == ["run0", "run1"]
    assert [task.name for task in ray.tasks] == ["run0", "run1", "run0", "run0"]
    assert len({task.worker for task in ray.tasks}) == 4
    what = "node" if fault == "NodeDiedError" else "process"
    lost = f"run0: its {what} in the Ray cluster was lost (node:1); another one goes on with it"
    assert observer.said.count(lost) == 2
    assert jobs[0].dir.read_record().notes == (f"0 to {STEPS}",)


def test_a_task_that_is_lost_again_and_again_is_left(tmp_path: Path) -> None:
    jobs, observer = jobs_in(tmp_path, 1), Noting()
    ray = FakeRay(faults=["WorkerCrashedError"] * 9)
    with executor(ray) as cluster:
        assert names(cluster.run(jobs, observer)) == []
    assert len(ray.tasks) == 5
    assert observer.said[-1] == "run0: lost 5 times, so it is left; the same command tries it again"


def test_a_run_that_fails_is_not_sent_again(tmp_path: Path) -> None:
    def fail(task: str) -> str:
        return answer_to(task, lambda _task: None, lambda _layout: FakeExecutor(status=lambda _job: "failed"))

    ray = FakeRay(task=fail)
    with executor(ray) as cluster:
        [run] = cluster.run(jobs_in(tmp_path, 1), SilentObserver())
    assert run.record.status == "failed"
    assert len(ray.tasks) == 1


def test_a_node_that_does_not_suit_the_study_is_named(tmp_path: Path) -> None:
    ray = FakeRay(task=lambda _task: RayAnswer(node="node7\x1b", refused="does not see /study").model_dump_json())
    with (
        executor(ray) as cluster,
        pytest.raises(UserError, match=r"--engine ray: the node node7\? does not see /study"),
    ):
        list(cluster.run(jobs_in(tmp_path, 1), SilentObserver()))


def test_a_node_without_the_package_is_one_sentence(tmp_path: Path) -> None:
    def crash(_task: str) -> str:
        raise ERRORS["RayTaskError"]("ray::carry_out()\nModuleNotFoundError: No module named 'tuneoff'\n")

    with (
        executor(FakeRay(task=crash)) as cluster,
        pytest.raises(UserError, match=r"named 'tuneoff'.*; install the same"),
    ):
        list(cluster.run(jobs_in(tmp_path, 1), SilentObserver()))


def test_what_is_left_is_cancelled_when_the_driver_is_stopped(tmp_path: Path) -> None:
    ray = FakeRay({"CPU": 4.0, "memory": 1e9})
    with executor(ray, cpus="1") as cluster:
        runs = cluster.run(jobs_in(tmp_path, 4), SilentObserver())
        next(runs)
        runs.close()  # type: ignore[attr-defined]
    assert ray.cancelled[:3] == [1, 2, 3]


def test_it_is_said_which_node_carries_out_a_run(tmp_path: Path) -> None:
    class Slow(FakeRay):
        """Its first task has been at work for a while when the driver looks."""

        seen: list[str] = []
        claim: Claim | None = None

        def wait(self, references: Sequence[int], **options: Any) -> tuple[list[int], list[int]]:
            if self.claim is None:
                task = self.tasks[0]
                self.claim = Claims(Path(task.study), f"{task.worker} node7\x1b:1").take(task.job.dir.name, "now")
                return [], list(references)
            self.seen += [f"{worker.label} {worker.run}" for worker in cluster.health()]
            self.claim.release()
            return super().wait(references, **options)

    jobs, observer, ray = jobs_in(tmp_path, 1), Noting(), Slow()
    with executor(ray) as cluster:
        assert names(cluster.run(jobs, observer)) == ["run0"]
        assert cluster.health() == []
    assert observer.said == ["run0 starts", "run0: carried out by node7?:1", "run0 finished"]
    assert ray.seen == [f"{ray.tasks[0].worker} node7?:1 {jobs[0].dir.name}"]


def test_the_capacity_is_that_of_the_nodes(tmp_path: Path) -> None:
    ray = FakeRay({"CPU": 4.0, "memory": 1e9}, {"CPU": 2.0, "memory": 1e9})
    with executor(ray, cpus="2") as cluster:
        assert cluster.capacity() == 1, "nothing is known before it is connected"
        list(cluster.run(jobs_in(tmp_path, 2), SilentObserver()))
        assert cluster.capacity() == 3


@pytest.mark.parametrize(("nodes", "asked"), [(2, True), (1, False)])
def test_a_free_node_takes_what_has_become_possible(tmp_path: Path, nodes: int, asked: bool) -> None:
    """With one node, there is no free one before all has ended: the order is the planned one."""
    *first, last = jobs_in(tmp_path, 3)
    jobs = OpenJobs(first, lambda: [last])
    ray = FakeRay(*[{"CPU": 1.0, "memory": 1e9}] * nodes)
    with executor(ray) as cluster, closed_at_the_end(cluster.run(jobs, SilentObserver())) as runs:
        assert next(runs).record.name == "run0"
        jobs.changed()
        assert next(runs).record.name == "run1"
        assert [task.name for task in ray.tasks] == ["run0", "run1", *["run2"] * asked]
        assert [run.record.name for run in runs] == ["run2"] * asked


def test_claims_of_a_lost_driver_are_released_and_those_of_others_hold(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, 2)
    assert Claims(tmp_path, "ray 1234 node:7").take(jobs[0].dir.name, "now") is not None
    assert Claims(tmp_path, "host:8").take(jobs[1].dir.name, "now") is not None
    ray = FakeRay()
    with executor(ray) as cluster:
        runs = cluster.run(jobs, SilentObserver())
        assert next(runs).record.name == "run0"
        runs.close()  # type: ignore[attr-defined]
    holder = Claims(tmp_path, "").holder(jobs[1].dir.name)
    assert holder is not None
    assert (holder.worker, holder.ended) == ("host:8", None)


@pytest.mark.parametrize(
    ("nodes", "settings", "wanted"),
    [
        ([{"CPU": 8.0, "memory": 1e9}], {}, (8, 0, 8, 1)),
        ([{"CPU": 8.0, "memory": 1e9}, {"CPU": 4.0, "memory": 1e9}], {}, (4, 0, 4, 2)),
        ([{"CPU": 8.0, "memory": 1e9}], {"cpus": "2"}, (2, 0, 2, 4)),
        ([{"CPU": 8.0, "memory": 1e9}], {"cpus": "0.5"}, (0.5, 0, 1, 16)),
        ([{"CPU": 16.0, "GPU": 4.0, "memory": 1e9}], {}, (4, 1, 4, 4)),
        ([{"CPU": 16.0, "GPU": 4.0, "memory": 1e9}], {"gpus": "0.5"}, (2, 0.5, 2, 8)),
        ([{"CPU": 16.0, "GPU": 4.0, "memory": 1e9}], {"gpus": "0"}, (16, 0, 16, 1)),
        ([{"CPU": 8.0, "memory": 3e6}], {"cpus": "1"}, (1, 0, 1, 3)),
    ],
)
def test_a_task_gets_its_share_of_a_node(
    nodes: list[dict[str, float]], settings: dict[str, str], wanted: tuple[float, ...], tmp_path: Path
) -> None:
    ray = FakeRay(*nodes)
    with executor(ray, **settings) as cluster:
        list(cluster.run(jobs_in(tmp_path, 1), SilentObserver()))
    [option], [task] = ray.options, ray.tasks
    assert (option["num_cpus"], option["num_gpus"], task.threads, task.processes) == wanted
    assert option["memory"] == 10**6


def test_memory_follows_from_the_size_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneoff.study.ray_engine._memory_of", lambda _model: (10, 700))
    for there, wanted in ((1000.0, 700), (500.0, 500)):
        ray = FakeRay({"CPU": 1.0, "memory": there})
        with executor(ray, memory=None) as cluster:
            list(cluster.run(jobs_in(tmp_path / str(wanted), 1), SilentObserver()))
        assert ray.options[0]["memory"] == wanted


def test_the_memory_of_a_node_without_processors_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that takes no tasks is often larger than the nodes that do."""
    monkeypatch.setattr("tuneoff.study.ray_engine._memory_of", lambda _model: (10, 700))
    ray = FakeRay({"CPU": 0.0, "memory": 1e12}, {"CPU": 1.0, "memory": 500.0})
    with executor(ray, memory=None) as cluster:
        list(cluster.run(jobs_in(tmp_path, 1), SilentObserver()))
    assert ray.options[0]["memory"] == 500


def test_a_task_that_no_node_can_take(tmp_path: Path) -> None:
    with executor(FakeRay(), cpus="2") as cluster, pytest.raises(UserError, match="no node of the cluster has 2 proc"):
        list(cluster.run(jobs_in(tmp_path, 1), SilentObserver()))
    observer = Noting()
    with executor(FakeRay(), cpus="2", address="auto") as cluster:  # a larger node may still come
        assert names(cluster.run(jobs_in(tmp_path, 3), observer)) == ["run0", "run1", "run2"]
    assert len([words for words in observer.said if "or wait for a larger node" in words]) == 1


def test_a_cluster_that_asks_for_no_token_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE")
    observer = Noting()
    with executor(FakeRay(), address="auto") as cluster:
        list(cluster.run(jobs_in(tmp_path, 1), observer))
    assert "asks for no token" in observer.said[0]


def test_without_a_run_no_cluster_is_started() -> None:
    def connect(_address: str | None) -> Any:
        raise AssertionError

    with RayExecutor(WHOLE_MACHINE, connect=connect) as cluster:
        assert list(cluster.run([], SilentObserver())) == []


@pytest.mark.parametrize(
    ("engine", "layout", "words"),
    [
        ("ray:address=somewhere", WHOLE_MACHINE, "address=somewhere: auto or HOST:PORT"),
        ("ray:address=ray://host:10001", WHOLE_MACHINE, "auto or HOST:PORT"),
        ("ray:cpus=many", WHOLE_MACHINE, "cpus=many: a number was expected"),
        ("ray:cpus=0", WHOLE_MACHINE, "cpus=0: a run needs processors"),
        ("ray:cpus=nan", WHOLE_MACHINE, "cpus=nan: a number was expected"),
        ("ray:gpus=-1", WHOLE_MACHINE, "gpus=-1: a number was expected"),
        ("ray:memory=much", WHOLE_MACHINE, "memory=much: a size such as 16G"),
        ("ray:nodes=2", WHOLE_MACHINE, "ray does not have the setting 'nodes=2' (it has: address, cpus"),
        ("ray", Layout(2, 1), "set the size of a task"),
    ],
)
def test_mistakes_are_one_sentence(engine: str, layout: Layout, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        open_executor(engine, layout)


def test_without_ray_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UserError, match=re.escape("ray, which is not installed; run pip install 'tuneoff[ray]'")):
        open_executor("ray", WHOLE_MACHINE)


# ---- a real cluster ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray`")
def test_a_study_has_the_summary_of_a_local_one(
    tiny_model: Callable[[str], Path], tiny_data: dict[str, Path], tmp_path: Path
) -> None:
    """On a cluster of two nodes; the command is a process of its own, because Ray stays in the process that uses it."""
    flags = [
        f"--model={tiny_model('llama')}",
        *(f"--{split}-file={path}" for split, path in tiny_data.items()),
        *("--methods=zero_shot,lora,full", "--seeds=2", "--max-steps=3", "--max-length=128", "--max-new-tokens=4"),
        *("--precision=fp32", "--quiet"),
    ]
    with ray_cluster(OMP_NUM_THREADS="1") as cluster:
        for _ in range(2):
            cluster.add_node()
        engines = {"ray": f"ray:cpus=1,memory=100M,address={cluster.address}", "local": "local"}
        for name, engine in engines.items():
            command = [sys.executable, "-m", "tuneoff", "compare", *flags, f"--engine={engine}"]
            command.append(f"--output={tmp_path / name}")
            subprocess.run(command, check=True, env={**os.environ, **variables(), "OMP_NUM_THREADS": "1"})
    studies = {name: load_study(tmp_path / name) for name in engines}
    ours, theirs = (sorted(record.run_id for record in studies[name].runs()) for name in engines)
    assert ours == theirs
    assert quality_of(studies["ray"].summary) == quality_of(studies["local"].summary)
    assert is_whole(list(verify(tmp_path / "ray")))
    assert not (tmp_path / "ray" / "claims").exists()
