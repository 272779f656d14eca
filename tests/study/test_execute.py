import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_runs import PRELOAD, job

from tuneoff.errors import RunFailure, UserError
from tuneoff.results.events import Event, Finished, PhaseStarted, StepDone
from tuneoff.results.run_record import Record, read_record, write_record
from tuneoff.study.executor import Job, Outcome, execute
from tuneoff.study.launcher import Layout, choose_start_method

METHODS = ["forkserver", "spawn"]


def run(jobs: list[Job], target: str, method: str = "forkserver") -> list[Outcome]:
    def ignore(job: Job, event: Event) -> None:
        pass

    return execute(jobs, on_event=ignore, preload=PRELOAD, start_method=method, target=f"fake_runs:{target}")


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
    told: list[tuple[str, Event]] = []
    order: list[str] = []
    jobs = [job(tmp_path / name, name=name) for name in ("a", "b")]
    outcomes = execute(
        jobs,
        on_event=lambda job, event: told.append((job.name, event)),
        on_start=lambda job: order.append(f"start {job.name}"),
        on_outcome=lambda outcome: order.append(f"end {outcome.job.name} {outcome.record.status}"),
        preload=(*PRELOAD, "decimal"),
        start_method=method,
        target="fake_runs:finish",
    )
    assert [outcome.record for outcome in outcomes] == [read_record(job.folder) for job in jobs]
    assert order == ["start a", "end a finished", "start b", "end b finished"]
    first, second = (outcome.record.details for outcome in outcomes)
    assert len({first["pid"], second["pid"], os.getpid()}) == 3
    assert (first["parent"] == os.getpid()) == (method == "spawn")
    assert [first["state"], second["state"]] == [["a"], ["b"]]  # nothing is left from the run before
    assert first["decimal_preloaded"] or method == "spawn"
    for details in (first, second):
        assert details["question"] == ""  # nobody answers
        assert details["interrupts_ignored"]
        assert not details["torch"]
    for name in ("a", "b"):
        events = [event for whose, event in told if whose == name]
        assert sum(isinstance(event, StepDone) for event in events) == 3
        assert events[-1] == Finished(status="finished")
    log = (tmp_path / "a" / "log.txt").read_text()
    for words in ("chatter of a library", "and its warnings", "from a grandchild"):
        assert words in log
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("processes", [1, 2])
def test_jobs_that_follow_from_others_are_done_too(tmp_path: Path, processes: int) -> None:
    """Rounds of 1, 2 and 1 jobs; single ones come from one server, whose imports are done once."""
    rounds = [[job(tmp_path / name, name=name) for name in names] for names in (("b", "c"), ("d",), ())]
    ended: list[str] = []
    known: list[list[str]] = []

    def more() -> list[Job]:
        known.append(list(ended))
        return rounds.pop(0)

    outcomes = execute(
        [job(tmp_path / "a", name="a")],
        on_event=lambda _job, _event: None,
        on_outcome=lambda outcome: ended.append(outcome.job.name),
        preload=PRELOAD,
        start_method="forkserver",
        target="fake_runs:finish",
        layout=Layout(processes, 1),
        more=more,
    )
    assert [outcome.job.name for outcome in outcomes] == ["a", "b", "c", "d"]
    assert [sorted(names) for names in known] == [["a"], ["a", "b", "c"], ["a", "b", "c", "d"]]
    parents = [outcome.record.details["parent"] for outcome in outcomes]
    assert parents[0] == parents[3]
    assert (parents[1] == parents[0]) == (processes == 1)


