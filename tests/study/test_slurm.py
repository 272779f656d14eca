"""What SLURM is asked for, with an `sbatch` of our own on the path, which keeps the scripts and runs none.

One study, at the end, goes through an `sbatch` that runs them.
"""

import os
import re
import shlex
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.engine_results import engine_differences
from support.fake_slurm import fake_slurm
from support.stepping_executor import jobs_in, shared_executor
from tuneoff.api import load_study
from tuneoff.cli import main
from tuneoff.cli.verification import is_whole
from tuneoff.errors import UserError
from tuneoff.results.run_claims import Claims
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.verification import verify
from tuneoff.study import slurm
from tuneoff.study.executor import SilentObserver, open_executor
from tuneoff.study.launcher import WHOLE_MACHINE, Layout
from tuneoff.study.slurm import SlurmExecutor

# Each is given: the folder of the scheduler. `queue` holds the number of a job that has tasks left.
_SBATCH = """#!{python}
import pathlib, sys
here = pathlib.Path({here!r})
number = len(list(here.glob("*.script"))) + 1
(here / f"{{number}}.script").write_text(sys.stdin.read())
if (here / "refuses").exists():
    print("sbatch: error: invalid partition specified: " + (here / "refuses").read_text(), file=sys.stderr)
    sys.exit(1)
(here / "queue").write_text(str(number))
print(f"{{number}};cluster")
"""
_SQUEUE = """#!{python}
import pathlib, sys
here = pathlib.Path({here!r})
number = sys.argv[-1].partition("=")[2]
queue = here / "queue"
if queue.exists() and queue.read_text() == number:
    print(number, "R")
"""


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "scheduler"
    here.mkdir()
    for name, text in (("sbatch", _SBATCH), ("squeue", _SQUEUE)):
        (here / name).write_text(text.format(python=sys.executable, here=str(here)))
        (here / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{here}{os.pathsep}{os.environ['PATH']}")
    return here


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "a study"
    folder.mkdir()
    return folder


def executor(**settings: str) -> SlurmExecutor:
    return SlurmExecutor(WHOLE_MACHINE, **settings, poll_seconds=0.02, queue_seconds=0.1)


def test_runs_of_the_workers_are_yielded_as_they_come(scheduler: Path, study: Path) -> None:
    jobs = jobs_in(study, 3)
    found = executor(workers="2").run(jobs, SilentObserver())
    with shared_executor() as shared:
        assert len(list(shared.run(jobs, SilentObserver()))) == 3
    assert sorted(run.record.name for run in found) == ["run0", "run1", "run2"]
    assert len(list(scheduler.glob("*.script"))) == 1
    assert (study / "slurm" / "job").read_text() == "1\n"


def test_the_script_is_what_a_person_would_write(scheduler: Path, study: Path) -> None:
    settings = {"workers": "3", "time": "90m", "memory": "16G", "cpus": "8", "partition": "gpu", "account": "lab"}
    text = executor(**settings).script(StudyDir(study), 2)
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    for wanted in (
        "--array=0-1", "--time=90", "--mem=16G", "--cpus-per-task=8", "--partition=gpu", "--account=lab", "--requeue",
        "--signal=TERM@60",
    ):  # fmt: skip
        assert f"#SBATCH {wanted}" in lines
    # srun is told the processors: from 22.05 to 23.02 (CHANGELOG of SLURM) it does not take them from sbatch.
    assert lines[-1] == f"exec srun --cpus-per-task=8 {sys.executable} -P -m tuneoff work '{study}' --memory 16G"
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


@pytest.mark.parametrize("name", ["50% %x done", 'it\'s "#1"', "%%A"])
def test_the_names_of_logs_are_those_that_sbatch_reads(name: str, scheduler: Path, tmp_path: Path) -> None:
    """As `get_argument` (src/sbatch/opt.c) and `expand_stdio_fields` (src/common/print_fields.c) of SLURM 284c3b9."""
    [line] = [line for line in executor().script(StudyDir(tmp_path / name), 2).splitlines() if "--output=" in line]
    pattern = "".join(shlex.split(line.removeprefix("#SBATCH "))).removeprefix("--output=")
    fields = {"%%": "%", "%A": "77", "%a": "3", "%x": "tuneoff"}
    found = re.sub("%.", lambda field: fields.get(field[0], field[0]), pattern)
    assert found == str(tmp_path / name / "slurm" / "77_3.log")


@pytest.mark.parametrize("name", ["a\\b", "a\nb"])
def test_a_folder_that_sbatch_cannot_name_is_refused_before_it_is_asked(
    name: str, scheduler: Path, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="a backslash or a line break in its name; choose another --output"):
        list(executor().run(jobs_in(tmp_path / name, 1), SilentObserver()))
    assert list(scheduler.glob("*.script")) == []


def test_workers_that_ended_before_the_runs_are_reported(
    scheduler: Path, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_in(study, 2)
    found = executor().run(jobs, SilentObserver())
    with shared_executor() as shared:
        list(shared.run(jobs[:1], SilentObserver()))
    assert next(found).record.name == "run0"
    (scheduler / "queue").unlink()
    monkeypatch.setattr(slurm, "_SEEN_SECONDS", 0.0)
    with pytest.raises(UserError, match="SLURM job 1 has ended and 1 run"):
        next(found)


def test_the_same_command_waits_for_workers_that_are_still_there(scheduler: Path, study: Path) -> None:
    jobs = jobs_in(study, 1)
    (study / "slurm").mkdir()
    (study / "slurm" / "job").write_text("7\n")
    (scheduler / "queue").write_text("7")
    with shared_executor() as shared:
        list(shared.run(jobs, SilentObserver()))
    assert len(list(executor().run(jobs, SilentObserver()))) == 1
    assert list(scheduler.glob("*.script")) == []


def test_the_number_of_a_job_is_not_read_from_a_pipe_and_not_written_through_a_link(
    scheduler: Path, study: Path
) -> None:
    precious = study.parent / "precious"
    precious.write_text("mine")
    (study / "slurm").mkdir()
    (study / "slurm" / "job").symlink_to(precious)
    with executor() as watching:
        watching._submit(StudyDir(study), 1)
        assert precious.read_text() == "mine"
        assert watching._number_in_queue(StudyDir(study)) == "1"
        (study / "slurm" / "job").unlink()
        os.mkfifo(study / "slurm" / "job")
        assert watching._number_in_queue(StudyDir(study)) is None


def test_a_refusal_of_the_scheduler_is_one_sentence(scheduler: Path, study: Path) -> None:
    (scheduler / "refuses").write_text("gpu")
    with pytest.raises(UserError, match="sbatch refuses the workers: sbatch: error: invalid partition specified: gpu"):
        list(executor(partition="gpu").run(jobs_in(study, 1), SilentObserver()))


@pytest.mark.usefixtures("scheduler")
@pytest.mark.parametrize(
    ("engine", "layout", "words"),
    [
        ("slurm:workers=many", WHOLE_MACHINE, "workers=many: a number of tasks"),
        ("slurm:time=long", WHOLE_MACHINE, "time=long: a time such as 4h"),
        ("slurm:partition=a b", WHOLE_MACHINE, "partition=a b: only letters"),
        ("slurm:cpus=x", WHOLE_MACHINE, "cpus=x: a number of processors"),
        ("slurm:cpus=0", WHOLE_MACHINE, "cpus=0: a number of processors"),
        ("slurm:cpus=\u0663", WHOLE_MACHINE, "a number of processors"),
        ("slurm:workers=\u0663", WHOLE_MACHINE, "a number of tasks was expected"),
        ("slurm:time=0s", WHOLE_MACHINE, "time=0s: a time such as 4h"),
        ("slurm:memory=0G", WHOLE_MACHINE, "memory=0G: a whole number with a unit"),
        # megabytes for SLURM, bytes for the workers; a fraction is nothing for SLURM (src/common/proc_args.c)
        ("slurm:memory=16000", WHOLE_MACHINE, "memory=16000: a whole number with a unit was expected, such as 16G"),
        ("slurm:memory=1.5G", WHOLE_MACHINE, "memory=1.5G: a whole number with a unit"),
        ("slurm:nodes=2", WHOLE_MACHINE, "slurm does not have the setting 'nodes=2' (it has: workers, time"),
        ("slurm:workers", WHOLE_MACHINE, "slurm does not have the setting 'workers'"),
        ("local:workers=2", WHOLE_MACHINE, "local does not have the setting 'workers=2' (it has: none)"),
        ("slrm:workers=2", WHOLE_MACHINE, "unknown executor 'slrm'"),
        ("slurm", Layout(2, 1), "set the number of tasks"),
    ],
)
def test_mistakes_are_one_sentence(engine: str, layout: Layout, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        open_executor(engine, layout)


def test_without_a_scheduler_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no sbatch on this machine"):
        open_executor("slurm", WHOLE_MACHINE)


def test_a_failed_run_is_yielded_and_tried_again_by_the_next_command(scheduler: Path, study: Path) -> None:
    [job] = jobs_in(study, 1)
    claim = Claims(study, "worker").take(job.dir.name, "")
    assert claim is not None
    claim.release("failed")
    assert list(executor().run([job], SilentObserver())) == []
    Claims(study, "").forget_failures()
    holder = Claims(study, "").holder(job.dir.name)
    assert holder is not None
    assert holder.ended == "released"


def test_the_array_has_no_more_tasks_than_runs(scheduler: Path, study: Path) -> None:
    jobs = jobs_in(study, 2)
    with shared_executor() as shared:
        list(shared.run(jobs, SilentObserver()))
    list(executor(workers="50").run(jobs, SilentObserver()))
    assert "#SBATCH --array=0-1" in (scheduler / "1.script").read_text()


# ---- scripts that run -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_through_a_scheduler_has_the_results_of_a_local_one(
    tiny_model: Callable[[str], Path], tiny_data: dict[str, Path], tmp_path: Path
) -> None:
    """Two tasks at a time. One is preempted while it trains, and goes on when it was queued again."""
    flags = [
        f"--model={tiny_model('llama')}",
        *(f"--{split}-file={path}" for split, path in tiny_data.items()),
        *("--methods=zero_shot,lora", "--seeds=2", "--trials=0", "--max-steps=40", "--epochs=20"),
        *("--max-length=128", "--max-new-tokens=4", "--precision=fp32", "--quiet"),
    ]
    assert main(["compare", *flags, f"--output={tmp_path / 'local'}"]) == 0
    folder = tmp_path / "a study"
    with fake_slurm(tmp_path / "scheduler") as scheduler:
        scheduler.preempt(folder, "lora")
        assert main(["compare", *flags, "--engine=slurm:workers=2", f"--output={folder}"]) == 0
        end = time.monotonic() + 120
        while scheduler.has_tasks():
            assert time.monotonic() < end
            time.sleep(0.1)
    preempted, *others = sorted(scheduler.ended, key=lambda ended: -ended["preempted"])
    assert preempted["preempted"] == 1
    assert {each["code"] for each in others} == {0}
    assert {(each["task"], each["restarts"]) for each in others} == {
        (preempted["task"], 1),
        (1 - preempted["task"], 0),
    }
    resumed = [record.name for record in load_study(folder).runs() if "interrupted" in " ".join(record.notes)]
    assert len(resumed) == 1
    assert resumed[0].startswith("lora")
    assert engine_differences(tmp_path / "local", folder) == []
    assert is_whole(list(verify(folder)))


def test_workers_are_known_by_their_claims_and_outlive_the_one_who_waits(scheduler: Path, study: Path) -> None:
    """Those that wait in the queue have none. To close the iterator stops nobody."""
    jobs = jobs_in(study, 3)
    with shared_executor() as shared:
        list(shared.run(jobs[:1], SilentObserver()))
    claim = Claims(study, "node1:7").take(jobs[1].dir.name, "")
    assert claim is not None
    with executor(workers="2") as waiting:
        assert (waiting.capacity(), waiting.health()) == (2, [])
        runs = waiting.run(jobs, SilentObserver())
        assert next(runs).record.name == "run0"
        assert [(worker.name, worker.run) for worker in waiting.health()] == [("node1:7", jobs[1].dir.name)]
        assert waiting.capacity() == 1
        runs.close()  # type: ignore[attr-defined]
        assert [worker.name for worker in waiting.health()] == ["node1:7"]
        claim.release()
        assert (waiting.health(), waiting.capacity()) == ([], 2)
    assert (scheduler / "queue").read_text() == "1"
