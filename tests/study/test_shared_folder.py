"""Several processes carry out one study: each run once, whoever dies or sleeps."""

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from support.fake_executor import FakeExecutor
from support.stepping_executor import STEPS, SteppingExecutor, jobs_in
from support.stepping_executor import shared_executor as executor
from tuneoff.errors import UserError
from tuneoff.results.events import Event, Note
from tuneoff.results.run_claims import Claims
from tuneoff.results.run_dir import RunDir, StoredRun
from tuneoff.results.run_record import Status
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.verification import verify
from tuneoff.spec import DataSpec, ModelSpec, PromptSpec, StudySpec
from tuneoff.study import runner, shared_folder
from tuneoff.study.executor import Job, Observer, SilentObserver, closed_at_the_end
from tuneoff.study.jobs import more_of
from tuneoff.study.launcher import Layout
from tuneoff.study.runner import prepare
from tuneoff.study.shared_folder import (
    LOOKS,
    RunState,
    SharedFolderExecutor,
    Worked,
    accepted,
    publish,
    take_part,
    take_runs,
)


class Hearing(SilentObserver):
    """Keeps what is said about runs."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def event(self, job: Job, event: Event) -> None:
        if isinstance(event, Note):
            self.said.append(f"{job.name}: {event.text}")


def notes(jobs: list[Job]) -> list[str]:
    return [job.dir.read_record().notes[0] for job in jobs]


def test_every_run_is_carried_out_once(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, 3)
    with executor() as shared:
        assert [run.name for run in shared.run(jobs, SilentObserver())] == [job.dir.name for job in jobs]
    assert notes(jobs) == [f"0 to {STEPS}"] * 3
    with executor() as again:
        assert len(list(again.run(jobs, SilentObserver()))) == 3
    assert notes(jobs) == [f"0 to {STEPS}"] * 3


def test_a_run_that_was_stopped_goes_on_elsewhere_from_its_state(tmp_path: Path) -> None:
    [job] = jobs = jobs_in(tmp_path, 1)
    with executor(last_step=2) as first, pytest.raises(KeyboardInterrupt):
        list(first.run(jobs, SilentObserver()))
    assert accepted(job.dir) is None
    with executor(lease=1000) as second:  # the claim was released, so no lease has to pass
        list(second.run(jobs, SilentObserver()))
    assert notes(jobs) == [f"2 to {STEPS}"]


def test_a_run_that_was_interrupted_before_the_study_was_shared_goes_on(tmp_path: Path) -> None:
    [job] = jobs = jobs_in(tmp_path, 1)
    job.dir.path.mkdir(parents=True)
    (job.dir.path / "checkpoint.safetensors").write_text("3")
    with executor() as shared:
        list(shared.run(jobs, SilentObserver()))
    assert notes(jobs) == [f"3 to {STEPS}"]


def test_a_finished_run_whose_process_died_before_the_rename_counts(tmp_path: Path) -> None:
    [job] = jobs = jobs_in(tmp_path, 1)
    claim = Claims(tmp_path, "dead").take(job.dir.name, "")
    assert claim is not None
    attempt = StudyDir(tmp_path / "elsewhere").run_dir(job.dir.name)
    list(SteppingExecutor(None).run([Job(job.spec, job.run_id, job.name, attempt)], SilentObserver()))  # type: ignore[arg-type]
    (tmp_path / "attempts").mkdir()
    attempt.path.rename(tmp_path / "attempts" / f"{job.dir.name}.1")
    before = (tmp_path / "attempts" / f"{job.dir.name}.1" / "record.json").read_bytes()
    # It died before it could remove these, too.
    for name in ("checkpoint.safetensors", "best-4.safetensors", ".tmpAbc123"):
        (tmp_path / "attempts" / f"{job.dir.name}.1" / name).write_bytes(b"state")
    with executor(lease=0.05) as shared:
        assert len(list(shared.run(jobs, SilentObserver()))) == 1
    assert (job.dir.path / "record.json").read_bytes() == before
    assert sorted(path.name for path in job.dir.path.iterdir()) == ["manifest.json", "predictions.jsonl", "record.json"]


def test_of_two_results_the_first_counts(tmp_path: Path) -> None:
    [job] = jobs_in(tmp_path, 1)
    attempts = []
    for number in (1, 2):
        attempt = StudyDir(tmp_path / str(number)).run_dir(job.dir.name)
        list(SteppingExecutor(None).run([Job(job.spec, job.run_id, f"by {number}", attempt)], SilentObserver()))  # type: ignore[arg-type]
        attempts.append(attempt)
    assert [publish(attempt, job.dir).record.name for attempt in attempts] == ["by 1", "by 1"]
    assert not attempts[0].path.exists()


class TwoAtOnce(SteppingExecutor):
    """The first run takes as long as all others together; a free worker asks for more."""

    def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        long, *others = jobs
        while others or (others := list(more_of(jobs))):
            yield from super().run([others.pop(0)], observer)
        yield from super().run([long], observer)


def test_a_free_worker_claims_the_next_run_while_another_one_works(tmp_path: Path) -> None:
    jobs, elsewhere = jobs_in(tmp_path, 5), SteppingExecutor(None)  # type: ignore[arg-type]
    with SharedFolderExecutor(Layout(2, 1), inner=TwoAtOnce, worker="here", poll_seconds=0.0) as shared:
        found = shared.run(jobs, SilentObserver())
        names = [next(found).record.name, next(found).record.name]
        list(elsewhere.run(jobs[3:4], SilentObserver()))  # meanwhile another one ends there
        holders = {holder.run: holder.ended for holder in Claims(tmp_path, "").holders()}
        names += [run.record.name for run in found]
    assert names == ["run1", "run2", "run3", "run4", "run0"]
    # While it works, every run that it has claimed and not done shows a sign of life, and no other one.
    assert {run: ended for run, ended in holders.items() if ended is None} == {jobs[0].dir.name: None}


def test_a_run_that_ends_elsewhere_while_a_worker_looks_for_the_last_time_counts(tmp_path: Path) -> None:
    class LooksOnceMore(SteppingExecutor):
        def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
            yield from super().run([jobs[0]], observer)
            list(SteppingExecutor(None).run([last], observer))  # type: ignore[arg-type]
            assert list(more_of(jobs)) == []

    jobs = jobs_in(tmp_path, 2)
    last = jobs[1]
    with SharedFolderExecutor(inner=LooksOnceMore, worker="here", poll_seconds=0.0) as shared:
        assert [run.record.name for run in shared.run(jobs, SilentObserver())] == ["run0", "run1"]


def test_a_run_that_has_just_ended_elsewhere_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of NFS goes on saying for a while that there is no such folder."""
    [job] = jobs_in(tmp_path, 1)
    list(SteppingExecutor(None).run([job], SilentObserver()))  # type: ignore[arg-type]
    real, seen = RunDir.has_record, list[Path]()
    monkeypatch.setattr(RunDir, "has_record", lambda run: len(seen) > 1 and real(run))
    monkeypatch.setattr(shared_folder, "look_at_server", seen.append)  # the second time is after the claim
    with SharedFolderExecutor(inner=FailingExecutor, worker="here") as shared:
        assert [run.record.status for run in shared.run([job], SilentObserver())] == ["finished"]
    assert not list(tmp_path.glob("attempts/*"))


