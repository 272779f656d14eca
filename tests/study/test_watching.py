"""A study seen from its folder: before it begins, while it runs, when files are half written, and when it has ended."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.fake_runs import steps
from support.report_study import FakeStudy
from tuneoff.errors import UserError
from tuneoff.results.events import EventWriter
from tuneoff.results.run_claims import Claim, Claims, Team, Worker, WorkerState
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import PlanFile
from tuneoff.study.watching import StudyWatch, WorkingRun
from tuneoff.text import sanitize

HOSTILE = "evil\x1b[2J\u202e"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three runs, of which the last one works and has no record yet."""
    study = FakeStudy(tmp_path / "study").write(documents=60, seeds=2, methods=("zero_shot", "lora"), name="mine")
    names = [run.name for run in StudyDir(study).run_dirs() if not run.name.startswith("zero_shot-s1")]
    StudyDir(study).write_plan(PlanFile(data="x", numerics=8, runs=tuple(names)))
    lora = next(name for name in names if name.startswith("lora-s1"))
    (study / "runs" / lora / "record.json").unlink()
    (study / "manifest.json").unlink()  # as if it had never been there
    with EventWriter(study / "runs" / lora / "events.jsonl") as writer:
        steps(writer, 3)
    return study


def claim_of(folder: Path, run: str, worker: str, since: str = "") -> Claim:
    claim = Claims(folder, worker).take(run, since)
    assert claim is not None
    return claim


def working_run(folder: Path) -> str:
    return next(path.name for path in (folder / "runs").iterdir() if path.name.startswith("lora-s1"))


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in sorted(folder.rglob("*"))
    }


def test_a_study_while_it_runs(folder: Path) -> None:
    before = contents(folder)
    view = StudyWatch(folder).look()
    assert (view.done, view.failed, view.total, view.ended) == (2, 0, 3, False)  # zero-shot needs one seed
    [run] = view.working
    assert (run.name, run.done, run.total) == ("lora-s1", 3, 9)
    assert run.words.startswith("train, step 3 of 9, loss 1, ")
    assert view.memory_bytes == 3_210_000_000
    assert [(row.title, row.runs) for row in view.rows] == [("LoRA", 1), ("Zero-shot", 1)]
    row = view.rows[0]
    assert row.low is not None
    assert row.high is not None
    assert row.low < row.mean < row.high
    assert view.verdict
    assert view.seconds_left == 240.0  # each run of LoRA took four minutes
    assert view.headline() == "mine: 2 of 3 runs done, about 4 min 0 s left"
    lines = view.board()
    assert lines[0].startswith("  lora-s1: train, step 3 of 9")
    assert "memory: 3.21 GB in use by these runs" in lines
    assert "plan: 2 methods, 2 seeds" in lines
    assert any(line.startswith("ROUGE-1 so far: LoRA ") for line in lines)
    assert view.summary_lines() == [view.headline(), *lines[1:]], "the only run has a line of its own"
    assert json.loads(json.dumps(view.as_data()))["working"][0]["total"] == 9
    assert contents(folder) == before, "a watcher writes nothing"


def test_the_end_of_a_study(folder: Path) -> None:
    whole = FakeStudy(folder.parent / "whole").write(documents=4, methods=("zero_shot", "lora"))
    view = StudyWatch(whole).look()
    assert view.ended
    assert view.working == ()
    assert view.headline() == "starter: 2 of 2 runs done; the study has ended"


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    watched = StudyWatch(tmp_path / "later")
    view = watched.look()
    assert (view.begun, view.headline(), view.board()) == (False, "later: no study there yet", [])
    FakeStudy(tmp_path / "later").write(documents=4, methods=("lora",))
    assert watched.look().begun


@pytest.mark.parametrize(
    "name", ["study.json", "plan.json", "data.json", "documents.jsonl", "record.json", "events.jsonl"]
)
def test_half_written_files_are_read_at_the_next_look(name: str, folder: Path) -> None:
    moment = [0.0]
    watched = StudyWatch(folder, clock=lambda: moment[0])
    before = watched.look()
    for path in folder.rglob(name):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        moment[0] += 1e6  # a verdict is not made all the time
        view = watched.look()
        assert view.begun
        assert view.total == before.total
        path.write_bytes(whole)
        os.utime(path)
    moment[0] += 1e6
    after = watched.look()
    assert (after.done, after.rows) == (before.done, before.rows)
    assert [(run.done, run.total) for run in after.working] == [(3, 9)]


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
@pytest.mark.parametrize("begun", [True, False])
def test_what_stays_unreadable_is_said(begun: bool, folder: Path) -> None:
    moment = [0.0]
    watched = StudyWatch(folder, clock=lambda: moment[0])
    if begun:
        watched.look()
    bad = folder / "runs" / os.fsdecode(b"lora-\xff")
    bad.mkdir()
    assert not watched.look().fault, "a file that is being written is whole at the next look"
    moment[0] += 20.0
    view = watched.look()
    assert view.begun is begun
    assert "is not UTF-8" in view.headline()
    assert "\udcff" not in view.headline()
    bad.rmdir()
    assert not watched.look().fault


