import contextlib
import dataclasses
import itertools
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.fake_executor import FakeExecutor
from support.fake_runs import PRELOAD, job
from support.ray_stepping import FakeRay
from support.stepping_executor import SteppingExecutor, jobs_in
from tuneoff.errors import RunFailure, UserError
from tuneoff.methods import defaults
from tuneoff.results.events import Event, Finished, Note, PhaseStarted, StepDone
from tuneoff.results.run_claims import Claims, Team, Worker
from tuneoff.results.run_dir import RunDir, StoredRun
from tuneoff.results.run_record import Record
from tuneoff.spec import DataSpec, GenerateSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec, TrainSpec
from tuneoff.study import executor, ray_task
from tuneoff.study.executor import (
    EXECUTORS,
    Executor,
    Job,
    LocalExecutor,
    Observer,
    Observers,
    Serialized,
    SilentObserver,
    closed_at_the_end,
    open_executor,
    team_of,
)
from tuneoff.study.launcher import WHOLE_MACHINE, Layout, choose_start_method
from tuneoff.study.ray_engine import RayExecutor
from tuneoff.study.shared_folder import SharedFolderExecutor
from tuneoff.study.slurm import SlurmExecutor

METHODS = ["forkserver", "spawn"]


class Watch:
    """An observer that passes every event to a function, and remembers the order of starts and ends."""

    def __init__(self, on_event: Callable[[Job, Event], None] = lambda _job, _event: None) -> None:
        self._on_event = on_event
        self.order: list[str] = []

    def started(self, job: Job) -> None:
        self.order.append(f"start {job.name}")

    def event(self, job: Job, event: Event) -> None:
        self._on_event(job, event)

    def ended(self, job: Job, run: StoredRun) -> None:
        self.order.append(f"end {job.name} {run.record.status}")


def run(
    jobs: list[Job],
    target: str,
    method: str | None = "forkserver",
    *,
    observer: Observer | None = None,
    preload: tuple[str, ...] = PRELOAD,
    layout: Layout = WHOLE_MACHINE,
) -> list[Record]:
    target = f"support.fake_runs:{target}"
    with LocalExecutor(layout, preload=preload, start_method=method, target=target) as opened:
        return [done.record for done in opened.run(jobs, observer or SilentObserver())]


def read_record(folder: Path) -> Record:
    return RunDir(folder).read_record()


def detail(record: Record, name: str) -> object:
    """A detail that only the fake runs write."""
    assert record.details.model_extra is not None
    return record.details.model_extra[name]