class FailingExecutor(SteppingExecutor):
    """Its runs fail, and leave a record if `leaves_record`. `meanwhile` happens before each ends."""

    leaves_record = True
    status: Status = "failed"
    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        for job in jobs:
            [run] = super().run([job], observer)
            record = run.record.model_copy(update={"status": self.status})
            (job.dir.path / "record.json").unlink()
            type(self).meanwhile()
            if self.leaves_record:
                job.dir.write_record(record)
            yield StoredRun(job.dir, record)


def test_a_run_without_room_for_its_record_does_not_end_the_others(tmp_path: Path) -> None:
    class FullDisk(FailingExecutor):
        leaves_record = False

    jobs = jobs_in(tmp_path, 2)
    with SharedFolderExecutor(inner=FullDisk, worker="here") as shared:
        assert [run.record.status for run in shared.run(jobs, SilentObserver())] == ["failed", "failed"]
    assert {holder.ended for holder in Claims(tmp_path, "").holders()} == {"failed"}
    assert not any(job.dir.path.exists() for job in jobs)


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_process_that_was_asleep_and_fails_does_not_replace_who_took_over(tmp_path: Path, status: Status) -> None:
    [job] = jobs_in(tmp_path, 1)

    class Sleeper(FailingExecutor):
        pass

    def take_over() -> None:
        assert Claims(tmp_path, "successor").take_after(Claims(tmp_path, "").holder(job.dir.name), job.dir.name, "")

    def succeed() -> None:
        list(SteppingExecutor(None).run([job], SilentObserver()))  # type: ignore[arg-type]

    Sleeper.status, Sleeper.meanwhile = status, staticmethod(take_over)
    timer = threading.Timer(0.3, succeed)
    timer.start()
    with SharedFolderExecutor(inner=Sleeper, worker="asleep", poll_seconds=0.02) as shared:
        assert [run.record.status for run in shared.run([job], SilentObserver())] == ["finished"]
    timer.join()