@pytest.mark.parametrize("method", METHODS)
def test_runs_side_by_side(tmp_path: Path, method: str) -> None:
    """Two workers: every run has its record, in the order of the jobs, and callbacks never overlap."""
    names = ["a", "b", "c", "d"]
    inside, overlaps, ended = [0], [0], []

    def told(_job: Job, _event: Event) -> None:
        inside[0] += 1
        overlaps[0] += inside[0] > 1
        time.sleep(0.001)
        inside[0] -= 1

    outcomes = execute(
        [job(tmp_path / name, name=name) for name in names],
        on_event=told,
        on_outcome=lambda outcome: ended.append(outcome.job.name),
        preload=PRELOAD,
        start_method=method,
        target="fake_runs:finish",
        layout=Layout(2, 1),
    )
    assert [outcome.job.name for outcome in outcomes] == names
    assert {outcome.record.status for outcome in outcomes} == {"finished"}
    assert sorted(ended) == names
    assert overlaps == [0]


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupt_stops_all_that_run_side_by_side(tmp_path: Path, method: str) -> None:
    """Ctrl-C while two runs hang: both are stopped and recorded, none is left alive."""
    folders = [tmp_path / "a", tmp_path / "b"]

    def both_hang() -> bool:
        return all((folder / "pid").exists() and (folder / "pid").read_text() for folder in folders)

    threading.Thread(target=lambda: (wait_for(both_hang), os.kill(os.getpid(), signal.SIGINT))).start()
    with pytest.raises(KeyboardInterrupt):
        execute(
            [job(folder, name=folder.name) for folder in folders],
            on_event=lambda job, event: None,
            preload=PRELOAD,
            start_method=method,
            target="fake_runs:hang",
            layout=Layout(2, 1),
        )
    for folder in folders:
        assert read_record(folder).status == "interrupted"
        assert not alive(int((folder / "pid").read_text()))


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_is_killed_leaves_its_curve_and_the_reason(tmp_path: Path, method: str) -> None:
    (outcome,) = run([job(tmp_path, "SIGKILL")], "kill_itself", method)
    record = read_record(tmp_path)
    assert record == outcome.record
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

    execute([job(tmp_path)], on_event=kill, preload=PRELOAD, start_method=method, target="fake_runs:hang")
    record = read_record(tmp_path)
    assert (record.status, len(record.curve.train)) == ("failed", 2)


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [("SIGTERM", "interrupted", "killed by SIGTERM"), ("SIGSEGV", "failed", "Fatal Python error: Segmentation fault")],
)
def test_other_signals_are_named(tmp_path: Path, name: str, status: str, words: str) -> None:
    (outcome,) = run([job(tmp_path, name)], "kill_itself")
    failure = outcome.record.failure
    assert failure is not None
    assert (outcome.record.status, failure.type) == (status, name)
    assert words in failure.message
    assert "memory" not in failure.message.splitlines()[0]


@pytest.mark.parametrize(
    ("method", "target", "words"),
    [
        ("forkserver", "crash", ["code 1", "nobody caught me"]),
        ("spawn", "crash", ["code 1", "nobody caught me"]),
        ("forkserver", "exit_quietly", ["code 7"]),
        ("forkserver", "no_such", ["no_such"]),
    ],
)
def test_an_end_without_a_record_is_a_failure_with_the_log(
    tmp_path: Path, method: str, target: str, words: list[str]
) -> None:
    (outcome,) = run([job(tmp_path)], target, method)
    assert outcome.record.status == "failed"
    assert outcome.record.failure is not None
    assert "before its first phase" in outcome.record.failure.message
    for word in words:
        assert word in outcome.record.failure.message


def test_a_record_that_says_running_is_not_believed(tmp_path: Path) -> None:
    (outcome,) = run([job(tmp_path)], "leave_running_record")
    assert outcome.record.status == "failed"


def test_the_study_goes_on_after_failures(tmp_path: Path) -> None:
    names = ["crash", "SIGKILL", "finish", "SIGABRT", "finish"]
    jobs = [job(tmp_path / str(number), name) for number, name in enumerate(names)]
    statuses = [outcome.record.status for outcome in run(jobs, "mixed")]
    assert statuses == ["failed", "failed", "finished", "failed", "finished"]