def test_a_study_of_a_later_version_is_refused(folder: Path) -> None:
    content = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**content, "new_key": 1}))
    with pytest.raises(UserError, match="later version"):
        StudyWatch(folder).look()


def test_an_attempt_of_another_machine_is_a_run_at_work(folder: Path) -> None:
    log = next(folder.rglob("events.jsonl"))
    run = log.parent.name
    other = StudyDir(folder).attempt_dir(run, 2).events
    other.parent.mkdir(parents=True)
    os.utime(log, (0, 0))
    other.write_bytes(
        log.read_bytes() + b'{"kind": "generated", "done": 5, "total": 60, "seconds": 9.0}\n{"kind": "gen'
    )
    [working] = StudyWatch(folder).look().working
    assert (working.name, working.done, working.total) == ("lora-s1", 5, 60)


def test_a_run_that_goes_on_after_an_interruption_is_at_work(folder: Path) -> None:
    log = next(folder.rglob("events.jsonl"))
    record = next(run for run in StudyDir(folder).run_dirs() if run.name.startswith("lora-s0")).read_record()
    interrupted = record.model_copy(update={"name": "lora-s1", "status": "interrupted"})
    StudyDir(folder).run_dir(log.parent.name).write_record(interrupted)
    written = (log.parent / "record.json").stat().st_mtime
    os.utime(log, (written, written))
    view = StudyWatch(folder).look()
    assert (view.done, len(view.working), view.ended) == (2, 0, False)
    os.utime(log, (written + 60, written + 60))
    assert len(StudyWatch(folder).look().working) == 1


def test_a_run_that_ends_is_counted_and_judged(folder: Path) -> None:
    watched = StudyWatch(folder)
    assert watched.look().rows[0].runs == 1
    done = next(run for run in StudyDir(folder).run_dirs() if run.name.startswith("lora-s0"))
    target = next(path for path in (folder / "runs").iterdir() if path.name.startswith("lora-s1"))
    record = done.read_record()
    spec = record.spec.model_copy(update={"seed": 1})
    StudyDir(folder).run_dir(target.name).write_record(record.model_copy(update={"name": "lora-s1", "spec": spec}))
    os.utime(target / "events.jsonl", (0, 0))
    view = watched.look()
    assert (view.done, view.working) == (3, ())
    assert view.seconds_left == 0
    assert view.rows[0].runs == 2


def test_a_verdict_that_takes_long_is_not_made_all_the_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, made = Clock(), []
    watched = StudyWatch(folder, clock)

    def slow(stored: object) -> None:
        made.append(clock.now)
        clock.now += 3.0

    monkeypatch.setattr("tuneoff.study.watching.summarize", slow)
    watched.look()
    watched._judged = 1  # as if a run had ended
    watched.look()
    assert made == [0.0]
    clock.now = 70.0
    watched.look()
    assert made == [0.0, 70.0]


def test_it_says_when_nothing_changes(folder: Path) -> None:
    clock = Clock()
    watched = StudyWatch(folder, clock)
    watched.look()
    clock.now = 1000.0
    assert watched.look().headline().endswith("nothing has changed for 16 min 40 s")
    with EventWriter(next(folder.rglob("events.jsonl"))) as writer:
        steps(writer, 5)
    assert watched.look().quiet_seconds == 0.0


def test_words_of_strangers_are_harmless(folder: Path) -> None:
    spec = StudyDir(folder).read_spec()
    assert spec is not None
    view = StudyWatch(folder).look()
    hostile = view.rows[0].__class__(HOSTILE, 1.0, None, None, 1)
    lines = view.__class__("x", begun=True, rows=(hostile,), verdict=HOSTILE, plan=HOSTILE).board()
    assert lines
    assert all(line == sanitize(line) for line in lines)


def test_claims_say_who_carries_out_a_run(folder: Path) -> None:
    clock = Clock()
    claim_of(folder, working_run(folder), "node7:4242")
    claim = claim_of(folder, "full-s0-abc", "node8:1")
    before = contents(folder)
    watched = StudyWatch(folder, clock)
    lines = watched.look().board()
    assert lines[0] == "  node8:1: full-s0: starting", "it has no event log yet"
    assert lines[1].startswith("  node7:4242: lora-s1: train, step 3 of 9, loss 1, ")
    assert watched.look().team_lines() == lines[:2]
    assert watched.look().summary_lines() == [watched.look().headline(), *lines]
    assert [run["name"] for run in json.loads(json.dumps(watched.look().as_data()))["working"]] == [
        "node8:1: full-s0",
        "node7:4242: lora-s1",
    ]
    assert contents(folder) == before, "a watcher writes nothing"
    clock.now = 70.0
    claim.beat(1)
    first, second, *_ = watched.look().board()
    assert first.startswith("  node7:4242: lora-s1, silent for 1 min 10 s: train, step 3 of 9"), "it comes first"
    assert second == "  node8:1: full-s0: starting"
    clock.now = 200.0
    assert watched.look().board()[0].startswith("  node7:4242: lora-s1, lost, silent for 3 min 20 s: train")
    assert watched.look().assignments() == [("lora-s1", "node7:4242", "lost"), ("full-s0", "node8:1", "silent")]


