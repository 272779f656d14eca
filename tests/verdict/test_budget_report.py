"""What the summary says about the time limit: what was asked, what was reduced, how long it took; never a traceback."""

from pathlib import Path

import pytest

from support.planned import HASHES, record_of, study_of
from tuneoff.results.run_record import Record
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import Speed
from tuneoff.results.summary import BudgetReport
from tuneoff.spec import DataSpec, StudySpec
from tuneoff.study import planner
from tuneoff.study.budget import FittedStudy, budget_file
from tuneoff.verdict.summarize import summarize

ASKED = StudySpec(data=DataSpec(source="starter"), trials=4, seeds=3)
PLANNED = ASKED.model_copy(update={"trials": 2, "seeds": 2})
REDUCED = ("trials 4 -> 2 (and a refinement trial)", "seeds 3 -> 2")


def run(start: str, end: str | None) -> Record:
    """A trial, which is not judged."""
    [planned, *_] = planner.plan(study_of(methods=("lora",), trials=1), HASHES, {}).runs
    return record_of(planned).model_copy(update={"started_at": start, "finished_at": end})


@pytest.fixture
def folder(tmp_path: Path) -> StudyDir:
    """A study that was fitted into 20 minutes."""
    found = StudyDir(tmp_path)
    speeds = {("starter", "lora"): Speed(start=1, step=2, check=3, write=4)}
    found.write_budget(budget_file(FittedStudy(PLANNED, 1100.0, REDUCED, True), ASKED, 1200.0, "examples", speeds))
    found.write_spec(PLANNED)
    return found


def report_of(folder: StudyDir, *records: Record) -> BudgetReport | None:
    for index, record in enumerate(records):
        folder.run_dir(f"run-{index}").write_record(record)
    return summarize(folder.load()).budget


def test_what_was_asked_and_reduced_is_reported(folder: StudyDir) -> None:
    assert report_of(folder) == BudgetReport(
        budget_seconds=1200, equal="examples", reduced=REDUCED, fits=True, planned_seconds=1100, took_seconds=None
    )


def test_concurrent_runs_and_pauses_are_not_counted_twice(folder: StudyDir) -> None:
    found = report_of(
        folder,
        run("2026-01-01T00:00:00+00:00", "2026-01-01T00:01:00+00:00"),
        run("2026-01-01T00:00:30+00:00", "2026-01-01T00:00:40+00:00"),  # concurrent with the first
        run("2026-01-01T00:00:50+00:00", "2026-01-01T00:01:30+00:00"),  # ends after it
        run("2026-01-02T02:00:00+02:00", "2026-01-02T00:00:10"),  # another day, another time zone
        run("2026-01-03T00:00:00+00:00", None),
    )
    assert found is not None
    assert found.took_seconds == 100


def test_a_time_that_cannot_be_read_is_unknown(folder: StudyDir) -> None:
    found = report_of(folder, run("<b>", "2026-01-01T00:01:00+00:00"))
    assert found is not None
    assert found.took_seconds is None


def test_without_a_budget_nothing_is_reported(tmp_path: Path) -> None:
    assert report_of(StudyDir(tmp_path)) is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"7", b"[]", b"\xff\xfe", b'{"asked": "x", "given_up": "y"}', b"[" * 100_000]
)
def test_a_damaged_file_is_one_sentence(folder: StudyDir, content: bytes) -> None:
    (folder.path / "budget.json").write_bytes(content)
    problem = "budget.json is damaged, so what was reduced to fit the time limit is unknown."
    assert report_of(folder) == BudgetReport(problem=problem)


@pytest.mark.parametrize("study", [ASKED, None])
def test_a_plan_of_other_settings_is_ignored(folder: StudyDir, study: StudySpec | None) -> None:
    (folder.path / "study.json").unlink()
    if study is not None:
        folder.write_spec(study)
    found = report_of(folder)
    assert found is not None
    assert found == BudgetReport(problem=found.problem)
    assert found.problem is not None
    assert "other settings" in found.problem
