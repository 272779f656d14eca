"""What a task of Ray checks before it carries out a run, and what it keeps for the next one."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.fake_executor import FakeExecutor
from support.stepping_executor import jobs_in
from tuneoff.errors import RunFailure
from tuneoff.results.run_claims import Claims
from tuneoff.results.run_record import NUMERICS_VERSION
from tuneoff.study import ray_task
from tuneoff.study.executor import Job
from tuneoff.study.launcher import Layout
from tuneoff.study.ray_task import RayAnswer, RayTask, answer_to, carry_out_task
from tuneoff.study.run_id import run_id_of


@pytest.fixture(autouse=True)
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_task._Warm, "_kept", None)
    monkeypatch.setattr(ray_task, "_model_hash", lambda _spec: "weights")
    monkeypatch.setattr(ray_task, "_data_hash", lambda _spec, _instruction: "texts")


@pytest.fixture
def executors(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The settings of every executor that is opened, and whether it was closed."""
    opened: list[dict[str, Any]] = []

    class Noted(FakeExecutor):
        def __init__(self, **settings: Any) -> None:
            super().__init__()
            opened.append({**settings, "closed": False})
            self._about = opened[-1]

        def __exit__(self, *_error: object) -> None:
            self._about["closed"] = True

    monkeypatch.setattr(ray_task, "LocalExecutor", Noted)
    return opened


def task_of(folder: Path, **changes: Any) -> RayTask:
    [job] = jobs_in(folder, 1)
    (folder / "plan.json").parent.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text("{}")
    values = {
        "directory": str(folder),
        "study": str(folder),
        "spec": job.spec,
        "run_id": run_id_of(job.spec, "weights", "texts"),
        "name": job.name,
        "keep_texts": False,
        "number_format": "bf16",
        "worker": "ray 1",
        "threads": 2,
        "processes": 3,
    }
    return RayTask.model_validate({**values, **changes})


@pytest.fixture(autouse=True)
def same_directory() -> Iterator[None]:
    before = Path.cwd()
    yield
    os.chdir(before)


def done(task: RayTask) -> RayAnswer:
    return RayAnswer.model_validate_json(carry_out_task(task.model_dump_json()))


def test_a_run_is_carried_out_under_the_name_of_its_task(tmp_path: Path, executors: list[dict[str, Any]]) -> None:
    task = task_of(tmp_path)
    assert done(task).refused is None
    assert task.job.dir.read_record().status == "finished"
    assert (task.job.keep_texts, task.job.number_format) == (False, "bf16")
    holder = Claims(tmp_path, "").holder(task.job.dir.name)
    assert holder is not None
    assert holder.worker.startswith("ray 1 ")
    assert holder.ended == "released"
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"numerics": NUMERICS_VERSION + 1},
            f"has version {NUMERICS_VERSION} of tuneoff's numerics, and the study has",
        ),
        ({"study": "/not/there"}, "does not see /not/there; the study's folder must be on a disk"),
        ({"directory": "/not/there"}, "cannot open /not/there (No such file or directory)"),
        ({"run_id": "0" * 16}, "finds other data or another model"),
    ],
)
def test_a_node_that_does_not_suit_the_study_refuses(
    changes: dict[str, Any], words: str, tmp_path: Path, executors: list[dict[str, Any]]
) -> None:
    task = task_of(tmp_path, **changes)
    assert words in str(done(task).refused)
    assert executors == []
    assert not (tmp_path / "claims").exists()


def test_the_imports_are_kept_for_the_next_task(
    tmp_path: Path, executors: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for number in range(2):
        done(task_of(tmp_path / str(number)))
    assert executors == [{"alone": Layout(3, 2), "closed": False}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    done(task_of(tmp_path / "other"))
    assert [each["closed"] for each in executors] == [True, False]


def test_after_an_interruption_they_are_made_anew(
    tmp_path: Path, executors: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_self: object, _job: Job) -> None:
        raise KeyboardInterrupt

    task = task_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(FakeExecutor, "_carry_out", interrupt)
        with pytest.raises(KeyboardInterrupt):
            done(task)
    assert [each["closed"] for each in executors] == [True]
    assert done(task_of(tmp_path)).refused is None


def test_a_node_that_cannot_start_runs_says_why(tmp_path: Path) -> None:
    def fail(_layout: Layout) -> Any:
        raise RunFailure("the process that starts runs has failed: no torch")

    answer = answer_to(task_of(tmp_path).model_dump_json(), lambda _task: None, fail)
    assert "no torch" in str(RayAnswer.model_validate_json(answer).refused)


def test_an_executor_that_stays_open_says_who_works(executors: list[dict[str, Any]]) -> None:
    warm = ray_task._warm_executor(Layout(2, 1))
    assert (warm.capacity(), warm.health()) == (1, [])
    assert len(executors) == 1