def test_a_result_takes_the_place_of_a_failure(tmp_path: Path) -> None:
    [job] = jobs_in(tmp_path, 1)
    attempts = [StudyDir(tmp_path).attempt_dir(job.dir.name, number) for number in (1, 2)]
    for attempt, executor_of in zip(attempts, (FailingExecutor, SteppingExecutor), strict=True):
        attempt.path.mkdir(parents=True)
        list(executor_of(None).run([dataclasses.replace(job, dir=attempt)], SilentObserver()))  # type: ignore[arg-type]
    assert [publish(attempt, job.dir).record.status for attempt in attempts] == ["failed", "finished"]


@pytest.mark.parametrize("lost", ["copied", "moved aside"])
def test_states_survive_a_process_that_dies_while_it_takes_over(tmp_path: Path, lost: str) -> None:
    [job] = jobs_in(tmp_path, 1)
    study, claims = StudyDir(tmp_path), Claims(tmp_path, "dead", clock=lambda: 0.0)
    for number in (1, 2):
        assert claims.take_after(claims.holder(job.dir.name), job.dir.name, "")
        study.attempt_dir(job.dir.name, number).path.mkdir(parents=True)
    if lost == "copied":  # only the best weights of it so far
        (study.attempt_dir(job.dir.name, 1).path / "checkpoint.safetensors").write_text("3")
        (study.attempt_dir(job.dir.name, 2).path / "best-3.safetensors").write_text("3")
    else:  # of a study that was not shared before
        aside = study.attempt_dir(job.dir.name, "1-before").path
        aside.mkdir()
        (aside / "checkpoint.safetensors").write_text("3")
    with executor(lease=0.05) as shared:
        list(shared.run([job], SilentObserver()))
    assert notes([job]) == ["3 to 4"]


@pytest.mark.parametrize("kind", ["link", "hole", "pipe"])
def test_a_state_that_is_no_file_of_its_own_is_not_copied(tmp_path: Path, kind: str) -> None:
    """A link would bring a private file into a folder that is sent to others, and a hole would fill the disk."""
    [job] = jobs_in(tmp_path / "study", 1)
    claims = Claims(tmp_path / "study", "dead", clock=lambda: 0.0)
    assert claims.take_after(claims.holder(job.dir.name), job.dir.name, "")
    attempt = StudyDir(tmp_path / "study").attempt_dir(job.dir.name, 1)
    attempt.path.mkdir(parents=True)
    state = attempt.path / "checkpoint.safetensors"
    if kind == "link":
        (tmp_path / "private").write_text("3")
        state.symlink_to(tmp_path / "private")
    elif kind == "pipe":
        os.mkfifo(state)
    else:
        state.write_text("3")
        os.truncate(state, 10**13)
    with executor(lease=0.05) as shared:
        list(shared.run([job], SilentObserver()))
    assert notes([job]) == ["0 to 4"]