def alive(pid: int) -> bool:
    """Whether a process still works (one that is dead but not yet collected does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("method", METHODS)
def test_each_run_has_a_process_of_its_own(tmp_path: Path, method: str, capfd: pytest.CaptureFixture[str]) -> None:
    received: list[tuple[str, Event]] = []
    watch = Watch(lambda job, event: received.append((job.name, event)))
    jobs = [job(tmp_path / name, name=name) for name in ("a", "b")]
    records = run(jobs, "finish", method, observer=watch, preload=(*PRELOAD, "decimal"))
    assert records == [job.dir.read_record() for job in jobs]
    assert watch.order == ["start a", "end a finished", "start b", "end b finished"]
    first, second = records
    assert len({detail(first, "pid"), detail(second, "pid"), os.getpid()}) == 3
    assert (detail(first, "parent") == os.getpid()) == (method == "spawn")
    assert [detail(first, "state"), detail(second, "state")] == [["a"], ["b"]]  # nothing is left from the run before
    assert detail(first, "decimal_preloaded") or method == "spawn"
    for record in records:
        assert detail(record, "question") == ""  # nobody answers
        assert detail(record, "interrupts_ignored")
        assert not detail(record, "torch")
    for name in ("a", "b"):
        events = [event for whose, event in received if whose == name]
        assert sum(isinstance(event, StepDone) for event in events) == 3
        assert events[-1] == Finished(status="finished")
    log = (tmp_path / "a" / "log.txt").read_text()
    for words in ("chatter of a library", "and its warnings", "from a grandchild"):
        assert words in log
    assert capfd.readouterr() == ("", "")


def test_the_number_format_of_a_study_reaches_its_runs(tmp_path: Path) -> None:
    [record] = run([dataclasses.replace(job(tmp_path), number_format="bf16")], "finish_in_format")
    assert record.details.dtype == "bf16"


def test_runs_are_yielded_as_they_end_and_jobs_start_when_they_are_asked_for(tmp_path: Path) -> None:
    jobs = [job(tmp_path / name, name=name) for name in ("a", "b")]
    with LocalExecutor(preload=PRELOAD, start_method="spawn", target="support.fake_runs:finish") as executor:
        runs = executor.run(jobs, SilentObserver())
        first = next(runs)
        assert (first.name, first.record.name) == ("a", "a")
        assert not jobs[1].dir.path.exists()
        assert [each.name for each in runs] == ["b"]


@pytest.mark.parametrize("processes", [1, 2])
def test_one_server_does_its_imports_once_for_all_calls(tmp_path: Path, processes: int) -> None:
    """Rounds of 1, 2 and 1 jobs, as trials make further runs known; single jobs come from one server."""
    layout = Layout(processes, 1)
    parents: list[object] = []
    target = "support.fake_runs:finish"
    with LocalExecutor(layout, preload=PRELOAD, start_method="forkserver", target=target) as executor:
        for names in (("a",), ("b", "c"), ("d",)):
            done = list(executor.run([job(tmp_path / name, name=name) for name in names], SilentObserver()))
            assert sorted(each.name for each in done) == list(names)
            parents += [detail(each.record, "parent") for each in done]
    assert parents[0] == parents[3]
    assert (parents[1] == parents[0]) == (processes == 1)


@pytest.mark.parametrize("method", METHODS)
def test_concurrent_runs(tmp_path: Path, method: str) -> None:
    """Two workers: every run has its record, and the observer is never called concurrently."""
    names = ["a", "b", "c", "d"]
    inside, overlaps = [0], [0]

    def received(_job: Job, _event: Event) -> None:
        inside[0] += 1
        overlaps[0] += inside[0] > 1
        time.sleep(0.001)
        inside[0] -= 1

    watch = Watch(received)
    jobs = [job(tmp_path / name, name=name) for name in names]
    records = run(jobs, "finish", method, observer=watch, layout=Layout(2, 1))
    assert sorted(record.name for record in records) == names
    assert {record.status for record in records} == {"finished"}
    # in the order of the ends
    assert [f"end {record.name} finished" for record in records] == [
        line for line in watch.order if line.startswith("end")
    ]
    assert overlaps == [0]


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupt_stops_all_concurrent_runs(tmp_path: Path, method: str) -> None:
    """Ctrl-C while two runs hang: both are stopped and recorded, none is left alive."""
    folders = [tmp_path / "a", tmp_path / "b"]

    def both_hang() -> bool:
        return all((folder / "pid").exists() and (folder / "pid").read_text() for folder in folders)

    def interrupt() -> None:
        wait_for(both_hang)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run([job(folder, name=folder.name) for folder in folders], "hang", method, layout=Layout(2, 1))
    for folder in folders:
        assert read_record(folder).status == "interrupted"
        assert not alive(int((folder / "pid").read_text()))


def test_concurrent_runs_are_stopped_when_nobody_asks_for_the_next_one(tmp_path: Path) -> None:
    """An interrupt between two runs closes the generator: whatever hangs is stopped and recorded."""
    before = set(threading.enumerate())
    names = ["finish", "hang", "hang"]
    jobs = [job(tmp_path / str(number), name) for number, name in enumerate(names)]
    layout = Layout(2, 1)
    with LocalExecutor(layout, preload=PRELOAD, start_method="spawn", target="support.fake_runs:by_method") as executor:
        runs = executor.run(jobs, SilentObserver())
        assert next(runs).record.status == "finished"
        assert isinstance(runs, Generator)
        runs.close()
    assert set(threading.enumerate()) <= before
    assert read_record(tmp_path / "1").status == "interrupted"


def test_an_error_of_one_worker_ends_all_and_is_raised(tmp_path: Path) -> None:
    def fail(job: Job, event: Event) -> None:
        if job.name == "b" and isinstance(event, StepDone):
            raise ValueError("the observer failed")

    jobs = [job(tmp_path / name, name=name) for name in ("a", "b", "c")]
    with pytest.raises(ValueError, match="the observer failed"):
        run(jobs, "hang", "spawn", observer=Watch(fail), layout=Layout(2, 1))
    assert read_record(tmp_path / "a").status == "interrupted"
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_is_killed_leaves_its_curve_and_the_reason(tmp_path: Path, method: str) -> None:
    (found,) = run([job(tmp_path, "SIGKILL")], "kill_itself", method)
    record = read_record(tmp_path)
    assert record == found
    assert record.status == "failed"
    assert [point.step for point in record.curve.train] == [1, 2, 3, 4, 5]
    assert record.curve.best_validation_loss == 1.25
    assert record.notes == ("cut",)
    assert record.failure is not None
    assert record.failure.type == "SIGKILL"
    for words in ("SIGKILL in phase train, after step 5 of 9", "memory runs out", "3.21 GB", "?[31mlast words?[0m"):
        assert words in record.failure.message


@pytest.mark.parametrize("method", METHODS)
def test_kill_minus_nine_from_outside(tmp_path: Path, method: str) -> None:
    def kill(_job: Job, event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)

    run([job(tmp_path)], "hang", method, observer=Watch(kill))
    record = read_record(tmp_path)
    assert (record.status, len(record.curve.train)) == ("failed", 2)


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [("SIGTERM", "interrupted", "killed by SIGTERM"), ("SIGSEGV", "failed", "Fatal Python error: Segmentation fault")],
)
def test_other_signals_are_named(tmp_path: Path, name: str, status: str, words: str) -> None:
    (record,) = run([job(tmp_path, name)], "kill_itself")
    failure = record.failure
    assert failure is not None
    assert (record.status, failure.type) == (status, name)
    assert words in failure.message
    assert "memory" not in failure.message.splitlines()[0]


@pytest.mark.parametrize(
    ("method", "target", "words"),
    [
        ("forkserver", "crash", ["code 1", "nobody caught me"]),
        ("spawn", "crash", ["code 1", "nobody caught me"]),
        ("forkserver", "exit_with_code", ["code 7"]),
        ("forkserver", "no_such", ["no_such"]),
    ],
)
def test_an_end_without_a_record_is_a_failure_with_the_log(
    tmp_path: Path, method: str, target: str, words: list[str]
) -> None:
    (record,) = run([job(tmp_path)], target, method)
    assert record.status == "failed"
    assert record.failure is not None
    assert "before its first phase" in record.failure.message
    for word in words:
        assert word in record.failure.message


@pytest.mark.parametrize("method", METHODS)
def test_a_run_without_room_for_its_record_is_one_sentence(tmp_path: Path, method: str) -> None:
    """Its log is on the same disk, so nothing may be in it."""
    (record,) = run([job(tmp_path)], "fill_the_disk", method)
    assert record.failure is not None
    assert re.fullmatch(
        rf"the disk was full before its first phase \({tmp_path}, [\d,]+ bytes are free\); free some space, then run "
        "the same command again",
        record.failure.message,
    )


def test_a_record_that_says_running_is_not_believed(tmp_path: Path) -> None:
    (record,) = run([job(tmp_path)], "leave_running_record")
    assert record.status == "failed"


def test_the_study_goes_on_after_failures(tmp_path: Path) -> None:
    names = ["crash", "SIGKILL", "finish", "SIGABRT", "finish"]
    jobs = [job(tmp_path / str(number), name) for number, name in enumerate(names)]
    statuses = [record.status for record in run(jobs, "by_method")]
    assert statuses == ["failed", "failed", "finished", "failed", "finished"]


def test_what_an_earlier_attempt_left_is_not_taken_for_this_one(tmp_path: Path) -> None:
    stale = job(tmp_path)
    old = Record(run_id=stale.run_id, name=stale.name, spec=stale.spec, status="finished", started_at="2020")
    stale.dir.write_record(old)
    (tmp_path / "events.jsonl").write_text(PhaseStarted(phase="generate", seconds=9.0).model_dump_json() + "\n")
    (tmp_path / "predictions.jsonl").write_text("{}\n")
    (record,) = run([stale], "crash")
    assert record.status == "failed"
    assert record.failure is not None
    assert "generate" not in record.failure.message
    assert not (tmp_path / "predictions.jsonl").exists()


def test_the_server_dying_costs_one_run(tmp_path: Path) -> None:
    def kill_server(_job: Job, event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 2 and (tmp_path / "0").exists():
            assert wait_for(lambda: (tmp_path / "0" / "pid").exists() and (tmp_path / "0" / "pid").read_text() != "")
            if not killed:
                child = int((tmp_path / "0" / "pid").read_text())
                server = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
                killed.append(child)
                os.kill(server, signal.SIGKILL)
            else:
                second = int((tmp_path / "1" / "pid").read_text())
                os.kill(second, signal.SIGTERM)

    killed: list[int] = []
    jobs = [job(tmp_path / str(number)) for number in range(2)]
    records = run(jobs, "hang", observer=Watch(kill_server))
    assert [record.status for record in records] == ["failed", "interrupted"]
    assert wait_for(lambda: not alive(killed[0]))


def test_the_death_of_the_server_is_not_called_want_of_memory(tmp_path: Path) -> None:
    (record,) = run([job(tmp_path)], "kill_the_server")
    assert record.failure is not None
    assert (record.status, record.failure.type) == ("failed", "ServerDied")
    assert "memory" not in record.failure.message


def test_a_server_that_cannot_fork_costs_the_runs_of_that_time_only(tmp_path: Path) -> None:
    """The system refuses new processes for a while: too many processes, or too little memory."""
    jobs = [job(tmp_path / str(number), name=f"lora-s{number}") for number in range(3)]
    records = run(jobs, "finish", preload=(*PRELOAD, "support.refused_fork"))
    assert [record.status for record in records] == ["finished", "failed", "finished"]
    failure = records[1].failure
    assert failure is not None
    assert (failure.type, read_record(tmp_path / "1").status) == ("NotStarted", "failed")
    assert "the system refused a new process (Resource temporarily unavailable)" in failure.message


def test_a_process_that_cannot_be_spawned_costs_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    for method in METHODS:
        (record,) = run([job(tmp_path / method)], "finish", method)
        assert record.failure is not None
        assert record.failure.type == "NotStarted"


def test_a_run_that_the_system_kills_for_memory_is_tried_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = itertools.count()
    monkeypatch.setattr(executor, "out_of_memory_kills", lambda: next(kills))
    notes: list[str] = []

    def watch(_job: Job, event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    names = ["too_large", "much_too_large", "fine"]
    jobs = [job(tmp_path / name, name=name) for name in names]
    records = run(jobs, "killed_for_memory", observer=Watch(watch))
    assert [record.status for record in records] == ["finished", "failed", "finished"]
    assert [detail(records[0], "parts"), detail(records[2], "parts")] == [2, 1]
    assert records[1].failure is not None
    assert "also with each micro-batch in 2 parts" in records[1].failure.message
    assert sum("tried once more, in parts" in note for note in notes) == 2


def test_a_kill_that_was_not_for_memory_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "out_of_memory_kills", lambda: 7)
    (record,) = run([job(tmp_path, name="too_large")], "killed_for_memory")
    assert record.status == "failed"


def test_a_record_that_cannot_be_written_does_not_end_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunDir, "write_record", full)
    records = run([job(tmp_path / "0"), job(tmp_path / "1")], "crash")
    assert [record.status for record in records] == ["failed", "failed"]


def test_a_preload_that_fails_says_what(tmp_path: Path) -> None:
    with pytest.raises(RunFailure, match="No module named 'no_such_module'"):
        run([job(tmp_path)], "finish", preload=("no_such_module",))


def test_start_method_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEOFF_START_METHOD", "spawn")
    assert choose_start_method() == "spawn"
    assert choose_start_method("forkserver") == "forkserver"
    monkeypatch.setenv("TUNEOFF_START_METHOD", "spwan")
    with pytest.raises(UserError, match=r"TUNEOFF_START_METHOD.*did you mean spawn\?"):
        choose_start_method()
    monkeypatch.delenv("TUNEOFF_START_METHOD")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert choose_start_method() == "spawn"


def test_the_environment_forces_spawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEOFF_START_METHOD", "spawn")
    (record,) = run([job(tmp_path)], "finish", None, preload=("no_such_module",))
    assert detail(record, "parent") == os.getpid()


def test_outside_the_main_thread(tmp_path: Path) -> None:
    records: list[Record] = []
    thread = threading.Thread(target=lambda: records.extend(run([job(tmp_path)], "finish")))
    thread.start()
    thread.join()
    assert records[0].status == "finished"


# A script without an `if __name__` guard: were it imported by its children, it would start itself again.
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from support.fake_runs import job, PRELOAD
from tuneoff.study import launcher
from tuneoff.study.executor import LocalExecutor, SilentObserver
launcher.GRACE_SECONDS = {grace}
print("started", flush=True)
folder = Path({folder!r})
with LocalExecutor(preload=PRELOAD, start_method={method!r}, target="support.fake_runs:{target}") as executor:
    runs = list(executor.run([job(folder), job(folder / "next")], SilentObserver()))
print(*(run.record.status for run in runs), flush=True)
"""