def test_the_only_worker_of_a_shared_study_is_named(folder: Path) -> None:
    """It may be on another machine, so the line of this process does not show its run."""
    assert not any("lora-s1" in line for line in StudyWatch(folder).look().summary_lines())
    claim_of(folder, working_run(folder), "node7:4242")
    assert any(line.startswith("  node7:4242: lora-s1: train") for line in StudyWatch(folder).look().summary_lines())


def test_a_run_that_was_released_is_not_at_work(folder: Path) -> None:
    claim_of(folder, working_run(folder), "node7:4242").release()
    assert StudyWatch(folder).look().working == ()
    claim_of(folder, working_run(folder), "node8:1")
    assert StudyWatch(folder).look().assignments() == [("lora-s1", "node8:1", "working")]


def test_claims_of_runs_that_have_ended_are_left_out(folder: Path) -> None:
    """Their worker may have been killed before it could release them, or the executor may not know yet."""
    ended = next(run.name for run in StudyDir(folder).run_dirs() if run.name.startswith("lora-s0"))
    claim_of(folder, ended, "node7:4242")
    assert StudyWatch(folder).look().assignments() == []
    assert StudyWatch(folder).look(Team((Worker("node7:4242", ended),), 2)).assignments() == []


def test_of_very_many_workers_the_first_and_a_count_are_shown(folder: Path) -> None:
    clock = Clock()
    watched = StudyWatch(folder, clock)
    claim_of(folder, "full-s0999-abc", "node999:1")
    watched.look()
    clock.now = 100.0
    for number in range(999):
        claim_of(folder, f"full-s{number:04}-abc", f"node{number}:1")
    view = watched.look()
    lines = view.team_lines()
    assert len(lines) == 11
    assert lines[0] == "  node999:1: full-s0999, silent for 1 min 40 s: starting"
    assert lines[1] == "  node0:1: full-s0000: starting"
    assert lines[-1] == "  and 990 other runs"
    assert len(view.board()) < 20


def test_claims_that_take_long_to_read_are_not_read_all_the_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, read = Clock(), list[float]()
    watched = StudyWatch(folder, clock)

    def slow(_claims: Claims, _done: object) -> list[Worker]:
        read.append(clock.now)
        clock.now += 3.0
        return []

    monkeypatch.setattr(Claims, "workers", slow)
    for now in (0.0, 2.0, 62.0, 63.0):
        clock.now = max(clock.now, now)
        watched.look()
    assert read == [0.0, 63.0]


@pytest.mark.parametrize(
    ("states", "capacity", "seconds"),
    [
        ((), None, 240.0),  # the run in the folder is at work
        ((), 4, 240.0),
        (("working",), 4, 240.0),
        (("working", "working"), None, 240.0),  # one run is left
    ],
)
def test_no_more_workers_are_counted_than_runs_are_left(
    states: Sequence[WorkerState], capacity: int | None, seconds: float, folder: Path
) -> None:
    team = Team(tuple(Worker(f"node{at}:1", f"x{at}-abc", state=state) for at, state in enumerate(states)), capacity)
    assert StudyWatch(folder).look(team).seconds_left == seconds


@pytest.mark.parametrize(
    ("states", "capacity", "seconds"),
    [
        ((), None, 480.0),
        ((), 1, 480.0),
        ((), 2, 240.0),  # nobody works yet, and two will
        ((), 9, 240.0),
        (("working",), 2, 480.0),
        (("working", "silent"), None, 240.0),
        (("working", "lost"), None, 480.0),
    ],
)
def test_several_workers_need_less_time(
    states: Sequence[WorkerState], capacity: int | None, seconds: float, folder: Path
) -> None:
    """Of three final runs of LoRA, one has taken four minutes, and none of the others is at work."""
    spec = StudyDir(folder).read_spec()
    assert spec is not None
    StudyDir(folder).write_spec(spec.model_copy(update={"seeds": 3}))
    for log in folder.rglob("events.jsonl"):
        log.unlink()
    team = Team(tuple(Worker(f"node{at}:1", f"x{at}-abc", state=state) for at, state in enumerate(states)), capacity)
    assert StudyWatch(folder).look(team).seconds_left == seconds


def test_names_of_workers_are_harmless_and_short(folder: Path) -> None:
    claim_of(folder, working_run(folder), HOSTILE * 50, since=HOSTILE)
    [line] = StudyWatch(folder).look().team_lines()
    assert line == sanitize(line)
    name = line.strip().partition(": lora-s1")[0]
    assert len(name) == 60
    assert name.startswith("evil?[2J?evil?[2J?")
    shown = StudyWatch(folder).look().as_data()["working"]
    assert shown[0]["name"].isprintable()


def test_a_run_without_a_worker_has_its_name_alone() -> None:
    assert WorkingRun("lora-s0", "train", 1, 2).title == "lora-s0"