def test_what_an_earlier_attempt_left_is_not_taken_for_this_one(tmp_path: Path) -> None:
    stale = job(tmp_path)
    old = Record(run_id=stale.run_id, name=stale.name, spec=stale.spec, status="finished", started_at="2020")
    write_record(tmp_path, old)
    (tmp_path / "events.jsonl").write_text(PhaseStarted(phase="generate", seconds=9.0).model_dump_json() + "\n")
    (tmp_path / "predictions.jsonl").write_text("{}\n")
    (outcome,) = run([stale], "crash")
    assert outcome.record.status == "failed"
    assert outcome.record.failure is not None
    assert "generate" not in outcome.record.failure.message
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
    outcomes = execute(jobs, on_event=kill_server, preload=PRELOAD, start_method="forkserver", target="fake_runs:hang")
    assert [outcome.record.status for outcome in outcomes] == ["failed", "interrupted"]
    assert wait_for(lambda: not alive(killed[0]))


def test_a_preload_that_fails_says_what(tmp_path: Path) -> None:
    with pytest.raises(RunFailure, match="No module named 'no_such_module'"):
        execute([job(tmp_path)], on_event=lambda job, event: None, preload=("no_such_module",))


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
    (outcome,) = execute(
        [job(tmp_path)], on_event=lambda job, event: None, preload=("no_such_module",), target="fake_runs:finish"
    )
    assert outcome.record.details["parent"] == os.getpid()


def test_outside_the_main_thread(tmp_path: Path) -> None:
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.extend(run([job(tmp_path)], "finish")))
    thread.start()
    thread.join()
    assert outcomes[0].record.status == "finished"


# A script without an `if __name__` guard: were it imported by its children, it would start itself again.
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from fake_runs import job, PRELOAD
from tuneoff.study import launcher
from tuneoff.study.executor import execute
launcher.GRACE_SECONDS = 1.0
print("started", flush=True)
folder = Path({folder!r})
outcomes = execute([job(folder), job(folder / "next")], on_event=lambda job, event: None, preload=PRELOAD,
                   start_method={method!r}, target="fake_runs:{target}")
print(*(outcome.record.status for outcome in outcomes), flush=True)
"""


def script(tmp_path: Path, target: str, method: str) -> "subprocess.Popen[str]":
    path = tmp_path / "script.py"
    text = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "run"), method=method, target=target)
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
        ("spawn", "hang", signal.SIGINT, -signal.SIGINT),
        ("forkserver", "hang_and_be_deaf", signal.SIGTERM, 143),
        ("spawn", "hang", signal.SIGTERM, 143),
    ],
)
def test_a_stop_is_recorded_and_ends_the_study(
    tmp_path: Path, method: str, target: str, number: signal.Signals, code: int
) -> None:
    process = script(tmp_path, target, method)
    pid_file = tmp_path / "run" / "pid"
    assert wait_for(lambda: pid_file.exists() and pid_file.read_text() != "")
    child = int(pid_file.read_text())
    # Ctrl-C reaches the whole group, as from a terminal; SIGTERM the parent alone, as from a batch system
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert not alive(child)
    record = read_record(tmp_path / "run")
    assert (record.status, len(record.curve.train)) == ("interrupted", 2)
    assert record.failure is not None
    assert "in phase train, after step 2 of 9" in record.failure.message
    assert not (tmp_path / "run" / "next").exists()


@pytest.mark.parametrize("method", METHODS)
def test_no_run_outlives_a_parent_that_was_killed(tmp_path: Path, method: str) -> None:
    process = script(tmp_path, "hang_and_be_deaf", method)
    pid_file = tmp_path / "run" / "pid"
    assert wait_for(lambda: pid_file.exists() and pid_file.read_text() != "")
    child = int(pid_file.read_text())
    assert alive(child)
    process.kill()
    process.communicate(timeout=60)
    assert wait_for(lambda: not alive(child))
    assert not (tmp_path / "run" / "record.json").exists()