def script(tmp_path: Path, target: str, method: str) -> "subprocess.Popen[str]":
    path = tmp_path / "script.py"
    text = SCRIPT.format(
        tests=str(Path(__file__).parents[1]), folder=str(tmp_path / "run"), method=method, target=target,
        grace=30.0 if target == "save_and_end" else 1.0,
    )  # fmt: skip
    path.write_text(textwrap.dedent(text))
    return subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=tmp_path,
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_script_without_a_guard_does_not_start_itself_again(tmp_path: Path, method: str) -> None:
    out, err = script(tmp_path, "finish", method).communicate(timeout=60)
    assert (out, err) == ("started\nfinished finished\n", "")


@pytest.mark.parametrize(
    ("method", "target", "number", "code"),
    [
        ("forkserver", "hang", signal.SIGINT, -signal.SIGINT),
        pytest.param("spawn", "hang", signal.SIGINT, -signal.SIGINT, marks=pytest.mark.slow),
        ("forkserver", "hang_and_ignore_sigterm", signal.SIGTERM, 143),
        pytest.param("spawn", "hang", signal.SIGTERM, 143, marks=pytest.mark.slow),
        ("forkserver", "save_and_end", signal.SIGHUP, 129),
        ("forkserver", "save_and_end", signal.SIGUSR1, 138),
        ("spawn", "save_and_end", signal.SIGTERM, 143),
    ],
)
def test_a_stop_is_recorded_and_ends_the_study(
    tmp_path: Path, method: str, target: str, number: signal.Signals, code: int
) -> None:
    process = script(tmp_path, target, method)
    pid_file = tmp_path / "run" / "pid"
    assert wait_for(lambda: pid_file.exists() and pid_file.read_text() != "")
    child = int(pid_file.read_text())
    # Ctrl-C and SIGHUP reach the whole group, as from a terminal; SIGTERM the parent alone, as from a batch system
    if number != signal.SIGTERM:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    time.sleep(0.1)
    if target != "hang":  # which ends at once, and the script with it
        process.send_signal(number)  # a second one is survived
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert not alive(child)
    assert number == signal.SIGINT or "Traceback" not in err
    assert (tmp_path / "run" / "saved").exists() == (target == "save_and_end")
    record = read_record(tmp_path / "run")
    assert (record.status, len(record.curve.train)) == ("interrupted", 2)
    assert record.failure is not None
    assert "in phase train, after step 2 of 9" in record.failure.message
    assert not (tmp_path / "run" / "next").exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stop_whose_exception_is_lost_ends_the_study_all_the_same(tmp_path: Path, processes: int) -> None:
    """Python drops what a handler raises in a destructor or in a callback."""

    class Dropping(SilentObserver):
        def started(self, job: Job) -> None:
            with contextlib.suppress(BaseException):
                os.kill(os.getpid(), signal.SIGTERM)

    jobs = [job(tmp_path / name, name=name) for name in ("one", "two", "three")]
    with pytest.raises(SystemExit) as raised:
        run(jobs, "hang", observer=Dropping(), layout=Layout(processes, 1))
    assert raised.value.code == 143
    assert processes > 1 or read_record(tmp_path / "one").status == "interrupted"
    assert not (tmp_path / "three" / "pid").exists()