def test_no_result_is_removed_when_sharing_ends(tmp_path: Path) -> None:
    [job] = jobs_in(tmp_path, 1)
    attempt = StudyDir(tmp_path).attempt_dir(job.dir.name, "2-before")
    attempt.path.mkdir(parents=True)
    list(SteppingExecutor(None).run([dataclasses.replace(job, dir=attempt)], SilentObserver()))  # type: ignore[arg-type]
    claim = Claims(tmp_path, "late").take(job.dir.name, "")
    (tmp_path / "runs").mkdir()
    StudyDir(tmp_path).end_sharing()
    assert job.dir.read_record().status == "finished"
    assert claim is not None
    claim.beat(1)
    claim.release()
    assert not (tmp_path / "claims").exists()


def test_runs_that_were_begun_are_released_when_a_worker_stops(tmp_path: Path) -> None:
    with SharedFolderExecutor(Layout(2, 1), inner=TwoAtOnce, worker="here", poll_seconds=0.0) as shared:
        found = shared.run(jobs_in(tmp_path, 4), SilentObserver())
        next(found)
        found.close()  # type: ignore[attr-defined]
    assert {holder.ended for holder in Claims(tmp_path, "").holders()} == {"released"}


def test_a_run_that_failed_elsewhere_is_not_tried_again(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, 1)

    def failing() -> SharedFolderExecutor:
        return SharedFolderExecutor(inner=lambda _layout: FakeExecutor(status=lambda _job: "failed"), poll_seconds=0.02)

    for _ in range(2):
        with failing() as shared:
            [run] = shared.run(jobs, SilentObserver())
            assert run.record.status == "failed"
    holder = Claims(tmp_path, "").holder(jobs[0].dir.name)
    assert holder is not None
    assert holder.number == 1


