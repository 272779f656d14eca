"""What an executor is given: runs that become possible while others work, and the order for several workers."""

from pathlib import Path

import pytest

from support.planned import resources_of
from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Record
from tuneoff.spec import MethodSpec, RunSpec
from tuneoff.study import jobs
from tuneoff.study.jobs import Durations, Job, OpenJobs, longest_first, more_of

PLAIN = RunSpec.model_validate({"model": {}, "prompt": {}, "method": {"name": "lora"}, "data": {"source": "starter"}})


def job(name: str, seconds: float | None = None, **spec: object) -> Job:
    return Job(PLAIN.model_copy(update=spec), name, name, RunDir(Path(name)), expected_seconds=seconds)


def names(found: list[Job]) -> list[str]:
    return [each.name for each in found]


def test_of_each_kind_the_longest_come_first_and_those_of_unknown_length_before_them() -> None:
    trials = [job("t1", 1, role="trial"), job("t9", 9, role="trial", fraction=0.1), job("t5", 5, role="trial")]
    finals = [job("f1", 1), job("f?"), job("f0", 0), job("f9", 9)]
    parts = [job("p99", 99, fraction=0.5)]
    expected = ["t9", "t5", "t1", "f?", "f9", "f1", "f0", "p99"]
    assert names(longest_first([*trials, *finals, *parts])) == expected


def record(run_id: str, seconds: float, method: str = "lora", **spec: object) -> Record:
    changed = PLAIN.model_copy(update={"method": MethodSpec(name=method), **spec})
    return Record(
        run_id=run_id, name=run_id, status="finished", spec=changed, started_at="now",
        resources=resources_of(train=seconds),
    )  # fmt: skip


def test_a_run_is_expected_to_take_as_long_as_those_of_its_method() -> None:
    records = [
        record("a", 100), record("b", 300), record("c", 30, fraction=0.1), record("d", 7, role="trial"),
        record("e", 1, "full"), record("f", 999).model_copy(update={"status": "interrupted"}),
    ]  # fmt: skip
    durations = Durations({each.run_id: each for each in records})
    assert durations.expected(PLAIN) == pytest.approx(200)
    assert durations.expected(PLAIN.model_copy(update={"fraction": 0.1})) == pytest.approx(30)
    assert durations.expected(PLAIN.model_copy(update={"fraction": 0.2})) == pytest.approx(60)
    assert durations.expected(PLAIN.model_copy(update={"role": "trial"})) == pytest.approx(7)
    assert durations.expected(PLAIN.model_copy(update={"method": MethodSpec(name="few_shot")})) is None


def test_runs_are_planned_again_when_one_has_ended_and_not_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    planned: list[float] = []

    def plan() -> list[Job]:
        planned.append(now[0])
        now[0] += 1.0  # it takes a second
        return [job(f"new{len(planned)}")]

    monkeypatch.setattr(jobs, "monotonic", lambda: now[0])
    opened = OpenJobs([job("a")], plan)
    assert more_of(opened) == ()  # nothing has ended
    opened.changed()
    assert names(list(more_of(opened))) == ["new1"]
    assert more_of(opened) == ()
    opened.changed()
    pause = 1.0 / jobs.PLANNING_SHARE
    now[0] = 1.0 + pause - 0.1
    assert more_of(opened) == ()
    now[0] = 1.0 + pause
    assert names(list(more_of(opened))) == ["new2"]
    assert planned == [0.0, 1.0 + pause]
    assert more_of([job("a")]) == ()  # a plain list has no more