@pytest.mark.parametrize("method", METHODS)
def test_no_run_outlives_a_parent_that_was_killed(tmp_path: Path, method: str) -> None:
    process = script(tmp_path, "hang_and_ignore_sigterm", method)
    pid_file = tmp_path / "run" / "pid"
    assert wait_for(lambda: pid_file.exists() and pid_file.read_text() != "")
    child = int(pid_file.read_text())
    assert alive(child)
    process.kill()
    process.communicate(timeout=60)
    assert wait_for(lambda: not alive(child))
    assert not (tmp_path / "run" / "record.json").exists()


# Executors of other packages


def test_an_unknown_executor_is_refused_with_the_closest_name() -> None:
    with pytest.raises(UserError, match="unknown executor 'locl'; did you mean `local`"):
        open_executor("locl", WHOLE_MACHINE)
    assert isinstance(open_executor("local", WHOLE_MACHINE), LocalExecutor)


def install(folder: Path, entry: str, code: str = "") -> None:
    """A package in `folder` with one entry point of the group `tuneoff.executors`."""
    (folder / "my_cluster.py").write_text(code)
    about = folder / "my_cluster-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-cluster\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[tuneoff.executors]\n{entry}\n")


def test_an_executor_of_another_package_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
    import contextlib

    class Cluster(contextlib.nullcontext):
        def __init__(self, layout):
            super().__init__(self)
            self.layout = layout

        def run(self, jobs, observer):
            return iter(())
    """
    install(tmp_path, "cluster = my_cluster:Cluster", textwrap.dedent(code))
    assert "cluster" not in EXECUTORS
    monkeypatch.syspath_prepend(tmp_path)
    assert list(EXECUTORS) == ["local", "shared", "slurm", "ray", "cluster"]
    assert "my_cluster" not in sys.modules  # names alone import nothing
    executor = open_executor("cluster", Layout(2, 1))
    assert (type(executor).__name__, vars(executor)["layout"]) == ("Cluster", Layout(2, 1))
    assert team_of(executor) == Team(), "it has neither `capacity` nor `health`"
    del sys.modules["my_cluster"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("cluster = my_cluster:limit", "not a function that takes a layout"),
        ("cluster = my_cluster:missing", "AttributeError"),
        ("local = my_cluster:limit", "tuneoff already has that name"),
    ],
)
def test_an_executor_that_cannot_be_used_names_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, words: str
) -> None:
    install(tmp_path, entry, "limit = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"the package my-cluster adds .*{words}"):
        open_executor("cluster", WHOLE_MACHINE)
    sys.modules.pop("my_cluster", None)


def test_observers_are_informed_in_their_order(tmp_path: Path) -> None:
    watches = [Watch(), Watch()]
    run([job(tmp_path, name="a")], "finish", "spawn", observer=Observers(*watches))
    assert [watch.order for watch in watches] == [["start a", "end a finished"]] * 2


def test_the_other_processes_of_a_run_end_with_it(tmp_path: Path) -> None:
    own = job(tmp_path)
    spec = own.spec.model_copy(update={"train": own.spec.train.model_copy(update={"processes": 3})})
    with LocalExecutor(
        preload=PRELOAD,
        target="support.fake_runs:train_together",
        help_target="support.fake_runs:help_and_stay",
        alone=Layout(1, 7),
    ) as opened:
        [record] = [done.record for done in opened.run([dataclasses.replace(own, spec=spec)], SilentObserver())]
    assert record.status == "finished"
    group, others = detail(record, "group"), detail(record, "others")
    assert isinstance(group, dict)
    assert isinstance(others, list)
    assert (group["rank"], group["size"], group["threads"]) == (0, 3, 2)
    assert [other["group"]["rank"] for other in others] == [1, 2]
    assert {other["group"]["meeting"] for other in others} == {group["meeting"]}
    assert not any(alive(other["pid"]) for other in others)
    assert not Path(group["meeting"]).parent.exists()


def test_a_method_that_trains_nothing_needs_no_other_process(tmp_path: Path) -> None:
    own = job(tmp_path, "zero_shot")
    train = own.spec.train.model_copy(update={"processes": 3})
    assert dataclasses.replace(own, spec=own.spec.model_copy(update={"train": train})).processes == 1


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(
    tiny_model: Callable[[str], Path], tiny_data: dict[str, Path], tmp_path: Path
) -> None:
    losses = []
    for processes in (1, 2):
        spec = RunSpec(
            model=ModelSpec(name=str(tiny_model("llama")), precision="fp32"),
            prompt=PromptSpec(max_length=128),
            data=DataSpec.model_validate({f"{split}_file": str(path) for split, path in tiny_data.items()}),
            method=MethodSpec(name="lora", hyperparameters=defaults("lora")),
            train=TrainSpec(max_steps=3, processes=processes),
            generate=GenerateSpec(max_new_tokens=4),
        )
        own = Job(spec=spec, run_id="0123456789abcdef", name="lora", dir=RunDir(tmp_path / str(processes)))
        with LocalExecutor() as opened:
            [record] = [done.record for done in opened.run([own], SilentObserver())]
        assert record.status == "finished", record.failure
        curve = record.curve
        losses.append([point.loss for point in curve.train] + [point.loss for point in curve.validation])
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert any("2 processes trained" in note for note in record.notes)


# ---- the protocol ------------------------------------------------------------------------------------------------


@dataclass
class Opened:
    """An executor that is to carry out three runs in the folder of a study. The first one ends soon."""

    executor: Executor
    jobs: Sequence[Job]
    look: Callable[[], object] = lambda: None
    """Called while a run is at work."""

    def looked(self) -> None:
        self.look()


class Looking(SteppingExecutor):
    """Steps, and lets the test look meanwhile."""

    def __init__(self, opened: Opened) -> None:
        super().__init__(WHOLE_MACHINE)
        self._opened = opened

    def _carry_out(self, job: Job) -> Record:
        self._opened.looked()
        return super()._carry_out(job)


def opened_local(folder: Path) -> Opened:
    jobs = [
        job(folder / "runs" / f"{number}", name) for number, name in enumerate(["finish", "hang", "hang"])
    ]  # by what they do
    target = "support.fake_runs:by_method"
    return Opened(LocalExecutor(Layout(2, 1), preload=PRELOAD, start_method="spawn", target=target), jobs)


def opened_shared(folder: Path) -> Opened:
    opened = Opened(FakeExecutor(), jobs_in(folder, 3))
    opened.executor = SharedFolderExecutor(Layout(2, 1), inner=lambda _layout: Looking(opened), worker="here:1")
    return opened


def opened_slurm(folder: Path) -> Opened:
    """One worker of the array has ended a run and works on the next one."""
    folder.mkdir()
    jobs = jobs_in(folder, 3)
    list(SteppingExecutor(WHOLE_MACHINE).run(jobs[:1], SilentObserver()))
    assert Claims(folder, "node1:1").take(jobs[1].dir.name, "") is not None
    return Opened(SlurmExecutor(WHOLE_MACHINE, workers="2", poll_seconds=0.01), jobs)


def opened_ray(folder: Path) -> Opened:
    opened = Opened(FakeExecutor(), jobs_in(folder, 3))

    def task(text: str) -> str:
        return ray_task.answer_to(text, lambda _task: None, lambda _layout: Looking(opened))

    ray = FakeRay({"CPU": 2.0, "memory": 1e9}, task=task)
    opened.executor = RayExecutor(WHOLE_MACHINE, cpus="1", memory="1M", connect=ray.connected, poll_seconds=0.01)
    return opened


def opened_fake(folder: Path) -> Opened:
    return Opened(FakeExecutor(processes=2), jobs_in(folder, 3))


def opened_stepping(folder: Path) -> Opened:
    opened = Opened(FakeExecutor(), jobs_in(folder, 3))
    opened.executor = Looking(opened)
    return opened


@pytest.mark.parametrize(
    ("open_it", "outlives"),
    [
        (opened_local, False),
        (opened_shared, False),
        (opened_slurm, True),
        (opened_ray, False),
        (opened_fake, False),
        (opened_stepping, False),
    ],
)
def test_every_executor_says_who_works_and_can_be_cancelled(
    open_it: Callable[[Path], Opened], outlives: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled between two runs: what was begun is stopped, unless a batch system has started it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    scheduler = tmp_path / "scheduler"
    scheduler.mkdir()
    for name in ("sbatch", "squeue"):
        (scheduler / name).write_text("#!/bin/sh\necho 7\n")
        (scheduler / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{scheduler}{os.pathsep}{os.environ['PATH']}")
    study = tmp_path / "study"
    opened = open_it(study)
    seen: list[Worker] = []
    opened.look = lambda: seen.extend(opened.executor.health())

    class Starts(SilentObserver):
        def event(self, job: Job, event: Event) -> None:
            opened.looked()

        def started(self, job: Job) -> None:
            opened.looked()

    with opened.executor as executor:
        assert executor.capacity() >= 1
        assert list(executor.health()) == []
        with closed_at_the_end(executor.run(opened.jobs, Starts())) as runs:
            done = next(runs)
            opened.looked()
            assert executor.capacity() >= 1
        at_work = [worker.run for worker in executor.health()]
    assert {worker.run for worker in seen} <= {job.dir.name for job in opened.jobs}
    assert seen
    assert all(worker.name and worker.state == "working" and worker.silent_seconds >= 0 for worker in seen)
    assert at_work == ([opened.jobs[1].dir.name] if outlives else [])
    others = [each.dir for each in opened.jobs if each.dir.name != done.name]
    assert len(others) == 2
    for folder in others:
        assert not folder.has_record() or folder.read_record().status == "interrupted"
    held = [holder.run for holder in Claims(study, "").holders() if holder.ended is None]
    assert held == at_work
    for pid in study.rglob("pid"):
        assert not alive(int(pid.read_text()))


def test_local_runs_are_known_by_their_processes(tmp_path: Path) -> None:
    """However long a run reports nothing, it works: the end of its process is noticed at once."""
    jobs = [job(tmp_path / name, "hang") for name in ("a", "b")]
    layout, found, longest = Layout(2, 1), list[Worker](), list[Worker]()
    with LocalExecutor(layout, preload=PRELOAD, start_method="spawn", target="support.fake_runs:by_method") as executor:

        def look() -> None:
            assert wait_for(lambda: all((each.dir.path / "pid").exists() for each in jobs))
            found.extend(executor.health())
            assert wait_for(lambda: any(worker.silent_seconds > 0.5 for worker in executor.health()))
            longest.extend(executor.health())
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=look).start()
        with pytest.raises(KeyboardInterrupt):
            list(executor.run(jobs, SilentObserver()))
        assert executor.health() == []
        assert executor.capacity() == 2
    assert {worker.state for worker in longest} == {"working"}
    pids = {each.dir.name: (each.dir.path / "pid").read_text() for each in jobs}
    assert {worker.run: worker.name.rpartition(":")[2] for worker in found} == pids


def test_observers_that_do_not_ask_are_not_told_who_works() -> None:
    class Told(SilentObserver):
        def __init__(self) -> None:
            self.teams: list[Team] = []

        def team(self, team: Team) -> None:
            self.teams.append(team)

    told, team = Told(), Team((Worker("node:1", "run"),), 2)
    Serialized(Observers(SilentObserver(), told)).team(team)
    Serialized(SilentObserver()).team(team)
    assert told.teams == [team]