def test_workers_that_meet_begin_at_different_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would look at the claims of all others otherwise: here the first 30 runs are those of others."""
    jobs = jobs_in(tmp_path, 60)
    claims = Claims(tmp_path, "others")
    for job in jobs[:30]:
        assert claims.take(job.dir.name, "") is not None
    looked: list[str] = []
    real = SharedFolderExecutor.look_at

    def look_at(executor: SharedFolderExecutor, job: Job) -> RunState:
        looked.append(job.name)
        return real(executor, job)

    monkeypatch.setattr(SharedFolderExecutor, "look_at", look_at)
    shared = SharedFolderExecutor(inner=SteppingExecutor, worker="worker 1")  # whose place is the 33rd
    with shared, closed_at_the_end(shared.run(jobs, SilentObserver())) as runs:
        assert [next(runs).record.name for _ in range(3)] == ["run32", "run33", "run34"]
    assert looked[:1] == ["run0"]
    assert len(looked) <= 5


def test_of_many_runs_that_others_carry_out_few_claims_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_in(tmp_path, 4 * LOOKS)
    claims = Claims(tmp_path, "others")
    for job in jobs:
        assert claims.take(job.dir.name, "") is not None
    looked: list[int] = []
    real = SharedFolderExecutor.look_at

    def look_at(executor: SharedFolderExecutor, job: Job) -> RunState:
        looked.append(1)
        return real(executor, job)

    monkeypatch.setattr(SharedFolderExecutor, "look_at", look_at)
    per_pause: list[int] = []

    def sleep(seconds: float) -> None:
        per_pause.append(len(looked))
        looked.clear()
        if len(per_pause) == 4:
            assert seconds >= 0.03 * len(jobs)
            raise KeyboardInterrupt

    shared = SharedFolderExecutor(inner=SteppingExecutor, poll_seconds=0.02, sleep=sleep)
    with shared, pytest.raises(KeyboardInterrupt):
        list(shared.run(jobs, SilentObserver()))
    assert per_pause[1:] == [LOOKS] * 3


def test_a_run_that_is_too_large_here_is_left_for_others(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, 2)
    with SharedFolderExecutor(inner=SteppingExecutor, may_take=lambda job: job.name != "run0") as shared:
        assert [run.record.name for run in shared.run(jobs, SilentObserver())] == ["run1"]


@pytest.fixture
def study(tiny_model: Callable[[str], Path], tiny_data: dict[str, Path]) -> StudySpec:
    return StudySpec(
        name="mine",
        models=(ModelSpec(name=str(tiny_model("gpt_neo"))),),
        methods=("zero_shot", "lora"),
        data=DataSpec.model_validate({f"{split}_file": str(path) for split, path in tiny_data.items()}),
        prompt=PromptSpec(max_length=128),
        trials=2,
    )


def fake(ids: list[str]) -> SharedFolderExecutor:
    return SharedFolderExecutor(inner=lambda _layout: FakeExecutor(ids), poll_seconds=0.02)


def test_workers_plan_what_is_left_and_the_command_completes_the_study(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "study"
    prepared = prepare(study, folder)
    ids = [example.id for example in prepared.inputs.dataset.test]
    with pytest.raises(UserError, match=r"no study that is shared.*--engine shared"):
        take_part(folder, fake(ids), SilentObserver())

    begun = SharedFolderExecutor(inner=lambda _layout: FakeExecutor(ids, interrupt_at="zero_shot-trial1"))
    with pytest.raises(KeyboardInterrupt):
        runner.carry_out_study(prepared, begun, SilentObserver(), shared=True)
    assert (folder / "work.json").exists()
    done = take_part(folder, fake(ids), SilentObserver())
    total = prepared.total
    assert done == Worked(done=total - 1, left=0)  # one trial had ended
    completed = runner.carry_out_study(prepare(study, folder), fake(ids), SilentObserver(), shared=True)
    assert completed.complete
    assert len(completed.runs) == total
    assert not any((folder / name).exists() for name in ("work.json", "claims", "attempts"))
    assert {file.state for file in verify(folder) if file.path != ".lock"} == {"whole"}
    assert take_part(folder, fake(ids), SilentObserver()) == Worked(done=0, left=0)


def test_a_final_run_starts_while_a_trial_of_another_method_works(study: StudySpec, tmp_path: Path) -> None:
    """The command and a worker: whoever has a trial of LoRA ends it when the final run of zero-shot has started."""
    prepared = prepare(study, tmp_path / "study")
    ids = [example.id for example in prepared.inputs.dataset.test]
    started = threading.Event()

    def status(job: Job) -> Status:
        if job.name == "zero_shot-s0":
            started.set()
        return "failed" if job.name == "lora-trial1" and not started.wait(20) else "finished"

    def one_of_two(name: str) -> SharedFolderExecutor:
        inner = FakeExecutor(ids, status=status)
        return SharedFolderExecutor(inner=lambda _layout: inner, worker=name, poll_seconds=0.02)

    def work() -> None:
        while (found := prepared.dir.read_work()) is None:
            time.sleep(0.02)
        take_runs(prepared.dir, found, prepared.inputs, one_of_two("worker"), SilentObserver())

    worker = threading.Thread(target=work)
    worker.start()
    done = runner.carry_out_study(prepared, one_of_two("command"), SilentObserver(), shared=True)
    worker.join()
    assert done.complete
    assert {record.name: record.status for record in done.records if record.status != "finished"} == {}
    assert len(done.records) == prepared.total


def test_workers_that_meet_take_the_longest_runs_first(tmp_path: Path) -> None:
    jobs = [dataclasses.replace(job, expected_seconds=float(number)) for number, job in enumerate(jobs_in(tmp_path, 5))]
    assert Claims(tmp_path, "other").take(jobs[0].dir.name, "") is not None
    shared = SharedFolderExecutor(inner=SteppingExecutor)
    with shared, closed_at_the_end(shared.run(jobs, SilentObserver())) as runs:
        assert [next(runs).record.name for _ in range(4)] == ["run4", "run3", "run2", "run1"]


def test_a_study_whose_work_file_is_damaged_stays_shared(study: StudySpec, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    prepared = prepare(study, folder)
    ids = [example.id for example in prepared.inputs.dataset.test]
    begun = SharedFolderExecutor(inner=lambda _layout: FakeExecutor(ids, interrupt_at="zero_shot-trial1"))
    assert not StudyDir(folder).is_shared()
    with pytest.raises(KeyboardInterrupt):
        runner.carry_out_study(prepared, begun, SilentObserver(), shared=True)
    (folder / "work.json").write_text("{")
    with pytest.raises(UserError, match=r"work\.json: damaged"):
        take_part(folder, fake(ids), SilentObserver())
    assert StudyDir(folder).is_shared()
    with pytest.warns(UserWarning, match=r"work\.json was damaged; .* and is made again"):
        again = runner.carry_out_study(prepare(study, folder), fake(ids), SilentObserver(), shared=True)
    assert again.complete
    assert not StudyDir(folder).is_shared()


def test_a_folder_cannot_allow_code_of_a_model(study: StudySpec, tmp_path: Path) -> None:
    prepared = prepare(study, tmp_path / "study")
    ids = [example.id for example in prepared.inputs.dataset.test]
    begun = SharedFolderExecutor(inner=lambda _layout: FakeExecutor(ids, interrupt_at="zero_shot-trial1"))
    with pytest.raises(KeyboardInterrupt):
        runner.carry_out_study(prepared, begun, SilentObserver(), shared=True)
    folder = StudyDir(tmp_path / "study")
    work = folder.read_work()
    assert work is not None
    [model] = study.models
    spec = study.model_copy(update={"models": (model.model_copy(update={"trust_remote_code": True}),)})
    folder.write_work(work.model_copy(update={"spec": spec}))
    with pytest.raises(UserError, match="--trust-remote-code"):
        take_part(folder.path, fake(ids), SilentObserver())
    folder.write_work(work.model_copy(update={"directory": "/not/there"}))
    with pytest.raises(UserError, match="was begun in /not/there"):
        take_part(folder.path, fake(ids), SilentObserver())
    folder.write_work(work.model_copy(update={"directory": "not\0there"}))
    with pytest.raises(UserError, match=r"cannot open .embedded null byte"):
        take_part(folder.path, fake(ids), SilentObserver())


def test_whoever_takes_over_from_a_lost_worker_says_so(tmp_path: Path) -> None:
    [job] = jobs_in(tmp_path, 1)
    assert Claims(tmp_path, "dead\x1b[2J:1" + "x" * 100).take(job.dir.name, "2026") is not None
    observer = Hearing()
    with executor(lease=0.05) as shared:
        list(shared.run([job], observer))
    name = "dead?[2J:1" + "x" * 47 + "..."
    assert observer.said == [
        f"run0: carried out by {name} since 2026",
        f"run0: {name}, which had it before, was lost; {shared.worker} goes on with it",
    ]


def test_a_run_that_was_handed_on_has_no_lost_worker(tmp_path: Path) -> None:
    [job] = jobs_in(tmp_path, 1)
    claim = Claims(tmp_path, "before").take(job.dir.name, "2026")
    assert claim is not None
    claim.release()
    observer = Hearing()
    with executor() as shared:
        list(shared.run([job], observer))
    assert observer.said == []


def test_it_is_said_who_else_takes_over_and_who_has_carried_out_a_run(tmp_path: Path) -> None:
    [job] = jobs_in(tmp_path, 1)
    claims, observer = Claims(tmp_path, "first:1"), Hearing()
    assert claims.take(job.dir.name, "9:00") is not None
    with SharedFolderExecutor(may_take=lambda _job: False) as watching:
        for _ in range(2):
            watching.report(watching.look_at(job), job, observer)
        second = Claims(tmp_path, "second:2").take_after(claims.holder(job.dir.name), job.dir.name, "9:05")
        assert second is not None
        for _ in range(2):
            watching.report(watching.look_at(job), job, observer)
        list(SteppingExecutor(None).run([job], SilentObserver()))  # type: ignore[arg-type]
        watching.report(watching.look_at(job), job, observer)
    assert observer.said == [
        "run0: carried out by first:1 since 9:00",
        "run0: carried out by second:2 since 9:05; first:1, which had it before, was lost",
        "run0: finished, carried out by second:2",
    ]


def test_no_claim_is_read_to_say_who_has_carried_out_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 1,000 workers and 10,000 runs, each would read the claims of all others. What `health` saw is known."""
    jobs, observer = jobs_in(tmp_path, 2), Hearing()
    for job, worker in zip(jobs, ("seen:1", "unseen:2"), strict=True):
        assert Claims(tmp_path, worker).take(job.dir.name, "") is not None
    with SharedFolderExecutor(may_take=lambda _job: False) as watching:
        watching.needs_no_look(jobs[1])
        watching.look_at(jobs[0])
        assert [worker.name for worker in watching.health()] == ["seen:1"]
        list(SteppingExecutor(None).run(jobs, SilentObserver()))  # type: ignore[arg-type]
        monkeypatch.setattr(Claims, "holder", None)
        for job in jobs:
            watching.report(watching.look_at(job), job, observer)
    assert observer.said == ["run0: finished, carried out by seen:1"]


