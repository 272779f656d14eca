"""`budget.json` as the summary tells it: what was asked, what gave way, how long it took; never a traceback."""

import json
from pathlib import Path

import pytest
from fake_runs import job

from tuneoff.errors import UserError
from tuneoff.results.run_record import BUDGET_FILE, Record, write_json
from tuneoff.spec import DataSpec, StudySpec
from tuneoff.study.budget_file import Plan, Speed, as_data, earlier, told

ASKED = StudySpec(data=DataSpec(source="starter"), trials=4, seeds=3)
PLANNED = ASKED.model_copy(update={"trials": 2, "seeds": 2})


def run(start: str, end: str | None) -> Record:
    spec = job(Path()).spec
    return Record(run_id="0", name="lora-s0", status="finished", spec=spec, started_at=start, finished_at=end)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study that was fitted into 20 minutes."""
    plan = Plan(PLANNED, 1100.0, ("trials 4 -> 2 (and a reserve one)", "seeds 3 -> 2"), True)
    speeds = {("starter", "lora"): Speed(start=1, step=2, check=3, write=4)}
    write_json(tmp_path / BUDGET_FILE, as_data(plan, ASKED, 1200.0, "examples", speeds))
    write_json(tmp_path / "study.json", PLANNED.model_dump(mode="json"))
    return tmp_path


def test_a_plan_is_kept_for_its_own_request(folder: Path) -> None:
    kept = earlier(folder, ASKED, 1200.0, "examples")
    assert kept is not None
    assert kept.study == PLANNED
    assert earlier(folder, ASKED, 600.0, "examples") is None
    assert earlier(folder, ASKED, 1200.0, "time") is None
    assert earlier(folder, PLANNED, 1200.0, "examples") is None


def test_what_was_asked_and_given_up_is_told(folder: Path) -> None:
    found = told(folder, [])
    assert found is not None
    assert (found["budget_seconds"], found["planned_seconds"], found["took_seconds"]) == (1200, 1100, None)
    assert found["given_up"] == ["trials 4 -> 2 (and a reserve one)", "seeds 3 -> 2"]
    assert found["fits"]


def test_company_and_pauses_are_not_counted_twice(folder: Path) -> None:
    records = [
        run("2026-01-01T00:00:00+00:00", "2026-01-01T00:01:00+00:00"),
        run("2026-01-01T00:00:30+00:00", "2026-01-01T00:00:40+00:00"),  # beside the first
        run("2026-01-01T00:00:50+00:00", "2026-01-01T00:01:30+00:00"),  # goes on beyond it
        run("2026-01-02T02:00:00+02:00", "2026-01-02T00:00:10"),  # another day, another zone
        run("2026-01-03T00:00:00+00:00", None),
    ]
    found = told(folder, records)
    assert found is not None
    assert found["took_seconds"] == 100


def test_a_moment_that_is_none_is_no_time(folder: Path) -> None:
    found = told(folder, [run("<b>", "2026-01-01T00:01:00+00:00")])
    assert found is not None
    assert found["took_seconds"] is None


def test_without_a_budget_nothing_is_told(tmp_path: Path) -> None:
    assert told(tmp_path, []) is None
    assert earlier(tmp_path, ASKED, 1.0, "examples") is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"7", b"[]", b"\xff\xfe", b'{"asked": "x", "given_up": "y"}', b"[" * 100_000]
)
def test_a_damaged_file_is_one_sentence(folder: Path, content: bytes) -> None:
    (folder / BUDGET_FILE).write_bytes(content)
    found = told(folder, [])
    assert found == {"problem": "budget.json is damaged, so what gave way for time is not known."}
    with pytest.raises(UserError, match="damaged; delete it to plan anew"):
        earlier(folder, ASKED, 1200.0, "examples")


def test_numbers_that_are_none_are_damage(folder: Path) -> None:
    kept = json.loads((folder / BUDGET_FILE).read_text())
    (folder / BUDGET_FILE).write_text(json.dumps({**kept, "seconds": float("nan")}))
    assert (told(folder, []) or {}).keys() == {"problem"}


@pytest.mark.parametrize("study", [ASKED.model_dump_json(), "{", None])
def test_a_plan_of_other_settings_is_foreign(folder: Path, study: str | None) -> None:
    (folder / "study.json").unlink()
    if study is not None:
        (folder / "study.json").write_text(study)
    found = told(folder, [])
    assert found is not None
    assert found.keys() == {"problem"}
    assert "another plan" in found["problem"]


def test_an_earlier_file_does_not_say_what_was_asked(folder: Path) -> None:
    kept = json.loads((folder / BUDGET_FILE).read_text())
    write_json(folder / BUDGET_FILE, {key: kept[key] for key in kept.keys() - {"budget_seconds", "equal"}})
    found = told(folder, [])
    assert found is not None
    assert found["budget_seconds"] is None
    assert found["planned_seconds"] == 1100