def test_runs_that_have_ended_here_are_no_work_for_health(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with executor() as shared:
        assert len(list(shared.run(jobs_in(tmp_path, 3), SilentObserver()))) == 3
        monkeypatch.setattr(Claims, "holder", None)
        assert shared.health() == []


def test_the_capacity_counts_those_who_show_a_sign_of_life(tmp_path: Path) -> None:
    jobs, seconds = jobs_in(tmp_path, 4), [0.0]
    others = [Claims(tmp_path, f"host:{number}").take(jobs[number].dir.name, "") for number in range(3)]
    shared = SharedFolderExecutor(
        Layout(2, 1), inner=lambda layout: FakeExecutor(processes=layout.processes), clock=lambda: seconds[0]
    )
    with shared:
        assert (shared.capacity(), shared.health()) == (2, [])
        shared.look_at(jobs[0])  # from now on, it knows the study
        assert [(worker.name, worker.run, worker.state) for worker in shared.health()] == [
            (f"host:{number}", jobs[number].dir.name, "working") for number in range(3)
        ]
        assert shared.capacity() == 5
        seconds[0] = 200.0
        for claim in others[1:]:
            assert claim is not None
            claim.beat(1)
        assert [worker.state for worker in shared.health()] == ["lost", "working", "working"]
        assert shared.capacity() == 4
        list(SteppingExecutor(None).run(jobs[2:3], SilentObserver()))  # type: ignore[arg-type]
        assert shared.look_at(jobs[2]).ended
        assert [worker.name for worker in shared.health()] == ["host:0", "host:1"]


def test_the_health_of_a_study_is_safe_while_the_study_works(tmp_path: Path) -> None:
    """Another thread asks all the time; claims come and go meanwhile."""
    jobs, ended, failures, looks = jobs_in(tmp_path, 10), threading.Event(), list[BaseException](), [0]
    with executor() as shared:

        def ask() -> None:
            try:
                while not ended.is_set():
                    # The file of a claim is empty for a moment.
                    assert {worker.name for worker in shared.health()} <= {shared.worker, "another worker"}
                    assert shared.capacity() >= 1
                    looks[0] += 1
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        assert len(list(shared.run(jobs, SilentObserver()))) == 10
        ended.set()
        thread.join()
    assert failures == []
    assert looks[0] > 1
